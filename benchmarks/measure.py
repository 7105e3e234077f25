"""Three measurements: passes an image, success on the same images, and time as paired ratios."""

import gc
import statistics
import time
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from peers import Craft, Setting
from torch import Tensor, nn

from notbugs.engine import NORMS, BallInBox


@dataclass(frozen=True)
class Passes:
    """Forward and backward passes an image, over the whole call."""

    forwards: float
    backwards: float


@dataclass(frozen=True)
class Strength:
    """Success over seeds: `rate` in percent of the images that were right, per seed.

    `success` [seeds, n] says which rows fell; `violation` is the largest step outside the
    threat over all seeds.
    """

    rates: list[float]
    success: Tensor
    violation: float


@dataclass(frozen=True)
class Spread:
    """A median with its lowest and highest value over the repeats."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, values: list[float]) -> "Spread":
        return cls(statistics.median(values), min(values), max(values))


def passes(craft: Craft, model: nn.Module, x: Tensor, y: Tensor) -> Passes:
    """Counts rows through the model by a hook on it and on the gradient of its output."""
    counts = {"forward": 0, "backward": 0}

    def seen(module: nn.Module, inputs: tuple[Tensor, ...], out: Tensor) -> None:
        counts["forward"] += len(out)
        if out.requires_grad:
            out.register_hook(back)

    def back(grad: Tensor) -> None:
        counts["backward"] += len(grad)

    handle = model.register_forward_hook(seen)
    try:
        craft(model, x, y)
    finally:
        handle.remove()
    return Passes(counts["forward"] / len(x), counts["backward"] / len(x))


def strength(
    craft: Craft, setting: Setting, model: nn.Module, x: Tensor, y: Tensor, seeds: range
) -> Strength:
    """Judged here, alike for all: the prediction at what is returned, and its size."""
    with torch.no_grad():
        right = model(x).argmax(dim=1) == y
    threat, fell, violation = BallInBox(NORMS[setting.norm], setting.eps), [], 0.0
    for seed in seeds:
        torch.manual_seed(seed)
        x_adv = craft(model, x, y).detach()
        with torch.no_grad():
            fell.append((model(x_adv).argmax(dim=1) != y) & right)
        violation = max(violation, float(threat.violation(x_adv, x).max()))
    rates = [100 * float(one.sum()) / float(right.sum()) for one in fell]
    return Strength(rates, torch.stack(fell), violation)


def times(
    crafts: Mapping[str, Mapping[int, Craft]],
    model: nn.Module,
    x: Tensor,
    y: Tensor,
    *,
    repeats: int,
    loops: int,
) -> dict[str, dict[int, list[float]]]:
    """Seconds a call, by contender and number of steps, one entry a round.

    A round times every contender once at every number of steps; the next round starts with
    another contender, so that a slow moment of the machine and a warm cache fall on all. One
    round before the first warms up and is not counted. `loops` calls are timed together.
    """
    names = list(crafts)
    seconds = {name: {steps: [] for steps in crafts[name]} for name in names}
    gc.collect()
    gc.disable()
    try:
        for turn in range(-1, repeats):
            for i in range(len(names)):
                name = names[(i + turn) % len(names)]
                for steps, craft in crafts[name].items():
                    took = _timed(craft, model, x, y, loops if turn >= 0 else 1)
                    if turn >= 0:
                        seconds[name][steps].append(took)
            gc.collect()
    finally:
        gc.enable()
    return seconds


def _timed(craft: Craft, model: nn.Module, x: Tensor, y: Tensor, loops: int) -> float:
    began = time.perf_counter()
    for _ in range(loops):
        craft(model, x, y)
    took = (time.perf_counter() - began) / loops
    model.zero_grad(set_to_none=True)  # foolbox leaves gradients on the parameters
    return took


def ratios(mine: list[float], base: list[float]) -> Spread:
    """Round by round, how many times the base's time was needed."""
    return Spread.of([a / b for a, b in zip(mine, base, strict=True)])


def step_ratio(mine: Mapping[int, list[float]], base: Mapping[int, list[float]]) -> Spread:
    """As `ratios`, for one more step: the slope between the fewest and the most steps."""
    few, many = min(mine), max(mine)

    def slopes(seconds: Mapping[int, list[float]]) -> list[float]:
        return [b - a for a, b in zip(seconds[few], seconds[many], strict=True)]

    return ratios(slopes(mine), slopes(base))
