"""Attacks bounded by a distance between images: closed forms, and what stays within the bound."""

import pytest
import torch

from nets import PARTS, digits_net, linear, said, small_net
from notbugs.attacks import margin, perceptual_lagrangian, perceptual_pgd, pgd, to_8_bit
from notbugs.core import random
from notbugs.engine import L2, Linf, Threat
from notbugs.judge import Distances, evaluate
from notbugs.perception import ColourDistance, SSIMDistance, lpips

MAKERS = {"pgd": perceptual_pgd, "lagrangian": perceptual_lagrangian}
EACH = pytest.mark.parametrize("make", MAKERS.values(), ids=MAKERS)


def euclidean(x, y):
    return L2().size(x - y)


def digits(n=30):
    return PARTS.test.pixels()[:n], PARTS.test.labels[:n]


@EACH
@pytest.mark.parametrize("square", [False, True])
def test_on_a_linear_model_a_row_falls_where_the_bound_exceeds_its_margin(make, square) -> None:
    model = linear()
    x = 0.4 + 0.2 * random.uniform(random.row_keys(20, "x"), (1, 4, 4))
    y = said(model, x)
    weight = model.body.layer.weight.detach()
    with torch.no_grad():
        away = -margin(model.logits(x), y) / (weight[0] - weight[1]).norm()

    def distance(a, b):
        return euclidean(a, b) ** 2 if square else euclidean(a, b)

    bound = float(away.median())
    found = make(distance, bound**2 if square else bound, steps=20)(model, x, y)
    clear = (away / bound - 1).abs() > 0.02
    assert torch.equal(found.success[clear], (away < bound)[clear])
    assert 8 <= int(found.success.sum()) <= 12
    torch.testing.assert_close(found.distance, distance(found.x_adv, x))


@EACH
@pytest.mark.parametrize(
    ("metric", "bound"), [("ssim", 0.1), ("colour", 4.0), ("lpips", 0.05), ("other lpips", 0.05)]
)
def test_what_it_returns_is_within_the_bound_and_a_larger_one_breaks_more(
    make, metric, bound
) -> None:
    model, other = digits_net(), small_net(1, classes=10)[0]
    distance = {
        "ssim": SSIMDistance(),
        "colour": ColourDistance(),
        "lpips": lpips(model),
        "other lpips": lpips(other),
    }[metric]
    x, y = digits()
    broken = []
    for scale in (0.2, 1.0, 8.0):
        found = make(distance, scale * bound, steps=10)(model, x, y)
        with torch.no_grad():
            apart = distance(found.x_adv, x)
        assert bool((apart <= scale * bound).all())
        assert bool((found.distance <= scale * bound).all())
        assert torch.equal(found.success, said(model, found.x_adv) != y)
        broken.append(int(found.success.sum()))
    assert broken[0] < broken[1] <= broken[2]


@EACH
def test_it_goes_to_a_target(make) -> None:
    model, (x, y) = digits_net(), digits(20)
    targets = (y + 1) % 10
    found = make(SSIMDistance(), 0.6, steps=20)(model, x, targets=targets)
    assert torch.equal(found.success, said(model, found.x_adv) == targets)
    assert int(found.success.sum()) >= 10


@EACH
def test_a_row_stops_at_its_success_where_asked(make) -> None:
    model, (x, y) = digits_net(), digits(20)
    whole = make(SSIMDistance(), 0.3, steps=10)(model, x, y)
    short = make(SSIMDistance(), 0.3, steps=10, stop_on_success=True)(model, x, y)
    assert torch.equal(short.success, whole.success)
    assert short.backwards < whole.backwards


def test_within_the_same_ssim_it_breaks_more_than_a_ball_that_stays_there() -> None:
    model, (x, y) = digits_net(), digits()
    within, ball = SSIMDistance(), pgd(Linf(), 0.05, steps=20)(model, x, y)
    bound = float(within(ball.x_adv, x).max())
    found = perceptual_lagrangian(within, bound, steps=20)(model, x, y)
    assert int(found.success.sum()) > int(ball.success.sum())


@EACH
def test_images_of_8_bits_stay_within(make) -> None:
    model, (x, y) = digits_net(), digits(20)
    attack = make(SSIMDistance(), 0.1, steps=10)
    found = attack(model, x, y)
    whole = to_8_bit(attack, model, x, found.x_adv, y)
    clean = (255 * x).round() / 255
    assert bool((SSIMDistance()(whole.images / 255, clean) <= 0.1 + 1e-6).all())
    assert int(whole.success.sum()) >= int(found.success.sum()) - 2


@EACH
def test_it_is_no_threat_of_a_norm_and_no_search_for_the_nearest(make) -> None:
    attack, model = make(SSIMDistance(), 0.1, steps=3), digits_net()
    assert not attack.is_minimum_norm
    with pytest.raises(ValueError, match=r"threat l2:0.5; got .*, which has a bound of its own"):
        evaluate(model, PARTS.test, Threat.parse("l2:0.5"), attacks=[attack])
    with pytest.raises(ValueError, match=r"be a minimum-norm method; got .* with a bound of its"):
        Distances.of(attack, [attack(model, *digits(4))])


@EACH
@pytest.mark.parametrize("name", ["bound", "steps", "pace"])
def test_numbers_that_are_not_above_0_are_refused(make, name) -> None:
    options = {"bound": 0.1, "steps": 3, "pace": 1.0, name: 0}
    with pytest.raises(ValueError, match=rf"`{name}` must be .*; got 0"):
        make(SSIMDistance(), **options)


@pytest.mark.parametrize("name", ["rounds", "first_weight", "growth"])
def test_numbers_of_the_rounds_are_refused(name) -> None:
    with pytest.raises(ValueError, match=rf"`{name}` must be .*; got 0"):
        perceptual_lagrangian(SSIMDistance(), 0.1, **{name: 0})


def test_bounds_say_in_which_units_they_are() -> None:
    with pytest.raises(ValueError, match="in the units of `distance`"):
        perceptual_pgd(SSIMDistance(), float("inf"))
