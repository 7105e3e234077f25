"""Stopping rules of attacks within a threat."""

from dataclasses import replace

from notbugs.engine import AbstractStop, GiveUp, Never, OnSuccess, Solver
from notbugs.engine.either import Either


def stopping(on_success: bool, give_up: GiveUp | None) -> AbstractStop:
    """A stop at the first success, by giving up on hopeless rows, or both."""
    if give_up is None:
        return OnSuccess() if on_success else Never()
    return Either(OnSuccess(), give_up) if on_success else give_up


def without_giving_up(solver: Solver) -> Solver:
    """The solver without giving up on a row; a stop at the first success remains."""
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
