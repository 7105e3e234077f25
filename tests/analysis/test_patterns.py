"""A linear unit's response to a pattern is known."""

import pytest
import torch

from nets import linear, small_net
from notbugs.analysis import as_pattern, pattern_response
from notbugs.perception import ssim


def test_a_linear_unit_rises_by_the_inner_product() -> None:
    model = linear(classes=3, side=4).double()
    weights = model.body.layer.weight.detach()
    patterns = weights.sign().reshape(3, 1, 4, 4)[[2, 0]]
    images = 0.3 + 0.4 * torch.rand(20, 1, 4, 4, dtype=torch.float64)
    found = pattern_response(model, patterns, [2, 0], images, (0.1, 0.2), layer="1")
    rise = weights.abs().sum(dim=1)[[2, 0]]
    torch.testing.assert_close(found.alone, torch.stack([0.1 * rise, 0.2 * rise]))
    torch.testing.assert_close(found.added, found.alone)  # linear, and nothing was clipped
    with torch.no_grad():
        spread = model.logits(images)[:, [2, 0]].std(dim=0)
    torch.testing.assert_close(found.spread, spread)
    moved = (images + 0.2 * patterns[0]).clamp(0, 1)
    assert float(found.seen_added[1, 0]) == pytest.approx(float((1 - ssim(moved, images)).mean()))
    assert bool((found.seen_alone[1] >= found.seen_alone[0]).all())


def test_patterns_are_scaled_to_a_largest_entry_of_one() -> None:
    x = torch.tensor([[[[0.5, 0.6], [0.3, 0.5]]], [[[0.5, 0.5], [0.5, 0.5]]]])
    found = as_pattern(x)
    torch.testing.assert_close(found[0, 0], torch.tensor([[0.0, 0.5], [-1.0, 0.0]]))
    assert not found[1].any()


def test_bad_input() -> None:
    model, x, _ = small_net(4)
    fine = as_pattern(x[:2])
    with pytest.raises(ValueError, match=r"`units` must be 2, one per pattern"):
        pattern_response(model, fine, [1], x, (0.1,))
    with pytest.raises(ValueError, match=r"`units` must lie in 0\.\."):
        pattern_response(model, fine, [1, 9999], x, (0.1,))
    with pytest.raises(ValueError, match=r"`patterns` must lie in \[-1, 1\]; got 3"):
        pattern_response(model, torch.full_like(fine, 3.0), [0, 1], x, (0.1,))
    with pytest.raises(ValueError, match="`patterns` must have shape"):
        pattern_response(model, fine[..., 1:], [0, 1], x, (0.1,))
    with pytest.raises(ValueError, match=r"`eps` must be at most 0\.5"):
        pattern_response(model, fine, [0, 1], x, (0.7,))
