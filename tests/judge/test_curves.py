"""Robust accuracy against the radius, distances, and loss against steps."""

import json

import pytest
import torch
from torch import nn

from nets import PARTS
from notbugs.attacks import AttackResult, apgd_targeted, cw_l2, deepfool, fmn, hop_skip_jump, pgd
from notbugs.core import random
from notbugs.data import ImageData
from notbugs.engine import L2, Linf
from notbugs.judge import Distances, distances, loss_curve, robust_curve, wilson
from notbugs.models import build, wrap

N = 40
INF = float("inf")


def rows_of_two(n=N) -> ImageData:
    """Images whose first pixel decides; labels are right for all but the last four."""
    x = 0.5 + 0.3 * (random.uniform(random.row_keys(n, "judge"), (1, 2, 2)) - 0.5)
    y = (x[:, 0, 0, 0] > 0.5).long()
    y[-4:] = 1 - y[-4:]
    return ImageData(x, y, ("low", "high"), "two")


def threshold(scale=20.0):
    """A linear model with its boundary where the first pixel is a half."""
    layer = nn.Linear(4, 2)
    with torch.no_grad():
        layer.weight.copy_(scale * torch.tensor([[-1.0, 0, 0, 0], [1.0, 0, 0, 0]]))
        layer.bias.copy_(scale * torch.tensor([0.5, -0.5]))
    return wrap(nn.Sequential(nn.Flatten(), layer), shape=(1, 2, 2), classes=2, embedding="0")


def net(n=30):
    model = build("cnn", shape=(1, 8, 8), classes=5, seed=1, options={"width": 4, "hidden": 8})
    x = random.uniform(random.row_keys(n, "net"), (1, 8, 8))
    with torch.no_grad():
        model.body.head.bias.sub_(model.logits(x).mean(dim=0))
        y = model.logits(x).argmax(dim=1)
    y[:3] = (y[:3] + 1) % 5  # wrong from the start
    return model, ImageData(x, y, tuple("abcde"), "net")


def made(right, distance) -> Distances:
    return Distances("A", "l2", torch.tensor(right), torch.tensor(distance, dtype=torch.float64))


@pytest.mark.parametrize("norm", [L2(), Linf()], ids=["l2", "linf"])
def test_on_a_linear_model_the_distances_and_the_curve_are_exact(norm) -> None:
    data, model = rows_of_two(), threshold()
    exact = (data.images[:, 0, 0, 0] - 0.5).abs().double()
    right = torch.arange(N) < N - 4
    found = distances(deepfool(norm), model, data)
    assert torch.equal(found.right, right)
    assert torch.equal(found.distance[~right], torch.zeros(4, dtype=torch.float64))
    # DeepFool goes a little beyond the boundary, never less far.
    ratio = found.distance[right] / exact[right]
    assert 1 - 1e-4 <= float(ratio.min()) <= float(ratio.max()) <= 1.05
    curve = found.curve()
    assert curve.exact
    assert curve.eps[0] == 0
    assert len(curve.eps) == N - 3
    for eps in (0.0, 0.01, 0.05, 0.1, 0.2):
        counts = [int((right & (factor * exact > eps)).sum()) for factor in (0.9999, 1.05)]
        assert counts[0] <= N * found.robust_accuracy(eps) / 100 <= counts[1] <= counts[0] + 3


