"""Computes the stages of a graph that the store does not hold, in worker processes."""

import time
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch

from notbugs.core.errors import check_count
from notbugs.store.graph import Graph
from notbugs.store.pool import WorkerPool
from notbugs.store.stages import AnyStage, Observer
from notbugs.store.store import Store
from notbugs.store.worker import Job, make


@dataclass(frozen=True)
class RunSummary:
    """What a run did: stages computed and taken from the store, and the seconds of both.

    `cached` counts results of earlier runs, and those that another process finished while
    this one waited. The seconds of a stage's earlier, failed attempts count as from the
    store.
    """

    computed: int
    cached: int
    seconds_worked: float
    seconds_from_store: float
    seconds_wall: float


def run_stages(
    targets: Sequence[AnyStage],
    store: Store,
    *,
    workers: int,
    threads: int = 1,
    observer: Observer,
    settings: Mapping[str, Any] | None = None,
) -> RunSummary:
    """Computes every stage that `targets` need and the store lacks.

    - `workers`: worker processes; 0 computes in this process (for a GPU, or to debug)
    - `threads`: torch threads of each worker, or of this process while it computes: sums over
      other numbers of threads round otherwise
    - `settings`: what stages need and does not change a result, such as a device

    A stage's error is raised with the stage's label as a note; finished work stays in the
    store. **Raises** ValueError for `workers` below 0 or `threads` below 1,
    StoreError when a worker dies or the store cannot be written.
    """
    check_count(workers, "workers", 0, "0 works in this process.")
    check_count(threads, "threads")
    graph, began = Graph(targets, store), time.perf_counter()
    observer.planned(
        len(graph.pending), sum(s.cost for s in graph.pending.values()), len(graph.cached)
    )
    for stage, fault in graph.damaged:
        observer.noticed(stage, f"Its stored result is damaged ({fault}); it is made again.")
    pool = WorkerPool(store, min(workers, len(graph.pending)), threads, settings or {})
    with pool.running() if workers else _threads(threads):
        while graph.pending:
            if workers:
                pool.advance(graph, observer)
            else:
                _make_in_process(graph, store, observer, settings or {})
    done = graph.done
    return RunSummary(
        computed=done.computed,
        cached=done.cached,
        seconds_worked=done.worked,
        seconds_from_store=done.earlier,
        seconds_wall=time.perf_counter() - began,
    )


@contextmanager
def _threads(count: int) -> Generator[None, None, None]:
    """Lets torch compute with so many threads in the block."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _make_in_process(
    graph: Graph, store: Store, observer: Observer, settings: Mapping[str, Any]
) -> None:
    """Computes one stage in this process."""
    stage = graph.next()
    if stage is None:
        raise RuntimeError("The graph of stages has a cycle.")
    observer.started(stage)
    try:
        entry, worked = make(
            store,
            Job(stage, settings),
            lambda fraction: observer.progressed(stage, fraction),
            lambda: observer.waiting(stage),
            lambda text: observer.noticed(stage, text),
        )
    except Exception as error:
        error.add_note(f"While: {stage.label}")
        raise
    graph.finish(stage, entry.seconds, worked)
    observer.finished(stage, entry.seconds)
