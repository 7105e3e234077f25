"""FAB and its sweep over classes: exact projections, closed forms, and the ensemble's use."""

import pytest
import torch
from torch import nn

from nets import small_net
from notbugs.attacks import difference, pgd, targeted_dlr
from notbugs.attacks.fab import fab
from notbugs.attacks.multi_targeted import MultiTargeted
from notbugs.core import random
from notbugs.engine import APGD, L1, L2, NORMS, Linf, OnSuccess, Solver, Threat
from notbugs.engine.hyperplane import onto_hyperplane
from notbugs.models import frozen, wrap

EACH_NORM = pytest.mark.parametrize("norm", NORMS.values(), ids=list(NORMS))
N = 16


def net():
    return small_net(N)


def linear(classes=2, n=N):
    """A linear model, images far from the box, labels, and each class's distance."""
    flat = nn.Sequential(nn.Flatten(), nn.Linear(4, classes))
    weight = random.normal(random.row_keys(classes, "w"), (4,))
    with torch.no_grad():
        flat[1].weight.copy_(weight)
        flat[1].bias.copy_(-weight.sum(dim=1) / 2)
    model = wrap(flat, shape=(1, 2, 2), classes=classes, embedding="0")
    x = 0.45 + 0.1 * random.uniform(random.row_keys(n, "x"), (1, 2, 2))
    with torch.no_grad():
        z = model.logits(x)
    return model, weight, x, z


def needed(weight, z, norm):
    """The distance of each row to the nearest other class, closed form."""
    y = z.argmax(dim=1)
    gap = z.gather(1, y[:, None]) - z
    slope = torch.stack([norm.dual((weight[y] - w).reshape(-1, 1, 2, 2)) for w in weight], dim=1)
    other = torch.arange(z.shape[1]) != y[:, None]
    return torch.where(other, gap / slope, float("inf")).amin(dim=1)


def dual_value(x, normal, rest, multiplier, power):
    """The Lagrange dual of the projection at one multiplier: a lower bound of its value."""
    slope = multiplier * normal
    low, high = -x, 1 - x
    if power == 1:
        inner = torch.stack([d.abs() - slope * d for d in (low, high, 0 * x)]).amin(dim=0)
    else:
        best = slope.clamp(low, high)
        inner = best.square() / 2 - slope * best
    return multiplier * rest + inner.sum(dim=1)


@EACH_NORM
def test_the_projection_meets_the_hyperplane_in_the_box(norm) -> None:
    keys = random.row_keys(200, "plane")
    x = random.uniform(random.fold(keys, "x"), (1, 3, 3), torch.float64)
    normal = random.normal(random.fold(keys, "w"), (1, 3, 3), torch.float64)
    reach = torch.where(normal > 0, 1 - x, x).mul(normal.abs()).sum(dim=(1, 2, 3))
    rest = reach * random.scalar(random.fold(keys, "rest"), torch.float64)
    move = onto_hyperplane(x, normal, rest, norm)
    torch.testing.assert_close((normal * move).sum(dim=(1, 2, 3)), rest)
    assert bool(((x + move > -1e-12) & (x + move < 1 + 1e-12)).all())
    # Beyond what the box holds: the corner nearest to the hyperplane.
    corner = onto_hyperplane(x, normal, 2 * reach, norm)
    torch.testing.assert_close((normal * corner).sum(dim=(1, 2, 3)), reach)
    back = onto_hyperplane(x + move, -normal, rest, norm)
    torch.testing.assert_close((normal * back).sum(dim=(1, 2, 3)), -rest)


@pytest.mark.parametrize(("norm", "power"), [(L1(), 1), (L2(), 2)], ids=["l1", "l2"])
def test_no_point_of_the_hyperplane_is_nearer(norm, power) -> None:
    keys = random.row_keys(50, "dual")
    x = random.uniform(random.fold(keys, "x"), (1, 1, 6), torch.float64)
    normal = random.normal(random.fold(keys, "w"), (1, 1, 6), torch.float64)
    reach = torch.where(normal > 0, 1 - x, x).mul(normal.abs()).sum(dim=(1, 2, 3))
    rest = 0.7 * reach
    size = norm.size(onto_hyperplane(x, normal, rest, norm))
    value = size if power == 1 else size.square() / 2
    flat, w = x.flatten(1), normal.flatten(1)
    grid = torch.logspace(-3, 3, 20_000, dtype=torch.float64)
    bounds = torch.stack([dual_value(flat, w, rest, m, power) for m in grid[::10]])
    torch.testing.assert_close(bounds.amax(dim=0), value, rtol=2e-3, atol=1e-5)


def test_linf_moves_no_entry_by_more_than_needed() -> None:
    keys = random.row_keys(50, "linf")
    x = random.uniform(random.fold(keys, "x"), (1, 1, 6), torch.float64)
    normal = random.normal(random.fold(keys, "w"), (1, 1, 6), torch.float64)
    room = torch.where(normal > 0, 1 - x, x)
    rest = 0.7 * (room * normal.abs()).sum(dim=(1, 2, 3))
    size = Linf().size(onto_hyperplane(x, normal, rest, Linf()))[:, None, None, None]
    most = (torch.minimum(room, size) * normal.abs()).sum(dim=(1, 2, 3))
    less = (torch.minimum(room, 0.999 * size) * normal.abs()).sum(dim=(1, 2, 3))
    torch.testing.assert_close(most, rest)
    assert bool((less < rest).all())


