"""Answers: given once, to whoever waits, in whatever thread, and told to every callback."""

import contextlib
import gc
import threading
import weakref

import pytest

from tests.inspection.recording.drafts import draft
from traceai.clock import now
from traceai.errors import SpoolError
from traceai.inspection.recording.answers import Answer, give
from traceai.inspection.recording.draft import Recorded
from traceai.ledger.log import Receipt

GIVEN = threading.Condition()


def answer() -> Answer:
    return Answer(draft(1), GIVEN)


def recorded(index: int = 7) -> Recorded:
    return Recorded(Receipt("x", index, bytes(32), now()), 1)


def test_who_waits_is_told_and_so_is_who_asks_later() -> None:
    one, told = answer(), recorded()
    found: list[object] = []
    waiting = [threading.Thread(target=lambda: found.append(one.result(timeout=30))) for _ in range(4)]
    for thread in waiting:
        thread.start()
    assert not one.done()
    give(GIVEN, [(one, told)])
    for thread in waiting:
        thread.join(timeout=30)
    assert found == [told] * 4
    assert one.done()
    assert one.result() is told
    assert one.exception() is None


def test_who_waits_for_another_goes_on_waiting() -> None:
    one, other = answer(), answer()
    found: list[object] = []
    waiting = threading.Thread(target=lambda: found.append(other.result(timeout=30)))
    waiting.start()
    give(GIVEN, [(one, recorded(1))])
    with pytest.raises(TimeoutError):
        other.result(timeout=0.05)
    assert found == []
    give(GIVEN, [(other, recorded(2))])
    waiting.join(timeout=30)
    assert [told.index for told in found] == [2]


def test_an_error_is_raised_to_whoever_asks() -> None:
    one, error = answer(), SpoolError("The disk is full.")
    give(GIVEN, [(one, error)])
    assert one.exception() is error
    for _ in range(2):
        with pytest.raises(SpoolError, match="The disk is full"):
            one.result()


def test_nothing_is_answered_before_its_time() -> None:
    one = answer()
    for ask in (one.result, one.exception):
        with pytest.raises(TimeoutError):
            ask(timeout=0.01)


def test_an_error_that_was_raised_holds_nothing_once_it_is_let_go() -> None:
    gone = []

    def failed() -> Answer:
        one, error = answer(), SpoolError("x")
        weakref.finalize(error, gone.append, True)
        give(GIVEN, [(one, error)])
        return one

    gc.disable()
    try:
        with contextlib.suppress(SpoolError):
            failed().result()
        assert gone == [True]
    finally:
        gc.enable()


def test_answers_that_cannot_be_made_are_given_to_nobody() -> None:
    one, other = answer(), answer()
    with pytest.raises(ValueError, match="zip"):
        give(GIVEN, zip([one, other], [recorded()], strict=True))
    assert not one.done()


def test_callbacks_are_called_once_each_and_one_that_fails_stops_no_other(caplog: pytest.LogCaptureFixture) -> None:
    one, other, called = answer(), answer(), []

    def fail(_: Answer) -> None:
        raise ValueError("no")

    one.add_done_callback(fail)
    one.add_done_callback(called.append)
    other.add_done_callback(called.append)
    give(GIVEN, [(one, recorded()), (other, recorded())])
    one.add_done_callback(called.append)
    assert called == [one, other, one]
    assert [record.message for record in caplog.records] == ["A callback of an answer failed"]


def test_a_callback_may_ask_and_add_another() -> None:
    one, found = answer(), []
    one.add_done_callback(lambda it: it.add_done_callback(lambda again: found.append(again.result(timeout=1).index)))
    give(GIVEN, [(one, recorded(3))])
    assert found == [3]
