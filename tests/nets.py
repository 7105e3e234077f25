"""Small nets and images that several rooms test with."""

from functools import cache

import torch
from torch import nn

from notbugs.core import random
from notbugs.data import load_source, split
from notbugs.models import build, wrap
from notbugs.training import Recipe, train

PARTS = split(load_source("digits"), seed=0, train_size=700)


@cache
def digits_net(adversary=None):
    """A convolutional net trained on digits, a second's work; tests leave it as it is."""
    options = {"width": 8, "hidden": 32}
    model = build("cnn", shape=(1, 8, 8), classes=10, seed=0, options=options)
    epochs = 12 if adversary is None else 16
    recipe = Recipe(epochs=epochs, batch_size=32, lr=0.1, warmup=0.2, adversary=adversary)
    return train(model, PARTS.train, recipe, seed=0).model


def small_net(n, classes=5, shape=(1, 8, 8), seed=1):
    """A small untrained net, centred so that it names several classes; images; what it says."""
    options = {"width": 4, "hidden": 8}
    model = build("cnn", shape=shape, classes=classes, seed=seed, options=options)
    x = random.uniform(random.row_keys(n, "net"), shape)
    with torch.no_grad():
        model.body.head.bias.sub_(model.logits(x).mean(dim=0))
    return model, x, said(model, x)


class Linear(nn.Sequential):
    """A linear layer of normal weights and no bias, on images of side x side pixels."""

    def __init__(self, classes, side, weights) -> None:
        super().__init__(nn.Flatten(), nn.Linear(side * side, classes))
        with torch.no_grad():
            keys = random.row_keys(classes, weights)
            self.layer.weight.copy_(random.normal(keys, (side * side,)))
            self.layer.bias.zero_()

    @property
    def layer(self):
        return self[1]


def linear(classes=2, side=4, weights="w"):
    """A linear classifier, whose nearest successes are known exactly."""
    body = Linear(classes, side, weights)
    return wrap(body, shape=(1, side, side), classes=classes, embedding="0")


def said(model, x):
    with torch.no_grad():
        return model.logits(x).argmax(dim=1)


def in_parts(attack, model, x, y, size):
    """(what the attack finds for all rows, [(rows, what it finds for them alone), ...])."""
    keys = random.row_keys(len(x), "keys")
    parts = [
        (rows, attack(model, x[rows], y[rows], keys=keys[rows]))
        for rows in torch.arange(len(x)).flip(0).split(size)
    ]
    return attack(model, x, y, keys=keys), parts
