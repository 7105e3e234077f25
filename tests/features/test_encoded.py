"""Sets that are made with encoders: towards other images' codes, each change of one size."""

from dataclasses import replace

import pytest
import torch
from torch import nn

from notbugs.data import load_source, split
from notbugs.engine import L2, Linf, Threat
from notbugs.features import choose_targets, encoded_set
from notbugs.features.encoded import device_of, of_classes
from notbugs.training import principal_components, train_generator

DATA = split(load_source("digits"), seed=0, train_size=400).train
L2_HALF = Threat(L2(), 0.5)


def test_codes_move_towards_an_image_of_the_label() -> None:
    net = train_generator(DATA, codes=8, epochs=15, width=8, beta=0.0, seed=0)
    made = encoded_set(net.code, DATA, L2_HALF, seed=3)
    assert not bool((made.labels == made.columns["true_labels"]).any())
    rows = made.columns["source_rows"]
    assert torch.equal(made.columns["true_labels"], DATA.labels[rows])
    assert torch.equal(made.labels, choose_targets("other", DATA.labels, 10, seed=3)[rows])
    partners = made.columns["target_rows"]
    assert torch.equal(DATA.labels[partners], made.labels)
    change = L2().size(made.pixels() - DATA.pixels(rows))
    torch.testing.assert_close(change, made.columns["distance"])
    assert bool(((change - 0.5).abs() <= 0.005).all())
    codes, goals, before = (
        net.code(x) for x in (made.pixels(), DATA.pixels(partners), DATA.pixels(rows))
    )
    closed = 1 - (codes - goals).norm(dim=1) / (before - goals).norm(dim=1)
    torch.testing.assert_close(closed, made.columns["closed"], rtol=1e-3, atol=1e-3)
    assert float(closed.mean()) > 0.1
    assert bool((closed > 0).double().mean() > 0.99)
    again = encoded_set(net.code, DATA, L2_HALF, seed=3)
    assert torch.equal(again.pixels(), made.pixels())


def test_of_pixels_it_is_the_straight_step() -> None:
    """The nearest point of the ball to the other image's pixels: eps of the way."""
    flat = DATA.select(slice(0, 40))
    made = encoded_set(nn.Flatten(), flat, L2_HALF, seed=0, steps=60)
    rows, partners = made.columns["source_rows"], made.columns["target_rows"]
    x, z = flat.pixels(rows), flat.pixels(partners)
    apart = L2().size(z - x)
    expected = x + 0.5 * (z - x) / apart[:, None, None, None]
    torch.testing.assert_close(made.pixels(), expected, rtol=0, atol=2e-2)
    torch.testing.assert_close(made.columns["closed"], 0.5 / apart, rtol=2e-2, atol=2e-3)


def test_linear_codes_are_moved_in_their_span() -> None:
    net = principal_components(DATA, codes=6)
    made = encoded_set(net.code, DATA.select(slice(0, 50)), L2_HALF, seed=0)
    change = (made.pixels() - DATA.pixels(made.columns["source_rows"])).flatten(1)
    within = (change @ net.basis.T).norm(dim=1) / change.norm(dim=1)
    assert float(within.median()) > 0.9  # the box of pixels bends some
    assert device_of(net.code) == torch.device("cpu")


def test_what_cannot_be_made_is_refused() -> None:
    with pytest.raises(ValueError, match="none of '9'"):
        of_classes(DATA.select(DATA.labels < 9), torch.tensor([9]), seed=0)
    few = DATA.select(slice(0, 50))
    with pytest.raises(ValueError, match="`steps` must be"):
        encoded_set(nn.Flatten(), few, L2_HALF, seed=0, steps=0)
    with pytest.raises(ValueError, match="gradients"):
        encoded_set(lambda x: x.detach().flatten(1), few, L2_HALF, seed=0)
    grey = replace(few, images=torch.full_like(few.pixels(), 0.5))
    with pytest.raises(ValueError, match="no image"):
        encoded_set(nn.Flatten(), grey, Threat(Linf(), 0.1), seed=0)


def test_the_mode_of_an_encoder_does_not_matter() -> None:
    net = nn.Sequential(nn.Flatten(), nn.BatchNorm1d(64), nn.Linear(64, 8))
    few = DATA.select(slice(0, 60))
    before = net[1].running_mean.clone()
    one, other = (encoded_set(net.train(mode), few, L2_HALF, seed=0) for mode in (True, False))
    assert torch.equal(one.pixels(), other.pixels())
    assert torch.equal(net[1].running_mean, before)
