"""A paper's experiment as one value: its stages, numbers, claims and page."""

import hashlib
import sys
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields, is_dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, Generic, TypeVar, cast

from torch import Tensor

from notbugs.core.errors import bad_value, check_count, unknown_name
from notbugs.core.schema import read_json_file
from notbugs.data import Splits, safefile
from notbugs.data.sources.load import family
from notbugs.data.writing import write_json
from notbugs.experiments.numbers import Columns, Tables
from notbugs.experiments.page import Column, Section
from notbugs.experiments.rules import Claim
from notbugs.store import AnyStage, StageContext, Store
from notbugs.store.keys import canonical, key_of

T = TypeVar("T")
NUMBERS = "numbers.json"
MOST_SEEDS = 1000
DAMAGED = "Delete its folder in the store, and run the same command again to compute it again."
"""The remedy for a stored result that cannot be read."""


@dataclass
class Work:
    """What a stage works with that does not change its result.

    - `folder`: where `make` writes; it may hold files of a killed run, such as a checkpoint
    - `store`: the finished results; `device`: of models; `data_dir`: of the datasets' files
    - `progress` takes the fraction done, 0..1; `notice` a sentence for the user
    """

    folder: Path
    store: Store
    device: str = "cpu"
    data_dir: str | None = None
    progress: Callable[[float], None] = lambda fraction: None
    notice: Callable[[str], None] = lambda text: None

    def load(self, stage: "Stage[T]") -> T:
        """The result of a finished stage.

        **Raises** StoreError where it is not in the store.
        """
        return stage.load(self.path(stage), self)

    def path(self, stage: "Stage[Any]") -> Path:
        """The folder of a finished stage's result.

        **Raises** StoreError where it is not in the store.
        """
        return self.store.get(stage.kind, stage.key).path


@dataclass(frozen=True)
class Stage(ABC, Generic[T]):
    """One stored result and how to compute it: a frozen dataclass.

    Its fields are its settings; fields that are stages, or hold some, are its inputs. The key is
    a hash of the class, its `VERSION` and all fields, so that a changed default is a new key. A
    subclass defines `make`, which writes into `work.folder`, and `load`.

    - `VERSION`: raised when `make` computes something else, be it by its own code, a constant, or
      the code of what it calls
    """

    VERSION: ClassVar[int] = 1

    @abstractmethod
    def make(self, work: Work) -> None:
        """Computes the result into `work.folder`."""

    @abstractmethod
    def load(self, folder: Path, work: Work) -> T:
        """The result that `make` wrote to `folder`."""

    @property
    def kind(self) -> str:
        """The name of the class, which groups results in the store."""
        # A script is __main__ where it is run, and __mp_main__ in its workers.
        module = type(self).__module__.removeprefix("notbugs.experiments.").replace("__mp_", "__")
        return f"{module}-{type(self).__qualname__}".lower().replace(".", "-")

    @property
    def version(self) -> int:
        """That of the class."""
        return self.VERSION

    @property
    def label(self) -> str:
        """What a progress display shows; it does not enter the key."""
        return type(self).__name__

    @property
    def cost(self) -> float:
        """Relative work: forward and backward passes of one image."""
        return 1.0

    @property
    def config(self) -> Mapping[str, Any]:
        """All fields as JSON, a stage as its key."""
        return {f.name: as_json(getattr(self, f.name), f.name) for f in fields(self)}

    @property
    def inputs(self) -> Mapping[str, AnyStage]:
        """The stages among the fields, by their place."""
        return self._inputs

    @cached_property
    def _inputs(self) -> dict[str, AnyStage]:
        return dict(_stages(self))

    @property
    def key(self) -> str:
        """The content address of the result."""
        return self._key

    @cached_property
    def _key(self) -> str:
        return key_of(self.kind, self.version, {"class": _origin(type(self)), **self.config}, {})

    def produce(self, context: StageContext) -> None:
        """Makes the result, as a worker of the store asks for it."""
        self.make(
            Work(
                context.work,
                context.store,
                progress=context.progress,
                notice=context.notice,
                **context.settings,
            )
        )


