"""Recipes as JSON values, to save with weights and read back."""

from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from typing import Any

from notbugs.core.errors import DataError, unknown_name
from notbugs.core.schema import fit
from notbugs.core.strict_json import SchemaError
from notbugs.data import Augment
from notbugs.training.adversary import Adversary, FastGradient
from notbugs.training.awp import Awp
from notbugs.training.free import Free
from notbugs.training.hidden import HiddenLayer
from notbugs.training.logistic import WorstCaseLogistic
from notbugs.training.mart import Mart
from notbugs.training.nfgsm import NoisyStep
from notbugs.training.noise import Noise
from notbugs.training.objective import Mixed, Plain
from notbugs.training.penalty import L1Decay, L2Decay, Lipschitz
from notbugs.training.reactive import Rotation, ScaledGradient
from notbugs.training.recipe import Recipe
from notbugs.training.temperature import AtTemperature
from notbugs.training.trades import Trades

PARTS: Mapping[str, type] = {
    kind.__name__: kind
    for kind in (
        Adversary,
        AtTemperature,
        Augment,
        Awp,
        FastGradient,
        Free,
        HiddenLayer,
        L1Decay,
        L2Decay,
        Lipschitz,
        Mart,
        Mixed,
        Noise,
        NoisyStep,
        Plain,
        Recipe,
        Rotation,
        ScaledGradient,
        Trades,
        WorstCaseLogistic,
    )
}
"""The classes that a recipe may consist of, by name."""


def recipe_as_json(recipe: Recipe) -> dict[str, Any]:
    """A recipe as plain values; each part has its class's name as `part`.

    **Raises** ValueError for a part of a user's class, which could not be read back.
    """
    return _plain(recipe)


def recipe_from_json(values: Mapping[str, Any]) -> Recipe:
    """The recipe that `recipe_as_json` wrote.

    **Raises** DataError where it is no recipe, or of another version; the place is named.
    """
    try:
        return fit(Recipe, values, parts=PARTS)
    except SchemaError as error:
        raise DataError(
            f"This is no recipe of notbugs, or one of another version: {error}. Write it again."
        ) from error


def _plain(part: Any) -> Any:
    if is_dataclass(part) and not isinstance(part, type):
        kind = type(part).__name__
        if PARTS.get(kind) is not type(part):
            raise unknown_name("part of a recipe", kind, PARTS)
        return {"part": kind} | {f.name: _plain(getattr(part, f.name)) for f in fields(part)}
    if isinstance(part, tuple):
        return [_plain(one) for one in part]  # pyright: ignore[reportUnknownVariableType]
    return part
