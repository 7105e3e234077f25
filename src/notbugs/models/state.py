"""The tensors of a module by name, and others put in their place."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from notbugs.core.errors import DataError, bad_type


def state_of(module: nn.Module) -> dict[str, Tensor]:
    """All parameters and persistent buffers of `module` by name.

    Raises:
        TypeError: the module keeps extra state that is not a tensor.
    """
    state: dict[str, Any] = module.state_dict()
    for name, value in state.items():
        if not isinstance(value, Tensor):
            raise bad_type(
                f"state '{name}'", "a tensor, to be kept in safetensors", value, "Make it a buffer."
            )
    return state


def put_state(module: nn.Module, tensors: Mapping[str, Tensor], path: Path) -> None:
    """Copies `tensors` into `module`, as far as they are a state that it can have.

    Raises:
        DataError: as `check_state` says; the module is unchanged.
    """
    check_state(state_of(module), tensors, path)
    module.load_state_dict(dict(tensors))


def check_state(state: Mapping[str, Tensor], tensors: Mapping[str, Tensor], path: Path) -> None:
    """Refuses tensors that cannot take the place of those in `state`.

    They need the same names, shapes and dtypes (floating point of another precision is cast),
    and finite values wherever `state` has such.

    Raises:
        DataError: `path`, where they come from, and the first few that are wrong are named.
    """
    shared = {name: (tensors[name], own) for name, own in state.items() if name in tensors}
    wrong = [
        f"{name} {tuple(new.shape)} instead of {tuple(own.shape)}"
        for name, (new, own) in shared.items()
        if new.shape != own.shape
    ]
    mistyped = [
        f"{name} {new.dtype} instead of {own.dtype}"
        for name, (new, own) in shared.items()
        if new.dtype != own.dtype and not (new.is_floating_point() and own.is_floating_point())
    ]
    problems = [
        _few("missing", [name for name in state if name not in tensors]),
        _few("unexpected", [name for name in tensors if name not in state]),
        _few("of another shape", wrong),
        _few("of another dtype", mistyped),
    ]
    if any(problems):
        raise DataError(
            f"'{path}' holds the weights of another model: "
            f"{'; '.join(p for p in problems if p)}. Check the architecture and its options."
        )
    broken = [name for name, (new, own) in shared.items() if not _finite_where(own, new)]
    if broken:
        raise DataError(
            f"'{path}' is damaged, or its training had diverged: "
            f"{_few('NaN or infinite', broken)}. Copy, download or make it again."
        )


def _finite_where(own: Tensor, new: Tensor) -> bool:
    """Whether entries are finite where the module's own are; a mask may hold -inf."""
    finite = new.isfinite()
    return bool(finite.all()) or bool((finite | ~own.cpu().isfinite()).all())


def _few(kind: str, names: Sequence[str], limit: int = 3) -> str:
    if not names:
        return ""
    more = f" and {len(names) - limit} more" if len(names) > limit else ""
    return f"{kind}: {', '.join(names[:limit])}{more}"
