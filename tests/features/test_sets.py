"""The constructed sets: what they promise, row by row."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from notbugs.core import random
from notbugs.core.errors import TrainingError
from notbugs.data import ImageData, load, load_source, save, split
from notbugs.engine import L2, NORMS, Threat
from notbugs.features import (
    TARGET_KINDS,
    InversionSettings,
    choose_targets,
    class_patterns,
    inverted_set,
    leakage_control,
    targeted_set,
    to_size,
    without_class_means,
)
from notbugs.features.build import STARTS
from notbugs.judge import predictions
from notbugs.models import build, frozen, wrap
from notbugs.training import Recipe, train

DATA = split(load_source("digits"), seed=0, train_size=600).train


@pytest.fixture(scope="module")
def model():
    net = build("cnn", shape=(1, 8, 8), classes=10, seed=0, options={"width": 8, "hidden": 32})
    train(net, DATA, Recipe(epochs=15, batch_size=32, lr=0.1, warmup=0.2), seed=0)
    return net


def test_targets() -> None:
    y = torch.arange(10).repeat(2000)
    assert torch.equal(choose_targets("det", y, 10, seed=0), (y + 1) % 10)
    rand, other = (choose_targets(k, y, 10, seed=0) for k in ("rand", "other"))
    assert float((rand == y).float().mean()) == pytest.approx(0.1, abs=0.01)
    assert not bool((other == y).any())
    shifts = torch.bincount((other - y) % 10, minlength=10)[1:] / len(y)
    assert bool(((shifts - 1 / 9).abs() < 0.01).all())
    assert not torch.equal(rand, choose_targets("rand", y, 10, seed=1))
    with pytest.raises(ValueError, match=r"Unknown target kind 'dett'. Did you mean 'det'"):
        choose_targets("dett", y, 10, seed=0)
    with pytest.raises(ValueError, match=r"`classes` must be at least 2"):
        choose_targets("rand", torch.zeros(3, dtype=torch.long), 1, seed=0)


@pytest.mark.parametrize("norm", NORMS.values(), ids=list(NORMS))
def test_to_size_reaches_eps_inside_the_box_or_says_so(norm) -> None:
    keys = random.row_keys(50, "size")
    x = random.uniform(keys, (1, 4, 4))
    x[0], x[1] = 0.0, 0.5
    d = random.normal(random.fold(keys, "d"), (1, 4, 4))
    d[0] = -d[0].abs()  # black image, pushed darker: cannot move at all
    x_adv = (x + 0.1 * d).clamp(0, 1)
    sized = to_size(x, x_adv, norm, 0.3)
    assert not bool(sized.reached[0])
    assert bool(sized.reached[1])
    reached = sized.reached
    assert int(reached.sum()) > 40
    assert bool(((norm.size(sized.x - x)[reached] - 0.3).abs() <= 0.003).all())
    assert float(sized.x.min()) >= 0
    assert float(sized.x.max()) <= 1
    # Nothing is clipped in row 1: its direction is kept.
    before, after = (x_adv[1] - x[1]).flatten(), (sized.x[1] - x[1]).flatten()
    assert float(torch.cosine_similarity(before, after, dim=0)) == pytest.approx(1, abs=1e-5)


@pytest.mark.parametrize("kind", TARGET_KINDS)
def test_targeted_sets(model, kind) -> None:
    threat, images = Threat.parse("l2:1"), DATA.images.clone()
    made = targeted_set(model, DATA, kind, threat, seed=4, steps=20)
    rows = made.columns["source_rows"]
    targets = choose_targets(kind, DATA.labels, 10, seed=4)[rows]
    assert torch.equal(made.labels, targets)
    assert torch.equal(made.columns["true_labels"], DATA.labels[rows])
    moved = L2().size(made.pixels() - DATA.pixels()[rows])
    torch.testing.assert_close(moved, made.columns["distance"])
    assert torch.equal(predictions(model, made) == targets, made.columns["success"])
    assert float(made.columns["success"].float().mean()) > 0.5
    assert torch.equal(DATA.images, images)
    if kind == "other":
        assert bool(((moved - 1).abs() <= 0.01).all())
        assert len(made) == len(DATA) - made.provenance["dropped"]
    else:
        assert bool((moved <= 1 + 1e-5).all())
        assert len(made) == len(DATA)
    if kind != "rand":
        assert not bool((made.labels == made.columns["true_labels"]).any())
    facts = made.provenance
    assert facts["norm"] == "l2"
    assert (facts["eps"], facts["steps"], facts["seed"]) == (1.0, 20, 4)
    assert facts["source"]["digest"] == DATA.digest


def made_in_batches(model, kind, batch_size, seed=0):
    few = DATA.select(slice(0, 60))
    if kind in STARTS:
        settings = InversionSettings(steps=10, start=kind)
        named = {"name": "D_NR", "settings": settings, "batch_size": batch_size}
        return inverted_set(model, few, seed=seed, **named)
    threat = Threat.parse("l2:1")
    return targeted_set(model, few, kind, threat, seed=seed, steps=10, batch_size=batch_size)


@pytest.mark.parametrize("kind", ["rand", "det", "other", *STARTS])
def test_sets_do_not_depend_on_the_batch_and_repeat_to_the_bit(model, kind) -> None:
    state = {name: t.clone() for name, t in model.state_dict().items()}
    grads = [p.grad for p in model.parameters()]
    a, again, cut = (made_in_batches(model, kind, size) for size in (256, 256, 7))
    assert a.digest == again.digest
    assert a.provenance == again.provenance
    assert torch.equal(a.labels, cut.labels)
    torch.testing.assert_close(a.images, cut.images, atol=1e-5, rtol=0)
    if kind != "det":  # whose targets and start points are fixed
        assert made_in_batches(model, kind, 256, seed=1).digest != a.digest
    assert all(torch.equal(t, state[name]) for name, t in model.state_dict().items())
    assert all(p.requires_grad for p in model.parameters())
    assert all(p.grad is g for p, g in zip(model.parameters(), grads, strict=True))


def test_from_noise_nothing_but_the_representation_tells_of_the_image(model) -> None:
    noisy, other = (made_in_batches(model, start, 256) for start in ("noise", "images"))
    assert torch.equal(noisy.columns["source_rows"], torch.arange(60))
    assert not bool((other.columns["source_rows"] == torch.arange(60)).any())
    assert abs(float(noisy.images.mean()) - 0.5) < 0.05 < abs(float(other.images.mean()) - 0.5)
    with pytest.raises(ValueError, match=r"Unknown start .nose.\. Did you mean .noise."):
        InversionSettings(start="nose")


def test_the_recipe_is_complete(model) -> None:
    pushed = targeted_set(model, DATA, "rand", Threat.parse("linf:0.1"), seed=3, steps=5)
    origin = {"data": DATA.name, "digest": DATA.digest, "architecture": "cnn"}
    assert pushed.provenance == {
        "recipe": "D_rand", "source": origin, "norm": "linf", "eps": 0.1, "steps": 5,
        "step_size": 0.05, "seed": 3, "targets": "uniform over all classes",
    }  # fmt: skip
    settings = InversionSettings(steps=3, step_size=0.2, schedule="constant")
    inverted = inverted_set(model, DATA, name="D_R", seed=3, settings=settings)
    facts = dict(inverted.provenance)
    assert facts.pop("relative_error") == pytest.approx(
        float(inverted.columns["relative_error"].mean())
    )
    assert facts.pop("from_original") > 0
    assert facts == {
        "recipe": "D_R", "source": origin, "steps": 3, "step_size": 0.2,
        "schedule": "constant", "start": "images", "seed": 3,
    }  # fmt: skip
    control = leakage_control(DATA, "det", Threat.parse("l2:0.5"), seed=3)
    assert control.provenance == {
        "recipe": "leak:D_det", "source": {"data": DATA.name, "digest": DATA.digest},
        "norm": "l2", "eps": 0.5, "seed": 3, "dropped": 0,
    }  # fmt: skip


def test_sets_survive_their_file(model, tmp_path: Path) -> None:
    made = made_in_batches(model, "other", 256)
    save(made, tmp_path / "made.safetensors")
    back = load(tmp_path / "made.safetensors")
    assert back.digest == made.digest
    assert back.provenance == made.provenance
    assert all(torch.equal(back.columns[k], column) for k, column in made.columns.items())


def test_dropped_images_are_counted_and_the_columns_stay_aligned(model) -> None:
    """At L2 6, of at most 8 for a black image turned white, some cannot get there."""
    few = DATA.select(slice(0, 40))
    threat = Threat.parse("l2:6")
    made = targeted_set(model, few, "other", threat, seed=0, steps=5)
    assert made.provenance["dropped"] == 40 - len(made) > 0
    rows = made.columns["source_rows"]
    assert torch.equal(made.columns["true_labels"], few.labels[rows])
    moved = L2().size(made.pixels() - few.pixels(rows))
    assert bool(((moved - 6).abs() <= 0.06).all())
    assert torch.equal(predictions(model, made) == made.labels, made.columns["success"])
    assert not bool((made.labels == made.columns["true_labels"]).any())


def test_progress_goes_up_to_one(model) -> None:
    heard = []
    few = DATA.select(slice(0, 20))
    targeted_set(
        model, few, "det", Threat.parse("l2:1"), seed=0, steps=2, batch_size=6,
        progress=heard.append,
    )  # fmt: skip
    assert heard == sorted(heard)
    assert (len(heard), heard[-1]) == (4, 1.0)


def test_bad_arguments_are_explained(model) -> None:
    threat = Threat.parse("l2:1")
    with pytest.raises(ValueError, match=r"`steps` must be at least 1; got 0"):
        targeted_set(model, DATA, "det", threat, seed=0, steps=0)
    with pytest.raises(ValueError, match=r"`step_size` must be a finite number above 0; got 0"):
        targeted_set(model, DATA, "det", threat, seed=0, step_size=0.0)
    with pytest.raises(ValueError, match=r"`batch_size` must be at least 1; got 0"):
        targeted_set(model, DATA, "det", threat, seed=0, batch_size=0)
    with pytest.raises(ValueError, match=r"`batch_size` must be at least 1; got 0"):
        inverted_set(model, DATA, name="D_R", seed=0, batch_size=0)
    with pytest.raises(ValueError, match=r"Unknown target kind 'othr'. Did you mean 'other'"):
        targeted_set(model, DATA, "othr", threat, seed=0)
    misspelt = InversionSettings(schedule="cosin")
    with pytest.raises(ValueError, match=r"Unknown schedule 'cosin'. Did you mean 'cosine'"):
        inverted_set(model, DATA, name="D_R", seed=0, settings=misspelt)
    with pytest.raises(ValueError, match=r"`steps` must be at least 1; got 0"):
        inverted_set(model, DATA, name="D_R", seed=0, settings=InversionSettings(steps=0))
    large = ImageData(torch.rand(4, 1, 9, 9), torch.arange(4), tuple("abcdefghij"), "large")
    with pytest.raises(ValueError, match=r"images of the model's shape \(1, 8, 8\)"):
        targeted_set(model, large, "det", threat, seed=0)


def test_targets_out_of_range_are_named() -> None:
    with pytest.raises(ValueError, match=r"`labels` must lie in 0..2; got 3 in row 1"):
        choose_targets("other", torch.tensor([0, 3]), 3, seed=0)


def test_inverted_sets_match_the_representation_from_an_unrelated_start(model) -> None:
    few = DATA.select(slice(0, 100))
    made = inverted_set(model, few, name="D_NR", seed=2, settings=InversionSettings(steps=40))
    starts = made.columns["source_rows"]
    assert torch.equal(made.labels, few.labels)
    assert not bool((starts == torch.arange(100)).any())
    assert sorted(starts.tolist()) == list(range(100))
    with frozen(model), torch.no_grad():
        wanted, got, first = (
            model.embed(x) for x in (few.pixels(), made.pixels(), few.pixels(starts))
        )
    error = (got - wanted).norm(dim=1) / wanted.norm(dim=1)
    torch.testing.assert_close(error, made.columns["relative_error"], atol=1e-4, rtol=1e-3)
    assert float(error.mean()) < 0.25 * float(
        ((first - wanted).norm(dim=1) / wanted.norm(dim=1)).mean()
    )
    assert made.provenance["recipe"] == "D_NR"


@pytest.mark.parametrize("norm", NORMS.values(), ids=list(NORMS))
def test_leakage_controls(norm) -> None:
    threat = Threat(norm, 0.4)
    made = leakage_control(DATA, "rand", threat, seed=4)
    targets = choose_targets("rand", DATA.labels, 10, seed=4)
    patterns = class_patterns(10, DATA.shape, threat, seed=4)
    torch.testing.assert_close(norm.size(patterns), torch.full((10,), 0.4))
    rows = made.columns["source_rows"]
    assert len(rows) + made.provenance["dropped"] == len(DATA)
    assert len(rows) > 0.9 * len(DATA)
    alone, x = (targets == DATA.labels)[rows], DATA.pixels()[rows]
    assert torch.equal(made.labels, targets[rows])
    assert torch.equal(made.pixels()[alone], x[alone])
    assert bool((((made.pixels() - x) * patterns[made.labels]) >= 0).all())  # along the pattern
    assert torch.allclose(made.columns["distance"][~alone], torch.tensor(0.4), rtol=0.011)
    assert made.name == "leak:D_rand"
    assert torch.equal(made.columns["true_labels"], DATA.labels[rows])
    assert leakage_control(DATA, "rand", threat, seed=4).digest == made.digest
    assert leakage_control(DATA, "rand", threat, seed=5).digest != made.digest


@pytest.mark.parametrize("kind", ["det", "other"])
def test_controls_without_true_labels(kind) -> None:
    """The patterns are those of the seed, whatever the kind: only the targets differ."""
    threat = Threat.parse("l2:0.5")
    made = leakage_control(DATA, kind, threat, seed=4)
    assert not bool((made.labels == DATA.labels).any())
    pattern = class_patterns(10, DATA.shape, threat, seed=4)[made.labels]
    assert bool(((made.pixels() - DATA.pixels()[made.columns["source_rows"]]) * pattern >= 0).all())


def test_a_leak_that_moves_no_image_is_refused() -> None:
    with pytest.raises(ValueError, match=r"changes that are not zero; got l2:50, .*leak:D_rand"):
        leakage_control(DATA, "rand", Threat.parse("l2:50"), seed=0)


def test_only_a_set_loses_its_class_means(model) -> None:
    threat = Threat.parse("l2:0.3")
    with pytest.raises(ValueError, match=r"`made` must have the column `source_rows`"):
        without_class_means(DATA, DATA, threat)
    made = targeted_set(model, DATA, "other", threat, seed=4, steps=2, at_chance=True)
    with pytest.raises(ValueError, match=r"`made` must be made of the images of `data`"):
        without_class_means(made, DATA.select(slice(0, 9)), threat)


def test_changes_without_class_means_are_orthogonal_to_their_differences(model) -> None:
    grey = replace(DATA, images=0.3 + 0.4 * DATA.pixels())  # so that nothing is clipped
    threat = Threat.parse("l2:0.3")
    made = targeted_set(model, grey, "other", threat, seed=4, steps=5, at_chance=True)
    other = without_class_means(made, grey, threat)
    rows = other.columns["source_rows"]
    change = (other.pixels() - grey.pixels()[rows]).flatten(1)
    means = torch.stack([grey.pixels()[grey.labels == c].mean(dim=0).flatten() for c in range(10)])
    apart = means[:, None] - means[None]
    assert float((change @ apart.flatten(0, 1).T).abs().max()) < 1e-4
    assert torch.allclose(other.columns["distance"], torch.tensor(0.3), rtol=0.011)
    assert (other.name, other.provenance["dropped"]) == (
        "D_other/projected",
        len(made) - len(other),
    )
    before = made.pixels()[torch.isin(made.columns["source_rows"], rows)] - grey.pixels()[rows]
    assert float((before.flatten(1) * change).sum(dim=1).min()) > 0  # still the same change


def test_a_source_at_chance_is_refused() -> None:
    net = build("cnn", shape=(1, 8, 8), classes=10, seed=0, options={"width": 2, "hidden": 4})
    with pytest.raises(TrainingError, match=r"source model is at chance on 'digits'"):
        targeted_set(net, DATA, "det", Threat.parse("l2:1"), seed=0)
    with pytest.raises(TrainingError, match=r"source model is at chance"):
        inverted_set(net, DATA, name="D_R", seed=0)
    net = build("cnn", shape=(1, 8, 8), classes=10, seed=0, options={"width": 8, "hidden": 16})
    control = targeted_set(net, DATA, "det", Threat.parse("l2:1"), seed=0, steps=2, at_chance=True)
    assert not bool((control.labels == DATA.labels).any())
    assert bool((control.columns["distance"] > 0.5).all())
    assert control.provenance["at_chance"] is True


def test_one_class_alone_is_not_called_chance(model) -> None:
    alone = DATA.select(DATA.labels == 3)
    for call in (
        lambda: targeted_set(model, alone, "det", Threat.parse("l2:1"), seed=0),
        lambda: inverted_set(model, alone, name="D_R", seed=0),
    ):
        with pytest.raises(ValueError, match=r"at least two classes.*got '3' alone in 'digits'"):
            call()


def test_an_eps_no_image_can_reach(model) -> None:
    few = DATA.select(slice(0, 10))
    with pytest.raises(ValueError, match=r"reachable inside \[0, 1\] by .*; got l2:50"):
        targeted_set(model, few, "other", Threat.parse("l2:50"), seed=0, steps=3)


def test_one_class_cannot_be_taken_apart() -> None:
    one = ImageData(torch.rand(4, 1, 8, 8), torch.zeros(4, dtype=torch.long), ("a",), "one")
    with pytest.raises(ValueError, match=r"`classes` must be at least 2"):
        leakage_control(one, "det", Threat.parse("l2:1"), seed=0)


class Changed(torch.nn.Module):
    """A net with something done to its images or its embedding."""

    def __init__(self, inner, images=lambda x: x, embedding=lambda z: z) -> None:
        super().__init__()
        self.inner, self.images, self.embedding = inner, images, embedding
        self.trunk = torch.nn.Identity()

    def forward(self, x):
        x = self.images(x)
        self.trunk(self.embedding(self.inner.trunk(x)))
        return self.inner(x)


def changed(model, **parts):
    return wrap(Changed(model.body, **parts), shape=(1, 8, 8), classes=10, embedding="trunk")


def test_gradients_that_are_not_finite_are_named(model) -> None:
    odd = changed(model, images=lambda x: x + (x - x.detach()).sqrt())
    with pytest.raises(TrainingError, match=r"gradients are not finite on 50 of 50 images"):
        targeted_set(odd, DATA.select(range(50)), "det", Threat.parse("l2:1"), seed=0, steps=2)


def test_an_embedding_of_zeros_is_refused(model) -> None:
    dead = changed(model, embedding=torch.zeros_like)
    with pytest.raises(TrainingError, match=r"embedding 'trunk' is zero for the images"):
        inverted_set(dead, DATA.select(range(50)), name="D_R", seed=0)