def test_a_curve_steps_down_at_each_distance_and_ends_at_the_unbroken() -> None:
    found = made([True, True, False, True, True, True], [0.3, 0.1, 0.0, INF, 0.1, INF])
    curve = found.curve()
    assert curve.eps == pytest.approx((0.0, 0.1, 0.3))
    assert curve.robust == (5, 3, 2)  # a distance of exactly eps is broken within it
    assert curve.accuracy == pytest.approx((100 * 5 / 6, 50.0, 100 / 3))
    assert curve.ci95[1] == wilson(3, 6)
    at = [found.robust_accuracy(eps) for eps in (0, 0.099, 0.1, 0.2, 0.3, 1e9)]
    assert at == pytest.approx([100 * k / 6 for k in (5, 5, 3, 3, 2, 2)])
    uneven = Distances("A", "l2", torch.ones(60) > 0, (1 + torch.arange(60).double()) / 7)
    for eps, standing in zip(uneven.curve().eps, uneven.curve().robust, strict=True):
        assert 100 * standing / 60 == pytest.approx(uneven.robust_accuracy(eps))
    assert found.unbroken == 2
    assert found.ordered.tolist() == [0.1, 0.1, 0.3, INF, INF]


def test_quantiles_are_over_the_images_that_were_right_and_may_be_infinite() -> None:
    found = made([True] * 4 + [False], [0.4, 0.2, INF, 0.1, 0.0])
    shares = (0.01, 0.25, 0.26, 0.5, 0.75, 0.76, 1.0)
    assert [found.quantile(s) for s in shares] == [0.1, 0.1, 0.2, 0.2, 0.4, INF, INF]
    assert found.median == 0.2
    assert made([True, True, True], [0.1, INF, INF]).median == INF
    words = json.loads(json.dumps(found.as_json(), allow_nan=False))
    assert words["distances"] == [0.1, 0.2, 0.4, None]
    assert (words["right"], words["n"], words["unbroken"]) == (4, 5, 1)
    assert words["quantiles"]["0.95"] is None
    for share in (0, -0.1, 1.5):
        with pytest.raises(ValueError, match=r"`share` must lie in \(0, 1\]"):
            found.quantile(share)
    with pytest.raises(ValueError, match="`eps` must be at least 0"):
        found.robust_accuracy(-1)


def test_a_model_that_is_never_right_has_an_empty_curve() -> None:
    found = made([False, False], [0.0, 0.0])
    assert found.curve().robust == (0,)
    assert json.loads(json.dumps(found.as_json(), allow_nan=False))["median"] is None


def test_the_results_of_calls_give_the_same_distances() -> None:
    model, data = net()
    attack = fmn(L2(), steps=20)
    keys = random.row_keys(len(data), 0, "attack")
    parts = [
        attack(model, data.images[i], data.labels[i], keys=keys[i])
        for i in torch.arange(len(data)).split(11)
    ]
    direct, joined = distances(attack, model, data, batch_size=7), Distances.of(attack, parts)
    assert torch.equal(direct.right, joined.right)
    assert int(direct.right.sum()) == 27
    torch.testing.assert_close(direct.distance, joined.distance, atol=1e-5, rtol=0)


def test_where_the_label_no_longer_leads_an_image_does_not_stand() -> None:
    """Broken, tied, without a number: at 0.1, 0.2 and 0.3; unbroken; and wrong from the start."""
    flags = torch.eye(5, dtype=torch.bool)
    none = torch.zeros(5)
    part = AttackResult(
        x_adv=torch.zeros(5, 1, 2, 2),
        success=flags[0],
        within_rounding=flags[1],
        non_finite=flags[2],
        already_wrong=flags[4],
        distance=torch.tensor([0.1, 0.2, 0.3, 0.4, 0.0]),
        loss=none,
        queries=1.0,
        zero_grads=none.long(),
        steps=none.long(),
        gave_up=flags[0] & False,
        forwards=5,
        backwards=5,
    )
    found = Distances.of(fmn(L2(), steps=20), [part])
    torch.testing.assert_close(found.distance.float(), torch.tensor([0.1, 0.2, 0.3, INF, 0.0]))
    assert found.robust_accuracy(0.35) == pytest.approx(100 * float(part.robust.float().mean()))


