"""Several processes that do one job: which of them this is, and what they tell each other.

Everything here is trivial, and costs nothing, where there is only one. There are several once
torch's process group is initialised, as `notbugs.cli` does under `torchrun` and
`accelerate launch`, or a script by `accelerate.PartialState()`. All of them must then make the
same calls in the same order; `alone` is the way out for work of one of them.
"""

from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

from notbugs.core.errors import NotbugsError

T = TypeVar("T")
_ALONE: ContextVar[bool] = ContextVar("alone", default=False)


class ProcessError(NotbugsError):
    """Another process of the job has ended or does not answer."""


def count() -> int:
    """How many processes share the work."""
    return dist.get_world_size() if _joined() else 1


def rank() -> int:
    """Which one this is, 0..count() - 1."""
    return dist.get_rank() if _joined() else 0


def is_first() -> bool:
    """Whether this is the process that prints and writes."""
    return rank() == 0


@contextmanager
def alone() -> Generator[None, None, None]:
    """Lets this process work as the only one while the block runs: it waits for no other."""
    token = _ALONE.set(True)
    try:
        yield
    finally:
        _ALONE.reset(token)


def total(tensor: Tensor) -> Tensor:
    """The sum of the processes' tensors, of one shape; written over `tensor`.

    **Raises** ProcessError where another process has ended.
    """
    if _joined():
        _answered(dist.all_reduce, tensor)
    return tensor


def everyone(said: T) -> list[T]:
    """What each process says, in order of rank.

    **Raises** ProcessError where another process has ended.
    """
    if not _joined():
        return [said]
    heard: list[Any] = [None] * count()
    _answered(dist.all_gather_object, heard, said)
    return heard


def from_first(make: Callable[[], T]) -> T:
    """What `make` gives in the first process, for all; it runs there alone.

    **Raises** what `make` does, in every process, so that none waits for the others;
    ProcessError where the first has ended.
    """
    if not _joined():
        return make()
    message: list[Any] = [None, None]
    if is_first():
        try:
            with alone():
                message[0] = make()
        except Exception as error:
            message[1] = _sendable(error)
    _answered(dist.broadcast_object_list, message)
    if message[1] is not None:
        raise message[1]
    return message[0]


def after_first(make: Callable[[], T]) -> T:
    """What `make` gives here; the first process is ready before the others begin.

    For what it leaves behind for them, such as a download.

    **Raises** what `make` does in the first process, in every one.
    """
    made: list[T] = []
    from_first(lambda: made.append(make()))
    return made[0] if made else make()


def made_alike(tensors: Sequence[Tensor]) -> None:
    """Gives every process the first one's values, in place."""
    if _joined():
        with torch.no_grad():
            for tensor in tensors:
                values = tensor.detach().contiguous()
                _answered(dist.broadcast, values, 0)
                tensor.copy_(values)


def part(rows: Tensor) -> Tensor:
    """This process's share of `rows` [n], whose number its processes divide: [n / count()]."""
    return rows.reshape(count(), -1)[rank()]


def in_batches(
    rows: int,
    batch_size: int,
    work: Callable[[Tensor], tuple[Tensor, ...]],
    progress: Callable[[float], None] = lambda fraction: None,
) -> tuple[Tensor, ...]:
    """`work` done on rows 0..rows-1 by all processes, batch by batch; every one gets all of it.

    - `work`: indices [m] -> tensors of m rows on the CPU
    - `progress`: called with the fraction done, 0..1
    """
    several = count()
    size = min(batch_size, -(-rows // several))
    batches = torch.arange(rows).split(size)
    mine: list[tuple[Tensor, ...]] = []
    for i in range(rank(), len(batches), several):
        mine.append(work(batches[i]))
        progress(float(batches[i][-1] + 1) / rows)
    shares = everyone(mine)
    made = [shares[i % several][i // several] for i in range(len(batches))]
    return tuple(torch.cat(column) for column in zip(*made, strict=True))


def _joined() -> bool:
    return not _ALONE.get() and dist.is_available() and dist.is_initialized()


def _sendable(error: Exception) -> Exception:
    """The error, or its words where it cannot travel."""
    try:
        again = type(error)(*error.args)  # as the others will make it
    except Exception:
        again = None
    alike = again is not None and str(again) == str(error)
    return error if alike else NotbugsError(f"{type(error).__name__}: {error}")


def _answered(ask: Callable[..., object], *given: object) -> None:
    try:
        ask(*given)
    except torch.OutOfMemoryError:
        raise
    except RuntimeError as error:
        said = str(error).partition("\n")[0]
        raise ProcessError(
            f"Process {rank()} of {count()} lost the others: one of them ended. Where it says why, "
            "mend that; where it was killed, start the job again: what was saved is intact. "
            f"({said})"
        ) from error
