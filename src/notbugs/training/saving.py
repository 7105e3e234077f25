"""When training writes checkpoints, and how it resumes from one."""

import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path

from notbugs.core import processes
from notbugs.core.errors import CheckpointError
from notbugs.core.interrupts import Stopped, deferred_signals
from notbugs.core.pace import Pace
from notbugs.training import checkpoint
from notbugs.training.checkpoint import Learner, State

CHECKPOINT_SECONDS = 10.0


class Saver:
    """The checkpoint of one training, written by the first process; without a `path` none."""

    def __init__(self, path: Path | None, owner: str, learner: Learner, *, restart: bool) -> None:
        self.path, self.owner, self.learner, self.restart = path, owner, learner, restart
        self.pace = Pace()
        self.received: Callable[[], int] = lambda: 0

    @contextmanager
    def delaying_signals(self) -> Generator[None, None, None]:
        """Delays a first Ctrl-C or SIGTERM until the step is done and saved."""
        if self.path is None or processes.count() > 1:
            yield
            return
        with deferred_signals() as self.received:
            yield

    def resumed(self) -> State | None:
        """The state of the checkpoint, which is loaded; None where training begins.

        **Raises** CheckpointError for a damaged checkpoint or another's, unless `restart`.
        """
        if (path := self.path) is None:
            return None
        try:
            saved = processes.from_first(lambda: checkpoint.read(path, self.owner))
            return None if saved is None else checkpoint.restored(saved, self.learner, path)
        except CheckpointError:
            if not self.restart:
                raise
            return None

    def is_due(self, *, by_time: bool = True) -> bool:
        """Whether to save now: after a signal, or `by_time` where enough of it has passed."""
        writes = by_time and self.path is not None and processes.is_first()
        return bool(self.received()) or (writes and self.pace.due(CHECKPOINT_SECONDS))

    def save(self, state: State, where: str) -> None:
        """Writes the checkpoint.

        **Raises** Stopped where a signal was received; `where` says at which step.
        """
        began = time.perf_counter()
        if self.path is not None and processes.is_first():
            checkpoint.save(self.path, self.learner, state, self.owner)
        self.pace.written(began)
        if number := self.received():
            raise Stopped(
                f"Stopped {where}; saved to '{self.path}'. The same command resumes it.", number
            )
