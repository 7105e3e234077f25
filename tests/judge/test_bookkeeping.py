"""What the judge counts, whom it shows to whom, and what it refuses."""

import io
import json
import os
import subprocess
import sys
from contextlib import redirect_stdout
from copy import deepcopy
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy import stats
from torch import nn

from notbugs.attacks import Attack, cross_entropy, fgsm, margin, pgd, square
from notbugs.core import random
from notbugs.core.errors import StoreError
from notbugs.data import ImageData
from notbugs.engine import L2, Linf, Threat
from notbugs.judge import accuracy, evaluate, evaluation_pgd, identity, predictions, wilson
from notbugs.judge.fingerprint import described
from notbugs.judge.ledger import Ledger
from notbugs.models import build, wrap

THREAT = Threat.parse("linf:0.05")
PGD = [evaluation_pgd(THREAT)]
N = 30


def net(name="cnn", **options):
    """A small net that names several classes, and images of which it gets two in three right."""
    options = options or {"width": 4, "hidden": 8}
    model = build(name, shape=(1, 8, 8), classes=5, seed=1, options=options)
    x = random.uniform(random.row_keys(N, "net"), (1, 8, 8))
    model.eval()
    with torch.no_grad():
        model.body.head.bias.sub_(model.logits(x).mean(dim=0))
        y = model.logits(x).argmax(dim=1)
    y[::3] = (y[::3] + 1) % 5
    return model, ImageData(x, y, tuple("abcde"), "noise")


class Spy:
    """A loss that counts the rows it is shown."""

    def __init__(self) -> None:
        self.rows = []

    def __call__(self, logits, classes):
        self.rows.append(len(classes))
        return nn.functional.cross_entropy(logits, classes, reduction="none")


def test_later_attacks_see_only_what_still_stands() -> None:
    model, data = net()
    spy = Spy()
    second = pgd(Linf(), 0.05, steps=1, loss=spy)
    first = evaluate(model, data, THREAT, attacks=[evaluation_pgd(THREAT)])
    assert 0 < int(first.robust.sum()) < int(first.right.sum()) == 20
    both = evaluate(model, data, THREAT, attacks=[evaluation_pgd(THREAT), second])
    assert set(spy.rows) == {int(first.robust.sum())}
    assert both.attacks[0].broken == first.attacks[0].broken
    assert bool((both.robust <= first.robust).all())


def test_an_attack_with_nothing_left_to_do_is_not_run() -> None:
    model, data = net()
    spy, wide = Spy(), Threat.parse("linf:0.9")
    attacks = [pgd(Linf(), 0.9, steps=40, restarts=5), pgd(Linf(), 0.9, loss=spy)]
    verdict = evaluate(model, data, wide, attacks=attacks)
    assert verdict.robust_accuracy == 0.0
    assert spy.rows == []
    assert [a.broken for a in verdict.attacks] == [20, 0]
    wrong = data.with_labels((predictions(model, data) + 1) % 5)
    verdict = evaluate(model, wrong, wide, attacks=[pgd(Linf(), 0.9, loss=spy)])
    assert (verdict.clean_accuracy, verdict.robust_accuracy, spy.rows) == (0.0, 0.0, [])


@pytest.mark.parametrize("norm", ["linf:0.03", "l2:0.1"])
def test_a_net_is_judged_alike_in_batches_of_any_size(norm) -> None:
    model, data = net()
    threat = Threat.parse(norm)
    attacks = [evaluation_pgd(threat, steps=3, restarts=2), fgsm(threat.norm, threat.eps)]
    verdicts = [evaluate(model, data, threat, attacks=attacks, batch_size=b) for b in (30, 7, 1)]
    assert 0 < int(verdicts[0].robust.sum()) < 20
    for other in verdicts[1:]:
        assert torch.equal(other.right, verdicts[0].right)
        assert torch.equal(other.robust, verdicts[0].robust)
        assert [a.broken for a in other.attacks] == [a.broken for a in verdicts[0].attacks]


def test_masking_fires_when_the_logits_are_scaled_until_the_gradient_is_zero() -> None:
    model, data = net()
    assert evaluate(model, data, THREAT, attacks=PGD).masking[0]["verdict"] == "clear"
    with torch.no_grad():
        model.body.head.weight.mul_(1e6)
        model.body.head.bias.mul_(1e6)
    verdict = evaluate(model, data, THREAT, attacks=PGD)
    assert verdict.zero_gradients > 50
    assert verdict.masking[0]["verdict"] == "suspicious"


