"""Attacks by name: `nb.attack(model, x, y, "pgd-20", "linf:8/255")`."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from torch import Tensor

from notbugs import attacks
from notbugs.attacks.attack import AbstractAttack
from notbugs.attacks.result import AttackResult
from notbugs.core.errors import bad_type, bad_value, unknown_name
from notbugs.engine import SIZES, AbstractSize, Threat
from notbugs.models import Classifier, prepared

ALL = ("steps", "step_size", "restarts")
STEPS = ("steps", "step_size")
CONFIDENT = (*STEPS, "confidence")


@dataclass(frozen=True)
class Method:
    """A method: its factory, the options of `notbugs attack` it takes, and its norms.

    - `bounded`: it stays within a radius; otherwise it looks for the nearest success
    """

    make: Callable[..., AbstractAttack]
    takes: tuple[str, ...]
    norms: tuple[str, ...]
    bounded: bool


def _within(
    factory: Callable[..., AbstractAttack], takes: tuple[str, ...], norms: tuple[str, ...]
) -> Method:
    """A method of (norm, eps), or of eps where it has one norm alone."""
    alone = len(norms) == 1

    def make(size: AbstractSize, eps: float, **options: Any) -> AbstractAttack:
        return factory(eps, **options) if alone else factory(size, eps, **options)

    return Method(make, takes, norms, bounded=True)


def _nearest(
    factory: Callable[..., AbstractAttack], takes: tuple[str, ...], norms: tuple[str, ...]
) -> Method:
    """A method of a norm, or of nothing where it has one norm alone."""
    alone = len(norms) == 1

    def make(size: AbstractSize, eps: float | None, **options: Any) -> AbstractAttack:
        return factory(**options) if alone else factory(size, **options)

    return Method(make, takes, norms, bounded=False)


ANY, TWO, EVERY = ("linf", "l2", "l1"), ("linf", "l2"), ("linf", "l2", "l1", "l0")
METHODS: Mapping[str, Method] = {
    "fgsm": _within(attacks.fgsm, (), ANY),
    "pgd": _within(attacks.pgd, ALL, ANY),
    "bim": _within(attacks.bim, STEPS, ("linf",)),
    "least-likely": _within(attacks.least_likely, STEPS, ("linf",)),
    "mim": _within(attacks.mim, ALL, ANY),
    "di": _within(attacks.di_fgsm, STEPS, ANY),
    "ti": _within(attacks.ti_fgsm, STEPS, ANY),
    "eot": _within(attacks.eot, STEPS, ANY),
    "apgd": _within(attacks.apgd, ("steps", "restarts"), ANY),
    "apgd-targeted": _within(attacks.apgd_targeted, ("steps",), ANY),
    "fab": _within(attacks.fab, ("steps",), ANY),
    "square": _within(attacks.square, ("steps", "restarts"), ANY),
    "fab-nearest": _nearest(attacks.fab, ("steps",), ANY),
    "fmn": _nearest(attacks.fmn, STEPS, EVERY),
    "deepfool": _nearest(attacks.deepfool, ("steps",), TWO),
    "hop-skip-jump": _nearest(attacks.hop_skip_jump, ("steps",), TWO),
    "ddn": _nearest(attacks.ddn, STEPS, ("l2",)),
    "alma": _nearest(attacks.alma, ("steps",), ("l2",)),
    "cw": _nearest(attacks.cw_l2, CONFIDENT, ("l2",)),
    "cw-linf": _nearest(attacks.cw_linf, CONFIDENT, ("linf",)),
    "cw-l0": _nearest(attacks.cw_l0, CONFIDENT, ("l0",)),
    "ead": _nearest(attacks.ead, CONFIDENT, ("l1",)),
    "lbfgs": _nearest(attacks.lbfgs, ("steps",), ("l2",)),
    "jsma": _nearest(attacks.jsma, (), ("l0",)),
}
ALIASES: Mapping[str, str] = {
    "fgm": "fgsm",
    "i-fgsm": "bim",
    "ifgsm": "bim",
    "mi-fgsm": "mim",
    "mifgsm": "mim",
    "di-fgsm": "di",
    "difgsm": "di",
    "ti-fgsm": "ti",
    "tifgsm": "ti",
    "auto-pgd": "apgd",
    "apgd-ce": "apgd",
    "apgdt": "apgd-targeted",
    "apgd-t": "apgd-targeted",
    "fab-t": "fab",
    "hsj": "hop-skip-jump",
    "hopskipjump": "hop-skip-jump",
    "cw-l2": "cw",
    "cwl2": "cw",
    "carlini-wagner": "cw",
    "elastic-net": "ead",
    "l-bfgs": "lbfgs",
}
"""What others call the methods."""
_NUMBERED = re.compile(r"(?P<name>.*[a-z0-2])-(?P<steps>[1-9]\d{0,6})")


def attack_named(
    method: str, threat: Threat | AbstractSize | str | None = None, **options: Any
) -> AbstractAttack:
    """The attack of that name.

    - `method`: within the threat: fgsm, pgd, bim, least-likely, mim, di, ti, eot, apgd,
      apgd-targeted, fab, square; for the nearest success: fab-nearest, fmn, deepfool,
      hop-skip-jump, ddn, alma, cw, cw-linf, cw-l0, ead, lbfgs, jsma. Case and _ do not matter,
      names of other libraries are known (`ALIASES`), and a number gives the steps: "pgd-20"
    - `threat`: a `Threat` or its text, "linf:8/255"; for the nearest success also a norm alone,
      "l2", or nothing where the method has one norm only
    - `options`: as the factory in `notbugs.attacks` takes them; those that are None keep its
      defaults

    **Raises** ValueError for an unknown name (the nearest one is suggested), a norm that the
    method does not support, a missing threat, and a number of steps given twice or not taken;
    TypeError for an option that the factory does not take.

    >>> attack_named("PGD-20", "linf:8/255").name
    'PGD-20'
    """
    name, given = with_steps(method, options)
    entry = METHODS[name]
    size, eps = _radius(_parsed(threat), name, entry)
    return entry.make(size, eps, **given)


@prepared("x")
def attack(
    model: Classifier,
    x: Tensor,
    y: Tensor | None = None,
    method: str = "pgd",
    threat: Threat | AbstractSize | str | None = None,
    *,
    targets: Tensor | None = None,
    seed: int = 0,
    **options: Any,
) -> AttackResult:
    """Attacks every image by a method that is named; see `attack_named` and `Attack.__call__`.

    - `model`: a `Classifier`, or any module from images [n, c, h, w] in [0, 1] to logits
    - `x` [n, c, h, w] in [0, 1]; `y` [n]: true classes; `targets` [n]: classes to reach
    - `threat`: where a method for the nearest success is given a radius, a success beyond it does
      not count

    >>> from notbugs import build
    >>> import torch
    >>> net = build("linear", shape=(1, 4, 4), classes=3, seed=0)
    >>> x = torch.linspace(0.2, 0.8, 80).reshape(5, 1, 4, 4)
    >>> attack(net, x, net(x).argmax(dim=1), "pgd-5", "linf:0.5").attack_success_rate
    100.0
    """
    bound = _parsed(threat)
    made = attack_named(method, bound, **options)
    result = made(model, x, y, targets=targets, seed=seed)
    if made.threat is not None or not isinstance(bound, Threat):
        return result
    return replace(result, success=result.success & (result.distance <= bound.eps))


def _parsed(threat: Threat | AbstractSize | str | None) -> Threat | AbstractSize | None:
    """What a text says: a norm, or a norm and a radius."""
    if not isinstance(threat, str):
        return threat
    alone = threat.strip().lower()
    return SIZES[alone] if alone in SIZES else Threat.parse(threat)


def with_steps(method: str, options: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
    """(name in `METHODS`, options that are not None, and the steps that the name gives).

    **Raises** ValueError for an unknown name, and steps that are given twice or not taken.
    """
    name, steps = _resolved(method)
    given = {option: value for option, value in options.items() if value is not None}
    for twice in {"eps", "norm"} & set(given):
        raise bad_value(twice, "be left out: the threat gives it", given[twice])
    if steps is not None:
        if "steps" in given or "steps" not in METHODS[name].takes:
            raise bad_value(
                "steps" if "steps" in given else "method",
                f"be given once, and to a method that takes steps, of {name}",
                given.get("steps", f"'{method}'"),
            )
        given["steps"] = steps
    return name, given


def method_named(name: str) -> Method:
    """The entry of `METHODS` that a name stands for, a number of steps in it left aside."""
    return METHODS[_resolved(name)[0]]


def numbered(method: str) -> tuple[str, int | None]:
    """(a name as in `METHODS`, known or not, steps that it ends with), of "PGD-20" and the like."""
    if not isinstance(method, str):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise bad_type("method", "a name such as 'pgd-20'", method)
    name = method.strip().lower().replace("_", "-").replace("&", "")
    name, steps = ALIASES.get(name, name), None
    if name not in METHODS and (match := _NUMBERED.fullmatch(name)) is not None:
        name, steps = ALIASES.get(match["name"], match["name"]), int(match["steps"])
    return name, steps


def _resolved(method: str) -> tuple[str, int | None]:
    """(name in `METHODS`, steps that the name gives)."""
    name, steps = numbered(method)
    if name in ("standard", "autoattack", "aa"):
        raise bad_value(
            "method",
            "be one attack",
            f"'{method}', which is an ensemble",
            "Judge by it: evaluate(model, (x, y), threat), or `notbugs evaluate`.",
        )
    if name not in METHODS:
        raise unknown_name("method", method, METHODS)
    return name, steps


def _radius(
    threat: Threat | AbstractSize | None, name: str, entry: Method
) -> tuple[AbstractSize, float | None]:
    """The norm and the radius that a method is made with."""
    if threat is None and not entry.bounded and len(entry.norms) == 1:
        threat = SIZES[entry.norms[0]]
    kinds = Threat if entry.bounded else (Threat, AbstractSize)
    if not isinstance(threat, kinds):
        what = "a norm and a radius" if entry.bounded else "a norm"
        radius = "" if not entry.bounded else ":8/255" if entry.norms[0] == "linf" else ":0.5"
        remedy = " or ".join(f"'{norm}{radius}'" for norm in entry.norms[: 1 if radius else None])
        raise bad_value("threat", f"give {name} {what}", threat, f"Pass {remedy}.")
    size, eps = (threat.norm, threat.eps) if isinstance(threat, Threat) else (threat, None)
    if size.name not in entry.norms:
        takes = f"It takes: {', '.join(entry.norms)}."
        raise bad_value("threat", f"have a norm that {name} supports", threat, takes)
    return size, eps
