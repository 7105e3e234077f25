"""Certified bounds: below and above whatever a change does, and exact where nothing is bent."""

import pytest
import torch
from torch import nn

from notbugs.core.rows import flatten
from notbugs.data import ImageData
from notbugs.engine import Threat
from notbugs.features import features_of, usefulness
from notbugs.features.certified import certified_bounds
from notbugs.models import Body, Classifier, build
from notbugs.representations import layer_of

SHAPE = (2, 8, 8)


def normalised() -> Classifier:
    """Strided convolutions with offsets, batch norms, mean and blurred pools, ReLU in place."""
    torch.manual_seed(0)
    trunk = nn.Sequential(
        nn.Conv2d(2, 6, 3, padding=1, stride=2),
        nn.BatchNorm2d(6),
        nn.ReLU(inplace=True),
        nn.AvgPool2d(2),
        nn.Conv2d(6, 8, 2),
        nn.Dropout(0.5),
        nn.ReLU(),
        nn.Flatten(),
    )
    with torch.no_grad():
        trunk[1].running_mean.uniform_(-0.2, 0.2)  # type: ignore[union-attr]
        trunk[1].running_var.uniform_(0.2, 0.6)  # type: ignore[union-attr]
    body = Body(trunk, nn.Linear(8, 3))
    return Classifier(
        body, shape=SHAPE, classes=3, embedding="trunk", mean=(0.4, 0.6), std=(0.3, 0.2)
    )


def built(name: str, **options: int | str) -> Classifier:
    return build(name, shape=SHAPE, classes=3, seed=0, options=options)


MODELS = {
    "mlp": lambda: built("mlp", width=16),
    "cnn": lambda: built("cnn", width=4, hidden=6),
    "blurred": lambda: built("cnn", width=4, hidden=6, down="blur"),
    "normalised": normalised,
}


def images(count: int = 3) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.rand(count, *SHAPE, generator=generator)


@pytest.mark.parametrize("layer", [None, "logits", "trunk.0"])
@pytest.mark.parametrize("threat", ["l2:0.3", "linf:0.02", "l1:1"])
@pytest.mark.parametrize("name", MODELS)
def test_no_change_gets_past_the_bounds(name: str, threat: str, layer: str | None) -> None:
    model, x, ball = MODELS[name]().eval(), images(), Threat.parse(threat)
    read = layer_of(model, layer)
    weights = torch.randn(4, read(x).flatten(1).shape[1])
    norm, eps = ball.as_norm("test"), ball.eps
    low, high = certified_bounds(model, layer, norm, eps)(x, weights)
    assert low.shape == high.shape == (3, 4)

    def value(changed: torch.Tensor) -> torch.Tensor:
        return read(changed).flatten(1) @ weights.T

    for j in range(4):
        for sign in (1, -1):
            z = x.clone()
            for _ in range(5):  # ascent by the whole radius, from wherever the last step ended
                z = z.detach().requires_grad_()
                (g,) = torch.autograd.grad(sign * value(z)[:, j].sum(), z)
                z = x + eps * norm.steepest(g)
                assert bool((norm.size(flatten(z - x)[:, :, None, None]) <= eps * 1.001).all())
                assert bool((value(z) >= low - 1e-4).all())
                assert bool((value(z) <= high + 1e-4).all())


@pytest.mark.parametrize("name", MODELS)
def test_bounds_of_a_tiny_ball_are_what_the_gradient_says(name: str) -> None:
    """Near an image the model is linear: the bounds meet the steepest change."""
    model, x = MODELS[name]().eval(), images()
    norm, eps = Threat.parse("l2:1").as_norm("test"), 1e-4
    weights = torch.randn(2, model.embed(x).shape[1])
    low, high = certified_bounds(model, None, norm, eps)(x, weights)
    for j in range(2):
        z = x.clone().requires_grad_()
        value = model.embed(z) @ weights[j]
        (g,) = torch.autograd.grad(value.sum(), z)
        reach = eps * norm.dual(g)
        torch.testing.assert_close(high[:, j] - value, reach, rtol=0.1, atol=2e-6)
        torch.testing.assert_close(value - low[:, j], reach, rtol=0.1, atol=2e-6)


def test_affine_layers_have_exact_bounds_at_any_radius() -> None:
    model, x = built("mlp", width=16), images()
    norm, eps = Threat.parse("linf:0.5").as_norm("test"), 0.5
    weights = torch.eye(16)
    low, high = certified_bounds(model, "trunk.1", norm, eps)(x, weights)
    layer = model.get_submodule("body.trunk.1")
    assert isinstance(layer, nn.Linear)
    value = layer(model.normalise(x).flatten(1))
    reach = eps * (layer.weight / model.std.flatten()[0]).abs().sum(dim=1)
    assert bool((model.std == model.std.flatten()[0]).all())
    torch.testing.assert_close(low, value - reach)
    torch.testing.assert_close(high, value + reach)


