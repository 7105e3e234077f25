"""Puts the weights of another library's checkpoint into a model."""

from collections.abc import Iterator, Mapping, Set
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

from torch import Tensor, nn

from notbugs.core.errors import DataError
from notbugs.data.checkpoint import read_checkpoint
from notbugs.models.state import check_state, state_of

Places: TypeAlias = dict[str, str]
"""The model's names, each with the name of its tensor in the file."""
COUNTS = "num_batches_tracked"
"""A counter of batch norms, which older files lack and prediction does not use."""
UNUSED = {"sub_block1"}
"""Layers of public code that its `forward` leaves out: in the wide nets of TRADES."""
MEANS, STDS = ("new_mean", "mean", "mu", "_mean"), ("new_std", "std", "sigma", "_std")
"""What libraries call the numbers by which images are normalised."""


@dataclass(frozen=True)
class Loaded:
    """What was found in a checkpoint.

    - `by_order`: the tensors have other names than the model's, and were matched by order, kind
      and shape; otherwise by name
    - `mean`, `std`: of the normalisation that it holds, one number a channel; None without one
    """

    by_order: bool
    mean: tuple[float, ...] | None
    std: tuple[float, ...] | None


def load_checkpoint(module: nn.Module, path: Path | str) -> Loaded:
    """Loads the weights of a file of `torch.save` into `module`; nothing in the file is run.

    The file may be of any library: its mappings of names to tensors are searched for one that has
    the module's names, behind any prefix ("module.model."), or, if there is none, the same shapes
    and kinds (weight, bias, running_mean, ...) in the same order. Whether a match by order computes
    the same, only its accuracy shows.

    **Raises** DataError where the file is missing or corrupt, or nothing in it fits; the module is
    then unchanged.
    """
    path = Path(path)
    state, candidates = state_of(module), read_checkpoint(path)
    for by_order, places in ((False, _by_name), (True, _by_order)):
        for tensors in candidates:
            found = places(tensors, state)
            if found is not None:
                counts = {name: old for name, old in state.items() if name.endswith(COUNTS)}
                weights = counts | {name: tensors[place] for name, place in found.items()}
                check_state(state, weights, path)
                module.load_state_dict(weights)
                mean, std = _normalisation(tensors, used=set(found.values()))
                return Loaded(by_order, mean, std)
    raise DataError(f"'{path}' does not fit the model: {_nearest(candidates, state)}")


def _by_name(tensors: Mapping[str, Tensor], state: Mapping[str, Tensor]) -> Places | None:
    """The names of `state` behind a prefix."""
    needed = [name for name in state if not name.endswith(COUNTS)]
    for prefix in _prefixes(tensors) if needed else ():
        if all(_alike(tensors.get(prefix + name), state[name]) for name in needed):
            return {name: prefix + name for name in state if prefix + name in tensors}
    return None


def _by_order(tensors: Mapping[str, Tensor], state: Mapping[str, Tensor]) -> Places | None:
    """Names behind a prefix, one after another; not those of a normalisation."""
    needed = [name for name in state if not name.endswith(COUNTS)]
    apart = {name for pair in _pairs(tensors) for name in pair}
    apart |= {name for name in tensors if UNUSED & set(name.split("."))}
    for prefix in _prefixes(tensors) if needed else ():
        given = [n for n in tensors if n.startswith(prefix) and n not in apart]
        given = [name for name in given if not name.endswith(COUNTS)]
        if len(given) == len(needed) and all(
            _alike(tensors[one], state[other]) and _leaf(one) == _leaf(other)
            for one, other in zip(given, needed, strict=True)
        ):
            return dict(zip(needed, given, strict=True))
    return None


def _alike(new: Tensor | None, old: Tensor) -> bool:
    return new is not None and new.shape == old.shape


def _leaf(name: str) -> str:
    return name.rpartition(".")[2]


def _prefixes(tensors: Mapping[str, Tensor]) -> Iterator[str]:
    """Every beginning of a name up to a dot, short ones first."""
    seen = {""}
    for name in tensors:
        parts = name.split(".")
        seen |= {".".join(parts[:i]) + "." for i in range(1, len(parts))}
    yield from sorted(seen, key=lambda prefix: prefix.count("."))


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


def _nearest(candidates: list[dict[str, Tensor]], state: Mapping[str, Tensor]) -> str:
    """What the largest mapping holds, and where it first differs in order."""
    needed = [name for name in state if not name.endswith(COUNTS)]
    tensors = max(candidates, key=len)
    given = [name for name in tensors if not name.endswith(COUNTS)]
    for one, other in zip(given, needed, strict=False):
        if not _alike(tensors[one], state[other]):
            shapes = f"{tuple(tensors[one].shape)} instead of {tuple(state[other].shape)}"
            return f"{one} {shapes} of {other}. Check the architecture and its options."
    return (
        f"it holds {len(given)} tensors, the model {len(needed)}. Check the architecture and its "
        "options."
    )
