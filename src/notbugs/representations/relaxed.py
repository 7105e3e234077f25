"""Help for units without a gradient at the start, because a ReLU on the way to them is closed."""

from dataclasses import dataclass, replace
from typing import Any, final

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

from notbugs.core import rows
from notbugs.core.types import Images, Keys, RowTree
from notbugs.engine import (
    AbstractObjective,
    Draw,
    Evaluation,
    FromImages,
    Last,
    Solution,
    Solver,
)

RELUS: frozenset[Any] = frozenset(
    {F.relu, F.relu6, F.relu_, F.hardtanh, torch.relu, torch.relu_, Tensor.relu, Tensor.relu_}
)
"""The functions through which torch's modules and users compute a ReLU or ReLU6."""


@final
@dataclass(frozen=True)
class Relaxed(AbstractObjective):
    """An objective with its own values, but the gradients of a model with open ReLUs.

    Each ReLU passes its gradient on as the identity does. So a unit at 0 has one, and
    its search can start. Compiled models, and ReLUs written by hand (`clamp`, `maximum`), stay.

    **Source**: Olah et al. 2017 ("Feature Visualization", Distill) and its published code, which
    redirects the gradients of ReLUs in the first 16 steps.
    **Differs from the source**: all ReLUs are open, whatever the sign of the gradient.
    """

    objective: AbstractObjective

    def __post_init__(self) -> None:
        object.__setattr__(self, "is_random", self.objective.is_random)

    def __call__(self, x: Images, context: RowTree | None, draw: Draw) -> Evaluation:
        """The evaluation."""
        with _OpenReLUs():
            return self.objective(x, context, draw)


class _OpenReLUs(TorchFunctionMode):
    """Replaces the gradient of ReLUs by that of the identity while it is entered."""

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        if func not in RELUS or not args or not args[0].requires_grad:
            return func(*args, **kwargs)
        x = args[0]
        value = func(x.detach().clone(), *args[1:], **kwargs)
        return x + (value - x.detach())


def revived(
    solver: Solver,
    objective: AbstractObjective,
    first: Images,
    context: RowTree,
    keys: Keys,
    steps: int,
) -> tuple[Images, list[Solution]]:
    """The images where a search starts, and the solves that were made for it.

    Rows of `first` that have no gradient take `steps` steps of the solver with `Relaxed`
    gradients; the others stay as they are.
    """
    probe = replace(solver, max_steps=1, before=None, keep=Last())
    looked = probe.minimise(objective, first, context, keys=keys, start=FromImages(first))
    dead = (looked.zero_grads > 0).nonzero()[:, 0]
    if not len(dead):
        return first, [looked]
    start = FromImages(first[dead])
    moved = replace(probe, max_steps=steps).minimise(
        Relaxed(objective),
        first[dead],
        rows.select(dict(context), dead),
        keys=keys[dead],
        start=start,
    )
    return first.index_copy(0, dead, moved.x.to(first.dtype)), [looked, moved]
