"""When an attack within a threat lets go of a row."""

from dataclasses import replace

from notbugs.engine import AbstractStop, GiveUp, Never, OnSuccess, Solver
from notbugs.engine.either import Either


def stopping(on_success: bool, hopeless: GiveUp | None) -> AbstractStop:
    """A stop at the first success, where progress shows that none will come, or both."""
    if hopeless is None:
        return OnSuccess() if on_success else Never()
    return Either(OnSuccess(), hopeless) if on_success else hopeless


def without_giving_up(solver: Solver) -> Solver:
    """The solver without giving up on a row: it stops at a success, where it did, or never."""
    return replace(solver, stop=_without_giving_up(solver.stop))


def _without_giving_up(stop: AbstractStop) -> AbstractStop:
    if isinstance(stop, GiveUp):
        return Never()
    if not isinstance(stop, Either):
        return stop
    first, second = _without_giving_up(stop.first), _without_giving_up(stop.second)
    if second.never:
        return first
    return second if first.never else Either(first, second)
