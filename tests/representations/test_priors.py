"""Priors: what each penalises, and that a search with one is a search for both."""

import math

import pytest
import torch

from nets import linear, small_net
from notbugs.engine import L2, Draw, Jitter, LowestValue, Solver, Steepest, robust_view
from notbugs.engine.sets import Box
from notbugs.representations import (
    Denoised,
    FrequencyPenalty,
    Priors,
    TotalVariation,
    invert_images,
    latent_solver,
    lbfgs_inversion,
    pixel_solver,
    visualise,
)
from representations.closed import images

NO_DRAW = Draw(torch.zeros(2, dtype=torch.long))


def value(objective, x):
    return objective(x, None, NO_DRAW).value


def test_total_variation_is_the_mean_slope() -> None:
    ramp = torch.arange(5, dtype=torch.float64).mul(0.1).expand(1, 2, 3, 5)  # 0.1 a step across
    slope = math.sqrt(2) * 0.1  # of both channels together; none in the last column
    assert float(value(TotalVariation(), ramp)) == pytest.approx(slope * 4 / 5, rel=1e-2)
    assert float(value(TotalVariation(2.0), ramp)) == pytest.approx(slope**2 * 4 / 5)
    flat = torch.full((2, 3, 4, 4), 0.7, dtype=torch.float64, requires_grad=True)
    found = value(TotalVariation(), flat)
    assert found.tolist() == [0, 0]
    assert torch.autograd.grad(found.sum(), flat)[0].isfinite().all()
    with pytest.raises(ValueError, match=r"`power` must lie in \[1, 2\]; got 3"):
        TotalVariation(3)


def test_fast_waves_weigh_by_their_frequency() -> None:
    """A wave of k cycles across w pixels has the frequency k / w; the corner's is 1 / sqrt(2)."""
    w, k = 8, 3
    wave = torch.cos(2 * math.pi * k * torch.arange(w, dtype=torch.float64) / w)
    x = 0.5 + 0.4 * wave.expand(2, 1, w, w)
    expected = 0.4**2 / 2 * (k / w * math.sqrt(2)) ** 2
    assert value(FrequencyPenalty(), x).tolist() == pytest.approx([expected, expected])
    assert value(FrequencyPenalty(), torch.ones(2, 3, 5, 6)).tolist() == [0, 0]
    with pytest.raises(ValueError, match="`power` must be"):
        FrequencyPenalty(0)


def test_denoised_points_to_where_the_denoiser_would_have_it() -> None:
    x = images(2, (1, 4, 4), "x").requires_grad_()

    def to_grey(noisy):
        return 0.5 * noisy + 0.25

    found = value(Denoised(to_grey), x)
    gradient = torch.autograd.grad(found.sum(), x)[0]
    torch.testing.assert_close(gradient, (x - to_grey(x)).detach() / 16)
    torch.testing.assert_close(found, (0.5 * x - 0.25).square().flatten(1).mean(dim=1) / 2)
    with pytest.raises(
        ValueError, match=r"`denoiser` must return its input.s shape, \(2, 1, 4, 4\)"
    ):
        value(Denoised(lambda noisy: noisy[:1]), x)


def test_a_penalised_maximiser_is_known() -> None:
    """<w, x> - (penalty / 2n) |F x|^2: the maximiser solves a linear system in each wave."""
    model = linear(classes=2, side=4).double()
    weights = model.body.layer.weight.detach()[:1].reshape(1, 1, 4, 4)
    weights = weights - weights.mean()
    with torch.no_grad():
        model.body.layer.weight.copy_(weights.reshape(1, 16).expand(2, 16))
    slow = 150.0
    down = torch.fft.fftfreq(4, dtype=torch.float64)
    share = torch.hypot(down[:, None], down) * math.sqrt(2)
    waves = torch.fft.fft2(weights) / (2 * slow / 16 * share.square()).clamp(min=1e-9)
    waves[..., 0, 0] = 0
    expected = 0.5 + torch.fft.ifft2(waves).real
    assert 0 < float(expected.min()) < float(expected.max()) < 1  # the box has no say
    solver = Solver(Box(), Steepest(L2(), 0.3, "cosine"), 400, keep=LowestValue())
    found = visualise(
        model, [0], layer="1", start="grey", solver=solver, priors=Priors(frequency_penalty=slow)
    )
    torch.testing.assert_close(found.x, expected.to(found.x), rtol=0, atol=2e-3)


