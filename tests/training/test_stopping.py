"""Training that ends before its time says why, and hands back the weights from before."""

import errno
import json
import os
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
import torch

from notbugs.core.errors import StoreError, TrainingError
from notbugs.data import load_source, split
from notbugs.data.safefile import read_tensors
from notbugs.engine import Threat
from notbugs.judge import accuracy
from notbugs.models import build
from notbugs.training import (
    AbstractTrainingObjective,
    Adversary,
    FastGradient,
    Free,
    Mixed,
    Noise,
    Plain,
    Recipe,
    saving,
    stopping,
    train,
)
from notbugs.training.average import Average
from notbugs.training.stopping import collapsed

PARTS = split(load_source("digits"), seed=0, train_size=300)
SHORT = Recipe(epochs=6, batch_size=32, lr=0.1)
ONE_STEP = replace(SHORT, adversary=Adversary("linf:0.1", steps=1))


def small(seed=0):
    return build("mlp", shape=(1, 8, 8), classes=10, seed=seed)


def state(model):
    return {k: v.clone() for k, v in model.state_dict().items()}


def watched(monkeypatch: pytest.MonkeyPatch, values):
    """Robust accuracies, epoch by epoch, in place of the guard's; the weights seen each time."""
    seen = []

    def look(self, model):
        seen.append(state(model))
        return values[len(seen) - 1]

    monkeypatch.setattr(stopping.Guard, "robust", look)
    return seen


def test_catastrophic_overfitting_is_detected_and_stopped(monkeypatch: pytest.MonkeyPatch) -> None:
    seen, model = watched(monkeypatch, [30.0, 45.0, 44.0, 12.0, 50.0]), small()
    done = train(model, PARTS.train, ONE_STEP, seed=0)
    assert len(done.history) == len(seen) == 4
    assert "Catastrophic overfitting in epoch 4" in done.stopped
    assert "fell from 45.0 to 12.0 %" in done.stopped
    assert done.best_epoch == 2
    assert all(torch.equal(v, seen[1][k]) for k, v in state(model).items())
    assert [row["guard_robust"] for row in done.history] == [30.0, 45.0, 44.0, 12.0]


