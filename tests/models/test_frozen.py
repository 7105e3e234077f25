import pytest
import torch
from torch import nn

from notbugs.core.random import generator
from notbugs.models import build, frozen


def mixed():
    """A network with batch norms whose flags differ from module to module."""
    net = nn.Sequential(
        nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.ReLU(), nn.Dropout(), nn.BatchNorm2d(2)
    )
    net[1].eval()
    net[3].eval()
    net[0].bias.requires_grad_(False)
    net[4].weight.requires_grad_(False)
    return net


def state(net):
    return {name: value.clone() for name, value in net.state_dict().items()}


def flags(net):
    modes = [(m.training, getattr(m, "track_running_stats", None)) for m in net.modules()]
    return modes, [p.requires_grad for p in net.parameters()]


@pytest.mark.parametrize("training", [False, True])
def test_holds_the_mode_and_restores_every_flag(training) -> None:
    net = mixed()
    before = flags(net)
    with frozen(net, training=training) as still:
        assert still is net
        assert all(m.training is training for m in net.modules())
        assert not any(p.requires_grad for p in net.parameters())
    assert flags(net) == before


@pytest.mark.parametrize("training", [False, True])
def test_restores_after_an_exception(training) -> None:
    net = mixed()
    before = flags(net)
    with pytest.raises(KeyError), frozen(net, training=training):
        raise KeyError
    assert flags(net) == before


def test_nests() -> None:
    net = mixed()
    before = flags(net)
    with frozen(net):
        with frozen(net, training=True):
            assert net.training
        assert not net.training
        assert not any(p.requires_grad for p in net.parameters())
    assert flags(net) == before


@pytest.mark.parametrize("training", [False, True])
def test_running_statistics_do_not_move(training) -> None:
    net = mixed()
    before = state(net)
    x = torch.rand(4, 1, 6, 6, requires_grad=True)
    with frozen(net, training=training):
        (grad,) = torch.autograd.grad(net(x).square().sum(), x)
    assert grad.shape == x.shape
    for name, value in net.state_dict().items():
        assert torch.equal(value, before[name]), name
    net.train()(x)
    assert int(net[4].num_batches_tracked) == 1  # afterwards they move again


def test_train_mode_normalises_by_the_batch() -> None:
    net = nn.BatchNorm2d(1)
    x = 5 + torch.rand(8, 1, 4, 4)
    with frozen(net, training=True):
        assert abs(float(net(x).mean())) < 1e-4
    with frozen(net):
        assert float(net(x).mean()) > 4


@pytest.mark.parametrize(
    "net",
    [
        nn.InstanceNorm2d(2, track_running_stats=True),
        nn.utils.parametrizations.spectral_norm(nn.Conv2d(2, 2, 3)),
    ],
    ids=["instance norm", "spectral norm"],
)
def test_other_buffers_come_back_too(net) -> None:
    net.train()
    with torch.no_grad():  # other weights, for which spectral norm's vectors have not converged
        for parameter in net.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator("weights")))
    before = state(net)
    with frozen(net, training=True):
        net(torch.rand(4, 2, 6, 6))
        changed = any(not torch.equal(v, before[k]) for k, v in net.state_dict().items())
    assert changed  # or this test would prove nothing
    for name, value in net.state_dict().items():
        assert torch.equal(value, before[name]), name


def test_a_replaced_buffer_comes_back() -> None:
    class Counter(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("seen", torch.zeros(()))

        def forward(self, x):
            self.seen = self.seen + len(x)
            return x

    net = Counter()
    buffer = net.seen
    with frozen(net, training=True):
        net(torch.rand(3, 1))
        assert float(net.seen) == 3
    assert net.seen is buffer
    assert float(net.seen) == 0


def test_gradients_on_parameters_are_left_alone() -> None:
    model = build("cnn", shape=(1, 8, 8), classes=3, seed=0, options={"width": 2, "hidden": 4})
    x = torch.rand(2, 1, 8, 8, requires_grad=True)
    model(x).sum().backward()
    before = [p.grad.clone() for p in model.parameters()]
    with frozen(model):
        model(x).square().sum().backward()
    for parameter, grad in zip(model.parameters(), before, strict=True):
        assert torch.equal(parameter.grad, grad)
    with frozen(model, training=True):
        value = model(x).sum()
    assert bool(torch.autograd.grad(value, x)[0].any())  # the graph outlives the block
