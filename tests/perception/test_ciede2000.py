"""CIEDE2000 against its authors' test data."""

import pytest
import torch

from notbugs.core import random
from notbugs.perception import ColourDistance, ciede2000, colour_difference, lab

# Sharma, Wu & Dalal 2005, table 1: L1 a1 b1, L2 a2 b2, difference.
PAIRS = """
50.0000   2.6772 -79.7751  50.0000   0.0000 -82.7485   2.0425
50.0000   3.1571 -77.2803  50.0000   0.0000 -82.7485   2.8615
50.0000   2.8361 -74.0200  50.0000   0.0000 -82.7485   3.4412
50.0000  -1.3802 -84.2814  50.0000   0.0000 -82.7485   1.0000
50.0000  -1.1848 -84.8006  50.0000   0.0000 -82.7485   1.0000
50.0000  -0.9009 -85.5211  50.0000   0.0000 -82.7485   1.0000
50.0000   0.0000   0.0000  50.0000  -1.0000   2.0000   2.3669
50.0000  -1.0000   2.0000  50.0000   0.0000   0.0000   2.3669
50.0000   2.4900  -0.0010  50.0000  -2.4900   0.0009   7.1792
50.0000   2.4900  -0.0010  50.0000  -2.4900   0.0010   7.1792
50.0000   2.4900  -0.0010  50.0000  -2.4900   0.0011   7.2195
50.0000   2.4900  -0.0010  50.0000  -2.4900   0.0012   7.2195
50.0000  -0.0010   2.4900  50.0000   0.0009  -2.4900   4.8045
50.0000  -0.0010   2.4900  50.0000   0.0010  -2.4900   4.8045
50.0000  -0.0010   2.4900  50.0000   0.0011  -2.4900   4.7461
50.0000   2.5000   0.0000  50.0000   0.0000  -2.5000   4.3065
50.0000   2.5000   0.0000  73.0000  25.0000 -18.0000  27.1492
50.0000   2.5000   0.0000  61.0000  -5.0000  29.0000  22.8977
50.0000   2.5000   0.0000  56.0000 -27.0000  -3.0000  31.9030
50.0000   2.5000   0.0000  58.0000  24.0000  15.0000  19.4535
50.0000   2.5000   0.0000  50.0000   3.1736   0.5854   1.0000
50.0000   2.5000   0.0000  50.0000   3.2972   0.0000   1.0000
50.0000   2.5000   0.0000  50.0000   1.8634   0.5757   1.0000
50.0000   2.5000   0.0000  50.0000   3.2592   0.3350   1.0000
60.2574 -34.0099  36.2677  60.4626 -34.1751  39.4387   1.2644
63.0109 -31.0961  -5.8663  62.8187 -29.7946  -4.0864   1.2630
61.2901   3.7196  -5.3901  61.4292   2.2480  -4.9620   1.8731
35.0831 -44.1164   3.7933  35.0232 -40.0716   1.5901   1.8645
22.7233  20.0904 -46.6940  23.0331  14.9730 -42.5619   2.0373
36.4612  47.8580  18.3852  36.2715  50.5065  21.2231   1.4146
90.8027  -2.0831   1.4410  91.1528  -1.6435   0.0447   1.4441
90.9257  -0.5406  -0.9208  88.6381  -0.8985  -0.7239   1.5381
 6.7747  -0.2908  -2.4247   5.8714  -0.0985  -2.2286   0.6377
 2.0776   0.0795  -1.1350   0.9033  -0.0636  -0.5514   0.9082
"""
TABLE = torch.tensor(
    [[float(v) for v in line.split()] for line in PAIRS.strip().split("\n")], dtype=torch.float64
)


def images(n, name="x", shape=(3, 4, 4)):
    return random.uniform(random.row_keys(n, name), shape, torch.float64)


def test_the_table_is_whole() -> None:
    assert TABLE.shape == (34, 7)


