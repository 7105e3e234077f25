"""Trains, evaluates and describes again the models that ship with the package.

    python benchmarks/zoo.py runs/zoo --data-dir DATA [NAME ...]

A training or an evaluation that was interrupted resumes; finished trainings in the folder are taken
as they are. Weights, cards and the numbers in the docs are made here and nowhere else.
"""

import argparse
import os
from pathlib import Path

from notbugs.cli import main
from notbugs.models.weights import MODEL
from notbugs.zoo.index import SHIPPED

AUTHORS = "The notbugs developers"
ROBUST = ("--recipe", "pgd", "--threat")
MODELS: dict[str, tuple[str, tuple[str, ...]]] = {
    "digits-linear": ("l2:0.5", ("--architecture", "linear")),
    "digits-fc": ("l2:0.5", ("--architecture", "fc")),
    "digits-cnn": ("l2:0.5", ()),
    "digits-cnn-l2": ("l2:0.5", (*ROBUST, "l2:1.0")),
    "digits-cnn-linf": ("linf:0.2", (*ROBUST, "linf:0.2")),
    "mnist-cnn-l2": (
        "l2:2.0",
        ("--data", "mnist", *ROBUST, "l2:2.0", "--train-size", "12000", "--epochs", "7"),
    ),
}
"""name -> the threat of its evaluation, and the options of `notbugs train`."""
FIRST = {"mnist-cnn-l2": ("--count", "1000")}
"""Test images that are evaluated, where they are not all."""


def make(name: str, work: Path, data_dir: list[str]) -> None:
    threat, options = MODELS[name]
    if not (work / name / MODEL).exists():
        main(["train", *options, *data_dir, "--out", str(work / name)])
    main(
        ["zoo", "add", str(work / name), "--name", name, "--threat", threat, "--evaluate",
         "--authors", AUTHORS, *data_dir, *FIRST.get(name, ()), "--overwrite"]
    )  # fmt: skip


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("work", type=Path, help="folder of the trainings")
    parser.add_argument("names", nargs="*", help=f"of {', '.join(MODELS)}; all without them")
    parser.add_argument("--data-dir", help="where MNIST's files lie")
    given = parser.parse_intermixed_args()
    os.environ["NOTBUGS_ZOO"] = str(SHIPPED)
    for chosen in given.names or MODELS:
        make(chosen, given.work, ["--data-dir", given.data_dir] if given.data_dir else [])
