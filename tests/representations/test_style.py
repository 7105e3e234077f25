"""Style transfer reaches the style it is asked for, and refuses what has none."""

import pytest
import torch

from notbugs.models import build, capture
from notbugs.representations import gram, style_distance, style_error, style_transfer, styles


@pytest.fixture
def net():
    return build("cnn", shape=(1, 8, 8), classes=3, seed=0, options={"width": 4, "hidden": 8})


def test_gram_is_the_mean_product_of_channels() -> None:
    a = torch.tensor([[[[1.0, 2.0]], [[3.0, 0.0]]]])
    assert torch.equal(gram(a), torch.tensor([[[2.5, 1.5], [1.5, 4.5]]]))
    assert torch.equal(gram(torch.tensor([[1.0, 2.0]])), torch.tensor([[[1.0, 2.0], [2.0, 4.0]]]))


def test_style_does_not_hang_on_where_things_are(net) -> None:
    x = torch.zeros(1, 1, 8, 8)
    x[..., 2:4, 2:4] = 1
    moved = x.roll((2, 2), dims=(2, 3))
    other = torch.rand(1, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    first = ["trunk.0"]
    a, b, c = (styles(net, image, first) for image in (x, moved, other))
    assert float(style_distance(a, b)) < 1e-5 < float(style_distance(a, c))


def test_the_style_comes_nearer_by_the_weight_and_content_goes(net) -> None:
    content, style = torch.rand(2, 4, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    little, much = (style_transfer(net, content, style, weight=weight) for weight in (0.01, 100.0))
    assert bool((much.style_error < 0.5).all())
    assert float(much.style_error.mean()) < float(little.style_error.mean()) < 1
    assert float(much.content_error.mean()) > float(little.content_error.mean())
    assert float(much.x.min()) >= 0 <= 1 >= float(much.x.max())
    goal = styles(net, style)
    share = style_distance(styles(net, much.x), goal) / style_distance(styles(net, content), goal)
    assert torch.allclose(share, much.style_error)


def test_an_image_in_its_own_style_stays(net) -> None:
    x = torch.rand(2, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    found = style_transfer(net, x, x)
    assert torch.equal(found.x, x)
    assert float(found.style_error.max()) == 0 == float(found.content_error.max())


def test_what_has_no_style_is_refused(net) -> None:
    x = torch.rand(2, 1, 8, 8)
    for change, message in (
        ({"layers": ["trunk.9"]}, "trunk.9"),
        ({"layers": []}, "at least one layer"),
        ({"content_layer": "tail"}, "'tail'"),
        ({"weight": 0.0}, "weight"),
    ):
        with pytest.raises(ValueError, match=message):
            style_transfer(net, x, x, **change)
    with pytest.raises(ValueError, match="style"):
        style_transfer(net, x, x[:1])
    linear = build("linear", shape=(1, 8, 8), classes=3, seed=0)
    with pytest.raises(ValueError, match="none that is a convolution"):
        style_transfer(linear, x, x)


def test_images_without_activations_are_refused(net) -> None:
    x, black = torch.rand(2, 1, 8, 8), torch.zeros(2, 1, 8, 8)
    for content, style, name in ((x, black, "style"), (black, x, "content")):
        with pytest.raises(ValueError, match=rf"`{name}` must move layer 'trunk.*black images"):
            style_transfer(net, content, style)


def test_tokens_are_positions() -> None:
    net = build("vit", shape=(1, 8, 8), classes=3, seed=0)
    x = torch.rand(2, 1, 8, 8)
    with torch.no_grad(), capture(net.body, ["trunk.0"]) as outputs:
        net.eval()(x)
    a = outputs["trunk.0"]
    wanted = torch.einsum("ntc,ntd->ncd", a, a) / a.shape[1]
    torch.testing.assert_close(styles(net, x, ["trunk.0"])["trunk.0"], wanted)


def test_batches_do_not_change_the_result(net) -> None:
    content, style = torch.rand(2, 5, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    whole, parts = (style_transfer(net, content, style, batch_size=size) for size in (5, 2))
    # Up to rounding, which L-BFGS makes larger.
    torch.testing.assert_close(whole.x, parts.x, atol=0.02, rtol=0)
    torch.testing.assert_close(whole.style_error, parts.style_error, atol=1e-3, rtol=1e-2)
    assert bool((whole.x - whole.x.roll(1, 0)).flatten(1).abs().amax(dim=1).gt(0.1).all())


def test_the_error_of_another_model_is_by_its_own_layers(net) -> None:
    content, style, x = torch.rand(3, 70, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    goal = styles(net, style)
    share = style_distance(styles(net, x), goal) / style_distance(styles(net, content), goal)
    torch.testing.assert_close(style_error(net, content, style, x), share)
    assert torch.equal(style_error(net, content, content, x), torch.zeros(70))
    for wrong in ((style[:1], x), (style, x[:1])):
        with pytest.raises(ValueError, match="shape"):
            style_error(net, content, *wrong)


def test_distances_are_those_of_hand_computed_matrices() -> None:
    a = {"one": torch.tensor([[[3.0, 0.0], [0.0, 4.0]]]), "two": torch.tensor([[[2.0]]])}
    b = {"one": torch.tensor([[[0.0, 0.0], [0.0, 4.0]]]), "two": torch.tensor([[[1.0]]])}
    # ||A - B|| / ||B|| is 3 / 4 and 1
    wanted = (((3 / 4) ** 2 + 1) / 2) ** 0.5
    assert float(style_distance(a, b)) == pytest.approx(wanted)
