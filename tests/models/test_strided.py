"""The strided net: its first layer is the convolution that it stands for."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from notbugs.models import build
from notbugs.models.strided import Blocks


def first_layer(shape: tuple[int, int, int]) -> nn.Sequential:
    net = build("strided", shape=shape, classes=4, seed=0, options={"width": 3, "hidden": 5})
    return nn.Sequential(*list(net.body.get_submodule("trunk").children())[:3])


def test_blocks_are_torchs() -> None:
    x = torch.rand(2, 3, 6, 8)
    assert torch.equal(Blocks()(x), F.pixel_unshuffle(x, 2))


@pytest.mark.parametrize("channels", [1, 3])
def test_the_first_layer_is_a_strided_convolution(channels: int) -> None:
    layer = first_layer((channels, 28, 28)).double()
    weight = layer.get_parameter("2.weight").detach()
    # [out, channel, row in block, column in block, block row, block column]
    blocks = weight.reshape(3, channels, 2, 2, 2, 2)
    kernel = blocks.permute(0, 1, 4, 2, 5, 3).reshape(3, channels, 4, 4)
    x = torch.rand(2, channels, 28, 28, dtype=torch.float64)
    torch.testing.assert_close(layer(x), F.conv2d(x, kernel, stride=2, padding=1))


@pytest.mark.parametrize("shape", [(1, 3, 3), (1, 4, 7), (3, 5, 12), (1, 29, 29)])
def test_the_first_layer_sees_every_corner(shape: tuple[int, int, int]) -> None:
    layer, dark = first_layer(shape), torch.zeros(1, *shape)
    for row in (0, -1):
        for column in (0, -1):
            lit = dark.clone()
            lit[..., row, column] = 1
            assert not torch.equal(layer(lit), layer(dark))


@pytest.mark.parametrize("shape", [(1, 3, 3), (1, 4, 7), (3, 5, 12), (1, 29, 29)])
def test_sides_of_any_parity(shape: tuple[int, int, int]) -> None:
    net = build("strided", shape=shape, classes=4, seed=0, options={"width": 2, "hidden": 5})
    assert net(torch.rand(2, *shape)).shape == (2, 4)


def test_images_without_room_for_two_halvings_are_refused() -> None:
    with pytest.raises(ValueError, match="`shape` must have sides of at least 3 pixels"):
        build("strided", shape=(1, 2, 8), classes=4, seed=0)
