"""Stages computed in this process, for tests."""

from typing import Any

from notbugs.experiments.experiment import Stage, Work
from notbugs.store import SilentObserver, run_stages


def computed(stage: Stage[Any], work: Work) -> Any:
    """The result of a stage, after it and what it needs were computed."""
    run_stages([stage], work.store, workers=0, observer=SilentObserver(), settings={})
    return work.load(stage)
