"""Shapes and textures are exchanged as described, and shape bias is counted as published."""

import pytest
import torch

from notbugs.analysis import cue_conflict, partners, shape_bias, silhouettes, textures
from notbugs.core import random

KEYS = random.row_keys(6, "cues")


def squares(n: int = 6) -> torch.Tensor:
    """A bright square of another height and texture in each image."""
    images = torch.full((n, 1, 8, 8), 0.1)
    for i in range(n):
        images[i, 0, 1 : 3 + i % 4, 2:6] = 0.6 + 0.05 * i
    return images


def test_silhouettes_are_the_figure() -> None:
    images = squares()
    assert torch.equal(silhouettes(images), (images > 0.5).float())
    assert torch.equal(silhouettes(1 - images), (images > 0.5).float())  # dark on bright
    assert not bool(silhouettes(torch.full((1, 3, 8, 8), 0.4)).any())


def test_textures_are_tiled_with_patches_of_the_figure() -> None:
    images = squares()
    made = textures(images, KEYS, patch=2)
    own = images.unfold(2, 2, 2).unfold(3, 2, 2).reshape(6, 16, 4)
    tiles = made.unfold(2, 2, 2).unfold(3, 2, 2).reshape(6, 16, 4)
    best = own.mean(dim=2).topk(4, dim=1).values.amin(dim=1)
    for tile, patches, least in zip(tiles, own, best, strict=True):
        assert all(bool((patches == one).all(dim=1).any()) for one in tile)
        assert bool((tile.mean(dim=1) >= least - 1e-6).all())
    assert torch.equal(textures(images[2:4], KEYS[2:4], patch=2), made[2:4])


def test_filled_images_have_one_silhouette_and_the_others_values() -> None:
    shape, texture = squares(), squares().flip(0)
    made = cue_conflict(shape, texture, "filled", keys=KEYS, patch=2)
    figure = silhouettes(shape).bool()
    assert bool((made[~figure] == 0.1).all())
    assert torch.equal(made[figure], textures(texture, KEYS, patch=2)[figure])


def test_phase_images_have_the_phase_of_one_and_the_amplitude_of_the_other() -> None:
    shape = 0.4 + 0.1 * random.uniform(KEYS, (3, 8, 8))
    texture = 0.4 + 0.1 * random.uniform(random.fold(KEYS, "other"), (3, 8, 8))
    made = torch.fft.fft2(cue_conflict(shape, texture, "phase", keys=KEYS))
    torch.testing.assert_close(made.abs(), torch.fft.fft2(texture).abs(), atol=1e-4, rtol=1e-3)
    turned = made * torch.fft.fft2(shape).conj()
    assert float((turned.imag.abs() / turned.abs().clamp(min=1e-3)).max()) < 1e-2
    torch.testing.assert_close(cue_conflict(shape, shape, "phase", keys=KEYS), shape)


def test_shape_bias_is_of_the_images_answered_by_either() -> None:
    shapes, textured = torch.tensor([0, 0, 1, 1, 2]), torch.tensor([1, 1, 2, 2, 0])
    found = shape_bias(torch.tensor([0, 1, 1, 0, 2]), shapes, textured)
    assert (found.shape, found.texture, found.bias) == (60.0, 20.0, 75.0)
    assert found.either == 80.0
    assert shape_bias(torch.full((5,), 3), shapes, textured).bias is None
    # A net that guesses is seen by how few images it answers with either.
    n = 20_000
    a = torch.arange(n) % 10
    guess = random.integers(random.row_keys(n, "guess"), 10)
    guessed = shape_bias(guess, a, (a + 4) % 10)
    assert guessed.bias == pytest.approx(50, abs=2)
    assert guessed.either == pytest.approx(20, abs=1)


@pytest.mark.parametrize("same", [True, False])
def test_partners_are_others_of_the_same_class_or_not(same: bool) -> None:
    labels, keys = torch.arange(60) % 3, random.row_keys(60, "partners")
    rows = partners(labels, keys, same=same)
    assert bool(((labels[rows] == labels) == same).all())
    assert not bool((rows == torch.arange(60)).any())
    assert len(rows.unique()) > 20


def test_bad_input() -> None:
    x = squares()
    with pytest.raises(ValueError, match="`patch` must divide the sides of the images, 8 and 8"):
        textures(x, KEYS, patch=3)
    with pytest.raises(ValueError, match="Unknown kind 'phases'"):
        cue_conflict(x, x, "phases", keys=KEYS)
    with pytest.raises(ValueError, match="`texture` must have the shape of `shape`"):
        cue_conflict(x, x[:3], "phase", keys=KEYS)
    with pytest.raises(ValueError, match=r"`textures` must tell another class .* in row 1"):
        shape_bias(torch.tensor([0, 0]), torch.tensor([0, 1]), torch.tensor([1, 1]))
    with pytest.raises(ValueError, match="`labels` must hold another image of the same class"):
        partners(torch.tensor([0, 1, 1]), KEYS[:3], same=True)
    with pytest.raises(ValueError, match="`images` must have shape"):
        silhouettes(x[0])
