"""Adversarial examples at a hidden layer."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from notbugs.core import rows
from notbugs.core.errors import check_positive
from notbugs.core.types import Logits
from notbugs.engine import L2
from notbugs.models import frozen
from notbugs.models.layers import find_layer
from notbugs.training.adversary import AbstractAdversary
from notbugs.training.batch import Batch, Forward


@dataclass(frozen=True)
class HiddenLayer(AbstractAdversary):
    """Adds a step along the gradient to the output of a layer, of relative size `size`.

        h' = h + size * ||h||_2 * g / ||g||_2,   g the gradient of cross-entropy at h

    - `layer`: dotted name of a layer of the model's body, e.g. "trunk.0"
    - `size`: relative to the L2 norm of the output, row by row
    - `threat`: of the robustness evaluations; it does not bound the step

    **Source**: Szegedy et al. 2013 (arXiv 1312.6199), section 4.3: examples at hidden layers
    are fed back, one layer at a time. The paper finds them by L-BFGS and keeps a pool of them,
    and gives no size; a single gradient step per batch is ours.
    """

    compiles: ClassVar[bool] = False

    layer: str = "trunk"
    size: float = 0.1

    def __post_init__(self) -> None:
        super().__post_init__()
        check_positive(self.size, "size")

    @property
    def is_one_step(self) -> bool:
        return True

    def perturbed(self, batch: Batch) -> Forward:
        """The logits with the layer's output perturbed."""
        layer = find_layer(batch.model.body, self.layer)
        outputs: list[Tensor] = []

        def store(module: nn.Module, inputs: object, out: Tensor) -> Tensor:
            outputs.append(out)
            return out.clone()  # a later layer may work in place

        handle = layer.register_forward_hook(store)
        try:
            with frozen(batch.model, training=True), torch.enable_grad():
                loss = batch.entropy(batch.logits(batch.x.detach().clone().requires_grad_()))
                (grad,) = torch.autograd.grad(loss, outputs[0])
        finally:
            handle.remove()
        h = outputs[0]
        length = self.size * batch.strength * L2().size(h.detach())
        move = rows.expand(length, grad) * L2().steepest(grad)

        def perturb(module: nn.Module, inputs: object, out: Tensor) -> Tensor:
            return out + move.to(out.dtype)

        def forward() -> Logits:
            handle = layer.register_forward_hook(perturb)
            try:
                return batch.logits(batch.x)
            finally:
                handle.remove()

        return forward