@pytest.mark.parametrize(
    ("priors", "measured"),
    [
        (Priors(total_variation=20.0), TotalVariation()),
        (Priors(frequency_penalty=50.0), FrequencyPenalty()),
        (
            Priors(
                denoiser=lambda x: x.mean(dim=(2, 3), keepdim=True).expand_as(x), denoising=50.0
            ),
            TotalVariation(),
        ),
    ],
    ids=["total_variation", "frequency_penalty", "denoiser"],
)
def test_a_prior_changes_the_image_as_it_says_and_can_be_left_out(priors, measured) -> None:
    model, _, _ = small_net(1)
    plain = visualise(model, [0, 1], solver=pixel_solver(30, 0.3))
    same = visualise(model, [0, 1], solver=pixel_solver(30, 0.3), priors=Priors())
    assert torch.equal(plain.x, same.x)
    smooth = visualise(model, [0, 1], solver=pixel_solver(30, 0.3), priors=priors)
    assert bool((value(measured, smooth.x) < value(measured, plain.x)).all())
    torch.testing.assert_close(
        smooth.activation, model.embed(smooth.x).detach()[[0, 1], [0, 1]]
    )  # the activation itself, without the prior's share


class Stretch(torch.nn.Module):
    """Codes of two numbers that say how bright the upper and the lower half are."""

    width = 2

    def __init__(self, shape=(1, 8, 8)) -> None:
        super().__init__()
        self.shape, self.scale = shape, torch.nn.Parameter(torch.ones(()))

    def decode(self, code):
        halves = torch.sigmoid(self.scale * code)[:, None, :, None]
        rows = halves.repeat_interleave(self.shape[1] // 2, dim=2)
        return rows.expand(len(code), *self.shape)


def test_a_generators_code_is_what_is_looked_for() -> None:
    model, net = linear(classes=2, side=8), Stretch()
    with torch.no_grad():
        model.body.layer.weight[:, :32] = 1
        model.body.layer.weight[:, 32:] = -1
    found = visualise(model, [0], layer="1", priors=Priors(generator=net))
    assert float(found.x[:, :, :4].min()) > 0.9
    assert float(found.x[:, :, 4:].max()) < 0.1
    assert net.scale.requires_grad  # held fixed only meanwhile
    assert net.scale.grad is None
    held = visualise(model, [0], layer="1", priors=Priors(generator=net, pull=100.0))
    assert float((held.x - 0.5).abs().max()) < float((found.x - 0.5).abs().max())
    target = net.decode(torch.tensor([[1.0, -2.0]])).detach()
    back = invert_images(model, target, layer="1", priors=Priors(generator=net))
    assert float(back.relative_error.max()) < 1e-2


def test_batches_do_not_matter_with_priors() -> None:
    model, _, _ = small_net(1)
    for priors in (
        Priors(generator=Stretch()),
        Priors(total_variation=1.0, transform=robust_view(8), samples=2),
    ):
        solver = latent_solver(5) if priors.generator else pixel_solver(5, 0.2)
        whole = visualise(model, [0, 1, 2], solver=solver, priors=priors)
        split = visualise(model, [0, 1, 2], solver=solver, priors=priors, batch_size=2)
        torch.testing.assert_close(split.x, whole.x, rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        (
            {"total_variation": -1.0},
            "`total_variation` must be a finite number of at least 0; got -1.0",
        ),
        ({"frequency_penalty": math.inf}, "`frequency_penalty` must be a finite"),
        ({"denoising": 1.0}, "`denoising` must be above 0 with a denoiser, and only then"),
        ({"denoiser": lambda x: x}, "`denoising` must be above 0 with a denoiser"),
        ({"pull": 1.0}, "`pull` must come with a generator"),
        ({"samples": 0}, "`samples`"),
    ],
)
def test_priors_that_would_do_nothing_are_refused(wrong, words) -> None:
    with pytest.raises(ValueError, match=words):
        Priors(**wrong)


def test_inversion_bears_random_moves() -> None:
    model, x, _ = small_net(4)
    found = invert_images(model, x, priors=Priors(transform=Jitter(1)))
    assert bool((found.relative_error < found.start_error).all())
    with pytest.raises(ValueError, match=r"`rule` must support values that are drawn again"):
        invert_images(model, x, priors=Priors(transform=Jitter(1)), solver=lbfgs_inversion(3))


def test_what_does_not_fit_a_generator_is_refused() -> None:
    model, _, _ = small_net(1)
    with pytest.raises(
        ValueError, match=r"`solver` must be unconstrained .* Use `latent_solver\(\)`"
    ):
        visualise(model, [0], solver=pixel_solver(2), priors=Priors(generator=Stretch()))
    with pytest.raises(ValueError, match=r"`generator` must make images of shape \(1, 8, 8\)"):
        visualise(model, [0], priors=Priors(generator=Stretch((1, 4, 4))))


def test_names() -> None:
    everything = Priors(
        1.0, 1.0, lambda x: x, 1.0, transform=Jitter(1), generator=Stretch(), pull=1.0
    )
    assert everything.names == (
        "total variation",
        "frequency weights",
        "denoiser",
        "random moves",
        "generator",
    )
    assert Priors().names == ()
