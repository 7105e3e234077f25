"""Cosines are an orthonormal basis by frequency, and eigenfeatures those of the kernel."""

from dataclasses import replace

import pytest
import torch

from notbugs.core import random
from notbugs.data import load_source, split
from notbugs.engine import Threat
from notbugs.features import cosine_features, cosine_frequencies, kernel_features, usefulness
from notbugs.theory import tangent_kernel


@pytest.fixture(scope="module")
def parts():
    return split(load_source("digits"), seed=0)


def test_cosines_are_orthonormal_waves_of_their_frequency(parts) -> None:
    features = cosine_features(parts.train)
    waves = features.directions
    torch.testing.assert_close(waves @ waves.T, torch.eye(len(waves)), atol=1e-5, rtol=0)
    frequencies = cosine_frequencies((1, 8, 8))
    assert len(frequencies) == 64
    assert float(frequencies[0]) == 0
    assert float(frequencies[1]) == float(frequencies[8]) == 1 / 16
    # A wave that changes its sign most often between neighbours is that of the highest frequency.
    first = waves[features.numbers.tolist().index(63)].reshape(8, 8)
    assert bool((first[:, 1:] * first[:, :-1] < 0).all())
    colours = torch.rand(40, 3, 4, 6)
    data = parts.train.select(slice(0, 40))
    of_colours = cosine_features(replace(data, images=colours))
    assert len(of_colours) == len(cosine_frequencies((3, 4, 6))) == 72


def test_low_frequencies_of_digits_are_robust_and_high_ones_not(parts) -> None:
    features = cosine_features(parts.train)
    found = usefulness(features, parts.train, parts.test, Threat.parse("l2:0.5"))
    assert found.bound == "exact"
    best = found.trained.abs().argmax(dim=1, keepdim=True)
    gamma = found.gamma.gather(1, best)[:, 0]
    low = cosine_frequencies((1, 8, 8))[features.numbers] < 0.2
    assert float(gamma[low].mean()) > float(gamma[~low].mean()) + 0.2


def test_the_kernel_is_that_of_wide_nets() -> None:
    """The inner products of gradients of a random net of width 4,096, its last layer included."""
    x = torch.randn(4, 6, generator=torch.Generator().manual_seed(0)).double()
    width = 4096
    keys = random.row_keys(1, "net")
    sizes = ((width, 6), (width, width), (1, width))
    weights = [
        random.normal(random.fold(keys, "layer", i), size)[0].double().requires_grad_()
        for i, size in enumerate(sizes)
    ]

    def net(point: torch.Tensor) -> torch.Tensor:
        h = weights[0] @ point / 6**0.5
        for w in weights[1:]:
            h = w @ h.relu() * (2 / width) ** 0.5
        return h[0]

    rows = [torch.cat([g.flatten() for g in torch.autograd.grad(net(p), weights)]) for p in x]
    measured = torch.stack(rows) @ torch.stack(rows).T
    closed = tangent_kernel(x, x, depth=2)
    sizes_of = closed.diagonal().sqrt()
    assert float(((measured - closed).abs() / sizes_of[:, None] / sizes_of).max()) < 0.1
    torch.testing.assert_close(closed, closed.T)
    assert float(torch.linalg.eigvalsh(closed)[0]) > 0
    with pytest.raises(ValueError, match="columns of `a`"):
        tangent_kernel(x, x[:, :3])


def test_one_hidden_layer_is_its_integral() -> None:
    """Over the weights of a unit: of points in the plane an integral over their angle."""
    x = torch.tensor([[1.0, 0.2], [-0.3, 0.7], [-1.0, -0.4]]).double()
    angles = 2 * torch.pi * (torch.arange(200_000).double() + 0.5) / 200_000
    products = torch.stack([angles.cos(), angles.sin()], dim=1) @ x.T  # times the length
    rising, on = products.relu(), (products > 0).double()
    heads = 2 * (2 / 2) * rising.T @ rising / len(angles)  # the mean square length is 2
    units = 2 * on.T @ on / len(angles) * (x @ x.T / 2)
    torch.testing.assert_close(tangent_kernel(x, x, depth=1), heads + units, rtol=1e-3, atol=1e-5)


def test_eigenfeatures_do_not_correlate_and_the_first_are_robust(parts) -> None:
    train, test = parts.train.select(slice(0, 300)), parts.test.select(slice(0, 60))
    features = kernel_features(train, components=40)
    values = features(train.pixels())
    between = values.T @ values / len(values)
    torch.testing.assert_close(between, torch.eye(40), atol=0.02, rtol=0)
    some = features.select(torch.tensor([0, 1, 2, 37, 38, 39]))
    found = usefulness(some, train, test, Threat.parse("l2:0.3"), steps=5)
    assert found.bound == "upper"
    lost = (found.rho - found.gamma).mean(dim=1)
    assert float(lost[:3].max()) < float(lost[3:].min())
    with pytest.raises(ValueError, match="components"):
        kernel_features(train, components=300)
