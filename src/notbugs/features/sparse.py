"""Sparse autoencoders of embeddings: few of many units are on, each a feature by itself."""

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from notbugs.core.errors import bad_value, check_count, check_positive
from notbugs.core.types import Embeddings
from notbugs.data import batches
from notbugs.models.initial import seeded


class SparseAutoencoder(nn.Module):
    """e' = D topk(ReLU(E e + b)), of standardised embeddings e; columns of D have length 1.

    - `dimensions`: of an embedding; `units`: features; `active`: k, how many are on at once

    **Source**: Makhzani & Frey 2013 (arXiv 1312.5663); as here, Gao et al. 2024 (arXiv 2406.04093).
    """

    center: Tensor
    scale: Tensor

    def __init__(self, dimensions: int, units: int, active: int, *, seed: int) -> None:
        """Makes the layers, with initial weights drawn by the seed."""
        super().__init__()
        for name, count in (("dimensions", dimensions), ("units", units), ("active", active)):
            check_count(count, name)
        if active > units:
            raise bad_value("active", f"be at most `units`, {units}", active)
        self.active = active
        self.register_buffer("center", torch.zeros(dimensions))
        self.register_buffer("scale", torch.ones(()))
        with seeded(seed, "sparse-autoencoder"):
            self.decoder = nn.Parameter(F.normalize(torch.randn(units, dimensions), dim=1))
        self.encoder = nn.Parameter(self.decoder.detach().clone())
        self.bias = nn.Parameter(torch.zeros(units))

    def code(self, embeddings: Embeddings) -> Tensor:
        """The units, at most `active` of them above 0, [n, units]."""
        inner = ((embeddings - self.center) / self.scale) @ self.encoder.T + self.bias
        values, places = inner.topk(self.active, dim=1)
        return torch.zeros_like(inner).scatter(1, places, F.relu(values))

    def decode(self, code: Tensor) -> Embeddings:
        """Embeddings of codes, [n, d]."""
        return self.scale * (code @ F.normalize(self.decoder, dim=1)) + self.center

    def forward(self, embeddings: Embeddings) -> Embeddings:
        """The embeddings that codes stand for."""
        return self.decode(self.code(embeddings))

    @torch.no_grad()
    def left(self, embeddings: Embeddings) -> float:
        """The share of the variance that codes leave, 0..1 (above 1 where they harm)."""
        rest = (self(embeddings) - embeddings).square().sum()
        return float(rest / (embeddings - embeddings.mean(dim=0)).square().sum().clamp(min=1e-12))


def train_sparse_autoencoder(
    embeddings: Embeddings,
    *,
    units: int,
    active: int,
    epochs: int = 100,
    lr: float = 2e-3,
    batch_size: int = 128,
    seed: int,
    progress: Callable[[float], None] = lambda fraction: None,
) -> SparseAutoencoder:
    """A sparse autoencoder that leaves little of embeddings, by Adam with a cosine decay to 0.

    - `embeddings` [n, d]; `units`, `active`: see `SparseAutoencoder`

    **Raises** ValueError for counts and rates out of range, and embeddings that do not vary.
    """
    check_count(epochs, "epochs")
    check_count(batch_size, "batch_size")
    check_positive(lr, "lr")
    if embeddings.ndim != 2 or not bool(embeddings.isfinite().all()):
        raise bad_value("embeddings", "be finite numbers [n, d]", tuple(embeddings.shape))
    net = SparseAutoencoder(embeddings.shape[1], units, active, seed=seed).to(embeddings)
    center = embeddings.mean(dim=0)
    scale = (embeddings - center).square().sum(dim=1).mean().sqrt()
    if not float(scale) > 0:
        raise bad_value("embeddings", "vary", "all equal")
    net.center.copy_(center)
    net.scale.copy_(scale)
    size = min(batch_size, len(embeddings))
    adam = torch.optim.Adam(net.parameters(), lr=lr)
    decay = torch.optim.lr_scheduler.CosineAnnealingLR(adam, epochs * -(-len(embeddings) // size))
    for epoch in range(epochs):
        for index in batches(len(embeddings), size, seed=seed, epoch=epoch):
            some = embeddings[index.to(embeddings.device)]
            loss = (net(some) - some).square().sum(dim=1).mean() / scale**2
            adam.zero_grad()
            loss.backward()
            adam.step()
            decay.step()
        progress((epoch + 1) / epochs)
    return net.eval().requires_grad_(False)


def matched(a: Tensor, b: Tensor) -> Tensor:
    """For each unit of a code [n, units] its largest correlation with a unit of another, [units].

    Units that are never on have none: NaN.

    **Raises** ValueError for codes of other numbers of rows.
    """
    if len(a) != len(b):
        raise bad_value("b", f"have the {len(a)} rows of `a`", len(b))
    first, second = (_standard(code) for code in (a, b))
    best = (first.T @ second / len(a)).nan_to_num(-1).amax(dim=1)
    return torch.where(first.isnan().any(dim=0), torch.nan, best)


def _standard(code: Tensor) -> Tensor:
    code = code.double()
    spread = code.std(dim=0, correction=0)
    return (code - code.mean(dim=0)) / torch.where(spread > 0, spread, torch.nan)
