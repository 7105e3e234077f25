"""A classifier that looks at an image several times: mirrored, and moved by a pixel."""

from torch import Tensor, nn
from torch.nn import functional as F

from notbugs.models.classifier import Classifier
from notbugs.models.outputs import logits_in


class _Views(nn.Module):
    """The mean of the logits of six views, the unmoved two counted twice."""

    def __init__(self, body: nn.Module) -> None:
        super().__init__()
        self.body = body

    def forward(self, x: Tensor) -> Tensor:
        height, width = x.shape[-2:]
        wider = F.pad(x, (1, 1, 1, 1), mode="reflect")
        moved = (wider[..., :height, :width], wider[..., 2:, 2:])
        logits = self._both(x) / 4
        for view in moved:
            logits = logits + self._both(view) / 8
        return logits

    def _both(self, x: Tensor) -> Tensor:
        return logits_in(self.body(x)) + logits_in(self.body(x.flip(-1)))


def of_views(model: Classifier) -> Classifier:
    """The same model judging by six views of each image: mirrored or not, moved or not.

    Its logits are the mean of those of the image and its mirror image (a quarter each), and of
    both moved by one pixel up and left, and down and right (an eighth each), reflected at the
    border. It is differentiable and an attack sees through it. The weights are shared with
    `model`; an image costs six passes, and the embedding is that of the last view.

    **Source**: Jordan 2024 (arXiv 2404.00498), section 3.5 (multi-crop evaluation).
    """
    seen = Classifier(
        _Views(model.body),
        shape=model.shape,
        classes=model.classes,
        embedding=f"body.{model.embedding}",
        mean=model.mean.flatten().tolist(),
        std=model.std.flatten().tolist(),
    )
    seen.training = seen.body.training = model.training
    return seen.to(model.device)
