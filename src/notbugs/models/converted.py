"""Puts the weights of another library's checkpoint into a model."""

from collections.abc import Iterator, Mapping, Set
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TypeAlias

import torch
from torch import Tensor, nn

from notbugs.core.errors import DataError
from notbugs.data.checkpoint import is_checkpoint, read_checkpoint
from notbugs.data.safefile import read_tensors
from notbugs.models.layers import Body
from notbugs.models.state import check_state, state_of

COUNTS = "num_batches_tracked"
"""A counter of batch norms, which older files lack and prediction does not use."""
UNUSED = {"sub_block1"}
"""Layers of public code that its `forward` leaves out: in the wide nets of TRADES."""
LONG = 100
"""Letters of a name that are shown."""
MEANS, STDS = ("new_mean", "mean", "mu", "_mean"), ("new_std", "std", "sigma", "_std")
"""What libraries call the numbers by which images are normalised."""


@dataclass(frozen=True)
class Loaded:
    """What was found in a checkpoint.

    - `place`: where in the file, up to the model's own names: "model.module.model."
    - `by_order`: the tensors have other names than the model's, and were matched by order, kind
      and shape; otherwise by name
    - `mean`, `std`: of the normalisation that it holds, one number a channel; None without one
    """

    place: str
    by_order: bool
    mean: tuple[float, ...] | None
    std: tuple[float, ...] | None


def load_checkpoint(
    module: nn.Module, path: Path | str, *, part: str = "", by_order: bool = True
) -> Loaded:
    """Loads the weights of a file of `torch.save` into `module`; nothing in the file is run.

    The file, or a plain safetensors file, may be of any library: its mappings of names to tensors
    are searched for one that has exactly the module's names, behind any prefix ("module.model."),
    or, if there is none, the same shapes and kinds (weight, bias, running_mean, ...) in the same
    order. Whether a match by order computes the same, only its accuracy shows.

    - `part`: where in the file to look, where several places fit: "state_dict_ema"
    - `by_order`: False refuses other names than the module's

    **Raises** DataError where the file is missing or corrupt, nothing in it fits, or several
    places with other tensors do; the module is then unchanged.
    """
    path = Path(path)
    state = state_of(module)
    published = module.published if isinstance(module, Body) else {}
    mappings = read_checkpoint(path) if is_checkpoint(path) else {"": read_tensors(path)[0]}
    by_name = [_by_name, *([partial(_by_name, published=published)] if published else [])]
    ways = [(False, way) for way in by_name] + ([(True, _by_order)] if by_order else [])
    for ordered, fit in ways:
        fits = [f for place, tensors in mappings.items() for f in fit(place, tensors, state, part)]
        if not fits:
            continue
        first, *others = fits
        for other in others:
            if not all(torch.equal(first.tensors[n], other.tensors[n]) for n in first.needed):
                raise DataError(
                    f"'{path}' fits in several places, which differ: '{first.place}', "
                    f"'{other.place}'. Name one: part='{first.place}' (notbugs convert --part)."
                )
        check_state(state, first.tensors, path)
        module.load_state_dict(first.tensors)
        return Loaded(first.place, ordered, *first.normalisation)
    raise DataError(f"'{path}' does not fit the model: {_nearest(mappings, state, by_order)}")


@dataclass(frozen=True)
class _Fit:
    """Tensors for a model, by the model's names, and where they were found."""

    place: str
    tensors: dict[str, Tensor]
    needed: list[str]
    normalisation: tuple[tuple[float, ...] | None, tuple[float, ...] | None]


Fits: TypeAlias = Iterator[_Fit]


def _by_name(
    place: str,
    tensors: Mapping[str, Tensor],
    state: Mapping[str, Tensor],
    part: str,
    published: Mapping[str, str] = {},
) -> Fits:
    """The names of `state` behind a prefix, and no others behind it; or the published names."""
    theirs = {_renamed(name, published): name for name in state}
    for prefix, given in _groups(place, tensors, state, part):
        short = {name.removeprefix(prefix): name for name in given}
        names = {theirs[name]: given for name, given in short.items() if name in theirs}
        if all(_alike(tensors.get(names.get(name, "")), state[name]) for name in _needed(state)):
            yield _fit(place, prefix, tensors, state, names)


def _renamed(name: str, published: Mapping[str, str]) -> str:
    """The published name of a tensor of the model."""
    for ours, theirs in published.items():
        if name.startswith(ours):
            return theirs + name.removeprefix(ours)
    return name