@pytest.mark.parametrize("row", range(34), ids=lambda row: f"pair {row + 1}")
def test_every_pair_of_the_table_has_its_difference_both_ways(row) -> None:
    first, second, wanted = TABLE[row, :3], TABLE[row, 3:6], float(TABLE[row, 6])
    assert float(ciede2000(first, second)) == pytest.approx(wanted, abs=1e-4)
    assert float(ciede2000(second, first)) == pytest.approx(wanted, abs=1e-4)


# scikit-image 0.26.0, rgb2lab, whose matrix and white point are rounded elsewhere.
@pytest.mark.parametrize(
    ("rgb", "wanted"),
    [
        ((1, 0, 0), (53.2406, 80.0923, 67.2028)),
        ((0, 1, 0), (87.7351, -86.1830, 83.1797)),
        ((0, 0, 1), (32.2957, 79.1856, -107.8573)),
        ((0.5, 0.25, 0.75), (41.1548, 51.4090, -56.4453)),
        ((0.02, 0.01, 0.03), (0.9487, 1.3759, -1.6949)),
        ((0.5, 0.5, 0.5), (53.3890, 0, 0)),
    ],
)
def test_srgb_becomes_cielab(rgb, wanted) -> None:
    found = lab(torch.tensor(rgb, dtype=torch.float64).reshape(1, 3, 1, 1)).flatten()
    torch.testing.assert_close(found, torch.tensor(wanted).double(), atol=0.02, rtol=0)


def test_greys_have_no_colour_and_one_channel_is_grey() -> None:
    grey = torch.linspace(0, 1, 16, dtype=torch.float64).reshape(1, 1, 4, 4)
    found = lab(grey)
    assert float(found[:, 1:].abs().max()) < 1e-9
    torch.testing.assert_close(found, lab(grey.expand(-1, 3, -1, -1)))
    assert float(found[:, 0].min()) == pytest.approx(0)
    assert float(found[:, 0].max()) == pytest.approx(100)


def test_gradients_are_those_of_the_value() -> None:
    x, y = images(2), images(2, "y")
    difference = ColourDistance()
    assert torch.autograd.gradcheck(lambda v: difference(v, y), (x.requires_grad_(),))


@pytest.mark.parametrize("kind", [torch.float32, torch.float64])
@pytest.mark.parametrize("other", ["equal", "a last digit off", "coloured", "black", "white"])
@pytest.mark.parametrize("grey", [True, False])
def test_gradients_are_finite_at_equal_colours_and_greys(kind, other, grey) -> None:
    x = images(3).to(kind)
    if grey:
        x = x[:, :1].expand(-1, 3, -1, -1).clone()
    x[0, :, 0] = 0
    x[0, :, 1] = 1
    others = {
        "equal": x,
        "a last digit off": x + 2 * torch.finfo(kind).eps,
        "coloured": images(3, "y").to(kind),
        "black": torch.zeros_like(x),
        "white": torch.ones_like(x),
    }
    at = x.clone().requires_grad_()
    found = ColourDistance()(at, others[other])
    found.sum().backward()
    assert bool(found.isfinite().all())
    assert bool(at.grad.isfinite().all())
    assert float(at.grad.abs().max()) < 1e3  # 100 levels of lightness over a range of 1, 48 pixels


def test_the_distance_is_the_mean_over_pixels_and_treats_rows_apart() -> None:
    x, y = images(3), images(3, "y")
    each = colour_difference(x, y)
    assert each.shape == (3, 4, 4)
    torch.testing.assert_close(ColourDistance()(x, y), each.mean(dim=(1, 2)))
    torch.testing.assert_close(ColourDistance()(x[1:2], y[1:2]), ColourDistance()(x, y)[1:2])
    assert ColourDistance()(x, x).tolist() == [0, 0, 0]


def test_other_channels_and_shapes_are_refused() -> None:
    x = images(2, shape=(4, 3, 3))
    with pytest.raises(ValueError, match=r"\[n, 3, height, width\] .*got shape .*Drop a fourth"):
        lab(x)
    with pytest.raises(ValueError, match=r"`y` must have the shape of `x`"):
        colour_difference(x[:, :3], x[:1, :3])
