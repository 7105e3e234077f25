"""Progress display with rich: bars on a terminal, plain lines elsewhere."""

import time
from collections.abc import Callable, Generator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import (
    BarColumn,
    Progress,
    SpinnerColumn,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
)

from notbugs.core.visible import visible
from notbugs.store import AnyStage

LINE_SECONDS = 15.0


def duration(seconds: float) -> str:
    """Seconds as readable text: 8 s, 2 min 05 s, 1 h 10 min."""
    rounded = round(seconds)
    if rounded < 60:
        return f"{rounded} s"
    if rounded < 3600:
        return f"{rounded // 60} min {rounded % 60:02d} s"
    return f"{rounded // 3600} h {rounded % 3600 // 60:02d} min"


class StageDisplay:
    """Shows the running stages and the time left; an observer of `run_stages`.

    Time left is the cost of the pending stages over the cost finished per second.
    """

    def __init__(self, console: Console) -> None:
        """Draws on `console`; nothing appears before `planned`."""
        self.console = console
        self.bars = Progress(
            SpinnerColumn(),
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=24),
            TextColumn("{task.percentage:>3.0f}%"),
            TimeElapsedColumn(),
            TextColumn("{task.fields[left]}"),
            console=console,
            transient=True,
        )
        self.whole: TaskID | None = None
        self.tasks: dict[str, TaskID] = {}
        self.fractions: dict[str, float] = {}
        self.total = self.done = self.count = self.finished_count = 0.0
        self.began = self.said = 0.0

    @contextmanager
    def shown(self) -> Generator["StageDisplay", None, None]:
        """Shows the bars while the block runs."""
        if not self.console.is_terminal:
            yield self
            return
        with self.bars:
            yield self

    def planned(self, total: int, cost: float, stored: int) -> None:
        """Starts the clock, again where a run has several parts."""
        if self.whole is not None:
            self.bars.remove_task(self.whole)
        self.done = self.finished_count = 0.0
        self.count, self.total = total, max(cost, 1e-9)
        self.began = self.said = time.monotonic()
        cached = f", {stored} found in the store" if stored else ""
        self.console.print(f"{total} stages to do{cached}.")
        self.whole = self.bars.add_task("all stages", total=self.total, left="")

    def started(self, stage: AnyStage) -> None:
        """Adds the stage's bar."""
        self.tasks[stage.key] = self.bars.add_task(visible(stage.label), total=1.0, left="")

    def progressed(self, stage: AnyStage, fraction: float) -> None:
        """Moves the stage's bar and the total bar."""
        self.fractions[stage.key] = fraction
        self.bars.update(self.tasks[stage.key], completed=fraction)
        self._refresh()

    def waiting(self, stage: AnyStage) -> None:
        """Shows that another process is computing the stage."""
        self.bars.update(self.tasks[stage.key], left="waiting for another process")

    def noticed(self, stage: AnyStage, text: str) -> None:
        """Prints the message after the stage's name."""
        self.console.print(f"{stage.label}: {text}", markup=False, highlight=False, soft_wrap=True)

    def finished(self, stage: AnyStage, seconds: float) -> None:
        """Removes the stage's bar."""
        self.fractions.pop(stage.key, None)
        self.done += stage.cost
        self.finished_count += 1
        self.bars.remove_task(self.tasks.pop(stage.key))
        self._refresh()
        now = time.monotonic()
        if not self.console.is_terminal and now - self.said > LINE_SECONDS:
            self.said = now
            self.console.print(
                f"{self.finished_count:.0f} of {self.count:.0f} stages done, {self._left()} "
                f"(last: {stage.label})"
            )

    def _refresh(self) -> None:
        if self.whole is not None:
            running = sum(self.fractions.values()) / max(1, len(self.fractions) or 1)
            self.bars.update(self.whole, completed=self._worked(running), left=self._left())

    def _worked(self, running: float) -> float:
        share = (self.total - self.done) / max(1.0, self.count - self.finished_count)
        return min(self.total, self.done + running * len(self.fractions) * share)

    def _left(self) -> str:
        spent = time.monotonic() - self.began
        if self.done <= 0 or spent < 2:
            return "estimating time left"
        return f"about {duration(spent * (self.total - self.done) / self.done)} left"


@contextmanager
def bar(console: Console, label: str) -> Generator[Callable[[float], None], None, None]:
    """A single progress bar; yields a function that takes the fraction done."""
    with Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(bar_width=24),
        TextColumn("{task.percentage:>3.0f}%"),
        TimeElapsedColumn(),
        console=console,
        transient=True,
        disable=not console.is_terminal,
    ) as progress:
        task = progress.add_task(visible(label), total=1.0)
        yield lambda fraction: progress.update(task, completed=fraction)
