"""FAB: a step rule that moves along the decision boundary, biased towards the centre."""

from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor

from notbugs.core import rows
from notbugs.core.errors import bad_value
from notbugs.core.types import Theta
from notbugs.engine.hyperplane import onto_hyperplane
from notbugs.engine.norms import AbstractNorm, check_norm
from notbugs.engine.rules import AbstractStepRule, StepInfo, required


@final
@dataclass(frozen=True)
class FAB(AbstractStepRule[None]):
    """A step to the linearised boundary, partly from the point and partly from the centre.

    The value must be below 0 exactly if a row is adversarial. With p and q the projections of
    the iterate x and of the centre c onto the linearised boundary, in the box:

        x <- (1 - a) (x + overshoot (p - x)) + a (c + overshoot (q - c)),
        a = min(|p - x| / (|p - x| + |q - c|), most_bias).

    An adversarial iterate first moves towards the centre: c + backward (x - c).

    **Source**: Croce & Hein 2019 (arXiv 1907.02044), Algorithm 1 and section 2.3.
    **Differs from the paper**: the point after the backward step is not evaluated again; its
    step uses the linearisation at the adversarial point, which is near the boundary. So a
    step costs one forward and one backward pass instead of two forwards and a backward.
    """

    norm: AbstractNorm
    most_bias: float = 0.1
    overshoot: float = 1.05
    backward: float = 0.9

    def __post_init__(self) -> None:
        check_norm(self.norm)
        for name in ("most_bias", "backward"):
            if not 0 <= getattr(self, name) <= 1:
                raise bad_value(name, "lie in [0, 1]", getattr(self, name))
        if not 1 <= self.overshoot < float("inf"):
            raise bad_value("overshoot", "be a finite number of at least 1", self.overshoot)

    def init(self, theta: Theta, info: StepInfo) -> None:
        return None

    def step(self, theta: Theta, info: StepInfo, state: None) -> tuple[Tensor, None]:
        grad, center = required(info.grad), info.center.to(theta.dtype)
        # Scaled to entries of at most 1, so that no product under- or overflows.
        largest = rows.flatten(grad).abs().amax(dim=1).clamp(min=torch.finfo(grad.dtype).tiny)
        grad, value = grad / rows.expand(largest, grad), info.value / largest
        iterate = rows.where(info.value < 0, torch.lerp(center, theta, self.backward), theta)
        points = torch.cat([iterate, center])
        offset = points - theta.repeat(2, *([1] * (theta.ndim - 1)))
        normal = grad.repeat(2, *([1] * (theta.ndim - 1)))
        target = -value.repeat(2) - rows.total(normal * offset)
        move = onto_hyperplane(points, normal, target, self.norm)
        point_distance, center_distance = self.norm.size(move).chunk(2)
        share = point_distance / (point_distance + center_distance).clamp(min=1e-12)
        bias = rows.expand(share.clamp(max=self.most_bias), theta)
        from_point, from_center = (points + self.overshoot * move).chunk(2)
        return torch.lerp(from_point, from_center, bias), None
