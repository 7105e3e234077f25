"""Inversion of images at any layer, against inverses that are known."""

import pytest
import torch
from torch import nn

from nets import linear, small_net
from notbugs.models import build, wrap
from notbugs.representations import (
    first_images,
    inversion,
    invert_images,
    layer_of,
    lbfgs_inversion,
)
from representations.closed import images, quadratic


@pytest.mark.parametrize("start", ["noise", "grey", "uniform"])
def test_a_linear_layer_of_full_rank_gives_the_image_back(start) -> None:
    model, x = linear(classes=40, side=4).double(), images(3, (1, 4, 4))
    found = invert_images(model, x, layer="1", start=start)
    assert float(found.relative_error.max()) < 1e-5
    assert float(found.distance.max()) < 1e-3
    assert bool((found.start_distance > 0.1).all())


def test_a_linear_layer_of_low_rank_moves_the_start_only_along_its_rows() -> None:
    """The nearest image with that embedding: start + A^+ A (x - start), inside the box."""
    model, x = linear(classes=3, side=4).double(), 0.4 + 0.2 * images(3, (1, 4, 4))
    first = 0.4 + 0.2 * images(3, (1, 4, 4), "start")
    found = invert_images(model, x, layer="1", start=first)
    a = model.body.layer.weight.detach()
    expected = first + ((x - first).flatten(1) @ (torch.linalg.pinv(a) @ a).T).reshape(x.shape)
    torch.testing.assert_close(found.x, expected, rtol=0, atol=1e-4)


@pytest.mark.parametrize("shape", [(3, 5, 4), (1, 7, 7), (5, 1, 3)], ids=str)
def test_a_quadratic_layer_has_the_inverse_on_the_starts_side_of_the_peak(shape) -> None:
    model = quadratic(shape)
    gap = 0.02 + 0.15 * images(4, shape, "gap")
    x, mirrored = model.peaks + gap, model.peaks - gap
    above = invert_images(model, x, layer="bowls", start=model.peaks + 0.5 * gap)
    below = invert_images(model, x, layer="bowls", start=model.peaks - 0.5 * gap)
    torch.testing.assert_close(above.x, x, rtol=0, atol=2e-3)
    torch.testing.assert_close(below.x, mirrored, rtol=0, atol=2e-3)
    assert float(below.relative_error.max()) < 1e-4


def test_it_works_at_every_layer_of_a_network_and_leaves_it_as_it_was() -> None:
    model, x, _ = small_net(5, shape=(3, 9, 7))
    model.train()
    names = [n for n, layer in model.body.named_modules() if n and not list(layer.children())]
    for name in (None, *names):
        found = invert_images(model, x, layer=name, solver=lbfgs_inversion(8), batch_size=2)
        assert bool((found.relative_error <= found.start_error * (1 + 1e-5)).all()), name
        assert found.x.shape == x.shape
    for module in model.modules():
        assert module.training
        assert not module._forward_hooks
    assert all(p.requires_grad and p.grad is None for p in model.parameters())


def test_batches_do_not_matter_and_seeds_do() -> None:
    model, x, _ = small_net(5)
    model.double()
    x = x.double()
    whole = invert_images(model, x, solver=lbfgs_inversion(6))
    parts = invert_images(model, x, solver=lbfgs_inversion(6), batch_size=2)
    torch.testing.assert_close(parts.x, whole.x, rtol=0, atol=1e-8)
    other = invert_images(model, x, solver=lbfgs_inversion(6), seed=1)
    assert not torch.equal(other.start, whole.start)


def test_the_default_gets_closer_in_a_quarter_of_the_papers_steps() -> None:
    model, x, _ = small_net(16)
    fast = invert_images(model, x, solver=lbfgs_inversion(50))
    slow = invert_images(model, x, solver=inversion(200, 0.1))
    assert float(fast.relative_error.median()) < float(slow.relative_error.median())


def test_a_module_without_an_embedding_is_read_at_a_named_layer() -> None:
    net = nn.Sequential(nn.Flatten(), nn.Linear(12, 12), nn.Tanh()).double()
    x = images(2, (3, 2, 2))
    found = invert_images(net, x, layer="1")
    assert float(found.relative_error.max()) < 1e-3
    with pytest.raises(ValueError, match=r"`layer` must be named, for this model has no embedding"):
        invert_images(net, x)
    with pytest.raises(ValueError, match=r"Unknown layer '3'"):
        invert_images(net, x, layer="3")
    with pytest.raises(TypeError, match=r"model"):
        layer_of(lambda x: x)

    class Idle(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.used, self.spare = nn.Flatten(), nn.Linear(1, 1)

        def forward(self, x):
            return self.used(x)

    with pytest.raises(ValueError, match=r"`layer` must be one that runs .*'spare'"):
        invert_images(Idle().double(), x, layer="spare")


def test_bad_input_is_explained() -> None:
    model, x, _ = small_net(4)
    with pytest.raises(ValueError, match=r"`x` must have shape \(n, 1, 8, 8\)"):
        invert_images(model, x[:, :, :5])
    with pytest.raises(ValueError, match=r"`targets` must lie in \[0, 1\]"):
        invert_images(model, x + 2)
    with pytest.raises(ValueError, match=r"Unknown start 'gray'. Did you mean 'grey'"):
        invert_images(model, x, start="gray")
    with pytest.raises(ValueError, match=r"`start` must be 1 or 4 images of shape \(1, 8, 8\)"):
        invert_images(model, x, start=x[:3])
    with pytest.raises(ValueError, match=r"`start` must be 1 or 4 images of shape \(1, 8, 8\)"):
        invert_images(model, x, start=x[:, :, :5])
    with pytest.raises(ValueError, match=r"`batch_size` must be at least 1; got 0"):
        invert_images(model, x, batch_size=0)
    with pytest.raises(ValueError, match=r"`steps` must be at least 1; got 0"):
        lbfgs_inversion(0)
    with pytest.raises(ValueError, match=r"`start` must be images, for this model does not say"):
        first_images("grey", 2, nn.Identity(), 0)


def test_starts_are_what_they_say() -> None:
    model = build("linear", shape=(3, 20, 30), classes=2, seed=0)
    noise = first_images("noise", 4, model, 0)
    assert noise.shape == (4, 3, 20, 30)
    assert float(noise.mean()) == pytest.approx(0.5, abs=0.005)
    assert float(noise.std()) == pytest.approx(0.05, rel=0.05)
    assert float(first_images("grey", 2, model, 0).std()) == 0
    one = images(1, (3, 20, 30), dtype=torch.float32)
    assert torch.equal(first_images(one, 3, model, 0), one.expand(3, -1, -1, -1))


def test_an_embedding_named_by_wrap_is_the_default_layer() -> None:
    body = nn.Sequential(nn.Flatten(), nn.Linear(16, 20), nn.Tanh(), nn.Linear(20, 3))
    model, x = wrap(body, shape=(1, 4, 4), classes=3, embedding="1"), images(2, (1, 4, 4)).float()
    named = invert_images(model, x, layer="1")
    assert torch.equal(invert_images(model, x).x, named.x)
