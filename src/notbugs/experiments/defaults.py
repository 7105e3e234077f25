"""The defaults of `notbugs train`: the experiment's settings, or better ones.

The experiment's settings determine its published numbers and do not change; a model that is
trained on its own may use others.
"""

from dataclasses import replace

import torch

from notbugs.engine import Threat
from notbugs.experiments.config import Config, config_for
from notbugs.experiments.model_training import Net
from notbugs.models.folded_copy import has_bf16
from notbugs.training import Adversary, Recipe, named

MARGIN = 1.1
"""The training radius as a multiple of the requested one on MNIST in Linf: a margin for attacks
that are stronger than those of training."""

# Chosen on 300 held-out validation images of seed 0, by the standard evaluation at linf:0.3.
# Both warm-ups are long because, with the first epoch at 0.14 and the rate at its peak, the net was
# still at chance after it.
_MNIST_LINF = Recipe(
    epochs=20,
    batch_size=128,
    lr=0.05,
    weight_decay=1e-4,
    warmup=0.2,
    watch_every=2,
    adversary=Adversary("linf:0.3", steps=5, eps_warmup=0.5),
)


_MNIST_NET = Net("strided", (("width", 32), ("hidden", 256)))
"""Robustness at this radius needs capacity: robust accuracy was 93.0 %, and 90.8 % at half the
width (500 held-out images)."""


_DIGITS_NET = Net("cnn", (("width", 32), ("hidden", 64)))
"""Twice the experiment's width, which trains so many nets that it takes less."""


def training_config(
    data: str, threat: str | None = None, device: str = "cpu", recipe: str = "standard"
) -> Config:
    """The settings at which a model is trained on `data`, for a threat `norm:eps` or none.

    Those of the experiment on a laptop (on digits a wider net), and for CIFAR on a GPU those of the
    experiment there. The
    recipe "airbench" brings its own net and all images (a tenth held out). For MNIST in Linf all
    images and a strided net, for which a step of PGD costs little. Both are in bf16 where `device`
    computes with it (0.6 of the time of float32 on two cores); the recipe, and so the weights'
    file, says which it was.

    **Raises** ValueError for an unknown dataset or a threat that cannot be read.
    """
    large = device.startswith("cuda") and data.startswith("cifar")
    config = config_for(data, "gpu" if large else "laptop")
    precision = "bf16" if has_bf16(torch.device(device)) else "float32"
    if recipe == "airbench":
        standard = replace(config.standard, precision=precision)
        return replace(config, train_size=None, net=Net("airbench"), standard=standard)
    if data == "digits":
        return replace(config, net=_DIGITS_NET)
    if not _is_mnist_linf(data, threat):
        return config
    return replace(
        config,
        train_size=None,
        net=_MNIST_NET,
        robust=replace(_MNIST_LINF, precision=precision),
    )


def training_recipe(config: Config, name: str, threat: str | None = None) -> Recipe:
    """The recipe of that name at those settings, for a threat `norm:eps` or the settings' own.

    For MNIST in Linf, it trains at `MARGIN` times the radius and watches at the radius itself.

    **Raises** ValueError for an unknown name, and for a threat that the recipe has no use for.
    """
    if threat is None or not _is_mnist_linf(config.data, threat):
        return named(name, config.standard, config.robust, threat)
    evaluated = Threat.parse(threat)
    trained = Threat(evaluated.norm, min(1.0, MARGIN * evaluated.eps))
    recipe = named(name, config.standard, config.robust, str(trained))
    return replace(recipe, watch_threat=str(evaluated))


def _is_mnist_linf(data: str, threat: str | None) -> bool:
    return data == "mnist" and threat is not None and Threat.parse(threat).norm.name == "linf"
