"""LPIPS on models of one's own: the formula written out, its layers, and the authors' package."""

import sys
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from nets import small_net
from notbugs.core import random
from notbugs.core.errors import NotbugsError
from notbugs.models import build, wrap
from notbugs.perception import calibrated_lpips, lpips

SMALL = {
    "cnn": {"width": 4, "hidden": 8},
    "resnet8": {"width": 4},
    "resnet18": {"width": 4},
    "vgg16": {"width": 4},
    "wide": {"depth": 10, "widen": 1},
    "mlp": {"width": 8},
    "linear": {},
    "vit": {"width": 12, "depth": 7},
}
LAYERS = {
    "cnn": ("trunk.1", "trunk.3", "trunk.5", "trunk.9"),
    "resnet8": ("trunk.2", "trunk.3", "trunk.4"),
    "resnet18": ("trunk.3", "trunk.5", "trunk.7", "trunk.9"),
    "mlp": ("trunk.0", "trunk.4"),
    "linear": ("trunk.0",),
    "vit": ("trunk.0", "trunk.2", "trunk.3", "trunk.5", "trunk.7"),
}


def images(n, shape=(1, 8, 8), name="x", kind=torch.float32):
    return random.uniform(random.row_keys(n, name), shape, kind)


def made(name, shape=(3, 32, 32)):
    return build(name, shape=shape, classes=5, seed=0, options=SMALL[name]).train()


@pytest.mark.parametrize("name", SMALL)
def test_every_family_has_layers_to_measure_by(name) -> None:
    model, x, y = made(name), images(3, (3, 32, 32)), images(3, (3, 32, 32), "y")
    distance = lpips(model)
    if name in LAYERS:
        assert distance.layers == LAYERS[name]
    assert 1 <= len(distance.layers) <= 5
    found = distance(x, y)
    assert found.shape == (3,)
    assert bool((found > 0).all())
    assert bool((found <= 4 * len(distance.layers)).all())
    assert distance(x, x).tolist() == [0, 0, 0]
    torch.testing.assert_close(distance(x[1:2], y[1:2]), found[1:2])
    assert model.training  # held still meanwhile, and given back
    assert not any(m._forward_hooks for m in model.modules())
    assert all(p.requires_grad and p.grad is None for p in model.parameters())


def test_it_is_the_formula_written_out() -> None:
    model, x, _ = small_net(2)
    model, x = model.double(), x.double()
    y = images(2, name="y", kind=torch.float64)
    layers = [model.body.trunk[:2], model.body.trunk[:4]]
    found = lpips(model, ["trunk.1", "trunk.3"])(x, y)
    for row in range(2):
        wanted = 0.0
        for layer in layers:
            a, b = (layer(v[row : row + 1])[0].detach() for v in (x, y))
            for i in range(a.shape[1]):
                for j in range(a.shape[2]):
                    # Where nothing is active the unit vector is taken as 0.
                    one, other = (m[:, i, j] / m[:, i, j].norm().clamp(min=1e-9) for m in (a, b))
                    wanted += float((one - other).square().sum()) / (a.shape[1] * a.shape[2])
        assert float(found[row]) == pytest.approx(wanted, rel=1e-6)


def test_gradients_are_those_of_the_value_and_finite_where_nothing_is_active() -> None:
    model, x, _ = small_net(2)
    model, x = model.double(), x.double()
    y = images(2, name="y", kind=torch.float64)
    distance = lpips(model)
    assert torch.autograd.gradcheck(lambda v: distance(v, y), (x.clone().requires_grad_(),))
    with torch.no_grad():
        model.body.trunk[0].bias.fill_(-100)  # all dead
    at = x.clone().requires_grad_()
    distance(at, y).sum().backward()
    assert bool(at.grad.isfinite().all())


def test_images_of_another_dtype_are_taken_in_the_models() -> None:
    model, x, _ = small_net(2)
    y = images(2, name="y")
    torch.testing.assert_close(lpips(model)(x.double(), y.double()), lpips(model)(x, y))


