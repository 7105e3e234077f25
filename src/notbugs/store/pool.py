"""The pool of worker processes that computes a run's stages."""

import multiprocessing
import os
import signal
import threading
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from multiprocessing import connection
from pickle import PicklingError
from typing import Any

from notbugs.core.errors import NotbugsError, StoreError
from notbugs.store.graph import Graph
from notbugs.store.stages import AnyStage, Observer
from notbugs.store.store import Store
from notbugs.store.worker import Job, serve

SAVING_SECONDS = 30.0
"""How long a worker may take to save its progress before it is killed."""


class _Worker:
    """A worker process, the pipe to it and the stage it is working on."""

    def __init__(self, store: Store, threads: int) -> None:
        context = multiprocessing.get_context("spawn")
        self.pipe, worker_end = context.Pipe()
        self.process = context.Process(
            target=serve, args=(str(store.root), threads, worker_end), daemon=True
        )
        self.process.start()
        worker_end.close()
        self.stage: AnyStage | None = None

    def begin(self, stage: AnyStage, settings: Mapping[str, Any]) -> None:
        self.stage = stage
        try:
            self.pipe.send(Job(stage, settings))
        except OSError as error:  # it died between two stages
            raise _worker_died(self, stage) from error
        except (PicklingError, AttributeError, TypeError) as error:
            error.add_note(f"While sending to a worker: {stage.label}")
            raise

    def end(self) -> None:
        """Waits until the process has ended, and kills it after `SAVING_SECONDS`.

        A worker that is training finishes its step and writes a checkpoint first.
        """
        self.process.join(timeout=SAVING_SECONDS)
        if self.process.is_alive():
            self.process.kill()
            self.process.join()
        self.pipe.close()


class WorkerPool:
    """A fixed number of workers, each computing one stage at a time."""

    def __init__(self, store: Store, size: int, threads: int, settings: Mapping[str, Any]) -> None:
        self.store, self.size, self.threads, self.settings = store, size, threads, settings
        self.workers: list[_Worker] = []

    @contextmanager
    def running(self) -> Generator[None, None, None]:
        with _environment(self.threads), _interrupts_ignored():
            self.workers = [_Worker(self.store, self.threads) for _ in range(self.size)]
        try:
            yield
        finally:
            for worker in self.workers:
                worker.process.terminate()
            for worker in self.workers:
                worker.end()

    def advance(self, graph: Graph, observer: Observer) -> None:
        """Gives idle workers a stage each, then receives the messages of the busy ones."""
        for worker in self.workers:
            if worker.stage is None and (stage := graph.next()) is not None:
                graph.running.add(stage.key)
                observer.started(stage)
                worker.begin(stage, self.settings)
        busy = [w for w in self.workers if w.stage is not None]
        if not busy:
            raise RuntimeError("The graph of stages has a cycle.")
        ready = connection.wait([w.pipe for w in busy], timeout=1.0)
        for worker in busy:
            if worker.pipe in ready:
                _receive(worker, graph, observer)


def _receive(worker: _Worker, graph: Graph, observer: Observer) -> None:
    stage = worker.stage
    if stage is None:
        return
    try:
        message, value = worker.pipe.recv()
    except (EOFError, OSError) as error:
        raise _worker_died(worker, stage) from error
    if message == "progress":
        observer.progressed(stage, value)
    elif message == "waiting":
        observer.waiting(stage)
    elif message == "notice":
        observer.noticed(stage, value)
    elif message == "failed":
        raise _failure(stage, *value)
    elif message == "done":
        worker.stage = None
        graph.finish(stage, *value)
        observer.finished(stage, value[0])


def _worker_died(worker: _Worker, stage: AnyStage) -> StoreError:
    worker.process.join(timeout=5)
    code = worker.process.exitcode
    hint = "Often the machine ran out of memory: use fewer workers (--workers)."
    if code == 1:  # an error of Python's own, before or beside the stage
        hint = (
            "What it printed says why. A script that calls this needs `if __name__ == "
            '"__main__":` around its own work, because workers import it.'
        )
    return StoreError(
        f"A worker process died (exit code {code}) while: {stage.label}. {hint} "
        "Run the same command again to resume from the finished stages."
    )


class _WorkerError(Exception):
    """A worker's traceback, attached as the cause of the error that the parent raises."""


def _failure(stage: AnyStage, error: BaseException | None, trace: str) -> BaseException:
    """The exception that the parent raises for a worker's error."""
    if isinstance(error, (NotbugsError, ValueError, TypeError, OSError, MemoryError)):
        error.add_note(f"While: {stage.label}")
        error.__cause__ = _WorkerError(f"\n{trace}")
        return error
    return RuntimeError(f"While: {stage.label}\n{trace}")


@contextmanager
def _environment(threads: int) -> Generator[None, None, None]:
    """Sets the thread counts that numerical libraries read when a worker imports them."""
    names = ("OMP_NUM_THREADS", "MKL_NUM_THREADS")
    before: dict[str, Any] = {name: os.environ.get(name) for name in names}
    os.environ.update(dict.fromkeys(names, str(threads)))
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


@contextmanager
def _interrupts_ignored() -> Generator[None, None, None]:
    """Makes workers that are started in the block ignore SIGINT; only this process handles it.

    A child process inherits ignored signals, so not even a worker that is still importing
    prints a traceback. Signal handlers can be set in the main thread only.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.getsignal(signal.SIGINT)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
