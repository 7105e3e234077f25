"""Adversarial images in 8 bits: within the threat, and judged after rounding."""

import pytest
import torch

from notbugs.attacks import Rounded, fmn, pgd, predicted, to_8_bit
from notbugs.attacks.attack import VERIFIED
from notbugs.core import random
from notbugs.engine import L0, L1, L2, Linf, Threat
from notbugs.models import build
from notbugs.models.decision import classified_as, misclassified

N = 24


def scene(whole=True):
    model = build("cnn", shape=(3, 8, 8), classes=5, seed=1, options={"width": 4, "hidden": 8})
    x = random.uniform(random.row_keys(N, "rounding"), (3, 8, 8))
    x = (255 * x).round() / 255 if whole else x
    with torch.no_grad():
        model.body.head.bias.sub_(model.logits(x).mean(dim=0))
        return model, x, predicted(model.logits(x))


THREATS = [(Linf(), 6 / 255), (Linf(), 6.4 / 255), (L2(), 0.3), (L1(), 2.0)]
EACH = pytest.mark.parametrize(("norm", "eps"), THREATS, ids=["linf", "between", "l2", "l1"])


@EACH
@pytest.mark.parametrize("whole", [True, False], ids=["8-bit", "float"])
def test_it_stays_within_the_threat_and_says_what_the_model_says(norm, eps, whole) -> None:
    model, x, y = scene(whole)
    attack = pgd(norm, eps, steps=10)
    found = attack(model, x, y)
    made = to_8_bit(attack, model, x, found.x_adv, y, batch_size=7)
    pixels = made.images.float() / 255
    clean = (255 * x).round() / 255
    assert made.images.dtype == torch.uint8
    levels = made.images.double() - (255 * x.double()).round()
    assert float(norm.size(levels / 255).max()) <= eps * (1 + 1e-6)
    with torch.no_grad():
        assert torch.equal(made.success, misclassified(model.logits(pixels), y, VERIFIED))
    torch.testing.assert_close(made.distance, norm.size(pixels - clean), rtol=1e-3, atol=1e-6)
    assert found.attack_success_rate > 30
    assert int((made.success & found.success).sum()) >= 0.8 * int(found.success.sum())


def test_a_change_that_fits_is_rounded_to_the_nearest_levels() -> None:
    model, x, y = scene()
    attack = pgd(Linf(), 6 / 255, steps=10)
    x_adv = attack(model, x, y).x_adv
    made = to_8_bit(attack, model, x, x_adv, y)
    assert not bool(made.shrunk.any())
    assert float((made.images - 255 * x_adv).abs().max()) <= 0.5 + 1e-4


def test_rounding_alone_would_leave_the_ball_and_hardly_costs_distance() -> None:
    model, x, y = scene()
    for norm, eps in ((Linf(), 6.6 / 255), (L2(), 0.1)):
        attack = pgd(norm, eps, steps=10)
        x_adv = attack(model, x, y).x_adv
        naive = (255 * x_adv).round() / 255
        assert float(norm.size(naive - x).max()) > eps * (1 + 1e-4)
        made = to_8_bit(attack, model, x, x_adv, y)
        assert torch.equal(made.shrunk, norm.size((naive - x).double()) > eps * (1 + 1e-6))
        assert bool((made.distance <= eps * (1 + 1e-6)).all())
        assert float(made.distance[made.shrunk].mean()) > 0.85 * eps


def test_pixels_that_did_not_change_do_not_change_for_l0() -> None:
    model, x, y = scene(whole=False)
    attack = fmn(L0(), steps=20)
    found = attack(model, x, y)
    made = to_8_bit(attack, model, x, found.x_adv, y)
    assert bool((made.distance <= found.distance).all())


def test_a_nearest_success_may_be_lost_and_it_says_so() -> None:
    model, x, y = scene()
    attack = fmn(L2(), steps=60)
    found = attack(model, x, y)
    made = to_8_bit(attack, model, x, found.x_adv, y)
    assert bool(found.success.all())
    assert 0 < int(made.success.sum()) < N
    assert not bool(made.shrunk.any())  # no threat bounds it


def test_a_target_stays_the_goal() -> None:
    model, x, y = scene()
    targets = (y + 1) % 5
    attack = pgd(L2(), 1.0, steps=10)
    found = attack(model, x, y, targets=targets)
    made = to_8_bit(attack, model, x, found.x_adv, y, targets=targets)
    with torch.no_grad():
        logits = model.logits(made.images.float() / 255)
    assert torch.equal(made.success, classified_as(logits, targets, VERIFIED))
    assert bool(made.success.any())


def test_the_model_is_left_as_it_was_and_bad_calls_are_refused() -> None:
    model, x, y = scene()
    model.train()
    attack = pgd(Threat.parse("l2:0.3").norm, 0.3, steps=2)
    made = to_8_bit(attack, model, x, x, y)
    assert isinstance(made, Rounded)
    assert model.training
    with pytest.raises(ValueError, match="`x_adv` must have the shape of x"):
        to_8_bit(attack, model, x, x[:3], y)
    with pytest.raises(ValueError, match="`y` must be given"):
        to_8_bit(attack, model, x, x)
