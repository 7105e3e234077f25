import math

import pytest
import torch
from torch import nn
from torch.nn import functional as F

import nets
from nets import in_parts, small_net
from notbugs.attacks.binary_search import BinarySearch
from notbugs.attacks.cw_l0 import cw_l0
from notbugs.attacks.cw_l2 import cw_l2
from notbugs.attacks.cw_linf import cw_linf
from notbugs.attacks.cw_objectives import CW_OBJECTIVES, goal, reached
from notbugs.core import random
from notbugs.engine.tanh import Tanh
from notbugs.models import wrap

N = 6
EACH_FORM = pytest.mark.parametrize("form", CW_OBJECTIVES)


def linear(classes=3):
    return nets.linear(classes)


def grey(n=N):
    return 0.4 + 0.2 * random.uniform(random.row_keys(n, "grey"), (1, 4, 4))


def nearest(model, x, y, targets=None):
    """Closed form: the L2 distance to the nearest other class (to the target) of a linear model."""
    w = model.body.layer.weight
    with torch.no_grad():
        z = model.logits(x)
        gap = z.gather(1, y[:, None]) - z
        apart = torch.linalg.vector_norm(w[y][:, None] - w[None], dim=2)
        d = torch.where(apart > 0, gap / apart, math.inf)
    return d.amin(dim=1) if targets is None else d.gather(1, targets[:, None])[:, 0]


def net():
    return small_net(N)


def test_tanh_gives_an_image_back_and_leaves_no_pixel_frozen() -> None:
    x = torch.linspace(0, 1, 12).reshape(1, 1, 3, 4)
    w = Tanh().encode(x).requires_grad_()
    torch.testing.assert_close(Tanh().decode(w), x, atol=1e-6, rtol=0)
    (grad,) = torch.autograd.grad(Tanh().decode(w).sum(), w)
    assert bool((grad > 0).all())
    assert bool(w.isfinite().all())
    far = Tanh().decode(torch.tensor([[-100.0, 100.0]]))
    assert far.tolist() == [[0.0, 1.0]]
    with pytest.raises(ValueError, match="inset"):
        Tanh(0.0)


def test_the_bracket_grows_until_something_works_then_halves() -> None:
    b = BinarySearch.around(0.01, torch.zeros(3))
    b = b.narrowed(torch.tensor([False, False, True]))
    torch.testing.assert_close(b.c, torch.tensor([0.1, 0.1, 0.005]))
    b = b.narrowed(torch.tensor([False, True, False]))
    torch.testing.assert_close(b.c, torch.tensor([1.0, 0.055, 0.0075]))
    torch.testing.assert_close(b.last().c, torch.tensor([1.0, 0.1, 0.01]))
    assert float(b.high[0]) == math.inf


@EACH_FORM
def test_objectives_say_where_the_goal_is_and_are_finite_far_out(form) -> None:
    z = torch.tensor([[3.0, -1.0, -2.0], [-9.0, -3.0, -2.0], [80.0, -40.0, 0.0]])
    classes = torch.tensor([0, 0, 0])
    near, away = goal(form, z, None, classes, 0.0), goal(form, z, classes, None, 0.0)
    assert bool((near[[0, 2]] <= 0).all())
    assert bool(near[1] > 0)
    assert bool((away[[0, 2]] > 0).all())
    assert bool(away[1] <= 0)
    leaf = z.clone().requires_grad_()
    (grad,) = torch.autograd.grad(goal(form, leaf, None, classes, 0.0).sum(), leaf)
    assert bool(grad.isfinite().all())


