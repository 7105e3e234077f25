"""The net that learns CIFAR-10 fast, and judging by several views."""

from pathlib import Path

import pytest
import torch
from torch.nn import functional as F

from notbugs.core import random
from notbugs.models import build, load, save
from notbugs.models.airbench import RIDGE, Whitening, fit_to
from notbugs.models.views import of_views

SHAPE = (3, 12, 12)
X = random.uniform(random.row_keys(300, "airbench"), SHAPE)
SMOOTH = F.avg_pool2d(X, 3, stride=1, padding=1)  # neighbours that are alike


def net(**options):
    options = options or {"width": 4, "wide": 6}
    return build("airbench", shape=SHAPE, classes=4, seed=0, options=options)


def test_whitened_patches_are_uncorrelated_and_of_unit_variance() -> None:
    layer = Whitening(3)
    layer.fit(SMOOTH)
    half = layer.weight[:12]
    torch.testing.assert_close(layer.weight[12:], -half)
    patches = F.unfold(SMOOTH, 2).transpose(1, 2).flatten(0, 1)
    moments = (layer(SMOOTH).transpose(0, 1).flatten(1)[:12]).double()
    found = moments @ moments.T / len(patches)
    values = torch.linalg.eigvalsh((patches.T @ patches / len(patches)).double()).flip(0)
    torch.testing.assert_close(found, torch.diag(values / (values + RIDGE)), atol=1e-3, rtol=1e-3)
    assert bool(layer.fitted)
    assert not layer.weight.requires_grad


def test_it_is_fitted_once_and_remembers_it(tmp_path: Path) -> None:
    model = net()
    before = model.body.trunk[0].weight.clone()
    fit_to(model, SMOOTH)
    fitted = model.body.trunk[0].weight.clone()
    assert not torch.equal(fitted, before)
    fit_to(model, X)
    assert torch.equal(model.body.trunk[0].weight, fitted)
    save(model, tmp_path / "m.safetensors")
    again, _ = load(tmp_path / "m.safetensors")
    fit_to(again, X)
    assert torch.equal(again.body.trunk[0].weight, fitted)


def test_its_parts_are_the_papers() -> None:
    model = build("airbench", shape=(3, 32, 32), classes=10, seed=0)
    learnt = sum(p.numel() for p in model.parameters() if p.requires_grad)
    # 24 biases; 3x3 convolutions 24-64-64-256-256-256-256; biases of norms; 256 x 10.
    chain = [(24, 64), (64, 64), (64, 256), (256, 256), (256, 256), (256, 256)]
    assert learnt == 24 + sum(9 * a * b for a, b in chain) + 2 * (64 + 256 + 256) + 2560
    first = model.body.trunk[2]
    identity = torch.zeros(24, 24, 3, 3)
    identity[range(24), range(24), 1, 1] = 1
    torch.testing.assert_close(first.weight[:24], identity)
    assert float(first.weight[24:].detach().abs().max()) < 0.1
    x = torch.rand(2, 3, 32, 32)
    torch.testing.assert_close(model(x), F.linear(model.embed(x), model.body.head.weight) / 9)


def test_small_images_lose_pools_and_still_pass() -> None:
    for side in (2, 3, 8, 17):
        model = build(
            "airbench",
            shape=(1, side, side + 1),
            classes=3,
            seed=0,
            options={"width": 4, "wide": 5},
        )
        assert model(torch.rand(2, 1, side, side + 1)).shape == (2, 3)
    with pytest.raises(ValueError, match="`shape` must have sides of at least 2 pixels"):
        build("airbench", shape=(1, 1, 8), classes=3, seed=0)


def test_views_are_the_mean_over_mirrored_and_moved_images() -> None:
    model = net().eval()
    seen = of_views(model)
    x = X[:5]
    wider = F.pad(x, (1, 1, 1, 1), mode="reflect")
    views = {x: 0.25, wider[..., :12, :12]: 0.125, wider[..., 2:, 2:]: 0.125}
    wanted = sum(w * (model(v) + model(v.flip(-1))) for v, w in views.items())
    torch.testing.assert_close(seen(x), wanted)
    assert not seen.training
    assert seen.body.body is model.body
    model.train()
    model.body.trunk[0].eval()
    of_views(model)
    assert model.body.training
    assert not model.body.trunk[0].training
    x = x.clone().requires_grad_()
    assert float(torch.autograd.grad(seen(x).sum(), x)[0].abs().sum()) > 0
