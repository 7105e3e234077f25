"""Training at a temperature, on labels or a teacher's probabilities: defensive distillation."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import final

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from notbugs.core import processes
from notbugs.core.errors import bad_value, check_positive
from notbugs.data import ImageData
from notbugs.models import Classifier, frozen, prepared
from notbugs.training.adversary import AbstractAdversary, shown
from notbugs.training.batch import Batch, Pass, through
from notbugs.training.loop import Trained, train
from notbugs.training.objective import AbstractTrainingObjective
from notbugs.training.recipe import Recipe

CHUNK = 512


@final
@dataclass(frozen=True)
class AtTemperature(AbstractTrainingObjective):
    """Cross-entropy of softmax(logits / T) with the labels, or with a teacher's probabilities.

    The model is used at T = 1 afterwards: its logits are then T times as large as usual, and
    the gradients of cross-entropy vanish in float32. That is gradient masking, not robustness.

    - `temperature`: T

    **Source**: Papernot et al. 2015 (arXiv 1511.04508), section III: T of 20 for MNIST, up to
    100.
    """

    temperature: float = 100.0

    def __post_init__(self) -> None:
        check_positive(self.temperature, "temperature")

    def prepared(self, batch: Batch, adversary: AbstractAdversary | None) -> Pass:
        """Crafts the images where there is an adversary."""
        forward = shown(batch, adversary)
        targets = batch.y if batch.soft is None else batch.soft
        return through(lambda: F.cross_entropy(forward() / self.temperature, targets))


def with_temperature(model: Classifier, temperature: float) -> Classifier:
    """The model, in place, with its last layer's initial weights and bias times T.

    softmax(logits / T) is then what softmax(logits) was, and the rest of the net learns at the
    usual learning rate as it would at T = 1. From usual initial weights, gradients are T times too
    small and logits have to grow T-fold first: at T = 100 almost nothing is learnt in the usual
    time, and a higher learning rate is too high later on. This is ours, not the paper's.

    **Raises** ValueError for a temperature that is not above 0, and a model that does not end in
    a linear or convolutional layer.
    """
    check_positive(temperature, "temperature")
    layer = _last_layer(model)
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.mul_(temperature)
    return model


def _last_layer(model: Classifier) -> nn.Module:
    """The layer whose output is the logits."""
    calls: list[tuple[nn.Module, Tensor]] = []

    def store(layer: nn.Module, inputs: object, output: Tensor) -> None:
        calls.append((layer, output))

    layers = [m for m in model.modules() if isinstance(m, nn.Linear | nn.Conv2d)]
    handles = [layer.register_forward_hook(store) for layer in layers]
    grey = torch.full((1, *model.shape), 0.5, dtype=model.mean.dtype, device=model.device)
    try:
        with frozen(model), torch.no_grad():
            logits = model.logits(grey)
    finally:
        for handle in handles:
            handle.remove()
    if not calls or not torch.equal(calls[-1][1].flatten(1), logits):
        raise bad_value(
            "model",
            "end in a linear or convolutional layer, to be trained at a temperature",
            model.architecture or type(model.body).__name__,
            "Take another architecture.",
        )
    return calls[-1][0]


def distil(
    teacher: Classifier,
    student: Classifier,
    data: ImageData,
    recipe: Recipe,
    *,
    temperature: float = 100.0,
    seed: int,
    val: ImageData | None = None,
    checkpoint_path: Path | None = None,
    progress: Callable[[float], None] = lambda fraction: None,
) -> Trained:
    """Trains `student`, in place, on the probabilities of `teacher` at a temperature.

    For defensive distillation the teacher is trained with `AtTemperature(temperature)` as well,
    on the labels, and has the student's architecture; both begin `with_temperature`. The rest
    is as in `train`.

    **Source**: Papernot et al. 2015 (arXiv 1511.04508), section III.

    **Raises** ValueError for a temperature that is not above 0, and what `train` raises.
    """
    soft = soft_labels(teacher, data, temperature)
    return train(
        student,
        data,
        replace(recipe, objective=AtTemperature(temperature)),
        seed=seed,
        val=val,
        soft=soft,
        checkpoint_path=checkpoint_path,
        progress=progress,
    )


@prepared(model="teacher")
def soft_labels(teacher: Classifier, data: ImageData, temperature: float) -> Tensor:
    """The teacher's probabilities of every image at a temperature, [n, k], on the CPU."""
    check_positive(temperature, "temperature")

    def probabilities(index: Tensor) -> tuple[Tensor]:
        logits = teacher.logits(data.pixels(index).to(teacher.device))
        return ((logits / temperature).softmax(dim=1).cpu(),)

    with frozen(teacher), torch.no_grad():
        return processes.in_batches(len(data), CHUNK, probabilities)[0]