def test_a_fixed_budget_curve_never_rises_and_attacks_only_what_stands() -> None:
    model, data = net()
    seen, radii = [], [0.05, 0.1, 0.2, 0.4]

    def attack(eps):
        return pgd(L2(), eps, steps=3, step_size=eps / 2)

    curve = robust_curve(attack, model, data, radii, progress=seen.append)
    assert not curve.exact
    assert curve.eps == (0.0, *radii)
    assert curve.robust[0] == 27
    assert list(curve.robust) == sorted(curve.robust, reverse=True)
    assert curve.robust[-1] < curve.robust[1] <= 27
    assert seen == sorted(seen)
    assert seen[-1] == 1
    for radius, standing in zip(radii, curve.robust[1:], strict=True):
        alone = robust_curve(attack, model, data, [radius])
        assert standing <= alone.robust[1]
    words = json.loads(json.dumps(curve.as_json(), allow_nan=False))
    assert words["ci95"][0][0] <= words["accuracy"][0] <= words["ci95"][0][1]


def test_an_image_broken_at_a_small_radius_stays_broken_where_the_attack_fails() -> None:
    """At the larger radius the attack does nothing; what fell before stays fallen."""
    data, model = rows_of_two(), threshold()

    def attack(eps):
        lazy = 1e-6 if eps > 0.1 else eps
        return pgd(Linf(), eps, steps=2, step_size=lazy, random_start=False)

    curve = robust_curve(attack, model, data, [0.08, 0.5])
    margin = (data.images[:36, 0, 0, 0] - 0.5).abs()
    assert curve.robust == (36, int((margin > 0.08).sum()), int((margin > 0.08).sum()))
    assert 0 < curve.robust[1] < 36


def test_on_a_linear_model_the_fixed_budget_meets_the_closed_form() -> None:
    data, model = rows_of_two(), threshold()
    margin = (data.images[:36, 0, 0, 0] - 0.5).abs()
    radii = [0.03, 0.06, 0.09, 0.12, 0.2]
    curve = robust_curve(lambda eps: pgd(Linf(), eps, steps=10), model, data, radii)
    assert list(curve.robust) == [36, *(int((margin > eps).sum()) for eps in radii)]
    assert curve.robust[-1] == 0
    assert len(set(curve.robust)) > 4


def test_curves_do_not_depend_on_the_batch_size() -> None:
    model, data = net()

    def attack(eps):
        return pgd(L2(), eps, steps=3, restarts=2)

    whole, small = (
        robust_curve(attack, model, data, [0.1, 0.3], batch_size=size) for size in (30, 7)
    )
    assert whole == small
    # Steps in small batches are taken with other rounding.
    whole, small = (
        loss_curve(attack(0.2), model, data, seed=3, batch_size=size) for size in (30, 7)
    )
    assert [run.rows for run in whole.runs] == [run.rows for run in small.runs]
    for a, b in zip(whole.runs, small.runs, strict=True):
        for name in ("mean", "low", "median", "high", "reached"):
            assert getattr(a, name) == pytest.approx(getattr(b, name), abs=1e-4)


def test_loss_against_steps_is_over_all_rows_and_ends_with_the_result() -> None:
    model, data = net()
    attack = pgd(L2(), 0.2, steps=6, restarts=3, stop_on_success=True)
    curve = loss_curve(attack, model, data)
    keys = random.row_keys(len(data), 0, "attack")
    found = attack(model, data.images, data.labels, keys=keys, fast=False)
    assert (curve.n, curve.threat, curve.attack) == (30, "l2:0.2", attack.name)
    assert len(curve.runs) == 3
    assert curve.runs[0].rows == 30
    assert 0 < curve.runs[2].rows <= curve.runs[1].rows < 30
    reached = [share for run in curve.runs for share in run.reached]
    assert all(len(run.reached) == len(run.mean) == 7 for run in curve.runs)
    assert reached == sorted(reached)
    assert reached[-1] == pytest.approx(found.attack_success_rate)
    assert curve.runs[0].rows - curve.runs[1].rows == round(0.3 * curve.runs[0].reached[-1])
    for run in curve.runs:
        assert all(a <= b <= c for a, b, c in zip(run.low, run.median, run.high, strict=True))
    assert curve.runs[0].mean[-1] < curve.runs[0].mean[0]
    assert json.loads(json.dumps(curve.as_json(), allow_nan=False))["n"] == 30


