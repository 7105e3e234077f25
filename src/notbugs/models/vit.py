"""A small vision transformer."""

import torch
from torch import Tensor, nn

from notbugs.core.errors import bad_value, check_count
from notbugs.models.layers import Body


class Patches(nn.Module):
    """Cuts the image into patches, each a token, and adds position embeddings."""

    def __init__(self, shape: tuple[int, int, int], patch: int, width: int) -> None:
        """Takes the image's shape, the patch's side and the token's width."""
        super().__init__()
        self.project = nn.Conv2d(shape[0], width, patch, stride=patch)
        count = (shape[1] // patch) * (shape[2] // patch)
        self.place = nn.Parameter(0.02 * torch.randn(1, count, width))

    def forward(self, x: Tensor) -> Tensor:
        """[n, c, h, w] -> [n, patches, width]."""
        return self.project(x).flatten(2).transpose(1, 2) + self.place


class Pooled(nn.Module):
    """The normalised mean of the tokens."""

    def __init__(self, width: int) -> None:
        """Takes the token's width."""
        super().__init__()
        self.norm = nn.LayerNorm(width)

    def forward(self, x: Tensor) -> Tensor:
        """[n, patches, width] -> [n, width]."""
        return self.norm(x.mean(dim=1))


class Block(nn.Module):
    """Attention and a two-layer MLP, each on normalised tokens with a residual connection."""

    def __init__(self, width: int, heads: int) -> None:
        """Takes the token's width and the number of attention heads."""
        super().__init__()
        self.heads = heads
        self.before, self.between = nn.LayerNorm(width), nn.LayerNorm(width)
        self.asks, self.answer = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.net = nn.Sequential(
            nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width)
        )

    def forward(self, x: Tensor) -> Tensor:
        """[n, patches, width] -> the same."""
        q, k, v = self.asks(self.before(x)).unflatten(2, (3, self.heads, -1)).unbind(2)
        q, k, v = (part.transpose(1, 2) for part in (q, k, v))
        # Written out: the fused kernels have no second derivative, which some adversaries need.
        attended = (q @ k.transpose(-2, -1) * k.shape[-1] ** -0.5).softmax(dim=-1) @ v
        x = x + self.answer(attended.transpose(1, 2).flatten(2))
        return x + self.net(self.between(x))


def vit(
    shape: tuple[int, int, int],
    classes: int,
    *,
    patch: int = 4,
    width: int = 96,
    depth: int = 4,
    heads: int = 3,
) -> Body:
    """Patches as tokens, pre-norm blocks of attention, and the mean token as embedding.

    **Source**: Dosovitskiy et al. 2020 (arXiv 2010.11929), eq. 1-4, at the size of small
    images; weights truncated normal with deviation 0.02, biases 0. **Differs from the paper**:
    the mean of the tokens in place of a class token (Beyer et al. 2022, arXiv 2205.01580).

    Args:
        shape: (channels, height, width) of the images; both sides multiples of `patch`.
        classes: k, the number of logits.
        patch: side of a patch in pixels.
        width: entries of a token, a multiple of `heads`.
        depth: number of blocks.
        heads: attention heads of a block.
    """
    counts = ((patch, "patch"), (width, "width"), (depth, "depth"), (heads, "heads"))
    for value, name in counts:
        check_count(value, name)
    if shape[1] % patch or shape[2] % patch:
        raise bad_value("patch", f"divide both sides of the image, {shape[1:]}", patch)
    if width % heads:
        raise bad_value("heads", f"divide the width, {width}", heads)
    blocks = [Block(width, heads) for _ in range(depth)]
    body = Body(
        nn.Sequential(Patches(shape, patch, width), *blocks, Pooled(width)),
        nn.Linear(width, classes),
    )
    for layer in body.modules():
        if isinstance(layer, nn.Linear | nn.Conv2d):
            nn.init.trunc_normal_(layer.weight, std=0.02)
            if layer.bias is not None:  # pyright: ignore[reportUnnecessaryComparison]
                nn.init.zeros_(layer.bias)
    return body
