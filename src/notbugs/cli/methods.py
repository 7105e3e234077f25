"""Maps the names that `notbugs attack --method` takes to attacks."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from notbugs import attacks
from notbugs.attacks import AbstractAttack
from notbugs.core.errors import bad_value, unknown_name
from notbugs.engine import Threat

ALL = ("steps", "step_size", "restarts")


@dataclass(frozen=True)
class _Method:
    """A method's factory, the options it takes, and the norms it supports."""

    make: Callable[..., AbstractAttack]
    takes: tuple[str, ...]
    norms: tuple[str, ...]


def _in_norm(factory: Callable[..., AbstractAttack]) -> Callable[..., AbstractAttack]:
    def make(threat: Threat, **options: Any) -> AbstractAttack:
        return factory(threat.norm, threat.eps, **options)

    return make


def _by_eps(factory: Callable[..., AbstractAttack]) -> Callable[..., AbstractAttack]:
    def make(threat: Threat, **options: Any) -> AbstractAttack:
        return factory(threat.eps, **options)

    return make


def _nearest(factory: Callable[..., AbstractAttack]) -> Callable[..., AbstractAttack]:
    def make(threat: Threat, **options: Any) -> AbstractAttack:
        return factory(threat.norm, **options)

    return make


def _alone(factory: Callable[..., AbstractAttack]) -> Callable[..., AbstractAttack]:
    def make(threat: Threat, **options: Any) -> AbstractAttack:
        return factory(**options)

    return make


ANY, TWO, EVERY = ("linf", "l2", "l1"), ("linf", "l2"), ("linf", "l2", "l1", "l0")
METHODS: Mapping[str, _Method] = {
    "fgsm": _Method(_in_norm(attacks.fgsm), (), ANY),
    "pgd": _Method(_in_norm(attacks.pgd), ALL, ANY),
    "bim": _Method(_by_eps(attacks.bim), ("steps", "step_size"), ("linf",)),
    "least-likely": _Method(_by_eps(attacks.least_likely), ("steps", "step_size"), ("linf",)),
    "mim": _Method(_in_norm(attacks.mim), ALL, ANY),
    "di": _Method(_in_norm(attacks.di_fgsm), ("steps", "step_size"), ANY),
    "ti": _Method(_in_norm(attacks.ti_fgsm), ("steps", "step_size"), ANY),
    "eot": _Method(_in_norm(attacks.eot), ("steps", "step_size"), ANY),
    "apgd": _Method(_in_norm(attacks.apgd), ("steps", "restarts"), ANY),
    "apgd-targeted": _Method(_in_norm(attacks.apgd_targeted), ("steps",), ANY),
    "fab": _Method(_in_norm(attacks.fab), ("steps",), ANY),
    "square": _Method(_in_norm(attacks.square), ("steps", "restarts"), ANY),
    "fab-nearest": _Method(_nearest(attacks.fab), ("steps",), ANY),
    "fmn": _Method(_nearest(attacks.fmn), ("steps", "step_size"), EVERY),
    "deepfool": _Method(_nearest(attacks.deepfool), ("steps",), TWO),
    "hop-skip-jump": _Method(_nearest(attacks.hop_skip_jump), ("steps",), TWO),
    "ddn": _Method(_alone(attacks.ddn), ("steps", "step_size"), ("l2",)),
    "alma": _Method(_alone(attacks.alma), ("steps",), ("l2",)),
    "cw": _Method(_alone(attacks.cw_l2), ("steps", "step_size"), ("l2",)),
    "cw-linf": _Method(_alone(attacks.cw_linf), ("steps", "step_size"), ("linf",)),
    "cw-l0": _Method(_alone(attacks.cw_l0), ("steps", "step_size"), ("l0",)),
    "ead": _Method(_alone(attacks.ead), ("steps", "step_size"), ("l1",)),
    "lbfgs": _Method(_alone(attacks.lbfgs), ("steps",), ("l2",)),
}


def attack_named(method: str, threat: Threat, **options: Any) -> AbstractAttack:
    """The attack of that name; options that are None keep its defaults.

    **Raises** ValueError for an unknown name (the nearest one is suggested), a norm that
    the method does not support, and an option that it does not take.
    """
    if method not in METHODS:
        raise unknown_name("method", method, METHODS)
    entry = METHODS[method]
    if threat.norm.name not in entry.norms:
        raise bad_value(
            "--threat", f"have a norm that {method} supports", threat, "It takes: "
            + ", ".join(entry.norms) + ".",
        )  # fmt: skip
    options_given = {name: value for name, value in options.items() if value is not None}
    for name in options_given:
        if name not in entry.takes:
            takes = ", ".join(f"--{n.replace('_', '-')}" for n in entry.takes) or "none"
            flag = f"--{name.replace('_', '-')}"
            raise bad_value(
                flag, f"be an option of {method}", options_given[name], f"It takes: {takes}."
            )
    return entry.make(threat, **options_given)
