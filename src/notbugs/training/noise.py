"""Random noise in place of an adversary, as a control for adversarial training."""

from dataclasses import dataclass

from notbugs.core import random
from notbugs.core.errors import unknown_name
from notbugs.core.types import Images
from notbugs.engine import Threat
from notbugs.training.adversary import AbstractImageAdversary
from notbugs.training.batch import Batch

KINDS = ("signs", "uniform", "gaussian")


@dataclass(frozen=True)
class Noise(AbstractImageAdversary):
    """Adds noise as large as the threat, in random directions.

    - `threat`: its eps is the size of the noise, per pixel for Linf
    - `kind`: "signs" (+eps or -eps), "uniform" in [-eps, eps], or "gaussian" of that
      standard deviation. For another norm than Linf the noise is scaled to length eps.

    **Source**: Goodfellow et al. 2014 (arXiv 1412.6572), section 6: signs and uniform.
    """

    threat: str = "linf:0.25"
    kind: str = "signs"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.kind not in KINDS:
            raise unknown_name("kind", self.kind, KINDS)

    def images(self, batch: Batch) -> Images:
        threat, x = Threat.parse(self.threat).scaled(batch.strength), batch.x
        keys = random.fold(batch.keys, "noise")
        if self.kind == "gaussian":
            unit = random.normal(keys, x.shape[1:], x.dtype)
        else:
            unit = 2 * random.uniform(keys, x.shape[1:], x.dtype) - 1
            unit = unit.sign() if self.kind == "signs" else unit
        size = threat.norm.size(unit).reshape(-1, *[1] * (x.ndim - 1))
        if threat.norm.name == "linf":
            size = size * 0 + 1
        return (x + threat.eps * unit / size.clamp(min=1e-12)).clamp(0, 1)
