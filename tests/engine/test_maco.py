"""Magnitudes that no step changes, phases that every step may."""

import pytest
import torch
from torch.nn import functional as F

from notbugs.core import random
from notbugs.engine import (
    AbstractObjective,
    Adam,
    Box,
    Chain,
    Evaluation,
    Everywhere,
    Last,
    MaCo,
    Pad,
    RandomCrop,
    Solver,
    UniformNoise,
    cropped_view,
    spectrum_of,
)

SHAPES = pytest.mark.parametrize("shape", [(1, 8, 8), (3, 7, 5), (3, 6, 9), (2, 5, 4)], ids=str)
INSET = 0.01


def images(shape, n=20, name="maco"):
    """Images of more low than high frequencies, of correlated colours."""
    x = random.uniform(random.row_keys(n, name), (1, *shape[1:]), torch.float64)
    own = random.uniform(random.row_keys(n, name, "own"), shape, torch.float64)
    smooth = F.avg_pool2d(F.pad(x, (1, 1, 1, 1), mode="circular"), 3, 1)
    return 0.1 + 0.6 * smooth + 0.2 * own


def amplitudes(x, spectrum):
    """|F| of the logits of `x` in decorrelated colours, straight from torch's transform."""
    logits = torch.logit(x)
    if spectrum.colors is not None:
        root = torch.tensor(spectrum.colors, dtype=x.dtype)
        logits = torch.einsum("dc,nchw->ndhw", torch.linalg.inv(root), logits)
    return torch.fft.fft2(logits, norm="ortho")


class Bowl(AbstractObjective):
    def __call__(self, x, context, draw) -> Evaluation:
        return Evaluation((x - context["goal"]).square().flatten(1).sum(dim=1))


@SHAPES
def test_the_spectrum_is_the_mean_magnitude_of_the_images(shape) -> None:
    x = images(shape)
    spectrum = spectrum_of(x, periodic=False)
    waves = amplitudes(0.5 + (x - 0.5) * (1 - INSET), spectrum)
    table = spectrum.magnitudes(x)
    others = torch.ones(shape[1:]) > 0
    others[0, 0] = False
    torch.testing.assert_close(table.abs()[:, others], waves.abs().mean(dim=0)[:, others])
    torch.testing.assert_close(table[:, 0, 0], waves.real.mean(dim=0)[:, 0, 0])
    assert spectrum == spectrum_of(x.clone(), periodic=False)
    assert spectrum != spectrum_of(images(shape, name="other"), periodic=False)
    assert "shape=" in repr(spectrum)
    assert "values" not in repr(spectrum)


def test_borders_draw_no_cross_and_images_without_jumps_are_as_they_are() -> None:
    """A ramp jumps from its right to its left border: all of its spectrum lies on one axis."""
    ramp = torch.linspace(0.2, 0.8, 32, dtype=torch.float64).expand(1, 1, 32, 32)
    rough, kept = (spectrum_of(ramp, periodic=p).magnitudes(ramp).abs() for p in (False, True))
    assert float(kept[0, 0, 8:16].max()) < 0.1 * float(rough[0, 0, 8:16].min())
    framed = F.pad(images((1, 6, 6)), (2, 2, 2, 2), value=0.3)
    tables = [spectrum_of(framed, periodic=p).magnitudes(framed) for p in (False, True)]
    torch.testing.assert_close(*tables)
    turned = spectrum_of(framed.mT.contiguous()).magnitudes(framed)
    torch.testing.assert_close(turned.mT, tables[1])


