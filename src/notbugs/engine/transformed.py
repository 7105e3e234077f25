"""An objective of randomly transformed images."""

from dataclasses import dataclass
from typing import final

import torch

from notbugs.core.types import Images, RowTree
from notbugs.engine.objective import AbstractObjective, Draw, Evaluation, mean
from notbugs.engine.transforms import Transform


@final
@dataclass(frozen=True)
class Transformed(AbstractObjective):
    """The mean of an objective over random transformations of the image.

    Each step draws `samples` new transformations; the solver compares points by fixed ones.
    With `judged_plain` only the gradients are of transformed images: without a gradient, that
    is when points are compared, the value is the objective of the image itself.
    """

    objective: AbstractObjective
    transform: Transform
    samples: int = 1
    is_random: bool = True
    judged_plain: bool = False

    def __call__(self, x: Images, context: RowTree | None, draw: Draw) -> Evaluation:
        """Value, success and outputs; the latter two are those of the first draw."""
        if self.judged_plain and not torch.is_grad_enabled():
            return self.objective(x, context, draw)
        keys = [draw.at("transform", i) for i in range(self.samples)]
        return mean([self.objective(self.transform(x, k), context, Draw(k)) for k in keys])