@dataclass(frozen=True)
class Measurement(Stage[Columns]):
    """A stage whose result is a row of numbers, by column; `measure` gives them."""

    @abstractmethod
    def measure(self, work: Work) -> Columns:
        """The numbers."""

    def make(self, work: Work) -> None:
        write_json(work.folder / NUMBERS, dict(self.measure(work)))

    def load(self, folder: Path, work: Work) -> Columns:
        return read_json_file(dict[str, float | None], folder / NUMBERS, remedy=DAMAGED)


@dataclass(frozen=True)
class Measurements(Stage[Tables]):
    """A stage whose result is rows of several tables; `measure` gives them.

    It may also save pictures (`save_pictures`).
    """

    @abstractmethod
    def measure(self, work: Work) -> Tables:
        """The numbers."""

    def make(self, work: Work) -> None:
        write_json(work.folder / NUMBERS, self.measure(work))

    def load(self, folder: Path, work: Work) -> Tables:
        kind = dict[str, dict[str, dict[str, float | None]]]
        return read_json_file(kind, folder / NUMBERS, remedy=DAMAGED)


Pictures = Mapping[str, Tensor]
"""Images by name, each [n, c, h, w] in [0, 1]."""
PICTURES = "pictures.safetensors"


def save_pictures(pictures: Pictures, work: Work) -> None:
    """Writes the pictures of a stage."""
    tensors = {name: images.cpu().contiguous() for name, images in pictures.items()}
    safefile.write_tensors(work.folder / PICTURES, tensors, {})


def load_pictures(folder: Path) -> Pictures:
    """The pictures that `save_pictures` wrote."""
    return safefile.read_tensors(folder / PICTURES, what="data")[0]


@dataclass(frozen=True)
class Illustration(Stage[Pictures]):
    """A stage whose result is pictures, by name; `draw` gives them."""

    @abstractmethod
    def draw(self, work: Work) -> Pictures:
        """The pictures."""

    def make(self, work: Work) -> None:
        save_pictures(self.draw(work), work)

    def load(self, folder: Path, work: Work) -> Pictures:
        return load_pictures(folder)


def _origin(kind: type) -> str:
    """A class's full name; of a script, which has no name of its own, a digest of its text."""
    module = kind.__module__
    if module in ("__main__", "__mp_main__"):
        script = getattr(sys.modules[module], "__file__", None)
        module = "" if script is None else hashlib.sha256(Path(script).read_bytes()).hexdigest()
    return f"{module}:{kind.__qualname__}"


def as_json(value: Any, where: str) -> Any:
    """A field of a stage in JSON: a dataclass with its class's name, a stage as its key.

    **Raises** TypeError or ValueError that names a field without a fixed form, e.g. a function.
    """
    if isinstance(value, Stage):
        return {"stage": cast("Stage[Any]", value).key}
    if is_dataclass(value) and not isinstance(value, type):
        inner = {
            f.name: as_json(getattr(value, f.name), f"{where}.{f.name}") for f in fields(value)
        }
        return {"class": type(value).__qualname__, **inner}
    if isinstance(value, Mapping):
        items = cast("Mapping[str, Any]", value).items()
        return {name: as_json(item, f"{where}.{name}") for name, item in items}
    if isinstance(value, (tuple, list)):
        items = cast("Sequence[Any]", value)
        return [as_json(item, f"{where}[{i}]") for i, item in enumerate(items)]
    return canonical(value, where)


def _stages(value: Any, where: str = "") -> Iterator[tuple[str, AnyStage]]:
    """The stages in a field, not those within them."""
    if where and isinstance(value, Stage):
        yield where, cast("Stage[Any]", value)
    elif is_dataclass(value):
        for f in fields(value):
            yield from _stages(getattr(value, f.name), f"{where}.{f.name}".lstrip("."))
    elif isinstance(value, Mapping):
        for name, item in cast("Mapping[str, Any]", value).items():
            yield from _stages(item, f"{where}.{name}")
    elif isinstance(value, (tuple, list)):
        for i, item in enumerate(cast("Sequence[Any]", value)):
            yield from _stages(item, f"{where}[{i}]")