def test_colours_are_decorrelated_within_images() -> None:
    """Images that differ in hue and hold grey textures alone have no coloured ones."""
    hues = images((3, 1, 1), 30, "hues") - 0.4
    grey = images((1, 8, 8), 30, "grey").expand(-1, 3, -1, -1)
    spectrum = spectrum_of((grey + 0.3 * hues).clamp(0, 1))
    theta = random.normal(random.row_keys(3, "theta"), (3, 8, 8), torch.float64)
    logits = torch.logit(MaCo(spectrum).decode(theta))
    logits = logits - logits.mean(dim=(2, 3), keepdim=True)
    chroma = logits - logits.mean(dim=1, keepdim=True)
    assert float(chroma.norm() / logits.norm()) < 0.2


@SHAPES
@pytest.mark.parametrize("steps", [1, 30])
def test_magnitudes_stay_whatever_the_steps(shape, steps) -> None:
    spectrum = spectrum_of(images(shape))
    solver = Solver(Everywhere(), Adam(0.5), steps, MaCo(spectrum), Last())
    start, goal = images(shape, 4, "start"), images(shape, 4, "goal")
    found = solver.minimise(Bowl(), start, {"goal": goal}, keys=random.row_keys(4)).x
    measured = amplitudes(found, spectrum)
    expected = spectrum.magnitudes(found)
    torch.testing.assert_close(
        measured.abs(), expected.abs().expand_as(measured), rtol=0, atol=1e-6
    )
    assert float((found - MaCo(spectrum).decode(MaCo(spectrum).encode(start))).abs().max()) > 1e-3


@SHAPES
def test_phases_are_kept_and_found_again(shape) -> None:
    spectrum = spectrum_of(images(shape))
    variable, x = MaCo(spectrum), images(shape, 3, "x")
    theta = variable.encode(x)
    inner = 0.5 + (x - 0.5) * (1 - INSET)
    wanted, found = (amplitudes(each, spectrum) for each in (inner, variable.decode(theta)))
    free = torch.arange(shape[1] * shape[2]).reshape(shape[1:])
    free = free != free.flip((0, 1)).roll((1, 1), (0, 1))
    torch.testing.assert_close(
        (found / found.abs())[..., free], (wanted / wanted.abs())[..., free], rtol=0, atol=1e-6
    )
    again = variable.decode(theta + 2 * torch.pi)
    torch.testing.assert_close(again, variable.decode(theta))


def test_a_larger_canvas_has_the_same_mean_and_variance() -> None:
    spectrum = spectrum_of(images((3, 8, 10)))
    small = spectrum.magnitudes(torch.zeros(1, 3, 8, 10, dtype=torch.float64))
    for h, w in ((16, 20), (31, 17), (8, 10), (5, 6)):
        table = spectrum.magnitudes(torch.zeros(1, 3, h, w, dtype=torch.float64))
        logits = torch.fft.ifft2(table.to(torch.complex128), norm="ortho").real
        expected = torch.fft.ifft2(small.to(torch.complex128), norm="ortho").real
        torch.testing.assert_close(logits.mean(dim=(1, 2)), expected.mean(dim=(1, 2)))
        torch.testing.assert_close(table.square().mean(), small.square().mean())
    flat = spectrum_of(images((1, 8, 8)))
    at, twice = (flat.magnitudes(torch.zeros(1, 1, n, n).double()) for n in (8, 16))
    ratio = twice[0, 2::2, 2] / at[0, 1:, 1]  # the same frequencies, but for one factor
    torch.testing.assert_close(ratio, ratio[:1].expand_as(ratio))


def test_without_a_spectrum_magnitudes_fall_as_one_over_the_frequency() -> None:
    theta = random.normal(random.row_keys(2, "theta"), (3, 16, 16), torch.float64)
    waves = torch.fft.fft2(torch.logit(MaCo().decode(theta)), norm="ortho").abs()
    torch.testing.assert_close(
        waves[..., 0, 1] / waves[..., 0, 4], torch.full((2, 3), 4.0).double()
    )
    assert float(waves[..., 0, 0].max()) < 1e-9
    assert float(waves.square().mean()) == pytest.approx(1)
    assert MaCo() == MaCo(None)


