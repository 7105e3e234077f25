import warnings

import pytest
import torch
from torch import nn

from notbugs.models import Classifier, build, capture, half, layer_names, prepare, wrap

SHAPE = (1, 8, 8)


def foreign() -> nn.Sequential:
    return nn.Sequential(
        nn.Flatten(), nn.Linear(64, 6), nn.ReLU(inplace=True), nn.Dropout(), nn.Linear(6, 3)
    )


def wrapped(module=None, embedding="1", **others):
    settings = {"shape": SHAPE, "classes": 3, "embedding": embedding} | others
    return wrap(foreign() if module is None else module, **settings)


class TwoOutputs(nn.Module):
    def forward(self, x):
        return x, x


class Net(nn.Module):
    """Runs one layer twice, one never, one that returns a pair, and one batch-last."""

    def __init__(self) -> None:
        super().__init__()
        self.pair = TwoOutputs()
        self.twice = nn.ReLU()
        self.never = nn.ReLU()
        self.sideways = nn.Identity()
        self.flat = nn.Flatten()
        self.out = nn.Linear(64, 3)

    def forward(self, x):
        x = self.twice(self.twice(self.pair(x)[0]))
        self.sideways(x.flatten(1).T)
        return self.out(self.flat(x))


def test_normalises_inside() -> None:
    body = nn.Sequential(nn.Flatten(), nn.Linear(32, 3))
    model = Classifier(
        body, shape=(2, 4, 4), classes=3, embedding="0", mean=[0.1, 0.2], std=[0.5, 2.0]
    )
    x = torch.rand(5, 2, 4, 4)
    expected = torch.stack([(x[:, 0] - 0.1) / 0.5, (x[:, 1] - 0.2) / 2.0], dim=1)
    torch.testing.assert_close(model.embed(x), expected.flatten(1))
    torch.testing.assert_close(model.normalise(x), expected)
    torch.testing.assert_close(model(x), body(expected))


def test_one_mean_serves_all_channels() -> None:
    model = build("linear", shape=(3, 4, 4), classes=2, seed=0, mean=[0.5], std=[0.25])
    assert model.mean.flatten().tolist() == [0.5] * 3
    assert model.std.shape == (1, 3, 1, 1)


@pytest.mark.parametrize("shape", [(2, 8, 8), (3, 1, 8, 7), (2, 3, 8, 8)])
def test_images_of_another_shape_are_refused(shape) -> None:
    model = build("linear", shape=SHAPE, classes=3, seed=0)
    for call in (model, model.logits, model.embed, model.both):
        with pytest.raises(ValueError, match=r"must have shape \(n, 1, 8, 8\).*got shape \("):
            call(torch.rand(*shape))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"shape": (0, 8, 8)}, r"`shape \(channels\)` must be at least 1"),
        ({"classes": 1}, r"`classes` must be at least 2; got 1. One class"),
        ({"embedding": "tronk"}, r"Unknown embedding layer 'tronk'. Did you mean 'trunk'"),
        ({"embedding": ""}, r"Unknown embedding layer ''"),
        ({"mean": [0.1, 0.2]}, r"`mean` must have one entry, or one for each of the 1 channels"),
        ({"mean": [float("nan")]}, r"`mean` must be finite; got nan"),
        ({"std": [0.0]}, r"`std` must be a finite number above 0; got 0.0. Images are divided"),
    ],
)
def test_bad_settings_are_refused(settings, message) -> None:
    body = build("linear", shape=SHAPE, classes=3, seed=0).body
    with pytest.raises(ValueError, match=message):
        Classifier(body, **({"shape": SHAPE, "classes": 3, "embedding": "trunk"} | settings))


def test_foreign_module_shows_its_embedding() -> None:
    module = foreign()
    model = wrapped(module).eval()
    x = torch.rand(4, *SHAPE)
    logits, embedding = model.both(x)
    torch.testing.assert_close(embedding, module[1](x.flatten(1)))  # before the in-place ReLU
    assert bool((embedding < 0).any())
    assert torch.equal(model.embed(x), embedding)
    assert torch.equal(model(x), logits)


def test_foreign_embedding_is_differentiable() -> None:
    x = torch.rand(2, *SHAPE, requires_grad=True)
    (grad,) = torch.autograd.grad(wrapped().embed(x).square().sum(), x)
    assert bool((grad.abs().flatten(1).sum(1) > 0).all())


@pytest.mark.parametrize("seed", [96, 121, 133, 138])
@pytest.mark.parametrize("classes", [2, 3])
def test_small_logits_of_few_classes_are_not_taken_for_probabilities(seed, classes) -> None:
    torch.manual_seed(seed)  # these nets give logits in [0, 1] on images in [0, 1]
    net = nn.Sequential(nn.Conv2d(1, 2, 3), nn.ReLU(), nn.Flatten(), nn.Linear(72, classes))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        wrapped(net, "0", classes=classes)


def test_foreign_embedding_is_flattened() -> None:
    module = nn.Sequential(nn.Conv2d(1, 2, 3), nn.Flatten(), nn.Linear(72, 3))
    assert wrapped(module, "0").embed(torch.rand(4, *SHAPE)).shape == (4, 72)


def test_foreign_double_module_takes_float_images() -> None:
    model = wrapped(foreign().double())
    assert model(torch.rand(2, *SHAPE)).dtype == torch.float64


