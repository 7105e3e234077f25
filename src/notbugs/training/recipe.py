"""How a model is trained: frozen, printable, hashable settings."""

import math
from dataclasses import dataclass

from notbugs.core.errors import bad_value, check_count, check_positive, unknown_name
from notbugs.data import Augment
from notbugs.engine import Threat

DECAYS = ("cosine", "linear", "step", "constant")
SELECTS = ("last", "best")
PRECISIONS = ("float32", "bf16")


@dataclass(frozen=True)
class Adversary:
    """Who disturbs the training images: PGD at a threat.

    - `threat`: written `norm:eps`, e.g. "l2:0.5" (pixel units of [0, 1])
    - `steps`; `step_size` None means 2.5 * eps / steps
    - `eps_warmup`: share of the epochs over which eps (and the step) grows to its full
      size; a full adversary from the first step can leave small nets at chance
    - `train_mode`: craft with the model in train mode (BatchNorm uses batch statistics
      but its running ones are not updated); eval mode otherwise

    **Source**: Madry et al. 2017 (arXiv 1706.06083), section 2.1. The warm-up is ours.
    """

    threat: str = "l2:0.5"
    steps: int = 7
    step_size: float | None = None
    random_start: bool = True
    eps_warmup: float = 0.0
    train_mode: bool = False

    def __post_init__(self) -> None:
        """Refuses a threat that cannot be read, empty steps and an endless warm-up."""
        Threat.parse(self.threat)
        check_count(self.steps, "steps")
        if self.step_size is not None:
            check_positive(self.step_size, "step_size", "None means 2.5 * eps / steps.")
        if not 0 <= self.eps_warmup < 1:
            raise bad_value("eps_warmup", "lie in [0, 1)", self.eps_warmup)

    def strength(self, epoch: int, epochs: int) -> float:
        """The share of eps in force in epoch 0..epochs-1."""
        return min(1.0, (epoch + 1) / (self.eps_warmup * epochs)) if self.eps_warmup else 1.0


@dataclass(frozen=True)
class Recipe:
    """SGD with Nesterov momentum and a schedule, the same for every model of a table.

    - `lr` is the peak learning rate; `warmup` the share of all steps spent rising to it
    - `decay`: "cosine" or "linear" to zero, "step" (divided by 10 at half and at three
      quarters), "constant"
    - `select`: "last" epoch, or the "best" by held-out validation (robust accuracy if
      there is an adversary, else clean accuracy)
    - `watch_every`: epochs between looks at held-out clean and robust accuracy; 0: never
    - `watch_threat`: threat of that look; None: the adversary's, or clean only
    """

    epochs: int = 40
    batch_size: int = 64
    lr: float = 0.05
    momentum: float = 0.9
    weight_decay: float = 5e-4
    warmup: float = 0.05
    decay: str = "cosine"
    augment: Augment = Augment()  # noqa: RUF009 (frozen)
    adversary: Adversary | None = None
    select: str = "last"
    watch_every: int = 0
    watch_threat: str | None = None
    precision: str = "float32"

    def __post_init__(self) -> None:
        """Refuses settings that cannot train, before any work is done."""
        check_count(self.epochs, "epochs")
        check_count(self.batch_size, "batch_size")
        check_positive(self.lr, "lr")
        check_count(self.watch_every, "watch_every", 0, "0 means never.")
        if not 0 <= self.momentum < 1:
            raise bad_value("momentum", "lie in [0, 1)", self.momentum)
        if not 0 <= self.weight_decay < float("inf"):
            raise bad_value("weight_decay", "be a finite number of at least 0", self.weight_decay)
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
        if self.select == "best" and self.watch_every < 1:
            raise bad_value("watch_every", "be at least 1 with select='best'", self.watch_every)

    def rate(self, step: int, steps: int) -> float:
        """The learning rate at a step of 0..steps-1."""
        risen = min(1.0, (step + 1) / (self.warmup * steps)) if self.warmup else 1.0
        return self.lr * risen * self._decayed(step / steps)

    def _decayed(self, done: float) -> float:
        if self.decay == "cosine":
            return 0.5 * (1 + math.cos(math.pi * done))
        if self.decay == "linear":
            return 1 - done
        if self.decay == "step":
            return 0.1 ** ((done >= 0.5) + (done >= 0.75))
        return 1.0
