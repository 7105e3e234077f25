"""Makes the stages of a graph that the store does not hold, in worker processes."""

import multiprocessing
import os
import time
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing import connection
from typing import Any

from notbugs.core.errors import NotbugsError, StoreError
from notbugs.store.stages import Observer, Stage, in_order, path_costs
from notbugs.store.store import Store
from notbugs.store.worker import Job, job_of, make, serve


@dataclass(frozen=True)
class RunSummary:
    """What a run did: seconds of work by it, and by earlier runs for what was found."""

    made: int
    found: int
    seconds_worked: float
    seconds_from_store: float
    seconds_wall: float


class _Graph:
    """Which stages are left, and which of them can start."""

    def __init__(self, targets: Sequence[Stage], store: Store) -> None:
        self.all = in_order(targets)
        self.found = {s.key: e for s in self.all if (e := store.find(s.kind, s.key)) is not None}
        needed = self._needed(targets)
        self.left = {s.key: s for s in self.all if s.key in needed and s.key not in self.found}
        self.running: set[str] = set()
        self.rank = path_costs(self.left.values())

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
    stays in the store. **Raises** NotbugsError when a worker dies.
    """
    graph, began = _Graph(targets, store), time.perf_counter()
    observer.planned(len(graph.left), sum(s.cost for s in graph.left.values()), len(graph.found))
    wanted = {s.key for s in in_order(targets)}
    earlier = sum(entry.seconds for key, entry in graph.found.items() if key in wanted)
    made, found = len(graph.left), len(graph.found)
    crew = _Crew(store, min(workers, len(graph.left)), threads)
    worked = 0.0
    with crew.at_work() if workers else _nobody():
        while graph.left:
            worked += crew.advance(graph, observer) if workers else _here(graph, store, observer)
    return RunSummary(made, found, worked, earlier, time.perf_counter() - began)


@contextmanager
def _nobody() -> Generator[None, None, None]:
    yield


def _here(graph: _Graph, store: Store, observer: Observer) -> float:
    """Makes one stage in this process; the seconds it took."""
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
    del graph.left[stage.key]
    observer.finished(stage, entry.seconds)
    return entry.seconds if fresh else 0.0


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
        self.pipe.send(job)


class _Crew:
    """The workers of a run."""

    def __init__(self, store: Store, size: int, threads: int) -> None:
        self.store, self.size, self.threads = store, size, threads
        self.workers: list[_Worker] = []

    @contextmanager
    def at_work(self) -> Generator[None, None, None]:
        with _environment(self.threads):
            self.workers = [_Worker(self.store, self.threads) for _ in range(self.size)]
        try:
            yield
        finally:
            for worker in self.workers:
                worker.process.terminate()
            for worker in self.workers:
                worker.process.join()
                worker.pipe.close()

    def advance(self, graph: _Graph, observer: Observer) -> float:
        """Gives idle workers something to do, then hears from the others; seconds worked."""
        for worker in self.workers:
            if worker.stage is None and (stage := graph.next()) is not None:
                graph.running.add(stage.key)
                observer.started(stage)
                worker.begin(stage)
        busy = [w for w in self.workers if w.stage is not None]
        if not busy:
            raise RuntimeError("The graph of stages has a cycle.")
        heard = connection.wait([w.pipe for w in busy], timeout=1.0)
        return sum(_hear(w, graph, observer) for w in busy if w.pipe in heard)


def _hear(worker: _Worker, graph: _Graph, observer: Observer) -> float:
    stage = worker.stage
    if stage is None:
        return 0.0
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
        seconds, fresh = value
        worker.stage = None
        graph.running.discard(stage.key)
        del graph.left[stage.key]
        observer.finished(stage, seconds)
        return seconds if fresh else 0.0
    return 0.0


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
