"""Schedules by their numbers, and settings that cannot work refused at once."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from notbugs.core import random
from notbugs.core.errors import TrainingError
from notbugs.data import ImageData, load_source, split
from notbugs.engine import L2, LowestValue, Threat
from notbugs.models import build
from notbugs.training import Adversary, Recipe, train
from notbugs.training.optimiser import sgd

PARTS = split(load_source("digits"), seed=0, train_size=300)
DATA, VAL = PARTS.train.select(slice(0, 100)), PARTS.val
SHORT = Recipe(epochs=2, batch_size=32, lr=0.05)


def small(name="cnn", **options):
    options = options or {"width": 4, "hidden": 8}
    return build(name, shape=(1, 8, 8), classes=10, seed=0, options=options)


RATES = {
    # At the first step, a quarter, half, three quarters and the last step of 1000.
    "cosine": (1.0, 0.8536, 0.5, 0.1464, 2.5e-6),
    "linear": (1.0, 0.75, 0.5, 0.25, 1e-3),
    "step": (1.0, 1.0, 0.1, 0.01, 0.01),
    "constant": (1.0, 1.0, 1.0, 1.0, 1.0),
}


@pytest.mark.parametrize(("decay", "rates"), RATES.items(), ids=list(RATES))
def test_rates_of_each_decay(decay, rates) -> None:
    recipe = Recipe(lr=2.0, warmup=0.0, decay=decay)
    found = [recipe.rate(step, 1000) for step in (0, 250, 500, 750, 999)]
    assert found == pytest.approx([2 * r for r in rates], rel=1e-3, abs=1e-6)


def test_the_triangle_rises_over_the_warm_up_and_falls_to_its_end() -> None:
    recipe = Recipe(lr=2.0, warmup=0.25, decay="triangle")
    found = [recipe.rate(step, 1000) for step in (0, 125, 250, 625, 1000)]
    assert found == pytest.approx([0.4, 1.2, 2.0, 1.07, 0.14])
    assert Recipe(lr=1.0, warmup=0.0, decay="triangle").rate(0, 10) == 1.0


def test_the_rate_rises_in_a_straight_line_and_is_never_zero_at_the_start() -> None:
    recipe = Recipe(lr=1.0, warmup=0.2, decay="constant")
    assert [recipe.rate(s, 50) for s in range(10)] == pytest.approx([k / 10 for k in range(1, 11)])
    assert recipe.rate(10, 50) == 1.0


def test_the_rate_used_is_the_schedules() -> None:
    recipe = replace(SHORT, epochs=4, decay="linear", warmup=0.25)
    done = train(small(), DATA, recipe, seed=0)
    # Three batches of 32 an epoch; each row shows the rate of its last step.
    wanted = [recipe.rate(3 * epoch + 2, 12) for epoch in range(4)]
    assert [row["lr"] for row in done.history] == pytest.approx(wanted)


def test_biases_of_norms_learn_at_their_own_rate() -> None:
    one, other = (small("resnet8", width=2) for _ in range(2))
    start = {k: v.clone() for k, v in one.state_dict().items()}
    step = replace(
        SHORT, epochs=1, batch_size=len(DATA), momentum=0.0, warmup=0.0, weight_decay=0.0
    )
    train(one, DATA, step, seed=0)
    train(other, DATA, replace(step, norm_bias_times=4.0), seed=0)
    norms = [name for name, m in one.named_modules() if isinstance(m, torch.nn.BatchNorm2d)]
    for name, p in one.named_parameters():
        times = 4.0 if name.removesuffix(".bias") in norms else 1.0
        moved = dict(other.named_parameters())[name].detach() - start[name]
        torch.testing.assert_close(moved, times * (p.detach() - start[name]), atol=1e-6, rtol=1e-4)


def test_weight_decay_moves_quick_biases_no_faster() -> None:
    """The decay of a step is the rate times the decay, which is divided by as much."""
    ends = []
    for rate in (1.0, 8.0):
        model = small("resnet8", width=2)
        bias = model.body.trunk[0][1].bias
        with torch.no_grad():
            bias.fill_(1.0)
        recipe = replace(SHORT, lr=1e-4, weight_decay=100.0, norm_bias_times=rate, warmup=0.0)
        optimiser = sgd(model, recipe)
        for group in optimiser.param_groups:
            group["lr"] = recipe.lr * group["times"]
        bias.grad = torch.zeros_like(bias)
        optimiser.step()
        ends.append(bias.detach().clone())
    torch.testing.assert_close(ends[0], ends[1])
    assert float(ends[0].mean()) < 0.99


def test_the_adversary_is_the_pgd_it_says() -> None:
    attack = Adversary("l2:0.8", steps=4).attack(0.5)
    assert attack.threat == Threat(L2(), 0.4)
    assert attack.solver.rule.step_size == pytest.approx(2.5 * 0.4 / 4)
    assert attack.solver.max_steps == 4
    assert attack.solver.keep == LowestValue()
    fixed = Adversary("l2:0.8", steps=4, step_size=0.3, random_start=False).attack(0.5)
    assert fixed.solver.rule.step_size == pytest.approx(0.15)
    assert not fixed.random_start


@pytest.mark.parametrize(
    ("warmup", "wanted"),
    [(0.0, [1, 1, 1, 1, 1]), (0.8, [0.25, 0.5, 0.75, 1, 1]), (0.1, [1, 1, 1, 1, 1])],
)
def test_eps_grows_over_the_first_epochs(warmup, wanted) -> None:
    adversary = Adversary(eps_warmup=warmup)
    assert [adversary.strength(e, 5) for e in range(5)] == pytest.approx(wanted)


WATCHED = {
    "never": (replace(SHORT, epochs=5), [], []),
    "clean": (replace(SHORT, epochs=5, watch_every=2), [2, 4, 5], []),
    "threat": (replace(SHORT, epochs=4, watch_every=4, watch_threat="linf:0.1"), [4], [4]),
    "adversary": (
        replace(SHORT, epochs=3, watch_every=1, adversary=Adversary("l2:0.3", steps=1)),
        [1, 2, 3],
        [1, 2, 3],
    ),
}


@pytest.mark.parametrize(("recipe", "clean", "robust"), WATCHED.values(), ids=list(WATCHED))
def test_what_is_watched_and_when(recipe, clean, robust) -> None:
    done = train(small(), DATA, recipe, seed=0, val=VAL)
    assert [row["epoch"] for row in done.history] == list(range(1, recipe.epochs + 1))
    assert [row["epoch"] for row in done.history if "val_clean" in row] == clean
    assert [row["epoch"] for row in done.history if "val_robust" in row] == robust
    for row in done.history:
        assert row.get("val_robust", 0) <= row.get("val_clean", 100)


def test_watching_does_not_change_what_is_learned() -> None:
    blind, watched = small("resnet8", width=2), small("resnet8", width=2)
    train(blind, DATA, SHORT, seed=0)
    looked = replace(SHORT, watch_every=1, watch_threat="l2:0.5")
    train(watched, DATA, looked, seed=0, val=VAL)
    ours, theirs = blind.state_dict(), watched.state_dict()
    assert all(torch.equal(ours[k], theirs[k]) for k in ours)


def test_progress_rises_to_one_and_the_model_comes_back_in_eval_mode() -> None:
    seen, model = [], small("resnet8", width=2)
    train(model, DATA, SHORT, seed=0, progress=seen.append)
    assert seen == sorted(seen)
    assert seen[-1] == 1.0
    assert not any(m.training for m in model.modules())


def test_images_as_bytes_train_alike() -> None:
    images = (random.uniform(random.row_keys(40, "b"), (1, 8, 8)) * 255).round()
    labels = torch.arange(40) % 10
    names = tuple("abcdefghij")
    as_bytes = ImageData(images.byte(), labels, names, "bytes")
    as_floats = ImageData(images / 255, labels, names, "floats")
    one, two = small(), small()
    train(one, as_bytes, replace(SHORT, batch_size=20), seed=0)
    train(two, as_floats, replace(SHORT, batch_size=20), seed=0)
    for a, b in zip(one.parameters(), two.parameters(), strict=True):
        torch.testing.assert_close(a, b)


BAD = {
    "threat form": (lambda: Adversary("0.5"), r"`threat` must be written norm:eps"),
    "threat scale": (lambda: Adversary("linf:8"), r"Write linf:8/255"),
    "threat size": (lambda: Adversary("l2:0"), r"`eps` must be a finite number above 0"),
    "steps": (lambda: Adversary(steps=0), r"`steps` must be at least 1; got 0"),
    "step size": (lambda: Adversary(step_size=0.0), r"`step_size` must be.*2.5 \* eps / steps"),
    "watched": (lambda: Recipe(watch_threat="l3:1"), r"Unknown norm 'l3'"),
    "watch": (lambda: Recipe(watch_every=-1), r"`watch_every` must be at least 0; got -1.*never"),
    "rate": (lambda: Recipe(lr=0.0), r"`lr` must be a finite number above 0"),
    "batch": (lambda: Recipe(batch_size=0), r"`batch_size` must be at least 1"),
    "warmup": (lambda: Recipe(warmup=1.0), r"`warmup` must lie in \[0, 1\)"),
    "momentum": (lambda: Recipe(momentum=1.0), r"`momentum` must lie in \[0, 1\)"),
    "decay": (lambda: Recipe(weight_decay=-1.0), r"`weight_decay` must be a finite number"),
    "select": (lambda: Recipe(select="bset"), r"Unknown select 'bset'. Did you mean 'best'"),
    "precision": (lambda: Recipe(precision="fp16"), r"Unknown precision 'fp16'"),
}


@pytest.mark.parametrize(("make", "message"), BAD.values(), ids=list(BAD))
def test_settings_that_cannot_work_are_refused_at_once(make, message) -> None:
    with pytest.raises(ValueError, match=message):
        make()


def test_data_that_does_not_fit_is_refused_before_any_work() -> None:
    model, seen = small(), []
    large = ImageData(torch.zeros(64, 1, 9, 9), DATA.labels[:64], DATA.class_names, "large")
    fewer = ImageData(DATA.images, DATA.labels % 3, ("a", "b", "c"), "fewer")
    for data, message in (
        (large, r"model's shape \(1, 8, 8\); got \(1, 9, 9\) in 'large'"),
        (fewer, r"model's 10 classes; got 3 in 'fewer'"),
    ):
        with pytest.raises(ValueError, match="`data` must .*" + message):
            train(model, data, SHORT, seed=0, progress=seen.append)
        with pytest.raises(ValueError, match="`val` must .*" + message):
            train(model, DATA, SHORT, seed=0, val=data, progress=seen.append)
    assert seen == []


@pytest.mark.parametrize("adversary", [None, Adversary("l2:0.5", steps=2)], ids=["plain", "pgd"])
def test_a_training_that_diverges_says_so(adversary, tmp_path: Path) -> None:
    path = tmp_path / "c.safetensors"
    recipe = replace(SHORT, lr=1e12, warmup=0.0, adversary=adversary)
    with pytest.raises(TrainingError, match=r"became .* in epoch 1 at learning rate.*Lower `lr`"):
        train(small(), DATA, recipe, seed=0, checkpoint_path=path)
    assert not path.exists()


@pytest.mark.parametrize("rate", [1e30, 1e38])
def test_a_model_that_the_very_last_step_ruined_is_not_returned(rate) -> None:
    """One step in all: its loss is still fine, the weights after it are not."""
    recipe = Recipe(epochs=1, batch_size=100, lr=rate, momentum=0.0, warmup=0.0, decay="constant")
    with pytest.raises(TrainingError, match=r"left weights or logits .* in epoch 1.*Lower `lr`"):
        train(small(), DATA, recipe, seed=0)


def test_a_batch_may_be_all_of_the_data() -> None:
    done = train(small(), DATA, replace(SHORT, batch_size=100), seed=0)
    assert len(done.history) == 2


@pytest.mark.parametrize(
    ("settings", "match"),
    [
        ({"adversary": "l2:0.5"}, r"`adversary` must be one such as Adversary\('l2:0.5'\)"),
        ({"adversary": Threat.parse("l2:0.5")}, r"`adversary` must be .* got Threat"),
        (
            {"objective": "trades"},
            r"`objective` must be a training objective such as Plain\(\).*; got str",
        ),
    ],
)
def test_parts_of_another_type_are_refused(settings, match) -> None:
    recipe = object.__new__(Recipe)  # past the annotations, which are checked in tests alone
    for name, value in (vars(Recipe()) | settings).items():
        object.__setattr__(recipe, name, value)
    with pytest.raises(TypeError, match=match):
        Recipe.__post_init__(recipe)
