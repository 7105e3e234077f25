"""Training crafts through a folded copy where there is one, and begins layers from data."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn

from killed import DATA, SHORT, equal, small
from normed import Fading
from notbugs.core import random
from notbugs.data import ImageData
from notbugs.models import build, wrap
from notbugs.training import Adversary, Free, Trades, train, trainer
from notbugs.training.trainer import Trainer

NAMES = tuple(map(str, range(10)))
PGD = replace(SHORT, epochs=2, adversary=Adversary("linf:0.05", steps=3))


def normed(seed=0):
    return small(seed, "resnet8", width=2)


def work(recipe, model=None):
    return Trainer(model or normed(), DATA, recipe)


def test_who_crafts_in_eval_mode_has_a_folded_copy() -> None:
    assert work(PGD).folded_copy is not None
    assert work(replace(PGD, objective=Trades(1.0))).folded_copy is not None
    assert work(SHORT).folded_copy is None
    assert work(PGD, small()).folded_copy is None  # no norms
    in_train_mode = replace(PGD, adversary=Adversary("linf:0.05", steps=1, train_mode=True))
    assert work(in_train_mode).folded_copy is None
    assert work(replace(PGD, objective=Free(2))).folded_copy is None


@pytest.mark.parametrize("objective", [PGD.objective, Trades(1.0)], ids=["plain", "trades"])
def test_it_learns_what_it_learns_without(objective, monkeypatch: pytest.MonkeyPatch) -> None:
    # One epoch: further steps only enlarge what rounding begins.
    recipe = replace(PGD, objective=objective, epochs=1)
    ours, theirs = normed(), normed()
    asked = []
    real = trainer.FoldedCopy.__call__
    with monkeypatch.context() as patch:
        patch.setattr(
            trainer.FoldedCopy, "__call__", lambda self, x: asked.append(1) or real(self, x)
        )
        train(ours, DATA, recipe, seed=0)
    assert len(asked) >= 4 * 4  # batches, and three steps with a last look
    with monkeypatch.context() as patch:
        patch.setattr(trainer, "copy_to_craft_by", lambda *given: None)
        train(theirs, DATA, recipe, seed=0)
    for name, value in theirs.state_dict().items():
        torch.testing.assert_close(ours.state_dict()[name], value, atol=2e-3, rtol=2e-2)


def test_a_copy_that_no_longer_follows_is_left_aside(monkeypatch: pytest.MonkeyPatch) -> None:
    inner = normed().body
    body = nn.Sequential(inner.trunk, Fading(), inner.head)
    model = wrap(body, shape=(1, 8, 8), classes=10, embedding="0")
    asked = []
    real = trainer.FoldedCopy.__call__
    monkeypatch.setattr(
        trainer.FoldedCopy, "__call__", lambda self, x: asked.append(1) or real(self, x)
    )
    calls = []
    train(model, DATA, PGD, seed=0, on_epoch=lambda history: calls.append(len(asked)))
    assert 0 < calls[0] == calls[1]


def test_weights_are_laid_out_in_the_faster_memory_format() -> None:
    model = build("cnn", shape=(1, 28, 28), classes=10, seed=0, options={"width": 2, "hidden": 4})
    rows = random.row_keys(32, "large")
    data = ImageData(random.uniform(rows, (1, 28, 28)), torch.arange(32) % 10, NAMES, "noise")
    train(model, data, replace(SHORT, epochs=1), seed=0)
    assert model.body.trunk[2].weight.is_contiguous(memory_format=torch.channels_last)


def test_the_callers_draws_are_left_alone() -> None:
    class Noisy(nn.Module):
        def forward(self, x):
            return x + 0.01 * torch.randn_like(x)

    inner = normed().body
    model = wrap(nn.Sequential(Noisy(), inner), shape=(1, 8, 8), classes=10, embedding="1.trunk")
    state = torch.get_rng_state()
    train(model, DATA, PGD, seed=0)
    assert torch.equal(torch.get_rng_state(), state)


def test_layers_begin_from_data_once_and_only_where_there_are_any(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = small(0, "airbench", width=4, wide=6)
    before = model.body.trunk[0].weight.clone()
    train(model, DATA, replace(SHORT, epochs=1), seed=0)
    fitted = model.body.trunk[0].weight.clone()
    assert bool(model.body.trunk[0].fitted)
    assert not torch.equal(fitted, before)
    others = DATA.select(slice(32, 128))
    train(model, others, replace(SHORT, epochs=1), seed=0)
    assert torch.equal(model.body.trunk[0].weight, fitted)
    monkeypatch.setattr(trainer, "fit_to", lambda *given: pytest.fail("nothing to fit"))
    train(small(), DATA, replace(SHORT, epochs=1), seed=0)


def test_a_checkpoint_of_another_training_is_written_over_if_asked(tmp_path: Path) -> None:
    path, straight, model = tmp_path / "c.safetensors", small(), small()
    train(small(), DATA, SHORT, seed=1, checkpoint_path=path)
    train(straight, DATA, SHORT, seed=3)
    train(model, DATA, SHORT, seed=3, checkpoint_path=path, restart=True)
    assert equal(straight, model)
    again, seen = small(seed=9), []
    train(again, DATA, SHORT, seed=3, checkpoint_path=path, restart=True, progress=seen.append)
    assert seen == [1.0]  # its own is gone on with
    assert equal(straight, again)
    path.write_bytes(b"damaged")
    train(model := small(), DATA, SHORT, seed=3, checkpoint_path=path, restart=True)
    assert equal(straight, model)
