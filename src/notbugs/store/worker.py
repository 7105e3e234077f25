"""Computes a stage in this process, or in a worker process that dies with its parent."""

import contextlib
import errno
import os
import pickle
import platform
import shutil
import signal
import threading
import time
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from multiprocessing import connection, parent_process
from pathlib import Path
from typing import Any

from notbugs.core.errors import DataError, NotbugsError
from notbugs.core.memory import keep_freed_memory
from notbugs.core.schema import read_json_file
from notbugs.core.strict_json import to_json
from notbugs.store.disk import as_store_error, is_about_store, is_full
from notbugs.store.stages import AnyStage, StageContext
from notbugs.store.store import Entry, Store

PROGRESS_SECONDS = 0.2
ATTEMPTS = "attempt-seconds.json"


@dataclass(frozen=True)
class Job:
    """A stage to compute, and the run's settings, which do not change its result."""

    stage: AnyStage
    settings: Mapping[str, Any]


def make(
    store: Store,
    job: Job,
    progress: Callable[[float], None],
    waiting: Callable[[], None],
    notice: Callable[[str], None],
) -> tuple[Entry, float | None]:
    """The finished entry and this call's seconds of work; None if another process did it."""
    stage = job.stage
    with store.working(stage.kind, stage.key, waiting) as work:
        stored = store.find(stage.kind, stage.key)
        if stored is not None:
            shutil.rmtree(work, ignore_errors=True)
            return stored, None
        earlier, began = _seconds_of_earlier_attempts(work), time.perf_counter()
        try:
            _produce(store, job, work, _throttled(progress), notice)
        except BaseException:
            _record_seconds(work, earlier + time.perf_counter() - began)
            raise
        worked = time.perf_counter() - began
        (work / ATTEMPTS).unlink(missing_ok=True)
        entry = store.complete(
            stage.kind,
            stage.key,
            work,
            config=stage.config,
            version=stage.version,
            inputs={name: inner.key for name, inner in stage.inputs.items()},
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
    """Calls the producer; raises a `StoreError` where the disk is the reason of its error."""
    context = StageContext(
        config=job.stage.config,
        settings=job.settings,
        inputs={n: store.get(s.kind, s.key).path for n, s in job.stage.inputs.items()},
        store=store,
        work=work,
        progress=progress,
        notice=notice,
    )
    try:
        job.stage.produce(context)
    except OSError as error:
        if not is_about_store(error, store.root):
            raise
        raise as_store_error(error, store.root) from error
    except NotbugsError:
        raise
    except Exception as error:  # some writers raise their own errors for a full disk
        if not is_full(error):
            raise
        raise as_store_error(OSError(errno.ENOSPC, str(error)), store.root) from error


def _seconds_of_earlier_attempts(work: Path) -> float:
    """Seconds of earlier attempts that ended in an error; killed ones left no record."""
    try:
        seconds = read_json_file(float, work / ATTEMPTS, remedy="")
    except DataError:
        return 0.0
    return max(seconds, 0.0)


def _record_seconds(work: Path, seconds: float) -> None:
    with contextlib.suppress(OSError):  # the error being raised matters more
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
    """A worker's main loop: computes jobs until the pipe closes, and dies with its parent."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent handles it, and ends its workers
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
        except KeyboardInterrupt:  # the parent ends its workers; this one has saved its work
            return
        except BaseException as error:
            pipe.send(("failed", (_portable(error), traceback.format_exc())))


def _next(pipe: "connection.Connection[Any, Any]") -> Job | None:
    try:
        return pipe.recv()
    except EOFError:
        return None


def _portable(error: BaseException) -> BaseException | None:
    """The error if it can be pickled, else None (its traceback always can)."""
    try:
        return pickle.loads(pickle.dumps(error))  # our own bytes, made one line above
    except Exception:
        return None


def _die_with_parent() -> None:
    """Exits with the parent: else a worker of a killed run would keep running with its locks."""
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
