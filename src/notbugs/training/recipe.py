"""Training settings: immutable, printable and hashable."""

import math
from dataclasses import dataclass

from notbugs.core.errors import bad_type, bad_value, check_count, check_positive, unknown_name
from notbugs.data import Augment
from notbugs.engine import Threat
from notbugs.training.adversary import AbstractAdversary
from notbugs.training.awp import Awp
from notbugs.training.objective import AbstractTrainingObjective, Plain
from notbugs.training.penalty import AbstractPenalty

DECAYS = ("cosine", "linear", "step", "constant", "triangle")
RISE_FROM, FALL_TO = 0.2, 0.07
"""The learning rate at both ends of the triangle, as shares of the peak."""
SELECTS = ("last", "best", "best-clean")
PRECISIONS = ("float32", "bf16")


@dataclass(frozen=True)
class Recipe:
    """SGD with Nesterov momentum and a schedule, the same for every model of a table.

    - `lr` is the peak learning rate; `warmup` the share of all steps spent rising to it
    - `decay`: "cosine" or "linear" to zero, "step" (divided by 10 at half and at three
      quarters), "constant", or "triangle": linear from a fifth of the peak in the warm-up, then
      linear down to 7 % of it
    - `norm_bias_times`: factor on the learning rate of batch norms' biases; their weight decay
      is divided by it
    - `select`: "last" epoch, or the "best" by held-out validation (robust accuracy if
      there is an adversary, else clean accuracy; "best-clean": clean accuracy in either case)
    - `watch_every`: epochs between evaluations of held-out clean and robust accuracy; 0: never
    - `watch_threat`: threat of that evaluation; None: the adversary's, or clean accuracy only
    - `patience`: evaluations without a better score after which training stops, not counting
      those in a warm-up of the learning rate or of the adversary; 0: never
    - `adversary`: perturbs the images; `objective`: the loss
    - `penalties`: added to the loss of every step, beside `weight_decay`
    - `awp`: take each pass at adversarially moved weights
    - `average`: decay per step of a moving average of the weights, which is evaluated and
      returned in place of the last weights; 0: none
    - `guard`: with single-step adversaries, evaluate robust accuracy under PGD in every epoch,
      and stop when it collapses (catastrophic overfitting)
    """

    epochs: int = 40
    batch_size: int = 64
    lr: float = 0.05
    momentum: float = 0.9
    weight_decay: float = 5e-4
    norm_bias_times: float = 1.0
    warmup: float = 0.05
    decay: str = "cosine"
    augment: Augment = Augment()  # noqa: RUF009 (frozen)
    adversary: AbstractAdversary | None = None
    objective: AbstractTrainingObjective = Plain()  # noqa: RUF009 (frozen)
    penalties: tuple[AbstractPenalty, ...] = ()
    awp: Awp | None = None
    average: float = 0.0
    select: str = "last"
    watch_every: int = 0
    watch_threat: str | None = None
    patience: int = 0
    guard: bool = True
    precision: str = "float32"

    def __post_init__(self) -> None:
        check_count(self.epochs, "epochs")
        check_count(self.batch_size, "batch_size")
        check_positive(self.lr, "lr")
        check_count(self.watch_every, "watch_every", 0, "0 means never.")
        if not 0 <= self.momentum < 1:
            raise bad_value("momentum", "lie in [0, 1)", self.momentum)
        if not 0 <= self.weight_decay < float("inf"):
            raise bad_value("weight_decay", "be a finite number of at least 0", self.weight_decay)
        check_positive(self.norm_bias_times, "norm_bias_times")
        if not 0 <= self.warmup < 1:
            raise bad_value("warmup", "lie in [0, 1)", self.warmup)
        for value, name, known in (
            (self.decay, "decay", DECAYS),
            (self.select, "select", SELECTS),
            (self.precision, "precision", PRECISIONS),
        ):
            if value not in known:
                raise unknown_name(name, value, known)
        if self.watch_threat is not None:
            Threat.parse(self.watch_threat)
        if self.select != "last" and self.watch_every < 1:
            expected = f"be at least 1 with select='{self.select}'"
            raise bad_value("watch_every", expected, self.watch_every)
        check_count(self.patience, "patience", 0, "0 means never.")
        if self.patience and self.watch_every < 1:
            raise bad_value("watch_every", "be at least 1 with `patience`", self.watch_every)
        if not 0 <= self.average < 1:
            raise bad_value("average", "lie in [0, 1)", self.average, "0 means none.")
        self._check_parts()

    def _check_parts(self) -> None:
        """Refuses an objective or adversary of another type, and those that do not fit."""
        if not isinstance(self.objective, AbstractTrainingObjective):  # pyright: ignore
            raise bad_type(
                "objective", "a training objective such as Plain() or Trades()", self.objective
            )
        if not isinstance(self.adversary, AbstractAdversary | None):  # pyright: ignore
            raise bad_type("adversary", "one such as Adversary('l2:0.5'), or None", self.adversary)
        self.objective.check(self.adversary)
        if self.awp is not None and self.objective.replays > 1:
            raise bad_value(
                "awp",
                f"be left out with {type(self.objective).__name__}",
                self.awp,
                "It takes each pass twice, and each pass of this objective moves its images.",
            )

    def rate(self, step: int, steps: int) -> float:
        """The learning rate at a step of 0..steps-1."""
        if self.decay == "triangle":
            return self.lr * self._triangle(step / steps)
        risen = min(1.0, (step + 1) / (self.warmup * steps)) if self.warmup else 1.0
        return self.lr * risen * self._decayed(step / steps)

    def _triangle(self, done: float) -> float:
        if done < self.warmup:
            return RISE_FROM + (1 - RISE_FROM) * done / self.warmup
        return 1 - (1 - FALL_TO) * (done - self.warmup) / (1 - self.warmup)

    def _decayed(self, done: float) -> float:
        if self.decay == "cosine":
            return 0.5 * (1 + math.cos(math.pi * done))
        if self.decay == "linear":
            return 1 - done
        if self.decay == "step":
            return 0.1 ** ((done >= 0.5) + (done >= 0.75))
        return 1.0
