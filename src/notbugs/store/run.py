"""Makes the stages of a graph that the store does not hold, in worker processes."""

import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from multiprocessing import connection
from typing import Any

from notbugs.core.errors import NotbugsError, StoreError, check_count
from notbugs.store.stages import Observer, Stage, in_order, path_costs
from notbugs.store.store import Store
from notbugs.store.worker import Job, job_of, make, serve


@dataclass(frozen=True)
class RunSummary:
    """What a run did: stages made and found, and the seconds of work behind both.

    Found is what an earlier run left in the store, and what another process finished
    while this one waited for it.
    """

    made: int
    found: int
    seconds_worked: float
    seconds_from_store: float
    seconds_wall: float


@dataclass
class _Done:
    """The seconds of every finished stage, apart by who did the work."""

    made: list[float] = field(default_factory=list[float])
    found: list[float] = field(default_factory=list[float])

    def add(self, seconds: float, fresh: bool) -> None:
        (self.made if fresh else self.found).append(seconds)


class _Graph:
    """Which stages are left, and which of them can start."""

    def __init__(self, targets: Sequence[Stage], store: Store) -> None:
        self.all = in_order(targets)
        self.found = {s.key: e for s in self.all if (e := store.find(s.kind, s.key)) is not None}
        needed = self._needed(targets)
        self.left = {s.key: s for s in self.all if s.key in needed and s.key not in self.found}
        self.running: set[str] = set()
        self.rank = path_costs(self.left.values())
        self.done = _Done(found=[entry.seconds for entry in self.found.values()])

    def _needed(self, targets: Sequence[Stage]) -> set[str]:
        """Targets and whatever unfinished stages need; inputs of finished ones are not asked."""
        needed: set[str] = set()
        waiting = list(targets)
        while waiting:
            stage = waiting.pop()
            if stage.key not in needed:
                needed.add(stage.key)
                waiting += [] if stage.key in self.found else list(stage.inputs.values())
        return needed

    def next(self) -> Stage | None:
        """The stage to start now: of those that can, the one that begins the longest chain."""
        ready = [
            stage
            for key, stage in self.left.items()
            if key not in self.running
            and not any(i.key in self.left for i in stage.inputs.values())
        ]
        return max(ready, key=lambda s: self.rank[s.key]) if ready else None

    def finish(self, stage: Stage, seconds: float, fresh: bool) -> None:
        """Notes a stage as done, by this run or (not `fresh`) by another."""
        self.running.discard(stage.key)
        del self.left[stage.key]
        self.done.add(seconds, fresh)


def run_stages(
    targets: Sequence[Stage],
    store: Store,
    *,
    workers: int,
    threads: int = 1,
    observer: Observer,
) -> RunSummary:
    """Makes every stage that `targets` need and the store lacks.

    - `workers`: processes; 0 works in this one (for a GPU, or to debug)
    - `threads`: torch threads of each worker

    The error of a stage is raised here, with the stage's label as a note; finished work
    stays in the store. **Raises** ValueError for `workers` below 0 or `threads` below 1,
    StoreError when a worker dies or the store cannot be written.
    """
    check_count(workers, "workers", 0, "0 works in this process.")
    check_count(threads, "threads")
    graph, began = _Graph(targets, store), time.perf_counter()
    observer.planned(len(graph.left), sum(s.cost for s in graph.left.values()), len(graph.found))
    crew = _Crew(store, min(workers, len(graph.left)), threads)
    with crew.at_work() if workers else _nobody():
        while graph.left:
            if workers:
                crew.advance(graph, observer)
            else:
                _here(graph, store, observer)
    done = graph.done
    return RunSummary(
        made=len(done.made),
        found=len(done.found),
        seconds_worked=sum(done.made),
        seconds_from_store=sum(done.found),
        seconds_wall=time.perf_counter() - began,
    )


@contextmanager
def _nobody() -> Generator[None, None, None]:
    yield


def _here(graph: _Graph, store: Store, observer: Observer) -> None:
    """Makes one stage in this process."""
    stage = graph.next()
    if stage is None:
        raise RuntimeError("The graph of stages has a cycle.")
    observer.started(stage)
    try:
        entry, fresh = make(
            store,
            job_of(stage),
            lambda fraction: observer.progressed(stage, fraction),
            lambda: observer.waiting(stage),
        )
    except Exception as error:
        error.add_note(f"While: {stage.label}")
        raise
    graph.finish(stage, entry.seconds, fresh)
    observer.finished(stage, entry.seconds)


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


class _Crew:
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
                worker.process.join()
                worker.pipe.close()

    def advance(self, graph: _Graph, observer: Observer) -> None:
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


def _hear(worker: _Worker, graph: _Graph, observer: Observer) -> None:
    stage = worker.stage
    if stage is None:
        return
    try:
        word, value = worker.pipe.recv()
    except (EOFError, ConnectionResetError) as error:
        raise _dead(worker, stage) from error
    if word == "progress":
        observer.progressed(stage, value)
    elif word == "waiting":
        observer.waiting(stage)
    elif word == "failed":
        raise _failure(stage, *value)
    elif word == "done":
        worker.stage = None
        graph.finish(stage, *value)
        observer.finished(stage, value[0])


def _dead(worker: _Worker, stage: Stage) -> StoreError:
    worker.process.join(timeout=5)
    code = worker.process.exitcode
    return StoreError(
        f"A worker process died (exit code {code}) while: {stage.label}. Often the machine ran "
        "out of memory: use fewer workers (--workers). Run the same command again to go on from "
        "what is finished."
    )


def _failure(stage: Stage, error: BaseException | None, trace: str) -> BaseException:
    """The worker's error, to be raised here."""
    if isinstance(error, (NotbugsError, ValueError, TypeError, OSError, MemoryError)):
        error.add_note(f"While: {stage.label}")
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
