"""Bounds of layers: never below what is measured, and exact where they can be."""

import math

import pytest
import torch
from torch import nn

from notbugs.analysis import amplification, lipschitz_bounds
from notbugs.analysis.lipschitz import conv_bound
from notbugs.core import random
from notbugs.models import Classifier, build


def operator_norm(layer: nn.Module, size: tuple[int, ...]) -> float:
    """The largest singular value of a linear layer without its offset, from its whole matrix."""
    count = math.prod(size)
    basis = torch.eye(count, dtype=torch.float64).reshape(count, *size)
    with torch.no_grad():
        matrix = (layer(basis) - layer(torch.zeros_like(basis))).flatten(1)
    return float(torch.linalg.matrix_norm(matrix, 2))


def conv(*arguments, seed: int = 0, **options) -> nn.Conv2d:
    torch.manual_seed(seed)
    return nn.Conv2d(*arguments, **options).double()


@pytest.mark.parametrize("stride", [1, 2, 3])
@pytest.mark.parametrize("kernel", [1, 2, 3, 4])
def test_on_a_torus_the_bound_of_a_convolution_is_exact(stride: int, kernel: int) -> None:
    layer = conv(2, 3, kernel, stride=stride, padding=0)
    size = (12, 12)

    def circular(x: torch.Tensor) -> torch.Tensor:
        wrapped = nn.functional.pad(x, (0, kernel - 1, 0, kernel - 1), mode="circular")
        return nn.functional.conv2d(wrapped, layer.weight, layer.bias)[..., ::stride, ::stride]

    bound = conv_bound(layer.weight, (stride, stride), (0, 0), size)
    assert bound == pytest.approx(operator_norm(circular, (2, *size)), rel=1e-9)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "options",
    [
        {"padding": 1},
        {"padding": 1, "stride": 2},
        {"padding": 0, "stride": 2},
        {"padding": 2, "stride": 3},
        {"padding": 1, "groups": 2},
    ],
)
def test_with_zeros_at_the_edges_it_is_above_the_truth_and_near(options) -> None:
    layer, size = conv(4, 6, 3, **options), (9, 9)
    truth = operator_norm(layer, (4, *size))
    stride, padding = layer.stride, layer.padding
    assert isinstance(padding, tuple)
    bound = conv_bound(layer.weight, stride, padding, size, layer.groups)
    assert truth <= bound * (1 + 1e-9)
    assert bound < 1.25 * truth


def chain(*layers: nn.Module, shape=(2, 8, 8), **options) -> Classifier:
    torch.manual_seed(0)
    body = nn.Sequential(*layers, nn.Flatten(), nn.LazyLinear(4))
    body.eval()(torch.zeros(1, *shape))
    model = Classifier(body, shape=shape, classes=4, embedding=str(len(layers)), **options)
    return model.double().eval()


def trained_norm() -> nn.BatchNorm2d:
    norm = nn.BatchNorm2d(2)
    norm.running_var.copy_(torch.tensor([0.25, 4.0]))  # type: ignore[union-attr]
    norm.weight.data.copy_(torch.tensor([-1.0, 3.0]))
    return norm


@pytest.mark.parametrize(
    ("layer", "bound"),
    [
        (nn.ReLU(), 1.0),
        (nn.Sigmoid(), 0.25),
        (nn.MaxPool2d(2), 1.0),
        (nn.MaxPool2d(3, stride=2), 2.0),
        (nn.AvgPool2d(2), 0.5),
        (nn.AdaptiveAvgPool2d(1), 1 / 8),
        (trained_norm(), 2.0),
    ],
)
def test_known_bounds(layer: nn.Module, bound: float) -> None:
    assert lipschitz_bounds(chain(layer))["0"] == pytest.approx(bound, rel=1e-4)


def test_the_normalisation_counts() -> None:
    bounds = lipschitz_bounds(chain(nn.ReLU(), mean=(0.5, 0.5), std=(0.5, 0.2)))
    assert bounds["normalise"] == pytest.approx(5)


def test_no_change_is_amplified_beyond_the_bound() -> None:
    model = chain(
        nn.Conv2d(2, 5, 3, stride=2, padding=1),
        trained(5),
        nn.ReLU(),
        nn.MaxPool2d(2),
        std=(0.3, 0.4),
    )
    bounds = lipschitz_bounds(model)
    x = random.uniform(random.row_keys(50, "x"), (2, 8, 8), torch.float64)
    step = random.normal(random.row_keys(50, "step"), (2, 8, 8), torch.float64)
    ratios = amplification(model, x, (x + 0.01 * step).clamp(0, 1))
    assert list(ratios) == list(bounds)
    for name, ratio in ratios.items():
        assert float(ratio.max()) <= bounds[name] * (1 + 1e-6), name
        assert float(ratio.min()) > 0


