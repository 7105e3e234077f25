"""Where a stage is made: in this process, or in a worker that dies with its parent."""

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

from notbugs.core.errors import StoreError
from notbugs.store.stages import Stage, StageContext
from notbugs.store.store import Entry, Store, concerns, explained

PROGRESS_SECONDS = 0.2


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
) -> tuple[Entry, bool]:
    """(the finished entry, whether this call made it); another process may have been first."""
    with store.working(job.kind, job.key, waiting) as work:
        found = store.find(job.kind, job.key)
        if found is not None:
            shutil.rmtree(work, ignore_errors=True)
            return found, False
        began = time.perf_counter()
        context = StageContext(
            config=job.config,
            settings=job.settings,
            inputs={name: _input(store, *address) for name, address in job.inputs.items()},
            work=work,
            progress=_throttled(progress),
        )
        module, name = job.producer
        try:
            getattr(importlib.import_module(module), name)(context)
        except OSError as error:
            if not concerns(error, store.root):
                raise
            raise explained(error, store.root) from error
        entry = store.complete(
            job.kind,
            job.key,
            work,
            config=job.config,
            version=job.version,
            inputs={n: key for n, (_, key) in job.inputs.items()},
            seconds=time.perf_counter() - began,
            machine={"platform": platform.platform(), "cores": str(os.cpu_count())},
        )
        return entry, True


def _input(store: Store, kind: str, key: str) -> Path:
    found = store.find(kind, key)
    if found is None:
        raise StoreError(
            f"A result that another stage needs vanished from the store ({kind}/{key}). Run again."
        )
    return found.path


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
    store = Store(Path(root))
    while (job := _next(pipe)) is not None:
        try:
            entry, made = make(
                store,
                job,
                lambda fraction: pipe.send(("progress", fraction)),
                lambda: pipe.send(("waiting", None)),
            )
            pipe.send(("done", (entry.seconds, made)))
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
