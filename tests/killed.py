"""Small trainings of every kind that a kill must not change."""

from dataclasses import replace

import torch
from torch import nn

from notbugs.data import Augment, load_source, split
from notbugs.models import build, wrap
from notbugs.training import Adversary, Awp, Free, L2Decay, Mixed, Recipe

PARTS = split(load_source("digits"), seed=0, train_size=300)
DATA, VAL = PARTS.train.select(slice(0, 128)), PARTS.val
SHORT = Recipe(epochs=4, batch_size=32, lr=0.05, warmup=0.2)


def small(seed=0, name="cnn", **options):
    options = options or {"width": 4, "hidden": 8}
    return build(name, shape=(1, 8, 8), classes=10, seed=seed, options=options)


def forgetful(seed=0, name="cnn", **options):
    """A net with dropout, which draws from the global generator and from no other."""
    inner = small(seed, name, **options).body
    body = nn.Sequential(inner.trunk, nn.Dropout(0.5), inner.head)
    return wrap(body, shape=(1, 8, 8), classes=10, embedding="0")


def lined_up(model):
    """The model with its weights in channels-last memory."""
    return model.to(memory_format=torch.channels_last)


def equal(a, b) -> bool:
    ours, theirs = a.state_dict(), b.state_dict()
    return all(torch.equal(ours[k], theirs[k]) for k in ours)


EVERYTHING = replace(
    SHORT,
    augment=Augment(crop_padding=1, flip=True),
    adversary=Adversary("l2:0.5", steps=2, eps_warmup=0.5),
    select="best",
    watch_every=1,
)
CASES = {
    "everything at once": (EVERYTHING, small),
    "no momentum": (replace(SHORT, momentum=0.0), small),
    "linf, crafted in train mode": (
        replace(SHORT, adversary=Adversary("linf:0.05", steps=1, train_mode=True)),
        lambda seed=0: small(seed, "resnet8", width=8),
    ),
    "bf16": (replace(SHORT, precision="bf16"), small),
    "dropout": (SHORT, forgetful),
    "dropout, norms and an average": (
        replace(SHORT, average=0.9),
        lambda seed=0: forgetful(seed, "resnet8", width=2),
    ),
    "average, awp, mixed and a penalty": (
        replace(
            SHORT,
            adversary=Adversary("linf:0.05", steps=1, random_start=False, train_mode=True),
            objective=Mixed(),
            average=0.9,
            awp=Awp(1e-3),
            penalties=(L2Decay(1e-3),),
            select="best",
            watch_every=2,
        ),
        small,
    ),
    "free, with norms": (
        replace(SHORT, adversary=Adversary("linf:0.05"), objective=Free(2), average=0.9),
        lambda seed=0: small(seed, "resnet8", width=2),
    ),
    "quick biases of norms and a layer that begins from data": (
        replace(SHORT, norm_bias_times=8.0, decay="triangle", average=0.9),
        lambda seed=0: small(seed, "airbench", width=4, wide=6),
    ),
    "norms in eval mode, in channels-last memory": (
        replace(SHORT, adversary=Adversary("linf:0.05", steps=2)),
        lambda seed=0: lined_up(small(seed, "resnet8", width=8)),
    ),
    "patience": (replace(SHORT, watch_every=1, patience=1, lr=0.3), small),
}
