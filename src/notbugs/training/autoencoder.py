"""Pretraining of features by a sparse autoencoder, which are then frozen."""

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from notbugs.core.errors import bad_value, check_positive
from notbugs.core.types import Images
from notbugs.data import ImageData
from notbugs.models import Classifier, prepared
from notbugs.models.initial import seeded
from notbugs.models.layers import Body
from notbugs.training.fitting import fit

TINY = 1e-6


@prepared()
def pretrain(
    model: Classifier,
    data: ImageData,
    *,
    epochs: int = 20,
    lr: float = 1e-3,
    batch_size: int = 100,
    sparsity: float = 0.05,
    weight: float = 0.1,
    seed: int,
    progress: Callable[[float], None] = lambda fraction: None,
) -> nn.Linear:
    """Trains the model's trunk as the encoder of an autoencoder, then freezes it.

    Minimises, by Adam, the cross-entropy of the pixels (nats per pixel) with their
    reconstruction from the embedding by a linear decoder and a sigmoid, plus `weight` times the
    mean KL divergence of each unit's average activity from `sparsity`. Afterwards the trunk's
    parameters need no gradient, so `train` learns the head alone. Returns the decoder.

    - `model`: with an embedding in [0, 1], e.g. "fc" with hidden "400" and "sigmoid"
    - `sparsity`: target for a unit's average activity, 0..1; `weight`: of the divergence from it

    **Source**: Szegedy et al. 2013 (arXiv 1312.6199), section 3: AE400-10, a sparse
    autoencoder with sigmoids whose layer is not tuned further. Its settings are not given;
    these are ours.

    **Raises** ValueError for a model whose embedding leaves [0, 1] or that has no trunk, and
    for numbers out of range.
    """
    check_positive(weight, "weight")
    if not 0 < sparsity < 1:
        raise bad_value("sparsity", "lie in (0, 1)", sparsity)
    if not isinstance(model.body, Body) or model.embedding != "trunk":
        raise bad_value("model", "have a trunk and a head, as built-in models do", model.embedding)
    _check_embedding(model, data)
    trunk = model.body.trunk
    width = model.embed(data.pixels(torch.arange(1)).to(model.device)).shape[1]
    with seeded(seed, "decoder"):
        decoder = nn.Linear(width, math.prod(model.shape)).to(model.device)

    def loss_of(x: Images, place: tuple[int, int]) -> Tensor:
        code = model.embed(x)
        loss = F.binary_cross_entropy_with_logits(decoder(code), x.flatten(1))
        return loss + weight * _sparsity_penalty(code, sparsity)

    model.train()
    fit(
        [*trunk.parameters(), *decoder.parameters()],
        loss_of,
        data,
        epochs=epochs,
        lr=lr,
        batch_size=batch_size,
        seed=seed,
        device=model.device,
        decay=False,
        progress=progress,
    )
    model.eval()
    trunk.requires_grad_(False)
    return decoder


def _sparsity_penalty(code: Tensor, target: float) -> Tensor:
    """Mean over units of KL(target || average activity), []."""
    active = code.mean(dim=0).clamp(TINY, 1 - TINY)
    on = target * (target / active).log()
    off = (1 - target) * ((1 - target) / (1 - active)).log()
    return (on + off).mean()


def _check_embedding(model: Classifier, data: ImageData) -> None:
    few = data.pixels(torch.arange(min(len(data), 8))).to(model.device)
    with torch.no_grad():
        code = model.embed(few)
    if float(code.min()) < 0 or float(code.max()) > 1:
        raise bad_value(
            "model",
            "have an embedding in [0, 1]",
            f"values from {float(code.min()):.3g} to {float(code.max()):.3g}",
            'Use build("fc", options={"hidden": "400", "activation": "sigmoid"}).',
        )
