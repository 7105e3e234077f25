"""Images as waves: an exact change of variables, at any size and number of channels."""

import math

import pytest
import torch

from notbugs.core import random
from notbugs.engine import (
    L2,
    AbstractObjective,
    Adam,
    Box,
    Evaluation,
    Everywhere,
    Fourier,
    Last,
    Solver,
    Steepest,
    color_root,
)
from notbugs.engine.fourier import hartley

SIZES = pytest.mark.parametrize(
    "shape", [(1, 8, 8), (3, 7, 5), (3, 6, 9), (2, 1, 1), (5, 1, 4), (4, 11, 3)], ids=str
)
COLORS = ((1.0, 0.2, 0.1), (0.2, 0.8, 0.3), (0.1, 0.3, 0.5))


def images(shape, n=4, name="fourier"):
    return random.uniform(random.row_keys(n, name), shape, torch.float64)


def normals(shape, n=4, name="theta"):
    return random.normal(random.row_keys(n, name), shape, torch.float64)


class Bowl(AbstractObjective):
    def __call__(self, x, context, draw) -> Evaluation:
        return Evaluation((x - context["goal"]).square().flatten(1).sum(dim=1))


@SIZES
@pytest.mark.parametrize("decay", [0.0, 1.0, 2.0])
def test_encode_and_decode_are_inverse_in_both_orders(shape, decay) -> None:
    waves = Fourier(decay, inset=1e-6)
    x, theta = images(shape), 0.5 * normals(shape)
    torch.testing.assert_close(waves.decode(waves.encode(x)), x, rtol=0, atol=1e-6)
    torch.testing.assert_close(waves.encode(waves.decode(theta)), theta, rtol=1e-3, atol=1e-3)
    assert float(waves.decode(50 * theta).min()) >= 0
    assert float(waves.decode(50 * theta).max()) <= 1


