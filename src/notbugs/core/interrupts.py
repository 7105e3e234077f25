"""Ctrl-C and SIGTERM, heard between two steps so that work is saved before it stops."""

import os
import signal
import threading
from collections.abc import Callable, Generator
from contextlib import contextmanager
from types import FrameType
from typing import Any

SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Stopped(KeyboardInterrupt):
    """Work was stopped by the signal `number`; the text, if any, says where, and what was saved."""

    def __init__(self, text: str = "", number: int = signal.SIGINT) -> None:
        super().__init__(text)
        self.number = int(number)


@contextmanager
def between_steps() -> Generator[Callable[[], int], None, None]:
    """Gives a function that tells the signal that was heard since the block began, or 0.

    The first Ctrl-C or SIGTERM only makes it tell; work that asks it after every step can then
    save and raise `Stopped`. Another one acts at once, as before the block. One that was heard and
    that nobody acted on acts when the block ends. What this process ignores stays ignored; and only
    a main thread hears signals.
    """
    heard: list[int] = []
    before: dict[int, Any] = {}
    if threading.current_thread() is threading.main_thread():
        before = {number: signal.getsignal(number) for number in SIGNALS}
        before = {n: h for n, h in before.items() if h not in (signal.SIG_IGN, None)}

    def restore() -> None:
        for number, handler in before.items():
            signal.signal(number, handler)

    def hear(number: int, frame: FrameType | None) -> None:
        heard.append(number)
        restore()
        if number == signal.SIGINT:  # by hand: `print` is not safe here
            os.write(2, b"\nStopping after this step, to save. Once more stops at once.\n")

    for number in before:
        signal.signal(number, hear)
    try:
        yield lambda: heard[0] if heard else 0
    finally:
        restore()
    if heard:
        signal.raise_signal(heard[0])


@contextmanager
def terminated_as_interrupted() -> Generator[None, None, None]:
    """While the block runs, SIGTERM raises `Stopped`, as Ctrl-C raises KeyboardInterrupt."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def stop(number: int, frame: FrameType | None) -> None:
        raise Stopped("", number)

    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
