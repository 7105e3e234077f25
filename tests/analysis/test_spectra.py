"""Spectra of waves that are known, and gradients that are too."""

import math

import pytest
import torch
from torch import nn

from nets import linear, small_net
from notbugs.analysis import (
    band_pass,
    fourier_heat_map,
    high_frequency_share,
    input_gradients,
    radial_spectrum,
)
from notbugs.data import ImageData
from notbugs.models import wrap


def wave(k, w=16, height=0.3):
    """k cycles across w pixels, around grey."""
    row = torch.cos(2 * math.pi * k * torch.arange(w, dtype=torch.float64) / w)
    return 0.5 + height * row.expand(1, 2, w, w)


def test_a_waves_energy_lies_at_its_frequency() -> None:
    for k in (1, 3, 6):
        found = radial_spectrum(wave(k))
        assert abs(float(found.frequency[found.power[0].argmax()]) - k / 16) <= math.sqrt(0.5) / 16
        assert float((found.power[0] > 1e-9).sum()) == 1
    shares = [float(high_frequency_share(wave(k))) for k in (1, 3, 4, 6)]
    assert shares == pytest.approx([0, 0, 1, 1], abs=1e-9)


def test_power_adds_up_to_the_variance() -> None:
    x = torch.rand(3, 2, 7, 10, dtype=torch.float64)
    found = radial_spectrum(x, bins=5)
    length = torch.hypot(
        torch.fft.fftfreq(7, dtype=torch.float64)[:, None], torch.fft.fftfreq(10).double()
    )
    ring = (length / math.sqrt(0.5) * 5).long().clamp(max=4)
    members = torch.stack([((ring == i) & (length > 0)).sum() for i in range(5)])
    whole = (x - x.mean(dim=(2, 3), keepdim=True)).square().flatten(1).sum(dim=1)
    torch.testing.assert_close((found.power * members).sum(dim=1), whole)


def test_white_noise_is_flat() -> None:
    x = torch.randn(400, 1, 12, 12, generator=torch.Generator().manual_seed(0))
    power = radial_spectrum(x).power.mean(dim=0)
    assert power.tolist() == pytest.approx([1.0] * len(power), rel=0.1)


def test_what_has_no_contrast_has_no_share() -> None:
    x = torch.full((2, 3, 6, 6), 0.37)
    assert high_frequency_share(x).tolist() == [0, 0]
    assert high_frequency_share(torch.zeros(1, 1, 4, 4)).tolist() == [0]


def test_bands_add_up_and_are_pure() -> None:
    x = torch.rand(2, 3, 9, 8, dtype=torch.float64)
    low, high = band_pass(x, 0.0, 0.3), band_pass(x, 0.3)
    torch.testing.assert_close(low + high, x)
    assert high_frequency_share(high, 0.3).tolist() == pytest.approx([1, 1])
    assert high_frequency_share(low, 0.3).tolist() == pytest.approx([0, 0], abs=1e-12)
    assert high.mean(dim=(2, 3)).abs().max() < 1e-12


def test_a_linear_models_gradient_is_known_and_the_model_untouched() -> None:
    model = linear(classes=3, side=4).double()
    x, y = torch.rand(5, 1, 4, 4, dtype=torch.float64), torch.tensor([0, 1, 2, 1, 0])
    found = input_gradients(model, x, y, batch_size=2)
    weights = model.body.layer.weight.detach()
    with torch.no_grad():
        slope = model.logits(x).softmax(dim=1) - torch.nn.functional.one_hot(y, 3)
    torch.testing.assert_close(found.flatten(1), slope @ weights)
    net, x, y = small_net(4)
    before = [p.requires_grad for p in net.parameters()]
    input_gradients(net, x, y)
    assert [p.requires_grad for p in net.parameters()] == before
    assert all(p.grad is None for p in net.parameters())


def test_bad_input() -> None:
    with pytest.raises(ValueError, match=r"`images` must have shape \[n, channels"):
        radial_spectrum(torch.rand(4, 4))
    with pytest.raises(ValueError, match=r"`cutoff` must lie in \(0, 0.7071\]"):
        high_frequency_share(torch.rand(1, 1, 4, 4), 0.8)
    with pytest.raises(ValueError, match=r"`low` must lie in \[0, high=0.1\)"):
        band_pass(torch.rand(1, 1, 4, 4), 0.2, 0.1)
    with pytest.raises(ValueError, match="`bins`"):
        radial_spectrum(torch.rand(1, 1, 4, 4), bins=0)


def test_a_heat_map_is_the_error_under_each_wave() -> None:
    """A model that reads one frequency fails under that wave alone, in either direction."""
    wave = torch.cos(2 * math.pi * torch.arange(8) / 4).repeat(8, 1)  # 2 / 8 cycles a pixel
    net = nn.Sequential(nn.Flatten(), nn.Linear(64, 2, bias=False))
    with torch.no_grad():
        net[1].weight[0] = 0
        net[1].weight[1] = wave.flatten()
    model = wrap(net, shape=(1, 8, 8), classes=2, embedding="0")
    signs = torch.tensor([-1.0, 1.0]).repeat(50)
    images = 0.5 + 0.05 * signs[:, None, None, None] * wave
    data = ImageData(images, (signs > 0).long(), ("a", "b"), "waves")
    heat, length = fourier_heat_map(model, data, 1.0, seed=0)
    assert heat.shape == length.shape == (8, 8)
    assert float(length[0, 2]) == pytest.approx(0.25)
    hit = {(int(i), int(j)) for i, j in (heat > 0).nonzero()}
    assert hit == {(0, 2), (0, 6)}
    assert heat[0, 2] == heat[0, 6]
    assert 30 < float(heat[0, 2]) < 70  # half of the signs
    smaller, _ = fourier_heat_map(model, data, 0.1, seed=0)
    assert float(smaller.max()) == 0
    with pytest.raises(ValueError, match="`eps`"):
        fourier_heat_map(model, data, 0.0)