def test_colours_are_mixed_and_unmixed() -> None:
    waves = Fourier(colors=COLORS, inset=1e-6)
    x, theta = images((3, 7, 6)), 0.5 * normals((3, 7, 6))
    torch.testing.assert_close(waves.decode(waves.encode(x)), x, rtol=0, atol=1e-6)
    torch.testing.assert_close(waves.encode(waves.decode(theta)), theta, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_pure_black_and_white_come_back_within_half_the_inset(dtype) -> None:
    x = torch.zeros(2, 1, 5, 4, dtype=dtype)
    x[1] = 1
    theta = Fourier(inset=0.02).encode(x)
    assert bool(theta.isfinite().all())
    assert float((Fourier(inset=0.02).decode(theta) - x).abs().max()) <= 0.01 + 1e-6


@SIZES
def test_the_transform_is_orthogonal_symmetric_and_its_own_inverse(shape) -> None:
    x, y = normals(shape), normals(shape, name="other")
    torch.testing.assert_close(hartley(hartley(x)), x)
    torch.testing.assert_close((hartley(x) * y).sum(), (x * hartley(y)).sum())
    torch.testing.assert_close(hartley(x).square().sum(), x.square().sum())


@SIZES
def test_the_transform_is_a_sum_of_waves(shape) -> None:
    h, w = shape[1:]
    x = normals(shape, n=1)
    u, v = h // 2, w - 1
    angle = 2 * math.pi * (u * torch.arange(h)[:, None] / h + v * torch.arange(w) / w)
    wave = (angle.double().cos() + angle.double().sin()) / math.sqrt(h * w)
    torch.testing.assert_close(
        hartley(x)[..., u, v], (x * wave).sum(dim=(-2, -1)), rtol=1e-5, atol=1e-5
    )


@pytest.mark.parametrize("side", [8, 15, 64])
@pytest.mark.parametrize("decay", [0.0, 1.0])
def test_normal_variables_give_logits_of_unit_variance_at_any_size(side, decay) -> None:
    theta = normals((1, side, side), n=300)
    logits = torch.logit(Fourier(decay).decode(theta))
    assert float(logits.square().mean()) == pytest.approx(1, rel=0.05 if decay == 0 else 0.15)


def test_low_frequencies_weigh_more_by_the_power_of_the_frequency() -> None:
    """The logits' spectrum of unit variables: (f / f')^-decay apart."""
    for decay in (1.0, 2.0):
        theta = torch.zeros(2, 1, 16, 16, dtype=torch.float64)
        theta[0, 0, 0, 2], theta[1, 0, 0, 6] = 1e-3, 1e-3
        low, high = torch.logit(Fourier(decay).decode(theta)).flatten(1).norm(dim=1)
        assert float(low / high) == pytest.approx(3**decay, rel=1e-6)


def test_the_covariance_of_decoded_colours_is_the_one_measured() -> None:
    base = normals((3, 12, 12), n=40, name="colour") * 0.1
    mix = torch.tensor([[1.0, 0.5, 0.2], [0.0, 0.7, 0.1], [0.0, 0.0, 0.3]], dtype=torch.float64)
    x = (0.5 + torch.einsum("dc,nchw->ndhw", mix, base)).clamp(0, 1)
    root = torch.tensor(color_root(x), dtype=torch.float64)
    torch.testing.assert_close(root, root.T)
    assert float((root @ root.T).trace()) / 3 == pytest.approx(1)
    pixels = x.movedim(1, 0).flatten(1)
    covariance = torch.cov(pixels, correction=0)
    scale = 3 / covariance.trace()
    torch.testing.assert_close(root @ root.T, covariance * scale)


def test_grey_images_of_three_channels_still_have_an_inverse() -> None:
    grey = images((1, 9, 8)).expand(-1, 3, -1, -1)
    waves = Fourier(colors=color_root(grey), inset=1e-6)
    torch.testing.assert_close(waves.decode(waves.encode(grey)), grey, rtol=0, atol=1e-5)


@pytest.mark.parametrize("shape", [(1, 5, 7), (3, 4, 4)], ids=str)
def test_a_solve_in_waves_reaches_the_image_and_stays_in_the_box(shape) -> None:
    goal, start = (0.2 + 0.6 * images(shape, name=name) for name in ("goal", "start"))
    colors = COLORS if shape[0] == 3 else None
    solver = Solver(Everywhere(), Adam(0.1, schedule="cosine"), 200, Fourier(colors=colors))
    found = solver.minimise(Bowl(), start, {"goal": goal}, keys=random.row_keys(4))
    assert float(found.value.max()) < 1e-3 * float(goal[0].numel())
    assert Box().violation(found.x, start).tolist() == [0] * 4
    part = solver.minimise(Bowl(), start[1:3], {"goal": goal[1:3]}, keys=random.row_keys(4)[1:3])
    torch.testing.assert_close(part.x, found.x[1:3], rtol=0, atol=1e-9)


def test_a_step_against_a_noisy_gradient_is_smoother_than_one_in_pixels() -> None:
    """What the parameterisation is for: neighbouring pixels move together."""
    grey, goal = torch.full((4, 1, 16, 16), 0.5, dtype=torch.float64), images((1, 16, 16))
    rule = Steepest(L2(), 0.1)
    solvers = Solver(Everywhere(), rule, 1, Fourier(), Last()), Solver(Box(), rule, 1, keep=Last())
    rough: list[float] = []
    for solver in solvers:
        moved = solver.minimise(Bowl(), grey, {"goal": goal}, keys=random.row_keys(4)).x - grey
        rough.append(float(moved.diff(dim=-1).norm() / moved.norm()))
    assert rough[0] < 0.5 * rough[1]


def test_it_prints_compares_and_refuses_what_has_no_inverse() -> None:
    assert Fourier(1.0, COLORS) == Fourier(1.0, COLORS)
    assert "decay=1.0" in repr(Fourier())
    with pytest.raises(ValueError, match=r"`decay` must be a finite number of at least 0; got -1"):
        Fourier(-1.0)
    with pytest.raises(ValueError, match=r"`inset` must lie in \[1e-6, 0.5\); got 0.5"):
        Fourier(inset=0.5)
    with pytest.raises(ValueError, match=r"`colors` must be square.*rows of \[2, 1\] entries"):
        Fourier(colors=((1.0, 0.0), (1.0,)))
    with pytest.raises(ValueError, match=r"`colors` must be finite and have an inverse"):
        Fourier(colors=((1.0, 1.0), (1.0, 1.0)))
    with pytest.raises(ValueError, match=r"`colors` must be of 1 channels.*got 3 channels"):
        Fourier(colors=COLORS).decode(torch.zeros(1, 1, 4, 4))
    with pytest.raises(ValueError, match=r"`within` must be Everywhere\(\)"):
        Solver(Box(), Adam(0.1), 1, Fourier())
    with pytest.raises(ValueError, match=r"`images` must differ in colour from pixel to pixel"):
        color_root(torch.full((2, 3, 4, 4), 0.3))