def test_the_model_is_left_in_its_own_mode() -> None:
    model, data = net("resnet8", width=2)
    model.train()
    model.body.head.eval()
    flags = [m.training for m in model.modules()]
    state = {k: v.clone() for k, v in model.state_dict().items()}
    evaluate(model, data, THREAT, attacks=[evaluation_pgd(THREAT, steps=2)])
    accuracy(model, data)
    assert [m.training for m in model.modules()] == flags
    assert all(torch.equal(state[k], v) for k, v in model.state_dict().items())
    assert all(p.grad is None and p.requires_grad for p in model.parameters())


def test_progress_ends_at_one_and_the_cost_is_counted() -> None:
    model, data = net()
    seen = []
    attack = replace(pgd(Linf(), 0.05, steps=3), name="three")
    verdict = evaluate(model, data, THREAT, attacks=[attack], batch_size=8, progress=seen.append)
    assert seen == pytest.approx([1 / 3, 2 / 3, 1.0, 1.0])  # 20 rows stand: three batches
    # One look at all 30; 3 + 1 steps and 2 verifications for the 20 that were right.
    assert verdict.forwards == 30 + 20 * (3 + 1 + 2)
    assert verdict.attacks[0].name == "three"
    assert verdict.as_json()["forwards_per_image"] == 5.0


def test_the_yardstick_is_the_stated_one() -> None:
    attack = evaluation_pgd(Threat(L2(), 1.0))
    assert isinstance(attack, Attack)
    assert (attack.solver.max_steps, attack.restarts, attack.random_start) == (20, 1, True)
    assert attack.solver.rule.step_size == pytest.approx(0.2)


@pytest.mark.parametrize(("k", "n"), [(0, 5), (1, 7), (50, 100), (199, 200), (13, 13)])
def test_wilson_agrees_with_scipy(k, n) -> None:
    low, high = stats.binomtest(k, n).proportion_ci(0.95, method="wilson")
    assert wilson(k, n) == pytest.approx((100 * low, 100 * high), abs=2e-3)


def test_rates_are_counts_divided_not_rounded_in_float32() -> None:
    model, data = net()
    verdict = evaluate(model, data, THREAT, attacks=PGD)
    assert verdict.clean_accuracy == accuracy(model, data) == 100 * 20 / 30
    assert verdict.robust_accuracy == 100 * int(verdict.robust.sum()) / 30


def test_no_image_no_knowledge() -> None:
    assert wilson(0, 0) == (0.0, 100.0)


def test_a_model_that_gives_nan_is_refused_not_scored() -> None:
    model, data = net()
    with torch.no_grad():
        model.body.head.weight[0, 0] = float("nan")
    for call in (evaluate, lambda m, d, _: accuracy(m, d)):
        with pytest.raises(ValueError, match=r"`model` must give finite logits.*diverged"):
            call(model, data, THREAT)


def test_what_cannot_be_judged_is_refused() -> None:
    model, data = net()
    with pytest.raises(ValueError, match=r"`attacks` must hold at least one attack; got none"):
        evaluate(model, data, THREAT, attacks=[])
    with pytest.raises(ValueError, match=r"threat linf:0.05; got PGD-20 with l2:0.05.*its own"):
        evaluate(model, data, THREAT, attacks=[pgd(L2(), 0.05)])
    for call in (evaluate, lambda m, d, _, **kw: accuracy(m, d, **kw)):
        with pytest.raises(ValueError, match=r"`batch_size` must be at least 1; got 0"):
            call(model, data, THREAT, batch_size=0)
    with pytest.raises(ValueError, match=r"`labels` must have shape \(30,\)"):
        accuracy(model, data, data.labels[:4])
    with pytest.raises(ValueError, match=r"`labels` must lie in 0..4; got 6 in row 0"):
        accuracy(model, data, data.labels + 5)


def test_a_wrapped_module_is_judged_like_a_built_one() -> None:
    model, data = net()
    wrapped = wrap(model.body, shape=(1, 8, 8), classes=5, embedding="trunk")
    assert torch.equal(
        evaluate(model, data, THREAT, attacks=PGD).robust,
        evaluate(wrapped, data, THREAT, attacks=PGD).robust,
    )


