"""Collective operations for distributed runs; trivial where there is one process.

There are several processes once torch's process group is initialised, as `notbugs.cli` does
under `torchrun` and `accelerate launch`, or a script by `accelerate.PartialState()`. All of
them must make the same calls in the same order; use `alone` for work of a single process.
"""

from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

from notbugs.core import mapped
from notbugs.core.errors import NotbugsError

T = TypeVar("T")
_ALONE: ContextVar[bool] = ContextVar("alone", default=False)


class ProcessError(NotbugsError):
    """Another process of the job has ended or does not answer."""


def count() -> int:
    """The number of processes (world size)."""
    return dist.get_world_size() if _is_distributed() else 1


def rank() -> int:
    """The rank of this process, 0..count() - 1."""
    return dist.get_rank() if _is_distributed() else 0


def is_first() -> bool:
    """Whether this is the process that prints and writes."""
    return rank() == 0


@contextmanager
def alone() -> Generator[None, None, None]:
    """Makes the block run as if this were the only process: it waits for no other."""
    token = _ALONE.set(True)
    try:
        yield
    finally:
        _ALONE.reset(token)


def total(tensor: Tensor) -> Tensor:
    """Sums the processes' tensors, all of one shape, into `tensor` (all-reduce).

    **Raises** ProcessError where another process has ended.
    """
    if _is_distributed():
        _call_collective(dist.all_reduce, tensor)
    return tensor


def all_gather(value: T) -> list[T]:
    """The values of all processes, in order of rank (all-gather).

    **Raises** ProcessError where another process has ended.
    """
    if not _is_distributed():
        return [value]
    values: list[Any] = [None] * count()
    _call_collective(dist.all_gather_object, values, value)
    return values


def from_first(make: Callable[[], T]) -> T:
    """Runs `make` in the first process only and returns its result in every process.

    **Raises** the error of `make` in every process, so that none keeps waiting; ProcessError
    where the first process has ended.
    """
    if not _is_distributed():
        return make()
    message: list[Any] = [None, None]
    if is_first():
        try:
            with alone():
                message[0] = make()
        except Exception as error:
            message[1] = _picklable(error)
    _call_collective(dist.broadcast_object_list, message)
    if message[1] is not None:
        raise message[1]
    return message[0]


def after_first(make: Callable[[], T]) -> T:
    """Runs `make` in every process, in the first one before the others; returns its result.

    For work that leaves something for the others, such as a download.

    **Raises** the error of `make` in the first process, in every process.
    """
    results: list[T] = []
    from_first(lambda: results.append(make()))
    return results[0] if results else make()


def copy_from_first(tensors: Sequence[Tensor]) -> None:
    """Overwrites the tensors of every process with those of the first (broadcast)."""
    if _is_distributed():
        with torch.no_grad():
            for tensor in tensors:
                values = tensor.detach().contiguous()
                _call_collective(dist.broadcast, values, 0)
                tensor.copy_(values)


def part(rows: Tensor) -> Tensor:
    """This process's share of `rows` [n]: [n / count()], where count() must divide n."""
    return rows.reshape(count(), -1)[rank()]


def in_batches(
    rows: int,
    batch_size: int,
    work: Callable[[Tensor], tuple[Tensor, ...]],
    progress: Callable[[float], None] = lambda fraction: None,
) -> tuple[Tensor, ...]:
    """Applies `work` to rows 0..rows-1 in batches shared among all processes; returns all rows.

    Large results lie in a temporary file (`core/mapped.py`).

    - `work`: indices [m] -> tensors of m rows on the CPU
    - `progress`: called with the fraction done, 0..1
    """
    processes = count()
    size = min(batch_size, -(-rows // processes))
    batches = torch.arange(rows).split(size)
    results: tuple[Tensor, ...] = ()
    for first in range(0, len(batches), processes):
        own = batches[first + rank()] if first + rank() < len(batches) else None
        for i, parts in enumerate(all_gather(None if own is None else work(own)), first):
            if parts is None:
                continue
            if not results:
                results = tuple(mapped.empty((rows, *p.shape[1:]), p.dtype) for p in parts)
            for whole, part in zip(results, parts, strict=True):
                whole[batches[i]] = part
        progress(float(batches[min(first + processes, len(batches)) - 1][-1] + 1) / rows)
    return results


def _is_distributed() -> bool:
    return not _ALONE.get() and dist.is_available() and dist.is_initialized()


def _picklable(error: Exception) -> Exception:
    """The error, or a `NotbugsError` with its text where it cannot be sent."""
    try:
        copy = type(error)(*error.args)  # as unpickling does
    except Exception:
        copy = None
    same = copy is not None and str(copy) == str(error)
    return error if same else NotbugsError(f"{type(error).__name__}: {error}")


def _call_collective(collective: Callable[..., object], *arguments: object) -> None:
    try:
        collective(*arguments)
    except torch.OutOfMemoryError:
        raise
    except RuntimeError as error:
        reason = str(error).partition("\n")[0]
        raise ProcessError(
            f"Process {rank()} of {count()} lost the others: one of them ended. Where it says why, "
            "fix that; where it was killed, start the job again: what was saved is intact. "
            f"({reason})"
        ) from error
