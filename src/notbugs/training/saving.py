"""When training writes checkpoints, and how it resumes from one."""

import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from notbugs.core import processes
from notbugs.core.errors import CheckpointError
from notbugs.core.interrupts import Stopped, deferred_signals
from notbugs.training import checkpoint
from notbugs.training.checkpoint import Learner, State

CHECKPOINT_SECONDS = 10.0


@dataclass
class Pace:
    """When a checkpoint is due: some seconds after the last one, later where writing is slow.

    Writing takes at most a twentieth of the time; `took`: seconds of the last write.
    """

    last: float = field(default_factory=lambda: time.perf_counter())
    took: float = 0.0

    def due(self, seconds: float) -> bool:
        """Whether `seconds`, or twenty times what writing took, have passed; 0: always."""
        wait = max(seconds, 20 * self.took) if seconds else 0.0
        return time.perf_counter() - self.last > wait

    def written(self, began: float) -> None:
        """Restarts the clock after a checkpoint; `began`: when writing started (`perf_counter`)."""
        self.last = time.perf_counter()
        self.took = self.last - began


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
