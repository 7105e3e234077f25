"""Nets that know what images look like do, after a short training, and files keep them."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from notbugs.core.errors import DataError, TrainingError
from notbugs.data import load_source, safefile, split
from notbugs.models import build, save
from notbugs.models.denoiser import Denoiser
from notbugs.models.generator import ImageGenerator
from notbugs.models.prior_files import load_prior, save_prior
from notbugs.training.image_priors import (
    principal_components,
    train_denoiser,
    train_generator,
)

PARTS = split(load_source("digits"), seed=0)


@pytest.fixture(scope="module")
def denoiser():
    return train_denoiser(PARTS.train, epochs=20, width=8, seed=0)


@pytest.fixture(scope="module")
def generator():
    return train_generator(PARTS.train, epochs=40, width=16, seed=0)


def rms(x):
    return float(x.square().mean().sqrt())


def test_a_denoiser_takes_most_of_the_noise_away(denoiser) -> None:
    x = PARTS.val.pixels()
    noise = torch.randn(x.shape, generator=torch.Generator().manual_seed(0))
    noisy = x + 0.3 * noise
    # Clipping to [0, 1] alone takes a quarter away; the net must beat that by far.
    assert rms(denoiser(noisy) - x) < 0.75 * rms(noisy.clamp(0, 1) - x)
    assert not denoiser.training
    assert not any(p.requires_grad for p in denoiser.parameters())


def test_a_generator_says_images_by_few_numbers(generator) -> None:
    x = PARTS.val.pixels()
    mean = PARTS.train.pixels().mean(dim=0)
    assert rms(generator(x) - x) < 0.65 * rms(mean - x)
    code, _ = generator.encode(x)
    assert code.shape == (len(x), generator.width)
    assert 0.5 < float(code.std()) < 1.2  # near N(0, I)
    assert abs(float(code.mean())) < 0.2


def test_a_plain_autoencoder_keeps_more_than_as_many_principal_components() -> None:
    x, train = PARTS.val.pixels(), PARTS.train
    linear = principal_components(train, codes=8)
    assert rms(linear.decode(linear.code(x)) - linear(x)) == 0
    values = torch.linalg.eigvalsh(train.pixels().flatten(1).double().T.cov())
    left = (linear(train.pixels()) - train.pixels()).flatten(1).double().square().sum(dim=1).mean()
    n = len(train)
    torch.testing.assert_close(left, values[:-8].sum() * (n - 1) / n, rtol=1e-3, atol=0)
    for layers in ("convolutional", "dense"):
        net = train_generator(train, codes=8, epochs=40, width=16, layers=layers, beta=0.0, seed=0)
        assert rms(net(x) - x) < rms(linear(x) - x)
        assert torch.equal(net.decode(net.code(x)), net(x))


def test_the_same_seed_gives_the_same_weights() -> None:
    few = PARTS.train.select(slice(0, 64))
    for make in (train_denoiser, train_generator):
        a, b, c = (make(few, epochs=1, width=4, seed=seed) for seed in (1, 1, 2))
        states = [torch.cat([v.flatten() for v in net.state_dict().values()]) for net in (a, b, c)]
        assert torch.equal(states[0], states[1])
        assert not torch.equal(states[0], states[2])


@pytest.mark.parametrize("shape", [(1, 7, 9), (3, 4, 4), (2, 13, 6)])
@pytest.mark.parametrize("layers", ["convolutional", "dense"])
@pytest.mark.parametrize("upsample", ["resize", "transposed", "uneven"])
def test_any_size_goes_in_and_comes_out(shape, upsample, layers) -> None:
    x = torch.rand(2, *shape)
    assert torch.equal(Denoiser(shape, width=4, seed=0)(x), x)  # it begins as the identity
    net = ImageGenerator(shape, codes=3, width=4, upsample=upsample, layers=layers, seed=0)
    made = net.decode(torch.randn(2, 3)).detach()
    assert made.shape == x.shape
    assert 0 <= float(made.min()) <= float(made.max()) <= 1
    assert net(x).shape == x.shape


def test_files_keep_them(tmp_path: Path, denoiser, generator) -> None:
    x = PARTS.val.pixels()[:3]
    dense = ImageGenerator((1, 8, 8), codes=3, width=4, layers="dense", seed=0)
    for net in (denoiser, generator, dense, principal_components(PARTS.train, codes=3)):
        save_prior(net, tmp_path / "net.safetensors")
        again = load_prior(tmp_path / "net.safetensors")
        assert type(again) is type(net)
        assert torch.equal(again(x), net(x))
        assert not any(p.requires_grad for p in again.parameters())
    save(build("linear", shape=(1, 8, 8), classes=3, seed=0), tmp_path / "model.safetensors")
    with pytest.raises(DataError, match="holds no denoiser or generator of notbugs"):
        load_prior(tmp_path / "model.safetensors")
    with pytest.raises(DataError, match="No weights file"):
        load_prior(tmp_path / "nothing.safetensors")


@pytest.mark.parametrize("of_others", [False, True])
@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t.view(torch.int32), "of another dtype: "),
        (lambda t: t * torch.nan, "NaN or infinite: "),
        (lambda t: t[None], "of another shape: "),
    ],
)
def test_files_whose_tensors_are_not_theirs_are_refused(tmp_path: Path, denoiser, change, message,
                                                        of_others) -> None:  # fmt: skip
    path = tmp_path / "net.safetensors"
    save_prior(denoiser, path)
    tensors, metadata = safefile.read_tensors(path)
    name = next(iter(tensors))
    changed = tensors | {name: change(tensors[name]).contiguous()}
    if of_others:
        save_file(changed, path, metadata)
    else:
        safefile.write_tensors(path, changed, metadata)
    with pytest.raises(DataError, match=f"{message}{name}"):
        load_prior(path)


def test_bad_settings_are_refused() -> None:
    few = PARTS.train.select(slice(0, 64))
    with pytest.raises(ValueError, match="`noise` must be"):
        train_denoiser(few, noise=0.0, seed=0)
    with pytest.raises(ValueError, match="`codes` must be at least 1"):
        train_generator(few, codes=0, seed=0)
    with pytest.raises(ValueError, match="Unknown layers 'conv'"):
        train_generator(few, layers="conv", seed=0)
    with pytest.raises(ValueError, match="`beta` must be"):
        train_generator(few, beta=-1.0, seed=0)
    for codes in (0, 65):
        with pytest.raises(ValueError, match="`codes` must be"):
            principal_components(few, codes=codes)
    with pytest.raises(ValueError, match="number of images, 5"):
        principal_components(few.select(slice(0, 5)), codes=6)
    with pytest.raises(ValueError, match="Unknown upsample 'bilinear'"):
        train_generator(few, upsample="bilinear", seed=0)
    with pytest.raises(TrainingError, match=r"The loss is .* Lower `lr`"):
        train_denoiser(few, lr=1e30, epochs=3, seed=0)
