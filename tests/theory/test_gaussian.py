"""Closed forms of the Gaussian theory against sampling, optimisation and each other."""

import math

import pytest
import torch

from notbugs.theory import (
    Gaussians,
    cost_of_misalignment,
    least_aligned,
    least_alignment,
    robust_fit,
)

N = 400_000
MEAN = torch.tensor([1.0, -0.5, 0.3])


def covariance() -> torch.Tensor:
    root = torch.tensor([[1.0, 0.2, 0.0], [-0.4, 0.7, 0.1], [0.3, 0.0, 0.4]], dtype=torch.float64)
    return root @ root.T


def true() -> Gaussians:
    return Gaussians(MEAN, covariance())


def near(found: float, wanted: float, relative: float = 5e-3) -> bool:
    return abs(found - wanted) <= relative * abs(wanted)


def test_samples_have_the_mean_and_the_covariance() -> None:
    x, y = true().sample(N, 0)
    assert set(y.tolist()) == {-1, 1}
    flipped = x * y[:, None]
    torch.testing.assert_close(flipped.mean(dim=0), MEAN.double(), atol=5e-3, rtol=0)
    torch.testing.assert_close(flipped.T.cov(), covariance(), atol=1e-2, rtol=0)
    assert torch.equal(x[:5], true().sample(5, 0)[0])


@pytest.mark.parametrize("eps", [0.0, 0.2, 2.0])
def test_accuracy_is_that_of_points_moved_the_worst_way(eps) -> None:
    gaussians = true()
    w = gaussians.weights
    x, y = gaussians.sample(N, 1)
    moved = x - eps * y[:, None] * w / w.norm()
    share = float(((moved @ w) * y > 0).double().mean())
    assert abs(share - gaussians.accuracy(eps=eps)) < 3e-3
    other = torch.tensor([1.0, 0.0, 0.0])
    assert gaussians.accuracy(other) <= gaussians.accuracy()  # Bayes


def test_the_loss_is_the_negative_log_likelihood() -> None:
    gaussians = true()
    x, y = gaussians.sample(4, 2)
    normal = torch.distributions.MultivariateNormal(torch.zeros(3).double(), covariance())
    wanted = -normal.log_prob(x - y[:, None] * gaussians.mean) - 1.5 * math.log(2 * math.pi)
    torch.testing.assert_close(gaussians.loss(x, y), wanted)


def test_the_worst_move_is_a_maximum() -> None:
    gaussians, price = true(), 20.0
    x, y = gaussians.sample(50, 3)
    move = gaussians.worst_move(x, y, price)

    def worth(by: torch.Tensor) -> torch.Tensor:
        return gaussians.loss(x + by, y) - price / 2 * by.square().sum(dim=1)

    for k in range(20):
        other = move + 0.1 * torch.randn(50, 3, generator=torch.Generator().manual_seed(k))
        assert bool((worth(other) <= worth(move)).all())


