import pytest
import torch

from notbugs.data import Planted

SPECS = [Planted(), Planted(classes=2, size=12, seed=5), Planted(classes=9, size=36, seed=1)]


@pytest.mark.parametrize("spec", SPECS)
def test_the_decoders_read_what_was_planted(spec) -> None:
    data = spec.make()
    robust, nonrobust = data.columns["robust_feature"], data.columns["nonrobust_feature"]
    assert (spec.decode_robust(data.images) == robust).float().mean() >= 0.999
    assert (spec.decode_nonrobust(data.images) == nonrobust).float().mean() >= 0.97
    assert spec.robust_scores(data.images).shape == (len(data), spec.classes)


@pytest.mark.parametrize("spec", SPECS)
def test_features_point_to_the_label_as_often_as_promised(spec) -> None:
    data = spec.make()
    agree = (data.columns["robust_feature"] == data.labels).float().mean()
    assert float(agree) == pytest.approx(0.9, abs=0.02)
    assert torch.equal(data.columns["nonrobust_feature"], data.labels)


def test_accuracies_can_be_turned_round() -> None:
    data = Planted(robust_accuracy=0.0, nonrobust_accuracy=0.5).make()
    assert not (data.columns["robust_feature"] == data.labels).any()
    agree = (data.columns["nonrobust_feature"] == data.labels).float().mean()
    assert float(agree) == pytest.approx(0.5, abs=0.04)
    away = (data.columns["robust_feature"] - data.labels) % 4
    assert torch.bincount(away)[1:].tolist() == pytest.approx([1000] * 3, abs=120)


@pytest.mark.parametrize("spec", SPECS)
def test_patterns_are_orthogonal_faint_and_fine(spec) -> None:
    patterns, blobs = spec.patterns.flatten(1), spec.blobs.flatten(1)
    gram = patterns @ patterns.T
    wanted = torch.eye(spec.classes) * spec.nonrobust_amplitude**2
    assert torch.allclose(gram, wanted, atol=1e-6)
    assert (patterns @ blobs.T).abs().max() < 1e-5
    assert patterns.sum(dim=1).abs().max() < 1e-5
    power = torch.fft.fft2(spec.patterns[:, 0]).abs().square()
    frequency = torch.fft.fftfreq(spec.size)
    high = torch.hypot(frequency[:, None], frequency[None, :]) >= 0.25
    assert (power * high).sum() > 0.99 * power.sum()


def test_the_default_separates_the_features_by_size() -> None:
    spec = Planted()
    blobs = torch.pdist(spec.blobs.flatten(1))
    patterns = torch.pdist(spec.patterns.flatten(1))
    assert blobs.min() > 2.9
    assert patterns.max() < 0.5
    assert spec.blobs.sum(dim=0).abs().max() < 1e-5


def test_swapping_patterns_costs_half_a_unit_and_leaves_the_blob() -> None:
    spec = Planted(n=400)
    data = spec.make()
    now = data.columns["nonrobust_feature"]
    target = (now + 1) % 4
    moved = (data.images + spec.patterns[target] - spec.patterns[now]).clamp(0, 1)
    assert (moved - data.images).flatten(1).norm(dim=1).max() < 0.5
    assert (spec.decode_nonrobust(moved) == target).float().mean() >= 0.97
    assert torch.equal(spec.decode_robust(moved), data.columns["robust_feature"])


def test_clamping_is_rare() -> None:
    images = Planted().make().images
    assert ((images == 0) | (images == 1)).float().mean() < 1e-3


def test_the_seed_decides_everything() -> None:
    small = [Planted(n=50, seed=s).make().digest for s in (0, 0, 1)]
    assert small[0] == small[1] != small[2]


def test_classes_come_equally_often_and_the_recipe_is_kept() -> None:
    data = Planted(n=40).make()
    assert torch.bincount(data.labels).tolist() == [10] * 4
    assert data.labels[:8].tolist() != sorted(data.labels[:8].tolist())
    assert Planted(**data.provenance["planted"]) == Planted(n=40)


def test_decoders_take_any_precision() -> None:
    spec = Planted(n=20)
    images = spec.make().images
    scores = spec.nonrobust_scores(images.double())
    assert scores.dtype == torch.float64
    assert torch.equal(scores.argmax(1), spec.decode_nonrobust(images))


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"classes": 1}, "`classes` must be at least 2"),
        ({"n": 3}, "`n` must be at least 4"),
        ({"size": 7}, "`size` must be at least 8; got 7. Each blob takes 4 by 4"),
        ({"noise": 0.0}, "`noise` must be a finite number above 0"),
        ({"robust_amplitude": -1.0}, "`robust_amplitude` must be a finite number above 0"),
        ({"nonrobust_amplitude": 0.0}, "`nonrobust_amplitude` must be"),
        ({"robust_accuracy": 1.1}, r"`robust_accuracy` must lie in \[0, 1\]; got 1.1"),
        ({"nonrobust_accuracy": -0.1}, r"`nonrobust_accuracy` must lie in \[0, 1\]"),
        ({"robust_amplitude": 5.0}, r"leave pixels inside \[0, 1\].*Lower the amplitudes"),
    ],
)
def test_bad_recipes(options, match) -> None:
    with pytest.raises(ValueError, match=match):
        Planted(**options)
