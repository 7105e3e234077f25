"""A made-up run: plausible numbers and pictures, the same every time, measured by nobody."""

import json
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from safetensors.numpy import save_file

from notbugs.engine.threat import radius
from notbugs.experiments.config import Config, config_for
from notbugs.experiments.experiment import as_json

DIGITS = tuple(str(i) for i in range(10))
PUSHED = ("D_rand", "D_det", "D_other")
# set: clean, shifted, robust at eps/2, robust at eps, true labels; the pushed ones at the largest
TRUTH = {
    "D": (98.1, 0.2, 53.9, 4.6, 100.0),
    "D_adv": (91.3, 0.9, 80.2, 55.4, 100.0),
    "D_R": (93.7, 0.6, 61.5, 12.8, 100.0),
    "D_NR": (88.4, 1.3, 17.6, 1.1, 100.0),
    "D_rand": (71.2, 3.1, 6.4, 0.7, 10.3),
    "leak:D_rand": (58.6, 5.2, 2.9, 0.4, 10.3),
    "D_det": (64.8, 5.7, 4.1, 0.3, 0.0),
    "leak:D_det": (7.9, 42.7, 1.5, 0.2, 0.0),
    "D_other": (66.6, 4.4, 5.3, 0.8, 0.0),
    "leak:D_other": (9.2, 10.9, 1.9, 0.1, 0.0),
}
NAMES = ("clean", "shifted", "robust_half_eps", "robust_eps", "true_labels")
OF_SETS = ("clean", "shifted", "true_labels", "source_success", "chance")
# Of mean 0 and deviation 1.
SEEDS = {1: (0.0,), 2: (-(0.5**0.5), 0.5**0.5), 3: (-1.0, 0.0, 1.0)}


@dataclass(frozen=True)
class Made:
    """What the made-up run is like."""

    title: str = "Synthetic digits"
    data: str = "digits"
    classes: tuple[str, ...] = DIGITS
    shape: tuple[int, int, int] = (1, 8, 8)
    norm: str = "l2"
    eps_eval: float = 1.0
    radii: tuple[float, ...] = (0.5, 1.0, 2.0)
    seeds: int = 3
    planted: bool = False
    pictures: bool = True


def make_run(folder: Path, made: Made | None = None) -> Path:
    """Writes results.json and pictures.safetensors of a made-up run into `folder`."""
    made = made or Made()
    folder.mkdir(parents=True, exist_ok=True)
    write_results(folder, make_result(made))
    if made.pictures:
        save_file(make_pictures(made), folder / "pictures.safetensors")
    return folder


def write_results(folder: Path, result: object) -> None:
    text = json.dumps(result, ensure_ascii=False)
    (folder / "results.json").write_text(text, encoding="utf-8")


def config_of(made: Made) -> Config:
    return replace(
        config_for(made.data, "laptop"),
        seeds=made.seeds,
        norm=made.norm,
        eps_eval=made.eps_eval,
        eps_sets=made.radii,
        eps_headline=made.radii[0],
        digest="0123456789abcdef" * 4,
    )


def make_result(made: Made) -> dict:
    tables = make_tables(made)
    if made.planted:
        tables["planted"] = {
            "D": make_row(made, ("planted_robust", "model_robust"), (90.2, 17.9)),
            "D_R": make_row(made, ("planted_robust", "model_robust"), (89.8, None)),
        }
    return {
        "experiment": "ilyas2019",
        "dataset": made.title,
        "preset": "laptop",
        "command": f"notbugs reproduce ilyas2019 --data {made.data} --preset laptop",
        "conditions": {
            "images": {"train": 1260, "val": 140, "test": 397},
            "shape": list(made.shape),
            "classes": list(made.classes),
            "config": as_json(config_of(made), "config"),
        },
        "claims": make_claims(made),
        "tables": tables,
        "seconds": 93.2,
        "seconds_total": 421.0,
        "seconds_wall": 61.5,
        "versions": {"notbugs": "0.1.0", "python": "3.11.7", "torch": "2.13.0", "numpy": "2.4.6"}
        | {"machine": "x86_64", "cores": "2", "gpu": "none"},
    }


