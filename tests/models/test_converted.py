"""Weights of other libraries' checkpoints, in models of ours."""

from collections import OrderedDict
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

import notbugs as nb
from notbugs.core.errors import DataError
from notbugs.models import load_checkpoint


class Block(nn.Module):
    """A basic block, its layers named as in most public code for CIFAR-10."""

    def __init__(self, before: int, after: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(before, after, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(after)
        self.conv2 = nn.Conv2d(after, after, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(after)
        self.shortcut = nn.Sequential()
        if before != after:
            self.shortcut = nn.Sequential(
                nn.Conv2d(before, after, 1, stride, bias=False), nn.BatchNorm2d(after)
            )

    def forward(self, x: Tensor) -> Tensor:
        out = self.bn2(self.conv2(torch.relu(self.bn1(self.conv1(x)))))
        return torch.relu(out + self.shortcut(x))


class ResNet(nn.Module):
    """ResNet-18 for small images, of another library."""

    def __init__(self, width: int = 4, classes: int = 10) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, width, 3, 1, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        sizes = [width * 2**i for i in range(4)]
        before = width
        for i, size in enumerate(sizes):
            blocks = [Block(before, size, 2 if i else 1), Block(size, size, 1)]
            setattr(self, f"layer{i + 1}", nn.Sequential(*blocks))
            before = size
        self.linear = nn.Linear(before, classes)

    def forward(self, x: Tensor) -> Tensor:
        out = torch.relu(self.bn1(self.conv1(x)))
        for i in range(1, 5):
            out = getattr(self, f"layer{i}")(out)
        return self.linear(out.mean(dim=(2, 3)))


@pytest.fixture(scope="module")
def theirs() -> nn.Module:
    torch.manual_seed(3)
    net = ResNet()
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias)
            module.running_mean.normal_()
            module.running_var.uniform_(0.5, 2)
    return net.eval()


def ours() -> nb.Classifier:
    return nb.build("resnet18", shape=(3, 32, 32), classes=10, seed=0, options={"width": 4})


X = torch.rand(3, 3, 32, 32, generator=torch.manual_seed(0))


def prefixed(prefix: str, net: nn.Module) -> dict:
    return {f"{prefix}{name}": value for name, value in net.state_dict().items()}


def robustness(net: nn.Module) -> dict:
    """As MadryLab's robustness saves a model with its attacker."""
    state = OrderedDict()
    mean, std = torch.tensor([0.49, 0.48, 0.45]), torch.tensor([0.2, 0.21, 0.22])
    for prefix in ("module.", "module.attacker."):
        name = "normalizer" if prefix == "module." else "normalize"
        state[f"{prefix}{name}.new_mean"] = mean[:, None, None]
        state[f"{prefix}{name}.new_std"] = std[:, None, None]
        state |= {f"{prefix}model.{k}": v for k, v in net.state_dict().items()}
    return {"model": state, "optimizer": {"state": {}}, "epoch": 150}


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize(
    "saved",
    [
        lambda net: net.state_dict(),
        lambda net: {"state_dict": prefixed("module.", net)},
        lambda net: {k: v for k, v in net.state_dict().items() if "num_batches" not in k},
        lambda net: {**net.state_dict(), **prefixed("sub_block1.", Block(4, 4, 1))},
        robustness,
    ],
    ids=["plain", "prefixed", "old", "leftover", "robustness"],
)
def test_a_net_of_the_same_layers_computes_the_same(tmp_path: Path, theirs, saved, zipped) -> None:
    torch.save(saved(theirs), tmp_path / "a.pt", _use_new_zipfile_serialization=zipped)
    model = ours()
    before = model(X)
    found = load_checkpoint(model.body, tmp_path / "a.pt")
    assert found.by_order
    assert torch.allclose(model.eval()(X), theirs(X), atol=1e-5)
    assert not torch.allclose(model(X), before, atol=1e-2)
    if saved is robustness:
        assert found.mean == pytest.approx((0.49, 0.48, 0.45))
        assert found.std == pytest.approx((0.2, 0.21, 0.22))
    else:
        assert (found.mean, found.std) == (None, None)


def test_the_same_names_come_before_the_same_order(tmp_path: Path, theirs) -> None:
    shuffled = dict(reversed(theirs.state_dict().items()))
    torch.save({"ema": {f"a.b.{k}": v for k, v in shuffled.items()}}, tmp_path / "a.pt")
    other = ResNet().eval()
    assert not load_checkpoint(other, tmp_path / "a.pt").by_order
    assert torch.equal(other(X), theirs(X))


def test_a_normalisation_of_the_model_itself_is_not_told_again(tmp_path: Path) -> None:
    class Normed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("mean", torch.full((3, 1, 1), 0.3))
            self.register_buffer("std", torch.full((3, 1, 1), 0.2))
            self.net = ResNet()

    torch.save(Normed().state_dict(), tmp_path / "a.pt")
    assert load_checkpoint(Normed(), tmp_path / "a.pt").mean is None
    inner = load_checkpoint(ResNet(), tmp_path / "a.pt")
    assert inner.mean == pytest.approx((0.3,) * 3)


def test_two_places_that_differ_are_not_chosen_between(tmp_path: Path, theirs) -> None:
    other = {k: v + 1 if v.is_floating_point() else v for k, v in theirs.state_dict().items()}
    both = {"state_dict": theirs.state_dict(), "state_dict_ema": other}
    torch.save(both, tmp_path / "a.pt")
    torch.save({f"{n}.{k}": v for n, s in both.items() for k, v in s.items()}, tmp_path / "b.pt")
    for name in ("a.pt", "b.pt"):
        model = ResNet().eval()
        with pytest.raises(DataError, match=r"'state_dict\.?', 'state_dict_ema\.?'. Name one"):
            load_checkpoint(model, tmp_path / name)
        found = load_checkpoint(model, tmp_path / name, part="state_dict_ema")
        assert found.place.startswith("state_dict_ema")
        assert torch.equal(model.conv1.weight, theirs.conv1.weight + 1)


def test_tensors_that_the_model_lacks_are_not_passed_over(tmp_path: Path) -> None:
    with_bias = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2))
    without = nn.Sequential(nn.Linear(3, 4, bias=False), nn.ReLU(), nn.Linear(4, 2, bias=False))
    torch.save(with_bias.state_dict(), tmp_path / "a.pt")
    with pytest.raises(DataError, match="does not fit"):
        load_checkpoint(without, tmp_path / "a.pt")


def test_what_does_not_fit_changes_nothing(tmp_path: Path, theirs) -> None:
    model = ours()
    before = model(X)
    for content, words in (
        (ResNet(width=8).state_dict(), r"conv1.weight \(8, 3, 3, 3\) instead of \(4, 3, 3, 3\)"),
        ({"a": torch.zeros(4, 3, 3, 3)}, "holds 1 tensors, the model"),
        ({k: v * float("nan") for k, v in theirs.state_dict().items()}, "diverged"),
    ):
        torch.save(content, tmp_path / "a.pt")
        with pytest.raises(DataError, match=words):
            load_checkpoint(model.body, tmp_path / "a.pt")
    assert torch.equal(model(X), before)
