"""Features added by a chosen amount, and the coordinate behind an attribute."""

import pytest
import torch

from nets import linear, small_net
from notbugs.representations import add_feature, find_attribute
from representations.closed import images, quadratic


def test_a_linear_feature_is_added_along_its_weights() -> None:
    """The nearest image with the activation: x + strength w / ||w||^2, away from the border."""
    model, x = linear(classes=4, side=4).double(), 0.4 + 0.2 * images(3, (1, 4, 4))
    w = model.body.layer.weight.detach()[2]
    strength = torch.tensor([0.5, -0.3, 0.0], dtype=torch.float64)
    found = add_feature(model, x, 2, strength, layer="1")
    torch.testing.assert_close(found.after, found.before + strength)
    expected = x.flatten(1) + strength[:, None] * w / w.square().sum()
    torch.testing.assert_close(found.x.flatten(1), expected)
    torch.testing.assert_close(found.distance, strength.abs() / w.norm())


def test_in_bowls_only_the_pixel_of_the_unit_moves() -> None:
    model = quadratic((2, 3, 3))
    x = (model.peaks + 0.2)[None]
    found = add_feature(model, x, 7, 0.02, layer="bowls")
    expected = x.clone()
    expected.flatten(1)[0, 7] = float(model.peaks.flatten()[7]) + (0.2**2 - 0.02) ** 0.5
    torch.testing.assert_close(found.x, expected, rtol=0, atol=1e-4)


def test_what_the_box_forbids_is_approached_and_said() -> None:
    model, x = linear(classes=2, side=3).double(), images(2, (1, 3, 3))
    w = model.body.layer.weight.detach()[0]
    found = add_feature(model, x, 0, 1000.0, layer="1", batch_size=1)
    torch.testing.assert_close(found.after, w.clamp(min=0).sum().expand(2))
    torch.testing.assert_close(found.wanted, found.before + 1000)


def test_the_coordinate_of_an_attribute_is_found() -> None:
    """Images that differ, but for noise, in one pixel; coordinates are the pixels."""
    having, lacking = (0.3 + 0.1 * images(n, (1, 3, 3), str(n)) for n in (30, 20))
    having[:, 0, 1, 2] += 0.2
    lacking[:, 0, 2, 0] += 0.05
    model = quadratic((1, 3, 3))
    model.peaks.fill_(1.0)  # then each coordinate rises with its pixel
    found = find_attribute(model, having, lacking, layer="bowls", batch_size=7)
    assert found.unit == int(found.order[0]) == 5
    assert int(found.order[1]) == 6
    assert float(found.effect[5]) > 3
    assert float(found.effect[6]) < -1
    assert float(found.accuracy[5]) == 100
    a, b = (1 - (x - 1).square().flatten(1)[:, 5] for x in (having, lacking))
    pooled = ((29 * a.var() + 19 * b.var()) / 48).sqrt()
    assert float(found.effect[5]) == pytest.approx(float((a.mean() - b.mean()) / pooled))
    assert float(found.difference[5]) == pytest.approx(float(a.mean() - b.mean()))
    swapped = find_attribute(model, lacking, having, layer="bowls")
    torch.testing.assert_close(swapped.effect, -found.effect)
    torch.testing.assert_close(swapped.accuracy, found.accuracy)


def test_coordinates_without_spread_are_no_trouble() -> None:
    same = torch.full((4, 1, 2, 2), 0.5)
    other = same.clone()
    other[:, 0, 0, 1] = 0.75
    model = quadratic((1, 2, 2)).float()
    model.peaks.fill_(1.0)
    found = find_attribute(model, other, same, layer="bowls")
    assert found.unit == 1
    assert bool(found.effect.isfinite().all())
    assert found.effect[[0, 2, 3]].tolist() == [0.0, 0.0, 0.0]
    assert found.accuracy.tolist() == [50, 100, 50, 50]


def test_bad_input_is_explained() -> None:
    model, x, _ = small_net(4)
    with pytest.raises(ValueError, match=r"`units` must lie in 0..7.*got 9"):
        add_feature(model, x, 9, 1.0)
    with pytest.raises(ValueError, match=r"`strength` must be a finite number, or 4, one an image"):
        add_feature(model, x, 0, torch.ones(3))
    with pytest.raises(ValueError, match=r"`strength` must be a finite number"):
        add_feature(model, x, 0, float("nan"))
    with pytest.raises(ValueError, match=r"`images` must lie in \[0, 1\]"):
        add_feature(model, x * 3, 0, 1.0)
    with pytest.raises(ValueError, match=r"`having` must hold at least 2 images.*got 1"):
        find_attribute(model, x[:1], x)
    with pytest.raises(ValueError, match=r"`lacking` must be of shape \(1, 8, 8\) an image"):
        find_attribute(model, x, x[..., :5])
