"""Checkerboards are found where strides make them, and nowhere else."""

import pytest
import torch
from torch import nn

from notbugs.analysis import checkerboard, downsamplings
from notbugs.models import build
from notbugs.models.blurred import Blurred
from notbugs.models.upsampling import doubled


def noise(*shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0))


def test_the_score_is_one_for_noise_and_large_for_a_pattern() -> None:
    x = noise(200, 1, 12, 12)
    assert checkerboard(x) == pytest.approx(1, abs=0.15)
    assert checkerboard(x, 3) == pytest.approx(1, abs=0.15)
    checks = (torch.arange(12)[:, None] + torch.arange(12)) % 2
    assert checkerboard(x + checks) > 5
    thirds = (torch.arange(12) % 3 == 0).float().expand(12, 12)
    assert checkerboard(x + 2 * thirds, 3) > 5
    assert checkerboard(x + 2 * thirds, 2) == pytest.approx(1, abs=0.15)
    assert checkerboard(torch.zeros(1, 1, 6, 6)) == float("inf")  # 0 / 0 is not "none"


@pytest.mark.parametrize("how", ["resize", "transposed", "uneven"])
def test_uneven_overlap_makes_one(how) -> None:
    """With constant weights and inputs only the overlap is left."""
    layers = nn.Sequential(*doubled(4, 1, how))
    with torch.no_grad():
        for p in layers.parameters():
            p.fill_(0.1)
        x = layers(1 + 0.1 * noise(50, 4, 8, 8))[..., 2:-2, 2:-2]
    score = checkerboard(x)
    assert score > 50 if how == "uneven" else score < 2


def test_strides_are_read_off_the_model() -> None:
    net = build("cnn", shape=(1, 28, 28), classes=10, seed=0, options={"width": 4})
    found = downsamplings(net)
    assert [(d.kernel, d.stride, d.period, d.even) for d in found] == [
        (3, 2, 2, False),
        (3, 2, 4, False),
    ]
    even = build("cnn", shape=(1, 28, 28), classes=10, seed=0, options={"width": 4, "down": "even"})
    assert [(d.kernel, d.even) for d in downsamplings(even)] == [(4, True), (4, True)]
    blur = build("cnn", shape=(1, 28, 28), classes=10, seed=0, options={"width": 4, "down": "blur"})
    assert [(d.kernel, d.period, d.even) for d in downsamplings(blur)] == [
        (3, 2, True),
        (3, 4, True),
    ]
    residual = downsamplings(build("resnet18", shape=(3, 32, 32), classes=10, seed=0))
    assert residual[-1].period == 8  # shortcuts do not count twice
    assert downsamplings(build("linear", shape=(1, 8, 8), classes=3, seed=0)) == []


def test_blurring_keeps_constants_and_loses_checks() -> None:
    net = Blurred()
    assert torch.allclose(net(torch.full((1, 2, 5, 7), 0.3)), torch.full((1, 2, 3, 4), 0.3))
    checks = ((torch.arange(8)[:, None] + torch.arange(8)) % 2).double()[None, None]
    inside = net(checks)[..., 1:-1, 1:-1]
    torch.testing.assert_close(inside, torch.full_like(inside, 0.5))


@pytest.mark.parametrize("down", ["stride", "even", "blur"])
def test_a_net_of_each_kind_takes_any_size(down) -> None:
    net = build("cnn", shape=(2, 9, 11), classes=3, seed=0, options={"width": 4, "down": down})
    assert net.logits(torch.rand(2, 2, 9, 11)).shape == (2, 3)


def test_bad_input() -> None:
    with pytest.raises(ValueError, match="`period` must be at least 2"):
        checkerboard(torch.rand(1, 1, 8, 8), 1)
    with pytest.raises(ValueError, match="sides of at least 12 pixels"):
        checkerboard(torch.rand(1, 1, 8, 8), 4)
    with pytest.raises(ValueError, match="Unknown down 'pool'"):
        build("cnn", shape=(1, 8, 8), classes=3, seed=0, options={"down": "pool"})


def test_branches_side_by_side_span_the_same() -> None:
    net = build("inception", shape=(3, 32, 32), classes=10, seed=0)
    periods = [d.period for d in downsamplings(net)]
    assert sorted(set(periods)) == [2, 4]