@dataclass(frozen=True)
class Row:
    """A row of a table for one seed: where it stands, and the stage that measures it."""

    table: str
    name: str
    seed: int
    stage: Stage[Columns]

    def read(self, work: Work) -> Tables:
        """Its numbers, once they are measured."""
        return {self.table: {self.name: work.load(self.stage)}}


@dataclass(frozen=True)
class Rows:
    """All rows that one stage measures for one seed."""

    seed: int
    stage: Stage[Tables]

    def read(self, work: Work) -> Tables:
        """Their numbers, once they are measured."""
        return work.load(self.stage)


@dataclass(frozen=True)
class PaperConfig:
    """Everything that determines the numbers of one run; papers add fields.

    - `data`, `preset`: which dataset, at which size
    - `seeds`: the run uses seeds 0..seeds-1, each of which varies split, models and attacks
    - `train_size`, `test_size`: images used (None: all); 10 % of the first is validation
    - `digest`: of the dataset's files; the run fills it in
    """

    data: str
    preset: str
    seeds: int = 3
    train_size: int | None = None
    test_size: int | None = None
    digest: str = ""

    def __post_init__(self) -> None:
        check_count(self.seeds, "seeds", remedy="A result needs at least one seed.")
        if self.seeds > MOST_SEEDS:
            raise bad_value("seeds", f"be at most {MOST_SEEDS}", self.seeds)
        for name in ("train_size", "test_size"):
            if getattr(self, name) is not None:
                check_count(getattr(self, name), name)

    @property
    def digested(self) -> Mapping[str, str]:
        """The fields that a run fills with digests of files, each with the name of its dataset."""
        return {"digest": self.data}


C = TypeVar("C", bound=PaperConfig)


@dataclass(frozen=True)
class Experiment(Generic[C]):
    """A paper: what is computed, what is claimed, and how it is shown.

    - `name`: on the command line; `paper`: authors, year, title and arXiv number
    - `question`: what the experiment answers, in a sentence
    - `takes`: minutes of the laptop preset on two cores, measured, by dataset
    - `datasets`, `presets`: those it has settings for, a folder of images as "folder"
    - `config_for`: (data, preset) -> settings
    - `rows`: (settings, seed) -> the rows of the tables, measured by stages
    - `pictures`: settings -> stages whose `save_pictures` the page shows, of seed 0
    - `claims`: settings -> the paper's statements; `columns`: how a column is written
    - `sections`: the page, in order
    - `files`: settings -> what else the output folder gets: its name there -> a stage, and the
      name of the file of its result
    - `choices`: settings -> stages whose results become settings, by the field's name; they are
      computed first, and everything else with what they chose
    - `check`: raises for a seed's split that the measurements cannot do with, before any work
    """

    name: str
    paper: str
    question: str
    datasets: tuple[str, ...]
    presets: tuple[str, ...]
    config_for: Callable[[str, str], C]
    rows: Callable[[C, int], Iterable[Row | Rows]]
    claims: Callable[[C], Sequence[Claim]]
    columns: Mapping[str, Column]
    sections: tuple[Section, ...]
    pictures: Callable[[C], Sequence[AnyStage]] = lambda config: ()
    takes: Mapping[str, int] = field(default_factory=dict[str, int])
    files: Callable[[C], Mapping[str, tuple[AnyStage, str]]] = lambda config: {}
    choices: Callable[[C], Mapping[str, Stage[Any]]] = lambda config: {}
    check: Callable[[C, Splits], None] | None = None

    def settings(self, data: str, preset: str) -> C:
        """The settings of a dataset at a preset.

        **Raises** ValueError for a dataset or a preset that the paper does not have.
        """
        if family(data) not in self.datasets:
            raise unknown_name("dataset", data, self.datasets)
        if preset not in self.presets:
            raise unknown_name("preset", preset, self.presets)
        return self.config_for(data, preset)
