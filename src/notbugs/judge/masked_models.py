"""Models that mask their gradients, each in one way, which the diagnosis must find."""

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from notbugs.attacks.transforms import Resized
from notbugs.core.errors import check_count, check_positive
from notbugs.models import Classifier


class _Behind(nn.Module):
    """A classifier after a transformation of its input, with logits multiplied by `scale`."""

    def __init__(
        self, model: Classifier, front: Callable[[Tensor], Tensor] | None, scale: float
    ) -> None:
        super().__init__()
        self.model, self.front, self.scale = model, front, scale

    def forward(self, x: Tensor) -> Tensor:
        return self.scale * self.model(x if self.front is None else self.front(x))


def _behind(
    model: Classifier, front: Callable[[Tensor], Tensor] | None, scale: float = 1.0
) -> Classifier:
    return Classifier(
        _Behind(model, front, scale),
        shape=model.shape,
        classes=model.classes,
        embedding=model.embedding and f"model.body.{model.embedding}",
    ).to(model.mean)


def saturated_model(model: Classifier, scale: float = 1000.0) -> Classifier:
    """The same predictions from logits multiplied by `scale`: the cross-entropy is flat.

    As a net trained at temperature `scale` and tested at 1. **Source**: Papernot et al. 2015
    (arXiv 1511.04508), broken by Carlini & Wagner 2016 (arXiv 1608.04644).
    """
    check_positive(scale, "scale")
    return _behind(model, None, scale)


def quantised_model(model: Classifier, levels: int = 8) -> Classifier:
    """The model on pixels rounded to `levels` values: no gradient passes the rounding.

    **Source**: Xu et al. 2017 (arXiv 1704.01155), bit depth reduction.
    """
    check_count(levels, "levels", 2, "One level erases the image.")

    def front(x: Tensor) -> Tensor:
        return (x * (levels - 1)).round() / (levels - 1)

    return _behind(model, front)


def noisy_model(model: Classifier, deviation: float = 0.1) -> Classifier:
    """The model on images with Gaussian noise, new in every pass.

    `deviation`: pixel units of [0, 1]. The noise is drawn from torch's global generator, as in
    published defences of this kind.
    """
    check_positive(deviation, "deviation")

    def front(x: Tensor) -> Tensor:
        return x + deviation * torch.randn_like(x)

    return _behind(model, front)


def resizing_model(model: Classifier, smallest: float = 0.8) -> Classifier:
    """The model on images shrunk to a random size and padded, new in every pass.

    **Source**: Xie et al. 2017 (arXiv 1711.01991), here never larger than the image.
    """
    resized = Resized(1.0, smallest)

    def front(x: Tensor) -> Tensor:
        keys = torch.randint(2**62, (len(x),), device=x.device)
        return resized(x, keys)

    return _behind(model, front)


def wavy_model(model: Classifier, levels: int = 17, height: float = 0.03) -> Classifier:
    """The model on x + `height` * sin(2 pi (levels - 1) x), with local minima between levels.

    At images of `levels` grey values the gradient has the right sign; half a level away it is
    reversed if 2 pi (levels - 1) height > 1. One large step crosses the waves, small steps get
    stuck in the first. 8-bit images have 256 levels; scikit-learn's digits 17.
    """
    check_count(levels, "levels", 2)
    check_positive(height, "height")

    def front(x: Tensor) -> Tensor:
        return x + height * torch.sin(2 * math.pi * (levels - 1) * x)

    return _behind(model, front)


def scrambled_model(model: Classifier) -> Classifier:
    """The same predictions with a wrong gradient: that of the image upside down.

    An example of a custom backward pass with a mistake.
    """

    def front(x: Tensor) -> Tensor:
        return x.detach() + (x - x.detach()).flip(2, 3)

    return _behind(model, front)


def anti_adversary_model(model: Classifier, steps: int = 2, step_size: float = 0.15) -> Classifier:
    """The model on images that are first moved towards their predicted class.

    Each step of `step_size` (pixel units) follows the sign of the gradient that raises the
    confidence in the class predicted; no gradient passes through the search.

    **Source**: Alfarra et al. 2021 (arXiv 2103.14347); re-evaluated by Croce et al. 2022
    (arXiv 2202.13711).
    """
    check_count(steps, "steps")
    check_positive(step_size, "step_size")

    def front(x: Tensor) -> Tensor:
        with torch.enable_grad():
            delta = torch.zeros_like(x).requires_grad_()
            for _ in range(steps):
                z = model.logits(x.detach() + delta)
                (grad,) = torch.autograd.grad(F.cross_entropy(z, z.argmax(dim=1)), delta)
                delta = (delta - step_size * grad.sign()).detach().requires_grad_()
        return x + delta.detach()

    return _behind(model, front)
