"""What results.json holds, as far as pages read it: one schema an experiment."""

from dataclasses import dataclass, field
from typing import Any, Literal, NotRequired, TypedDict

from notbugs.core.schema import REST

Numbers = dict[str, float | None]


class ClaimRow(TypedDict):
    """A claim, the numbers that decide it, and whether it holds."""

    statement: str
    published: str
    ours: float | None
    std: float | None
    control: float | None
    holds: bool | None
    rule: NotRequired[str]


@dataclass(frozen=True)
class TableRow:
    """A training set at one radius: its numbers, means over seeds and deviations."""

    set: str
    eps: float | None = None
    seeds: int = 1
    numbers: Numbers = field(default_factory=Numbers, metadata=REST)


@dataclass(frozen=True)
class Tables:
    """The tables of the main experiment."""

    sets: list[TableRow]
    others: dict[str, list[TableRow]] = field(
        default_factory=dict[str, list[TableRow]], metadata=REST
    )


class Choices(TypedDict):
    """Settings from which the command of a run is made again."""

    norm: str
    eps_eval: float
    eps_sets: NotRequired[list[float]]
    train_size: NotRequired[int | None]
    test_size: NotRequired[int | None]
    options: NotRequired[dict[str, Any] | None]
    standard: NotRequired[dict[str, Any] | None]
    student: NotRequired[dict[str, Any] | None]
    inversion: NotRequired[dict[str, Any] | None]


class Settings(Choices):
    """The settings of the main experiment that pages speak of."""

    data: NotRequired[str]
    preset: NotRequired[str]
    seeds: NotRequired[int]
    architecture: NotRequired[str]
    robust: NotRequired[dict[str, Any] | None]


class Conditions(TypedDict):
    """Under which conditions the numbers hold."""

    classes: list[str]
    config: Settings
    data: NotRequired[str]
    data_digest: NotRequired[str]
    evaluation: NotRequired[str]
    images: NotRequired[dict[str, int] | None]


class Common(TypedDict):
    """What the results of every experiment hold."""

    experiment: str
    dataset: str
    claims: list[ClaimRow]
    preset: NotRequired[str]
    seconds: NotRequired[float]
    seconds_total: NotRequired[float]
    seconds_wall: NotRequired[float]
    versions: NotRequired[dict[str, str] | None]


class Result(Common):
    """The results of the main experiment."""

    tables: Tables
    conditions: Conditions


@dataclass(frozen=True)
class LooksRow:
    """A row of a table of the experiment on representations."""

    row: str
    seeds: int
    numbers: Numbers = field(default_factory=Numbers, metadata=REST)


class RobustAdversary(TypedDict):
    """Whom the robust model was trained against."""

    threat: str


class RobustRecipe(TypedDict):
    """How the robust model was trained."""

    adversary: RobustAdversary


class LooksModels(Choices):
    """The settings of the models that are looked at."""

    data: str
    preset: str
    seeds: int
    architecture: str
    robust: RobustRecipe


class LooksSettings(TypedDict):
    """The settings of the experiment on representations that its page speaks of."""

    models: LooksModels
    targets: int
    inversion_steps: int
    inversion_rule: str
    copies: int
    visual_steps: int


class Images(TypedDict):
    """How many images there were."""

    train: int
    val: int
    test: int


class LooksConditions(TypedDict):
    """Under which conditions the numbers of the experiment on representations hold."""

    classes: list[str]
    config: LooksSettings
    data: str
    data_digest: str
    images: Images


class LooksResult(Common):
    """The results of the experiment on representations."""

    experiment: Literal["engstrom2019"]  # pyright: ignore[reportIncompatibleVariableOverride]
    tables: dict[str, list[LooksRow]]
    conditions: LooksConditions
