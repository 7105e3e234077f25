"""Architectures of timm and torchvision: through stand-ins always, the packages where they are."""

import importlib
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

from notbugs.models import Body, build, default_options, load, save
from packages import MADE

NAMES = ["timm:resnet18", "torchvision:resnet18"]


@pytest.fixture
def packages(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, make in MADE.items():
        monkeypatch.setitem(sys.modules, name, make())


def of(name, shape=(1, 12, 12), classes=5, seed=0, **others):
    return build(name, shape=shape, classes=classes, seed=seed, **others)


@pytest.mark.usefixtures("packages")
@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("channels", [1, 3, 4])
def test_classes_channels_and_embedding_are_right(name, channels) -> None:
    model = of(name, (channels, 12, 12))
    x = torch.rand(4, channels, 12, 12)
    logits, embedding = model.both(x)
    assert logits.shape == (4, 5)
    assert embedding.shape == (4, 6)
    assert isinstance(model.body, Body)
    assert isinstance(model.body.head, nn.Linear)
    assert torch.equal(model.body.head(embedding), logits)
    assert torch.equal(model.embed(x), embedding)
    assert model.architecture == name
    assert model.options == default_options(name) == {}
    first = next(m for m in model.modules() if isinstance(m, nn.Conv2d))
    assert (first.in_channels, first.stride, first.padding) == (channels, (2, 2), (1, 1))
    assert first.bias is None


@pytest.mark.usefixtures("packages")
@pytest.mark.parametrize("name", NAMES)
def test_the_seed_decides_the_weights_and_nothing_else_is_reseeded(name) -> None:
    state = torch.get_rng_state()
    one, other = of(name), of(name, seed=1)
    assert torch.equal(torch.get_rng_state(), state)
    torch.rand(3)
    again = of(name)
    for key, value in one.state_dict().items():
        assert torch.equal(value, again.state_dict()[key])
    assert not torch.equal(one.body.head.weight, other.body.head.weight)
    assert int(one.state_dict()["body.trunk.bn.num_batches_tracked"]) == 0


@pytest.mark.usefixtures("packages")
@pytest.mark.parametrize("name", NAMES)
def test_saved_weights_need_nothing_else(name, tmp_path: Path) -> None:
    model = of(name, seed=3, mean=[0.2], std=[0.3]).eval()
    save(model, tmp_path / "m.safetensors")
    again, facts = load(tmp_path / "m.safetensors")
    x = torch.rand(3, 1, 12, 12)
    assert torch.equal(again(x), model(x))
    assert facts["architecture"] == name


@pytest.mark.usefixtures("packages")
def test_a_replaced_first_layer_keeps_the_variance_of_its_outputs() -> None:
    spread = []
    for channels in (1, 3, 48):
        draws = [of("torchvision:resnet18", (channels, 12, 12), seed=s) for s in range(20)]
        x = torch.randn(64, channels, 12, 12)
        with torch.no_grad():
            spread.append(float(torch.stack([m.body.trunk.conv(x) for m in draws]).std()))
    assert spread[0] == pytest.approx(spread[1], rel=0.1)
    assert spread[2] == pytest.approx(spread[1], rel=0.1)


@pytest.mark.usefixtures("packages")
@pytest.mark.parametrize("package", list(MADE))
@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("resnet81", r"name an architecture of {}; got 'resnet81'. Did you mean 'resnet18'"),
        ("probs", r"end in a linear layer that gives the logits; got '{}:probs'. Take a built-in"),
        ("aux", r"end in a linear layer that gives the logits"),
        ("squeezenet", r"end in a linear layer that gives the logits"),
        ("large", r"take images of shape \(1, 12, 12\); got '{}:large' with the error 'Output"),
    ],
)
def test_nets_that_do_not_fit_are_refused(package, name, message) -> None:
    with pytest.raises(ValueError, match=message.format(package)):
        of(f"{package}:{name}")


def test_an_unknown_package_is_refused() -> None:
    with pytest.raises(ValueError, match=r"Unknown package of architectures 'tim'.*'timm'"):
        of("tim:resnet18")


@pytest.mark.parametrize("package", list(MADE))
def test_a_missing_package_is_named_with_the_remedy(
    package, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(ValueError, match=rf"{package} here; got ModuleNotFoundError.*pip install"):
        of(f"{package}:resnet18")


def test_a_package_that_fails_to_import_is_as_good_as_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "torchvision.py").write_text("raise RuntimeError('nms does not exist')")
    monkeypatch.delitem(sys.modules, "torchvision", raising=False)
    monkeypatch.syspath_prepend(tmp_path)
    message = r"got RuntimeError: nms does not exist.*the version that goes with torch \d"
    with pytest.raises(ValueError, match=message):
        of("torchvision:resnet18")
    assert "torchvision" not in sys.modules


@pytest.mark.parametrize("name", NAMES)
def test_the_real_ones(name, tmp_path: Path) -> None:
    package = name.partition(":")[0]
    try:
        importlib.import_module(package)
    except Exception as error:
        pytest.skip(f"{package} cannot be imported: {type(error).__name__}")
    model = of(name, (1, 28, 28), 10).eval()
    x = torch.rand(2, 1, 28, 28)
    logits, embedding = model.both(x)
    assert (logits.shape, embedding.shape) == ((2, 10), (2, 512))
    path = Path(tmp_path / "m.safetensors")
    save(model, path)
    assert torch.equal(load(path)[0](x), logits)
