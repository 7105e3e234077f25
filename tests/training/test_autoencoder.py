"""A sparse autoencoder's features: they rebuild the image, are sparse, and stay as they are."""

import pytest
import torch
from torch.nn import functional as F

from notbugs.data import load_source, split
from notbugs.judge import accuracy
from notbugs.models import build
from notbugs.training import Recipe, pretrain, train

PARTS = split(load_source("digits"), seed=0, train_size=600)
OPTIONS = {"hidden": "48", "activation": "sigmoid"}


def net(name="fc", **options):
    return build(name, shape=(1, 8, 8), classes=10, seed=0, options=options or OPTIONS)


def error(model, decoder):
    x = PARTS.test.pixels()
    with torch.no_grad():
        rebuilt = decoder(model.embed(x)).sigmoid()
    return float(F.mse_loss(rebuilt, x.flatten(1)))


def test_features_rebuild_the_image_and_the_head_learns_on_them() -> None:
    model, short = net(), net()
    before = error(short, pretrain(short, PARTS.train, epochs=1, seed=0))
    done = []
    decoder = pretrain(model, PARTS.train, epochs=60, lr=5e-3, seed=0, progress=done.append)
    x = PARTS.test.pixels()
    plain = float((x - PARTS.train.pixels().mean(dim=0)).square().mean())
    assert error(model, decoder) < 0.5 * plain < before
    busy = net()
    pretrain(busy, PARTS.train, epochs=60, lr=5e-3, weight=1e-6, seed=0)
    activity, other = (float(m.embed(x).mean().detach()) for m in (model, busy))
    assert activity < 0.8 * other
    assert done[-1] == 1.0
    kept = {k: v.clone() for k, v in model.body.trunk.state_dict().items()}
    train(model, PARTS.train, Recipe(epochs=60, lr=0.5, weight_decay=0.0), seed=0)
    assert all(torch.equal(v, kept[k]) for k, v in model.body.trunk.state_dict().items())
    assert accuracy(model, PARTS.test) > 80


def test_the_same_seed_gives_the_same_features() -> None:
    first, second = net(), net()
    torch.rand(3)
    pretrain(first, PARTS.train, epochs=2, seed=1)
    pretrain(second, PARTS.train, epochs=2, seed=1)
    assert torch.equal(first.embed(PARTS.val.pixels()), second.embed(PARTS.val.pixels()))


@pytest.mark.parametrize(
    ("make", "match"),
    [
        (lambda: pretrain(net("mlp", width=8), PARTS.train, seed=0), r"embedding in \[0, 1\]"),
        (lambda: pretrain(net(), PARTS.train, sparsity=1.0, seed=0), r"`sparsity` must lie in"),
        (lambda: pretrain(net(), PARTS.train, epochs=0, seed=0), "`epochs` must be at least 1"),
        (lambda: pretrain(net(), PARTS.train, weight=0.0, seed=0), "`weight` must be a finite"),
    ],
)
def test_bad_input_is_explained(make, match) -> None:
    with pytest.raises(ValueError, match=match):
        make()