def test_the_state_of_a_model_with_batch_norms_is_kept(tmp_path: Path) -> None:
    """They count batches in a tensor without dimensions, which belongs to the identity."""
    model, data = net("resnet8", width=2)
    path, kept = tmp_path / "state.json", []
    evaluate(
        model,
        data,
        THREAT,
        attacks=PGD,
        save_to=path,
        progress=lambda f: kept.append(path.exists()),
    )
    assert any(kept)
    before = identity(model, data, THREAT, PGD, 0)
    next(m for m in model.modules() if isinstance(m, nn.BatchNorm2d)).num_batches_tracked.add_(1)
    assert identity(model, data, THREAT, PGD, 0) != before


def test_a_setting_that_is_no_tensor_makes_another_evaluation() -> None:
    """A state of the model quantised to 3 levels is not gone on with at 5."""

    class Rounded(nn.Module):
        def __init__(self, inner, levels) -> None:
            super().__init__()
            self.inner, self.levels = inner, levels

        def forward(self, x):
            return self.inner((x * self.levels).round() / self.levels)

    model, data = net()
    parts = {"shape": model.shape, "classes": model.classes, "embedding": "inner.trunk"}
    wrapped = [wrap(Rounded(model.body, levels), **parts) for levels in (3, 5, 5)]
    third, fifth, again = (identity(one, data, THREAT, PGD, 0) for one in wrapped)
    assert third != fifth == again


class Turning(nn.Module):
    """A net that names the classes in reverse from some pass on, which no tensor says."""

    def __init__(self, inner, passes) -> None:
        super().__init__()
        self.inner, self.passes, self.seen = inner, passes, 0

    def forward(self, x):
        self.seen += 1
        logits = self.inner(x)
        return logits if self.seen < self.passes else logits.flip(1)


def turning(model, passes):
    parts = {"shape": model.shape, "classes": model.classes, "embedding": "inner.trunk"}
    return wrap(Turning(model.body, passes), **parts)


def test_a_model_that_changes_during_its_evaluation_is_told() -> None:
    model, data = net()
    for diagnosis in (False, True):
        turned = turning(model, 12)
        verdict = evaluate(turned, data, THREAT, attacks=PGD, diagnosis=diagnosis)
        assert verdict.clean_accuracy > 60
        assert verdict.repeats["verdict"] == "suspicious"
        assert "keeps a state" in verdict.repeats["evidence"]
        assert verdict.is_upper_bound
    assert evaluate(model, data, THREAT, attacks=PGD).repeats["verdict"] == "clear"


def stopped_evaluation(model, data, path, attacks=PGD) -> None:
    """Leaves the state of an evaluation that was stopped after its first batch."""

    class EnoughError(Exception):
        pass

    def stop(fraction) -> None:
        raise EnoughError

    with pytest.raises(EnoughError):
        evaluate(model, data, THREAT, attacks=attacks, batch_size=5, save_to=path, progress=stop)


def test_another_model_of_the_same_first_answers_does_not_go_on(tmp_path: Path) -> None:
    class Late(nn.Module):
        """Says the reverse of images whose mean is above a bound."""

        def __init__(self, inner, bound) -> None:
            super().__init__()
            self.inner, self.bound = inner, bound

        def forward(self, x):
            above = (x.flatten(1).mean(dim=1) > self.bound)[:, None]
            logits = self.inner(x)
            return torch.where(above, logits.flip(1), logits)

    model, data = net()
    order = data.images.flatten(1).mean(dim=1).argsort()
    data, bound = data.select(order), float(data.images[order[17]].mean())  # of 16 it says alike
    parts = {"shape": model.shape, "classes": model.classes, "embedding": "inner.trunk"}
    path = tmp_path / "state.json"
    stopped_evaluation(wrap(Late(model.body, 9.0), **parts), data, path)
    with pytest.raises(StoreError, match=r"another model's evaluation.*Delete it"):
        evaluate(wrap(Late(model.body, bound), **parts), data, THREAT, attacks=PGD, save_to=path)


def losses(weight):
    """Two functions of one name, and one that holds another number."""
    first = lambda z, y: cross_entropy(z, y)  # noqa: E731
    second = lambda z, y: margin(z, y)  # noqa: E731
    third = lambda z, y: weight * margin(z, y)  # noqa: E731
    return first, second, third