def test_flat_images_have_no_phase_and_spectra_have_channels() -> None:
    grey = torch.full((2, 1, 4, 4), 0.5)
    grey[0] = torch.rand(1, 4, 4, generator=random.generator("grey"))
    with pytest.raises(ValueError, match=r"`start` must vary from pixel to pixel.*in row 1"):
        MaCo().encode(grey)
    with pytest.raises(ValueError, match=r"`images` must differ from pixel to pixel; got flat"):
        spectrum_of(grey[1:])
    with pytest.raises(ValueError, match=r"`spectrum` must be of 3 channels.*got 1 channels"):
        MaCo(spectrum_of(images((1, 4, 4)))).decode(torch.zeros(1, 3, 4, 4))
    with pytest.raises(ValueError, match=r"`within` must be Everywhere\(\)"):
        Solver(Box(), Adam(0.1), 1, MaCo())


def test_crops_are_drawn_by_the_rows_keys() -> None:
    x, keys = images((3, 12, 10), 6), random.row_keys(6, "crops")
    view = cropped_view((5, 4), 0.3, 0.9)
    seen = view(x, keys)
    assert seen.shape == (6, 3, 5, 4)
    assert torch.equal(seen, view(x, keys))
    assert torch.equal(seen[2:4], view(x[2:4], keys[2:4]))
    assert not torch.equal(seen, view(x, random.row_keys(6, "others")))
    same = x[:1].expand(6, -1, -1, -1)
    crops = RandomCrop(0.3, 0.9)(same, keys)
    assert crops.shape == same.shape
    assert len({tuple(crop.flatten().tolist()) for crop in crops}) == 6


def test_a_crop_is_the_part_that_it_shows() -> None:
    """On a ramp a crop is a shorter ramp, whose middle lies inside by half its length."""
    ramp = (torch.arange(40.0, dtype=torch.float64) + 0.5).expand(200, 1, 40, 40) / 40
    crops = RandomCrop(0.5, 0.5, (10, 10))(ramp, random.row_keys(200, "ramp"))
    step = crops.diff(dim=3)
    torch.testing.assert_close(step[..., 1:-1], torch.full_like(step[..., 1:-1], 0.05))
    middle = crops.mean(dim=(1, 2, 3))
    assert 0.24 < float(middle.min()) < 0.3
    assert 0.7 < float(middle.max()) < 0.76
    assert float(middle.mean()) == pytest.approx(0.5, abs=0.03)


@pytest.mark.parametrize("size", [(5, 4), (7, 30), (24, 20), (12, 10)], ids=str)
def test_the_whole_image_is_resized_as_torch_does(size) -> None:
    x = images((2, 12, 10), 3)
    whole = RandomCrop(1.0, 1.0, size)(x, random.row_keys(3))
    expected = F.interpolate(x, size, mode="bilinear", antialias=True)
    torch.testing.assert_close(whole, expected, rtol=0, atol=1e-6)


def test_noise_is_uniform_and_chains_may_end_smaller() -> None:
    x = torch.full((50, 1, 9, 9), 0.5)
    noise = UniformNoise(0.2)(x, random.row_keys(50, "noise")) - x
    assert -0.2 <= float(noise.min()) < -0.19
    assert 0.19 < float(noise.max()) <= 0.2
    assert float(noise.square().mean()) == pytest.approx(0.04 / 3, rel=0.05)
    chain = Chain((Pad(2), RandomCrop(0.9, 1.0, (4, 5))))
    assert chain(x, random.row_keys(50)).shape == (50, 1, 4, 5)
    with pytest.raises(ValueError, match=r"`low` must be above 0 and at most `high`"):
        RandomCrop(0.5, 0.4)
    with pytest.raises(ValueError, match=r"`size` must be"):
        RandomCrop(0.5, 0.6, (0, 4))
    with pytest.raises(ValueError, match=r"`scale` must be"):
        UniformNoise(0.0)
