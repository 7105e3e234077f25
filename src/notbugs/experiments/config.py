"""Settings of the main experiment, and its presets for each dataset and machine size."""

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Literal, TypeAlias

from notbugs.core.errors import bad_value, check_count, check_positive, unknown_name
from notbugs.data import Augment
from notbugs.engine import NORMS
from notbugs.features import InversionSettings
from notbugs.training import Adversary, Recipe

Preset: TypeAlias = Literal["smoke", "laptop", "gpu", "paper"]
PRESETS: tuple[Preset, ...] = ("smoke", "laptop", "gpu", "paper")


@dataclass(frozen=True)
class Config:
    """Everything that determines the numbers of one run.

    - `seeds`: the run uses seeds 0..seeds-1; each varies split, models, targets, patterns
    - `train_size`, `test_size`: images used (None: all); 10 % of the first is validation
    - `norm`, `eps_eval`: the threat of every robust accuracy in the tables
    - `eps_sets`: radii at which D_rand, D_det, D_other and their controls are built; the
      largest decides the claims
    - `push_steps`, `push_step_size`: PGD of the targeted sets (None: 2.5 * eps / steps)
    """

    data: str
    preset: str
    seeds: int = 3
    train_size: int | None = None
    test_size: int | None = None
    architecture: str = "cnn"
    options: Mapping[str, Any] = field(default_factory=dict[str, Any])
    norm: str = "l2"
    eps_eval: float = 1.0
    eps_sets: tuple[float, ...] = (0.5, 1.0, 2.0)
    standard: Recipe = Recipe()  # noqa: RUF009 (frozen)
    robust: Recipe = Recipe(adversary=Adversary("l2:1.0"))  # noqa: RUF009
    student: Recipe = Recipe()  # noqa: RUF009
    inversion: InversionSettings = InversionSettings()  # noqa: RUF009
    push_steps: int = 100
    push_step_size: float | None = None
    eval_steps: int = 20
    batch_size: int = 256
    precision: str = "float32"

    def __post_init__(self) -> None:
        """Refuses what cannot run, before any work is done."""
        check_count(self.seeds, "seeds", remedy="A result needs at least one seed.")
        check_positive(self.eps_eval, "eps_eval")
        for eps in self.eps_sets:
            check_positive(eps, "eps_sets")
        if not self.eps_sets:
            raise bad_value("eps_sets", "hold at least one radius", "none")
        if self.norm not in NORMS:
            raise unknown_name("norm", self.norm, NORMS)
        if self.preset not in PRESETS:
            raise unknown_name("preset", self.preset, PRESETS)


def recipe_as_json(recipe: Recipe) -> dict[str, Any]:
    """A recipe as plain values."""
    return asdict(recipe)


def recipe_from_json(values: Mapping[str, Any]) -> Recipe:
    """The recipe that `recipe_as_json` wrote."""
    whole = dict(values)
    adversary = whole.pop("adversary")
    augment = Augment(**whole.pop("augment"))
    return Recipe(
        **whole, augment=augment, adversary=None if adversary is None else Adversary(**adversary)
    )


def _digits(config: Config) -> Config:
    return config


def _grey(config: Config, eps_eval: float, eps_sets: tuple[float, ...]) -> Config:
    return replace(config, eps_eval=eps_eval, eps_sets=eps_sets)


_BY_DATA: dict[str, Callable[[Config], Config]] = {"digits": _digits}


def config_for(data: str, preset: str) -> Config:
    """The settings of a dataset at a preset."""
    if preset not in PRESETS:
        raise unknown_name("preset", preset, PRESETS)
    make = _BY_DATA.get(data.split(":")[0])
    if make is None:
        raise unknown_name("dataset", data, _BY_DATA)
    return make(Config(data=data, preset=preset))
