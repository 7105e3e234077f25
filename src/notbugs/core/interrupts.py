"""Deferred handling of Ctrl-C and SIGTERM, so that work is saved before the process stops."""

import os
import signal
import threading
from collections.abc import Callable, Generator
from contextlib import contextmanager
from types import FrameType
from typing import Any

SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Stopped(KeyboardInterrupt):
    """Work was stopped by the signal `number`; the text says where, and what was saved."""

    def __init__(self, text: str = "", number: int = signal.SIGINT) -> None:
        super().__init__(text)
        self.number = int(number)


@contextmanager
def deferred_signals() -> Generator[Callable[[], int], None, None]:
    """Yields a function that returns the signal received since the block began, or 0.

    The first Ctrl-C or SIGTERM is only recorded: call the function after every step, save, and
    raise `Stopped`. A second signal is handled at once, as before the block. A recorded signal
    that was not acted on is raised when the block ends. Ignored signals stay ignored, and only
    the main thread receives signals.
    """
    received: list[int] = []
    old_handlers: dict[int, Any] = {}
    if threading.current_thread() is threading.main_thread():
        old_handlers = {number: signal.getsignal(number) for number in SIGNALS}
        old_handlers = {n: h for n, h in old_handlers.items() if h not in (signal.SIG_IGN, None)}

    def restore() -> None:
        for number, handler in old_handlers.items():
            signal.signal(number, handler)

    def on_signal(number: int, frame: FrameType | None) -> None:
        received.append(number)
        restore()
        if number == signal.SIGINT:  # `print` is not safe in a signal handler
            os.write(2, b"\nStopping after this step, to save. Once more stops at once.\n")

    for number in old_handlers:
        signal.signal(number, on_signal)
    try:
        yield lambda: received[0] if received else 0
    finally:
        restore()
    if received:
        signal.raise_signal(received[0])


@contextmanager
def sigterm_as_interrupt() -> Generator[None, None, None]:
    """Makes SIGTERM raise `Stopped` in the block, as Ctrl-C raises KeyboardInterrupt."""
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
