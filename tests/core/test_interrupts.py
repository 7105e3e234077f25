"""Signals that wait for the end of a step."""

import signal
import threading
from collections.abc import Iterator

import pytest

from notbugs.core.interrupts import Stopped, deferred_signals, sigterm_as_interrupt

BOTH = [signal.SIGINT, signal.SIGTERM]


@pytest.fixture(autouse=True)
def _as_on_a_terminal() -> Iterator[None]:
    before = {number: signal.getsignal(number) for number in BOTH}
    signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


def stopped(number, times, done, *, saves=False) -> None:
    """Work that hears a signal so many times, and stops by itself after the first if it `saves`."""
    with sigterm_as_interrupt(), deferred_signals() as heard:
        assert heard() == 0
        for _ in range(times):
            signal.raise_signal(number)
            done.append(heard())
        if saves:
            raise Stopped("saved", heard())
        done.append("whole")
    done.append("after")


@pytest.mark.parametrize("number", BOTH)
def test_the_first_signal_is_told_and_the_second_acts(number) -> None:
    done = []
    with pytest.raises(KeyboardInterrupt):
        stopped(number, 2, done)
    assert done == [number]


@pytest.mark.parametrize("number", BOTH)
def test_one_that_nobody_acted_on_acts_at_the_end(number) -> None:
    done = []
    with pytest.raises(KeyboardInterrupt):
        stopped(number, 1, done)
    assert done == [number, "whole"]


@pytest.mark.parametrize("number", BOTH)
def test_work_that_stopped_is_stopped_once_and_handlers_are_as_before(number) -> None:
    before = [signal.getsignal(known) for known in BOTH]
    with pytest.raises(Stopped, match="saved") as caught:
        stopped(number, 1, [], saves=True)
    assert caught.value.number == number
    assert [signal.getsignal(known) for known in BOTH] == before


def test_what_is_ignored_stays_ignored() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # as in a worker
    with deferred_signals() as heard:
        signal.raise_signal(signal.SIGINT)
        assert heard() == 0
    assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN


def test_other_threads_hear_nothing_and_set_nothing() -> None:
    before, found = signal.getsignal(signal.SIGINT), []

    def work() -> None:
        with deferred_signals() as heard, sigterm_as_interrupt():
            found.append((heard(), signal.getsignal(signal.SIGINT) is before))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert found == [(0, True)]
