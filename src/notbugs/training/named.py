"""Training recipes by name, each applied to a dataset's settings."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from types import MappingProxyType

from notbugs.core.errors import bad_value, unknown_name
from notbugs.data import Augment
from notbugs.engine import Threat
from notbugs.training.adversary import Adversary
from notbugs.training.awp import Awp
from notbugs.training.free import Free
from notbugs.training.hidden import HiddenLayer
from notbugs.training.mart import Mart
from notbugs.training.nfgsm import NoisyStep
from notbugs.training.noise import KINDS, Noise
from notbugs.training.objective import Mixed, Plain
from notbugs.training.penalty import L1Decay, L2Decay, Lipschitz
from notbugs.training.reactive import Rotation, ScaledGradient
from notbugs.training.recipe import Recipe
from notbugs.training.temperature import AtTemperature
from notbugs.training.trades import Trades

AIRBENCH = Recipe(
    epochs=10,
    batch_size=1024,
    lr=1.5,
    momentum=0.85,
    weight_decay=1.33e-3,
    norm_bias_times=64.0,
    warmup=0.23,
    decay="triangle",
    augment=Augment(crop_padding=2, flip=True, padding="reflect", alternate=True),
    objective=Plain(smoothing=0.2),
    average=0.95,
)
"""CIFAR-10 in seconds on a GPU, with the architecture `airbench`.

**Source**: Jordan 2024 (arXiv 2404.00498) and the code published with it: the learning rate is
11.5 over 1 + 1 / (1 - momentum); the weight decay is 0.0153 / 11.5, as torch multiplies it by the
learning rate.
**Differs from the paper**: 10 epochs for 9.9, and a moving average of the weights at the end where
the paper's Lookahead also changes the weights in training.
"""
REPLAYS = 4
"""Replays in free training; the epochs are divided by it."""


def _pgd(base: Recipe, pgd: Adversary) -> Recipe:
    return replace(base, adversary=pgd)


def _fgsm(base: Recipe, pgd: Adversary) -> Recipe:
    one = replace(pgd, steps=1, step_size=None, random_start=False, train_mode=True)
    return replace(base, adversary=one, objective=Mixed())


def _fast(base: Recipe, pgd: Adversary) -> Recipe:
    """One step of 1.25 eps from a uniform point of the ball, projected onto ball and box.

    **Source**: Wong et al. 2020 (arXiv 2001.03994), Algorithm 3.
    **Differs from the paper**: of the start and the image after the step, that of higher loss
    is trained on; crafted in eval mode, as all PGD here; the dataset's learning rates and
    warm-up of eps instead of a cyclic rate, so that recipes differ in their attack alone.
    """
    eps = Threat.parse(pgd.threat).eps
    return replace(base, adversary=replace(pgd, steps=1, step_size=1.25 * eps))


def _free(base: Recipe, pgd: Adversary) -> Recipe:
    epochs = max(1, round(base.epochs / REPLAYS))
    return replace(base, epochs=epochs, adversary=pgd, objective=Free(REPLAYS))


def _noise(kind: str) -> Callable[[Recipe, Adversary], Recipe]:
    return lambda base, pgd: replace(base, adversary=Noise(pgd.threat, pgd.eps_warmup, kind=kind))


ADVERSARIAL: Mapping[str, Callable[[Recipe, Adversary], Recipe]] = MappingProxyType(
    {
        "pgd": _pgd,
        "fgsm": _fgsm,
        "fast": _fast,
        "n-fgsm": lambda base, pgd: replace(base, adversary=NoisyStep(pgd.threat, pgd.eps_warmup)),
        "free": _free,
        "trades": lambda base, pgd: replace(base, adversary=pgd, objective=Trades()),
        "mart": lambda base, pgd: replace(base, adversary=pgd, objective=Mart()),
        "awp": lambda base, pgd: replace(base, adversary=pgd, awp=Awp()),
        "scaled-gradient": lambda base, pgd: replace(
            base, adversary=ScaledGradient(pgd.threat, pgd.eps_warmup)
        ),
        "rotation": lambda base, pgd: replace(base, adversary=Rotation(pgd.threat, pgd.eps_warmup)),
        "hidden": lambda base, pgd: replace(
            base, adversary=HiddenLayer(pgd.threat, pgd.eps_warmup)
        ),
        **{f"noise-{kind}": _noise(kind) for kind in KINDS},
    }
)
"""Name -> function of (settings, the dataset's PGD): the recipes with a threat."""

PLAIN: Mapping[str, Callable[[Recipe], Recipe]] = MappingProxyType(
    {
        "standard": lambda base: base,
        "airbench": lambda base: replace(AIRBENCH, precision=base.precision),
        "l1": lambda base: replace(base, penalties=(L1Decay(1e-5),)),
        "l2": lambda base: replace(base, penalties=(L2Decay(1e-3),), weight_decay=0.0),
        "lipschitz": lambda base: replace(base, penalties=(Lipschitz(1e-3),)),
        "distillation": lambda base: replace(base, objective=AtTemperature()),
    }
)
"""Name -> function of the settings: the recipes without a threat.

`distillation` trains both the teacher, on the labels, and the student, on the teacher's
probabilities (`soft_labels`); both start `with_temperature`.
"""

RECIPES = (*PLAIN, *ADVERSARIAL)


def named(name: str, standard: Recipe, robust: Recipe, threat: str | None = None) -> Recipe:
    """The recipe of that name on a dataset's settings.

    - `name`: one of `RECIPES`
    - `standard`, `robust`: the dataset's settings without and with an adversary
    - `threat`: replaces that of the robust settings

    **Raises** ValueError for an unknown name, and for a threat where the recipe has none.
    """
    if name in PLAIN:
        if threat is not None:
            raise bad_value(
                "threat",
                f"be left out with the recipe '{name}'",
                threat,
                f"Recipes with a threat: {', '.join(ADVERSARIAL)}.",
            )
        return PLAIN[name](standard)
    if name not in ADVERSARIAL:
        raise unknown_name("recipe", name, RECIPES)
    pgd = robust.adversary if isinstance(robust.adversary, Adversary) else Adversary()
    pgd = pgd if threat is None else replace(pgd, threat=str(Threat.parse(threat)))
    return ADVERSARIAL[name](robust, pgd)
