"""Signals stop a run where it is, or at the end of what would be lost."""

import itertools
import os
import signal

import pytest

from detector import stopping
from detector.stopping import Stopped, asked_by, deferred, keeping, kept, listening


def send(number: int) -> None:
    os.kill(os.getpid(), number)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_stops_at_once(number: signal.Signals) -> None:
    before = [signal.getsignal(one) for one in stopping.SIGNALS]
    with listening():
        assert (asked_by(), kept()) == (None, "")
        with pytest.raises(Stopped, match=number.name), keeping(lambda: "all of it"):
            send(number)
        assert (asked_by(), kept()) == (number, "all of it")
    assert [signal.getsignal(one) for one in stopping.SIGNALS] == before
    assert (asked_by(), kept()) == (None, "")


def test_what_would_be_lost_is_ended_first_unless_a_second_comes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    clock = itertools.count(step=stopping.SAME)
    monkeypatch.setattr(stopping.time, "monotonic", lambda: next(clock))
    done: list[str] = []

    def work(signals: int) -> None:
        with deferred() as asked:
            assert not asked()
            for _ in range(signals):
                send(signal.SIGTERM)
            assert asked()
            done.append("kept")
        done.append("not reached")

    for signals, left in ((1, ["kept"]), (2, ["kept"])):
        with listening(), pytest.raises(Stopped, match="SIGTERM"):
            work(signals)
        assert done == left


def test_signals_that_come_together_are_one() -> None:
    """As where make hands on the Ctrl-C that the terminal has sent to all: neither what is kept nor
    the removal of what was half-written is broken off by the second."""
    done: list[str] = []

    def kept() -> None:
        with deferred():
            send(signal.SIGINT)
            send(signal.SIGINT)
            done.append("kept")

    def removed() -> None:
        try:
            send(signal.SIGTERM)
        finally:
            send(signal.SIGINT)
            done.append("removed")

    for work in (kept, removed):
        with listening(), pytest.raises(Stopped):
            work()
    assert done == ["kept", "removed"]


def test_what_is_ignored_stays_ignored() -> None:
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with listening():
            send(signal.SIGINT)
        assert asked_by() is None
    finally:
        signal.signal(signal.SIGINT, before)


def test_a_forked_child_is_ended_by_its_parent_and_not_by_ctrl_c() -> None:
    with listening():
        for number, end in ((signal.SIGINT, 7), (signal.SIGTERM, -signal.SIGTERM)):
            child = os.fork()
            if child == 0:
                send(number)
                os._exit(7)
            _, status = os.waitpid(child, 0)
            assert os.waitstatus_to_exitcode(status) == end
    assert asked_by() is None


def test_an_ordinary_failure_notes_nothing() -> None:
    with listening():
        with pytest.raises(ValueError, match="x"), keeping(lambda: "all of it"):
            raise ValueError("x")
        assert kept() == ""
