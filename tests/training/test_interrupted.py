"""Ctrl-C in a training: the step under way ends, is saved, and nothing of it is lost."""

import json
import re
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from killed import CASES, DATA, SHORT, VAL, equal, small
from notbugs.core.interrupts import Stopped
from notbugs.data.safefile import read_tensors
from notbugs.training import train, trainer

REAL, PER_EPOCH = trainer.seed_global_rng, len(DATA) // SHORT.batch_size
MIDDLE, LAST = 2 * PER_EPOCH + 1, 3 * PER_EPOCH - 1
"""Steps, from 0: within the third epoch, and its last."""


@pytest.fixture(autouse=True)
def _as_on_a_terminal() -> Iterator[None]:
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def stands(path):
    """Epoch and batch at which a checkpoint stands."""
    facts = json.loads(read_tensors(path)[1]["notbugs-checkpoint"])
    return facts["epoch"], facts["batch"]


def pressed_in(monkeypatch: pytest.MonkeyPatch, number, times=1) -> None:
    """Ctrl-C comes while step `number` is under way, so many times."""

    def seed_global_rng(device, *names) -> None:
        for _ in range(times if names[-1] == number else 0):
            signal.raise_signal(signal.SIGINT)
        REAL(device, *names)

    monkeypatch.setattr(trainer, "seed_global_rng", seed_global_rng)


@pytest.mark.parametrize(
    ("case", "step"),
    [("everything at once", LAST)] + [("dropout, norms and an average", s) for s in (MIDDLE, LAST)],
)
def test_stopped_at_any_step_and_resumed_equals_straight(
    case, step, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (recipe, make), path = CASES[case], tmp_path / "c.safetensors"
    straight, again = make(), make()
    whole = train(straight, DATA, recipe, seed=3, val=VAL)
    pressed_in(monkeypatch, step)
    at = f"epoch 3 of {SHORT.epochs}, after step {step % PER_EPOCH + 1} of {PER_EPOCH}; saved to"
    with pytest.raises(Stopped, match=re.escape(f"{at} '{path}'")):
        train(again, DATA, recipe, seed=3, val=VAL, checkpoint_path=path)
    assert stands(path) == (2, step % PER_EPOCH + 1)
    monkeypatch.setattr(trainer, "seed_global_rng", REAL)
    resumed = make(seed=9)
    ended = train(resumed, DATA, recipe, seed=3, val=VAL, checkpoint_path=path)
    assert equal(straight, resumed)
    assert ended.history == whole.history


def test_between_epochs_too(tmp_path: Path) -> None:
    path = tmp_path / "c.safetensors"

    def press(history) -> None:
        if len(history) == 2:
            signal.raise_signal(signal.SIGINT)

    with pytest.raises(Stopped, match=f"after epoch 2 of {SHORT.epochs}; saved"):
        train(small(), DATA, SHORT, seed=3, checkpoint_path=path, on_epoch=press)
    assert stands(path) == (2, 0)


def test_the_second_ctrl_c_stops_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pressed_in(monkeypatch, MIDDLE, times=2)
    path = tmp_path / "c.safetensors"
    with pytest.raises(KeyboardInterrupt) as caught:
        train(small(), DATA, SHORT, seed=3, checkpoint_path=path)
    assert not isinstance(caught.value, Stopped)
    assert not path.exists()


def test_without_a_checkpoint_ctrl_c_stops_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    pressed_in(monkeypatch, MIDDLE)
    with pytest.raises(KeyboardInterrupt) as caught:
        train(small(), DATA, SHORT, seed=3)
    assert not isinstance(caught.value, Stopped)
