"""The command line. Here is only what help needs, at once: torch takes seconds to import."""

import sys
from collections.abc import Mapping, Sequence

import notbugs

GROUPS: Mapping[str, Mapping[str, str]] = {
    "Models": {
        "convert": "another library's checkpoint to weights that every command takes",
        "train": "train a model, standard or robust",
        "sparsify": "set features near their mean to the mean (MeanSparse)",
        "attack": "craft adversarial examples of a model's test images",
        "compare": "several models beside each other: tables, paired tests, a picture",
        "evaluate": "clean and robust accuracy, by the worst case of several attacks",
        "zoo": "models with cards: list, show, add, verify, push to a hub",
    },
    "Features": {
        "features": "how useful each feature is, and what an adversary leaves of it",
        "look": "inversion, interpolation, visualisation and manipulation of features",
        "explore": "models, attacks and features by clicks, in a browser",
        "build": "sets of robust or non-robust features, from your images and a model",
        "data": "list, show, export and import datasets",
    },
    "Papers": {
        "reproduce": "a paper's experiment: our numbers beside the published ones",
        "report": "draw the page of a finished run again",
        "lecture": "a page for lectures that needs no server",
        "photo": "print adversarial images, and classify photographs of them",
    },
}
"""Every command, with what it does in a few words."""
COMMANDS = tuple(name for group in GROUPS.values() for name in group)


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs one command; errors that a user can mend are printed without a traceback.

    Exits with 2 after an error, and with 130 (Ctrl-C) or 143 (SIGTERM) after an interruption.
    """
    given = sys.argv[1:] if arguments is None else list(arguments)
    if not given or given[0] in ("-h", "--help", "help"):
        print(_help())
        sys.exit(0 if given else 2)
    if given == ["--version"]:
        print(notbugs.__version__)
        return
    from notbugs.cli.running import run

    run(given)


def _help() -> str:
    """The commands on one screen."""
    lines = ["usage: notbugs COMMAND [OPTIONS]", f"{notbugs.__doc__}".splitlines()[0], ""]
    for title, commands in GROUPS.items():
        lines.append(f"{title}:")
        lines += [f"  {name:<10} {what}" for name, what in commands.items()]
    lines += [
        "notbugs COMMAND --help lists options and examples; notbugs --version prints the version.",
        "A first look, in two minutes: notbugs reproduce ilyas2019 --preset demo",
    ]
    return "\n".join(lines)
