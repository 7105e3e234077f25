"""Visualisations of a fixed spectrum: opacities, canvases, dead units."""

from copy import deepcopy

import pytest
import torch
from torch import nn

from nets import linear, small_net
from notbugs.core import random
from notbugs.engine import (
    Adam,
    Draw,
    Everywhere,
    Pixels,
    RandomCrop,
    Solver,
    cropped_view,
    spectrum_of,
)
from notbugs.models import wrap
from notbugs.representations import (
    Priors,
    Unit,
    faded,
    fourier_solver,
    layer_of,
    maco_solver,
    opacity,
    pixel_solver,
    visualise,
    visualise_directions,
    visualise_layer,
)
from notbugs.representations.batches import values
from notbugs.representations.relaxed import Relaxed
from representations.closed import Squares, images, quadratic


def test_units_rise_and_magnitudes_stay() -> None:
    net, x, _ = small_net(5, shape=(3, 8, 8))
    model, spectrum = deepcopy(net).double(), spectrum_of(x)
    found = visualise(model, [0, 3, 5], solver=maco_solver(20, spectrum=spectrum))
    assert bool((found.activation > found.before).all())
    unmixed = torch.linalg.inv(torch.tensor(spectrum.colors, dtype=torch.float64))
    for shown in (found.x, found.start):
        waves = torch.fft.fft2(
            torch.einsum("dc,nchw->ndhw", unmixed, torch.logit(shown)), norm="ortho"
        )
        expected = spectrum.magnitudes(shown).abs().expand_as(shown)
        torch.testing.assert_close(waves.abs(), expected, rtol=0, atol=1e-6)
    assert not bool(found.dead.any())
    with pytest.raises(ValueError, match=r"`start` must vary from pixel to pixel.*row 0"):
        visualise(model, [0], start="grey", solver=maco_solver(3))


def test_rows_do_not_depend_on_the_batch_and_repeat_bit_by_bit() -> None:
    model, x, _ = small_net(2, shape=(3, 8, 8))
    options = {
        "solver": maco_solver(10, spectrum=spectrum_of(x)),
        "priors": Priors(transform=cropped_view((8, 8), 0.3, 0.9), samples=2),
    }
    whole = visualise(model, [0, 1, 2, 3], **options)
    again = visualise(model, [0, 1, 2, 3], **options)
    assert torch.equal(whole.x, again.x)
    assert torch.equal(whole.attribution, again.attribution)
    parts = visualise(model, [0, 1, 2, 3], batch_size=1, **options)
    torch.testing.assert_close(parts.x, whole.x, rtol=0, atol=1e-5)
    torch.testing.assert_close(parts.attribution, whole.attribution, rtol=1e-3, atol=1e-5)
    few = visualise(model, [0, 1], **options)
    torch.testing.assert_close(few.x, whole.x[:2], rtol=0, atol=1e-5)


def test_attributions_are_the_gradients_of_all_steps() -> None:
    """Of a linear unit: its weights, once a step, without the penalty's gradient."""
    model = linear(classes=4, side=4).double()
    weights = model.body.layer.weight.detach().abs().reshape(4, 4, 4)
    priors = Priors(total_variation=0.3)
    for solver in (pixel_solver(7, 1e-3), fourier_solver(7, 1e-3), maco_solver(7, 1e-3)):
        found = visualise(model, layer="1", solver=solver, priors=priors, batch_size=3)
        torch.testing.assert_close(found.attribution, 7 * weights)
        assert found.solution.backwards == 8 * 4  # one more for looking at the start


def test_opacity_is_zero_where_no_gradient_was() -> None:
    model = quadratic((3, 5, 4))
    start = images(1, (3, 5, 4), "start")
    found = visualise(model, [0, 7], layer="bowls", start=start, solver=pixel_solver(5, 0.01))
    alpha = opacity(found.attribution)
    seen = torch.zeros(2, 1, 5, 4, dtype=torch.float64)
    seen[0, 0, 0, 0], seen[1, 0, 1, 3] = 1, 1
    torch.testing.assert_close(alpha, seen)
    shown = faded(found.x, alpha, 0.25)
    torch.testing.assert_close(shown[0, :, 0, 0], found.x[0, :, 0, 0])
    torch.testing.assert_close(shown[0, :, 1:], torch.full((3, 4, 4), 0.25, dtype=torch.float64))


def test_opacity_is_relative_to_a_percentile_of_the_row() -> None:
    rows = torch.stack([torch.arange(25.0), torch.zeros(25), 10 * torch.arange(25.0)])
    alpha = opacity(rows.reshape(3, 5, 5), 50)
    assert alpha.shape == (3, 1, 5, 5)
    torch.testing.assert_close(alpha[0].flatten(), (torch.arange(25) / 12.0).clamp(max=1))
    torch.testing.assert_close(alpha[2], alpha[0])
    assert alpha[1].tolist() == torch.zeros(1, 5, 5).tolist()
    with pytest.raises(ValueError, match=r"`percentile` must lie in \(0, 100\]; got 0"):
        opacity(rows.reshape(3, 5, 5), 0)
    with pytest.raises(ValueError, match=r"`attribution` must be at least 0"):
        opacity(-rows.reshape(3, 5, 5))


