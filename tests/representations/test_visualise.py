"""Maximisers that are known: corners of the box, rays in a ball, peaks of a bowl."""

import pytest
import torch

from nets import linear, small_net
from notbugs.engine import L2, BallInBox, Jitter, LowestValue, Solver, Steepest, robust_view
from notbugs.representations import (
    Priors,
    fourier_solver,
    most_activating,
    pixel_solver,
    visualise,
    visualise_directions,
    visualise_layer,
)
from representations.closed import Squares, images, quadratic


def test_a_linear_units_maximiser_is_the_corner_of_its_weights_signs() -> None:
    model = linear(classes=4, side=4).double()
    found = visualise(model, layer="1", solver=pixel_solver(5, 1000.0))
    weights = model.body.layer.weight.detach()
    torch.testing.assert_close(found.x.flatten(1), (weights > 0).to(found.x), rtol=0, atol=1e-9)
    torch.testing.assert_close(found.activation, weights.clamp(min=0).sum(dim=1))
    assert found.units.tolist() == [0, 1, 2, 3]
    assert bool((found.activation > found.before).all())


def test_a_linear_units_maximiser_in_a_ball_lies_along_its_weights() -> None:
    model = linear(classes=4, side=4).double()
    ball = Solver(BallInBox(L2(), 0.2), Steepest(L2(), 0.05), 20, keep=LowestValue())
    found = visualise(model, [2, 0], layer="1", start="grey", solver=ball)
    weights = model.body.layer.weight.detach()[[2, 0]]
    expected = 0.5 + 0.2 * weights / weights.norm(dim=1, keepdim=True)
    torch.testing.assert_close(found.x.flatten(1), expected)


@pytest.mark.parametrize(
    "solver", [pixel_solver(60, 0.3, schedule="cosine"), fourier_solver(150, 0.05)]
)
def test_a_bowls_maximiser_is_its_peak_where_the_unit_looks(solver) -> None:
    model = quadratic((3, 5, 4))
    start = images(1, (3, 5, 4), "start")
    chosen = [0, 17, 59]
    found = visualise(model, chosen, layer="bowls", start=start, solver=solver)
    for row, unit in enumerate(chosen):
        peak = float(model.peaks.flatten()[unit])
        assert float(found.x[row].flatten()[unit]) == pytest.approx(peak, abs=0.02)
    assert float(found.activation.min()) > 0.999


def test_a_channels_mean_is_maximised_and_its_units_are_channels() -> None:
    weights = torch.tensor([[1.0, -1.0, 0.5], [-1.0, 2.0, 0.0]], dtype=torch.float64)
    start = images(1, (3, 4, 6), "start")
    model, solver = Squares(weights), pixel_solver(100, 0.5)
    found = visualise(model, layer="mix", kind="channel", start=start, solver=solver)
    assert found.activation.tolist() == pytest.approx([1.5, 2.0])
    assert len(visualise(model, layer="mix", start=start, solver=pixel_solver(1)).x) == 2 * 4 * 6


def test_directions_are_of_the_layer_or_of_its_channels() -> None:
    weights = torch.tensor([[1.0, -1.0, 0.5], [-1.0, 2.0, 0.0]], dtype=torch.float64)
    model, start = Squares(weights), images(1, (3, 2, 2), "start")
    mix = torch.tensor([[1.0, 1.0], [0.0, -1.0]], dtype=torch.float64)
    solver = pixel_solver(100, 0.5)
    found = visualise_directions(model, mix, layer="mix", start=start, solver=solver)
    assert found.activation.tolist() == pytest.approx([1.5, 1.0])  # <(0, 1, .5)>, <(1, -2, 0)>
    whole = torch.zeros(1, 8, dtype=torch.float64)
    whole[0, 5] = 1  # channel 1, second place
    one = visualise_directions(model, whole, layer="mix", start=start, solver=solver)
    assert one.activation.tolist() == pytest.approx([2.0])
    torch.testing.assert_close(one.x[0, :, 0, 0], start[0, :, 0, 0])  # nobody looked there
    with pytest.raises(ValueError, match=r"`direction` must have 8 entries a row, or 2, one a"):
        visualise_directions(model, torch.ones(1, 3), layer="mix", start=start)
    with pytest.raises(ValueError, match=r"`directions` must be finite, of shape \[k, d\]"):
        visualise_directions(model, torch.ones(3), layer="mix", start=start)


