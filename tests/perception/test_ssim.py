"""SSIM against scikit-image and a second implementation; what is refused."""

import pytest
import torch
from scipy.ndimage import gaussian_filter

from notbugs.core import random
from notbugs.perception import MultiScaleDistance, SSIMDistance, ms_ssim, ssim

# scikit-image 0.26.0: structural_similarity(x, y, gaussian_weights=True, sigma=1.5,
# use_sample_covariance=False, data_range=1.0, channel_axis=2) of the images of `pair`.
REFERENCE = {
    (1, 11, 11): 0.9021517203059319,
    (1, 28, 28): 0.8883391915717338,
    (3, 32, 32): 0.8865798876243641,
    (3, 24, 37): 0.8959792126846442,
    (4, 64, 48): 0.9092523990118793,
}
SCALES = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)


def image(c, h, w, pace):
    m, i, j = torch.meshgrid(
        *(torch.arange(k, dtype=torch.float64) for k in (c, h, w)), indexing="ij"
    )
    return 0.5 + 0.5 * torch.sin(0.37 * i * pace + 0.23 * j + 1.1 * m * pace + 0.01 * i * j)


def pair(c, h, w):
    x = image(c, h, w, 1.0)
    y = (x + 0.2 * torch.cos(9 * image(c, h, w, 1.7)) - 0.05).clamp(0, 1)
    return x[None], y[None]


def noisy(n, shape, name="y"):
    x = random.uniform(random.row_keys(n, "x"), shape, torch.float64)
    return x, (x + 0.3 * random.normal(random.row_keys(n, name), shape, torch.float64)).clamp(0, 1)


@pytest.mark.parametrize("shape", REFERENCE, ids=str)
def test_it_is_the_value_of_scikit_image(shape) -> None:
    assert float(ssim(*pair(*shape))) == pytest.approx(REFERENCE[shape], abs=1e-12)


@pytest.mark.parametrize("shape", REFERENCE, ids=str)
def test_it_is_what_scikit_image_says_where_it_is_installed(shape) -> None:
    metrics = pytest.importorskip("skimage.metrics")
    x, y = pair(*shape)
    found = metrics.structural_similarity(
        *(v[0].movedim(0, 2).numpy() for v in (x, y)),
        gaussian_weights=True,
        sigma=1.5,
        use_sample_covariance=False,
        data_range=1.0,
        channel_axis=2,
    )
    assert float(ssim(x, y)) == pytest.approx(found, abs=1e-12)


def means(x, y, sigma, radius):
    """Means over windows of the whole comparison and of its second factor, by scipy."""

    def blur(v):
        blurred = gaussian_filter(v, sigma, truncate=(radius + 0.25) / sigma)
        return blurred[radius:-radius, radius:-radius]

    mx, my = blur(x), blur(y)
    sx, sy, sxy = blur(x * x) - mx**2, blur(y * y) - my**2, blur(x * y) - mx * my
    pattern = (2 * sxy + 0.0009) / (sx + sy + 0.0009)
    light = (2 * mx * my + 0.0001) / (mx**2 + my**2 + 0.0001)
    return (light * pattern).mean(), pattern.mean()


