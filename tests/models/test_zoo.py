from pathlib import Path

import pytest
import torch

from notbugs.core.random import generator
from notbugs.models import ARCHITECTURES, build, default_options, frozen, load, save

NARROW = {
    "linear": {},
    "mlp": {"width": 8},
    "cnn": {"width": 2, "hidden": 8},
    "resnet8": {"width": 2},
    "resnet18": {"width": 2},
    "resnet50": {"width": 1},
    "vgg16": {"width": 2},
    "densenet": {"depth": 10, "growth": 3},
    "inception": {"width": 6},
    "wide": {"depth": 10, "widen": 1},
    "dm_wide": {"depth": 10, "widen": 1},
    "fc": {"hidden": "8-6", "activation": "tanh"},
    "maxout": {"units": 40},
    "rbf": {"units": 8},
    "carlini": {"width": 2, "hidden": 8},
    "strided": {"width": 2, "hidden": 8},
    "conv_maxout": {"units": 2, "hidden": 8},
    "vit": {"width": 12, "depth": 1},
    "airbench": {"width": 4, "wide": 6},
}
SHAPES = [(1, 8, 8), (1, 28, 28), (3, 32, 32)]
every = pytest.mark.parametrize("name", sorted(ARCHITECTURES))


def narrow(name, shape=(1, 8, 8), seed=0, classes=4):
    return build(name, shape=shape, classes=classes, seed=seed, options=NARROW[name])


def images(shape=(1, 8, 8), n=3):
    return torch.rand(n, *shape, generator=generator("images"))


def test_every_architecture_is_tested() -> None:
    assert set(NARROW) == set(ARCHITECTURES)


@every
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_logits_and_embedding_agree(name, shape) -> None:
    model = narrow(name, shape).eval()
    x = images(shape)
    logits, embedding = model.both(x)
    assert logits.shape == (3, 4)
    assert embedding.shape == (3, model.body.head.in_features)
    assert torch.equal(model(x), logits)
    assert torch.equal(model.logits(x), logits)
    assert torch.equal(model.embed(x), embedding)
    assert torch.equal(model.body.head(embedding), logits)
    assert bool(torch.isfinite(logits).all())


@every
def test_embedding_never_runs_the_head(name) -> None:
    model = narrow(name).eval()
    model.body.head.register_forward_hook(lambda *_: pytest.fail("the head ran"))
    assert len(model.embed(images())) == 3


@every
def test_an_empty_batch_gives_empty_logits(name) -> None:
    model = narrow(name).eval()
    assert model(images(n=0)).shape == (0, 4)
    assert len(model.embed(images(n=0))) == 0


@every
def test_gradients_reach_the_images_and_not_the_parameters(name) -> None:
    model = narrow(name)
    x = images().requires_grad_()
    with frozen(model):
        (by_logits,) = torch.autograd.grad(model(x)[:, 0].sum(), x)
        (by_embedding,) = torch.autograd.grad(model.embed(x).square().sum(), x)
    for grad in (by_logits, by_embedding):
        assert bool((grad.flatten(1).abs().sum(1) > 0).all())
    assert all(p.grad is None for p in model.parameters())


@every
def test_rows_do_not_depend_on_their_batch_in_eval_mode(name) -> None:
    model = narrow(name).eval().double()
    x = images().double()
    single = torch.cat([model(row) for row in x.split(1)])
    torch.testing.assert_close(model(x), single, rtol=1e-9, atol=1e-9)


@every
def test_saved_weights_give_the_same_bits(name, tmp_path: Path) -> None:
    model = narrow(name)
    model.train()(images(n=8))  # batch statistics must travel too
    path = tmp_path / "model.safetensors"
    save(model.eval(), path)
    again, _ = load(path)
    assert not again.training
    assert torch.equal(again(images()), model(images()))
    assert again.options == model.options


@every
def test_seeds_decide_the_weights_and_nothing_else_is_reseeded(name) -> None:
    torch.rand(1)
    before = torch.get_rng_state()
    first, same, other = (narrow(name, seed=seed) for seed in (0, 0, 1))
    assert torch.equal(torch.get_rng_state(), before)
    for key, value in first.state_dict().items():
        assert torch.equal(same.state_dict()[key], value)
    assert not torch.equal(other.body.head.weight, first.body.head.weight)


def test_weights_do_not_depend_on_the_callers_random_state() -> None:
    models = []
    for draws in (1, 7):
        torch.rand(draws)
        models.append(narrow("cnn"))
    assert torch.equal(models[0].body.head.weight, models[1].body.head.weight)


@every
def test_activations_keep_their_scale_at_the_start(name) -> None:
    model = narrow(name).train()  # with batch statistics, as in the first training step
    assert 0.01 < float(model(images(n=16)).detach().std()) < 30


