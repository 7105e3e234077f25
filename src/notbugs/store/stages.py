"""A computation as a graph of stages, each with a key derived from everything it depends on."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from notbugs.core.errors import bad_value
from notbugs.store.keys import key_of


@dataclass
class StageContext:
    """The arguments of a producer: its settings, its inputs' folders, a folder to write to.

    `work` may hold files of a killed run, such as a checkpoint. `progress` takes the
    fraction done, 0..1; `notice` takes a sentence that is shown to the user.
    """

    config: Mapping[str, Any]
    settings: Mapping[str, Any]
    inputs: Mapping[str, Path]
    work: Path
    progress: Callable[[float], None]
    notice: Callable[[str], None]


Producer = Callable[[StageContext], None]


@dataclass(frozen=True, eq=False)
class Stage:
    """One result and how to compute it.

    - `kind` groups results in the store; `label` is what a progress display shows
    - `producer`: a module-level function, so that a worker process can find it
    - `version`: raised when the producer changes what it computes
    - `config`: everything that determines the result; `settings`: what does not change it (a
      data folder, a device)
    - `inputs`: the stages whose results it reads; their keys enter this stage's key
    - `cost`: relative work, to estimate the time left and to schedule
    """

    kind: str
    label: str
    producer: Producer
    version: int
    config: Mapping[str, Any]
    inputs: Mapping[str, "Stage"] = field(default_factory=dict[str, "Stage"])
    settings: Mapping[str, Any] = field(default_factory=dict[str, Any])
    cost: float = 1.0

    def __post_init__(self) -> None:
        name = getattr(self.producer, "__qualname__", "")
        if not name.isidentifier():  # a lambda, a method, a partial, a function in a function
            raise bad_value(
                "producer",
                "be a function on a module's top level",
                name or repr(self.producer),
                "A worker process finds it by its name; what varies belongs in `config`.",
            )

    @cached_property
    def key(self) -> str:
        """The content address of the result."""
        return key_of(self.kind, self.version, self.config, self.input_keys)

    @property
    def input_keys(self) -> dict[str, str]:
        """The inputs' keys by name."""
        return {name: stage.key for name, stage in self.inputs.items()}


@runtime_checkable
class Observer(Protocol):
    """Receives the progress of a run."""

    def planned(self, total: int, cost: float, stored: int) -> None:
        """Once, before work starts: stages to make, their cost, stages found in the store."""

    def started(self, stage: Stage) -> None:
        """A worker started the stage."""

    def progressed(self, stage: Stage, fraction: float) -> None:
        """A fraction 0..1 of the stage is done."""

    def waiting(self, stage: Stage) -> None:
        """Another process is computing the stage, and this one waits for it."""

    def noticed(self, stage: Stage, text: str) -> None:
        """A message about the stage for the user, such as damage to a stored result."""

    def finished(self, stage: Stage, seconds: float) -> None:
        """The stage is in the store."""


class SilentObserver:
    """Ignores all progress."""

    def planned(self, total: int, cost: float, stored: int) -> None:
        return None

    def started(self, stage: Stage) -> None:
        return None

    def progressed(self, stage: Stage, fraction: float) -> None:
        return None

    def waiting(self, stage: Stage) -> None:
        return None

    def noticed(self, stage: Stage, text: str) -> None:
        return None

    def finished(self, stage: Stage, seconds: float) -> None:
        return None


def in_order(targets: Iterable[Stage]) -> list[Stage]:
    """All stages that the targets need in topological order, each key once."""
    ordered: dict[str, Stage] = {}

    def visit(stage: Stage) -> None:
        if stage.key in ordered:
            return
        for inner in stage.inputs.values():
            visit(inner)
        ordered[stage.key] = stage

    for target in targets:
        visit(target)
    return list(ordered.values())


def path_costs(stages: Iterable[Stage]) -> dict[str, float]:
    """For each key, the cost of the costliest chain of stages that begins with it."""
    stages_in_order = list(stages)
    longest = {stage.key: stage.cost for stage in stages_in_order}
    for stage in reversed(stages_in_order):
        for inner in stage.inputs.values():
            if inner.key in longest:
                longest[inner.key] = max(longest[inner.key], inner.cost + longest[stage.key])
    return longest