def test_objectives_against_their_formulas() -> None:
    z, t = random.normal(random.row_keys(6, "z"), (4,)), torch.tensor([0, 1, 2, 3, 0, 1])
    p = z.softmax(dim=1)
    own, best = p.gather(1, t[:, None])[:, 0], p.scatter(1, t[:, None], -1).amax(dim=1)
    wanted = {
        "f1": -own.log2() - 1,
        "f2": (best - own).relu(),
        "f3": F.softplus(best - own) - math.log(2),
        "f4": (0.5 - own).relu(),
        "f5": -(2 * own).log(),
    }
    for form, value in wanted.items():
        torch.testing.assert_close(goal(form, z, None, t, 0.0), value)
    torch.testing.assert_close(goal("f5", z, t, None, 0.0), -(2 * (1 - own)).log())


@pytest.mark.parametrize("targeted", [False, True])
def test_a_linear_model_is_broken_at_its_distance(targeted) -> None:
    # Towards a target of several classes, a third class can bind: no closed form.
    model, x = linear(2 if targeted else 3), grey()
    with torch.no_grad():
        y = model.logits(x).argmax(dim=1)
    targets = 1 - y if targeted else None
    found = cw_l2(steps=60, search_steps=6, initial_c=0.1)(model, x, y, targets=targets)
    best = nearest(model, x, y, None if targets is None else targets)
    assert bool(found.success.all())
    small = best < 0.8  # the box binds further out
    assert int(small.sum()) > N / 4
    ratio = (found.distance / best)[small]
    assert float(ratio.min()) > 0.999
    assert float(ratio.max()) < 1.05


def test_many_dimensions_do_not_abort_it_while_first_steps_come_down_again() -> None:
    # The first step moves 9,216 pixels, much too far; stopped there it ended 3 to 54 times as far.
    model = nets.linear(2, side=96)
    x = 0.35 + 0.3 * random.uniform(random.row_keys(N, "grey"), (1, 96, 96))
    with torch.no_grad():
        y = model.logits(x).argmax(dim=1)
    found = cw_l2()(model, x, y)
    assert bool(found.success.all())
    assert float((found.distance / nearest(model, x, y)).max()) < 1.3


@pytest.mark.parametrize("box", ["clipped", "projected"])
def test_other_ways_to_keep_the_box_reach_the_same_distance(box) -> None:
    model, x = linear(3), grey()
    with torch.no_grad():
        y = model.logits(x).argmax(dim=1)
    best = nearest(model, x, y)
    attack = cw_l2(steps=100, search_steps=8, initial_c=0.1, step_size=0.02, box=box)
    found = attack(model, x, y)
    assert attack.name == f"CW-L2-8x100-{box}"
    assert bool(found.success.all())
    assert float(found.x_adv.min()) >= 0
    assert float(found.x_adv.max()) <= 1
    small = best < 0.8
    ratio = (found.distance / best)[small]
    assert float(ratio.min()) > 0.999
    assert float(ratio.max()) < 1.05
    with pytest.raises(ValueError, match="Unknown box 'clip'"):
        cw_l2(box="clip")


@EACH_FORM
def test_every_objective_breaks_a_net(form) -> None:
    model, x, y = net()
    found = cw_l2(steps=40, search_steps=4, initial_c=0.1, objective=form)(model, x, y)
    assert found.attack_success_rate > (60 if form == "f4" else 90)  # F = 1/2 is far here
    assert bool((found.distance[found.success] < 3).all())


def test_a_row_that_no_constant_breaks_goes_on_from_where_it_is() -> None:
    model, x = linear(), grey()
    y = model.logits(x).argmax(dim=1)
    # Steps so short that one solve comes only part of the way, two come there.
    far = nearest(model, x, y)
    options = {"steps": 40, "step_size": 0.004, "abort_early": False}
    assert not bool(cw_l2(**options, search_steps=3)(model, x, y).success.any())
    for search_steps in (9, 60):  # c times 10 in each: without a bound gradients overflow
        on = cw_l2(**options, search_steps=search_steps)(model, x, y)
        assert bool(on.success.all())
        assert bool((on.distance >= far * (1 - 1e-4)).all())


