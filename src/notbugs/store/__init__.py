"""Content-addressed results and the graph of stages that fills them. Imports core only."""

from notbugs.store.disk import is_store
from notbugs.store.keys import key_of
from notbugs.store.run import RunSummary, run_stages
from notbugs.store.stages import AnyStage, Observer, SilentObserver, Stage, StageContext
from notbugs.store.store import Entry, Store

__all__ = [
    "AnyStage",
    "Entry",
    "Observer",
    "RunSummary",
    "SilentObserver",
    "Stage",
    "StageContext",
    "Store",
    "is_store",
    "key_of",
    "run_stages",
]
