"""Stars and moons: places as asked for, shapes that differ in nothing simpler."""

from dataclasses import replace

import pytest
import torch

from notbugs.data import StarsAndMoons

WHERE = {
    "shortcut": {0: {1, 2}, 1: {0, 3}},
    "exchanged": {0: {0, 3}, 1: {1, 2}},
    "random": {0: {0, 1, 2, 3}, 1: {0, 1, 2, 3}},
}


@pytest.mark.parametrize("places", WHERE)
def test_shapes_stand_in_the_quadrants_of_their_class(places: str) -> None:
    data = StarsAndMoons(n=200, places=places, seed=3).make()
    assert torch.bincount(data.labels).tolist() == [100, 100]
    for label, quadrants in WHERE[places].items():
        assert set(data.columns["quadrant"][data.labels == label].tolist()) == quadrants
    axis = torch.linspace(-1, 1, 24)
    mass = data.images.sum(dim=(1, 2, 3))
    down = (data.images.sum(dim=(1, 3)) * axis).sum(dim=1) / mass
    across = (data.images.sum(dim=(1, 2)) * axis).sum(dim=1) / mass
    seen = 2 * (down > 0).long() + (across > 0).long()
    assert torch.equal(seen, data.columns["quadrant"])


def test_brightness_does_not_tell_the_shape() -> None:
    data = StarsAndMoons(n=1000, places="random").make()
    mass = data.images.mean(dim=(1, 2, 3))
    star, moon = mass[data.labels == 0], mass[data.labels == 1]
    assert abs(float(star.mean() - moon.mean())) < 0.5 * float(star.std())


def test_the_seed_gives_the_images_and_another_gives_others() -> None:
    recipe = StarsAndMoons(n=20, seed=1)
    assert recipe.make().digest == recipe.make().digest
    assert recipe.make().digest != replace(recipe, seed=2).make().digest
    assert recipe.make().provenance["places"] == "shortcut"


def test_bad_input() -> None:
    with pytest.raises(ValueError, match="Did you mean 'exchanged'"):
        StarsAndMoons(places="exchange")
    with pytest.raises(ValueError, match="`side` must be"):
        StarsAndMoons(side=8)
    with pytest.raises(ValueError, match="`n` must be"):
        StarsAndMoons(n=1)