def make_tables(made: Made) -> dict[str, dict[str, dict[str, list[float | None]]]]:
    """The sets at their first radius, all radii, and the models that are judged."""
    tables = {"sets": {}, "radii": {}, "robust": {}}
    for name, values in TRUTH.items():
        kind = name.removeprefix("leak:")
        for eps in made.radii if kind in PUSHED else (None,):
            share = 1.0 if eps is None else eps / made.radii[-1]
            shown = [v * share if kind in PUSHED and i < 4 else v for i, v in enumerate(values)]
            if kind == "D_det":
                shown[1] = 97.0 - (97.0 - values[1]) * share
            shown += [99.4 if name in PUSHED else None]
            shown += [0.0163 if name in ("D_R", "D_NR") else None]
            row = make_row(made, (*NAMES, "source_success", "relative_error"), shown)
            row["chance"] = [100 / len(made.classes)] * made.seeds
            if eps is None:
                tables["robust"][name] = row
                continue
            row = {column: row[column] for column in OF_SETS}
            tables["radii"][f"{name} at {radius(made.norm, eps)}"] = row
            if eps == made.radii[0]:
                tables["sets"][name] = row
    return tables


def make_row(made: Made, columns, values) -> dict[str, list[float | None]]:
    """Values a seed, of these means and of deviations of a few percent of them."""
    return {
        column: [
            None if value is None else value * (1 + (0.03 + 0.01 * i) * at)
            for at in SEEDS[made.seeds]
        ]
        for i, (column, value) in enumerate(zip(columns, values, strict=True))
    }


def make_claims(made: Made) -> list[dict]:
    def claim(name, statement, ours, control, rule, holds):
        return {
            "id": name,
            "statement": statement,
            "published": "48.27 against 8.66 (section 3.1)",
            "ours": ours,
            "std": None if made.seeds < 2 else 1.7,
            "control": control,
            "per_seed": [ours] * made.seeds,
            "control_per_seed": None if control is None else [control] * made.seeds,
            "rule": rule,
            "fixed": "",
            "holds": holds,
            "why": "the bounds disagree" if holds is None else "",
            "seeds": made.seeds,
        }

    beyond = "mean - control > 0"
    return [
        claim("adv", "D_adv is more robust than D", 80.2, 53.9, beyond, True),
        claim("r", "D_R is more robust than D", 53.7, 53.9, beyond, False),
        claim("det", "D_det reaches 60 % on true labels", 64.8, None, "mean >= 60", True),
        claim("open", "D_other beats <b>its</b> control", 66.6, 9.2, "mean - control >= 20", None),
    ]


def make_pictures(made: Made) -> dict[str, np.ndarray]:
    """Blurred blobs of a place and colour for each class, and what is done to them."""
    rng, k, n = np.random.default_rng(0), len(made.classes), 8
    channels, height, width = made.shape
    y, x = np.mgrid[0 : 1 : height * 1j, 0 : 1 : width * 1j]

    def draw(labels: np.ndarray) -> np.ndarray:
        turn = 2 * np.pi * labels[:, None, None] / k
        place = (y - 0.5 - 0.25 * np.sin(turn)) ** 2 + (x - 0.5 - 0.25 * np.cos(turn)) ** 2
        tint = 0.4 + 0.6 * rng.random((n, channels))
        whole = np.exp(-place / 0.04)[:, None] * tint[:, :, None, None]
        return (0.1 + 0.8 * whole + 0.05 * rng.random((n, *made.shape))).astype(np.float32)

    def moved(images: np.ndarray, size: float) -> np.ndarray:
        noise = rng.standard_normal(images.shape).astype(np.float32)
        return np.clip(images + size * noise, 0, 1)

    true = rng.integers(0, k, n)
    images = draw(true)
    found = {"D.images": images, "D.labels": true}
    taught = {
        "D_R": true,
        "D_NR": true,
        "D_rand": np.where(np.arange(n) == 2, true, (true + rng.integers(0, k, n)) % k),
        "D_det": (true + 1) % k,
        "D_other": (true + rng.integers(1, k, n)) % k,
    }
    for name, labels in taught.items():
        found |= {f"{name}.images": moved(images, 0.12), f"{name}.labels": labels}
        found[f"{name}.true_labels"] = true
    found |= {"attacked.images": images, "attacked.labels": true}
    said = {
        "standard": (true + 1) % k,
        "robust": np.where(np.arange(n) == 3, (true + 1) % k, true),
    }
    for name, labels in said.items():
        x_adv = moved(images, 0.04)
        largest = np.abs(x_adv - images).max()
        found |= {
            f"{name}.difference": 0.5 + (x_adv - images) / (2 * largest),
            f"{name}.adversarial": x_adv,
            f"{name}.labels": labels,
            f"{name}.true_labels": true,
        }
    return found
