"""The command line: `notbugs reproduce | train | attack | evaluate | look | build | data`.

What draws (`notbugs.report`, with matplotlib) is imported where something is drawn: every command
would wait a second for it.
"""

import io
import os
import signal
import sys
import warnings
from collections.abc import Generator, Sequence
from contextlib import contextmanager, redirect_stderr
from typing import Annotated, Any

import torch
import tyro

import notbugs
from notbugs.cli import together
from notbugs.cli.attack import AttackCommand
from notbugs.cli.console import PlainConsole
from notbugs.cli.evaluate import Evaluate
from notbugs.cli.look import Look
from notbugs.cli.reproduce import Reproduce
from notbugs.cli.sets import Build, Data
from notbugs.cli.train import Train
from notbugs.core.errors import DataWarning, NotbugsError, unknown_name
from notbugs.core.interrupts import sigterm_as_interrupt
from notbugs.core.memory import keep_freed_memory

Command = (
    Annotated[Reproduce, tyro.conf.subcommand("reproduce")]
    | Annotated[Train, tyro.conf.subcommand("train")]
    | Annotated[AttackCommand, tyro.conf.subcommand("attack")]
    | Annotated[Evaluate, tyro.conf.subcommand("evaluate")]
    | Annotated[Look, tyro.conf.subcommand("look")]
    | Annotated[Build, tyro.conf.subcommand("build")]
    | Annotated[Data, tyro.conf.subcommand("data")]
)


COMMANDS = ("reproduce", "train", "attack", "evaluate", "look", "build", "data")
ACTIONS = ("list", "show", "export")
EXPECTED = (NotbugsError, ValueError, TypeError, OSError, MemoryError, torch.OutOfMemoryError)
"""Errors that a user can mend."""
LOST = (
    "Stopped. Files that were named above are complete; all else is lost, and the same command "
    "begins anew."
)


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs one command; errors that a user can mend are printed without a traceback.

    Exits with 2 after an error, and with 130 (Ctrl-C) or 143 (SIGTERM) where it was stopped.
    """
    given = sys.argv[1:] if arguments is None else list(arguments)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # a terminal that lacks a letter shows its escape
            stream.reconfigure(errors="backslashreplace")
    keep_freed_memory()
    console, complaints = PlainConsole(), PlainConsole(stderr=True)
    if given == ["--version"]:
        console.print(notbugs.__version__)
        return
    quiet = together.started() > 1 and os.environ.get("RANK") != "0"
    command = None
    try:
        with _signals():
            command = _parsed(given, complaints)
            shares = getattr(command, "shares_work", False)
            device = getattr(command, "device", "cpu")
            with (
                together.joined(given[0], shares=shares, device=device),
                _said_once(PlainConsole(quiet=True) if quiet else complaints),
            ):
                command.run(PlainConsole(quiet=True) if quiet else console)
    except KeyboardInterrupt as stop:
        complaints.print(str(stop) or getattr(command, "if_stopped", LOST), soft_wrap=True)
        sys.exit(128 + getattr(stop, "number", signal.SIGINT))
    except (*EXPECTED, RuntimeError) as error:
        if not isinstance(error, EXPECTED) and not _is_out_of_memory(error):
            raise
        _complain(complaints, error, quiet=quiet)


@contextmanager
def _signals() -> Generator[None, None, None]:
    """SIGTERM stops as Ctrl-C does; of several processes the launcher ends each by itself."""
    if together.started() > 1:
        yield
        return
    with sigterm_as_interrupt():
        yield


def _parsed(given: Sequence[str], complaints: PlainConsole) -> Any:
    """The command that the words name; what tyro has to say of them is shown as all else is.

    **Raises** ValueError for an unknown command; SystemExit where tyro has said what is wrong.
    """
    kinds = (("command", COMMANDS), ("action of data", ACTIONS))
    for word, (kind, known) in zip(given, kinds[: 1 + (given[:1] == ["data"])], strict=False):
        if not word.startswith("-") and word not in known:
            raise unknown_name(kind, word, known)
    said = io.StringIO()
    try:
        with redirect_stderr(said):
            return tyro.cli(
                Command,  # pyright: ignore[reportArgumentType]
                prog="notbugs",
                description="Adversarial examples as features: train, attack, judge, look inside, "
                "build, reproduce.",
                args=given,
                config=(tyro.conf.OmitSubcommandPrefixes, tyro.conf.OmitArgPrefixes),
            )
    finally:
        for line in said.getvalue().splitlines():
            complaints.print(line, highlight=False, soft_wrap=True)


def _complain(complaints: PlainConsole, error: BaseException, *, quiet: bool) -> None:
    """Says what is wrong, and exits."""
    if quiet:  # what all say is said by the first
        complaints.print(f"process {os.environ['RANK']}:", end=" ")
    complaints.print("error:", style="bold red", end=" ")
    words = str(error)
    if _is_out_of_memory(error):
        words = (
            f"Out of memory{f' ({words.splitlines()[0]})' if words else ''}. Work on fewer images "
            "at once (--batch-size) or in all (--count, --train-size), or use fewer workers."
        )
    complaints.print(words or type(error).__name__, highlight=False, soft_wrap=True)
    for note in getattr(error, "__notes__", []):
        for line in note.splitlines():
            complaints.print(f"  {line}", highlight=False, soft_wrap=True)
    sys.exit(2)


def _is_out_of_memory(error: BaseException) -> bool:
    """Whether there was too little memory, of the processor (by Python or torch) or of a GPU."""
    known = isinstance(error, MemoryError | torch.OutOfMemoryError)
    return known or "DefaultCPUAllocator: can't allocate memory" in str(error)


@contextmanager
def _said_once(console: PlainConsole) -> Generator[None, None, None]:
    """Prints what was done to a dataset as a sentence, once, however often the set is read."""

    said = set[str]()

    def say(message: Warning | str, kind: type[Warning], *place: Any) -> None:
        if not issubclass(kind, DataWarning):
            show(message, kind, *place)
        elif str(message) not in said:
            said.add(str(message))
            console.print(str(message), highlight=False, soft_wrap=True)

    with warnings.catch_warnings(action="always", category=DataWarning):
        show, warnings.showwarning = warnings.showwarning, say
        yield