def test_the_first_point_is_the_loss_of_the_images_themselves() -> None:
    model, data = net()
    curve = loss_curve(pgd(L2(), 0.2, steps=2, random_start=False), model, data)
    with torch.no_grad():
        loss = nn.functional.cross_entropy(
            model.logits(data.images), data.labels, reduction="none"
        ).double()
    (run,) = curve.runs
    assert run.mean[0] == pytest.approx(float(-loss.mean()), abs=1e-5)
    wanted = torch.quantile(-loss, torch.tensor([0.25, 0.5, 0.75]).double()).tolist()
    assert [run.low[0], run.median[0], run.high[0]] == pytest.approx(wanted, abs=1e-5)
    assert run.reached[0] == pytest.approx(10.0)  # three of thirty are wrong as they are


def test_each_class_and_each_constant_is_a_run_of_its_own() -> None:
    model, data = net()
    swept = loss_curve(apgd_targeted(L2(), 0.05, steps=4, targets_tried=3), model, data)
    assert len(swept.runs) == 3
    searched = loss_curve(cw_l2(steps=5, search_steps=2), model, data)
    assert searched.threat is None
    assert [run.rows for run in searched.runs] == [27, 27]  # wrong rows need no solve
    assert searched.runs[0].reached[0] == pytest.approx(10.0)  # and have succeeded


def test_what_cannot_be_drawn_is_refused() -> None:
    model, data = net()
    with pytest.raises(ValueError, match="`attack` must be a minimum-norm method; got PGD-20"):
        distances(pgd(L2(), 0.1, steps=20), model, data)
    with pytest.raises(ValueError, match="must step through the engine's solver; got HopSkipJump"):
        loss_curve(hop_skip_jump(L2()), model, data)
    for make in (lambda eps: fmn(L2(), steps=5), lambda eps: pgd(L2(), 0.3)):
        with pytest.raises(ValueError, match=r"`make` must give an attack within l2:0.1; got"):
            robust_curve(make, model, data, [0.1])
    for radii, words in (([], "at least one"), ([0.2, 0.1], "rise"), ([0.0], "above 0")):
        with pytest.raises(ValueError, match=f"`radii` must .*{words}"):
            robust_curve(lambda eps: pgd(L2(), eps), model, data, radii)
    with pytest.raises(ValueError, match="`batch_size` must be at least 1"):
        distances(fmn(L2(), steps=5), model, data, batch_size=0)
    with pytest.raises(ValueError, match="model's shape"):
        loss_curve(pgd(L2(), 0.1), model, rows_of_two())


def test_what_stands_for_want_of_gradients_is_warned_of(plain_model) -> None:
    """The square root of zero has an infinite gradient, and a product with zero then none."""

    class Lost(nn.Module):
        def __init__(self, inner) -> None:
            super().__init__()
            self.inner = inner

        def forward(self, x):
            return self.inner(x + (x - x.detach()).sqrt())

    parts = {"shape": plain_model.shape, "classes": plain_model.classes, "embedding": "inner.trunk"}
    lost, few = wrap(Lost(plain_model.body), **parts), PARTS.test.select(range(20))
    with pytest.warns(UserWarning, match=r"PGD-3 met no gradient in \d+ of \d+ images"):
        robust_curve(lambda eps: pgd(L2(), eps, steps=3), lost, few, [1.0])
    with pytest.warns(UserWarning, match=r"FMN-l2-3 met no gradient in \d+ of \d+ images"):
        distances(fmn(L2(), steps=3), lost, few)
    robust_curve(lambda eps: pgd(L2(), eps, steps=3), plain_model, few, [1.0])  # without a word
