"""Draws of layers that know only the global generators, made to follow from the seed."""

from collections.abc import Generator
from contextlib import contextmanager

import torch

from notbugs.core import random


@contextmanager
def own_draws(device: torch.device, *names: object) -> Generator[None, None, None]:
    """Lends dropout and its like draws of their own; the global generators come back as they were.

    Such layers know no other generator, and a resumed epoch must draw what it drew before.
    """
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.default_generator.manual_seed(random.seed_of(*names))
        if device.type == "cuda":
            with torch.cuda.device(device):
                torch.cuda.manual_seed(random.seed_of(*names))
        yield
