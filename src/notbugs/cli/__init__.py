"""The command line: `notbugs reproduce | train | attack | evaluate | look | build | data`."""

import os
import sys
import warnings
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from typing import Annotated, Any

import tyro
from rich.console import Console

import notbugs
from notbugs.cli import together
from notbugs.cli.attack import AttackCommand
from notbugs.cli.evaluate import Evaluate
from notbugs.cli.look import Look
from notbugs.cli.reproduce import Reproduce
from notbugs.cli.sets import Build, Data
from notbugs.cli.train import Train
from notbugs.core.errors import DataWarning, NotbugsError

Command = (
    Annotated[Reproduce, tyro.conf.subcommand("reproduce")]
    | Annotated[Train, tyro.conf.subcommand("train")]
    | Annotated[AttackCommand, tyro.conf.subcommand("attack")]
    | Annotated[Evaluate, tyro.conf.subcommand("evaluate")]
    | Annotated[Look, tyro.conf.subcommand("look")]
    | Annotated[Build, tyro.conf.subcommand("build")]
    | Annotated[Data, tyro.conf.subcommand("data")]
)


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs one command; errors that a user can mend are printed without a traceback."""
    given = sys.argv[1:] if arguments is None else list(arguments)
    console, complaints = Console(), Console(stderr=True)
    if given == ["--version"]:
        console.print(notbugs.__version__)
        return
    command = tyro.cli(
        Command,  # pyright: ignore[reportArgumentType]
        prog="notbugs",
        description="Adversarial examples as features: train, attack, judge, look inside, build, "
        "reproduce.",
        args=given,
        config=(tyro.conf.OmitSubcommandPrefixes, tyro.conf.OmitArgPrefixes),
    )
    quiet = together.started() > 1 and os.environ.get("RANK") != "0"
    name, shares = given[0] if given else "", getattr(command, "shares_work", False)
    try:
        with (
            together.joined(name, shares=shares, device=getattr(command, "device", "cpu")),
            _said_once(Console(quiet=True) if quiet else complaints),
        ):
            command.run(Console(quiet=True) if quiet else console)
    except KeyboardInterrupt:
        complaints.print("Stopped. Run the same command again to go on where it stood.")
        sys.exit(130)
    except (NotbugsError, ValueError, TypeError, OSError, MemoryError) as error:
        if quiet:  # what all say is said by the first
            complaints.print(f"process {os.environ['RANK']}:", end=" ")
        complaints.print("[bold red]error:[/]", end=" ")
        complaints.print(str(error), markup=False, highlight=False, soft_wrap=True)
        for note in getattr(error, "__notes__", []):
            complaints.print(f"  {note}", markup=False, highlight=False, soft_wrap=True)
        sys.exit(2)


@contextmanager
def _said_once(console: Console) -> Generator[None, None, None]:
    """Prints what was done to a dataset as a sentence, once, however often the set is read."""

    said = set[str]()

    def say(message: Warning | str, kind: type[Warning], *place: Any) -> None:
        if not issubclass(kind, DataWarning):
            show(message, kind, *place)
        elif str(message) not in said:
            said.add(str(message))
            console.print(str(message), markup=False, highlight=False, soft_wrap=True)

    with warnings.catch_warnings(action="always", category=DataWarning):
        show, warnings.showwarning = warnings.showwarning, say
        yield
