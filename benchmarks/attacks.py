"""Our PGD beside foolbox's and torchattacks': strength first, then the time of a step.

benchmarks/setup.sh                                     # once
benchmarks/.venv/bin/python benchmarks/attacks.py       # about fifteen minutes on 2 cores
benchmarks/.venv/bin/python benchmarks/attacks.py --quick
"""

import argparse
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

# Threads that wait sleep instead of spinning, so that processor time is work done.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import torch
from conditions import conditions
from contenders import PLAIN, contenders, in_strength
from measure import Spread, passes, ratios, slopes, strength, times
from peers import Setting
from subjects import Subject, subjects
from table import write

ROUNDS = 7
"""Timed rounds, at least."""
SECONDS = 20.0
"""Rounds go on for so long for each model and threat."""
SEEDS = {20: 20, 100: 3}
"""Steps of the strength measurement, and random starts of each."""
CROSSING = 2.5
"""step_size = CROSSING * eps / steps, for all alike."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="one minute; fewer models and repeats")
    parser.add_argument("--threads", type=int, default=2, help="torch's threads (default: 2)")
    parser.add_argument("--only", default="", help="only models whose name contains this")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results")
    wanted = parser.parse_args()
    torch.set_num_threads(wanted.threads)
    before = conditions(wanted.threads)
    seeds = {20: 3} if wanted.quick else SEEDS
    rounds, seconds = (5, 3.0) if wanted.quick else (ROUNDS, SECONDS)
    found: dict[str, Any] = {"strength": [], "speed": [], "models": {}}
    for subject in subjects(wanted.quick):
        if wanted.only not in subject.name:
            continue
        found["models"][subject.name] = described(subject)
        for norm, eps in subject.threats:
            if not subject.speed_only:
                found["strength"] += compared(subject, norm, eps, seeds)
            found["speed"] += clocked(subject, norm, eps, rounds, seconds)
    found["conditions"] = before | {
        "load_average_after": conditions(wanted.threads)["load_average"],
        "quick": wanted.quick,
        "fewest_rounds": rounds,
        "seeds_at_steps": seeds,
        "restarts": 1,
        "omp_wait_policy": os.environ["OMP_WAIT_POLICY"],
        "step_size": f"{CROSSING} * eps / steps",
    }
    print(write(found, wanted.out, "attacks-quick" if wanted.quick else "attacks"))


def described(subject: Subject) -> dict[str, Any]:
    """What the report says of a model."""
    with torch.no_grad():
        right = int((subject.model(subject.x).argmax(dim=1) == subject.y).sum())
    return {
        "about": subject.about,
        "parameters": sum(p.numel() for p in subject.model.parameters()),
        "options": subject.model.options,
        "images": len(subject.x),
        "clean_accuracy": None if subject.speed_only else 100 * right / len(subject.x),
        "speed_only": subject.speed_only,
    }


def settings(norm: str, eps: float, lengths: Iterable[int]) -> list[Setting]:
    """The budgets of the strength measurement, without and with a random start."""
    return [
        Setting(norm, eps, steps, CROSSING * eps / steps, random_start)
        for steps in lengths
        for random_start in (False, True)
    ]


def compared(
    subject: Subject, norm: str, eps: float, seeds: Mapping[int, int]
) -> list[dict[str, Any]]:
    """Success of each contender on the same images: one row of the table each."""
    table: list[dict[str, Any]] = []
    for setting in settings(norm, eps, seeds):
        used = range(seeds[setting.steps] if setting.random_start else 1)
        found = {
            name: strength(craft, setting, subject.model, subject.x, subject.y, used)
            for name, craft in in_strength(setting).items()
        }
        for name, one in found.items():
            mine = found["notbugs"].success
            table.append(
                {
                    "model": subject.name,
                    **vars(setting),
                    "contender": name,
                    "images": len(subject.x),
                    "seeds": len(used),
                    "success": Spread.mean(one.rates),
                    "success_of_seeds": one.rates,
                    # Rows that fell to one of the two and not to the other, a seed.
                    "only_it": float((one.success & ~mine).sum()) / len(used),
                    "only_notbugs": float((mine & ~one.success).sum()) / len(used),
                    "violation": one.violation,
                }
            )
    return table


def clocked(
    subject: Subject, norm: str, eps: float, rounds: int, seconds: float
) -> list[dict[str, Any]]:
    """Passes and time of each contender, with a random start: one row of the table each."""
    few, many = subject.timed
    x, y = subject.x[: subject.batch], subject.y[: subject.batch]
    # One step size for both lengths: the slope between them is the cost of a step.
    made = {n: contenders(Setting(norm, eps, n, CROSSING * eps / many, True)) for n in (few, many)}
    crafts = {name: {few: made[few][name], many: made[many][name]} for name in made[few]}
    took = times(crafts, subject.model, x, y, fewest=rounds, budget=seconds)
    base = took[PLAIN]
    table: list[dict[str, Any]] = []
    for name, mine in took.items():
        counted = passes(crafts[name][few], subject.model, x, y)
        table.append(
            {
                "model": subject.name,
                "norm": norm,
                "eps": eps,
                "step_size": CROSSING * eps / many,
                "contender": name,
                "batch": len(x),
                "steps": [few, many],
                "rounds": len(mine[few].cpu),
                "forwards_per_image": counted.forwards,
                "backwards_per_image": counted.backwards,
                "microseconds_per_image_step": Spread.quartiles(
                    [1e6 * s / len(x) for s in slopes(mine)]
                ),
                "ratio_few": ratios(mine[few].cpu, base[few].cpu),
                "ratio_many": ratios(mine[many].cpu, base[many].cpu),
                "ratio_many_wall": ratios(mine[many].wall, base[many].wall),
                "ratio_step": ratios(slopes(mine), slopes(base)),
                "seconds": {str(n): mine[n] for n in (few, many)},
            }
        )
    return table


if __name__ == "__main__":
    main()