def trained(channels: int) -> nn.BatchNorm2d:
    norm = nn.BatchNorm2d(channels)
    norm.weight.data.copy_(torch.linspace(-2, 2, channels))
    return norm


def test_the_product_of_amplifications_is_that_of_the_logits() -> None:
    model = build("fc", shape=(1, 8, 8), classes=3, seed=0, options={"hidden": "9-8"}).eval()
    x = random.uniform(random.row_keys(5, "x"), (1, 8, 8))
    moved = (x + 0.05).clamp(0, 1)
    ratios = amplification(model, x, moved)
    with torch.no_grad():
        change = (model(moved) - model(x)).norm(dim=1) / (moved - x).flatten(1).norm(dim=1)
    torch.testing.assert_close(torch.stack(list(ratios.values())).prod(dim=0), change)


def test_a_dense_layer_reaches_its_bound() -> None:
    model = build("linear", shape=(1, 4, 4), classes=3, seed=0).eval()
    (name,) = [n for n in lipschitz_bounds(model) if n.endswith("head")]
    weight = model.body.get_parameter(f"{name}.weight")
    direction = torch.linalg.svd(weight.double()).Vh[0].float().reshape(1, 1, 4, 4)
    x = torch.full((1, 1, 4, 4), 0.5)
    ratio = amplification(model, x, x + 0.1 * direction)[name]
    assert float(ratio) == pytest.approx(lipschitz_bounds(model)[name], rel=1e-4)


@pytest.mark.parametrize("name", ["resnet8", "vit"])
def test_a_model_that_is_no_chain_is_refused(name: str) -> None:
    model = build(name, shape=(1, 8, 8), classes=3, seed=0).eval()
    with pytest.raises(ValueError, match="chain of layers"):
        lipschitz_bounds(model)


class Louder(nn.Conv2d):
    """A convolution that does more than its weights say."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return 5 * super().forward(x)


@pytest.mark.parametrize(
    "layer",
    [
        nn.Softmax(dim=1),
        Louder(2, 2, 3),
        nn.Conv2d(2, 2, 3, padding=2, padding_mode="circular"),
        nn.Conv2d(2, 2, 3, dilation=2),
        nn.AvgPool2d(2, divisor_override=1),
        nn.AvgPool2d(3, 3, ceil_mode=True),
        nn.AvgPool2d(3, 2, 1, count_include_pad=False),
        nn.MaxPool2d(3, stride=2, dilation=2),
    ],
    ids=lambda layer: str(layer)[:40],
)
def test_a_layer_whose_bound_is_not_known_is_refused(layer: nn.Module) -> None:
    with pytest.raises(ValueError, match=r"known bounds"):
        lipschitz_bounds(chain(layer))


@pytest.mark.parametrize("slope", [2.5, -3.0, 0.1])
def test_a_leaky_relu_is_as_steep_as_its_slope(slope: float) -> None:
    bounds = lipschitz_bounds(chain(nn.LeakyReLU(slope)))
    assert bounds["0"] == max(1.0, abs(slope))


class Handmade(nn.Module):
    """A layer with arithmetic before, between or after its parts."""

    def __init__(self, where: str) -> None:
        super().__init__()
        self.where, self.flat, self.head = where, nn.Flatten(), nn.Linear(64, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = (x - 0.5) / 0.1 if self.where == "before" else x
        x = self.flat(x)
        if self.where == "between":
            x.mul_(10)
        out = self.head(x)
        return out.mul_(10) if self.where == "after" else out


@pytest.mark.parametrize("where", ["before", "between", "after"])
def test_arithmetic_beside_the_layers_is_refused(where: str) -> None:
    model = Classifier(Handmade(where), shape=(1, 8, 8), classes=3, embedding="flat").eval()
    with pytest.raises(ValueError, match="chain of layers"):
        lipschitz_bounds(model)
    plain = Classifier(Handmade(""), shape=(1, 8, 8), classes=3, embedding="flat").eval()
    assert list(lipschitz_bounds(plain)) == ["normalise", "flat", "head"]


def test_images_of_another_shape_are_refused() -> None:
    model = build("linear", shape=(1, 8, 8), classes=3, seed=0).eval()
    with pytest.raises(ValueError, match="`moved` must have the shape"):
        amplification(model, torch.zeros(4, 1, 8, 8), torch.zeros(1, 1, 8, 8))
