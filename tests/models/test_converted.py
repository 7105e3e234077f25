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


def draw_batch_norms(net: nn.Module) -> None:
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias)
            module.running_mean.normal_()
            module.running_var.uniform_(0.5, 2)


@pytest.fixture(scope="module")
def theirs() -> nn.Module:
    torch.manual_seed(3)
    net = ResNet()
    draw_batch_norms(net)
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


class DMBlock(nn.Module):
    """A block of DeepMind's wide nets, as their public code computes it."""

    def __init__(self, before: int, after: int, stride: int) -> None:
        super().__init__()
        self.batchnorm_0 = nn.BatchNorm2d(before)
        self.conv_0 = nn.Conv2d(before, after, 3, stride, 0, bias=False)
        self.batchnorm_1 = nn.BatchNorm2d(after)
        self.conv_1 = nn.Conv2d(after, after, 3, 1, 1, bias=False)
        self.shortcut = nn.Conv2d(before, after, 1, stride, bias=False) if before != after else None
        self.stride = stride

    def forward(self, x: Tensor) -> Tensor:
        first = nn.functional.silu(self.batchnorm_0(x))
        if self.shortcut is not None:
            x = self.shortcut(first)
        zeros = (1, 1, 1, 1) if self.stride == 1 else (0, 1, 0, 1)
        out = self.conv_0(nn.functional.pad(first, zeros))
        return x + self.conv_1(nn.functional.silu(self.batchnorm_1(out)))


class DMWide(nn.Module):
    """WRN of DeepMind; `groups` and `blocks` keep the names of its layers: layer.0.block.1."""

    def __init__(self, depth: int = 16, widen: int = 2) -> None:
        super().__init__()
        self.register_buffer("mean", torch.tensor([0.49, 0.48, 0.45])[:, None, None])
        self.register_buffer("std", torch.tensor([0.2, 0.21, 0.22])[:, None, None])
        self.init_conv = nn.Conv2d(3, 16, 3, 1, 1, bias=False)
        sizes = [16, 16 * widen, 32 * widen, 64 * widen]
        groups = []
        for i in range(3):
            blocks = [DMBlock(sizes[i], sizes[i + 1], 2 if i else 1)]
            blocks += [DMBlock(sizes[i + 1], sizes[i + 1], 1) for _ in range((depth - 10) // 6)]
            groups.append(nn.Module())
            groups[-1].block = nn.Sequential(*blocks)
        self.layer = nn.ModuleList(groups)
        self.batchnorm = nn.BatchNorm2d(sizes[3])
        self.logits = nn.Linear(sizes[3], 10)

    def forward(self, x: Tensor) -> Tensor:
        out = self.init_conv((x - self.mean) / self.std)
        for group in self.layer:
            out = group.block(out)
        out = nn.functional.avg_pool2d(nn.functional.silu(self.batchnorm(out)), 8)
        return self.logits(out.flatten(1))


@pytest.mark.parametrize("prefix", ["", "module.", "model.ema."])
def test_deepminds_wide_nets_fit_by_name(tmp_path: Path, prefix: str) -> None:
    net = DMWide()
    draw_batch_norms(net)
    shuffled = dict(reversed(prefixed(prefix, net.eval()).items()))  # the order says nothing
    torch.save({"model_state_dict": shuffled}, tmp_path / "a.pt")
    model = nb.build("dm_wide", shape=(3, 32, 32), classes=10, seed=0,
                     options={"depth": 16, "widen": 2})  # fmt: skip
    before = model.eval().body(X)
    found = load_checkpoint(model.body, tmp_path / "a.pt")
    assert not found.by_order
    assert found.mean == pytest.approx((0.49, 0.48, 0.45))
    assert found.std == pytest.approx((0.2, 0.21, 0.22))
    with_mean = nb.Classifier(model.body, shape=(3, 32, 32), classes=10, embedding="trunk",
                              mean=found.mean, std=found.std).eval()  # fmt: skip
    assert torch.allclose(with_mean(X), net(X), atol=1e-4)
    assert not torch.allclose(model.body(X), before, atol=1e-2)


def test_plain_wide_nets_fit_deepminds_by_order_alone(tmp_path: Path) -> None:
    """Their activations differ: only the accuracy, which `notbugs convert` measures, shows it."""
    torch.save(DMWide(depth=10).state_dict(), tmp_path / "a.pt")
    options = {"depth": 10, "widen": 2}
    wide = nb.build("wide", shape=(3, 32, 32), classes=10, seed=0, options=options)
    assert load_checkpoint(wide.body, tmp_path / "a.pt").by_order
    with pytest.raises(DataError, match="does not fit the model"):
        load_checkpoint(wide.body, tmp_path / "a.pt", by_order=False)