def test_a_canvas_is_seen_whole_or_in_crops() -> None:
    model, _, _ = small_net(3, shape=(3, 8, 8))
    view = Priors(transform=cropped_view((8, 8), 0.3, 0.6, 0.01))
    found = visualise(model, [0, 2], canvas=(20, 24), solver=maco_solver(5), priors=view)
    assert found.x.shape == (2, 3, 20, 24)
    assert found.attribution.shape == (2, 20, 24)
    resize = RandomCrop(1.0, 1.0, (8, 8))
    small = resize(found.x, random.row_keys(2))
    with torch.no_grad():
        said = model.embed(small)[torch.arange(2), torch.tensor([0, 2])]
    torch.testing.assert_close(found.activation, said, rtol=0, atol=1e-5)
    whole = visualise(model, [0, 2], canvas=(20, 24), solver=pixel_solver(20, 0.2))
    assert bool((whole.activation > whole.before).all())
    directions = visualise_directions(
        model, torch.eye(2, 8), canvas=(10, 9), solver=pixel_solver(2)
    )
    assert directions.x.shape == (2, 3, 10, 9)
    same = visualise(model, [0, 2], canvas=(8, 8), solver=pixel_solver(5, 0.2))
    own = visualise(model, [0, 2], solver=pixel_solver(5, 0.2))
    torch.testing.assert_close(same.x, own.x)
    with pytest.raises(ValueError, match=r"`canvas` must be left out, for this model does not say"):
        visualise(quadratic(), [0], layer="bowls", canvas=(9, 9), start=images(1, (3, 5, 4)))
    with pytest.raises(ValueError, match=r"`start` must be 1 or 1 images of shape \(3, 9, 9\)"):
        visualise(model, [0], canvas=(9, 9), start=torch.rand(1, 3, 8, 8))


class Gate(nn.Module):
    """Layer "gate": relu(<w, x> - bound), of which unit i opens where the image is bright."""

    def __init__(self, bounds, *, function) -> None:
        super().__init__()
        self.layer = nn.Linear(16, len(bounds))
        self.gate = nn.Identity()
        self.function = function
        with torch.no_grad():
            self.layer.weight.fill_(1.0)
            self.layer.bias.copy_(-torch.tensor(bounds))

    def forward(self, x):
        return self.gate(self.function(self.layer(x.flatten(1))))


RELUS = {
    "module": nn.ReLU(),
    "inplace": nn.ReLU(inplace=True),
    "six": nn.ReLU6(),
    "function": nn.functional.relu,
    "torch": torch.relu,
    "method": lambda x: x.relu(),
}


@pytest.mark.parametrize("relu", RELUS.values(), ids=list(RELUS))
def test_units_dead_at_the_start_are_woken_and_those_beyond_reach_reported(relu) -> None:
    """Sums of 16 pixels from 8: unit 0 is open, 1 opens at 10, 2 can never."""
    net = wrap(Gate([5.0, 10.0, 17.0], function=relu), shape=(1, 4, 4), classes=3, embedding="gate")
    options = {"solver": pixel_solver(20, 0.2), "start": "grey"}
    asleep = visualise(net, **options, relaxed_steps=0)
    assert asleep.dead.tolist() == [False, True, True]
    assert asleep.activation.tolist()[1:] == [0, 0]
    awake = visualise(net, **options)
    assert awake.dead.tolist() == [False, False, True]
    top = 6.0 if isinstance(relu, nn.ReLU6) else 11.0
    assert awake.activation.tolist() == pytest.approx([top, 6, 0], abs=1e-4)
    assert torch.equal(awake.x[2], awake.start[2])
    torch.testing.assert_close(awake.x[0], asleep.x[0])
    alone = visualise(net, [1], **options, batch_size=1)
    assert not bool(alone.dead.any())
    with pytest.raises(ValueError, match=r"`relaxed_steps` must be"):
        visualise(net, **options, relaxed_steps=-1)


def test_a_woken_row_does_not_depend_on_its_neighbours() -> None:
    net = wrap(
        Gate([2.0, 10.0, 10.5], function=nn.ReLU()), shape=(1, 4, 4), classes=3, embedding="gate"
    )
    solver = Solver(Everywhere(), Adam(0.05), 12, Pixels())
    options = {"solver": solver, "priors": Priors(transform=cropped_view((4, 4), 0.5, 1.0))}
    whole = visualise(net, **options)
    parts = visualise(net, **options, batch_size=1)
    torch.testing.assert_close(parts.x, whole.x, rtol=0, atol=1e-6)
    assert whole.dead.tolist() == parts.dead.tolist()


def test_relaxed_objectives_keep_their_values() -> None:
    model, x, _ = small_net(4)
    unit, context = Unit(layer_of(model)), {"unit": torch.arange(4)}
    torch.testing.assert_close(
        values(model, Relaxed(unit), x, context, 4), values(model, unit, x, context, 4)
    )
    seen = x.clone().requires_grad_()
    relaxed = Relaxed(unit)(seen, context, Draw(random.row_keys(4))).value
    torch.testing.assert_close(relaxed, unit(x, context, Draw(random.row_keys(4))).value)
    (grad,) = torch.autograd.grad(relaxed.sum(), seen)
    assert bool((grad.flatten(1).norm(dim=1) > 0).all())


def test_layers_have_attributions_too() -> None:
    weights = torch.tensor([[1.0, -1.0, 0.5]], dtype=torch.float64)
    found = visualise_layer(
        Squares(weights), images(2, (3, 4, 4)), layer="mix", solver=pixel_solver(3, 0.1)
    )
    assert found.attribution.shape == (2, 4, 4)
    assert float(found.attribution.min()) > 0
