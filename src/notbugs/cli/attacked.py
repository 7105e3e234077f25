"""One command's attack on all images, batch by batch, and what it found."""

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from notbugs.attacks import AbstractAttack, AttackResult, Rounded, to_8_bit
from notbugs.attacks.result import percent
from notbugs.core import random
from notbugs.data import ImageData
from notbugs.engine import Threat, Trace
from notbugs.judge import wilson
from notbugs.models import Classifier

BATCH = 256


@dataclass(frozen=True)
class Work:
    """What is attacked, and how."""

    attack: AbstractAttack
    threat: Threat
    model: Classifier
    data: ImageData
    targets: Tensor | None
    seed: int

    def done(self, progress: Any, *, traced: bool) -> "Found":
        """Attacks every image; a traced attack works on the model itself, not a stand-in."""
        device = self.model.device
        keys = random.row_keys(len(self.data), self.seed, "attack")
        parts: list[AttackResult] = []
        traces: list[Trace] = []
        for index in torch.arange(len(self.data)).split(BATCH):
            x, y = self.data.pixels(index).to(device), self.data.labels[index].to(device)
            aims = None if self.targets is None else self.targets[index].to(device)
            trace, at = Trace() if traced else None, keys[index]
            options: dict[str, Any] = {"fast": not traced, "observe": trace}
            parts.append(self.attack(self.model, x, y, targets=aims, keys=at, **options))
            traces += [trace] if trace is not None else []
            progress((int(index[-1]) + 1) / len(self.data))
        return Found(self, parts, traces)


@dataclass(frozen=True)
class Found:
    """The results of all batches."""

    work: Work
    parts: list[AttackResult]
    traces: list[Trace]

    @cached_property
    def x_adv(self) -> Tensor:
        return torch.cat([part.x_adv.cpu() for part in self.parts])

    @cached_property
    def success(self) -> Tensor:
        return torch.cat([part.success.cpu() for part in self.parts])

    @cached_property
    def wrong(self) -> Tensor:
        return torch.cat([part.already_wrong.cpu() for part in self.parts])

    @cached_property
    def distance(self) -> Tensor:
        return torch.cat([part.distance.cpu() for part in self.parts])

    @property
    def fallen(self) -> Tensor:
        """Images that were right and on which the attack succeeded: distances are theirs."""
        return self.success & ~self.wrong

    @property
    def mean_distance(self) -> float | None:
        """Over the fallen; None where there are none."""
        return float(self.distance[self.fallen].mean()) if bool(self.fallen.any()) else None

    @property
    def success_rate(self) -> float:
        """Percent of all images."""
        return percent(self.success)

    @property
    def wrong_rate(self) -> float:
        return percent(self.wrong)

    def _unsettled(self) -> dict[str, float]:
        """Percent of images neither broken nor standing, where there are any."""
        shares = {
            name: percent(torch.cat([getattr(part, name).cpu() for part in self.parts]))
            for name in ("within_rounding", "non_finite")
        }
        return {name: share for name, share in shares.items() if share}

    @cached_property
    def rounded(self) -> Rounded:
        work = self.work
        y = work.data.labels.cpu()
        targets = None if work.targets is None else work.targets.cpu()
        x = work.data.pixels().cpu()
        return to_8_bit(work.attack, work.model, x, self.x_adv, y, targets=targets)

    def as_json(self) -> dict[str, Any]:
        """The rates as plain numbers, percent from 0 to 100."""
        n = len(self.success)
        return {
            "attack": self.work.attack.name,
            "threat": str(self.work.threat),
            "n": n,
            "attack_success_rate": self.success_rate,
            "attack_success_rate_ci95": list(wilson(int(self.success.sum()), n)),
            "already_wrong": self.wrong_rate,
            **self._unsettled(),
            "mean_distance": self.mean_distance,
            "forwards_per_image": sum(part.forwards for part in self.parts) / n,
            "seed": self.work.seed,
        }