class Foreign(nn.Module):
    """Nested, with functions between its layers."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(1, 4, 3, padding=1)
        self.deep = nn.Sequential(nn.Conv2d(4, 6, 3, stride=2, padding=1), nn.ReLU(inplace=True))
        self.head = nn.Linear(6, 5)

    def forward(self, x):
        return self.head(self.deep(torch.relu(self.stem(x))).mean(dim=(2, 3)))


def test_a_foreign_module_is_measured_by_its_last_layer_of_each_size() -> None:
    model = wrap(Foreign(), shape=(1, 8, 8), classes=5, embedding="deep")
    assert lpips(model).layers == ("stem", "deep")
    assert bool((lpips(model)(images(2), images(2, name="y")) > 0).all())


def test_layers_that_cannot_be_measured_by_are_refused() -> None:
    model, x, _ = small_net(2)
    with pytest.raises(ValueError, match=r"Unknown layer 'trunk\.10'\. Did you mean 'trunk\.1'"):
        lpips(model, ["trunk.10"])
    with pytest.raises(ValueError, match=r"`layers` must name at least one layer"):
        lpips(model, [])
    with pytest.raises(ValueError, match=r"`x` must have shape \(n, 1, 8, 8\), as the model was"):
        lpips(model)(x[:, :, :4], x[:, :, :4])
    assert not any(m._forward_hooks for m in model.modules())


class Package(nn.Module):
    """A stand-in for `lpips.LPIPS`: the mean square of what it is handed, scaled to [-1, 1]."""

    def __init__(self, net, verbose) -> None:
        super().__init__()
        self.net, self.weight, self.drop = net, nn.Parameter(torch.ones(())), nn.Dropout(0.5)

    def forward(self, x, y, normalize=False):
        assert normalize
        assert not self.training
        assert x.shape[1] == 3
        change = self.weight * 2 * (x - y)
        return change.square().mean(dim=(1, 2, 3), keepdim=True)


def offline(net, verbose) -> None:
    raise OSError("<urlopen error no network>")


def test_the_calibrated_one_is_the_packages_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "lpips", SimpleNamespace(LPIPS=Package))
    distance, x, y = calibrated_lpips("vgg"), images(2), images(2, name="y")
    wanted = (4 * (x - y).square()).mean(dim=(1, 2, 3))
    torch.testing.assert_close(distance(x.double(), y.double()), wanted)
    at = x.clone().requires_grad_()
    distance(at, y).sum().backward()
    assert bool((at.grad != 0).any())
    assert distance.model.weight.grad is None


def test_where_the_calibrated_one_cannot_be_had_the_remedy_is_named(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with pytest.raises(ValueError, match=r"`net` must be one of alex, vgg, squeeze; got 'resnet'"):
        calibrated_lpips("resnet")
    monkeypatch.setitem(sys.modules, "lpips", None)
    with pytest.raises(NotbugsError, match=r"'notbugs\[lpips\]'`, or use a model of your"):
        calibrated_lpips()
    monkeypatch.setitem(sys.modules, "lpips", SimpleNamespace(LPIPS=offline))
    with pytest.raises(NotbugsError, match=r"could not load its network 'alex': .*go online once"):
        calibrated_lpips()


@pytest.mark.filterwarnings("ignore")  # of the package itself
def test_uncalibrated_it_is_the_packages_own_on_the_same_net() -> None:
    package = pytest.importorskip("lpips")
    theirs = package.LPIPS(net="alex", lpips=False, pnet_rand=True, pretrained=False, verbose=False)
    theirs = theirs.double().eval()
    body = nn.Sequential(*(getattr(theirs.net, f"slice{i}") for i in range(1, 6)))
    head = nn.Sequential(body, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(256, 5).double())
    model = wrap(
        head,
        shape=(3, 64, 64),
        classes=5,
        embedding="2",
        mean=tuple((theirs.scaling_layer.shift.flatten() + 1).div(2).tolist()),
        std=tuple(theirs.scaling_layer.scale.flatten().div(2).tolist()),
    )
    x, y = (images(3, (3, 64, 64), name, torch.float64) for name in "xy")
    own = lpips(model, [f"0.{i}" for i in range(5)])(x, y)
    with torch.no_grad():
        wanted = theirs(x, y, normalize=True).flatten()
    torch.testing.assert_close(own, wanted, rtol=1e-5, atol=1e-7)
