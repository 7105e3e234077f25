import pytest
import torch

from notbugs.data import ImageData, load_source, split
from notbugs.engine import L2, Threat
from notbugs.features import (
    DIRECTIONS,
    choose_targets,
    direction_control,
    nearest_image,
    nearest_in,
    nearest_mean,
    noise_images,
    observed,
    seen,
    shuffled_labels,
    targeted_set,
)
from notbugs.judge import predictions
from notbugs.models import build
from notbugs.perception import lpips
from notbugs.training import Recipe, train

PARTS = split(load_source("digits"), seed=0)
DATA = PARTS.train.select(slice(0, 200))


@pytest.fixture(scope="module")
def model():
    net = build("cnn", shape=(1, 8, 8), classes=10, seed=0, options={"width": 8, "hidden": 32})
    train(net, PARTS.train, Recipe(epochs=6, lr=0.1), seed=0)
    return net


@pytest.mark.parametrize("direction", DIRECTIONS)
@pytest.mark.parametrize("norm", ["l2:0.8", "linf:0.1", "l1:2"])
def test_controls_have_targets_sizes_and_images_of_the_set(model, direction, norm) -> None:
    threat = Threat.parse(norm)
    made = direction_control(model, DATA, "other", threat, direction, seed=3)
    rows = made.columns["source_rows"]
    assert len(made) == len(DATA) - made.provenance["dropped"] > 0.8 * len(DATA)
    assert torch.equal(made.labels, choose_targets("other", DATA.labels, 10, seed=3)[rows])
    assert torch.equal(made.columns["true_labels"], DATA.labels[rows])
    moved = threat.norm.size(made.pixels() - DATA.pixels()[rows])
    torch.testing.assert_close(moved, made.columns["distance"])
    assert bool(((moved - threat.eps).abs() <= 0.0101 * threat.eps).all())
    again = direction_control(model, DATA, "other", threat, direction, seed=3, batch_size=77)
    torch.testing.assert_close(again.pixels(), made.pixels(), atol=1e-4, rtol=0)
    assert made.name == f"D_other/{direction}"


def test_directions_are_what_they_are_called(model) -> None:
    threat, grey = (
        Threat(L2(), 0.01),
        ImageData(torch.full((40, 1, 8, 8), 0.5), torch.arange(40) % 10, DATA.class_names, "grey"),
    )

    def moves(direction):
        made = direction_control(model, grey, "det", threat, direction, seed=0)
        return (made.pixels() - grey.pixels()).flatten(1) / 0.01

    jacobian = (
        torch.func.jacrev(lambda x: model.logits(x[None])[0])(grey.pixels()[0]).flatten(1).detach()
    )
    basis = torch.linalg.qr(jacobian.T).Q[:, :10]

    def inside(moved):  # the share of the length that lies in the span of the gradients
        return (moved @ basis).norm(dim=1).mean()

    assert float(inside(moves("span"))) == pytest.approx(1, abs=1e-3)
    assert float(inside(moves("random"))) == pytest.approx((10 / 64) ** 0.5, abs=0.08)
    assert float((moves("random") @ moves("random").T).fill_diagonal_(0).abs().max()) < 0.7
    made = direction_control(model, DATA, "det", Threat(L2(), 1.0), "universal", seed=0)
    random = direction_control(model, DATA, "det", Threat(L2(), 1.0), "random", seed=0)
    hits = [float((predictions(model, s) == s.labels).float().mean()) for s in (made, random)]
    assert hits[0] > 3 * hits[1] + 0.1
    moved = made.pixels() - DATA.pixels()[made.columns["source_rows"]]
    unit = moved.flatten(1) / moved.flatten(1).norm(dim=1, keepdim=True)
    alike, same = unit @ unit.T, made.labels[:, None] == made.labels
    # One perturbation for a class, of which each image clips another part.
    assert float(alike[same].mean()) > 0.6 > 0.2 > float(alike[~same].mean())


def test_bad_directions(model) -> None:
    with pytest.raises(ValueError, match=r"Unknown direction 'spam'\. Did you mean 'span'"):
        direction_control(model, DATA, "det", Threat.parse("l2:1"), "spam", seed=0)


def test_noise_images_show_nothing_of_the_data(model) -> None:
    noise = noise_images(DATA, seed=1)
    assert noise.shape == DATA.shape
    assert len(noise) == len(DATA)
    pixels = noise.pixels()
    assert float(pixels.mean()) == pytest.approx(0.5, abs=0.02)
    assert float(pixels.std()) == pytest.approx(12**-0.5, abs=0.02)
    assert int(torch.bincount(noise.labels, minlength=10).min()) > 5
    assert noise_images(DATA, seed=2).digest != noise.digest
    assert torch.equal(
        noise_images(PARTS.train.select(slice(200, 400)), seed=1).images, noise.images
    )
    pushed = targeted_set(
        model, noise, "other", Threat.parse("l2:1"), seed=0, steps=20, at_chance=True
    )
    assert float((predictions(model, pushed) == pushed.labels).float().mean()) > 0.5


