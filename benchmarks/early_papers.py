"""What the early papers found of training, on MNIST: adversarial training, noise, distillation.

NOTBUGS_DATA=/folder/with/mnist benchmarks/.venv/bin/python benchmarks/early_papers.py
... --on validation     # to choose settings by
"""

import argparse
import os
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from conditions import conditions
from early_papers_report import markdown
from table import write

from notbugs.attacks import AttackResult, cw_l2, fgsm, pgd
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
WIDTH = 512
Attacks = dict[str, Callable[[Classifier, torch.Tensor, torch.Tensor], AttackResult]]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--train-size", type=int, default=60_000)
    parser.add_argument("--epochs", type=int, default=12)
    parser.add_argument("--count", type=int, default=1000, help="images attacked")
    parser.add_argument("--on", choices=("test", "validation"), default="test")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results")
    wanted = parser.parse_args()
    torch.set_num_threads(wanted.threads)
    parts = split(load_source("mnist"), seed=wanted.seed, train_size=wanted.train_size)
    judged = parts.test if wanted.on == "test" else parts.val
    before = conditions(wanted.threads)
    given = {name: value for name, value in vars(wanted).items() if name != "out"}
    found: dict[str, Any] = {"settings": given | {"training images": len(parts.train)}}
    plain, found["goodfellow"] = goodfellow(parts, judged, wanted)
    found["distillation"] = distillation(plain, parts, judged, wanted)
    found["conditions"] = before | {
        "load_average_after": conditions(wanted.threads)["load_average"],
        "quick": False,
        "omp_wait_policy": os.environ.get("OMP_WAIT_POLICY", "unset"),
    }
    name = "early-papers" + ("" if wanted.on == "test" else "-validation")
    report = write(found, markdown(found), wanted.out, name)
    print(report.read_text(), report, sep="\n")


def base(wanted: argparse.Namespace) -> Recipe:
    """How everything is trained that is not distilled."""
    return Recipe(epochs=wanted.epochs, batch_size=128, lr=0.1, warmup=0.1, weight_decay=1e-4)


def goodfellow(
    parts: Splits, judged: ImageData, wanted: argparse.Namespace
) -> tuple[Classifier, dict[str, Any]]:
    """(the plain model, errors in percent of models trained plainly, on FGSM, and on noise)."""
    plain = base(wanted)
    recipes = {
        "plain": plain,
        # In 2014 nobody stopped where robust accuracy under PGD collapses.
        "FGSM, alpha 0.5": replace(plain, adversary=FGSM, objective=Mixed(), guard=False),
        "noise of signs": replace(plain, adversary=Noise("linf:0.25"), objective=Mixed()),
        "uniform noise": replace(
            plain, adversary=Noise("linf:0.25", kind="uniform"), objective=Mixed()
        ),
    }
    attacks: Attacks = {"FGSM": fgsm(Linf(), Linf(), EPS), "PGD-40": pgd(Linf(), EPS, steps=40)}
    table: dict[str, Any] = {}
    models: list[Classifier] = []
    for name, recipe in recipes.items():
        began = time.process_time()
        model = network(parts.train, wanted.seed)
        train(model, parts.train, recipe, seed=wanted.seed)
        took = time.process_time() - began
        table[name] = errors(model, judged, attacks, wanted.count) | {"seconds": round(took, 1)}
        models.append(model)
        print(name, table[name], flush=True)
    before, after = (table[name]["FGSM"] for name in ("plain", "FGSM, alpha 0.5"))
    noisy = min(table[name]["FGSM"] for name in ("noise of signs", "uniform noise"))
    return models[0], {
        "eps": EPS,
        "models": table,
        "claims": {
            "adversarial training at least halves the error under FGSM": after <= before / 2,
            "noise controls stay above 80 % error under FGSM": noisy > 80,
        },
    }


def distillation(
    plain: Classifier, parts: Splits, judged: ImageData, wanted: argparse.Namespace
) -> dict[str, Any]:
    """Errors in percent of a plain and a distilled net, under cross-entropy and logit attacks."""
    # The loss is flatter by the temperature, so that steps of a hundredth teach nothing.
    recipe = replace(base(wanted), lr=3.0, warmup=0.3, weight_decay=0.0)
    teacher, student = (network(parts.train, wanted.seed + i) for i in (0, 1))
    train(teacher, parts.train, replace(recipe, objective=AtTemperature(TEMPERATURE)), seed=0)
    distil(teacher, student, parts.train, recipe, temperature=TEMPERATURE, seed=1)
    descent = {"steps": 40, "random_start": False}
    attacks: Attacks = {
        "FGSM": fgsm(Linf(), Linf(), DISTIL_EPS),
        "PGD-40": pgd(Linf(), DISTIL_EPS, **descent),
        "PGD-40 on the margin": pgd(Linf(), DISTIL_EPS, loss=margin, **descent),
        "C&W L2": cw_l2(steps=100, search_steps=6),
    }
    table = {
        name: errors(model, judged, attacks, wanted.count)
        for name, model in (("plain", plain), ("distilled", student))
    }
    one, other = table["plain"], table["distilled"]
    return {
        "eps": DISTIL_EPS,
        "temperature": TEMPERATURE,
        "models": table,
        "claims": {
            "cross-entropy attacks are fooled: less than half of their success on the plain net": (
                all(other[name] < 0.5 * one[name] for name in ("FGSM", "PGD-40"))
            ),
            "logit attacks are not: the margin nine tenths of its, C&W above 99 %": (
                other["PGD-40 on the margin"] > 0.9 * one["PGD-40 on the margin"]
                and other["C&W L2"] > 99
            ),
        },
    }


def network(data: ImageData, seed: int) -> Classifier:
    """A dense ReLU net of two layers, in place of the papers' maxout and convolutional nets."""
    return build("mlp", shape=data.shape, classes=data.classes, seed=seed, options={"width": WIDTH})


def errors(model: Classifier, data: ImageData, attacks: Attacks, count: int) -> dict[str, float]:
    """Percent of images that are wrong clean (all), and of the first `count` after each attack.

    Those that were wrong before are included. "zero gradients": of PGD's gradients, the
    percentage that is exactly zero.
    """
    few = data.select(slice(0, count))
    x, y = few.pixels(), few.labels
    found = {"clean": 100 - accuracy(model, data)}
    for name, attack in attacks.items():
        result = attack(model, x, y)
        with torch.no_grad():
            wrong = model(result.x_adv).argmax(dim=1) != y
        found[name] = 100 * int(wrong.sum()) / len(y)
        if name == "PGD-40":
            zero = float(result.zero_grads.sum()) / float(result.steps.sum())
            found["zero gradients"] = 100 * zero
    return {name: round(value, 2) for name, value in found.items()}


if __name__ == "__main__":
    main()
