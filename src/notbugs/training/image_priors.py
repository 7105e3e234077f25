"""Training of image priors: a denoiser, a generator, and principal components."""

import math
from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

from notbugs.core import random
from notbugs.core.errors import bad_value, check_positive
from notbugs.core.types import Images
from notbugs.data import ImageData
from notbugs.models.denoiser import Denoiser
from notbugs.models.generator import ImageGenerator
from notbugs.models.principal import PrincipalComponents
from notbugs.training.fitting import fit


def train_denoiser(
    data: ImageData,
    *,
    noise: float = 0.3,
    epochs: int = 30,
    lr: float = 2e-3,
    batch_size: int = 64,
    width: int = 16,
    seed: int,
    device: torch.device | str = "cpu",
    progress: Callable[[float], None] = lambda fraction: None,
) -> Denoiser:
    """Trains a denoising autoencoder of the images: minimises ||D(x + s e) - x||^2.

    - `noise`: the largest standard deviation of the Gaussian noise (pixel units of [0, 1]); that
      of each image is drawn from U[0, noise]
    - `width`: see `Denoiser`; `seed`: of the weights, the order and the noise

    The net is returned in eval mode, without parameter gradients.

    **Raises** ValueError for numbers out of range; TrainingError for a loss that is not finite.
    **Source**: Vincent et al. 2008; as a prior, Nguyen et al. 2017 (arXiv 1612.00005).
    """
    check_positive(noise, "noise")
    net = Denoiser(data.shape, width=width, seed=seed).to(device)

    def loss_of(x: Images, place: tuple[int, int]) -> Tensor:
        keys = random.row_keys(len(x), seed, "noise", *place, device=x.device)
        spread = noise * random.scalar(random.fold(keys, "spread")).to(x)
        noisy = x + spread[:, None, None, None] * random.normal(keys, x.shape[1:]).to(x)
        return F.mse_loss(net.reconstructed(noisy), x)

    fit(
        net.parameters(),
        loss_of,
        data,
        epochs=epochs,
        lr=lr,
        batch_size=batch_size,
        seed=seed,
        device=torch.device(device),
        progress=progress,
    )
    return net.eval().requires_grad_(False)


def train_generator(
    data: ImageData,
    *,
    codes: int = 16,
    noise: float = 0.2,
    epochs: int = 40,
    lr: float = 1e-3,
    batch_size: int = 64,
    width: int = 32,
    upsample: str = "resize",
    layers: str = "convolutional",
    beta: float = 1.0,
    seed: int,
    device: torch.device | str = "cpu",
    progress: Callable[[float], None] = lambda fraction: None,
) -> ImageGenerator:
    """Trains a variational autoencoder of the images.

    Minimises ||x - decoded||^2 / (2 noise^2) + beta KL(code || N(0, I)) for each image: less noise
    gives sharper images, and codes further from N(0, I).

    - `noise`: standard deviation of the decoder's pixels, pixel units of [0, 1]
    - `codes`, `width`, `upsample`, `layers`: see `ImageGenerator`; `seed`: of the weights, the
      order and the codes that are drawn
    - `beta`: weight of the divergence; 0 trains a plain autoencoder, whose codes are not drawn

    The net is returned in eval mode, without parameter gradients.

    **Raises** ValueError for numbers out of range; TrainingError for a loss that is not finite.
    **Source**: Kingma & Welling 2013 (arXiv 1312.6114), equation 10 and Appendix C.2.
    """
    check_positive(noise, "noise")
    if not 0 <= beta < math.inf:
        raise bad_value("beta", "be a finite number of at least 0", beta)
    net = ImageGenerator(
        data.shape, codes=codes, width=width, upsample=upsample, layers=layers, seed=seed
    )
    net = net.to(device)

    def loss_of(x: Images, place: tuple[int, int]) -> Tensor:
        mean, log_variance = net.encode(x)
        if not beta:
            return F.mse_loss(net.decode(mean), x) / (2 * noise**2)
        keys = random.row_keys(len(x), seed, "codes", *place, device=x.device)
        code = mean + (log_variance / 2).exp() * random.normal(keys, (codes,)).to(x)
        error = F.mse_loss(net.decode(code), x) / (2 * noise**2)
        kl = (log_variance.exp() + mean.square() - 1 - log_variance).sum(dim=1).mean() / 2
        return error + beta * kl / x[0].numel()

    fit(
        net.parameters(),
        loss_of,
        data,
        epochs=epochs,
        lr=lr,
        batch_size=batch_size,
        seed=seed,
        device=torch.device(device),
        progress=progress,
    )
    return net.eval().requires_grad_(False)


@torch.no_grad()
def principal_components(data: ImageData, *, codes: int = 16) -> PrincipalComponents:
    """The directions in which images vary most, as an encoder and a decoder.

    - `codes`: how many, at most the images and the pixels

    **Raises** ValueError for fewer than one, and for more.
    """
    net = PrincipalComponents(data.shape, codes=codes)
    if codes > len(data) or len(data) < 2:
        most = f"be at most the number of images, {len(data)}, which are at least two"
        raise bad_value("codes", most, codes)
    x = data.pixels().flatten(1).double()
    net.center.copy_(x.mean(dim=0))
    # The last eigenvectors are those of the largest eigenvalues.
    net.basis.copy_(torch.linalg.eigh(x.T.cov())[1].T.flip(0)[:codes])
    return net.eval()