@pytest.mark.parametrize("price", [15.0, 100.0])
def test_theorem_1_is_the_rise_of_the_loss(price) -> None:
    gaussians = true()
    # Of points whose covariance is Sigma exactly, means of quadratic forms have no error.
    z = torch.randn(50, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    white = torch.linalg.solve_triangular(torch.linalg.cholesky(z.T @ z / 50), z.T, upper=False)
    y = torch.ones(50, dtype=torch.int64)
    x = gaussians.mean + (torch.linalg.cholesky(covariance()) @ white).T
    rise = gaussians.loss(x + gaussians.worst_move(x, y, price), y) - gaussians.loss(x, y)
    wanted = cost_of_misalignment(covariance(), price)
    assert near(float(rise.mean()), wanted, 1e-9)
    x, y = gaussians.sample(N, 4)
    rise = gaussians.loss(x + gaussians.worst_move(x, y, price), y) - gaussians.loss(x, y)
    assert near(float(rise.mean()), wanted)


def test_theorem_1_is_least_for_round_covariances() -> None:
    sigma = covariance()
    round_one = torch.eye(3) * float(sigma.trace()) / 3
    assert cost_of_misalignment(round_one, 100.0) < cost_of_misalignment(sigma, 100.0)


@pytest.mark.parametrize("eps", [0.01, 0.5, 1.0, 5.0, 10.0])
def test_theorem_2_is_the_fixed_point_and_spends_the_budget(eps) -> None:
    fit, m = robust_fit(true(), eps=eps)
    assert torch.equal(fit.mean, MEAN.double())
    identity = torch.eye(3, dtype=torch.float64)
    # At the least robust loss, Sigma is the covariance of the moved points.
    factor = identity + torch.linalg.inv(m * fit.covariance - identity)
    torch.testing.assert_close(factor @ covariance() @ factor.T, fit.covariance)
    assert near(float(torch.linalg.inv(fit.covariance).trace()) / m**2, eps**2, 1e-9)
    x, y = true().sample(N, 5)
    size = fit.worst_move(x, y, m).square().sum(dim=1).mean()
    assert near(float(size), eps**2)


def test_theorem_2_has_the_least_robust_loss() -> None:
    gaussians, eps = true(), 0.5
    fit, m = robust_fit(gaussians, eps=eps)

    def robust_loss(candidate: Gaussians) -> float:
        """The mean loss minus the price of moves at m, plus what they cost on average."""
        x, y = gaussians.sample(20_000, 6)
        move = candidate.worst_move(x, y, m)
        priced = candidate.loss(x + move, y) - m / 2 * move.square().sum(dim=1)
        return float(priced.mean())

    best = robust_loss(fit)
    generator = torch.Generator().manual_seed(0)
    for _ in range(20):
        off = 0.1 * torch.randn(3, 3, generator=generator, dtype=torch.float64)
        root = torch.linalg.cholesky(fit.covariance) @ torch.matrix_exp((off + off.T) / 2)
        mean = fit.mean + 0.1 * torch.randn(3, generator=generator, dtype=torch.float64)
        assert robust_loss(Gaussians(mean, root @ root.T)) > best


def test_robust_covariances_approach_the_identity_and_align() -> None:
    conditions, cosines = [], []
    for eps in (0.1, 1.0, 5.0, 10.0):
        fit, _ = robust_fit(true(), eps=eps)
        eigenvalues = torch.linalg.eigvalsh(fit.covariance)
        conditions.append(float(eigenvalues[-1] / eigenvalues[0]))
        cosines.append(least_alignment(fit.covariance))
    assert conditions == sorted(conditions, reverse=True)
    assert cosines == sorted(cosines)
    assert cosines[-1] > 0.9 > cosines[0]


@pytest.mark.parametrize("end", [1, -1])
def test_theorem_3_is_reached_and_not_passed(end) -> None:
    sigma, least = covariance(), least_alignment(covariance())
    worst = Gaussians(least_aligned(sigma, end), sigma)
    assert near(worst.alignment(), least, 1e-9)
    for mean in torch.randn(200, 3, generator=torch.Generator().manual_seed(0)):
        assert Gaussians(mean, sigma).alignment() >= least - 1e-12
    assert near(least_alignment(torch.eye(4)), 1.0, 1e-12)


def bad_gaussians() -> Gaussians:
    return Gaussians(MEAN, torch.tensor([[1.0, 2, 0], [2, 1, 0], [0, 0, 1]]))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (bad_gaussians, "`covariance` must be positive definite"),
        (lambda: Gaussians(torch.tensor([math.nan]), torch.eye(1)), "`mean` must be a vector of"),
        (lambda: least_alignment(torch.tensor([[1.0, 0.5], [0, 1]])), "be finite and symmetric"),
        (lambda: cost_of_misalignment(torch.eye(2), 1.0), "`multiplier` must lie above 1"),
        (lambda: robust_fit(true(), eps=0.0), "`eps` must"),
        (lambda: true().accuracy(eps=-1), "`eps` must be 0 or a radius"),
        (lambda: true().accuracy(torch.zeros(3)), "`weights` must be 3 numbers"),
        (lambda: true().sample(0, 0), "`n` must be at least 1"),
    ],
)
def test_bad_values_are_named(call, message) -> None:
    with pytest.raises(ValueError, match=message):
        call()
