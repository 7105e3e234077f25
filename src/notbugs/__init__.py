"""Adversarial examples as features: which features does a model use, and which of them break?

>>> import notbugs as nb
>>> parts = nb.split(nb.load_source("digits"), seed=0)
>>> model = nb.build("cnn", shape=parts.train.shape, classes=10, seed=0)
>>> x, y = parts.test.pixels(slice(0, 8)), parts.test.labels[:8]
>>> result = nb.attack(model, x, y, "apgd", "linf:8/255")

The names below, and the packages of `PACKAGES`, are loaded when they are first used, so that
importing the package is quick. All attacks are in `nb.attacks`.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from notbugs import (  # noqa: I001 (aliases: these names are meant to be there)
        analysis as analysis,
        attacks as attacks,
        data as data,
        engine as engine,
        features as features,
        judge as judge,
        models as models,
        perception as perception,
        photo as photo,
        representations as representations,
        theory as theory,
        training as training,
        zoo as zoo,
    )
    from notbugs.attacks import Attack, AttackResult, fgsm, pgd
    from notbugs.attacks.named import attack
    from notbugs.data import ImageData, load, load_source, save, split
    from notbugs.engine import L0, L1, L2, Linf, Solver, Threat
    from notbugs.features import inverted_set, leakage_control, targeted_set
    from notbugs.judge import compare, evaluate
    from notbugs.models import Classifier, build, save_model, wrap
    from notbugs.training import Adversary, Recipe, train
    from notbugs.zoo import load_model

__version__ = "0.1.0"

PACKAGES = (
    "analysis",
    "attacks",
    "data",
    "engine",
    "features",
    "judge",
    "models",
    "perception",
    "photo",
    "representations",
    "theory",
    "training",
    "zoo",
)
"""What is reached as `nb.attacks` after `import notbugs as nb`."""

__all__ = [
    "L0",
    "L1",
    "L2",
    "Adversary",
    "Attack",
    "AttackResult",
    "Classifier",
    "ImageData",
    "Linf",
    "Recipe",
    "Solver",
    "Threat",
    "attack",
    "attacks",
    "build",
    "compare",
    "evaluate",
    "fgsm",
    "inverted_set",
    "leakage_control",
    "load",
    "load_model",
    "load_source",
    "pgd",
    "save",
    "save_model",
    "split",
    "targeted_set",
    "train",
    "wrap",
]

_EXPORTS = {
    "attacks": ("Attack", "AttackResult", "fgsm", "pgd"),
    "attacks.named": ("attack",),
    "data": ("ImageData", "load", "load_source", "save", "split"),
    "engine": ("L0", "L1", "L2", "Linf", "Solver", "Threat"),
    "features": ("inverted_set", "leakage_control", "targeted_set"),
    "judge": ("compare", "evaluate"),
    "models": ("Classifier", "build", "save_model", "wrap"),
    "training": ("Adversary", "Recipe", "train"),
    "zoo": ("load_model",),
}
_HOME = {name: package for package, names in _EXPORTS.items() for name in names}


def __getattr__(name: str) -> Any:
    if name in PACKAGES:
        return import_module(f"notbugs.{name}")  # which sets the attribute
    if name not in _HOME:
        raise AttributeError(f"module 'notbugs' has no attribute '{name}'")
    found = getattr(import_module(f"notbugs.{_HOME[name]}"), name)
    globals()[name] = found  # the next look-up does not come here
    return found


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__, *PACKAGES})