def test_functions_of_one_name_are_told_apart() -> None:
    made = [*losses(1.0), losses(2.0)[2]]
    assert {f.__qualname__ for f in made} == {"losses.<locals>.<lambda>"}
    assert len({described(f) for f in made}) == 4
    assert [described(f) for f in losses(1.0)] == [described(f) for f in made[:3]]


class Weighted:
    def __init__(self, weight) -> None:
        self.weight = weight

    def __call__(self, z, y):
        return self.weight * margin(z, y)


class Slotted:
    __slots__ = ("weight",)


def doubled(loss):
    return lambda z, y: 2 * loss(z, y)


def by_keyword(weight):
    def loss(z, y, *, by=weight):
        return by * margin(z, y)

    return loss


DIFFERENT = {
    "partial": (partial(margin, weight=1), partial(margin, weight=-1)),
    "partial of": (partial(margin), partial(cross_entropy)),
    "objects": (Weighted(1), Weighted(-1)),
    "methods": (Weighted(1).__call__, Weighted(-1).__call__),
    "keywords": (by_keyword(1), by_keyword(-1)),
    "closures over functions": (doubled(margin), doubled(cross_entropy)),
    "arrays": (doubled(np.zeros(2000)), doubled(np.eye(2000)[999])),
    "tensors in a dictionary": ({"a": torch.zeros(3)}, {"a": torch.ones(3)}),
    "modules": (nn.Linear(2, 2), nn.Linear(2, 2)),
    "unknown": (Slotted(), Slotted()),
}


@pytest.mark.parametrize("pair", DIFFERENT.values(), ids=list(DIFFERENT))
def test_what_differs_is_described_otherwise(pair) -> None:
    first, second = pair
    assert described(first) != described(second)
    if not isinstance(first, Slotted):
        assert described(first) == described(deepcopy(first))


def test_a_function_that_holds_itself_is_described() -> None:
    held = []
    held.append(lambda z, y: margin(z, y) + len(held))
    assert described(held[0]) == described(held[0])


def test_descriptions_are_the_same_in_every_process() -> None:
    code = (
        "from functools import partial\n"
        "from notbugs.attacks import fmn, pgd\n"
        "from notbugs.engine import L2\n"
        "from notbugs.judge.fingerprint import described\n"
        "inner = {'a', 'b', 'c'}\n"
        "loss = lambda z, y: z[:, 0] if 'q' in {'p', 'q', 'r'} else inner\n"
        "print(described([pgd(L2(), 0.1, loss=loss), fmn(L2()), partial(loss, 1)]))"
    )
    env = {**os.environ, "PYTHONHASHSEED": "7"}  # here it is another one
    there = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=env, check=True
    )
    with redirect_stdout(io.StringIO()) as here:
        exec(code, {"__name__": "__main__"})
    assert there.stdout == here.getvalue() != ""
    assert " at 0x" not in there.stdout


def test_a_model_that_writes_over_its_last_answer_is_judged_by_each() -> None:
    class Reusing(nn.Module):
        def __init__(self, inner) -> None:
            super().__init__()
            self.inner, self.held = inner, torch.empty(N, 5)

        def forward(self, x):
            with torch.no_grad():
                self.held[: len(x)] = self.inner(x)
            return self.held[: len(x)]

    model, data = net()
    parts = {"shape": model.shape, "classes": model.classes, "embedding": "inner.trunk"}
    reusing = wrap(Reusing(model.body), **parts)
    attack = square(Linf(), 0.05, steps=20)
    found, wanted = (attack(m, data.images, data.labels, fast=False) for m in (reusing, model))
    assert torch.equal(found.already_wrong, wanted.already_wrong)
    assert torch.equal(found.success, wanted.success)
    assert torch.equal(found.x_adv, wanted.x_adv)


def test_a_state_that_is_kept_holds_the_diagnosis_however_slow_writing_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "state.json"
    ledger = Ledger.opened(path, lambda: "one", 1, 2)
    ledger.begin([True, False])
    ledger._pace.took = 1e6  # writing would now wait for weeks
    ledger.diagnosed(lambda: [{"check": "a", "verdict": "clear"}])
    assert json.loads(path.read_text())["diagnosis"] == []
    ledger.close(keep=True)
    assert json.loads(path.read_text())["diagnosis"] == [{"check": "a", "verdict": "clear"}]
    assert Ledger.opened(path, lambda: "one", 1, 2).diagnosis
