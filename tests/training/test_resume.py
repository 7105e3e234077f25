"""A training that is killed goes on where it stood, or says why it cannot."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from killed import CASES, DATA, EVERYTHING, PARTS, SHORT, VAL, equal, forgetful, small
from notbugs.core import random
from notbugs.core.errors import CheckpointError, DataError
from notbugs.data import safefile
from notbugs.training import saving, train


def kill_in_epoch(number, epochs=6):
    def kill(fraction) -> None:
        if fraction > (number - 1) / epochs:
            raise KeyboardInterrupt

    return kill


@pytest.mark.parametrize(("recipe", "make"), CASES.values(), ids=list(CASES))
def test_killed_and_resumed_equals_straight_bit_for_bit(
    recipe, make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, straight = tmp_path / "c.safetensors", make()
    whole = train(straight, DATA, recipe, seed=3, val=VAL)
    monkeypatch.setattr(saving, "CHECKPOINT_SECONDS", 0.0)
    with pytest.raises(KeyboardInterrupt):
        train(
            make(), DATA, recipe, seed=3, val=VAL, checkpoint_path=path,
            progress=kill_in_epoch(4),
        )  # fmt: skip
    assert path.exists()
    # Whatever others drew in between, and whatever weights the new process began with.
    torch.rand(7)
    heir, seen = make(seed=9), []
    resumed = train(heir, DATA, recipe, seed=3, val=VAL, checkpoint_path=path, progress=seen.append)
    assert seen[0] > 3 / 6
    assert equal(straight, heir)
    assert (resumed.history, resumed.best_epoch) == (whole.history, whole.best_epoch)


def test_killed_twice_and_before_the_first_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, straight, heir = tmp_path / "c.safetensors", small(), small()
    train(straight, DATA, SHORT, seed=3)
    with pytest.raises(KeyboardInterrupt):
        train(small(), DATA, SHORT, seed=3, checkpoint_path=path, progress=kill_in_epoch(1))
    assert not path.exists()
    monkeypatch.setattr(saving, "CHECKPOINT_SECONDS", 0.0)
    for number in (3, 5):
        with pytest.raises(KeyboardInterrupt):
            train(heir, DATA, SHORT, seed=3, checkpoint_path=path, progress=kill_in_epoch(number))
    train(heir, DATA, SHORT, seed=3, checkpoint_path=path)
    assert equal(straight, heir)


def test_a_finished_training_is_not_done_again(tmp_path: Path) -> None:
    path, seen = tmp_path / "c.safetensors", []
    model, again = small(), small(seed=1)
    first = train(model, DATA, EVERYTHING, seed=3, val=VAL, checkpoint_path=path)
    more = train(
        again, DATA, EVERYTHING, seed=3, val=VAL, checkpoint_path=path, progress=seen.append
    )
    assert seen == [1.0]
    assert equal(model, again)
    assert (more.history, more.best_epoch) == (first.history, first.best_epoch)


def test_the_best_weights_are_those_of_the_best_epoch(tmp_path: Path) -> None:
    recipe = replace(SHORT, select="best", watch_every=1, lr=0.3)
    model = small()
    done = train(model, DATA, recipe, seed=0, val=VAL)
    scores = [row["val_clean"] for row in done.history]
    assert done.best_epoch == scores.index(max(scores)) + 1
    with torch.no_grad():
        right = model(VAL.pixels()).argmax(dim=1) == VAL.labels
    assert 100 * float(right.float().mean()) == pytest.approx(max(scores), abs=1e-3)


def test_a_checkpoint_of_another_training_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "c.safetensors"
    recipe = replace(SHORT, epochs=1, watch_every=1)
    train(small(), DATA, recipe, seed=1, val=VAL, checkpoint_path=path)
    before = path.read_bytes()
    others = {
        "model": (small(0, "mlp", width=8), DATA, recipe, VAL),
        "data": (small(), PARTS.train.select(slice(1, 129)), recipe, VAL),
        "labels": (small(), DATA.with_labels((DATA.labels + 1) % 10), recipe, VAL),
        "recipe": (small(), DATA, replace(recipe, weight_decay=0.0), VAL),
        "watched": (small(), DATA, recipe, VAL.select(slice(0, 10))),
    }
    for model, data, other, val in others.values():
        with pytest.raises(DataError, match=r"belongs to another .*Choose another folder"):
            train(model, data, other, seed=1, val=val, checkpoint_path=path)
    assert path.read_bytes() == before


def test_a_damaged_checkpoint_is_refused(tmp_path: Path) -> None:
    path, recipe = tmp_path / "c.safetensors", replace(SHORT, epochs=1)
    train(small(), DATA, recipe, seed=1, checkpoint_path=path)
    whole = path.read_bytes()
    damaged = (whole[:-1], whole[: len(whole) // 2], whole[:9], b"", b"\x80\x02}q\x00.", whole[8:])
    for content in damaged:
        path.write_bytes(content)
        with pytest.raises(DataError, match=r"Cannot read '.*c\.safetensors'"):
            train(small(), DATA, recipe, seed=1, checkpoint_path=path)
    for place in range(len(whole) // 2, len(whole), len(whole) // 20):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
        with pytest.raises(CheckpointError, match=r"is damaged: its digest .*--overwrite"):
            train(small(), DATA, recipe, seed=1, checkpoint_path=path)
    path.write_bytes(whole)
    assert train(small(), DATA, recipe, seed=1, checkpoint_path=path).history[0]["epoch"] == 1


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"model.body.head.bias": torch.zeros(10, dtype=torch.int32)}, "of another dtype: body"),
        ({"model.body.head.bias": torch.full((10,), torch.nan)}, "NaN or infinite: body"),
        ({"model.body.head.bias": torch.zeros(3)}, "of another shape: body"),
        ({"momentum.0": torch.zeros(3)}, "of another shape: 0"),
        ({"momentum.99": torch.zeros(3)}, "unexpected: 99"),
        ({"best.more": torch.zeros(3)}, "missing: .*unexpected: more"),
    ],
)
def test_a_checkpoint_whose_tensors_are_not_the_trainings_is_refused(
    tmp_path: Path, change, message
) -> None:
    path, recipe = tmp_path / "c.safetensors", replace(SHORT, epochs=1)
    train(small(), DATA, recipe, seed=1, checkpoint_path=path)
    tensors, metadata = safefile.read_tensors(path)
    safefile.write_tensors(path, tensors | change, metadata)
    model = small()
    with pytest.raises(CheckpointError, match=message):
        train(model, DATA, recipe, seed=1, checkpoint_path=path)
    assert equal(model, small())
    again, straight = small(), small()
    train(again, DATA, recipe, seed=1, checkpoint_path=path, restart=True)
    train(straight, DATA, recipe, seed=1)
    assert equal(again, straight)


def test_dropout_follows_the_seed_and_leaves_the_global_generator_alone() -> None:
    recipe = replace(SHORT, epochs=2)
    torch.rand(int(random.scalar(random.row_keys(1, "some")) * 5) + 1)
    state = torch.get_rng_state()
    one, two, other = forgetful(), forgetful(), forgetful()
    train(one, DATA, recipe, seed=1)
    assert torch.equal(torch.get_rng_state(), state)
    torch.rand(3)
    train(two, DATA, recipe, seed=1)
    train(other, DATA, recipe, seed=2)
    assert equal(one, two)
    assert not equal(one, other)
