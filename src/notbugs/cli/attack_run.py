"""Runs the attack of `notbugs attack` on all images, batch by batch."""

from collections.abc import Iterator
from dataclasses import dataclass, fields, replace
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from notbugs.attacks import AbstractAttack, AttackResult, Rounded, to_8_bit
from notbugs.attacks.result import percent
from notbugs.core import mapped, random
from notbugs.data import ImageData, rows_at_once
from notbugs.engine import Threat, Trace
from notbugs.judge import wilson
from notbugs.models import Classifier

BATCH = 256
"""Images at a time, fewer of large ones."""


@dataclass(frozen=True)
class AttackRun:
    """An attack, the model and the images."""

    attack: AbstractAttack
    threat: Threat
    model: Classifier
    data: ImageData
    targets: Tensor | None
    seed: int

    def batches(self) -> tuple[Tensor, ...]:
        """The rows of each batch."""
        size = rows_at_once(self.data.shape, BATCH, self.model.device)
        return torch.arange(len(self.data)).split(size)

    def attack_all(self, progress: Any, *, traced: bool) -> "AttackOutcome":
        """Attacks every image; a traced attack uses the model itself, not a copy."""
        device = self.model.device
        keys = random.row_keys(len(self.data), self.seed, "attack")
        whole: dict[str, Tensor] = {}
        parts: list[AttackResult] = []
        traces: list[Trace] = []
        for index in self.batches():
            x, y = self.data.pixels(index).to(device), self.data.labels[index].to(device)
            targets = None if self.targets is None else self.targets[index].to(device)
            trace, row_keys = Trace() if traced else None, keys[index]
            options: dict[str, Any] = {"fast": not traced, "observe": trace}
            result = self.attack(self.model, x, y, targets=targets, keys=row_keys, **options)
            parts.append(_within(whole, result, index, len(self.data)))
            traces += [trace] if trace is not None else []
            progress((int(index[-1]) + 1) / len(self.data))
        return AttackOutcome(self, whole["x_adv"], parts, traces)


def _within(
    whole: dict[str, Tensor], result: AttackResult, index: Tensor, count: int
) -> AttackResult:
    """The result of the rows `index`, as views of one tensor a field that holds all `count`.

    Large ones lie in a file. Tensors that each batch leaves behind would keep its freed memory in
    pieces too small for the next batch.
    """
    rows, views = slice(int(index[0]), int(index[-1]) + 1), dict[str, Tensor]()
    for field in fields(result):
        part = getattr(result, field.name)
        if isinstance(part, Tensor):
            if field.name not in whole:
                whole[field.name] = mapped.empty((count, *part.shape[1:]), part.dtype)
            views[field.name] = whole[field.name][rows]
            views[field.name].copy_(part)
    return replace(result, **views)


@dataclass(frozen=True)
class AttackOutcome:
    """The results of all batches."""

    run: AttackRun
    x_adv: Tensor
    parts: list[AttackResult]
    traces: list[Trace]

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
    def within(self) -> Tensor:
        """The successes within the threat; a method for the nearest finds farther ones too, [n]."""
        inside = self.distance <= self.run.threat.eps
        return self.success & inside if self.run.attack.threat is None else self.success

    @property
    def broken(self) -> Tensor:
        """Correctly classified images on which the attack succeeded; [n] mask."""
        return self.success & ~self.wrong

    @property
    def mean_distance(self) -> float | None:
        """The mean distance of the broken images; None where there are none."""
        return float(self.distance[self.broken].mean()) if bool(self.broken.any()) else None

    @property
    def success_rate(self) -> float:
        """The attack's success rate at any distance, in percent of all images."""
        return percent(self.success)

    @property
    def wrong_rate(self) -> float:
        return percent(self.wrong)

    def _unsettled(self) -> dict[str, float]:
        """Percent of images that are neither broken nor robust, where there are any."""
        shares = {
            name: percent(torch.cat([getattr(part, name).cpu() for part in self.parts]))
            for name in ("within_rounding", "non_finite")
        }
        return {name: share for name, share in shares.items() if share}

    @cached_property
    def rounded(self) -> Rounded:
        n = len(self.run.data)
        rest: list[tuple[Tensor, Tensor, Tensor]] = []

        def images() -> Iterator[Tensor]:
            for index in self.run.batches():
                part = self._rounded(index)
                rest.append((part.success, part.distance, part.shrunk))
                yield part.images

        pixels = mapped.filled(n, images())
        return Rounded(pixels, *map(torch.cat, zip(*rest, strict=True)))

    def _rounded(self, index: Tensor) -> Rounded:
        run = self.run
        x, y = run.data.pixels(index).cpu(), run.data.labels[index].cpu()
        targets = None if run.targets is None else run.targets[index].cpu()
        return to_8_bit(run.attack, run.model, x, self.x_adv[index], y, targets=targets)

    def as_json(self) -> dict[str, Any]:
        """The rates as plain numbers, percent from 0 to 100."""
        n = len(self.success)
        return {
            "attack": self.run.attack.name,
            "threat": str(self.run.threat),
            "n": n,
            "attack_success_rate": percent(self.within),
            "attack_success_rate_ci95": list(wilson(int(self.within.sum()), n)),
            "at_any_distance": self.success_rate,
            "already_wrong": self.wrong_rate,
            **self._unsettled(),
            "mean_distance": self.mean_distance,
            "forwards_per_image": sum(part.forwards for part in self.parts) / n,
            "seed": self.run.seed,
        }