def test_a_layers_strength_grows_from_each_image() -> None:
    model, x, _ = small_net(3, shape=(3, 9, 7))
    found = visualise_layer(model, x, layer="trunk.0", solver=pixel_solver(5, 0.2))
    assert bool((found.activation > found.before).all())
    assert found.units is None
    assert torch.equal(found.start, x)


def test_moved_images_are_looked_at_on_the_way_and_the_image_itself_in_the_end() -> None:
    model, _, _ = small_net(1)
    wobbly = visualise(
        model,
        [0, 1, 2],
        solver=pixel_solver(8, 0.2),
        priors=Priors(transform=robust_view(8)),
        batch_size=2,
    )
    whole = visualise(
        model, [0, 1, 2], solver=pixel_solver(8, 0.2), priors=Priors(transform=robust_view(8))
    )
    torch.testing.assert_close(wobbly.x, whole.x, rtol=0, atol=1e-5)
    with torch.no_grad():
        said = model.embed(whole.x)[torch.arange(3), torch.arange(3)]
    torch.testing.assert_close(whole.activation, said, rtol=0, atol=1e-5)
    still = visualise(model, [0], solver=pixel_solver(8, 0.2), priors=Priors(transform=Jitter(0)))
    plain = visualise(model, [0], solver=pixel_solver(8, 0.2))
    torch.testing.assert_close(still.x, plain.x)


def test_waves_stay_in_the_box_at_odd_sizes_and_any_number_of_channels() -> None:
    model, _, _ = small_net(1, shape=(2, 7, 9))
    found = visualise(model, [1], solver=fourier_solver(5, 0.1))
    assert found.x.shape == (1, 2, 7, 9)
    assert 0 <= float(found.x.min()) <= float(found.x.max()) <= 1


def test_the_images_that_activate_most_and_least() -> None:
    model, x = linear(classes=4, side=4).double(), images(30, (1, 4, 4))
    found = most_activating(model, x, [3, 1], layer="1", count=5, batch_size=7)
    table = (x.flatten(1) @ model.body.layer.weight.detach().T)[:, [3, 1]].T
    torch.testing.assert_close(found.highest_values, table.sort(descending=True).values[:, :5])
    torch.testing.assert_close(found.lowest_values, table.sort().values[:, :5])
    torch.testing.assert_close(table.gather(1, found.highest), found.highest_values)
    torch.testing.assert_close(table.gather(1, found.lowest), found.lowest_values)
    assert most_activating(model, x, layer="1").units.tolist() == [0, 1, 2, 3]
    weights = torch.tensor([[1.0, -1.0, 0.5]], dtype=torch.float64)
    colours = images(9, (3, 4, 4))
    by_channel = most_activating(Squares(weights), colours, layer="mix", kind="channel", count=1)
    expected = (colours.mean(dim=(2, 3)) @ weights.T)[:, 0].argmax()
    assert int(by_channel.highest[0, 0]) == int(expected)


def test_bad_input_is_explained() -> None:
    model, x, _ = small_net(4)
    with pytest.raises(ValueError, match=r"`units` must lie in 0..7 for this layer; got 8"):
        visualise(model, [0, 8])
    with pytest.raises(ValueError, match=r"`units` must lie in 0..7 for this layer; got -1"):
        most_activating(model, x, [-1], count=2)
    with pytest.raises(ValueError, match=r"`units` must be a non-empty list of integers"):
        visualise(model, [])
    with pytest.raises(ValueError, match=r"Unknown kind 'chanel'. Did you mean 'channel'"):
        visualise(model, [0], kind="chanel")
    with pytest.raises(ValueError, match=r"Unknown kind 'chanel'. Did you mean 'channel'"):
        most_activating(model, x, kind="chanel", count=2)
    with pytest.raises(ValueError, match=r"Unknown embedding|Unknown layer 'conv9'"):
        visualise(model, [0], layer="conv9")
    with pytest.raises(ValueError, match=r"`count` must be at most 4, the number of images"):
        most_activating(model, x, [0], count=5)
    with pytest.raises(ValueError, match=r"`layer` must be named"):
        visualise(quadratic(), [0])
    with pytest.raises(ValueError, match=r"`start` must be images, for this model does not say"):
        visualise(quadratic(), [0], layer="bowls")
    with pytest.raises(ValueError, match=r"`start` must be 1 or 2 images of shape \(1, 8, 8\)"):
        visualise(model, [0, 1], start=x[:3])
