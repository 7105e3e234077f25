"""Draws of layers that know only the global generators, made to follow from the seed."""

from collections.abc import Generator
from contextlib import contextmanager

import torch

from notbugs.core import random


@contextmanager
def own_draws(device: torch.device, *names: object) -> Generator[None, None, None]:
    """Lends dropout and its like draws of their own; the global generators come back as they were.

    Such layers know no other generator.
    """
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        draw_from(device, *names)
        yield


def draw_from(device: torch.device, *names: object) -> None:
    """Seeds the global generators from `names`; only within `own_draws`, which lends them.

    The loop does so before every step, by its number. A training that goes on in the middle of
    an epoch then draws what it drew before, and its checkpoint holds no generator's state,
    which only a device of the same kind could read.
    """
    seed = random.seed_of(*names)
    torch.default_generator.manual_seed(seed)
    if device.type == "cuda":
        with torch.cuda.device(device):
            torch.cuda.manual_seed(seed)
