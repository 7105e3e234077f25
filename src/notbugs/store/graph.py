"""The state of a run: which stages are pending, which can start, and what was computed."""

from collections.abc import Sequence
from dataclasses import dataclass

from notbugs.store.stages import AnyStage, in_order, path_costs
from notbugs.store.store import Store


@dataclass
class _Progress:
    """Finished stages and their seconds: computed by this run, or taken from the store."""

    computed: int = 0
    cached: int = 0
    worked: float = 0.0
    earlier: float = 0.0

    def add(self, seconds: float, worked: float | None) -> None:
        """Adds a stage of `seconds`, `worked` of them in this run (None: found in the store)."""
        self.computed += worked is not None
        self.cached += worked is None
        self.worked += worked or 0.0
        self.earlier += seconds - (worked or 0.0)


class Graph:
    """Which stages are pending, and which of them can start."""

    def __init__(self, targets: Sequence[AnyStage], store: Store) -> None:
        self.all = in_order(targets)
        self.cached = {s.key: e for s in self.all if (e := store.find(s.kind, s.key)) is not None}
        needed = self._needed(targets)
        self.pending = {s.key: s for s in self.all if s.key in needed and s.key not in self.cached}
        faults = ((s, store.fault(s.kind, s.key)) for s in self.pending.values())
        self.damaged = [(stage, fault) for stage, fault in faults if fault is not None]
        self.running: set[str] = set()
        self.rank = path_costs(self.pending.values())
        self.done = _Progress()
        for entry in self.cached.values():
            self.done.add(entry.seconds, None)

    def _needed(self, targets: Sequence[AnyStage]) -> set[str]:
        """Keys of the targets and of all inputs of unfinished stages."""
        needed: set[str] = set()
        waiting = list(targets)
        while waiting:
            stage = waiting.pop()
            if stage.key not in needed:
                needed.add(stage.key)
                waiting += [] if stage.key in self.cached else list(stage.inputs.values())
        return needed

    def next(self) -> AnyStage | None:
        """The ready stage with the costliest chain of stages after it; None where none is ready."""
        ready = [
            stage
            for key, stage in self.pending.items()
            if key not in self.running
            and not any(i.key in self.pending for i in stage.inputs.values())
        ]
        return max(ready, key=lambda s: self.rank[s.key]) if ready else None

    def finish(self, stage: AnyStage, seconds: float, worked: float | None) -> None:
        """Records a stage as done, by this run or (`worked` is None) by another process."""
        self.running.discard(stage.key)
        del self.pending[stage.key]
        self.done.add(seconds, worked)
