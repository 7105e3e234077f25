"""EAD and APGD-L1: sparse changes, near the exact distance on linear models."""

from dataclasses import replace

import pytest
import torch

from nets import in_parts, linear, said, small_net
from notbugs.attacks import cross_entropy, pgd
from notbugs.attacks.apgd import apgd, apgd_targeted
from notbugs.attacks.apgd_l1 import apgd_l1
from notbugs.attacks.ead import ead
from notbugs.core import random
from notbugs.engine import L1
from notbugs.engine.apgd_l1 import largest

N = 20


def net():
    return small_net(N)


def exact_l1(model, x, y):
    """The least L1 change within the box that breaks a linear model: the best pixels first."""
    w = (model.body[1].weight[1] - model.body[1].weight[0]).detach() * (1 - 2 * y[:, None])
    room = torch.where(w > 0, 1 - x.flatten(1), x.flatten(1))
    with torch.no_grad():
        z = model.logits(x)
    order = w.abs().argsort(dim=1, descending=True)
    slope, room = w.abs().gather(1, order), room.gather(1, order)
    left = (z[:, 0] - z[:, 1]).abs()[:, None] - (slope * room).cumsum(dim=1) + slope * room
    return torch.minimum((left / slope).clamp(min=0), room).sum(dim=1), (slope * room).sum(dim=1)


def linear_case():
    model = linear()
    x = 0.1 + 0.8 * random.uniform(random.row_keys(40, "x"), (1, 4, 4))
    y = said(model, x)
    exact, _ = exact_l1(model, x, y)
    return model, x, y, exact


def test_ead_is_near_the_exact_l1_distance_of_a_linear_model() -> None:
    model, x, y, exact = linear_case()
    found = ead(steps=80, search_steps=6)(model, x, y)
    assert found.attack_success_rate == 100
    ratio = found.distance / exact
    assert float(ratio.min()) > 0.999
    assert float(ratio.median()) < 1.1


def test_apgd_l1_breaks_a_linear_model_where_the_distance_allows() -> None:
    model, x, y, exact = linear_case()
    eps = float(exact.median())
    found = apgd_l1(eps, steps=100)(model, x, y)
    assert not bool(found.success[exact > 1.001 * eps].any())
    assert bool(found.success[exact < 0.97 * eps].all())


def test_apgd_l1_is_stronger_than_pgd_in_l1() -> None:
    model, x, y = net()
    eps = 0.3
    sparse = apgd_l1(eps, steps=40, stop_on_success=False)(model, x, y)
    plain = pgd(L1(), eps, steps=40)(model, x, y)
    assert float(sparse.loss.sum()) <= float(plain.loss.sum())
    assert int(sparse.success.sum()) >= int(plain.success.sum())
    assert bool((sparse.distance <= eps * (1 + 1e-5)).all())


def test_ead_breaks_every_row_of_a_network_and_reaches_targets() -> None:
    model, x, y = net()
    found = ead(steps=40, search_steps=5)(model, x, y)
    assert found.attack_success_rate == 100
    torch.testing.assert_close(found.distance, L1().size(found.x_adv - x))
    targets = y.roll(1)
    want = targets != y
    aimed = ead(steps=40, search_steps=5)(model, x[want], targets=targets[want])
    assert aimed.attack_success_rate == 100
    assert torch.equal(said(model, aimed.x_adv), targets[want])


def test_ead_counts_its_passes_and_leaves_wrong_rows_alone() -> None:
    model, x, y = net()
    wrong = torch.arange(N) % 2 == 0
    claimed = torch.where(wrong, (y + 1) % 5, y)
    found = ead(steps=10, search_steps=3)(model, x, claimed)
    assert float(found.distance[wrong].max()) == 0
    assert found.backwards == 30 * int((~wrong).sum())
    assert torch.equal(found.steps, torch.where(wrong, 0, 30))


def test_more_shrinking_gives_sparser_changes() -> None:
    model, x, y = net()
    few, many = (
        ead(steps=40, search_steps=5, shrink=s, decision="en")(model, x, y).x_adv
        for s in (0.05, 0.0)
    )
    assert int((few != x).sum()) < 0.5 * int((many != x).sum())