@pytest.mark.parametrize(
    ("changes", "epoch"),
    [
        ({"select": "best", "watch_every": 5}, 2),  # no look before the collapse: the guard's best
        ({"select": "best", "watch_every": 3}, 3),  # the look chose epoch 3, which was sound
        ({"patience": 2, "watch_every": 5}, 2),
    ],
)
def test_a_collapsed_epoch_is_never_handed_back(
    changes, epoch, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen, model = watched(monkeypatch, [30.0, 45.0, 44.0, 1.0]), small()
    recipe = replace(ONE_STEP, **changes)
    done = train(model, PARTS.train, recipe, seed=0, val=PARTS.val)
    assert len(done.history) == 4
    assert done.best_epoch == epoch
    assert f"The weights are those of epoch {epoch}." in done.stopped
    assert all(torch.equal(v, seen[epoch - 1][k]) for k, v in state(model).items())


def test_free_training_is_watched_as_well(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = watched(monkeypatch, [30.0] * 6)
    recipe = replace(SHORT, adversary=Adversary("linf:0.1", steps=5), objective=Free(2))
    train(small(), PARTS.train, recipe, seed=0)
    assert len(seen) == 6


def test_the_guard_remembers_its_best_when_training_goes_on(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    path = tmp_path / "c.safetensors"
    monkeypatch.setattr(saving, "CHECKPOINT_SECONDS", 0.0)
    seen = watched(monkeypatch, [45.0, 40.0])

    def kill(fraction) -> None:
        if fraction > 2 / 6:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(small(), PARTS.train, ONE_STEP, seed=0, checkpoint_path=path, progress=kill)
    watched(monkeypatch, [1.0])
    model = small(seed=1)
    done = train(model, PARTS.train, ONE_STEP, seed=0, checkpoint_path=path)
    assert "fell from 45.0 to 1.0 %" in done.stopped
    assert done.best_epoch == 1
    assert all(torch.equal(v, seen[0][k]) for k, v in state(model).items())


def test_patience_is_remembered_when_training_goes_on(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    path = tmp_path / "c.safetensors"
    monkeypatch.setattr(saving, "CHECKPOINT_SECONDS", 0.0)
    values = iter([50.0, 60.0, 55.0, 54.0])
    monkeypatch.setattr(stopping, "percent_right", lambda model, data: next(values))
    recipe = replace(SHORT, watch_every=1, patience=2)

    def kill(fraction) -> None:
        if fraction > 3 / 6:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(
            small(), PARTS.train, recipe, seed=0, val=PARTS.val,
            checkpoint_path=path, progress=kill,
        )  # fmt: skip
    done = train(small(), PARTS.train, recipe, seed=0, val=PARTS.val, checkpoint_path=path)
    assert done.stopped.startswith("Stopped early in epoch 4")
    assert done.best_epoch == 2


def test_it_really_looks(monkeypatch: pytest.MonkeyPatch) -> None:
    done = train(small(), PARTS.train, ONE_STEP, seed=0)
    values = [row["guard_robust"] for row in done.history]
    assert max(values) > 20
    assert done.stopped == ""


@pytest.mark.parametrize(
    "recipe",
    [
        replace(ONE_STEP, guard=False),
        replace(SHORT, adversary=Adversary("linf:0.1", steps=2)),
        SHORT,
    ],
    ids=["switched off", "two steps", "no adversary"],
)
def test_nobody_looks_where_there_is_no_need(recipe, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = watched(monkeypatch, [90.0, 0.0, 0.0, 0.0, 0.0, 0.0])
    done = train(small(), PARTS.train, recipe, seed=0)
    assert not seen
    assert len(done.history) == 6


def test_what_counts_as_a_collapse() -> None:
    assert collapsed(20.0, 45.0, 10.0)
    assert not collapsed(23.0, 45.0, 10.0)
    assert not collapsed(0.0, 19.0, 10.0)  # it had not learnt anything yet
    assert not collapsed(0.0, float("-inf"), 10.0)


def test_a_collapse_is_remembered_by_the_checkpoint(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    path = tmp_path / "c.safetensors"
    watched(monkeypatch, [45.0, 1.0])
    first = small()
    done = train(first, PARTS.train, ONE_STEP, seed=0, checkpoint_path=path)
    again = small(seed=1)
    more = train(again, PARTS.train, ONE_STEP, seed=0, checkpoint_path=path)
    assert (more.stopped, more.best_epoch) == (done.stopped, 1)
    assert all(torch.equal(v, state(first)[k]) for k, v in state(again).items())


def test_patience_ends_training_and_keeps_the_best(monkeypatch: pytest.MonkeyPatch) -> None:
    values = iter([50.0, 60.0, 55.0, 58.0, 70.0, 80.0])
    monkeypatch.setattr(stopping, "percent_right", lambda model, data: next(values))
    recipe = replace(SHORT, watch_every=1, patience=2)
    done = train(small(), PARTS.train, recipe, seed=0, val=PARTS.val)
    assert len(done.history) == 4
    assert done.best_epoch == 2
    assert done.stopped.startswith("Stopped early in epoch 4")


def test_the_average_is_the_mean_at_first_and_then_forgets() -> None:
    model = torch.nn.Linear(1, 1)
    average = Average(model, 0.5)
    for value in (1.0, 3.0, 5.0):
        with torch.no_grad():
            model.weight.fill_(value)
        average.update()
    # 1; then (1 + 3) / 2; then half of that and half of 5.
    assert float(average.state["weight"]) == 3.5
    with average.lent():
        assert float(model.weight.detach()) == 3.5
    assert float(model.weight.detach()) == 5.0


def test_averaged_weights_are_watched_and_returned(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []
    monkeypatch.setattr(stopping, "percent_right", lambda m, data: seen.append(state(m)) or 1.0)
    model = small()
    recipe = replace(SHORT, average=0.99, watch_every=1)
    train(model, PARTS.train, recipe, seed=0, val=PARTS.val)
    assert all(torch.equal(v, seen[-1][k]) for k, v in state(model).items())
    plain = small()
    train(plain, PARTS.train, SHORT, seed=0)
    assert any(not torch.equal(v, state(model)[k]) for k, v in state(plain).items())
    assert accuracy(model, PARTS.test) > 60


@dataclass(frozen=True)
class Breaking(AbstractTrainingObjective):
    """Plain, until its last epochs' loss is no number."""

    def prepared(self, batch, adversary):
        one = Plain().prepared(batch, adversary)
        return lambda: one() * (torch.nan if batch.strength < 1 else 1)


@dataclass(frozen=True)
class Late(Noise):
    """Says by its strength which epoch it is: less than 1 from the fourth on."""

    def strength(self, epoch, epochs):
        return 1.0 if epoch < 3 else 0.5


def test_a_loss_that_is_no_number_stops_and_leaves_the_last_good_checkpoint(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    path = tmp_path / "c.safetensors"
    monkeypatch.setattr(saving, "CHECKPOINT_SECONDS", 0.0)
    recipe = replace(SHORT, adversary=Late("linf:0.01"), objective=Breaking())
    with pytest.raises(TrainingError, match=r"loss became nan in epoch 4 at learning rate"):
        train(small(), PARTS.train, recipe, seed=0, checkpoint_path=path)
    tensors, metadata = read_tensors(path)
    assert json.loads(metadata["notbugs-checkpoint"])["epoch"] == 3
    assert all(bool(v.isfinite().all()) for v in tensors.values())


def test_a_full_disk_leaves_the_old_checkpoint_as_it_was(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    path, calls, real = tmp_path / "c.safetensors", [], os.fsync
    monkeypatch.setattr(saving, "CHECKPOINT_SECONDS", 0.0)

    per_epoch = len(PARTS.train) // SHORT.batch_size

    def full_in_the_third_epoch(fd) -> None:
        calls.append(fd)
        if len(calls) == 2 * per_epoch + 3:
            raise OSError(errno.ENOSPC, "No space left on device")
        real(fd)

    monkeypatch.setattr(os, "fsync", full_in_the_third_epoch)
    with pytest.raises(StoreError, match=r"disk is full|No space left"):
        train(small(), PARTS.train, SHORT, seed=0, checkpoint_path=path)
    _, metadata = read_tensors(path)
    stands = json.loads(metadata["notbugs-checkpoint"])
    assert (stands["epoch"], stands["batch"]) == (2, 2)
    monkeypatch.setattr(os, "fsync", real)
    heir, straight = small(seed=1), small()
    train(heir, PARTS.train, SHORT, seed=0, checkpoint_path=path)
    train(straight, PARTS.train, SHORT, seed=0)
    assert all(torch.equal(v, state(straight)[k]) for k, v in state(heir).items())


def test_the_best_clean_epoch_is_chosen_also_where_there_is_an_adversary() -> None:
    recipe = replace(SHORT, adversary=FastGradient("linf:0.2"), watch_every=1, guard=False)
    done = {}
    for select in ("best", "best-clean"):
        model = small()
        done[select] = train(
            model, PARTS.train, replace(recipe, select=select), seed=0, val=PARTS.val
        )
        column = "val_robust" if select == "best" else "val_clean"
        scores = [row[column] for row in done[select].history]
        assert done[select].best_epoch == 1 + scores.index(max(scores))
        if select == "best-clean":
            assert accuracy(model, PARTS.val) == max(scores)
    assert [r["val_robust"] for r in done["best"].history] == [
        r["val_robust"] for r in done["best-clean"].history
    ]


def test_fast_gradients_are_judged_by_themselves() -> None:
    threat = Threat.parse("linf:0.2")
    assert FastGradient("linf:0.2").measured_by(threat).name == "FGSM"
    assert "PGD" in Adversary("linf:0.2").measured_by(threat).name
    same = Adversary("linf:0.2", steps=1, random_start=False, train_mode=True)
    models = [small(), small()]
    for model, adversary in zip(models, (FastGradient("linf:0.2"), same), strict=True):
        recipe = replace(SHORT, adversary=adversary, objective=Mixed(), guard=False)
        train(model, PARTS.train, recipe, seed=0)
    assert all(torch.equal(v, state(models[1])[k]) for k, v in state(models[0]).items())
