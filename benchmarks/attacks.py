"""Our attacks beside their peers': strength first, then time, passes and memory.

benchmarks/setup.sh                                                  # once
benchmarks/.venv/bin/python benchmarks/attacks.py --suite pgd
benchmarks/.venv/bin/python benchmarks/attacks.py --quick            # all suites, tiny
"""

import argparse
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

# Threads that wait sleep instead of spinning, so that processor time is work done.
os.environ.update({} if "--clock" in sys.argv else {"OMP_WAIT_POLICY": "PASSIVE"})

import evaluation_suite
import minimum_strength
import minimum_suite
import pgd_report
import pgd_suite
import torch
from conditions import conditions
from table import write

from notbugs.core.memory import keep_freed_memory

SUITES = ("pgd", "minimum", "strength", "evaluation")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--suite", choices=(*SUITES, "all"), default="all")
    parser.add_argument("--quick", action="store_true", help="minutes: smaller and fewer of all")
    parser.add_argument("--threads", type=int, default=2, help="torch's threads (default: 2)")
    parser.add_argument(
        "--only",
        default="",
        help="only models (pgd), methods (minimum) or peers (evaluation) with this in the name",
    )
    parser.add_argument(
        "--rounds",
        type=int,
        help="pgd and minimum: timed rounds, at least (default: 5 and 3); strength: seeds (3)",
    )
    parser.add_argument(
        "--weights", type=Path, help="evaluation: a model saved by notbugs (default: trains one)"
    )
    parser.add_argument(
        "--images",
        type=int,
        help="minimum, strength and evaluation: how many (default: 64, 64 and 128)",
    )
    parser.add_argument(
        "--threats", nargs="+", default=["linf:0.15"], help="evaluation (default: linf:0.15)"
    )
    parser.add_argument(
        "--nets",
        nargs="+",
        choices=tuple(evaluation_suite.NETS),
        default=["robust"],
        help="evaluation: the nets that are trained (default: robust)",
    )
    parser.add_argument(
        "--clock",
        action="store_true",
        help="pgd: count time on the clock, threads left as users have them (a quiet machine)",
    )
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results")
    wanted = parser.parse_args()
    torch.set_num_threads(wanted.threads)
    keep_freed_memory()  # as the command line does; it serves the peers alike
    for suite in SUITES if wanted.suite == "all" else (wanted.suite,):
        before = conditions(wanted.threads)
        found, markdown = run(suite, wanted)
        found["conditions"] = before | {
            "load_average_after": conditions(wanted.threads)["load_average"],
            "quick": wanted.quick,
            "omp_wait_policy": os.environ.get("OMP_WAIT_POLICY", "unset"),
        }
        name = f"{suite}-quick" if wanted.quick else suite
        print(write(found, markdown(found), wanted.out, name))


def run(
    suite: str, wanted: argparse.Namespace
) -> tuple[dict[str, Any], Callable[[dict[str, Any]], str]]:
    """(what the suite measured, what makes its report of that)."""
    quick = wanted.quick
    narrowed = {"only": wanted.only, "rounds": wanted.rounds}
    if suite == "pgd":
        return pgd_suite.measured(quick=quick, clock=wanted.clock, **narrowed), pgd_report.markdown
    if suite == "minimum":
        images = wanted.images or (8 if quick else 64)
        found = minimum_suite.measured(quick=quick, images=images, **narrowed)
        return found, minimum_suite.markdown
    if suite == "strength":
        images = wanted.images or (8 if quick else 64)
        found = minimum_strength.measured(quick=quick, images=images, seeds=wanted.rounds)
        return found, minimum_strength.markdown
    found = evaluation_suite.measured(
        quick=quick,
        weights=wanted.weights,
        images=wanted.images or (8 if quick else 128),
        threats=wanted.threats,
        nets=wanted.nets,
        only=wanted.only,
    )
    return found, evaluation_suite.markdown


if __name__ == "__main__":
    main()
