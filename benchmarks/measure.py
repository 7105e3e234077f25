"""The measurements: passes an image, success on the same images, time as paired ratios, memory."""

import ctypes
import gc
import statistics
import time
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from craft import Craft
from torch import Tensor, nn

MOST_ROUNDS = 100


@dataclass
class Passes:
    """Forward and backward passes, in rows."""

    forwards: float = 0
    backwards: float = 0

    def an_image(self, n: int) -> "Passes":
        """Of `n` images, those of one."""
        return Passes(self.forwards / n, self.backwards / n)


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
        if len(values) == 1:
            return cls(values[0], values[0], values[0], 1)
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
    machine; it needs threads that sleep while they wait (see `attacks.py`). `clock` says
    which of the two counts: on a quiet machine the clock tells what a user waits.
    """

    wall: list[float] = field(default_factory=list[float])
    cpu: list[float] = field(default_factory=list[float])
    clock: bool = False

    @property
    def seconds(self) -> list[float]:
        """Those that count."""
        return self.wall if self.clock else self.cpu

    @contextmanager
    def round(self) -> Generator[None, None, None]:
        """Times the block and adds a round."""
        wall, cpu = time.perf_counter(), time.process_time()
        yield
        self.cpu.append(time.process_time() - cpu)
        self.wall.append(time.perf_counter() - wall)


def seeded(seed: int) -> None:
    """Seeds both global generators (ART draws from NumPy's)."""
    torch.manual_seed(seed)
    np.random.seed(seed)


def head(model: nn.Module) -> nn.Linear:
    """The layer that gives the logits: the last linear one."""
    return [m for m in model.modules() if isinstance(m, nn.Linear)][-1]


@contextmanager
def counted(model: nn.Module) -> Generator[Passes, None, None]:
    """Counts the rows that go through the head of `model`, or of any copy of it, and back.

    Hooks on all modules, told apart by the shape of their weights, so that a stand-in that a
    library makes of the model is counted too.
    """
    passes, shape = Passes(), head(model).weight.shape

    def back(grad: Tensor) -> None:
        passes.backwards += len(grad)

    def seen(module: nn.Module, inputs: object, out: Tensor) -> None:
        if isinstance(module, nn.Linear) and module.weight.shape == shape:
            passes.forwards += len(out)
            if out.requires_grad:
                out.register_hook(back)

    handle = nn.modules.module.register_module_forward_hook(seen)
    try:
        yield passes
    finally:
        handle.remove()


def passes(craft: Craft, model: nn.Module, x: Tensor, y: Tensor) -> Passes:
    """Forward and backward passes an image, over a whole call."""
    with counted(model) as found:
        craft(model, x, y)
    model.zero_grad(set_to_none=True)
    return found.an_image(len(x))


def times(
    crafts: Mapping[str, Mapping[int, Craft]],
    model: nn.Module,
    x: Tensor,
    y: Tensor,
    *,
    fewest: int,
    budget: float,
    clock: bool = False,
) -> dict[str, dict[int, Took]]:
    """Time of a call, by contender and number of steps, one entry a round.

    A round times every contender once at every number of steps; the next round starts with
    another contender, so that a slow moment of the machine falls on all. One round before the
    first warms up and is not counted. Rounds go on for `budget` seconds, `fewest` at least.
    """
    names = list(crafts)
    took = {name: {steps: Took(clock=clock) for steps in crafts[name]} for name in names}
    for name in names:
        for craft in crafts[name].values():
            timed(craft, model, x, y, Took())
    gc.disable()  # between rounds: nobody pays for another's garbage
    began, turn = time.perf_counter(), 0
    while turn < fewest or (time.perf_counter() - began < budget and turn < MOST_ROUNDS):
        for i in range(len(names)):
            name = names[(i + turn) % len(names)]
            for steps, craft in crafts[name].items():
                timed(craft, model, x, y, took[name][steps])
        gc.collect()
        turn += 1
    gc.enable()
    return took


def timed(craft: Craft, model: nn.Module, x: Tensor, y: Tensor, took: Took) -> Tensor:
    """Adds a round to `took` and returns the result."""
    with took.round():
        x_adv = craft(model, x, y)
    model.zero_grad(set_to_none=True)  # some peers leave gradients on the parameters
    return x_adv


def ratios(mine: list[float], base: list[float]) -> Spread:
    """Round by round, how many times the base's time was needed."""
    return Spread.quartiles([a / b for a, b in zip(mine, base, strict=True)])


def slopes(took: Mapping[int, Took]) -> list[float]:
    """Seconds of one more step, round by round."""
    few, many = min(took), max(took)
    pairs = zip(took[few].seconds, took[many].seconds, strict=True)
    return [(b - a) / (many - few) for a, b in pairs]


class Peak:
    """How far resident memory rises above where it was, in the block: `mib`, or None.

    Memory that was freed earlier is given back to the system first, or it would be used again
    unseen. What libraries hold back from earlier calls (oneDNN's scratch space) stays unseen.
    Known on Linux with glibc alone.
    """

    mib: float | None = None
    _before: int | None = None

    def __enter__(self) -> "Peak":
        reset, trim = Path("/proc/self/clear_refs"), getattr(ctypes.CDLL(None), "malloc_trim", None)
        if reset.exists() and trim is not None:
            gc.collect()
            trim(0)
            self._before = _kib("VmRSS")
            reset.write_text("5")  # the high-water mark starts anew
        return self

    def __exit__(self, *raised: object) -> None:
        if self._before is not None:
            self.mib = (_kib("VmHWM") - self._before) / 1024


def _kib(name: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(one for one in lines if one.startswith(name)).split()[1])
