"""Loss against steps: an attack's objective at each step, and when images are broken."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from notbugs.attacks import AbstractAttack, AttackResult
from notbugs.core import random
from notbugs.core.errors import bad_value
from notbugs.core.types import Mask
from notbugs.data import ImageData, rows_at_once
from notbugs.engine import Trace
from notbugs.judge.curves import attacked, batches
from notbugs.models import Classifier, prepared


@dataclass(frozen=True)
class LossRun:
    """One run of the solver over all batches: a restart, a target class, or a constant tried.

    Entry t is after t steps, 0..T. A row that finished early keeps its last value, so all
    entries are over the same rows.

    - `rows`: number of images; a later restart has only those not yet broken
    - `mean`, `low`, `median`, `high`: of the objective over these rows; `low` and `high`
      are the lower and upper quartile
    - `reached`: percent of ALL images with a success by then, in this run or before
    """

    rows: int
    mean: tuple[float, ...]
    low: tuple[float, ...]
    median: tuple[float, ...]
    high: tuple[float, ...]
    reached: tuple[float, ...]

    def as_json(self) -> Mapping[str, object]:
        """Plain numbers and lists; null where a value is not finite."""
        names = ("mean", "low", "median", "high", "reached")
        return {"rows": self.rows} | {name: _finite(getattr(self, name)) for name in names}


@dataclass(frozen=True)
class LossCurve:
    """The objective that an attack minimises, step by step: lower is better for the attacker.

    - `attack`: its name; `threat`: as text, None for a minimum-norm method; `n`: images
    - `runs`: in order, one for each run of the solver that any image needed
    """

    attack: str
    threat: str | None
    n: int
    runs: tuple[LossRun, ...]

    @classmethod
    def of(
        cls, attack: AbstractAttack, results: Sequence[AttackResult], traces: Sequence[Trace]
    ) -> "LossCurve":
        """The curve of an attack's results and traces, batch after batch.

        An image without a run (some methods skip misclassified images) counts as reached if
        its result is a success.
        """
        n = sum(len(part.success) for part in results)
        offsets = [sum(len(part.success) for part in results[:i]) for i in range(len(results))]
        succeeded = torch.cat([part.success.cpu() for part in results])
        for trace, offset in zip(traces, offsets, strict=True):
            for run in trace.runs:
                succeeded[run.rows.cpu() + offset] = False  # the traces decide
        runs: list[LossRun] = []
        for k in range(max(len(trace.runs) for trace in traces)):
            run, succeeded = _joined(traces, offsets, k, succeeded)
            runs.append(run)
        threat = None if attack.threat is None else str(attack.threat)
        return cls(attack.name, threat, n, tuple(runs))

    def as_json(self) -> Mapping[str, object]:
        """The curve as plain numbers and lists."""
        return {
            "attack": self.attack,
            "threat": self.threat,
            "n": self.n,
            "runs": [run.as_json() for run in self.runs],
        }


@prepared()
def loss_curve(
    attack: AbstractAttack,
    model: Classifier,
    data: ImageData,
    *,
    seed: int = 0,
    batch_size: int = 256,
    progress: Callable[[float], None] = lambda fraction: None,
) -> LossCurve:
    """The attack's objective at each step, over all images, and when they succeed.

    The attack runs on the model itself, not on a faster copy, so the values are exact. Those of
    a random objective use the draw by which its points are compared. Rows that the attack gives
    up on keep their last value; pass `attack.without_giving_up()` to run all to the end.

    - `seed`: row i has its own random stream, whatever the batch size
    - `progress`: called with the fraction done, 0..1

    **Raises** ValueError for a method that runs a loop of its own (`hop_skip_jump`), and data
    that does not fit the model.
    """
    if not attack.requirements.observable:
        raise bad_value(
            "attack",
            "step through the engine's solver",
            f"{attack.name}, which runs a loop of its own",
            "Trace a method of gradient steps, such as pgd, apgd, fmn or cw_l2.",
        )
    keys = random.row_keys(len(data), seed, "attack")
    results: list[AttackResult] = []
    traces: list[Trace] = []
    for index, share in batches(
        torch.arange(len(data)), rows_at_once(data.shape, batch_size, model.device)
    ):
        traces.append(Trace())
        results.append(attacked(attack, model, data, index, keys, fast=False, observe=traces[-1]))
        progress(share)
    return LossCurve.of(attack, results, traces)


def _joined(
    traces: Sequence[Trace], offsets: Sequence[int], k: int, succeeded: Mask
) -> tuple[LossRun, Mask]:
    """(run k of all batches, the rows that have succeeded by its end)."""
    runs = [(t.runs[k], o) for t, o in zip(traces, offsets, strict=True) if len(t.runs) > k]
    values = torch.cat([run.values.double().cpu() for run, _ in runs], dim=1)
    reached = torch.cat([run.reached.cpu() for run, _ in runs], dim=1)
    rows = torch.cat([run.rows.cpu() + offset for run, offset in runs])
    by_step = succeeded.expand(len(values), -1).clone()
    by_step[:, rows] |= reached
    low, median, high = (_numbers(q) for q in _quartiles(values))
    share = _numbers(100 * by_step.double().mean(dim=1))
    return LossRun(len(rows), _numbers(values.mean(dim=1)), low, median, high, share), by_step[-1]


def _quartiles(values: Tensor) -> Tensor:
    """The quartiles of each row, [3, rows]; `torch.quantile` refuses more than 2^24 entries."""
    place = torch.tensor([0.25, 0.5, 0.75]) * (values.shape[1] - 1)
    below, above = place.floor().long(), place.ceil().long()
    parts: list[Tensor] = []
    for part in values.split(256):
        ordered = part.sort(dim=1).values
        parts.append(torch.lerp(ordered[:, below], ordered[:, above], (place % 1).double()))
    return torch.cat(parts).T


def _numbers(values: Tensor) -> tuple[float, ...]:
    return tuple(float(v) for v in values)


def _finite(values: Sequence[float]) -> list[float | None]:
    return [value if math.isfinite(value) else None for value in values]
