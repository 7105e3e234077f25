"""A law of every factory of attacks: the norm, then the radius, then keyword-only settings."""

import inspect
from functools import partial
from typing import get_type_hints

import pytest
import torch
from torch import nn

from notbugs import attacks
from notbugs.attacks import AbstractAttack
from notbugs.engine import Linf

LEADING = {(), ("norm",), ("eps",), ("norm", "eps"), ("distance", "bound")}
"""What may be given without its name: a perceptual attack has a distance in place of a norm."""


def makes_an_attack(name) -> bool:
    made = getattr(attacks, name)
    kind = get_type_hints(made).get("return") if inspect.isfunction(made) else None
    return inspect.isclass(kind) and issubclass(kind, AbstractAttack)


FACTORIES = [name for name in attacks.__all__ if makes_an_attack(name)]
# Those that run at once: what they run on comes before the norm.
RUNS = {"latent": ("encoder", "x", "target"), "universal": ("model", "x")}
ALL_WITH_A_NORM = [
    name
    for name in (*FACTORIES, *RUNS)
    if "norm" in inspect.signature(getattr(attacks, name)).parameters
]


def split(name):
    """(the parameters that may be given by place, the keyword-only ones), each by name."""
    by_place, by_name = {}, {}
    for parameter in inspect.signature(getattr(attacks, name)).parameters.values():
        assert parameter.kind in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY)
        part = by_name if parameter.kind == parameter.KEYWORD_ONLY else by_place
        part[parameter.name] = parameter
    return by_place, by_name


def test_every_factory_is_known() -> None:
    assert {"pgd", "cw_l2", "fab", "square", "deepfool"} <= set(FACTORIES)
    assert {"pgd", "fab", "latent", "universal"} <= set(ALL_WITH_A_NORM)


@pytest.mark.parametrize("name", FACTORIES)
def test_norm_and_radius_lead_and_the_rest_has_names_and_defaults(name) -> None:
    by_place, by_name = split(name)
    assert tuple(by_place) in LEADING
    assert all(parameter.default is not parameter.empty for parameter in by_name.values())
    required = {k for k, parameter in by_place.items() if parameter.default is parameter.empty}
    assert required == set(by_place) - ({"eps"} if name == "fab" else set())


@pytest.mark.parametrize("name", RUNS)
def test_what_runs_at_once_takes_norm_and_radius_after_what_it_runs_on(name) -> None:
    by_place, by_name = split(name)
    assert tuple(by_place) == (*RUNS[name], "norm", "eps")
    assert all(parameter.default is not parameter.empty for parameter in by_name.values())


@pytest.mark.parametrize("wrong", [0.1, 8, "linf", Linf, None, torch.ones(2)], ids=repr)
@pytest.mark.parametrize("name", ALL_WITH_A_NORM)
def test_what_is_no_norm_is_refused_with_the_remedy(name, wrong) -> None:
    before = RUNS.get(name, ())
    subject = (nn.Identity(), torch.zeros(1, 1, 2, 2), torch.zeros(1, 1, 2, 2))[: len(before)]
    radius = ", eps" if "eps" in split(name)[0] else ""
    kind = type(wrong).__name__
    text = f"`norm` must be a norm such as Linf(), L2() or L1(); got {kind}."
    remedy = f"Write {name}({', '.join([*before, 'Linf()'])}{radius})."
    make = partial(getattr(attacks, name), *subject)
    for call in (lambda: make(wrong), lambda: make(norm=wrong), lambda: make(wrong, norm=Linf())):
        with pytest.raises(TypeError) as caught:
            call()
        said = str(caught.value)
        assert said.startswith(text)
        assert said.endswith(remedy)
        if isinstance(wrong, float | int | str):
            assert f"It is {wrong!r}." in said


@pytest.mark.parametrize("name", [*FACTORIES, *RUNS])
def test_every_argument_the_source_and_an_example_are_documented(name) -> None:
    made = getattr(attacks, name)
    text = inspect.getdoc(made) or ""
    assert [p for p in inspect.signature(made).parameters if f"`{p}`" not in text] == []
    assert "**Source**" in text
    assert ">>> " in text