def test_shuffled_labels_keep_images_and_counts() -> None:
    made = shuffled_labels(DATA, seed=0)
    assert torch.equal(made.pixels(), DATA.pixels())
    assert torch.equal(made.labels.sort().values, DATA.labels.sort().values)
    assert float((made.labels == DATA.labels).float().mean()) < 0.25


def test_a_cycle_is_never_that_of_the_next_class() -> None:
    labels = torch.arange(4)
    found = {tuple(choose_targets("cycle", labels, 4, seed=s).tolist()) for s in range(60)}
    assert len(found) == 5  # of the six cycles of four classes
    assert (1, 2, 3, 0) not in found
    assert choose_targets("cycle", torch.arange(2), 2, seed=0).tolist() == [1, 0]


def test_a_cycle_is_a_fixed_map_without_fixed_points() -> None:
    seen_maps = set()
    for seed in range(5):
        found = choose_targets("cycle", torch.arange(10).repeat(3), 10, seed=seed)
        assert torch.equal(found[:10], found[10:20])
        assert found[:10].sort().values.tolist() == list(range(10))
        assert not bool((found[:10] == torch.arange(10)).any())
        seen_maps.add(tuple(found[:10].tolist()))
    assert len(seen_maps) > 1


def test_the_nearest_image_leaves_out_its_own() -> None:
    toy = ImageData(
        torch.tensor([0.0, 0.1, 0.5, 0.9]).reshape(4, 1, 1, 1),
        torch.tensor([0, 1, 0, 1]),
        ("a", "b"),
        "toy",
    )
    observer = nearest_image(toy)
    x = torch.tensor([0.02, 0.8]).reshape(2, 1, 1, 1)
    assert observer(x).tolist() == [0, 1]
    assert observer(x, torch.tensor([0, 3])).tolist() == [1, 0]
    assert nearest_image(toy, most=1)(x).tolist() == [0, 0]


def test_the_nearest_in_a_model_is_that_of_least_lpips(model) -> None:
    few, x = DATA.select(slice(0, 20)), PARTS.val.pixels(slice(0, 6))
    distance = lpips(model)
    table = torch.stack(
        [distance(x, few.pixels(torch.full((len(x),), i))) for i in range(len(few))], dim=1
    )
    assert torch.equal(nearest_in(model, few)(x), few.labels[table.argmin(dim=1)])


def test_the_nearest_mean_sees_blurred_images() -> None:
    observer = nearest_mean(PARTS.train, blur=0.5)
    right = observed(observer, PARTS.val) == PARTS.val.labels
    assert float(right.float().mean()) > 0.8
    # Two classes that differ in a half, faintly, and in a fine pattern.
    half, fine = (torch.arange(8) > 3).float().expand(8, 8), torch.ones(8, 8)
    fine[::2, ::2], fine[1::2, 1::2] = -1, -1
    low, high = 0.05 * (2 * half - 1), 0.1 * fine
    toy = ImageData(
        torch.stack([0.5 + low + high, 0.5 - low - high])[:, None],
        torch.tensor([0, 1]), ("a", "b"), "toy")  # fmt: skip
    with pytest.raises(ValueError, match="none of 'b'"):
        nearest_mean(toy.select(slice(0, 1)))
    with pytest.raises(ValueError, match="`blur` must be"):
        nearest_mean(toy, blur=0.0)
    torn = (0.5 + low - high)[None, None]
    assert nearest_mean(toy, blur=0.1)(torn).tolist() == [1]
    assert nearest_mean(toy, blur=1.5)(torn).tolist() == [0]


def test_what_is_seen_is_a_share_of_wrong_labels() -> None:
    labels, true = torch.tensor([1, 1, 0, 0]), torch.tensor([0, 0, 0, 1])
    x = torch.tensor([0.9, 0.1, 0.9, 0.9]).reshape(4, 1, 1, 1)
    made = ImageData(x, labels, ("a", "b"), "toy", {}, {
        "true_labels": true, "source_rows": torch.arange(4)})  # fmt: skip

    with pytest.raises(ValueError, match="`data` must have wrong labels"):
        seen(nearest_image(DATA), made.with_labels(true))

    def bright(x, rows=None):
        return (x.flatten() > 0.5).long()

    assert seen(bright, made) == pytest.approx(100 / 3)  # of rows 0, 1 and 3, row 0
