"""Accentuation, whose trade between unit and anchor is known; and the measures of pictures."""

import pytest
import torch

from nets import linear, small_net
from notbugs.engine import robust_view
from notbugs.models.generator import ImageGenerator
from notbugs.representations import (
    Priors,
    accentuate,
    assess_visualisations,
    fourier_solver,
    most_activating,
    pixel_solver,
)
from representations.closed import images


def test_the_unit_rises_and_the_anchor_holds() -> None:
    model, x, _ = small_net(4, shape=(3, 8, 8))
    solver = pixel_solver(30, 0.05)
    free = accentuate(model, x, 3, 0.0, solver=solver)
    price = float(((free.after - free.before) / free.moved).mean())
    held = accentuate(model, x, 3, 0.8 * price, solver=solver)
    fixed = accentuate(model, x, 3, 100 * price, solver=solver)
    assert bool((free.after > free.before).all())
    assert bool((held.after > held.before).all())
    assert bool((free.moved > held.moved).all())
    assert bool((held.moved > fixed.moved).all())
    with torch.no_grad():
        torch.testing.assert_close(held.before, model.embed(x)[:, 3])
        torch.testing.assert_close(held.after, model.embed(held.x)[:, 3], rtol=0, atol=1e-5)
        a, b = model.embed(x), model.embed(held.x)
    torch.testing.assert_close(held.moved, (a - b).norm(dim=1) / a.norm(dim=1))


def test_a_linear_unit_costs_what_it_changes() -> None:
    """<w, x> - weight |x - x0| / |x0|, in pixels: worth it where |w| exceeds weight / |x0|."""
    model = linear(classes=4, side=4).double()
    x = 0.3 + 0.4 * images(3, (1, 4, 4))
    weights = model.body.layer.weight.detach()[1].norm()
    worth = float(weights * x.flatten(1).norm(dim=1).min())
    dear = float(weights * x.flatten(1).norm(dim=1).max())
    options = {"layer": "1", "anchor": "0", "solver": pixel_solver(20, 0.01)}
    assert bool((accentuate(model, x, 1, 0.9 * worth, **options).moved > 0.05).all())
    torch.testing.assert_close(accentuate(model, x, 1, 1.1 * dear, **options).x, x)
    gradient = model.body.layer.weight.detach()[1].abs().reshape(4, 4)
    found = accentuate(model, x, 1, 0.9 * worth, **options)
    torch.testing.assert_close(found.attribution, 20 * gradient.expand(3, -1, -1))


def test_rows_are_independent_with_moves_and_their_own_units() -> None:
    model, x, _ = small_net(4, shape=(3, 8, 8))
    options = {
        "layer": "logits",
        "anchor": "trunk.0",
        "solver": fourier_solver(6),
        "priors": Priors(transform=robust_view(8), total_variation=0.1),
    }
    units = torch.tensor([0, 2, 1, 2])
    whole = accentuate(model, x, units, 0.5, **options)
    parts = accentuate(model, x, units, 0.5, batch_size=1, **options)
    torch.testing.assert_close(parts.x, whole.x, rtol=0, atol=1e-5)
    assert torch.equal(accentuate(model, x, units, 0.5, **options).x, whole.x)


def test_bad_accentuations_are_explained() -> None:
    model, x, _ = small_net(2, shape=(1, 8, 8))
    with pytest.raises(ValueError, match=r"`units` must lie in 0..7"):
        accentuate(model, x, 8, 1.0)
    with pytest.raises(ValueError, match=r"`weight` must be a finite number of at least 0; got -1"):
        accentuate(model, x, 0, -1.0)
    with pytest.raises(ValueError, match=r"Unknown layer 'nowhere'|nowhere"):
        accentuate(model, x, 0, 1.0, anchor="nowhere")
    generator = ImageGenerator((1, 8, 8), codes=3, seed=0)
    with pytest.raises(ValueError, match=r"`priors` must have no generator"):
        accentuate(model, x, 0, 1.0, priors=Priors(generator=generator))


def test_assessments_are_activations_ranks_and_distances() -> None:
    model, x, _ = small_net(6, shape=(1, 8, 8))
    other, _, _ = small_net(6, shape=(1, 8, 8), seed=2)
    units = torch.tensor([1, 0, 2])
    found = assess_visualisations(
        model, x[:3], units, x, layer="logits", other=other, embed=lambda x: 2 * x, batch_size=2
    )
    with torch.no_grad():
        own, said = model(x), other(x[:3])
    torch.testing.assert_close(found.activation, own[torch.arange(3), units])
    top = most_activating(model, x, units, layer="logits", count=1).highest_values[:, 0]
    reached = found.activation[top > 0] / top[top > 0]
    torch.testing.assert_close(found.relative[top > 0], reached)
    assert bool(found.relative[top <= 0].isnan().all())
    order = said.argsort(dim=1, descending=True)
    assert found.rank.tolist() == [
        int((order[i] == u).nonzero()[0, 0]) + 1 for i, u in enumerate(units)
    ]
    assert found.distance.tolist() == [0, 0, 0]
    assert found.nearest.tolist() == [0, 1, 2]
    away = assess_visualisations(
        model, x[:1], [0], x, embed=lambda x: 2 * x, patches=x[3:], other=other, classes=[2]
    )
    expected = 2 * (x[3:] - x[:1]).flatten(1).norm(dim=1)
    assert away.nearest.tolist() == [int(expected.argmin())]
    torch.testing.assert_close(away.distance.float(), expected.min()[None])
    assert away.rank.tolist() == [int((said[0] >= said[0, 2]).sum())]
    plain = assess_visualisations(model, x[:1], [0], x, kind="channel", layer="trunk.0")
    assert plain.rank is None
    assert plain.distance is None


def test_bad_assessments_are_explained() -> None:
    model, x, _ = small_net(3, shape=(1, 8, 8))
    with pytest.raises(ValueError, match=r"`units` must be 3, one an image; got 2"):
        assess_visualisations(model, x, [0, 1], x)
    with pytest.raises(ValueError, match=r"`classes` must be 3, one an image; got 1"):
        assess_visualisations(model, x, [0, 1, 2], x, other=model, classes=[0])
    with pytest.raises(ValueError, match=r"`units` must lie in 0..4 .*got 5"):
        assess_visualisations(model, x, [0, 1, 2], x, other=model, classes=[0, 1, 5])
    with pytest.raises(ValueError, match=r"Unknown kind 'unti'"):
        assess_visualisations(model, x, [0, 1, 2], x, kind="unti")
