"""The parameters and buffers of a module: reading, checking and loading them."""

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
    """Loads `tensors` into `module`, if they fit it.

    Raises:
        DataError: as `check_state` says; the module is unchanged.
    """
    check_state(state_of(module), tensors, path)
    module.load_state_dict(dict(tensors))


def check_state(state: Mapping[str, Tensor], tensors: Mapping[str, Tensor], path: Path) -> None:
    """Refuses tensors that cannot replace those in `state`.

    They need the same names, shapes and dtypes (floating point of another precision is cast),
    and finite values wherever those of `state` are finite.

    Raises:
        DataError: names `path`, their file, and the first few wrong ones.
    """
    shared = {name: (tensors[name], old) for name, old in state.items() if name in tensors}
    wrong = [
        f"{name} {tuple(new.shape)} instead of {tuple(old.shape)}"
        for name, (new, old) in shared.items()
        if new.shape != old.shape
    ]
    mistyped = [
        f"{name} {new.dtype} instead of {old.dtype}"
        for name, (new, old) in shared.items()
        if new.dtype != old.dtype and not (new.is_floating_point() and old.is_floating_point())
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
    non_finite = [name for name, (new, old) in shared.items() if not _finite_where(old, new)]
    if non_finite:
        raise DataError(
            f"'{path}' is damaged, or its training had diverged: "
            f"{_few('NaN or infinite', non_finite)}. Copy, download or make it again."
        )


def _finite_where(old: Tensor, new: Tensor) -> bool:
    """Whether entries are finite wherever the module's are; a mask may hold -inf."""
    finite = new.isfinite()
    return bool(finite.all()) or bool((finite | ~old.cpu().isfinite()).all())


def _few(kind: str, names: Sequence[str], limit: int = 3) -> str:
    if not names:
        return ""
    more = f" and {len(names) - limit} more" if len(names) > limit else ""
    return f"{kind}: {', '.join(names[:limit])}{more}"
