"""Copies without batch norms that are refreshed while their model learns."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.nn.utils import prune

from normed import IMAGES, Branching, Fading, Noisy, net
from notbugs.models import build, frozen
from notbugs.models.folded_copy import copy_to_craft_by


def said(model, x=IMAGES):
    with frozen(model), torch.no_grad():
        return model(x)


def learnt(model, steps=1) -> None:
    """Some steps of SGD in train mode, so that weights and running statistics move."""
    optimiser = torch.optim.SGD(model.parameters(), lr=0.5, momentum=0.9)
    model.train()
    for _ in range(steps):
        optimiser.zero_grad()
        F.cross_entropy(model(IMAGES), torch.arange(len(IMAGES)) % 4).backward()
        optimiser.step()


def test_it_says_what_the_model_says_in_eval_mode_and_keeps_up_with_it() -> None:
    model = net()
    copied = copy_to_craft_by(model, "float32", IMAGES[:8])
    assert copied is not None
    before = said(model)
    torch.testing.assert_close(copied(IMAGES), before, atol=1e-4, rtol=1e-4)
    learnt(model, steps=3)
    assert not torch.allclose(said(model), before, atol=0.1)
    torch.testing.assert_close(copied(IMAGES), before, atol=1e-4, rtol=1e-4)  # not refreshed yet
    copied.refresh(model)
    torch.testing.assert_close(copied(IMAGES), said(model), atol=1e-4, rtol=1e-4)


def test_its_gradients_are_the_models() -> None:
    model = net()
    copied = copy_to_craft_by(model, "float32", IMAGES[:8])
    assert copied is not None
    grads = []
    with frozen(model):
        for logits in (model, copied):
            x = IMAGES.clone().requires_grad_()
            grads.append(torch.autograd.grad(logits(x).square().sum(), x)[0])
    torch.testing.assert_close(grads[1], grads[0], atol=1e-4, rtol=1e-3)
    assert all(p.grad is None and p.requires_grad for p in model.parameters())


def test_a_shared_convolution_is_followed_unfolded_and_the_others_folded() -> None:
    model = net(shared=True)
    copied = copy_to_craft_by(model, "float32", IMAGES[:8])
    assert copied is not None
    assert list(copied.folds.values()) == ["1"]
    learnt(model)
    copied.refresh(model)
    torch.testing.assert_close(copied(IMAGES), said(model), atol=1e-4, rtol=1e-4)


def test_in_bf16_it_is_near_and_float32_comes_out() -> None:
    model = net()
    copied = copy_to_craft_by(model, "bf16", IMAGES[:8])
    assert copied is not None
    learnt(model)
    copied.refresh(model)
    logits, wanted = copied(IMAGES), said(model)
    assert logits.dtype == torch.float32
    assert 0 < float((logits - wanted).abs().max()) < 0.05 * float(wanted.std())


class Odd(nn.Module):
    """A convolution and a norm, put to use in one of several ways."""

    def __init__(self, way) -> None:
        super().__init__()
        self.way, self.size = way, 1.0
        self.conv, self.norm = nn.Conv2d(6, 6, 3, padding=1), nn.BatchNorm2d(6)

    def forward(self, x):
        h = self.norm(self.conv(x))
        if self.way == "weight read elsewhere":
            return h + F.conv2d(x.flip(-1), self.conv.weight, padding=1)
        if self.way == "weight tied to a transposed one":
            return h + F.conv_transpose2d(x, self.conv.weight, padding=1)
        if self.way == "no gradient":
            with torch.no_grad():
                x = 3 * x
            return h + x
        return h


SERVED = {
    "weight read elsewhere": lambda: Odd("weight read elsewhere"),
    "weight tied to a transposed one": lambda: Odd("weight tied to a transposed one"),
    "no scale": lambda: nn.Sequential(nn.Conv2d(6, 6, 1), nn.BatchNorm2d(6, affine=False)),
    "no statistics": lambda: nn.Sequential(
        nn.Conv2d(6, 6, 1), nn.BatchNorm2d(6, track_running_stats=False)
    ),
    "groups": lambda: nn.Sequential(nn.Conv2d(6, 6, 3, padding=1, groups=3), nn.BatchNorm2d(6)),
    "transposed": lambda: nn.Sequential(nn.ConvTranspose2d(6, 6, 1), nn.BatchNorm2d(6)),
    "norm first": lambda: nn.Sequential(nn.BatchNorm2d(6), nn.Conv2d(6, 6, 1)),
    "parametrised": lambda: nn.Sequential(
        nn.utils.parametrizations.weight_norm(nn.Conv2d(6, 6, 1)), nn.BatchNorm2d(6)
    ),
    "pruned": lambda: nn.Sequential(pruned(nn.Conv2d(6, 6, 1)), nn.BatchNorm2d(6)),
}


def pruned(layer):
    prune.random_unstructured(layer, "weight", 0.5)
    return layer


@pytest.mark.parametrize("make", SERVED.values(), ids=list(SERVED))
def test_whatever_a_net_holds_it_is_followed_rightly(make) -> None:
    torch.manual_seed(1)
    model = net(make())
    copied = copy_to_craft_by(model, "float32", IMAGES[:8])
    assert copied is not None
    assert list(copied.folds.values())[:2] == ["1", "3.norm"]
    learnt(model, steps=5)
    copied.refresh(model)
    assert copied.follows(model, IMAGES)
    torch.testing.assert_close(copied(IMAGES), said(model), atol=1e-3, rtol=1e-3)


def test_none_for_models_that_it_would_not_serve() -> None:
    assert copy_to_craft_by(net(Branching()), "float32", IMAGES[:8]) is None  # untraceable
    assert copy_to_craft_by(net(Noisy()), "float32", IMAGES[:8]) is None  # random in itself
    assert copy_to_craft_by(net(Odd("no gradient")), "float32", IMAGES[:8]) is None  # lost
    plain = net()
    plain.body[1], plain.body[3].norm = nn.Identity(), nn.Identity()
    assert copy_to_craft_by(plain, "float32", IMAGES[:8]) is None  # nothing to fold


class InFloat32(nn.Module):
    def forward(self, x):
        return x.float()


def test_none_in_bf16_for_a_model_with_a_part_in_float32() -> None:
    assert copy_to_craft_by(net(InFloat32()), "float32", IMAGES[:8]) is not None
    assert copy_to_craft_by(net(InFloat32()), "bf16", IMAGES[:8]) is None


def test_it_tells_when_it_no_longer_follows() -> None:
    model = net(Fading())
    for precision in ("float32", "bf16"):
        model.body[4].size = 1.0
        copied = copy_to_craft_by(model, precision, IMAGES[:8])
        assert copied is not None
        assert copied.follows(model, IMAGES[:8])
        learnt(model)
        copied.refresh(model)
        assert not copied.follows(model, IMAGES[:8])


def test_none_for_a_subclass_with_a_forward_of_its_own() -> None:
    model = net()

    class Twice(type(model)):
        def forward(self, x):
            return 2 * super().forward(x)

    model.__class__ = Twice
    assert copy_to_craft_by(model, "float32", IMAGES[:8]) is None


def test_the_new_net_of_cifar_is_followed() -> None:
    model = build("airbench", shape=(3, 8, 8), classes=4, seed=0, options={"width": 4, "wide": 6})
    copied = copy_to_craft_by(model, "float32", IMAGES[:8])
    assert copied is not None
    assert len(copied.folds) >= 3


def test_none_for_a_subclass_that_learns_what_is_not_in_its_body() -> None:
    """As long as that is zero, the copy agrees."""

    class WithMore(type(net())):
        def forward(self, x):
            return super().forward(x) + self.extra

    model = net()
    model.__class__ = WithMore
    model.extra = nn.Parameter(torch.zeros(4))
    assert copy_to_craft_by(model, "float32", IMAGES[:8]) is None
