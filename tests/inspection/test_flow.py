"""The pipeline on its own: order, look-ahead, errors in their place, and sources that wait."""

import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import Future

import pytest

from traceai.inspection.flow import Flow


class Steps:
    """Counts what passes through; reads one slower than the other, so that they end out of order."""

    def __init__(self) -> None:
        self.groups: list[list[int]] = []
        self.reads = 0

    def read(self, number: int) -> int:
        self.reads += 1
        time.sleep(0.002 * (number % 3))
        if number == 13:
            raise OSError("unreadable")
        return number

    def judge(self, group: Sequence[int]) -> None:
        self.groups.append(list(group))

    def submit(self, number: int) -> "Future[int]":
        future: Future[int] = Future()
        threading.Timer(0.001, future.set_result, [number * 10]).start()
        return future

    def flow(self, source: object, batch: int = 4, eager: bool = False, until: threading.Event | None = None) -> Flow:
        return Flow(source, self.read, self.judge, self.submit, batch=batch, eager=eager, until=until)


def test_results_come_in_the_order_of_the_source_in_whole_batches() -> None:
    steps = Steps()
    assert list(steps.flow(range(10))) == [number * 10 for number in range(10)]
    assert steps.groups == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9]]


def test_an_empty_source_has_no_results() -> None:
    assert list(Steps().flow([])) == []


def test_what_a_live_source_gave_is_judged_before_the_next_comes() -> None:
    steps, answered = Steps(), threading.Event()

    def camera() -> Iterator[int]:
        yield 1
        assert answered.wait(10), "the first image waited for the second"
        yield 2

    found = []
    for result in steps.flow(camera(), eager=True):
        found.append(result)
        answered.set()
    assert found == [10, 20]
    assert steps.groups == [[1], [2]]


def test_a_live_source_in_a_hurry_is_judged_in_batches() -> None:
    steps = Steps()
    judge = steps.judge

    def slowly(group: Sequence[int]) -> None:
        time.sleep(0.02)
        judge(group)

    steps.judge = slowly
    assert list(steps.flow(range(12), eager=True)) == [number * 10 for number in range(12)]
    assert max(map(len, steps.groups)) > 1


@pytest.mark.parametrize("eager", [False, True])
def test_an_error_comes_in_its_place_and_ends_the_run(eager: bool) -> None:
    steps, found = Steps(), []
    with pytest.raises(OSError, match="unreadable"):
        for result in steps.flow(range(100), eager=eager):
            found.append(result)
    assert found == [number * 10 for number in range(len(found))]
    assert len(found) >= (12 if not eager else 0)
    assert 13 not in [number for group in steps.groups for number in group]


def test_an_error_of_the_source_comes_after_what_it_gave() -> None:
    def source() -> Iterator[int]:
        yield from range(5)
        raise LookupError("the camera was unplugged")

    found = []
    with pytest.raises(LookupError):
        for result in Steps().flow(source()):
            found.append(result)
    assert found == [0, 10, 20, 30, 40]


def test_it_never_runs_further_ahead_than_four_batches() -> None:
    steps, given = Steps(), []

    def source() -> Iterator[int]:
        for number in range(14, 1000):
            given.append(number)
            yield number

    results = iter(steps.flow(source(), batch=2))
    next(results)
    time.sleep(0.1)
    assert len(given) <= 4 * 2 + 2
    results.close()
    assert steps.reads <= len(given)


def test_it_ends_with_the_batch_at_hand_when_it_is_told_to() -> None:
    steps, until = Steps(), threading.Event()
    judge = steps.judge

    def told(group: Sequence[int]) -> None:
        judge(group)
        if len(steps.groups) == 2:
            until.set()

    steps.judge = told
    assert list(steps.flow(range(100), until=until)) == [number * 10 for number in range(8)]


def test_who_stops_asking_leaves_no_thread_behind() -> None:
    before = threading.active_count()
    results = iter(Steps().flow(range(14, 100)))
    next(results)
    results.close()
    deadline = time.monotonic() + 10
    while threading.active_count() > before:
        assert time.monotonic() < deadline, threading.enumerate()
        time.sleep(0.01)


def test_what_was_read_before_an_image_that_cannot_be_is_judged_and_told() -> None:
    steps, found = Steps(), []
    with pytest.raises(OSError, match="unreadable"):
        for result in steps.flow(range(10, 20), batch=8):
            found.append(result)
    assert found == [100, 110, 120]


def test_a_live_source_that_is_told_to_end_loses_nothing_that_it_gave() -> None:
    steps, until, given = Steps(), threading.Event(), []

    def camera() -> Iterator[int]:
        for number in range(14, 1000):
            if until.is_set():
                return
            given.append(number)
            yield number
            if number == 30:
                until.set()

    assert list(steps.flow(camera(), eager=True, until=until)) == [number * 10 for number in given]
