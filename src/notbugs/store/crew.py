"""The worker processes of a run: started, given stages, heard, ended."""

import multiprocessing
import os
import signal
import threading
from collections.abc import Generator
from contextlib import contextmanager
from multiprocessing import connection
from typing import Any

from notbugs.core.errors import NotbugsError, StoreError
from notbugs.store.graph import Graph
from notbugs.store.stages import Observer, Stage
from notbugs.store.store import Store
from notbugs.store.worker import Job, job_of, serve

SAVING_SECONDS = 30.0
"""How long a worker may take to save what it is at."""


class _Worker:
    """A process, the pipe to it and the stage it is at."""

    def __init__(self, store: Store, threads: int) -> None:
        context = multiprocessing.get_context("spawn")
        self.pipe, theirs = context.Pipe()
        self.process = context.Process(
            target=serve, args=(str(store.root), threads, theirs), daemon=True
        )
        self.process.start()
        theirs.close()
        self.stage: Stage | None = None

    def begin(self, stage: Stage) -> None:
        job: Job = job_of(stage)
        self.stage = stage
        try:
            self.pipe.send(job)
        except OSError as error:  # it died between two stages
            raise _dead(self, stage) from error

    def end(self) -> None:
        """Sees the process out, by force where a polite request was not heard.

        One that trains ends its step and writes a checkpoint first.
        """
        self.process.join(timeout=SAVING_SECONDS)
        if self.process.is_alive():
            self.process.kill()
            self.process.join()
        self.pipe.close()


class Crew:
    """The workers of a run."""

    def __init__(self, store: Store, size: int, threads: int) -> None:
        self.store, self.size, self.threads = store, size, threads
        self.workers: list[_Worker] = []

    @contextmanager
    def at_work(self) -> Generator[None, None, None]:
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
        """Gives idle workers something to do, then hears from the others."""
        for worker in self.workers:
            if worker.stage is None and (stage := graph.next()) is not None:
                graph.running.add(stage.key)
                observer.started(stage)
                worker.begin(stage)
        busy = [w for w in self.workers if w.stage is not None]
        if not busy:
            raise RuntimeError("The graph of stages has a cycle.")
        heard = connection.wait([w.pipe for w in busy], timeout=1.0)
        for worker in busy:
            if worker.pipe in heard:
                _hear(worker, graph, observer)


def _hear(worker: _Worker, graph: Graph, observer: Observer) -> None:
    stage = worker.stage
    if stage is None:
        return
    try:
        word, value = worker.pipe.recv()
    except (EOFError, OSError) as error:
        raise _dead(worker, stage) from error
    if word == "progress":
        observer.progressed(stage, value)
    elif word == "waiting":
        observer.waiting(stage)
    elif word == "notice":
        observer.noticed(stage, value)
    elif word == "failed":
        raise _failure(stage, *value)
    elif word == "done":
        worker.stage = None
        graph.finish(stage, *value)
        observer.finished(stage, value[0])


def _dead(worker: _Worker, stage: Stage) -> StoreError:
    worker.process.join(timeout=5)
    code = worker.process.exitcode
    why = "Often the machine ran out of memory: use fewer workers (--workers)."
    if code == 1:  # an error of Python's own, before or beside the stage
        why = (
            "What it printed says why. A script that calls this needs `if __name__ == "
            '"__main__":` around its own work, because workers import it.'
        )
    return StoreError(
        f"A worker process died (exit code {code}) while: {stage.label}. {why} "
        "Run the same command again to go on from what is finished."
    )


class _WorkerError(Exception):
    """The traceback of a worker, as the cause of the error that is raised here."""


def _failure(stage: Stage, error: BaseException | None, trace: str) -> BaseException:
    """The worker's error, to be raised here."""
    if isinstance(error, (NotbugsError, ValueError, TypeError, OSError, MemoryError)):
        error.add_note(f"While: {stage.label}")
        error.__cause__ = _WorkerError(f"\n{trace}")
        return error
    return RuntimeError(f"While: {stage.label}\n{trace}")


@contextmanager
def _environment(threads: int) -> Generator[None, None, None]:
    """The thread counts that numerical libraries read when a worker imports them."""
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
    """Workers started in here ignore Ctrl-C all their life: this process alone hears it.

    A process inherits what its parent ignores; so not even one that is still importing
    prints a traceback. Only a main thread may set this.
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