@pytest.mark.parametrize(("scales", "side", "radius"), [(5, 178, 5), (3, 28, 2), (1, 20, 5)])
def test_several_scales_are_the_formula_written_out(scales, side, radius) -> None:
    x, y = noisy(2, (2, side, side + 3))
    powers = SCALES if scales == 5 else [p / sum(SCALES[:scales]) for p in SCALES[:scales]]
    sigma = 1.5 * (2 * radius + 1) / 11
    found = ms_ssim(x, y, scales=scales, window=2 * radius + 1)
    for row in range(2):
        wanted = 0.0
        for channel in range(2):
            a, b, product = x[row, channel].numpy(), y[row, channel].numpy(), 1.0
            for k, power in enumerate(powers):
                whole, pattern = means(a, b, sigma, radius)
                product *= max(0.0, whole if k == scales - 1 else pattern) ** power
                a, b = (
                    v[: v.shape[0] // 2 * 2, : v.shape[1] // 2 * 2]
                    .reshape(v.shape[0] // 2, 2, v.shape[1] // 2, 2)
                    .mean(axis=(1, 3))
                    for v in (a, b)
                )
            wanted += product / 2
        assert float(found[row]) == pytest.approx(wanted, abs=1e-12)


@pytest.mark.parametrize(
    ("shape", "window"), [((1, 3, 5), 3), ((1, 8, 8), 5), ((3, 10, 30), 5), ((1, 11, 12), 11)]
)
def test_small_images_have_a_smaller_window_of_the_same_form(shape, window) -> None:
    x, y = noisy(3, shape)
    own = ssim(x, y, window=window, sigma=1.5 * window / 11)
    torch.testing.assert_close(ssim(x, y), own, rtol=0, atol=0)
    assert bool((own < 1).all())


@pytest.mark.parametrize(
    "distance", [SSIMDistance(), SSIMDistance(window=3), MultiScaleDistance(2, window=5)], ids=str
)
def test_a_distance_is_0_for_equal_images_symmetric_and_row_by_row(distance) -> None:
    x, y = noisy(4, (2, 12, 12))
    assert float(distance(x, x).abs().max()) < 1e-12
    torch.testing.assert_close(distance(x, y), distance(y, x))
    assert bool((distance(x, y) > 0).all())
    for row in range(4):
        one = distance(x[row : row + 1], y[row : row + 1])
        torch.testing.assert_close(one, distance(x, y)[row : row + 1], rtol=0, atol=1e-12)


@pytest.mark.parametrize("distance", [SSIMDistance(window=3), MultiScaleDistance(2, window=3)])
def test_gradients_are_those_of_the_value_and_finite_at_equal_and_black_images(distance) -> None:
    x, y = noisy(2, (1, 6, 6))
    assert torch.autograd.gradcheck(lambda v: distance(v, y), (x.clone().requires_grad_(),))
    for same in (x, torch.zeros_like(x)):
        at = same.clone().requires_grad_()
        distance(at, same).sum().backward()
        assert float(at.grad.abs().max()) < 1e-6  # a minimum


def test_opposite_patterns_count_as_nothing_alike_over_scales_and_have_a_gradient() -> None:
    x, _ = noisy(2, (1, 12, 12))
    at = (1 - x).requires_grad_()
    found = ms_ssim(at, x, scales=2, window=5)
    assert found.tolist() == [0, 0]
    found.sum().backward()
    assert bool(at.grad.isfinite().all())


def test_half_precision_is_raised() -> None:
    x, y = (v.to(torch.bfloat16) for v in noisy(2, (1, 8, 8)))
    assert ssim(x, y).dtype == torch.float32
    torch.testing.assert_close(ssim(x, y), ssim(x.float(), y.float()))


def test_images_that_do_not_fit_are_refused_with_the_remedy() -> None:
    x, y = noisy(2, (1, 28, 28))
    with pytest.raises(ValueError, match=r"`y` must have the shape of `x`.*row by row"):
        ssim(x, y[:1])
    with pytest.raises(ValueError, match=r"`x` must have shape \[n, channels, height, width\]"):
        ssim(x[0], y[0])
    with pytest.raises(ValueError, match=r"sides of at least 3, the window; got 2x28\. Enlarge"):
        ssim(x[:, :, :2], y[:, :, :2])
    with pytest.raises(ValueError, match=r"sides of at least 29, the window; got 28x28.*smaller"):
        ssim(x, y, window=29)
    with pytest.raises(ValueError, match=r"`window` must be odd; got 4\. Use 3 or 5"):
        ssim(x, y, window=4)
    with pytest.raises(ValueError, match=r"`sigma` must be a finite number above 0"):
        ssim(x, y, sigma=0.0)
    with pytest.raises(ValueError, match=r"at least 176 for 5 scales and .* 11; .* Use scales=2,"):
        ms_ssim(x, y)
    with pytest.raises(ValueError, match=r"`scales` must be at most 5; got 6"):
        ms_ssim(x, y, scales=6)
