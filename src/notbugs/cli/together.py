"""One command run by several processes, as `torchrun` and `accelerate launch` start them."""

import os
from collections.abc import Generator
from contextlib import contextmanager
from datetime import timedelta

import torch
import torch.distributed as dist

from notbugs.core.errors import DataError, bad_value

PATIENCE = timedelta(hours=2)
"""How long processes wait for one that works alone before the job is given up."""


def started() -> int:
    """How many processes the launcher has started."""
    given = os.environ.get("WORLD_SIZE", "1")
    return int(given) if given.isdigit() and "RANK" in os.environ else 1


@contextmanager
def joined(command: str, *, shares: bool, device: str) -> Generator[None, None, None]:
    """Lets the processes of a job know of each other while the block runs.

    - `shares`: whether the command knows how to share its work
    - `device`: "cpu" lets them talk by gloo; else each takes a GPU of its own, where there
      are any

    **Raises** ValueError for a command that cannot share; DataError without Accelerate.
    """
    several = started()
    if several == 1:
        yield
        return
    if not shares:
        raise bad_value(
            "processes",
            f"be 1 for `notbugs {command}`",
            several,
            "Start it without a launcher. Those that share their work: train, evaluate, build.",
        )
    try:
        from accelerate import PartialState
    except ImportError as error:
        raise DataError(
            "Several processes need a package that is not here. Try: pip install accelerate"
        ) from error
    on_cpu = device == "cpu" or not torch.cuda.is_available()
    # Sets and results travel by the CPU, gradients by the GPU.
    backend = None if on_cpu else "cpu:gloo,cuda:nccl"
    PartialState(cpu=on_cpu, backend=backend, timeout=PATIENCE)
    yield
    dist.barrier()  # none hangs up while another still talks
    dist.destroy_process_group()