def test_entries_without_slope_stay_and_a_zero_normal_moves_nothing() -> None:
    x = torch.tensor([[0.5, 0.5, 0.0], [0.5, 0.5, 0.5]]).reshape(2, 1, 1, 3)
    normal = torch.tensor([[0.0, 2.0, -1.0], [0.0, 0.0, 0.0]]).reshape(2, 1, 1, 3)
    wanted = torch.tensor([[0.0, 0.25, 0.0], [0.0, 0.0, 0.0]]).reshape(2, 1, 1, 3)
    for norm in NORMS.values():
        moved = onto_hyperplane(x, normal, torch.tensor([0.5, 1.0]), norm)
        torch.testing.assert_close(moved, wanted)


@EACH_NORM
def test_the_distance_on_a_linear_model_is_the_least(norm) -> None:
    model, weight, x, z = linear(classes=4)
    best = needed(weight, z, norm)
    inside = best < 0.4  # farther rows meet the box, where the closed form does not hold
    found = fab(norm, steps=30)(model, x, z.argmax(dim=1))
    assert bool(found.success.all())
    assert int(inside.sum()) > N // 2
    ratio = found.distance[inside] / best[inside]
    assert float(ratio.min()) > 1 - 1e-4
    assert float(ratio.max()) < 1.01


def test_more_classes_find_nearer_images_than_one() -> None:
    model, x, y = net()
    one = fab(L2(), steps=20, targets_tried=1)(model, x, y)
    free = fab(L2(), steps=20, targets_tried=0)(model, x, y)
    every = fab(L2(), steps=20, targets_tried=9)(model, x, y)
    assert bool(every.success.all())
    assert bool((every.distance <= one.distance).all())
    assert float(every.distance.median()) <= 1.01 * float(free.distance.median())
    assert every.backwards == 4 * one.backwards == 4 * 20 * N


@EACH_NORM
def test_within_a_threat_it_breaks_what_pgd_breaks(norm) -> None:
    model, x, y = net()
    eps = float(fab(norm, steps=20, targets_tried=0)(model, x, y).distance.median()) * 1.02
    found = fab(norm, eps, steps=20)(model, x, y)
    white = pgd(norm, eps, steps=30)(model, x, y)
    assert 40 < found.attack_success_rate < 100
    assert found.attack_success_rate >= white.attack_success_rate - 7
    assert bool((found.distance <= eps * (1 + 1e-5)).all())
    # Rows that fell early cost no more classes.
    assert found.backwards < 4 * 20 * N
    assert int(found.steps[found.success].min()) < 20


def test_it_is_batch_invariant() -> None:
    model, x, y = net()
    keys = random.row_keys(N, "keys")
    for attack in (fab(Linf(), steps=8), fab(L2(), 0.2, steps=8)):
        whole = attack(model, x, y, keys=keys)
        for part in torch.arange(N).flip(0).split(5):
            some = attack(model, x[part], y[part], keys=keys[part])
            torch.testing.assert_close(some.x_adv, whole.x_adv[part], atol=1e-4, rtol=0)


def test_targets_named_by_the_caller_are_reached() -> None:
    model, x, y = net()
    targets = (y + 2) % 5
    found = fab(L2(), steps=60)(model, x, targets=targets)
    with torch.no_grad():
        assert torch.equal(
            model.logits(found.x_adv).argmax(dim=1)[found.success], targets[found.success]
        )
    assert found.attack_success_rate > 60
    with pytest.raises(ValueError, match="`y` must be given"):
        fab(L2(), steps=2)(model, x)


def test_an_image_wrong_from_the_start_has_distance_zero() -> None:
    model, x, y = net()
    found = fab(L2(), steps=3, targets_tried=2)(model, x, (y + 1) % 5)
    assert bool(found.already_wrong.all())
    assert float(found.distance.max()) == 0


def sweep(loss, eps=0.03) -> MultiTargeted:
    threat = Threat(Linf(), eps)
    solver = Solver(threat.within(), APGD(Linf(), eps), 15, stop=OnSuccess())
    return MultiTargeted("sweep", threat, Linf(), solver, loss, random_start=True)


def test_a_sweep_of_apgd_breaks_more_than_one_class() -> None:
    model, x, y = net()
    with frozen(model):
        every = sweep(targeted_dlr)(model, x, y)
    white = pgd(Linf(), 0.03, steps=40)(model, x, y)
    assert every.attack_success_rate >= white.attack_success_rate - 7
    assert every.backwards < 4 * 15 * N


def test_the_targeted_ratio_falls_back_below_four_classes() -> None:
    model, _, x, z = linear(classes=3)
    y = z.argmax(dim=1)
    ratio, plain = sweep(targeted_dlr)(model, x, y), sweep(difference)(model, x, y)
    assert torch.equal(ratio.x_adv, plain.x_adv)


def test_bad_options_are_refused() -> None:
    with pytest.raises(ValueError, match="`steps` must be at least 1"):
        fab(L2(), steps=0)
    with pytest.raises(ValueError, match="`targets_tried` must be at least 0"):
        fab(L2(), targets_tried=-1)
    with pytest.raises(ValueError, match="`overshoot` must be"):
        fab(L2(), overshoot=0.9)
    with pytest.raises(ValueError, match="`backward` must lie"):
        fab(L2(), backward=1.2)
    with pytest.raises(ValueError, match="`eps` must be"):
        fab(Linf(), 0.0)
