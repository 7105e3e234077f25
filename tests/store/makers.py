"""Producers for the store's tests; worker processes import this file by its name."""

import os
import time

import torch

from notbugs.core.interrupts import Stopped, deferred_signals


def constant(context) -> None:
    (context.work / "value").write_text(str(context.config["value"]))
    context.progress(1.0)


def threads(context) -> None:
    (context.work / "value").write_text(str(torch.get_num_threads()))


def add(context) -> None:
    total = sum(int((path / "value").read_text()) for path in context.inputs.values())
    (context.work / "value").write_text(str(total + context.config.get("more", 0)))


def count_slowly(context) -> None:
    """Counts to ten, noting how far it came; a killed run goes on from the note."""
    note, log = context.work / "note", context.settings["log"]
    for i in range(int(note.read_text()) if note.exists() else 0, 10):
        with open(log, "a") as file:  # noqa: PTH123
            file.write(f"{i} {os.getpid()}\n")
        time.sleep(0.1)
        note.write_text(str(i + 1))
        context.progress((i + 1) / 10)
    note.unlink()
    (context.work / "value").write_text("10")


def count_and_save(context) -> None:
    """Counts without notes, but leaves one where it is stopped, as a training does."""
    with deferred_signals() as heard:
        for i in range(200):
            with open(context.settings["log"], "a") as file:  # noqa: PTH123
                file.write(f"{i} {os.getpid()}\n")
            time.sleep(0.1)
            if heard():
                (context.work / "note").write_text(str(i + 1))
                raise Stopped("saved", heard())


def refuse(context) -> None:
    raise ValueError("`x` must be better; got worse.")


def crash(context) -> None:
    raise KeyError("deep inside")


def die(context) -> None:
    os._exit(9)


def full(context) -> None:
    raise OSError(28, "No space left on device")


def misread(context) -> None:
    (context.work.parent.parent.parent.parent / "no-such-data.idx").read_bytes()


def break_own_file(context) -> None:
    (context.work / "value").mkdir()
    (context.work / "value").write_text("x")


def fail_at_first(context) -> None:
    """Gives up after a while, the first time only; a checkpoint tells the times apart."""
    note = context.work / "note"
    time.sleep(0.2)
    if not note.exists():
        note.write_text("tried")
        raise ValueError("not yet")
    note.unlink()
    (context.work / "value").write_text("1")


def full_in_other_words(context) -> None:
    raise RuntimeError("Error while serializing: I/O error: No space left on device (os error 28)")


def leave(context) -> None:
    os._exit(1)


def notice(context) -> None:
    context.notice("look here")
