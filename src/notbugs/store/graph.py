"""What is left of a graph of stages, what can start, and what was done."""

from collections.abc import Sequence
from dataclasses import dataclass

from notbugs.store.stages import Stage, in_order, path_costs
from notbugs.store.store import Store


@dataclass
class _Done:
    """How many stages are finished and the seconds in them, apart by who did the work."""

    made: int = 0
    found: int = 0
    worked: float = 0.0
    earlier: float = 0.0

    def add(self, seconds: float, worked: float | None) -> None:
        """A stage of `seconds` of work, `worked` of them here (None: it was found)."""
        self.made += worked is not None
        self.found += worked is None
        self.worked += worked or 0.0
        self.earlier += seconds - (worked or 0.0)


class Graph:
    """Which stages are left, and which of them can start."""

    def __init__(self, targets: Sequence[Stage], store: Store) -> None:
        self.all = in_order(targets)
        self.found = {s.key: e for s in self.all if (e := store.find(s.kind, s.key)) is not None}
        needed = self._needed(targets)
        self.left = {s.key: s for s in self.all if s.key in needed and s.key not in self.found}
        faults = ((s, store.fault(s.kind, s.key)) for s in self.left.values())
        self.damaged = [(stage, fault) for stage, fault in faults if fault is not None]
        self.running: set[str] = set()
        self.rank = path_costs(self.left.values())
        self.done = _Done()
        for entry in self.found.values():
            self.done.add(entry.seconds, None)

    def _needed(self, targets: Sequence[Stage]) -> set[str]:
        """Targets and whatever unfinished stages need; inputs of finished ones are not asked."""
        needed: set[str] = set()
        waiting = list(targets)
        while waiting:
            stage = waiting.pop()
            if stage.key not in needed:
                needed.add(stage.key)
                waiting += [] if stage.key in self.found else list(stage.inputs.values())
        return needed

    def next(self) -> Stage | None:
        """The stage to start now: of those that can, the one that begins the longest chain."""
        ready = [
            stage
            for key, stage in self.left.items()
            if key not in self.running
            and not any(i.key in self.left for i in stage.inputs.values())
        ]
        return max(ready, key=lambda s: self.rank[s.key]) if ready else None

    def finish(self, stage: Stage, seconds: float, worked: float | None) -> None:
        """Notes a stage as done, by this run or (`worked` is None) by another."""
        self.running.discard(stage.key)
        del self.left[stage.key]
        self.done.add(seconds, worked)