def test_confidence_is_a_margin_that_success_must_have() -> None:
    model, x, y = net()
    found = ead(steps=40, search_steps=5, confidence=0.2)(model, x, y)
    with torch.no_grad():
        z = model.logits(found.x_adv)
    own = z.gather(1, y[:, None])[:, 0]
    assert bool((z.amax(dim=1) - own >= 0.2 - 1e-5)[found.success].all())
    assert bool(found.success.any())


@pytest.mark.parametrize(
    "attack",
    [
        ead(steps=15, search_steps=4),
        ead(steps=15, search_steps=4, decision="en"),
        apgd_l1(0.2, steps=30),
    ],
    ids=["ead-l1", "ead-en", "apgd-l1"],
)
def test_rows_do_not_know_their_neighbours(attack) -> None:
    model, x, y = net()
    whole, parts = in_parts(attack, model, x, y, 7)
    for rows, part in parts:
        torch.testing.assert_close(part.x_adv, whole.x_adv[rows], atol=1e-4, rtol=0)


def test_a_step_goes_along_the_largest_entries() -> None:
    grad = torch.tensor([[[[3.0, -1.0], [0.5, -4.0]]], [[[0.0, 0.0], [0.0, 2.0]]]])
    got = largest(grad, torch.tensor([2.0, 3.0]))
    want = torch.tensor([[[[1.0, 0.0], [0.0, -1.0]]], [[[0.0, 0.0], [0.0, 1.0]]]])
    assert torch.equal(got, want)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: ead(steps=0), "`steps` must be at least 1"),
        (lambda: ead(search_steps=0), "`search_steps` must be at least 1"),
        (lambda: ead(step_size=0), "`step_size` must be a finite number above 0"),
        (lambda: ead(initial_c=-1), "`initial_c` must be a finite number above 0"),
        (lambda: ead(shrink=-1), "`shrink` must be a finite number of at least 0; got -1"),
        (lambda: ead(confidence=-1), "`confidence` must be a finite number of at least 0"),
        (lambda: ead(decision="l2"), "Unknown decision 'l2'"),
        (lambda: apgd_l1(0), "`eps` must be a finite number above 0"),
        (lambda: apgd_l1(1, steps=0), "`steps` must be at least 1"),
        (lambda: apgd_l1(1, restarts=0), "`restarts` must be at least 1"),
    ],
)
def test_bad_options_are_refused(make, message) -> None:
    with pytest.raises(ValueError, match=message):
        make()


@pytest.mark.parametrize(
    "attack", [apgd_l1(0.5), apgd(L1(), 0.5), apgd_targeted(L1(), 0.5)], ids=lambda a: a.name
)
def test_larger_balls_are_searched_first(attack) -> None:
    """As in AutoAttack for L1: 3 eps, 2 eps, eps, for 30, 30 and 40 % of the steps."""
    solver, seen = attack.solver, []
    assert solver.total_steps == 100
    while solver is not None:
        seen.append((solver.within.eps, solver.rule.eps, solver.max_steps, solver.rule.goes_on))
        solver = solver.before
    assert seen == [(0.5, 0.5, 40, True), (1.0, 1.0, 30, True), (1.5, 1.5, 30, False)]


def test_the_next_ball_goes_on_from_the_best_point_and_only_the_last_succeeds() -> None:
    model, x, y = small_net(6)
    attack, trace = apgd_l1(0.05, steps=20, stop_on_success=False), []
    keys, watch = random.row_keys(6, "balls"), lambda info: trace.append(info)
    found = attack(model, x, y, keys=keys, fast=False, observe=watch)
    assert found.steps.tolist() == [20] * 6
    assert [info.step for info in trace] == [*range(9)]  # of the last ball alone
    earlier = replace(attack, solver=attack.solver.before).craft(model.logits, x, y, keys=keys)
    back = attack.within().project(earlier.x, x)  # drawn into the ball of eps
    torch.testing.assert_close(trace[0].value, -cross_entropy(model.logits(back), y).detach())
    assert bool((found.distance <= 0.05 * (1 + 1e-5)).all())
    assert found.forwards == 6 * (7 + 7 + 9 + 2)


def test_few_steps_are_all_taken_within_eps() -> None:
    assert apgd_l1(0.5, steps=3).solver.before is None
