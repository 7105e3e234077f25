"""What the early papers found of training, on MNIST: adversarial training, noise, distillation.

NOTBUGS_DATA=/folder/with/mnist benchmarks/.venv/bin/python benchmarks/early_papers.py
"""

import argparse
import json
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from conditions import conditions

from notbugs.attacks import cw_l2, fgsm, pgd
from notbugs.attacks.losses import margin
from notbugs.data import ImageData, Splits, load_source, split
from notbugs.engine import Linf
from notbugs.judge import accuracy
from notbugs.models import Classifier, build
from notbugs.training import (
    Adversary,
    AtTemperature,
    Mixed,
    Noise,
    Recipe,
    distil,
    train,
)

EPS, DISTIL_EPS, TEMPERATURE = 0.25, 0.15, 100.0
FGSM = Adversary(
    "linf:0.25", eps_warmup=0.5, steps=1, step_size=EPS, random_start=False, train_mode=True
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--train-size", type=int, default=10_000)
    parser.add_argument("--epochs", type=int, default=8)
    parser.add_argument("--count", type=int, default=500, help="test images attacked")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results")
    wanted = parser.parse_args()
    parts = split(load_source("mnist"), seed=wanted.seed, train_size=wanted.train_size)
    found = {
        "conditions": conditions(torch.get_num_threads()),
        "settings": {k: v for k, v in vars(wanted).items() if k != "out"},
        "goodfellow": goodfellow(parts, wanted),
        "distillation": distillation(parts, wanted),
    }
    text = json.dumps(found, indent=1, allow_nan=False)
    wanted.out.mkdir(parents=True, exist_ok=True)
    path = wanted.out / f"early-papers-{time.strftime('%Y-%m-%d')}.json"
    path.write_text(text + "\n")
    print(text, path, sep="\n")


def goodfellow(parts: Splits, wanted: argparse.Namespace) -> dict[str, Any]:
    """FGSM error (percent) at eps 0.25 of models trained plainly, on FGSM, and on noise."""
    base = Recipe(epochs=wanted.epochs, lr=0.05, warmup=0.1)
    recipes = {
        "plain": base,
        "FGSM, alpha 0.5": replace(base, adversary=FGSM, lesson=Mixed()),
        "noise of signs": replace(base, adversary=Noise("linf:0.25"), lesson=Mixed()),
        "uniform noise": replace(
            base, adversary=Noise("linf:0.25", kind="uniform"), lesson=Mixed()
        ),
    }
    few = parts.test.select(slice(0, wanted.count))
    table: dict[str, Any] = {}
    for name, recipe in recipes.items():
        began = time.perf_counter()
        model = network(parts.train, wanted.seed)
        train(model, parts.train, recipe, seed=wanted.seed)
        table[name] = {
            "test_error": 100 - accuracy(model, parts.test),
            "fgsm_error": wrong(model, few, lambda m, x, y: fgsm(EPS)(m, x, y).x_adv),
            "seconds": round(time.perf_counter() - began, 1),
        }
    plain, other = (table[name]["fgsm_error"] for name in ("plain", "FGSM, alpha 0.5"))
    noisy = min(table[name]["fgsm_error"] for name in ("noise of signs", "uniform noise"))
    return {
        "models": table,
        "adversarial training at least halves the FGSM error": other <= plain / 2,
        "noise controls stay above 80 % error": noisy > 80,
    }


def distillation(parts: Splits, wanted: argparse.Namespace) -> dict[str, Any]:
    """Success (percent) of attacks by cross-entropy and by logits on a distilled net."""
    # The loss is flatter by the temperature, so that steps of a hundredth teach nothing.
    recipe = Recipe(epochs=2 * wanted.epochs, lr=1.0, warmup=0.1, weight_decay=0.0)
    teacher, student = (network(parts.train, wanted.seed + i) for i in (0, 1))
    train(teacher, parts.train, replace(recipe, lesson=AtTemperature(TEMPERATURE)), seed=0)
    distil(teacher, student, parts.train, recipe, temperature=TEMPERATURE, seed=1)
    plain = network(parts.train, wanted.seed)
    train(plain, parts.train, Recipe(epochs=wanted.epochs, lr=0.05, warmup=0.1), seed=0)
    few = parts.test.select(slice(0, wanted.count))
    attacks: dict[str, Callable[..., Any]] = {
        "FGSM, cross-entropy": lambda m, x, y: fgsm(DISTIL_EPS)(m, x, y).x_adv,
        "PGD-40, cross-entropy": lambda m, x, y: (
            pgd(Linf(), DISTIL_EPS, steps=40, random_start=False)(m, x, y).x_adv
        ),
        "PGD-40, margin of logits": lambda m, x, y: (
            pgd(Linf(), DISTIL_EPS, steps=40, random_start=False, loss=margin)(m, x, y).x_adv
        ),
        "C&W L2 (any distance)": lambda m, x, y: cw_l2(100, search_steps=6)(m, x, y).x_adv,
    }
    table = {
        name: {
            "test_error": 100 - accuracy(model, parts.test),
            **{title: wrong(model, few, attack) for title, attack in attacks.items()},
        }
        for name, model in (("plain", plain), ("distilled", student))
    }
    hidden = table["distilled"]["PGD-40, cross-entropy"]
    seen = table["distilled"]["PGD-40, margin of logits"]
    return {
        "eps": DISTIL_EPS,
        "temperature": TEMPERATURE,
        "models": table,
        "cross-entropy attacks are fooled": hidden < 0.5 * table["plain"]["PGD-40, cross-entropy"],
        "logit attacks are not": seen > 0.9 * table["plain"]["PGD-40, margin of logits"]
        and table["distilled"]["C&W L2 (any distance)"] > 99,
    }


def network(data: ImageData, seed: int) -> Classifier:
    """The small CNN."""
    options = {"width": 16, "hidden": 64}
    return build("cnn", shape=data.shape, classes=data.classes, seed=seed, options=options)


def wrong(model: Classifier, data: ImageData, attack: Callable[..., Any]) -> float:
    """Percent of the images that are wrong after the attack, those that were before included."""
    x, y = data.pixels(), data.labels
    x_adv = torch.cat(
        [attack(model, *part) for part in zip(x.split(125), y.split(125), strict=True)]
    )
    with torch.no_grad():
        return 100 * float((model(x_adv).argmax(dim=1) != y).float().mean())


if __name__ == "__main__":
    main()
