"""Toy models that store more features than dimensions, and what attacks do to them."""

import pytest
import torch
from torch.nn import functional as F

from notbugs.theory import Toys, attacked, predicted, train_toys

SPARSITY = [0.0, 0.95]


@pytest.fixture(scope="module")
def toys() -> Toys:
    return train_toys(SPARSITY, features=20, dimensions=5, steps=1500, seed=0)


def test_inputs_are_as_sparse_as_asked(toys: Toys) -> None:
    x = toys.draw(2000, seed=1)
    assert x.shape == (2, 2000, 20)
    zeros = (x == 0).double().mean(dim=(1, 2))
    assert float(zeros[0]) == 0
    assert float(zeros[1]) == pytest.approx(0.95, abs=0.005)
    assert torch.equal(x, toys.draw(2000, seed=1))
    assert not torch.equal(x, toys.draw(2000, seed=2))


def test_sparse_features_share_dimensions(toys: Toys) -> None:
    dense, sparse = toys.per_dimension.tolist()
    assert dense == pytest.approx(1.0, abs=0.1)  # one feature a dimension: no superposition
    assert sparse > 1.5
    x = toys.draw(500, seed=1)
    whole = x.square().sum(dim=2).mean(dim=1)
    assert bool((toys.losses(x, x).mean(dim=1) < 0.7 * whole).all())


def test_an_attack_beats_random_changes_and_the_predicted_one(toys: Toys) -> None:
    x, eps = toys.draw(200, seed=1), 0.1
    worst, guess = attacked(toys, x, eps), predicted(toys, x)
    clean, found = toys.losses(x, x), toys.losses(x, x + worst)
    # Where nothing raises the loss, the attack keeps the input.
    length = worst.norm(dim=2)
    assert bool(((length - eps).abs() < 1e-5).logical_or(length == 0).all())
    assert bool((guess.norm(dim=2) - 1).abs().max() < 1e-4)
    generator = torch.Generator().manual_seed(0)
    for _ in range(20):
        change = eps * F.normalize(torch.randn(x.shape, generator=generator), dim=2)
        assert bool((found >= toys.losses(x, x + change) - 1e-6).double().mean() > 0.99)
    beaten = found >= toys.losses(x, x + eps * guess) - 1e-6  # which it does not begin from
    assert bool(beaten.double().mean() > 0.95)
    assert bool((found >= clean).all())
    each = attacked(toys, x, torch.tensor([0.1, 0.2])[:, None, None])
    torch.testing.assert_close(each[0], worst[0])
    assert float(each[1].norm(dim=1).max()) == pytest.approx(0.2, abs=1e-5)


def test_the_prediction_is_exact_where_all_is_linear() -> None:
    """All outputs on, no error at rest: the worst change is the first singular vector of W^T W."""
    weights = torch.randn(1, 3, 6, generator=torch.Generator().manual_seed(1))
    toys = Toys(torch.tensor([0.0]), weights, torch.full((1, 6), 50.0))
    x = torch.rand(1, 4, 6, generator=torch.Generator().manual_seed(2))
    first = torch.linalg.svd(toys.gram[0]).Vh[0]
    assert bool((predicted(toys, x) @ first).abs().min() > 1 - 1e-3)


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"sparsity": [1.0]}, "sparsity"),
        ({"sparsity": []}, "sparsity"),
        ({"sparsity": [0.5], "features": 3, "dimensions": 5}, "features"),
        ({"sparsity": [0.5], "steps": 0}, "steps"),
        ({"sparsity": [0.5], "lr": -1.0}, "lr"),
    ],
)
def test_impossible_settings_are_refused(options, named) -> None:
    with pytest.raises(ValueError, match=named):
        train_toys(**options)
    toys = Toys(torch.tensor([0.5]), torch.ones(1, 2, 4), torch.zeros(1, 4))
    with pytest.raises(ValueError, match="eps"):
        attacked(toys, torch.ones(1, 1, 4), 0.0)
