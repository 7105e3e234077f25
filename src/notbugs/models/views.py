"""Test-time augmentation: the mean over mirrored and shifted views of an image."""

from torch import Tensor, nn
from torch.nn import functional as F

from notbugs.models.classifier import Classifier
from notbugs.models.outputs import logits_in


class _Views(nn.Module):
    """The weighted mean of the logits of six views; the two unshifted ones count twice."""

    def __init__(self, body: nn.Module) -> None:
        super().__init__()
        self.body = body

    def forward(self, x: Tensor) -> Tensor:
        height, width = x.shape[-2:]
        wider = F.pad(x, (1, 1, 1, 1), mode="reflect")
        shifted = (wider[..., :height, :width], wider[..., 2:, 2:])
        logits = self._with_mirror(x) / 4
        for view in shifted:
            logits = logits + self._with_mirror(view) / 8
        return logits

    def _with_mirror(self, x: Tensor) -> Tensor:
        return logits_in(self.body(x)) + logits_in(self.body(x.flip(-1)))


def of_views(model: Classifier) -> Classifier:
    """The same model with predictions from six views of each image, mirrored and shifted.

    Its logits are the mean of those of the image and its mirror image (weight 1/4 each), and of
    both shifted by one pixel up and left, and down and right (1/8 each), reflected at the
    border. It is differentiable, so attacks differentiate through it. The weights are shared
    with `model`; an image costs six passes, and the embedding is that of the last view.

    **Source**: Jordan 2024 (arXiv 2404.00498), section 3.5 (multi-crop evaluation).
    """
    classifier = Classifier(
        _Views(model.body),
        shape=model.shape,
        classes=model.classes,
        embedding=model.embedding and f"body.{model.embedding}",
        mean=model.mean.flatten().tolist(),
        std=model.std.flatten().tolist(),
    )
    classifier.training = classifier.body.training = model.training
    return classifier.to(model.device)
