"""The tangent kernel: its own length, homogeneity, precision and slopes."""

import pytest
import torch

from notbugs.theory import tangent_kernel


def points(count: int = 6) -> torch.Tensor:
    return torch.randn(count, 5, generator=torch.Generator().manual_seed(0)).double()


@pytest.mark.parametrize("depth", [1, 2, 6])
def test_of_a_point_with_itself_it_is_its_length_a_layer(depth: int) -> None:
    x = points()
    wanted = (depth + 1) * x.square().sum(dim=1) / 5
    torch.testing.assert_close(
        tangent_kernel(x, x, depth=depth).diagonal(), wanted, rtol=1e-6, atol=0
    )
    opposite = tangent_kernel(x, -x, depth=1).diagonal()
    torch.testing.assert_close(opposite, torch.zeros(6).double(), rtol=0, atol=1e-6)


def test_it_grows_with_the_lengths() -> None:
    x, y = points(), points().flip(0).roll(1, 1)
    torch.testing.assert_close(tangent_kernel(3 * x, 0.5 * y), 1.5 * tangent_kernel(x, y))


def test_short_points_are_not_lost() -> None:
    x, y = points(), points().roll(1, 1)
    torch.testing.assert_close(tangent_kernel(1e-9 * x, y) * 1e9, tangent_kernel(x, y))
    zero = torch.zeros(1, 5).double().requires_grad_()
    assert torch.equal(tangent_kernel(zero, y), torch.zeros(1, 6).double())
    (g,) = torch.autograd.grad(tangent_kernel(zero, y).sum(), zero)
    assert bool(g.isfinite().all())


@pytest.mark.parametrize("other", [torch.ones(2, 4).double(), torch.ones(2, 5), torch.ones(5)])
def test_points_that_do_not_fit_are_refused(other: torch.Tensor) -> None:
    with pytest.raises(ValueError, match=r"`b` must be points \(n, d\)"):
        tangent_kernel(points(), other)


def test_single_precision_is_near_double() -> None:
    x = points(40)
    near = tangent_kernel(x.float(), x.float(), depth=3).double()
    torch.testing.assert_close(near, tangent_kernel(x, x, depth=3), rtol=2e-3, atol=2e-3)


def test_slopes_are_those_of_differences_and_finite_at_a_point() -> None:
    x, y = points(), points().roll(1, 1)
    assert torch.autograd.gradcheck(lambda a: tangent_kernel(a, y), (x.clone().requires_grad_(),))
    z = x.clone().requires_grad_()
    (g,) = torch.autograd.grad(tangent_kernel(z, x).sum(), z)
    assert bool(g.isfinite().all())