def test_wrapping_leaves_the_module_as_it_was() -> None:
    module = foreign()
    module[3].eval()
    module[1].weight.requires_grad_(False)
    flags = [m.training for m in module.modules()]
    wrapped(module)
    assert [m.training for m in module.modules()] == flags
    assert [p.requires_grad for p in module.parameters()] == [False, True, True, True]
    assert all(p.grad is None for p in module.parameters())
    assert not any(m._forward_hooks for m in module.modules())


@pytest.mark.parametrize(
    ("module", "settings", "message"),
    [
        (foreign(), {"classes": 4}, r"logits of shape \(1, 4\) for one image; got shape \(1, 3\)"),
        (foreign(), {"shape": (3, 8, 8)}, r"take images of shape \(1, 3, 8, 8\); got the error"),
        (nn.Sequential(TwoOutputs()), {"embedding": "0"}, r"; got shape \(1, 1, 8, 8\)\. Return"),
        (Net(), {"embedding": "twice"}, r"runs exactly once .* got 'twice', which ran 2 times"),
        (Net(), {"embedding": "never"}, r"'never', which ran 0 times"),
        (Net(), {"embedding": "sideways"}, r"with the batch first.*of shape \(64, 1\)"),
        (foreign(), {"embedding": "5"}, r"Unknown embedding layer '5'"),
    ],
)
def test_modules_that_do_not_fit_are_refused(module, settings, message) -> None:
    with pytest.raises(ValueError, match=message):
        wrapped(module, **settings)
    assert not any(m._forward_hooks for m in module.modules())


def test_an_embedding_that_is_no_tensor_is_refused() -> None:
    with pytest.raises(TypeError, match=r"`output of layer 'pair'` must be a tensor; got tuple"):
        wrapped(Net(), "pair")


def test_logits_that_are_not_finite_are_refused() -> None:
    module = foreign()
    nn.init.constant_(module[4].bias, float("nan"))
    with pytest.raises(ValueError, match=r"must return finite logits; got NaN"):
        wrapped(module)


def test_capture_collects_and_takes_its_hooks_off() -> None:
    module = foreign()
    x = torch.rand(2, 64, requires_grad=True)
    with capture(module, ["1", "4"]) as found:
        out = module(x)
    assert set(found) == {"1", "4"}
    assert torch.equal(found["4"], out)
    assert found["1"].requires_grad
    assert not any(m._forward_hooks for m in module.modules())


def test_capture_takes_its_hooks_off_after_an_exception() -> None:
    module = foreign()
    with pytest.raises(RuntimeError), capture(module, ["1"]):
        module(torch.rand(2, 5))
    assert not any(m._forward_hooks for m in module.modules())


def test_capture_refuses_unknown_layers_and_other_outputs() -> None:
    with pytest.raises(ValueError, match=r"Unknown layer 'twicce'. Did you mean 'twice'"):
        capture(Net(), ["twicce"]).__enter__()
    net = Net()
    with pytest.raises(TypeError, match=r"layer 'pair'"), capture(net, ["pair"]):
        net(torch.rand(1, *SHAPE))


def test_layer_names() -> None:
    assert layer_names(foreign()) == ["0", "1", "2", "3", "4"]
    assert "trunk.0" in layer_names(build("cnn", shape=SHAPE, classes=3, seed=0).body)


def test_prepare_moves_the_model_itself() -> None:
    model = build("cnn", shape=(3, 8, 8), classes=3, seed=0, options={"width": 4})
    x = torch.rand(2, 3, 8, 8)
    before = model(x)
    assert prepare(model, "cpu") is model
    assert model.body.trunk[2].weight.is_contiguous()
    prepare(model, "cpu", channels_last=True)
    assert model.body.trunk[2].weight.is_contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(model(x), before)
    assert model.device == torch.device("cpu")
    large = prepare(build("cnn", shape=(1, 28, 28), classes=3, seed=0), "cpu")
    assert large.body.trunk[2].weight.is_contiguous(memory_format=torch.channels_last)
    prepare(large, "cpu", channels_last=False)


@pytest.mark.parametrize("asked", [None, True])
def test_prepare_never_lays_out_what_torch_would_abort_on(asked) -> None:
    """Strided 1 x 1 convolutions of few channels: training them so kills the process."""
    narrow = build("resnet8", shape=(1, 28, 28), classes=3, seed=0, options={"width": 2})
    convolutions = [m for m in narrow.modules() if isinstance(m, nn.Conv2d)]
    narrow.to(memory_format=torch.channels_last)  # as its owner had it
    assert any(not m.weight.is_contiguous() for m in convolutions)
    prepare(narrow, "cpu", channels_last=asked)
    assert all(m.weight.is_contiguous() for m in convolutions)


def test_half_lowers_the_precision_and_returns_float32() -> None:
    model = build("mlp", shape=SHAPE, classes=3, seed=0, options={"width": 16})
    x = torch.rand(4, *SHAPE)
    assert half(model, "float32") is model
    lowered = half(model.embed, "bf16")(x)
    assert lowered.dtype == torch.float32
    assert not torch.equal(lowered, model.embed(x))
    torch.testing.assert_close(lowered, model.embed(x), rtol=0.05, atol=0.05)
