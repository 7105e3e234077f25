"""Ways between images: even on linear maps, with ends that are the images themselves."""

import pytest
import torch

from nets import linear, small_net
from notbugs.representations import interpolate, lbfgs_inversion, path_of
from notbugs.representations.interpolate import unevenness
from representations.closed import images, quadratic


def test_through_a_linear_layer_the_mixture_of_pixels_is_the_answer() -> None:
    model = linear(classes=5, side=4).double()
    a, b = images(3, (1, 4, 4), "a"), images(3, (1, 4, 4), "b")
    found = interpolate(model, a, b, points=7, layer="1", batch_size=4)
    torch.testing.assert_close(found.through.frames, found.plain.frames, rtol=0, atol=1e-6)
    assert float(found.relative_error.max()) < 1e-6
    for path in (found.through, found.plain):
        assert path.frames.shape == (3, 7, 1, 4, 4)
        torch.testing.assert_close(path.pixel_unevenness, torch.ones(3).double())
        torch.testing.assert_close(path.representation_unevenness, torch.ones(3).double())
        torch.testing.assert_close(path.pixel_steps.sum(dim=1), (a - b).flatten(1).norm(dim=1))


def test_through_bowls_the_way_is_even_in_the_representation_and_known() -> None:
    """1 - (x - peak)^2 falls from the peak: x_i = peak + sqrt(s) (end - peak)."""
    model = quadratic((2, 3, 3))
    first = model.peaks[None].clone()
    last = first + 0.15
    found = interpolate(model, first, last, points=6, layer="bowls", solver=lbfgs_inversion(200))
    share = torch.linspace(0, 1, 6, dtype=torch.float64).sqrt().reshape(1, 6, 1, 1, 1)
    torch.testing.assert_close(
        found.through.frames, first[:, None] + 0.15 * share, atol=2e-3, rtol=0
    )
    assert float(found.through.representation_unevenness) == pytest.approx(1, abs=0.02)
    assert float(found.plain.representation_unevenness) == pytest.approx(9 / 5, abs=0.01)


def test_ends_are_the_images_and_a_network_is_left_as_it_was() -> None:
    model, x, _ = small_net(4, shape=(3, 9, 7))
    found = interpolate(model, x[:2], x[2:], points=4, solver=lbfgs_inversion(10))
    assert torch.equal(found.through.frames[:, 0], x[:2])
    assert torch.equal(found.through.frames[:, -1], x[2:])
    assert found.relative_error.shape == (2, 4)
    assert float(found.relative_error[:, [0, -1]].max()) < 1e-5
    assert all(p.requires_grad and p.grad is None for p in model.parameters())


def test_unevenness_is_the_longest_step_over_the_mean() -> None:
    assert unevenness(torch.tensor([[1.0, 1.0, 4.0], [0.0, 0.0, 0.0]])).tolist() == [2.0, 1.0]
    model = linear(classes=3, side=2)
    frames = torch.zeros(1, 3, 1, 2, 2)
    frames[0, 1:, 0, 0, 0] = 1.0
    path = path_of(model, frames, layer="1")
    assert path.pixel_steps.tolist() == [[1.0, 0.0]]
    expected = float(model.body.layer.weight[:, 0].detach().norm())
    assert path.representation_steps[0].tolist() == pytest.approx([expected, 0.0])


def test_bad_input_is_explained() -> None:
    model, x, _ = small_net(4)
    with pytest.raises(ValueError, match=r"`last` must have the shape of `first`, \(2, 1, 8, 8\)"):
        interpolate(model, x[:2], x[:1])
    with pytest.raises(ValueError, match=r"`points` must be at least 3; got 2"):
        interpolate(model, x[:2], x[2:], points=2)
    with pytest.raises(ValueError, match=r"`last` must lie in \[0, 1\]"):
        interpolate(model, x[:2], x[2:] - 1)
    with pytest.raises(ValueError, match=r"Unknown layer 'trunk.99'"):
        interpolate(model, x[:2], x[2:], layer="trunk.99")
