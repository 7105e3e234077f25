"""The command line: `notbugs reproduce | report | train | attack | evaluate | look | features |
build | data | photo`.

`notbugs.report`, and with it matplotlib, is imported only where something is drawn: that takes a
second.
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
from notbugs.cli import distributed
from notbugs.cli.attack import AttackCommand
from notbugs.cli.console import PlainConsole
from notbugs.cli.evaluate import Evaluate
from notbugs.cli.features import FeaturesCommand
from notbugs.cli.look import Look
from notbugs.cli.photo import Photo
from notbugs.cli.report import Report
from notbugs.cli.reproduce import Reproduce
from notbugs.cli.sets import Build, Data
from notbugs.cli.train import Train
from notbugs.core.errors import DataWarning, NotbugsError, unknown_name
from notbugs.core.interrupts import sigterm_as_interrupt
from notbugs.core.memory import keep_freed_memory

Command = (
    Annotated[Reproduce, tyro.conf.subcommand("reproduce")]
    | Annotated[Report, tyro.conf.subcommand("report")]
    | Annotated[Train, tyro.conf.subcommand("train")]
    | Annotated[AttackCommand, tyro.conf.subcommand("attack")]
    | Annotated[Evaluate, tyro.conf.subcommand("evaluate")]
    | Annotated[Look, tyro.conf.subcommand("look")]
    | Annotated[FeaturesCommand, tyro.conf.subcommand("features")]
    | Annotated[Build, tyro.conf.subcommand("build")]
    | Annotated[Data, tyro.conf.subcommand("data")]
    | Annotated[Photo, tyro.conf.subcommand("photo")]
)


COMMANDS = (
    "reproduce",
    "report",
    "train",
    "attack",
    "evaluate",
    "look",
    "features",
    "build",
    "data",
    "photo",
)
ACTIONS = {"data": ("list", "show", "export"), "photo": ("sheet", "read", "watch")}
USER_ERRORS = (NotbugsError, ValueError, TypeError, OSError, MemoryError, torch.OutOfMemoryError)
"""Errors that a user can fix: printed without a traceback."""
STOPPED = (
    "Stopped. Files that were named above are complete; everything else is lost, and the same "
    "command starts from the beginning."
)


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs one command; `USER_ERRORS` are printed without a traceback.

    Exits with 2 after an error, and with 130 (Ctrl-C) or 143 (SIGTERM) after an interruption.
    """
    arguments_given = sys.argv[1:] if arguments is None else list(arguments)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # escapes what the terminal cannot encode
            stream.reconfigure(errors="backslashreplace")
    keep_freed_memory()
    console, errors = PlainConsole(), PlainConsole(stderr=True)
    if arguments_given == ["--version"]:
        console.print(notbugs.__version__)
        return
    quiet = distributed.launched_processes() > 1 and os.environ.get("RANK") != "0"
    command = None
    try:
        with _signals():
            command = _parsed(arguments_given, errors)
            shares = getattr(command, "shares_work", False)
            device = getattr(command, "device", "cpu")
            with (
                distributed.process_group(arguments_given[0], shares=shares, device=device),
                _data_warnings_once(PlainConsole(quiet=True) if quiet else errors),
            ):
                command.run(PlainConsole(quiet=True) if quiet else console)
    except KeyboardInterrupt as stop:
        errors.print(str(stop) or getattr(command, "if_stopped", STOPPED), soft_wrap=True)
        sys.exit(128 + getattr(stop, "number", signal.SIGINT))
    except (*USER_ERRORS, RuntimeError) as error:
        if not isinstance(error, USER_ERRORS) and not _is_out_of_memory(error):
            raise
        _print_error(errors, error, quiet=quiet)


@contextmanager
def _signals() -> Generator[None, None, None]:
    """Makes SIGTERM stop as Ctrl-C does; in a distributed run the launcher ends each process."""
    if distributed.launched_processes() > 1:
        yield
        return
    with sigterm_as_interrupt():
        yield


def _parsed(arguments: Sequence[str], errors: PlainConsole) -> Any:
    """The command that the arguments name; tyro's messages are printed to `errors`.

    **Raises** ValueError for an unknown command; SystemExit after a message of tyro.
    """
    kinds = [("command", COMMANDS)]
    kinds += [(f"action of {name}", ACTIONS[name]) for name in arguments[:1] if name in ACTIONS]
    for word, (kind, known) in zip(arguments, kinds, strict=False):
        if not word.startswith("-") and word not in known:
            raise unknown_name(kind, word, known)
    stderr = io.StringIO()
    try:
        with redirect_stderr(stderr):
            return tyro.cli(
                Command,  # pyright: ignore[reportArgumentType]
                prog="notbugs",
                description="Adversarial examples as features: train, attack, judge, look inside, "
                "build, reproduce.",
                args=arguments,
                config=(tyro.conf.OmitSubcommandPrefixes, tyro.conf.OmitArgPrefixes),
            )
    finally:
        for line in stderr.getvalue().splitlines():
            errors.print(line, highlight=False, soft_wrap=True)


def _print_error(errors: PlainConsole, error: BaseException, *, quiet: bool) -> None:
    """Prints the error and exits with 2."""
    if quiet:  # the first process prints errors that all have
        errors.print(f"process {os.environ['RANK']}:", end=" ")
    errors.print("error:", style="bold red", end=" ")
    text = str(error)
    if _is_out_of_memory(error):
        text = (
            f"Out of memory{f' ({text.splitlines()[0]})' if text else ''}. Work on fewer images "
            "at once (--batch-size) or in all (--count, --train-size), or use fewer workers."
        )
    errors.print(text or type(error).__name__, highlight=False, soft_wrap=True)
    for note in getattr(error, "__notes__", []):
        for line in note.splitlines():
            errors.print(f"  {line}", highlight=False, soft_wrap=True)
    sys.exit(2)


def _is_out_of_memory(error: BaseException) -> bool:
    """Whether memory ran out, of the machine (in Python or torch) or of a GPU."""
    known = isinstance(error, MemoryError | torch.OutOfMemoryError)
    return known or "DefaultCPUAllocator: can't allocate memory" in str(error)


@contextmanager
def _data_warnings_once(console: PlainConsole) -> Generator[None, None, None]:
    """Prints each `DataWarning` once, however often the dataset is read."""

    printed = set[str]()

    def print_once(message: Warning | str, kind: type[Warning], *place: Any) -> None:
        if not issubclass(kind, DataWarning):
            show_warning(message, kind, *place)
        elif str(message) not in printed:
            printed.add(str(message))
            console.print(str(message), highlight=False, soft_wrap=True)

    with warnings.catch_warnings(action="always", category=DataWarning):
        show_warning, warnings.showwarning = warnings.showwarning, print_once
        yield