class Flat(nn.Module):
    """Two logits, whose gradient is zero in images darker than 0.3."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Flatten()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        light = self.body(x).mean(dim=1)
        bright = 100 * torch.relu(light - 0.3) - 5
        return torch.stack([torch.zeros_like(bright), bright], dim=1)


@pytest.mark.parametrize(
    "attack",
    [
        cw_l2(steps=60, search_steps=9),
        cw_linf(steps=60, shrink=0.8),
        cw_l0(steps=60),
    ],
    ids=lambda attack: attack.name,
)
def test_a_row_without_a_gradient_is_broken_from_elsewhere(attack) -> None:
    model = wrap(Flat(), shape=(1, 4, 4), classes=2, embedding="body")
    x = 0.1 + 0.1 * random.uniform(random.row_keys(N, "dark"), (1, 4, 4))
    found = attack(model, x, torch.zeros(N, dtype=torch.int64))
    assert bool(found.success.all())
    with torch.no_grad():
        assert bool((model.logits(found.x_adv).argmax(dim=1) == 1).all())
    again = attack(model, x[2:4], torch.zeros(2, dtype=torch.int64),
                   keys=random.row_keys(N, 0)[2:4])  # fmt: skip
    other = attack(model, x, torch.zeros(N, dtype=torch.int64), keys=random.row_keys(N, 0))
    torch.testing.assert_close(again.x_adv, other.x_adv[2:4], rtol=0, atol=1e-5)


def test_confidence_is_part_of_success() -> None:
    model, x = linear(), grey()
    y = model.logits(x).detach().argmax(dim=1)
    plain, sure = (
        cw_l2(steps=40, search_steps=4, initial_c=0.1, confidence=k)(model, x, y)
        for k in (0.0, 2.0)
    )
    with torch.no_grad():
        assert bool(reached(model.logits(sure.x_adv), y, None, 2.0 - 1e-4)[sure.success].all())
    assert sure.attack_success_rate > 90
    assert bool((sure.distance > plain.distance).all())


def test_images_that_need_no_change_are_returned_as_they_are() -> None:
    model, x, y = net()
    wrong = (y + 1) % 5
    found = cw_l2(steps=20, search_steps=2)(model, x, wrong)
    assert bool((found.x_adv == x).all())
    assert found.backwards == 0
    half = torch.where(torch.arange(N) < N // 2, wrong, y)
    found = cw_l2(steps=20, search_steps=2)(model, x, half)
    assert bool((found.distance[: N // 2] == 0).all())
    assert bool((found.distance[N // 2 :] > 0).all())
    assert found.backwards > 0


def test_early_abort_saves_gradients_and_loses_little() -> None:
    model, x, y = net()
    long = cw_l2(steps=300, search_steps=3, initial_c=0.1, abort_early=False)(model, x, y)
    short = cw_l2(steps=300, search_steps=3, initial_c=0.1)(model, x, y)
    assert short.backwards < 0.9 * long.backwards == 0.9 * 900 * N
    assert float(short.distance.mean()) < 1.02 * float(long.distance.mean())


def test_a_row_does_not_depend_on_its_neighbours() -> None:
    model, x, y = net()
    whole, parts = in_parts(cw_l2(steps=25, search_steps=3, initial_c=0.1), model, x, y, 7)
    for part, again in parts:
        torch.testing.assert_close(again.distance, whole.distance[part], atol=1e-4, rtol=1e-3)
        assert torch.equal(again.success, whole.success[part])


def test_bad_options_are_refused() -> None:
    with pytest.raises(ValueError, match="steps"):
        cw_l2(steps=0)
    with pytest.raises(ValueError, match="initial_c"):
        cw_l2(initial_c=0.0)
    with pytest.raises(ValueError, match="f6"):
        cw_l2(objective="f8")
    with pytest.raises(ValueError, match="confidence"):
        cw_l2(confidence=-1.0)
    with pytest.raises(ValueError, match="flat past the boundary"):
        cw_l2(objective="f2", confidence=1.0)
