"""A model that looks at the other images of a batch is told from every other kind."""

import random as python_random

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from attacks.unchecked import mixed
from nets import small_net
from notbugs.attacks import pgd
from notbugs.attacks.neighbours import check_rows
from notbugs.engine import Linf
from notbugs.models import Classifier, build, frozen
from notbugs.models.predictions import clean_logits

X = torch.rand(5, 1, 8, 8, generator=torch.Generator().manual_seed(1))


class Net(nn.Module):
    """A convolution, what is done to its output, a linear layer, what is done to the logits."""

    def __init__(self, within=lambda h: h, after=lambda z: z) -> None:
        super().__init__()
        self.conv, self.within, self.after = nn.Conv2d(1, 4, 3), within, after
        self.flat, self.layer = nn.Flatten(), nn.Linear(144, 5)
        draws = torch.Generator().manual_seed(0)
        with torch.no_grad():
            for layer in (self.conv, self.layer):
                layer.weight.normal_(generator=draws)
                layer.bias.zero_()

    def forward(self, x):
        return self.after(self.layer(self.flat(self.within(self.conv(x)))))


def net(classes=5, **parts) -> Classifier:
    return Classifier(Net(**parts), shape=(1, 8, 8), classes=classes, embedding="flat")


def by_batch(h):
    return F.batch_norm(h, None, None, training=True)


class Ghost(nn.Module):
    """A norm that ignores eval."""

    def forward(self, h):
        return (h - h.mean(dim=0, keepdim=True)) / h.std(dim=0, keepdim=True, correction=0).add(0.1)


def seen(model, x=X) -> None:
    with frozen(model):
        check_rows(model, x, clean_logits(model, x))


MIXING = {
    "a norm without running statistics": (mixed, "BatchNorm2d `body.norm`, which has track_runn"),
    "a module that ignores eval": (lambda: net(within=Ghost()), "first in Ghost `body.within`"),
    "a function between modules": (lambda: net(within=by_batch), "first in Net `body`"),
    "with masked classes": (
        lambda: net(
            within=by_batch,
            after=lambda z: torch.where(torch.arange(5) < 3, z, torch.full_like(z, -1e9)),
        ),
        "first in Net `body`",
    ),
    "with eight of ten classes masked": (
        lambda: net(10, within=by_batch, after=lambda z: F.pad(z[:, :2], (0, 8), value=-1e9)),
        "first in Net `body`",
    ),
    "with eight of ten masked, and small logits": (
        lambda: net(10, within=by_batch, after=lambda z: F.pad(z[:, :2] / 99, (0, 8), value=-1e9)),
        "first in Net `body`",
    ),
    "with an offset": (lambda: net(within=by_batch, after=lambda z: z + 1e4), "first in Net"),
    "with noise": (lambda: net(within=lambda h: F.dropout(by_batch(h), 0.3)), "first in Net"),
    "the rank in the batch": (
        lambda: net(after=lambda z: z.argsort(dim=0).argsort(dim=0) + z * 0),
        "first in Net `body`",
    ),
}


@pytest.mark.parametrize(("make", "named"), MIXING.values(), ids=list(MIXING))
@pytest.mark.parametrize("rows", [1, 5])
def test_it_is_refused_by_name(make, named, rows) -> None:
    with pytest.raises(ValueError, match="whatever other images are in its batch") as error:
        seen(make(), X[:rows])
    assert named in str(error.value)
    assert "track_running_stats=True, eval mode" in str(error.value)


INDEPENDENT = {
    "linear": lambda: build("linear", shape=(1, 8, 8), classes=5, seed=0),
    "running statistics": lambda: build("resnet8", shape=(1, 8, 8), classes=5, seed=0),
    "vit": lambda: build("vit", shape=(1, 8, 8), classes=5, seed=0),
    "statistics of each image": lambda: net(within=lambda h: F.instance_norm(h)),
    "dropout": lambda: net(within=lambda h: F.dropout(h, 0.3)),
    "noise of another generator": lambda: net(after=lambda z: z * python_random.random()),
    "one answer": lambda: net(after=torch.zeros_like),
    "ties": lambda: net(after=lambda z: torch.sigmoid(100 * z)),
    "masked": lambda: net(after=lambda z: z.masked_fill(torch.arange(5) > 2, -1e9)),
    "impossible classes": lambda: net(
        after=lambda z: z.clone().index_fill(1, torch.tensor(4), -1e38)
    ),
    "an offset": lambda: net(after=lambda z: z + 1e4),
    "tiny logits": lambda: net(after=lambda z: z * 1e-20),
    "half precision within": lambda: net(after=lambda z: z.bfloat16().float()),
}


@pytest.mark.parametrize("make", INDEPENDENT.values(), ids=list(INDEPENDENT))
@pytest.mark.parametrize("rows", [1, 5])
def test_others_are_let_through_and_left_alone(make, rows) -> None:
    model = make()
    with torch.random.fork_rng():
        seen(model, X[:rows])
    assert all(not m._forward_hooks and not m._forward_pre_hooks for m in model.modules())


def test_the_generators_stay_where_they_were() -> None:
    model = net(within=lambda h: by_batch(h))
    state = torch.get_rng_state()
    with pytest.raises(ValueError, match="first in"):
        seen(model)
    assert torch.equal(torch.get_rng_state(), state)
    assert all(not m._forward_hooks and not m._forward_pre_hooks for m in model.modules())


def test_an_honest_model_costs_one_small_pass() -> None:
    model, x, y = small_net(8)
    passes = []
    handle = model.register_forward_hook(lambda m, i, o: passes.append(len(o)))
    pgd(Linf(), 0.05, steps=1, random_start=False)(model, x, y, fast=False)
    handle.remove()
    assert passes.count(4) == 1
    assert len(passes) <= 6
