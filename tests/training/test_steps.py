"""What a training step sees: which images, in which mode, drawn anew in every epoch."""

from dataclasses import replace

import pytest
import torch
from torch import nn

from killed import DATA, SHORT
from notbugs.core import random
from notbugs.data import Augment, ImageData
from notbugs.models import wrap
from notbugs.training import Adversary, Recipe, train

ONCE = Recipe(epochs=3, batch_size=8, lr=1e-3)


class Spy(nn.Module):
    """A linear net that notes what it is shown, whether to craft or to learn."""

    def __init__(self) -> None:
        super().__init__()
        self.flat, self.layer = nn.Flatten(), nn.Linear(36, 2)
        with torch.no_grad():
            self.layer.weight.copy_(random.normal(random.row_keys(2, "w"), (36,)) / 6)
            self.layer.bias.zero_()
        self.learned, self.crafted = [], []

    def forward(self, x):
        learning = self.layer.weight.requires_grad
        (self.learned if learning else self.crafted).append((x.detach().clone(), self.training))
        return self.layer(self.flat(x))


def taught(recipe, seed=0):
    """A spy trained on eight copies of one image, so that order does not show."""
    image = random.uniform(random.row_keys(1, "one"), (1, 6, 6))
    data = ImageData(image.repeat(8, 1, 1, 1), torch.arange(8) % 2, ("a", "b"), "copies")
    spy = Spy()
    train(wrap(spy, shape=(1, 6, 6), classes=2, embedding="flat"), data, recipe, seed=seed)
    # Wrapping tries the module on an image of its own.
    learned = [(x, mode) for x, mode in spy.learned if len(x) == 8]
    return image, learned, [(x, mode) for x, mode in spy.crafted if len(x) == 8]


def as_set(x):
    return {tuple(row.flatten().tolist()) for row in x}


@pytest.mark.parametrize(
    "recipe",
    [
        replace(ONCE, augment=Augment(crop_padding=2, flip=True)),
        replace(ONCE, adversary=Adversary("l2:0.5", steps=1, step_size=1e-4)),
    ],
    ids=["augmentation", "random start"],
)
def test_every_epoch_and_every_row_draws_anew(recipe) -> None:
    _, learned, _ = taught(recipe)
    first, second, third = (as_set(x) for x, _ in learned)
    assert len(first) > 4
    assert first != second != third != first
    assert [as_set(x) for x, _ in taught(recipe)[1]] == [first, second, third]
    assert as_set(taught(recipe, seed=1)[1][0][0]) != first


def test_the_images_learned_from_are_the_crafted_ones_within_their_threat() -> None:
    image, learned, _ = taught(replace(ONCE, adversary=Adversary("linf:0.1", steps=3)))
    for x, mode in learned:
        size = (x - image).abs().amax()
        assert 0.09 < float(size) <= 0.1 + 1e-6
        assert float(x.min()) >= 0
        assert float(x.max()) <= 1
        assert mode
    image, learned, crafted = taught(ONCE)
    assert all(torch.equal(x, image.expand_as(x)) for x, _ in learned)
    assert len(crafted) == 1  # the look at the end: are the logits finite?


@pytest.mark.parametrize("mode", [False, True])
def test_the_mode_that_crafts_is_the_one_the_recipe_says(mode) -> None:
    adversary = Adversary("linf:0.1", steps=2, train_mode=mode)
    _, learned, crafted = taught(replace(ONCE, adversary=adversary))
    assert [m for _, m in crafted[:-1]] == [mode] * (3 * 3)
    assert [m for _, m in learned] == [True] * 3


def test_layers_that_draw_from_the_global_generator_draw_anew_in_every_epoch() -> None:
    draws = []
    data = ImageData(torch.full((8, 1, 6, 6), 0.5), torch.arange(8) % 2, ("a", "b"), "grey")
    model = wrap(Spy(), shape=(1, 6, 6), classes=2, embedding="flat")

    def draw(fraction) -> None:
        draws.append(float(torch.rand(())))

    train(model, data, ONCE, seed=0, progress=draw)
    train(model, data, ONCE, seed=0, progress=draw)
    # Three epochs; the last call of each training comes when the generator is back.
    assert len(set(draws[:3])) == 3
    assert draws[:3] == draws[4:7]


def test_a_layer_may_join_later() -> None:
    """Its first gradient then comes when the others have momentum already."""

    class Growing(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.flat, self.first, self.second = nn.Flatten(), nn.Linear(64, 10), nn.Linear(64, 10)
            self.passes = 0

        def forward(self, x):
            self.passes += self.training
            x = self.flat(x)
            return self.first(x) + self.second(x) if self.passes > 3 else self.first(x)

    model = wrap(Growing(), shape=(1, 8, 8), classes=10, embedding="flat")
    before = model.body.second.weight.detach().clone()
    done = train(model, DATA, replace(SHORT, epochs=2, batch_size=32), seed=0)
    assert done.history[-1]["loss"] < done.history[0]["loss"]
    assert not torch.equal(model.body.second.weight, before)
