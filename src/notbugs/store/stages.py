"""A computation as a graph of stages, each with a key derived from everything it depends on."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from notbugs.core.errors import bad_value
from notbugs.store.keys import key_of
from notbugs.store.store import Store


@dataclass
class StageContext:
    """The arguments of a producer: its settings, its inputs' folders, a folder to write to.

    `store` holds the finished results. `work` may hold files of a killed run, such as a
    checkpoint. `progress` takes the fraction done, 0..1; `notice` takes a sentence that is
    shown to the user.
    """

    config: Mapping[str, Any]
    settings: Mapping[str, Any]
    inputs: Mapping[str, Path]
    store: Store
    work: Path
    progress: Callable[[float], None]
    notice: Callable[[str], None]


Producer = Callable[[StageContext], None]


@runtime_checkable
class AnyStage(Protocol):
    """What the store, the graph and the workers know of a stage; it is pickled for a worker.

    - `kind` groups results in the store; `label` is what a progress display shows
    - `key`: the content address of the result, of `version`, `config` and the inputs' keys
    - `cost`: relative work, to estimate the time left and to schedule
    """

    @property
    def kind(self) -> str: ...

    @property
    def label(self) -> str: ...

    @property
    def version(self) -> int: ...

    @property
    def config(self) -> Mapping[str, Any]: ...

    @property
    def inputs(self) -> "Mapping[str, AnyStage]": ...

    @property
    def cost(self) -> float: ...

    @property
    def key(self) -> str: ...

    def produce(self, context: StageContext) -> None:
        """Computes the result into `context.work`."""
        ...


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

    @property
    def key(self) -> str:
        """The content address of the result."""
        return self._key

    @cached_property
    def _key(self) -> str:
        return key_of(self.kind, self.version, self.config, self.input_keys)

    @property
    def input_keys(self) -> dict[str, str]:
        """The inputs' keys by name."""
        return {name: stage.key for name, stage in self.inputs.items()}

    def produce(self, context: StageContext) -> None:
        """Calls the producer."""
        self.producer(replace(context, settings=self.settings))


@runtime_checkable
class Observer(Protocol):
    """Receives the progress of a run."""

    def planned(self, total: int, cost: float, stored: int) -> None:
        """Once, before work starts: stages to make, their cost, stages found in the store."""

    def started(self, stage: AnyStage) -> None:
        """A worker started the stage."""

    def progressed(self, stage: AnyStage, fraction: float) -> None:
        """A fraction 0..1 of the stage is done."""

    def waiting(self, stage: AnyStage) -> None:
        """Another process is computing the stage, and this one waits for it."""

    def noticed(self, stage: AnyStage, text: str) -> None:
        """A message about the stage for the user, such as damage to a stored result."""

    def finished(self, stage: AnyStage, seconds: float) -> None:
        """The stage is in the store."""


class SilentObserver:
    """Ignores all progress."""

    def planned(self, total: int, cost: float, stored: int) -> None:
        return None

    def started(self, stage: AnyStage) -> None:
        return None

    def progressed(self, stage: AnyStage, fraction: float) -> None:
        return None

    def waiting(self, stage: AnyStage) -> None:
        return None

    def noticed(self, stage: AnyStage, text: str) -> None:
        return None

    def finished(self, stage: AnyStage, seconds: float) -> None:
        return None


def in_order(targets: Iterable[AnyStage]) -> list[AnyStage]:
    """All stages that the targets need in topological order, each key once."""
    ordered: dict[str, AnyStage] = {}

    def visit(stage: AnyStage) -> None:
        if stage.key in ordered:
            return
        for inner in stage.inputs.values():
            visit(inner)
        ordered[stage.key] = stage

    for target in targets:
        visit(target)
    return list(ordered.values())


def path_costs(stages: Iterable[AnyStage]) -> dict[str, float]:
    """For each key, the cost of the costliest chain of stages that begins with it."""
    stages_in_order = list(stages)
    longest = {stage.key: stage.cost for stage in stages_in_order}
    for stage in reversed(stages_in_order):
        for inner in stage.inputs.values():
            if inner.key in longest:
                longest[inner.key] = max(longest[inner.key], inner.cost + longest[stage.key])
    return longest