def _by_order(
    place: str, tensors: Mapping[str, Tensor], state: Mapping[str, Tensor], part: str
) -> Fits:
    """Names behind a prefix, one after another."""
    needed = _needed(state)
    for prefix, given in _groups(place, tensors, state, part):
        if all(
            _alike(tensors[one], state[other]) and _leaf(one) == _leaf(other)
            for one, other in zip(given, needed, strict=True)
        ):
            yield _fit(place, prefix, tensors, state, dict(zip(needed, given, strict=True)))


def _groups(
    place: str, tensors: Mapping[str, Tensor], state: Mapping[str, Tensor], part: str
) -> Iterator[tuple[str, list[str]]]:
    """(prefix, names behind it) of as many as the model has; with and without a normalisation."""
    needed = _needed(state)
    apart = {name for pair in _pairs(tensors) for name in pair}
    for prefix in _prefixes(tensors):
        if not _joined(place, prefix).startswith(part):
            continue
        behind = [n for n in tensors if n.startswith(prefix) and not n.endswith(COUNTS)]
        behind = [name for name in behind if not UNUSED & set(name.split("."))]
        for given in (behind, [name for name in behind if name not in apart]):
            if len(given) == len(needed) > 0:
                yield prefix, given
                break


def _fit(
    place: str,
    prefix: str,
    tensors: Mapping[str, Tensor],
    state: Mapping[str, Tensor],
    names: Mapping[str, str],
) -> _Fit:
    """The tensors by the model's names; counters that older files lack are the model's own."""
    counted = [name for name in state if name.endswith(COUNTS)]
    counts = {name: tensors.get(prefix + name, state[name]) for name in counted}
    weights = {name: tensors[names[name]] for name in _needed(state)}
    normalisation = _normalisation(tensors, used=set(names.values()))
    return _Fit(_joined(place, prefix), counts | weights, _needed(state), normalisation)


def _needed(state: Mapping[str, Tensor]) -> list[str]:
    return [name for name in state if not name.endswith(COUNTS)]


def _joined(place: str, prefix: str) -> str:
    return f"{place}.{prefix}" if place else prefix


def _alike(new: Tensor | None, old: Tensor) -> bool:
    return new is not None and new.shape == old.shape


def _leaf(name: str) -> str:
    return name.rpartition(".")[2]


def _prefixes(tensors: Mapping[str, Tensor]) -> list[str]:
    """Every beginning of a name up to a dot, short ones first, then in the file's order."""
    seen = {"": None}
    for name in tensors:
        parts = name.split(".")
        seen |= {".".join(parts[:i]) + ".": None for i in range(1, len(parts))}
    return sorted(seen, key=lambda prefix: prefix.count("."))


def _pairs(tensors: Mapping[str, Tensor]) -> Iterator[tuple[str, str]]:
    """(mean, std) by name: beside each other, of one or three channels."""
    for name, mean in tensors.items():
        prefix, dot, leaf = name.rpartition(".")
        if leaf in MEANS:
            other = f"{prefix}{dot}{STDS[MEANS.index(leaf)]}"
            std = tensors.get(other)
            if std is not None and std.numel() == mean.numel() <= 3 and bool((std > 0).all()):
                yield name, other


def _normalisation(
    tensors: Mapping[str, Tensor], used: Set[str]
) -> tuple[tuple[float, ...] | None, tuple[float, ...] | None]:
    """The first (mean, std) that is no part of the model itself."""
    for names in _pairs(tensors):
        if not used & set(names):
            mean, std = (tuple(float(v) for v in tensors[name].flatten()) for name in names)
            return mean, std
    return None, None


def _nearest(
    mappings: Mapping[str, Mapping[str, Tensor]], state: Mapping[str, Tensor], by_order: bool
) -> str:
    """Where the largest mapping first differs, in order."""
    needed, remedy = _needed(state), "Check the architecture and its options."
    tensors = max(mappings.values(), key=len)
    given = [name for name in tensors if not name.endswith(COUNTS)]
    for one, other in zip(given, needed, strict=False):
        if not _alike(tensors[one], state[other]):
            shapes = f"{tuple(tensors[one].shape)} instead of {tuple(state[other].shape)}"
            return f"{one[:LONG]} {shapes} of {other}. {remedy}"
    missing = [name for name in needed if not any(g.endswith(name) for g in given)]
    if 0 < len(missing) <= 3 < len(needed):
        return f"it lacks {', '.join(missing)}. {remedy}"
    if len(given) != len(needed):
        return f"it holds {len(given)} tensors, the model {len(needed)}. {remedy}"
    if not by_order:
        remedy = "notbugs convert matches by order, and measures the accuracy."
    return f"its names are others, from {given[0][:LONG]} on, not {needed[0]}. {remedy}"
