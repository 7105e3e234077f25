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
    """Copies `tensors` into `module`, whose state must have the same names and shapes.

    Raises:
        DataError: names or shapes differ; the first few are listed. `path` is named as
            their origin, and the module is unchanged.
    """
    state = state_of(module)
    wrong = [
        f"{name} {tuple(tensors[name].shape)} instead of {tuple(state[name].shape)}"
        for name in state
        if name in tensors and tensors[name].shape != state[name].shape
    ]
    problems = [
        _few("missing", [name for name in state if name not in tensors]),
        _few("unexpected", [name for name in tensors if name not in state]),
        _few("of another shape", wrong),
    ]
    if any(problems):
        raise DataError(
            f"'{path}' holds the weights of another model: "
            f"{'; '.join(p for p in problems if p)}. Check the architecture and its options."
        )
    module.load_state_dict(dict(tensors))


def _few(kind: str, names: Sequence[str], limit: int = 3) -> str:
    if not names:
        return ""
    more = f" and {len(names) - limit} more" if len(names) > limit else ""
    return f"{kind}: {', '.join(names[:limit])}{more}"
