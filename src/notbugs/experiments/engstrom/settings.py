"""Settings of the experiment on representations, and its presets."""

from dataclasses import dataclass, replace

from notbugs.core.errors import bad_value, check_count
from notbugs.experiments.config import Config, config_for

LEAST_TARGETS = 8


@dataclass(frozen=True)
class EngstromConfig:
    """Everything that determines the numbers of one run.

    - `models`: the settings of the standard and the robust model, those of the main experiment
    - `targets`: test images that are inverted; `inversion_steps` and `inversion_rule`: "lbfgs",
      or "steepest" for the paper's normalised steps of `inversion_step_size`
    - `pairs`, `points`: interpolations, and frames of each
    - `visual_steps`: of every visualisation; `copies`: starts for each class;
      `units`: coordinates of the embedding on the contact sheet
    - `pushed`: images to which each class's feature is added
    - `prior_epochs`, `prior_width`: training of the denoiser and the generators
    """

    models: Config
    targets: int = 64
    inversion_steps: int = 200
    inversion_rule: str = "lbfgs"
    inversion_step_size: float = 1.0
    pairs: int = 16
    points: int = 10
    visual_steps: int = 200
    copies: int = 4
    units: int = 16
    pushed: int = 8
    prior_epochs: int = 30
    prior_width: int = 16

    def __post_init__(self) -> None:

        check_count(self.targets, "targets", LEAST_TARGETS, "The spread over images needs some.")
        for name in ("inversion_steps", "pairs", "visual_steps", "copies", "units", "pushed"):
            check_count(getattr(self, name), name)
        check_count(self.points, "points", 3)
        check_count(self.prior_epochs, "prior_epochs")
        if self.inversion_rule not in ("lbfgs", "steepest"):
            raise bad_value("inversion_rule", "be lbfgs or steepest", f"'{self.inversion_rule}'")

    @property
    def data(self) -> str:
        """The dataset's name."""
        return self.models.data

    @property
    def preset(self) -> str:
        """The preset's name."""
        return self.models.preset

    @property
    def seeds(self) -> int:
        """The run uses seeds 0..seeds-1."""
        return self.models.seeds


def engstrom_config(data: str, preset: str) -> EngstromConfig:
    """The settings of a dataset at a preset: "smoke", "laptop", "gpu" or "paper".

    **Raises** ValueError for an unknown dataset or preset.
    """
    models = config_for(data, preset)
    config = EngstromConfig(models)
    if preset == "smoke":
        return replace(
            config, targets=LEAST_TARGETS, inversion_steps=5, pairs=2, points=3, visual_steps=5,
            copies=1, units=3, pushed=2, prior_epochs=1, prior_width=4,
        )  # fmt: skip
    if preset == "laptop":
        # Larger images cost more a step, and more of them make up for fewer epochs.
        large = data.split(":")[0] not in ("digits", "planted")
        return replace(config, prior_epochs=12) if large else config
    if preset == "gpu":
        return replace(config, targets=512, pairs=64, copies=8, units=64, prior_width=32)
    # Engstrom et al. 2019, authors' notebooks: 10,000 steps of 1; for interpolation on CIFAR 0.1.
    # Manipulation takes 800 of 0.1 there; here all three share a solver.
    step = 0.1 if data.startswith("cifar") else 1.0
    return replace(
        config, targets=512, inversion_steps=10_000, inversion_rule="steepest",
        inversion_step_size=step, pairs=64, copies=8, units=64, prior_width=32,
    )  # fmt: skip
