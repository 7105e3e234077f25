"""Schemas of the parts of results.json that pages read, one per experiment."""

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
    """Settings from which the command of a run is reconstructed."""

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
    """The settings of the main experiment that pages show."""

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
    """The common part of all experiments' results."""

    experiment: str
    dataset: str
    claims: list[ClaimRow]
    preset: NotRequired[str]
    seconds: NotRequired[float]
    seconds_total: NotRequired[float]
    seconds_wall: NotRequired[float]
    versions: NotRequired[dict[str, str] | None]


class PaperClaim(ClaimRow):
    """A claim of a paper that is one value, with the reason where it is undecided."""

    fixed: str
    why: str
    seeds: int


class PaperConditions(TypedDict):
    """Under which conditions a paper's numbers hold."""

    images: dict[str, int]
    shape: list[int]
    classes: list[str]
    config: dict[str, Any]


class PaperResult(TypedDict):
    """The results of a paper that is one value: its tables hold one value a seed."""

    experiment: str
    dataset: str
    preset: str
    command: str
    conditions: PaperConditions
    claims: list[PaperClaim]
    tables: dict[str, dict[str, dict[str, list[float | None]]]]
    seconds: float
    seconds_total: float
    seconds_wall: float
    versions: dict[str, str]


class Result(Common):
    """The results of the main experiment."""

    tables: Tables
    conditions: Conditions


@dataclass(frozen=True)
class EngstromRow:
    """A row of a table of the experiment on representations."""

    row: str
    seeds: int
    numbers: Numbers = field(default_factory=Numbers, metadata=REST)


class RobustAdversary(TypedDict):
    """The adversary of the robust model's training."""

    threat: str


class RobustRecipe(TypedDict):
    """The recipe of the robust model."""

    adversary: RobustAdversary


class EngstromModels(Choices):
    """The settings of the experiment's models."""

    data: str
    preset: str
    seeds: int
    architecture: str
    robust: RobustRecipe


class EngstromSettings(TypedDict):
    """The settings of the experiment on representations that its page shows."""

    models: EngstromModels
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


class EngstromConditions(TypedDict):
    """Under which conditions the numbers of the experiment on representations hold."""

    classes: list[str]
    config: EngstromSettings
    data: str
    data_digest: str
    images: Images


class EngstromResult(Common):
    """The results of the experiment on representations."""

    experiment: Literal["engstrom2019"]  # pyright: ignore[reportIncompatibleVariableOverride]
    tables: dict[str, list[EngstromRow]]
    conditions: EngstromConditions
