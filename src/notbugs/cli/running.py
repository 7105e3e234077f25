"""Parses a command's options and runs it, with errors and signals as a user wants them.

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
from importlib import import_module
from typing import Annotated, Any, Union

import torch
import tyro

from notbugs.cli import COMMANDS, distributed
from notbugs.cli.console import PlainConsole
from notbugs.cli.optional import OPTIONS, join_docstrings
from notbugs.core.errors import DataWarning, NotbugsError, unknown_name
from notbugs.core.interrupts import sigterm_as_interrupt
from notbugs.core.memory import keep_freed_memory
from notbugs.core.packages import optional

PLACES = {
    "reproduce": ("reproduce", "Reproduce"),
    "report": ("report", "Report"),
    "convert": ("convert", "Convert"),
    "train": ("train", "Train"),
    "sparsify": ("sparsify", "Sparsify"),
    "attack": ("attack", "AttackCommand"),
    "compare": ("compare", "Compare"),
    "evaluate": ("evaluate", "Evaluate"),
    "look": ("look", "Look"),
    "features": ("features", "FeaturesCommand"),
    "explore": ("explore", "Explore"),
    "build": ("sets", "Build"),
    "data": ("sets", "Data"),
    "lecture": ("lecture", "Lecture"),
    "photo": ("photo", "Photo"),
    "zoo": ("zoo", "Zoo"),
}
"""The module and class of each command: only those of one that is run are imported."""
CONFIG = (
    tyro.conf.OmitSubcommandPrefixes,
    tyro.conf.OmitArgPrefixes,
    tyro.conf.FlagCreatePairsOff,
)
"""How options are spelt: a switch has the one flag that changes it."""
ACTIONS = {
    "data": ("list", "show", "export", "import"),
    "photo": ("sheet", "read", "watch"),
    "zoo": ("list", "show", "add", "verify", "push"),
}
USER_ERRORS = (NotbugsError, ValueError, TypeError, OSError, MemoryError, torch.OutOfMemoryError)
"""Errors that a user can fix: printed without a traceback."""
STOPPED = (
    "Stopped. Files that were named above are complete; everything else is lost, and the same "
    "command starts from the beginning."
)


def run(arguments: Sequence[str]) -> None:
    """Runs one command; `USER_ERRORS` are printed without a traceback."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # escapes what the terminal cannot encode
            stream.reconfigure(errors="backslashreplace")
    keep_freed_memory()
    console, errors = PlainConsole(), PlainConsole(stderr=True)
    quiet = distributed.launched_processes() > 1 and os.environ.get("RANK") != "0"
    command = None
    try:
        with _signals():
            command = parsed(arguments, errors)
            shares = getattr(command, "shares_work", False)
            device = device_of(command)
            with (
                distributed.process_group(arguments[0], shares=shares, device=device),
                _data_warnings_once(PlainConsole(quiet=True) if quiet else errors),
            ):
                if getattr(command, "draws", False):  # before hours of work
                    optional("notbugs.report", extra="report", use="Pages and pictures")
                command.run(PlainConsole(quiet=True) if quiet else console)
    except KeyboardInterrupt as stop:
        errors.print(str(stop) or getattr(command, "if_stopped", STOPPED), soft_wrap=True)
        sys.exit(128 + getattr(stop, "number", signal.SIGINT))
    except (*USER_ERRORS, RuntimeError) as error:
        if not isinstance(error, USER_ERRORS) and not _is_out_of_memory(error):
            raise
        _print_error(errors, error, quiet=quiet)


def device_of(command: Any) -> str:
    """The device that a command names, by itself or with its model and data; "cpu" if none."""
    return getattr(getattr(command, "given", command), "device", "cpu")


@contextmanager
def _signals() -> Generator[None, None, None]:
    """Makes SIGTERM stop as Ctrl-C does; in a distributed run the launcher ends each process."""
    if distributed.launched_processes() > 1:
        yield
        return
    with sigterm_as_interrupt():
        yield


def parsed(arguments: Sequence[str], errors: PlainConsole) -> Any:
    """The command that the arguments name; tyro's messages are printed to `errors`.

    **Raises** ValueError for an unknown command; SystemExit after a message of tyro.
    """
    kinds = [("command", COMMANDS)]
    kinds += [(f"action of {name}", ACTIONS[name]) for name in arguments[:1] if name in ACTIONS]
    for word, (kind, known) in zip(arguments, kinds, strict=False):
        if not word.startswith("-") and word not in known:
            raise unknown_name(kind, word, known)
    name, *options = arguments
    prog = f"notbugs {name}"
    if name in COMMANDS:
        kind = _class_of(name)
    else:  # flags for all commands: those that print completions
        prog, options = "notbugs", list(arguments)
        kind: Any = Union[tuple(Annotated[_class_of(n), tyro.conf.subcommand(n)] for n in COMMANDS)]  # noqa: UP007
    stderr = io.StringIO()
    try:
        with redirect_stderr(stderr), OPTIONS:
            return tyro.cli(
                kind,  # pyright: ignore[reportArgumentType]
                prog=prog,
                args=options,
                config=CONFIG,
            )
    finally:
        for line in stderr.getvalue().splitlines():
            errors.print(line, highlight=False, soft_wrap=True)


def _class_of(name: str) -> Any:
    module, kind = PLACES[name]
    command = getattr(import_module(f"notbugs.cli.{module}"), kind)
    join_docstrings(command)
    return command


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