@pytest.mark.parametrize(
    ("name", "options", "expected"),
    [
        ("resnet18", {}, 11_173_962),  # the usual CIFAR ResNet-18
        ("densenet", {}, 176_122),  # 0.18 M for DenseNet-BC (L=40, k=12)
        ("inception", {}, 1_649_402 + 1_712),  # arXiv:1611.03530 table 1, plus norm scales
        ("wide", {"depth": 16, "widen": 4}, 2_748_890),  # 2.7 M in arXiv:1605.07146 table 3
        ("dm_wide", {}, 36_479_194),  # as RobustBench's WRN-28-10 of DeepMind
        ("carlini", {"width": 64, "hidden": 256}, 1_147_978),  # table I of arXiv:1608.04644
    ],
)
def test_sizes_are_the_published_ones(name, options, expected) -> None:
    model = build(name, shape=(3, 32, 32), classes=10, seed=0, options=options)
    assert sum(p.numel() for p in model.parameters()) == expected


def test_cnn_halves_images_until_they_are_seven_by_seven() -> None:
    def strides(size):
        model = build("cnn", shape=(1, size, size), classes=2, seed=0, options={"width": 1})
        return [m.stride[0] for m in model.modules() if isinstance(m, torch.nn.Conv2d)]

    assert strides(4) == [1, 1]
    assert strides(8) == [1, 2, 1]
    assert strides(28) == [1, 2, 2, 1]
    assert strides(32) == [1, 2, 2, 2, 1]


def test_unequal_height_and_width() -> None:
    assert narrow("cnn", (2, 5, 12))(images((2, 5, 12))).shape == (3, 4)


def test_options_are_recorded_with_their_defaults() -> None:
    assert default_options("cnn") == {"width": 32, "hidden": 64, "down": "stride"}
    model = build("cnn", shape=(1, 8, 8), classes=4, seed=0, options={"width": 2})
    assert model.options == {"width": 2, "hidden": 64, "down": "stride"}
    assert model.architecture == "cnn"


def test_unknown_architecture_suggests_the_nearest() -> None:
    with pytest.raises(ValueError, match=r"Unknown architecture 'resnet19'. Did you mean 'resnet1"):
        build("resnet19", shape=(1, 8, 8), classes=4, seed=0)


def test_unknown_option_suggests_the_nearest() -> None:
    with pytest.raises(ValueError, match=r"option of 'cnn' 'widht'. Did you mean 'width'"):
        build("cnn", shape=(1, 8, 8), classes=4, seed=0, options={"widht": 2})


@pytest.mark.parametrize("name", ["densenet", "wide", "dm_wide"])
@pytest.mark.parametrize("depth", [4, 11])
def test_impossible_depths_are_refused(name, depth) -> None:
    with pytest.raises(ValueError, match=r"`depth` must be 6 \* n \+ 4"):
        build(name, shape=(1, 8, 8), classes=4, seed=0, options={"depth": depth})


@pytest.mark.parametrize("name", sorted(set(ARCHITECTURES) - {"linear", "fc"}))
def test_options_below_one_are_refused(name) -> None:
    option = next(iter(NARROW[name]))
    with pytest.raises(ValueError, match=f"`{option}` must be at least 1"):
        build(name, shape=(1, 8, 8), classes=4, seed=0, options={option: 0})


def test_options_of_another_type_are_refused() -> None:
    model = {"name": "cnn", "shape": (1, 8, 8), "classes": 4, "seed": 0}
    with pytest.raises(Exception, match=r"width"):
        build(**model, options={"width": 2.5})


@pytest.mark.parametrize("name", ARCHITECTURES)
@pytest.mark.parametrize(
    ("classes", "said"),
    [
        (-1, "`classes` must be at least 2; got -1"),
        (0, "`classes` must be at least 2"),
        (10**9, "`classes` must be at most 100,000; got 1,000,000,000"),
    ],
)
def test_a_number_of_classes_that_cannot_be(name: str, classes: int, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        build(name, shape=(3, 32, 32), classes=classes, seed=0)


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_a_network_beyond_all_measure_is_refused_before_it_is_made(name: str) -> None:
    for option, value in default_options(name).items():
        if isinstance(value, int):
            with pytest.raises(
                ValueError, match=rf"`{option}` must be at most [\d,]+; got 10,000,"
            ):
                build(name, shape=(3, 32, 32), classes=10, seed=0, options={option: 10**7})


def test_a_network_beyond_memory_is_refused_before_it_is_made() -> None:
    with pytest.raises(ValueError, match=r"network 'mlp' that fits into memory; got .* GB"):
        build("mlp", shape=(3, 32, 32), classes=10, seed=0, options={"width": 65_536, "depth": 99})
    with pytest.raises(ValueError, match=r"network 'linear' that fits into memory"):
        build("linear", shape=(1, 9_999, 9_999), classes=99_999, seed=0)
    with pytest.raises(ValueError, match=r"`shape` must hold at most 100,000,000 values"):
        build("linear", shape=(3, 10**10, 10**10), classes=10, seed=0)
