"""Seeds torch's global generators for layers, such as dropout, that draw from them."""

from collections.abc import Generator
from contextlib import contextmanager

import torch

from notbugs.core import random


@contextmanager
def fork_global_rng(device: torch.device, *names: object) -> Generator[None, None, None]:
    """Seeds the global generators from `names` in the block, and restores them afterwards.

    Dropout and similar layers can use no other generator.
    """
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        seed_global_rng(device, *names)
        yield


def seed_global_rng(device: torch.device, *names: object) -> None:
    """Seeds the global generators from `names`; call it only within `fork_global_rng`.

    The training loop calls it before every step with the step's number. A training that is
    resumed within an epoch then draws the same numbers, and its checkpoint needs no
    generator state, which only a device of the same kind could read.
    """
    seed = random.seed_of(*names)
    torch.default_generator.manual_seed(seed)
    if device.type == "cuda":
        with torch.cuda.device(device):
            torch.cuda.manual_seed(seed)
