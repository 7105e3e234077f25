"""Entering several steps at once changes nothing but the time."""

from dataclasses import dataclass, replace

import pytest
import torch

from notbugs import attacks
from notbugs.core import random
from notbugs.engine import (
    L2,
    AbstractKeep,
    Kept,
    Last,
    Linf,
    LowestValue,
    OfOutputs,
    SmallestSuccess,
    SuccessThenLowest,
    record,
)
from notbugs.models import build


@pytest.mark.parametrize(
    "attack",
    [
        attacks.pgd(Linf(), 0.1, steps=37),
        attacks.pgd(L2(), 0.4, steps=5, loss=attacks.margin, restarts=2),
        attacks.mim(Linf(), 0.1, steps=20),
        attacks.apgd(L2(), 0.4, steps=33, stop_on_success=False),
    ],
    ids=lambda attack: attack.name,
)
@pytest.mark.parametrize("targeted", [False, True])
def test_the_result_is_that_of_step_by_step(
    attack, targeted, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = build("mlp", shape=(1, 6, 6), classes=4, seed=2).eval()
    x = random.uniform(random.row_keys(30, "blocks"), (1, 6, 6))
    with torch.no_grad():
        y = model.logits(x).argmax(dim=1)
    given = {"targets": (y + 1) % 4} if targeted else {"y": y}
    small = attack(model, x, seed=3, **given)
    with monkeypatch.context() as patch:
        patch.setattr(record, "SMALL", 0)
        plain = attack(model, x, seed=3, **given)
    for name in ("x_adv", "success", "loss", "zero_grads", "steps"):
        assert torch.equal(getattr(small, name), getattr(plain, name)), name
    assert (small.forwards, small.backwards) == (plain.forwards, plain.backwards)
    assert small.attack_success_rate > 0


@pytest.mark.parametrize(
    "keep", [SuccessThenLowest(), LowestValue(), SmallestSuccess(L2()), Last()], ids=repr
)
def test_the_best_of_a_block_is_what_would_be_kept_one_by_one(keep) -> None:
    b, n = 9, 400
    value = random.uniform(random.row_keys(b, "v"), (n,)).mul(5).floor()  # many ties
    value[random.uniform(random.row_keys(b, "nan"), (n,)) < 0.2] = float("nan")
    value[:, 7] = float("nan")
    success = random.uniform(random.row_keys(b, "s"), (n,)) < 0.3
    success &= ~value.isnan()
    x = torch.arange(b * n, dtype=torch.float32).reshape(b, n, 1)
    kept, held = None, Kept(x[0], value[0], success[0])
    for i in range(b):
        kept = keep.update(Kept(x[i], value[i], success[i]), kept, x[0])
    later = Kept(x[1:], value[1:], success[1:])
    for found in (
        keep.best_of(Kept(x, value, success), None, x[0]),
        keep.best_of(later, held, x[0]),
    ):
        assert torch.equal(found.x, kept.x)
        assert torch.equal(found.success, kept.success)
        torch.testing.assert_close(found.value, kept.value, rtol=0, atol=0, equal_nan=True)


def test_an_objective_of_outputs_has_nothing_beside_them() -> None:
    """The solver works with its outputs alone, and would leave such a call out."""
    with pytest.raises(TypeError, match="Odd overrides __call__: subclass AbstractObjective"):

        class Odd(OfOutputs):
            def __call__(self, x, context, draw):
                return None


@dataclass(frozen=True)
class First(AbstractKeep):
    """Gives back the very point that it was shown first."""

    def better(self, new, kept, center):
        return torch.zeros_like(new.success)

    def update(self, new, kept, center):
        return new if kept is None else kept


class Recorder(list):
    """An observer that is empty, and so false, until it is called."""

    def __call__(self, info) -> None:
        self.append(info)


def test_what_a_keep_holds_is_not_written_over_by_the_next_block() -> None:
    model = build("mlp", shape=(1, 6, 6), classes=4, seed=2).eval()
    x = random.uniform(random.row_keys(2, "held"), (1, 6, 6))
    attack = attacks.pgd(Linf(), 0.1, steps=150, random_start=False)
    attack = replace(attack, solver=replace(attack.solver, keep=First()))
    found = attack.craft(model.logits, x, torch.arange(2), keys=random.row_keys(2, "held"))
    assert torch.equal(found.x, x)


def test_an_observer_that_counts_as_false_sees_the_values() -> None:
    model = build("mlp", shape=(1, 6, 6), classes=4, seed=2).eval()
    x = random.uniform(random.row_keys(3, "seen"), (1, 6, 6))
    seen = Recorder()
    attacks.pgd(Linf(), 0.1, steps=3)(model, x, torch.arange(3), observe=seen, fast=None)
    assert len(seen) == 4
    assert all(bool(info.value.isfinite().all()) for info in seen)
