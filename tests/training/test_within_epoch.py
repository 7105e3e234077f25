"""A training that is killed in the middle of an epoch ends with the same weights, bit for bit."""

import json
import os
import random
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from killed import CASES, DATA, SHORT, VAL, equal, forgetful, small
from notbugs.core.errors import TrainingError
from notbugs.core.pace import Pace
from notbugs.data.safefile import read_tensors
from notbugs.models import load_into
from notbugs.training import checkpoint, saving, train, trainer
from notbugs.training.trainer import Trainer
from victims import killed_once

PER_EPOCH = len(DATA) // SHORT.batch_size
STEPS = SHORT.epochs * PER_EPOCH


def stands(path):
    """Epoch and batch at which a checkpoint stands."""
    facts = json.loads(read_tensors(path)[1]["notbugs-checkpoint"])
    return facts["epoch"], facts["batch"]


def ended_before(monkeypatch: pytest.MonkeyPatch, number):
    """Lets no training take its step `number`, counted from 0; returns the steps begun."""
    begun = []

    def seed_global_rng(device, *names) -> None:
        begun.append(names[-1])
        if names[-1] == number:
            raise KeyboardInterrupt
        REAL(device, *names)

    monkeypatch.setattr(trainer, "seed_global_rng", seed_global_rng)
    return begun


REAL = trainer.seed_global_rng


@pytest.mark.parametrize("case", list(CASES))
def test_ended_at_two_steps_and_resumed_equals_straight_bit_for_bit(
    case, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (recipe, make), path = CASES[case], tmp_path / "c.safetensors"
    straight = make()
    whole = train(straight, DATA, recipe, seed=3, val=VAL)
    steps = len(whole.history) * PER_EPOCH  # patience may end it early
    draws = random.Random(case)
    within = [step for step in range(1, steps) if step % PER_EPOCH]
    first, second = sorted(draws.sample(within, 2))
    monkeypatch.setattr(saving, "CHECKPOINT_SECONDS", 0.0)
    for number, begin, seed in ((first, 0, 0), (second, first, 9)):
        begun = ended_before(monkeypatch, number)
        with pytest.raises(KeyboardInterrupt):
            train(make(seed=seed), DATA, recipe, seed=3, val=VAL, checkpoint_path=path)
        assert begun == list(range(begin, number + 1))
        assert stands(path) == divmod(number, PER_EPOCH)
        torch.rand(5)  # whatever others draw in between
    begun, heir = ended_before(monkeypatch, None), make(seed=9)
    resumed = train(heir, DATA, recipe, seed=3, val=VAL, checkpoint_path=path)
    assert begun == list(range(second, steps))
    assert equal(straight, heir)
    assert (resumed.history, resumed.best_epoch) == (whole.history, whole.best_epoch)


def test_what_dropout_draws_follows_from_the_step(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The draws of the steps left are those of the whole training, and no two are the same."""
    drawn, path = [], tmp_path / "c.safetensors"
    real = Trainer.step

    def step(self, epoch, index, rate):
        drawn.append(torch.get_rng_state().sum().item())  # what a layer would draw from
        return real(self, epoch, index, rate)

    monkeypatch.setattr(Trainer, "step", step)
    train(forgetful(), DATA, SHORT, seed=3)
    whole = drawn.copy()
    assert len(set(whole)) == STEPS
    monkeypatch.setattr(saving, "CHECKPOINT_SECONDS", 0.0)
    ended_before(monkeypatch, 6)
    with pytest.raises(KeyboardInterrupt):
        train(forgetful(), DATA, SHORT, seed=3, checkpoint_path=path)
    ended_before(monkeypatch, None)
    drawn.clear()
    train(forgetful(), DATA, SHORT, seed=3, checkpoint_path=path)
    assert drawn == whole[6:]


def test_a_loss_that_is_no_number_is_never_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "c.safetensors"
    monkeypatch.setattr(saving, "CHECKPOINT_SECONDS", 0.0)
    real = Trainer.step
    taken = []

    def step(self, epoch, index, rate):
        taken.append(epoch)
        return real(self, epoch, index, rate) * (torch.nan if len(taken) == PER_EPOCH + 2 else 1)

    monkeypatch.setattr(Trainer, "step", step)
    with pytest.raises(TrainingError, match=r"loss became nan in epoch 2"):
        train(small(), DATA, SHORT, seed=3, checkpoint_path=path)
    assert len(taken) == PER_EPOCH + 2  # found at once, not at the end of the epoch
    assert stands(path) == (1, 1)


def test_nothing_is_written_within_an_epoch_before_its_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls, real = [], checkpoint.save
    monkeypatch.setattr(checkpoint, "save", lambda *given: calls.append(given) or real(*given))
    train(small(), DATA, SHORT, seed=3, checkpoint_path=tmp_path / "c.safetensors")
    assert len(calls) == 1  # the last one: all of it takes less than ten seconds


def test_writing_takes_a_twentieth_of_the_time_at_most(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr(time, "perf_counter", lambda: now[0])
    pace = Pace()
    assert not pace.due(10.0)
    now[0] = 10.5
    assert pace.due(10.0)
    now[0] = 13.5
    pace.written(10.5)  # it took 3 seconds
    now[0] = 13.5 + 59
    assert not pace.due(10.0)
    now[0] = 13.5 + 61
    assert pace.due(10.0)
    assert pace.due(0.0)


CHILD = """
import sys
import time
from pathlib import Path
import torch
torch.set_num_threads(1)
sys.path.insert(0, sys.argv[1])
from notbugs.models import save
from notbugs.training import saving, train
from killed import CASES, DATA, VAL
saving.CHECKPOINT_SECONDS = 0.0
folder, case, seed = Path(sys.argv[2]), sys.argv[3], int(sys.argv[4])
recipe, make = CASES[case]
model = make(seed=seed)
def on_epoch(history):
    if seed == 0 and len(history) == recipe.epochs - 1:
        time.sleep(300)  # it is killed before its end, however late
train(
    model, DATA, recipe, seed=3, val=VAL, checkpoint_path=folder / "c.safetensors",
    on_epoch=on_epoch,
)
save(model, folder / "end.safetensors")
"""
KILLED = "dropout, norms and an average"


def test_kill_9_at_any_moment(tmp_path: Path) -> None:
    """A whole process, killed wherever it is: in a step, in a write, between the two."""
    recipe, make = CASES[KILLED]
    straight, heir = make(), make(seed=1)
    train(straight, DATA, recipe, seed=3, val=VAL)
    command = [sys.executable, "-c", CHILD, str(Path(__file__).parents[1]), str(tmp_path), KILLED]
    env = {**os.environ, "OMP_NUM_THREADS": "1"}
    path, end = tmp_path / "c.safetensors", tmp_path / "end.safetensors"
    # The child changes the file by renaming, so that it is whole whenever it is there.
    killed_once(lambda: path.exists() and stands(path) > (1, 0), [*command, "0"], env)
    assert (1, 0) < stands(path) < (SHORT.epochs, 0)
    assert not end.exists()
    subprocess.run([*command, "9"], check=True, env=env, timeout=240)
    load_into(heir, end)
    assert equal(straight, heir)
