"""Three measurements: passes an image, success on the same images, and time as paired ratios."""

import gc
import statistics
import time
from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from peers import Craft, Setting
from torch import Tensor, nn

from notbugs.engine import NORMS, BallInBox

MOST_ROUNDS = 100


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
    """A middle value between a low and a high one, of `n` repeats."""

    middle: float
    low: float
    high: float
    n: int

    @classmethod
    def quartiles(cls, values: list[float]) -> "Spread":
        """The median between the quartiles: a stalled round does not move it."""
        low, middle, high = statistics.quantiles(values, n=4, method="inclusive")
        return cls(middle, low, high, len(values))

    @classmethod
    def mean(cls, values: list[float]) -> "Spread":
        """The mean, between one standard error less and more."""
        n, middle = len(values), statistics.fmean(values)
        error = statistics.stdev(values) / n**0.5 if n > 1 else 0.0
        return cls(middle, middle - error, middle + error, n)


@dataclass(frozen=True)
class Took:
    """Seconds of each round: on the clock, and of processor time summed over threads.

    Processor time leaves out what other processes took, so that its ratios hold on a busy
    machine; it needs threads that sleep while they wait (see `attacks.py`).
    """

    wall: list[float] = field(default_factory=list[float])
    cpu: list[float] = field(default_factory=list[float])


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
    fewest: int,
    budget: float,
) -> dict[str, dict[int, Took]]:
    """Time of a call, by contender and number of steps, one entry a round.

    A round times every contender once at every number of steps; the next round starts with
    another contender, so that a slow moment of the machine falls on all. One round before the
    first warms up and is not counted. Rounds go on for `budget` seconds, `fewest` at least.
    """
    names = list(crafts)
    took = {name: {steps: Took() for steps in crafts[name]} for name in names}
    for name in names:
        for craft in crafts[name].values():
            _timed(craft, model, x, y, Took())
    gc.disable()
    began, turn = time.perf_counter(), 0
    while turn < fewest or (time.perf_counter() - began < budget and turn < MOST_ROUNDS):
        for i in range(len(names)):
            name = names[(i + turn) % len(names)]
            for steps, craft in crafts[name].items():
                _timed(craft, model, x, y, took[name][steps])
        gc.collect()
        turn += 1
    gc.enable()
    return took


def _timed(craft: Craft, model: nn.Module, x: Tensor, y: Tensor, took: Took) -> None:
    wall, cpu = time.perf_counter(), time.process_time()
    craft(model, x, y)
    took.cpu.append(time.process_time() - cpu)
    took.wall.append(time.perf_counter() - wall)
    model.zero_grad(set_to_none=True)  # foolbox leaves gradients on the parameters


def ratios(mine: list[float], base: list[float]) -> Spread:
    """Round by round, how many times the base's time was needed."""
    return Spread.quartiles([a / b for a, b in zip(mine, base, strict=True)])


def slopes(took: Mapping[int, Took]) -> list[float]:
    """Processor seconds of one more step, round by round."""
    few, many = min(took), max(took)
    pairs = zip(took[few].cpu, took[many].cpu, strict=True)
    return [(b - a) / (many - few) for a, b in pairs]
