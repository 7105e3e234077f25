"""Runs a command in several processes that `torchrun` or `accelerate launch` started."""

import os
from collections.abc import Generator
from contextlib import contextmanager
from datetime import timedelta

import torch
import torch.distributed as dist

from notbugs.core.errors import bad_value
from notbugs.core.packages import optional

TIMEOUT = timedelta(hours=2)
"""How long processes wait for one that works alone before the job fails."""


def launched_processes() -> int:
    """The number of processes that the launcher started."""
    given = os.environ.get("WORLD_SIZE", "1")
    return int(given) if given.isdigit() and "RANK" in os.environ else 1


@contextmanager
def process_group(command: str, *, shares: bool, device: str) -> Generator[None, None, None]:
    """Initialises torch's process group for the block, if there are several processes.

    - `shares`: whether the command can share its work
    - `device`: "cpu" uses gloo; else each process takes its own GPU, if there are any

    **Raises** ValueError for a command that cannot share; NotbugsError without Accelerate.
    """
    several = launched_processes()
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
    accelerate = optional("accelerate", extra="distributed", use="Several processes")
    on_cpu = device == "cpu" or not torch.cuda.is_available()
    # Sets and results travel by the CPU, gradients by the GPU.
    backend = None if on_cpu else "cpu:gloo,cuda:nccl"
    accelerate.PartialState(cpu=on_cpu, backend=backend, timeout=TIMEOUT)
    yield
    dist.barrier()  # no process leaves while another still communicates
    dist.destroy_process_group()
