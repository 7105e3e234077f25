"""Training: it learns, resumes exactly, and says what is wrong."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from notbugs.core.errors import DataError, TrainingError
from notbugs.data import Augment, load_source, split
from notbugs.engine import Threat
from notbugs.judge import accuracy, evaluate, evaluation_pgd
from notbugs.models import build
from notbugs.training import Adversary, Recipe, saving, train

PARTS = split(load_source("digits"), seed=0, train_size=700)
FAST = Recipe(epochs=12, batch_size=32, lr=0.1, warmup=0.2)


def small(seed=0, **options):
    return build(
        "cnn", shape=(1, 8, 8), classes=10, seed=seed,
        options={"width": 8, "hidden": 32, **options},
    )  # fmt: skip


def weights(model):
    return {k: v.clone() for k, v in model.state_dict().items()}


def same(a, b) -> bool:
    return all(torch.equal(a[k], b[k]) for k in a)


def test_standard_and_adversarial_training_do_what_they_promise() -> None:
    plain, robust = small(), small()
    long = replace(FAST, epochs=20)
    train(plain, PARTS.train, long, seed=0)
    adversary = Adversary("l2:0.8", steps=3, eps_warmup=0.5)
    train(robust, PARTS.train, replace(long, adversary=adversary), seed=0)
    few, threat = PARTS.test.select(slice(0, 200)), Threat.parse("l2:0.6")
    assert accuracy(plain, few) > 90
    assert accuracy(robust, few) > 75
    pgd = [evaluation_pgd(threat)]
    after, before = (evaluate(m, few, threat, attacks=pgd).robust_accuracy for m in (robust, plain))
    gain = after - before
    assert gain > 10


RESUMED = {
    "plain": FAST,
    "augmented": replace(FAST, augment=Augment(crop_padding=1, flip=True)),
    "adversarial": replace(FAST, adversary=Adversary("l2:0.5", steps=2, eps_warmup=0.5)),
    "best": replace(FAST, select="best", watch_every=1),
}


@pytest.mark.parametrize("recipe", RESUMED.values(), ids=list(RESUMED))
def test_a_killed_training_ends_with_the_same_bits(
    recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = replace(recipe, epochs=4)
    data, path = PARTS.train.select(slice(0, 200)), tmp_path / "checkpoint.safetensors"
    straight = small()
    whole = train(straight, data, recipe, seed=3, val=PARTS.val)
    monkeypatch.setattr(saving, "CHECKPOINT_SECONDS", 0.0)

    def kill(fraction) -> None:
        if fraction > 0.6:
            raise KeyboardInterrupt

    victim = small()
    with pytest.raises(KeyboardInterrupt):
        train(victim, data, recipe, seed=3, val=PARTS.val, checkpoint_path=path, progress=kill)
    assert path.exists()
    heir = small(seed=99)
    resumed = train(heir, data, recipe, seed=3, val=PARTS.val, checkpoint_path=path)
    assert same(weights(straight), weights(heir))
    assert resumed.history == whole.history
    assert resumed.best_epoch == whole.best_epoch


def test_same_seed_same_weights_and_the_world_untouched() -> None:
    state = torch.get_rng_state()
    a, b, c = small(), small(), small()
    short = replace(FAST, epochs=1)
    train(a, PARTS.train, short, seed=1)
    train(b, PARTS.train, short, seed=1)
    train(c, PARTS.train, short, seed=2)
    assert same(weights(a), weights(b))
    assert not same(weights(a), weights(c))
    assert torch.equal(torch.get_rng_state(), state)


def test_a_checkpoint_of_another_training_is_refused(tmp_path: Path) -> None:
    path, data = tmp_path / "c.safetensors", PARTS.train.select(slice(0, 100))
    short = replace(FAST, epochs=1)
    train(small(), data, short, seed=1, checkpoint_path=path)
    for model, recipe, seed in ((small(), short, 2), (small(hidden=16), short, 1),
                                (small(), replace(short, lr=0.01), 1)):  # fmt: skip
        with pytest.raises(DataError, match="belongs to another model, dataset, recipe, seed"):
            train(model, data, recipe, seed=seed, checkpoint_path=path)
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(DataError, match=r"truncated|corrupt|cannot|Cannot"):
        train(small(), data, short, seed=1, checkpoint_path=path)


def test_bad_settings_are_explained() -> None:
    data = PARTS.train.select(slice(0, 50))
    with pytest.raises(TrainingError, match=r"loss became (nan|inf) in epoch 1.*Lower `lr`"):
        train(small(), PARTS.train, replace(FAST, lr=1e12, warmup=0.0), seed=0)
    with pytest.raises(
        ValueError, match=r"not exceed the 50 training images; got 64.*Fewer images"
    ):
        train(small(), data, replace(FAST, batch_size=64), seed=0)
    with pytest.raises(ValueError, match=r"`val` must be given with select='best'"):
        train(small(), data, replace(FAST, select="best", watch_every=1), seed=0)
    with pytest.raises(ValueError, match=r"`watch_every` must be at least 1"):
        Recipe(select="best")
    with pytest.raises(ValueError, match=r"Unknown decay 'cosin'. Did you mean 'cosine'"):
        Recipe(decay="cosin")
    with pytest.raises(ValueError, match=r"`epochs` must be at least 1; got 0"):
        Recipe(epochs=0)
    with pytest.raises(ValueError, match=r"`eps_warmup` must lie in \[0, 1\)"):
        Adversary(eps_warmup=1.0)


def test_what_is_watched() -> None:
    recipe = replace(FAST, epochs=5, watch_every=2, watch_threat="l2:0.5")
    done = train(small(), PARTS.train.select(slice(0, 200)), recipe, seed=0, val=PARTS.val)
    looked = [int(row["epoch"]) for row in done.history if "val_robust" in row]
    assert looked == [2, 4, 5]
    assert all(0 <= row["val_clean"] <= 100 for row in done.history if "val_clean" in row)
    assert done.history[-1]["loss"] < done.history[0]["loss"]


@pytest.mark.parametrize(
    ("decay", "middle", "end"), [("cosine", 0.5, 0.0), ("linear", 0.5, 0.0), ("constant", 1, 1)]
)
def test_schedules(decay, middle, end) -> None:
    recipe = Recipe(lr=1.0, warmup=0.1, decay=decay)
    assert recipe.rate(0, 1000) == pytest.approx(0.01, rel=0.02)
    assert recipe.rate(500, 1000) == pytest.approx(middle, abs=0.01)
    assert recipe.rate(999, 1000) == pytest.approx(end, abs=0.01)


def test_step_schedule_and_eps_warmup() -> None:
    recipe = Recipe(lr=1.0, warmup=0.0, decay="step")
    assert [recipe.rate(s, 100) for s in (0, 49, 50, 75)] == pytest.approx([1, 1, 0.1, 0.01])
    adversary = Adversary(eps_warmup=0.5)
    assert [adversary.strength(e, 4) for e in range(4)] == [0.5, 1.0, 1.0, 1.0]


def test_bf16_learns_too() -> None:
    model = small()
    train(model, PARTS.train, replace(FAST, precision="bf16"), seed=0)
    assert accuracy(model, PARTS.val) > 85


def test_crafting_leaves_running_statistics_alone() -> None:
    model = build("resnet8", shape=(1, 8, 8), classes=10, seed=0, options={"width": 2})
    calm = replace(FAST, epochs=1, lr=1e-12, weight_decay=0.0)
    noisy = replace(calm, adversary=Adversary("l2:0.001", steps=3, train_mode=True))
    data = PARTS.train.select(slice(0, 128))
    train(model, data, calm, seed=0)
    plain = weights(model)
    twin = build("resnet8", shape=(1, 8, 8), classes=10, seed=0, options={"width": 2})
    train(twin, data, noisy, seed=0)
    counted = [k for k in plain if k.endswith("num_batches_tracked")]
    assert counted
    assert all(torch.equal(plain[k], weights(twin)[k]) for k in counted)
    for k in (k for k in plain if k.endswith("running_mean")):
        torch.testing.assert_close(plain[k], weights(twin)[k], atol=1e-2, rtol=0)
