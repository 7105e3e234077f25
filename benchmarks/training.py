"""Our robust training beside plain loops and peers: robust accuracy first, then time.

benchmarks/setup.sh                                                  # once
benchmarks/.venv/bin/python benchmarks/training.py --only cnn
benchmarks/.venv/bin/python benchmarks/training.py --quick           # tiny, on digits
"""

import argparse
import os
from pathlib import Path

# Threads that wait sleep instead of spinning, so that processor time is work done; ART's bars
# stay off.
os.environ.update({"OMP_WAIT_POLICY": "PASSIVE", "TQDM_DISABLE": "1"})

import torch
from conditions import conditions
from table import write
from training_contenders import contenders
from training_report import markdown
from training_suite import measured

from notbugs.core.memory import keep_freed_memory


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="a minute: tiny, on digits")
    parser.add_argument("--only", default="", help="only models with this in the name")
    parser.add_argument("--rounds", type=int, help="trainings of each (default: 3; quick: 2)")
    parser.add_argument("--threads", type=int, default=2, help="torch's threads (default: 2)")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results")
    wanted = parser.parse_args()
    torch.set_num_threads(wanted.threads)
    keep_freed_memory()  # as the command line does; it serves the peers alike
    before = conditions(wanted.threads)
    found = measured(contenders(), quick=wanted.quick, only=wanted.only, rounds=wanted.rounds)
    found["conditions"] = before | {
        "load_average_after": conditions(wanted.threads)["load_average"],
        "quick": wanted.quick,
        "omp_wait_policy": os.environ["OMP_WAIT_POLICY"],
    }
    name = "-".join(part for part in ("training", wanted.only, "quick" * wanted.quick) if part)
    print(write(found, markdown(found), wanted.out, name))


if __name__ == "__main__":
    main()
