"""The logits in the output of a network."""

from collections.abc import Mapping, Sequence
from typing import Any, cast

from torch import Tensor

from notbugs.core.errors import bad_value, check_count
from notbugs.core.limits import CLASSES

TWO_LOGITS = """One logit is equivalent to two, of which the other is 0:
    class TwoLogits(torch.nn.Module):
        def forward(self, z): return torch.stack([torch.zeros_like(z), z], -1).reshape(-1, 2)
    model = wrap(torch.nn.Sequential(module, TwoLogits()), classes=2, embedding="0.NAME", ...)"""


def check_classes(classes: int) -> None:
    """Refuses a number of classes below 2 or above `CLASSES`."""
    check_count(classes, "classes", 2, f"One class leaves nothing to classify. {TWO_LOGITS}")
    if classes > CLASSES:
        raise bad_value("classes", f"be at most {CLASSES:,}", f"{classes:,}")


def logits_in(output: Any) -> Any:
    """The logits in the output of a network, which may be a container of several tensors.

    A tensor is returned unchanged; of a mapping or an object with the entry or attribute
    `logits` (a dataclass, a named tuple), that one; of another tuple or list, its first
    tensor. Any other output is returned unchanged, for `check_logits` to refuse.

    >>> import torch
    >>> logits_in({"loss": None, "logits": torch.ones(1, 2)}).tolist()
    [[1.0, 1.0]]
    """
    if isinstance(output, Tensor):
        return output
    if isinstance(output, Mapping) and "logits" in output:
        return cast("Mapping[str, Any]", output)["logits"]
    named = getattr(output, "logits", None)
    if isinstance(named, Tensor):
        return named
    if isinstance(output, Sequence):
        tensors = (part for part in cast("Sequence[Any]", output) if isinstance(part, Tensor))
        return next(tensors, output)
    return output


def remedy_for(logits: object, wanted: tuple[int, int]) -> str:
    """The remedy where a model's logits do not have the shape `wanted`, (rows, classes)."""
    rows, classes = wanted
    if classes == 2 and isinstance(logits, Tensor) and logits.numel() == rows:
        return TWO_LOGITS
    return (
        "Return a plain tensor, or one under the name `logits` or first in a tuple, the batch "
        "first, and check `classes`; `wrap` tests it."
    )
