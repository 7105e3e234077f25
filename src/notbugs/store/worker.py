"""Where a stage is made: in this process, or in a worker that dies with its parent."""

import contextlib
import errno
import importlib
import os
import pickle
import platform
import shutil
import signal
import threading
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing import connection, parent_process
from pathlib import Path
from typing import Any

from notbugs.core.errors import DataError, NotbugsError
from notbugs.core.memory import keep_freed_memory
from notbugs.core.schema import read_json_file
from notbugs.core.strict_json import to_json
from notbugs.store.disk import concerns, explained, is_full
from notbugs.store.stages import Stage, StageContext
from notbugs.store.store import Entry, Store

PROGRESS_SECONDS = 0.2
ATTEMPTS = "attempt-seconds.json"


@dataclass(frozen=True)
class Job:
    """A stage as it travels to a worker: only names, numbers and paths."""

    kind: str
    key: str
    version: int
    producer: tuple[str, str]
    config: Any
    settings: Any
    inputs: dict[str, tuple[str, str]]


def job_of(stage: Stage) -> Job:
    """The job that makes a stage."""
    return Job(
        kind=stage.kind,
        key=stage.key,
        version=stage.version,
        producer=(stage.producer.__module__, stage.producer.__qualname__),
        config=dict(stage.config),
        settings=dict(stage.settings),
        inputs={name: (inner.kind, inner.key) for name, inner in stage.inputs.items()},
    )


def make(
    store: Store,
    job: Job,
    progress: Callable[[float], None],
    waiting: Callable[[], None],
    notice: Callable[[str], None],
) -> tuple[Entry, float | None]:
    """(the finished entry, the seconds this call worked); None: another process made it."""
    with store.working(job.kind, job.key, waiting) as work:
        found = store.find(job.kind, job.key)
        if found is not None:
            shutil.rmtree(work, ignore_errors=True)
            return found, None
        earlier, began = _earlier_seconds(work), time.perf_counter()
        try:
            _produce(store, job, work, _throttled(progress), notice)
        except BaseException:
            _note_seconds(work, earlier + time.perf_counter() - began)
            raise
        worked = time.perf_counter() - began
        (work / ATTEMPTS).unlink(missing_ok=True)
        entry = store.complete(
            job.kind,
            job.key,
            work,
            config=job.config,
            version=job.version,
            inputs={n: key for n, (_, key) in job.inputs.items()},
            seconds=earlier + worked,
            machine={"platform": platform.platform(), "cores": str(os.cpu_count())},
        )
        return entry, worked


def _produce(
    store: Store,
    job: Job,
    work: Path,
    progress: Callable[[float], None],
    notice: Callable[[str], None],
) -> None:
    """Calls the producer; its error is the store's where the disk is the reason."""
    context = StageContext(
        config=job.config,
        settings=job.settings,
        inputs={name: store.get(*address).path for name, address in job.inputs.items()},
        work=work,
        progress=progress,
        notice=notice,
    )
    module, name = job.producer
    try:
        getattr(importlib.import_module(module), name)(context)
    except OSError as error:
        if not concerns(error, store.root):
            raise
        raise explained(error, store.root) from error
    except NotbugsError:
        raise
    except Exception as error:  # some writers tell of a full disk in errors of their own
        if not is_full(error):
            raise
        raise explained(OSError(errno.ENOSPC, str(error)), store.root) from error


def _earlier_seconds(work: Path) -> float:
    """What earlier attempts that ended in an error took; a killed one left no note."""
    try:
        seconds = read_json_file(float, work / ATTEMPTS, remedy="")
    except DataError:
        return 0.0
    return max(seconds, 0.0)


def _note_seconds(work: Path, seconds: float) -> None:
    with contextlib.suppress(OSError):  # the error under way matters more
        (work / ATTEMPTS).write_text(to_json(seconds))


def _throttled(progress: Callable[[float], None]) -> Callable[[float], None]:
    last = 0.0

    def report(fraction: float) -> None:
        nonlocal last
        now = time.monotonic()
        if now - last >= PROGRESS_SECONDS or fraction >= 1:
            last = now
            progress(fraction)

    return report


def serve(root: str, threads: int, pipe: "connection.Connection[Any, Any]") -> None:
    """A worker's life: makes jobs until told to stop, and dies with its parent."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent hears it, and ends its workers
    _die_with_parent()
    _set_threads(threads)
    keep_freed_memory()
    store = Store(Path(root))
    while (job := _next(pipe)) is not None:
        try:
            entry, worked = make(
                store,
                job,
                lambda fraction: pipe.send(("progress", fraction)),
                lambda: pipe.send(("waiting", None)),
                lambda text: pipe.send(("notice", text)),
            )
            pipe.send(("done", (entry.seconds, worked)))
        except KeyboardInterrupt:  # the parent ends its workers, and this one has saved its work
            return
        except BaseException as error:
            pipe.send(("failed", (_portable(error), traceback.format_exc())))


def _next(pipe: "connection.Connection[Any, Any]") -> Job | None:
    try:
        return pipe.recv()
    except EOFError:
        return None


def _portable(error: BaseException) -> BaseException | None:
    """The error if it can cross to the parent, else None (its traceback always can)."""
    try:
        return pickle.loads(pickle.dumps(error))  # our own bytes, made one line above
    except Exception:
        return None


def _die_with_parent() -> None:
    """Without this, a worker of a killed run would go on and hold its locks."""
    parent = parent_process()
    if parent is None:
        return

    def watch() -> None:
        connection.wait([parent.sentinel])
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def _set_threads(threads: int) -> None:
    import torch

    torch.set_num_threads(threads)
