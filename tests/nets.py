"""Small nets and images that several rooms test with, each made once."""

from functools import cache

from notbugs.data import load_source, split
from notbugs.models import build
from notbugs.training import Recipe, train

PARTS = split(load_source("digits"), seed=0, train_size=700)


@cache
def digits_net(adversary=None):
    """A convolutional net trained on digits, a second's work; tests leave it as it is."""
    options = {"width": 8, "hidden": 32}
    model = build("cnn", shape=(1, 8, 8), classes=10, seed=0, options=options)
    recipe = Recipe(epochs=12, batch_size=32, lr=0.1, warmup=0.2, adversary=adversary)
    return train(model, PARTS.train, recipe, seed=0).model
