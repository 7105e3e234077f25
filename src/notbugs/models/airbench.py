"""The net that learns CIFAR-10 in seconds on a GPU."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from notbugs.core.errors import bad_value, check_count
from notbugs.models.layers import Body

PATCH = 2
"""Side of the patches that are whitened, in pixels."""
RIDGE = 5e-4
"""Added to each eigenvalue of the patches' second moments before dividing by its root."""
AT_ONCE = 2**21
"""Values of images whose patches are processed at once, which bounds memory."""
EPS = 1e-3
"""Of batch norms: in bf16 a smaller one amplifies channels that hardly vary (MNIST)."""
SCALE = 1 / 9
"""Of the logits."""


class Whitening(nn.Conv2d):
    """A convolution that whitens patches of 2x2 pixels.

    The filters are the eigenvectors of the patches' second moments over the square roots of the
    eigenvalues (plus a ridge), and the same with the other sign. They are fixed; the bias is
    learnt. Before `fit` they are random.

    **Source**: Jordan 2024 (arXiv 2404.00498), section 3.2, after Page 2019.
    """

    fitted: Tensor

    def __init__(self, channels: int) -> None:
        """Random filters for images of `channels` channels."""
        super().__init__(channels, 2 * channels * PATCH**2, PATCH)
        self.weight.requires_grad_(False)
        assert self.bias is not None
        nn.init.zeros_(self.bias)
        self.register_buffer("fitted", torch.tensor(False))

    @torch.no_grad()
    def fit(self, images: Tensor) -> None:
        """Takes the filters from normalised images [n, c, h, w]."""
        size = self.in_channels * PATCH**2
        moments, count = images.new_zeros(size, size, dtype=torch.float64), 0
        for part in images.split(max(1, AT_ONCE // images[0].numel())):
            patches = F.unfold(part.double(), PATCH).transpose(1, 2).flatten(0, 1)
            moments += patches.T @ patches
            count += len(patches)
        values, vectors = torch.linalg.eigh((moments / count).cpu())
        filters = (vectors / (values + RIDGE).sqrt()).T.flip(0)
        both = torch.cat([filters, -filters]).reshape(self.weight.shape)
        self.weight.copy_(both)
        self.fitted.fill_(True)


def _conv(before: int, after: int) -> nn.Conv2d:
    """3x3, without a bias; the first filters are initialised as the identity."""
    layer = nn.Conv2d(before, after, 3, padding=1, bias=False)
    with torch.no_grad():
        nn.init.dirac_(layer.weight[: min(before, after)])
    return layer


def _norm(channels: int) -> nn.BatchNorm2d:
    """A batch norm whose bias alone is learnt."""
    layer = nn.BatchNorm2d(channels, eps=EPS, momentum=0.4)
    layer.weight.requires_grad_(False)
    return layer


class _Scaled(nn.Linear):
    """A linear layer with outputs multiplied by `SCALE`."""

    def forward(self, input: Tensor) -> Tensor:
        return SCALE * super().forward(input)


def airbench(
    shape: tuple[int, int, int], classes: int, *, width: int = 64, wide: int = 256
) -> Body:
    """Whitened patches and three blocks of two convolutions: `width`, `wide`, `wide` channels.

    The embedding is the maximum of each channel over all positions. Trained by the recipe
    of its paper (`notbugs.training.named.AIRBENCH`), it learns CIFAR-10 in 10 epochs.

    **Source**: Jordan 2024 (arXiv 2404.00498), section 3, and the code published with it.
    **Differs from the paper**: the last pool covers all positions, and pools of a single position
    are left out (the same for 32x32); the bias after the whitening is learnt throughout,
    not in the first epochs alone; batch norms have eps 1e-3, not 1e-12.

    Args:
        shape: (channels, height, width) of the images.
        classes: k, the number of logits.
        width: channels of the first block.
        wide: channels of the others, and the size of the embedding.
    """
    check_count(width, "width")
    check_count(wide, "wide")
    if min(shape[1:]) < PATCH:
        raise bad_value("shape", f"have sides of at least {PATCH} pixels", shape)
    whitening = Whitening(shape[0])
    layers: list[nn.Module] = [whitening, nn.GELU()]
    before, side = whitening.out_channels, min(shape[1:]) - 1
    for after in (width, wide, wide):
        layers += [_conv(before, after), *([nn.MaxPool2d(2)] if side > 1 else [])]
        layers += [_norm(after), nn.GELU(), _conv(after, after), _norm(after), nn.GELU()]
        before, side = after, side // 2
    layers += [nn.AdaptiveMaxPool2d(1), nn.Flatten()]
    return Body(nn.Sequential(*layers), _Scaled(before, classes, bias=False))


def needs_fit(model: nn.Module) -> bool:
    """Whether the model has a layer that is initialised from data, and not yet fitted."""
    return any(isinstance(m, Whitening) and not bool(m.fitted) for m in model.modules())


def fit_to(model: nn.Module, images: Tensor) -> None:
    """Fits each `Whitening` layer of the model that is not yet fitted.

    `images` [n, c, h, w]: normalised, as the model's body sees them.
    """
    for layer in model.modules():
        if isinstance(layer, Whitening) and not bool(layer.fitted):
            layer.fit(images)