def test_bounds_are_those_of_images_alone() -> None:
    model, x = MODELS["cnn"](), images(5)
    bounds = certified_bounds(model, None, Threat.parse("l2:0.2").as_norm("test"), 0.2)
    weights = torch.randn(3, 6)
    together = bounds(x, weights)
    for i in range(5):
        for whole, one in zip(together, bounds(x[i : i + 1], weights), strict=True):
            torch.testing.assert_close(whole[i : i + 1], one)


def test_the_model_is_left_as_it_was() -> None:
    model = MODELS["normalised"]().train()
    norm = Threat.parse("l2:0.2").as_norm("test")
    certified_bounds(model, None, norm, 0.2)(images(), torch.eye(8))
    assert all(module.training for module in model.modules())
    assert all(p.requires_grad and p.grad is None for p in model.parameters())


@pytest.mark.parametrize("name", ["resnet18", "vgg16", "densenet"])
def test_other_models_are_refused_by_name(name: str) -> None:
    model = build(name, shape=(1, 8, 8), classes=3, seed=0)
    norm = Threat.parse("l2:0.2").as_norm("test")
    with pytest.raises(ValueError, match=r"(certify|chain of layers)"):
        certified_bounds(model, None, norm, 0.2)


def net(*between: nn.Module) -> Classifier:
    torch.manual_seed(0)
    body = nn.Sequential(nn.Conv2d(2, 4, 3), *between, nn.ReLU(), nn.Flatten(), nn.Linear(144, 3))
    return Classifier(body, shape=SHAPE, classes=3, embedding=str(len(between) + 1)).eval()


def hooked() -> Classifier:
    model = net()
    model.body[0].register_forward_hook(lambda layer, inputs, output: torch.sin(20 * output))
    return model


def hooked_relu() -> Classifier:
    model = net()
    model.body[1].register_forward_hook(lambda layer, inputs, output: 3 * output)
    return model


def patched() -> Classifier:
    model = net()
    model.body[1].forward = lambda x: torch.sin(20 * x)
    return model


class Bent(nn.Conv2d):
    def _conv_forward(self, *arguments):
        return torch.sin(20 * super()._conv_forward(*arguments))


class Position(nn.Module):
    """A leaf without inputs, one that is called by name, or one that gives a pair."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.kind, self.flat, self.fc = kind, nn.Flatten(), nn.Linear(128, 3)
        self.other = nn.LSTM(128, 128, batch_first=True) if kind == "pair" else Constant()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        z = self.flat(x)
        if self.kind == "none":
            return self.fc(z + self.other())
        return self.fc(input=z) if self.kind == "named" else self.fc(self.other(z)[0])


class Constant(nn.Module):
    def forward(self) -> torch.Tensor:
        return torch.ones(())


def positioned(kind: str) -> Classifier:
    return Classifier(Position(kind), shape=SHAPE, classes=3, embedding="flat").eval()


UNSOUND = {
    "a hook": hooked,
    "a hook of a ReLU": hooked_relu,
    "a forward of its own": patched,
    "a convolution that bends": lambda: net(Bent(4, 4, 1)),
    "batch statistics": lambda: net(nn.BatchNorm2d(4, track_running_stats=False)),
    "a maximum": lambda: net(nn.MaxPool2d(1)),
    "no inputs": lambda: positioned("none"),
    "inputs by name": lambda: positioned("named"),
    "a pair": lambda: positioned("pair"),
}


@pytest.mark.parametrize("name", UNSOUND)
def test_what_is_no_chain_of_relus_and_affine_layers_is_refused(name: str) -> None:
    norm = Threat.parse("l2:0.2").as_norm("test")
    with pytest.raises(ValueError, match=r"`certify`|chain of layers"):
        certified_bounds(UNSOUND[name](), "logits", norm, 0.2)


def test_a_change_behind_the_layers_is_noticed() -> None:
    class Behind(nn.Sequential):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            z = self[1](self[0](x))
            z.data.abs_()  # which no version tells
            return self[3](self[2](z))

    torch.manual_seed(0)
    body = Behind(nn.Flatten(), nn.Linear(128, 8), nn.ReLU(), nn.Linear(8, 3))
    model = Classifier(body, shape=SHAPE, classes=3, embedding="2").eval()
    x = images(60)
    data = ImageData(x, torch.arange(60) % 3, ("a", "b", "c"), "noise")
    features = features_of(model, data)
    with pytest.raises(ValueError, match=r"`certify` must be left out.*more than their layers"):
        usefulness(features, data, data, "l2:0.001", certify=True)
