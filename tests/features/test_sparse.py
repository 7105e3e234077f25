"""Sparse autoencoders of embeddings, and features that two models share."""

import pytest
import torch
from torch.nn import functional as F

from notbugs.features import SparseAutoencoder, matched, train_sparse_autoencoder

UNITS = 24


def sparse_data(n: int = 3000) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """(embeddings, their true codes, the true directions): 24 directions in 12 dimensions."""
    drawn = torch.Generator().manual_seed(0)
    directions = F.normalize(torch.randn(UNITS, 12, generator=drawn), dim=1)
    places = torch.rand(n, UNITS, generator=drawn).topk(2, dim=1).indices
    values = 0.5 + torch.rand(n, 2, generator=drawn)
    codes = torch.zeros(n, UNITS).scatter(1, places, values)
    return codes @ directions, codes, directions


@pytest.fixture(scope="module")
def trained() -> SparseAutoencoder:
    return train_sparse_autoencoder(
        sparse_data()[0], units=2 * UNITS, active=2, epochs=60, lr=5e-3, seed=0
    )


def test_few_units_are_on_and_they_leave_little(trained) -> None:
    e, _, _ = sparse_data()
    code = trained.code(e)
    assert int((code > 0).sum(dim=1).max()) <= 2
    assert bool((code >= 0).all())
    left = trained.left(e)
    rest = (trained(e) - e).square().sum() / (e - e.mean(dim=0)).square().sum()
    assert left == pytest.approx(float(rest))
    assert left < 0.15
    # Two principal components of data without a preferred direction leave most of it.
    values = torch.linalg.eigvalsh(e.T.cov())
    assert left < 0.3 * float(values[:-2].sum() / values.sum())


def test_true_directions_are_found(trained) -> None:
    _, codes, directions = sparse_data()
    found = F.normalize(trained.decoder, dim=1)
    best = (directions @ found.T).amax(dim=1)
    assert float((best > 0.95).double().mean()) > 0.7
    drawn = F.normalize(
        torch.randn(2 * UNITS, 12, generator=torch.Generator().manual_seed(1)), dim=1
    )
    assert float(((directions @ drawn.T).amax(dim=1) > 0.95).double().mean()) < 0.1
    same = matched(codes, trained.code(sparse_data()[0]))
    assert float((same > 0.7).double().mean()) > 0.7


def test_matches_are_correlations_and_dead_units_have_none() -> None:
    a = torch.tensor([[1.0, 0, 0], [0, 1, 0], [1, 1, 0], [0, 0, 0]])
    b = torch.tensor([[0.0, 2], [0, 0], [0, 2], [0, 0]])
    found = matched(a, b)
    assert found[0] == pytest.approx(1.0)
    assert float(found[1]) == pytest.approx(0.0)
    assert bool(found[2].isnan())


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"units": 4, "active": 5}, "active"),
        ({"units": 0, "active": 1}, "units"),
        ({"units": 4, "active": 1, "epochs": 0}, "epochs"),
        ({"units": 4, "active": 1, "lr": 0.0}, "lr"),
    ],
)
def test_impossible_settings_are_refused(options, named) -> None:
    with pytest.raises(ValueError, match=named):
        train_sparse_autoencoder(torch.randn(10, 3), seed=0, **options)
    with pytest.raises(ValueError, match="batch_size"):
        train_sparse_autoencoder(torch.randn(9, 3), units=4, active=1, seed=0, batch_size=0)
    with pytest.raises(ValueError, match="rows of `a`"):
        matched(torch.ones(3, 2), torch.ones(4, 2))
    for odd in (torch.ones(3), torch.full((4, 2), torch.nan)):
        with pytest.raises(ValueError, match="finite numbers"):
            train_sparse_autoencoder(odd, units=4, active=1, seed=0)
    with pytest.raises(ValueError, match="embeddings"):
        train_sparse_autoencoder(torch.ones(10, 3), units=4, active=1, seed=0)
