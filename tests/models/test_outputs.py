"""Networks whose logits are not a plain tensor with a gradient: taken, or named as such."""

from dataclasses import dataclass
from typing import NamedTuple

import pytest
import torch
from torch import nn

from notbugs.attacks import latent, pgd, square
from notbugs.core import random
from notbugs.data import ImageData
from notbugs.engine import L2, Linf, Threat
from notbugs.features import inverted_set, targeted_set
from notbugs.models import Classifier, wrap
from notbugs.models.outputs import TWO_LOGITS
from notbugs.models.views import of_views
from notbugs.representations import invert_images, visualise

SHAPE, PGD = (1, 4, 4), pgd(Linf(), 0.2, steps=3)


class Named(NamedTuple):
    logits: torch.Tensor
    aux: torch.Tensor


@dataclass
class Output:
    loss: None
    logits: torch.Tensor


OUTPUTS = {
    "tuple": lambda z: (z, z[:, :1]),
    "tuple after none": lambda z: (None, z),
    "list": lambda z: [z, z],
    "named tuple": lambda z: Named(logits=z, aux=z[:, :1]),
    "dictionary": lambda z: {"loss": None, "logits": z},
    "dataclass": lambda z: Output(None, z),
}


class Net(nn.Module):
    """A linear layer whose output is what `after` makes of its logits."""

    def __init__(self, after=lambda z: z, classes=3) -> None:
        super().__init__()
        self.flat, self.layer, self.after = nn.Flatten(), nn.Linear(16, classes), after
        with torch.no_grad():
            self.layer.weight.copy_(random.normal(random.row_keys(classes, "w"), (16,)))
            self.layer.bias.copy_(-self.layer.weight.sum(dim=1) / 2)  # all classes are named

    def forward(self, x):
        return self.after(self.layer(self.flat(x)))


def wrapped(module, embedding="flat", classes=3, **options):
    return wrap(module, shape=SHAPE, classes=classes, embedding=embedding, **options)


def scene():
    """Images and what the plain net says of them."""
    x = random.uniform(random.row_keys(30, "x"), SHAPE)
    with torch.no_grad():
        return x, wrapped(Net()).logits(x).argmax(dim=1)


@pytest.mark.parametrize("after", OUTPUTS.values(), ids=list(OUTPUTS))
def test_logits_are_found_in_what_a_network_returns(after) -> None:
    (x, y), plain, model = scene(), wrapped(Net()), wrapped(Net(after))
    assert torch.equal(model.logits(x), plain.logits(x))
    assert torch.equal(model.both(x)[0], plain.logits(x))
    assert torch.equal(of_views(model).logits(x), of_views(plain).logits(x))
    assert torch.equal(PGD(model, x, y).x_adv, PGD(plain, x, y).x_adv)


@pytest.mark.parametrize("after", [lambda z: z, lambda z: z[:, 0]], ids=["column", "row"])
def test_one_logit_is_explained_by_lines_that_mend_it(after) -> None:
    module = Net(after, classes=1)
    with pytest.raises(ValueError, match=r"One logit is equivalent to two"):
        wrapped(module, classes=2)
    with pytest.raises(
        ValueError, match=r"`classes` must be at least 2; got 1.*\n +class TwoLogits"
    ):
        wrapped(module, classes=1)
    there = {"torch": torch, "wrap": wrap, "module": module}
    lines = "\n".join(line[4:] for line in TWO_LOGITS.splitlines()[1:])
    exec(lines.replace("NAME", "flat").replace("...", f"shape={SHAPE}"), there)
    model, (x, _) = there["model"], scene()
    z = model.logits(x)
    torch.testing.assert_close(
        z.softmax(dim=1)[:, 1], after(module.layer(x.flatten(1))).sigmoid().reshape(-1)
    )
    assert PGD(model, x, z.argmax(dim=1)).attack_success_rate > 0


COMPILERS = {
    "scripted": torch.jit.script,
    "traced": lambda net: torch.jit.trace(net, torch.zeros(1, *SHAPE)),
    "frozen": lambda net: torch.jit.freeze(torch.jit.script(net)),
}


@pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning")
@pytest.mark.filterwarnings("ignore::FutureWarning")
@pytest.mark.parametrize("compiler", COMPILERS.values(), ids=list(COMPILERS))
def test_torchscript_is_taken_where_no_layer_inside_is_asked_for(compiler) -> None:
    net = nn.Sequential(nn.Flatten(), Net().layer).eval()
    script, (x, y) = compiler(net), scene()
    model = wrapped(nn.Sequential(script, nn.Identity()), "1")
    found = PGD(model, x, y)
    torch.testing.assert_close(found.x_adv, PGD(wrapped(net, "0"), x, y).x_adv)
    with pytest.raises(ValueError, match=r"which TorchScript does not allow.*embedding='1'"):
        wrapped(script, "0")


@torch.library.custom_op("notbugs_tests::int8", mutates_args=())
def int8(z: torch.Tensor) -> torch.Tensor:
    """As an operator in int8: it has no derivative, and says so in the backward pass alone."""
    return (z * 8).round() / 8


NO_GRADIENT = {"int8": int8, "detach": lambda z: z.detach()}


@pytest.mark.parametrize("after", NO_GRADIENT.values(), ids=list(NO_GRADIENT))
def test_a_model_without_gradients_is_named_and_what_needs_none_is_offered(after) -> None:
    (x, y), model = scene(), wrapped(Net(after), "layer")
    data, threat = ImageData(x, y, ("a", "b", "c"), "tiny"), Threat(Linf(), 0.1)
    blind = wrapped(nn.Sequential(Net(after), nn.Identity()), "1")
    assert square(Linf(), 0.3, steps=20)(model, x, y).attack_success_rate > 0
    with pytest.raises(
        ValueError, match=r"for PGD-3; got logits without gradients.*int8.*square\("
    ):
        PGD(model, x, y)
    with pytest.raises(ValueError, match=r"for targeted_set; got logits without gradients"):
        targeted_set(model, data, "det", threat, seed=0)
    with pytest.raises(ValueError, match=r"codes without gradients"):
        latent(blind.embed, x, torch.zeros(30, 3), L2(), 0.1)
    for call in (
        lambda: invert_images(blind, x),
        lambda: visualise(blind, [0]),
        lambda: inverted_set(blind, data, name="D_R", seed=0),
    ):
        with pytest.raises(ValueError, match=r"activations without gradients.*most_activating"):
            call()


def test_mean_and_std_may_be_numbers_and_are_of_images_in_0_to_1() -> None:
    x, _ = scene()
    one, each = wrapped(Net(), mean=0.1, std=2), wrapped(Net(), mean=(0.1,), std=[2.0])
    assert torch.equal(one.logits(x), each.logits(x))
    for options in ({"mean": 125.3, "std": 63.0}, {"mean": [33.3]}, {"std": 255}):
        with pytest.raises(ValueError, match=r"looks like 0..255: divide mean and std by 255"):
            wrapped(Net(), **options)


def test_what_is_wrapped_in_inference_mode_works_outside_and_what_is_made_there_is_named() -> None:
    (x, y), net = scene(), Net()
    with torch.inference_mode():
        model = wrapped(net, mean=0.1, std=0.5)
    assert isinstance(model, Classifier)
    assert PGD(model, x, y).x_adv.shape == x.shape
    with torch.inference_mode():
        made = Net()
    with pytest.raises(
        ValueError, match=r"`module` must have weights .*'layer.weight', made inside"
    ):
        wrapped(made)
