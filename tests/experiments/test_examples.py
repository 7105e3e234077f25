"""Sizes of perturbations, noise of equal size, and units against directions."""

import pytest
import torch

from notbugs.core import random
from notbugs.experiments.examples import distortion, error, noise_like, resized
from notbugs.experiments.units import TOP, alikeness
from notbugs.models import build


def images(n: int = 6) -> torch.Tensor:
    return random.uniform(random.row_keys(n, "images"), (1, 8, 8))


def test_distortion_is_the_root_mean_square_change() -> None:
    x = torch.full((2, 1, 4, 4), 0.5)
    moved = x.clone()
    moved[0] += 0.25
    moved[1, 0, 0, 0] += 0.4
    torch.testing.assert_close(distortion(moved, x), torch.tensor([0.25, 0.1]))


def test_images_are_moved_to_the_size_that_is_wanted_within_the_box() -> None:
    x, size = images(), torch.linspace(0.02, 0.2, 6)
    direction = random.normal(random.row_keys(6, "direction"), (1, 8, 8))
    moved = resized(x, direction, size)
    torch.testing.assert_close(distortion(moved, x), size, atol=1e-5, rtol=0)
    assert 0 <= float(moved.min()) <= float(moved.max()) <= 1
    toward = torch.sign(direction) * (moved - x)
    assert float(toward.min()) >= -1e-6


def test_noise_has_the_size_of_what_it_is_compared_with() -> None:
    x, size = images(), torch.full((6,), 0.1)
    noisy = noise_like(x, size, 0)
    torch.testing.assert_close(distortion(noisy, x), size, atol=1e-5, rtol=0)
    assert torch.equal(noisy, noise_like(x, size, 0))
    assert not torch.equal(noisy, noise_like(x, size, 1))


def test_a_size_that_the_box_forbids_is_as_large_as_it_allows() -> None:
    x = torch.full((1, 1, 8, 8), 0.5)
    moved = resized(x, torch.ones_like(x), torch.tensor([0.9]))
    assert float(distortion(moved, x)) == pytest.approx(0.5)


def test_error_counts_labels_that_do_not_lead() -> None:
    net, x = build("linear", shape=(1, 8, 8), classes=3, seed=0).eval(), images()
    with torch.no_grad():
        y = net.logits(x).argmax(dim=1)
    assert error(net, x, y) == 0
    y[0] = (y[0] + 1) % 3
    assert error(net, x, y) == pytest.approx(100 / 6)


def test_units_that_detect_classes_are_purer_than_random_directions() -> None:
    y = torch.arange(10).repeat(40)
    x = random.uniform(random.row_keys(400, "x"), (1, 4, 4))
    detectors = torch.nn.functional.one_hot(y, 10).float()
    detectors += 0.1 * random.normal(random.row_keys(400, "n"), (10,))
    numbers = alikeness(detectors, x, y, 10, seed=0)
    assert numbers["purity_natural"] == 100
    assert numbers["purity_random"] < 90
    assert 100 / TOP < numbers["purity_chance"] < 45
    assert numbers["purity_gap"] == numbers["purity_natural"] - numbers["purity_random"]


def test_units_that_respond_to_too_few_images_are_left_out() -> None:
    """Perfect detectors that fire on three images: the rest of their eight would be arbitrary."""
    y = torch.arange(10).repeat(40)
    x = random.uniform(random.row_keys(400, "x"), (1, 4, 4))
    rare = torch.zeros(400, 10)
    for unit in range(10):
        rare[(y == unit).nonzero()[:3, 0], unit] = 1.0
    common = torch.nn.functional.one_hot(y, 10).float()
    numbers = alikeness(torch.cat([rare, common], dim=1), x, y, 10, seed=0)
    assert numbers["units"] == 10
    assert numbers["purity_natural"] == 100


def test_units_of_a_rotated_layer_are_like_random_directions() -> None:
    """Where the basis is itself random, the gap is noise."""
    y = torch.arange(10).repeat(40)
    x = random.uniform(random.row_keys(400, "x"), (1, 4, 4))
    layer = random.normal(random.row_keys(400, "layer"), (64,))
    assert abs(alikeness(layer, x, y, 10, seed=0)["purity_gap"]) < 5
