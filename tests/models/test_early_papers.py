"""The nets of the early papers: each is what its formula says."""

import pytest
import torch

from notbugs.core import random
from notbugs.data import channel_stats, load_source, split
from notbugs.judge import accuracy
from notbugs.models import build, ensemble
from notbugs.models.maxout import Maxout
from notbugs.training import Recipe, train

X = random.uniform(random.row_keys(5, "early"), (1, 8, 8))


def net(name, **options):
    return build(name, shape=(1, 8, 8), classes=3, seed=0, options=options).eval()


def test_maxout_is_the_largest_of_its_pieces() -> None:
    x = torch.tensor([[1.0, 5.0, -2.0, -3.0]])
    assert torch.equal(Maxout(2)(x), torch.tensor([[5.0, -2.0]]))
    model = net("maxout", units=4, pieces=3, depth=1)
    trunk, flat = model.body.trunk, X.flatten(1)
    linear = trunk[2](flat).reshape(5, 4, 3)
    torch.testing.assert_close(model.embed(X), linear.amax(dim=2))
    assert float(trunk[2].weight.detach().abs().max()) <= 0.05


def test_conv_maxout_pools_what_there_is() -> None:
    for shape in ((1, 8, 8), (1, 28, 28), (3, 32, 32), (1, 3, 5)):
        model = build(
            "conv_maxout", shape=shape, classes=3, seed=0, options={"units": 2, "hidden": 4}
        ).eval()
        assert model(torch.rand(2, *shape)).shape == (2, 3)


def test_radial_units_are_their_formula_and_die_out_far_away() -> None:
    model = net("rbf", units=6, sharpness=3.0)
    centers = model.body.trunk.centers
    apart = (X.flatten(1)[:, None] - centers).square().mean(dim=2)
    torch.testing.assert_close(model.embed(X), torch.exp(-3 * apart), rtol=1e-4, atol=1e-6)
    far = model(X + 100).detach()
    torch.testing.assert_close(far, torch.zeros_like(far))


def test_radial_units_learn_digits_from_where_they_start() -> None:
    parts = split(load_source("digits"), seed=0)
    mean, std = channel_stats(parts.train)
    model = build("rbf", shape=(1, 8, 8), classes=10, seed=0, mean=mean, std=std)
    train(model, parts.train, Recipe(epochs=10, lr=0.1), seed=0)
    assert accuracy(model, parts.val) > 75


def test_dense_nets_have_the_widths_asked_for() -> None:
    model = build("fc", shape=(1, 28, 28), classes=10, seed=0, options={"hidden": "123-456"})
    widths = [m.out_features for m in model.modules() if isinstance(m, torch.nn.Linear)]
    assert widths == [123, 456, 10]
    sigmoid = net("fc", hidden="7", activation="sigmoid").embed(X)
    assert bool(((sigmoid > 0) & (sigmoid < 1)).all())


def test_the_net_for_mnist_has_the_papers_size() -> None:
    model = build("carlini", shape=(1, 28, 28), classes=10, seed=0)
    assert sum(p.numel() for p in model.parameters()) == 312_202


def test_a_transformer_heeds_where_its_patches_are() -> None:
    model = net("vit", width=12, depth=2)
    turned = X.roll(4, dims=3)  # the same patches at other places
    assert not torch.allclose(model(X), model(turned), atol=1e-6)


def test_an_ensemble_averages_probabilities() -> None:
    members = [build("linear", shape=(1, 8, 8), classes=3, seed=s, mean=(s / 9,)) for s in range(4)]
    model = ensemble(members)
    wanted = torch.stack([m(X).softmax(dim=1) for m in members]).mean(dim=0)
    torch.testing.assert_close(model(X).softmax(dim=1), wanted)
    torch.testing.assert_close(model(X).exp().sum(dim=1), torch.ones(5))
    assert model.embed(X).shape == (5, 12)
    other = build("linear", shape=(1, 8, 8), classes=4, seed=0)
    with pytest.raises(ValueError, match="`members` must share one image shape"):
        ensemble([*members, other])
    with pytest.raises(ValueError, match="`members` must hold at least one"):
        ensemble([])


@pytest.mark.parametrize(
    ("name", "options", "match"),
    [
        ("fc", {"hidden": "100x100"}, "`hidden` must be widths"),
        ("fc", {"hidden": ""}, "`hidden` must be widths"),
        ("fc", {"activation": "swish"}, "Unknown activation 'swish'"),
        ("maxout", {"pieces": 0}, "`pieces` must be at least 1"),
        ("rbf", {"sharpness": 0}, "`sharpness` must be a finite number above 0"),
        ("vit", {"patch": 3}, "`patch` must divide both sides"),
        ("vit", {"width": 10, "heads": 3}, "`heads` must divide the width"),
        ("carlini", {"hidden": 0}, "`hidden` must be at least 1"),
    ],
)
def test_bad_options_are_explained(name, options, match) -> None:
    with pytest.raises(ValueError, match=match):
        net(name, **options)
