"""The camera's counter: every rule by example, and the ranges held against a model that knows every number."""

import itertools
import json
from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from traceai.ledger.triggers import LAST_COUNTS, RESTART, Counter, Hole, Ranges, Reconciled, Restart, Step, decided


def taken(*steps: int | range | tuple[int, int]) -> Reconciled:
    """What comes of these entries, numbered from 0: a decision, decisions one after the other, or a declaration."""
    return counter(*steps).result()


def counter(*steps: int | range | tuple[int, int]) -> Counter:
    made, index = Counter(), 0
    for step in steps:
        if isinstance(step, tuple):
            made.take(Step(index, *step, declared=True))
        else:
            counts = range(step, step + 1) if isinstance(step, int) else step
            made.take(Step(index, counts[0], counts[-1]))
            index += len(counts) - 1
        index += 1
    return made


def holes(found: Sequence[Hole]) -> list[tuple[int, int]]:
    return [(hole.first, hole.last) for hole in found]


def test_counting_begins_with_the_first_count_that_is_seen() -> None:
    assert taken(range(1000, 1010)) == Reconciled((), (), ())


def test_what_is_skipped_is_missing_and_noted_where_it_was_noticed() -> None:
    assert taken(range(1, 4), 7).unexplained == (Hole(0, 4, 6, 3),)


def test_a_late_decision_fills_its_place() -> None:
    assert holes(taken(1, 10, 5).unexplained) == [(2, 4), (6, 9)]
    assert holes(taken(1, 10, range(2, 10)).unexplained) == []
    assert holes(taken(1, 10, range(8, 12)).unexplained) == [(2, 7)]


def test_several_views_of_one_part_are_no_matter() -> None:
    assert taken(5, 5, 6, 6, 6, 7) == Reconciled((), (), ())
    assert taken(5, 6, 5, 6, 7) == Reconciled((), (), ())


@pytest.mark.parametrize("to", [0, 1])
def test_a_counter_that_goes_back_to_its_beginning_was_switched_off(to: int) -> None:
    found = taken(range(1, 6), to, to + 1)
    assert found == Reconciled((), (), (Restart(5, 5, to),))


def test_a_counter_that_goes_far_back_was_switched_off_and_began_at_one() -> None:
    found = taken(range(1000, 1300), 1299 - RESTART)
    assert found.restarts == (Restart(300, 1299, 1299 - RESTART),)
    assert found.unexplained == (Hole(1, 1, 1298 - RESTART, 300),)
    assert taken(range(1000, 1300), 1300 - RESTART) == Reconciled((), (), ())


def test_what_was_missing_before_a_restart_stays_missing() -> None:
    found = taken(range(1, 5), 8, 1, range(2, 10))
    assert found.unexplained == (Hole(0, 5, 7, 4),)


@pytest.mark.parametrize("end", LAST_COUNTS)
@pytest.mark.parametrize("to", [0, 1])
def test_a_wrap_around_is_neither_a_restart_nor_a_gap(end: int, to: int) -> None:
    assert taken(range(end - 9, end + 1), range(to, to + 9)) == Reconciled((), (), ())


@pytest.mark.parametrize("end", LAST_COUNTS)
def test_a_late_decision_from_before_a_wrap_around_belongs_there(end: int) -> None:
    assert taken(end - 2, end, 0, end - 1, end, 1) == Reconciled((), (), ())
    assert holes(taken(end - 2, end, 0, end, 1, 4).unexplained) == [(end - 1, end - 1), (2, 3)]


def test_only_the_end_of_the_lap_before_can_be_late() -> None:
    assert holes(taken(254, 255, 0, 130).unexplained) == [(1, 129)]


def test_a_jump_across_most_of_the_numbers_there_are_is_one_hole() -> None:
    assert taken(0, 2**53 - 1).unexplained == (Hole(0, 1, 2**53 - 2, 1),)
    assert holes(taken(0, 2**53 - 1, 2**40).unexplained) == [(1, 2**40 - 1), (2**40 + 1, 2**53 - 2)]


def test_a_declaration_after_the_hole_explains_it() -> None:
    found = taken(range(1, 4), 7, (4, 6))
    assert (found.unexplained, found.explained) == ((), (Hole(0, 4, 6, 4),))
    assert holes(taken(range(1, 4), 7, (5, 5)).unexplained) == [(4, 4), (6, 6)]


def test_a_declaration_before_the_decision_that_would_reveal_the_hole_explains_it() -> None:
    for steps in ([range(1, 4), (4, 6), 7], [range(1, 3), (4, 6), 3, 7]):
        found = taken(*steps)
        assert (found.unexplained, holes(found.explained)) == ((), [(4, 6)])


def test_a_declaration_that_nothing_reveals_counts_as_seen() -> None:
    found = taken(range(1, 4), (4, 6))
    assert (found.unexplained, holes(found.explained)) == ((), [(4, 6)])
    assert taken(range(1, 4), (4, 6), 9).unexplained == (Hole(0, 7, 8, 4),)


def test_a_declaration_explains_no_more_than_it_names() -> None:
    assert holes(taken(1, (5, 6), 10).unexplained) == [(2, 4), (7, 9)]


def test_a_declaration_that_was_counted_past_is_forgotten() -> None:
    assert counter(1, (5, 6), range(2, 9)).state() == counter(1, range(2, 9)).state()


def test_a_declaration_before_the_first_decision_is_told_and_opens_no_hole() -> None:
    found = taken((1, 3), 4, 5)
    assert (found.unexplained, holes(found.explained)) == ((), [(1, 3)])
    assert taken((1, 3), 1, 2, 3, 4) == Reconciled((), (), ())


def test_a_declaration_is_of_the_newest_lap_that_lacks_its_counts() -> None:
    both = taken(range(1, 4), 7, 1, 9, (4, 6))
    assert both.unexplained == (Hole(0, 4, 6, 3), Hole(1, 2, 3, 5), Hole(1, 7, 8, 5))
    older = taken(range(1, 4), 7, range(1, 10), (4, 6))
    assert (older.unexplained, older.explained) == ((), (Hole(0, 4, 6, 13),))


def test_counts_that_were_declared_before_a_restart_showed_them_missing_are_explained() -> None:
    found = taken(range(5000, 5004), (1, 3), 4, 5)
    assert (found.unexplained, found.explained) == ((), (Hole(1, 1, 3, 4),))


def test_a_declaration_of_what_has_decisions_explains_nothing() -> None:
    assert taken(range(1, 9), (4, 6), range(9, 12)) == Reconciled((), (), ())


def test_what_is_missing_of_some_counts_can_be_asked() -> None:
    made = counter(range(1, 4), 7, 9)
    assert made.lacking(3, 8) == [Hole(0, 4, 6, 3), Hole(0, 8, 8, 4)]
    assert made.lacking(6, 6) == [Hole(0, 6, 6, 3)]
    assert made.lacking(7, 7) == []
    assert made.lacking(6, 11) == [Hole(0, 6, 6, 3), Hole(0, 8, 8, 4)]
    assert made.lacking(10, 11) == []
    assert Counter().lacking(1, 2) == []


def test_a_run_goes_on_with_the_next_count_and_with_the_same() -> None:
    steps: list[Step] = []
    for index, count in enumerate([7, 8, 8, 9, 11, 10]):
        decided(steps, index, count)
    assert steps == [Step(0, 7, 9), Step(4, 11, 11), Step(5, 10, 10)]


def test_what_is_no_state_is_refused() -> None:
    for state in ({}, {**Counter().state(), "missing": [[0, [[1, 2]]]]}, {**Counter().state(), "ahead": 3}):
        with pytest.raises((KeyError, TypeError, ValueError)):
            Counter.load(state)


# --- ranges ------------------------------------------------------------------------------------------------------------

RANGE = st.tuples(st.integers(0, 40), st.integers(0, 12)).map(lambda r: (r[0], r[0] + r[1]))


@given(st.lists(st.tuples(st.sampled_from(["add", "cut", "meeting"]), RANGE), max_size=30))
def test_ranges_are_what_a_table_of_every_number_is(calls: list[tuple[str, tuple[int, int]]]) -> None:
    ranges, model = Ranges(), dict[int, int]()
    for index, (call, (first, last)) in enumerate(calls):
        numbers = range(first, last + 1)
        if call == "add":
            ranges.add(first, last, index)
            model = dict.fromkeys(numbers, index) | model
        elif call == "cut":
            taken_out = {n: i for begin, end, i in ranges.cut(first, last) for n in range(begin, end + 1)}
            assert taken_out == {number: model.pop(number) for number in numbers if number in model}
        else:
            found = [n for begin, end, _ in ranges.meeting(first, last) for n in range(begin, end + 1)]
            assert found == [number for number in numbers if number in model]
        assert {n: i for begin, end, i in ranges for n in range(begin, end + 1)} == model
        assert all(a[1] < b[0] for a, b in itertools.pairwise(ranges))
        assert list(Ranges(list(ranges))) == list(ranges.copy()) == list(ranges)


# --- the model -----------------------------------------------------------------------------------------------------------


class Model:
    """The rules once more, number by number: slow, and short enough to be believed."""

    def __init__(self) -> None:
        self.lap, self.highest, self.last, self.wrapped = 0, None, None, None
        self.missing: dict[tuple[int, int], int] = {}
        self.explained: dict[tuple[int, int], int] = {}
        self.ahead: dict[int, int] = {}
        self.below: dict[int, int] = {}
        self.restarts: list[Restart] = []

    def decide(self, index: int, count: int) -> None:
        if self.highest is None:
            self.explained |= {(0, n): entry for n, entry in self.ahead.items() if n < count}
            self.rise(count)
        elif count in (0, 1) and self.highest in LAST_COUNTS:
            self.begin(count, self.highest)
        elif count > self.highest and self.is_late(count):
            self.missing.pop((self.lap - 1, count), None)
        elif count > self.highest:
            for number in range(self.highest + 1, count):
                self.lack(number, index, self.ahead)
            self.rise(count)
        elif (self.lap, count) in self.missing:
            del self.missing[self.lap, count]
            self.last = count
        elif (count in (0, 1) and self.last > 1) or self.last - count >= RESTART:
            self.restarts.append(Restart(index, self.last, count))
            below = self.below
            self.begin(count, None)
            for number in range(1, count):
                self.lack(number, index, below)
        else:
            self.last = count

    def declare(self, index: int, first: int, last: int) -> None:
        numbers = range(first, last + 1)
        above = self.highest is not None and self.highest + 1 in numbers
        laps = [lap for lap, number in self.missing if number in numbers] + [self.lap] * above
        if laps:
            for number in numbers:
                if self.missing.pop((max(laps), number), None) is not None:
                    self.explained[max(laps), number] = index
            if above:
                self.explained |= {(self.lap, number): index for number in numbers if number > self.highest}
                self.rise(last)
        else:
            kept = self.ahead if self.highest is None or first > self.highest else self.below
            for number in numbers:
                kept.setdefault(number, index)

    def rise(self, count: int) -> None:
        self.highest = self.last = count
        self.ahead = {number: entry for number, entry in self.ahead.items() if number > count}

    def lack(self, number: int, index: int, declared: dict[int, int]) -> None:
        if number in declared:
            self.explained[self.lap, number] = declared[number]
        else:
            self.missing[self.lap, number] = index

    def begin(self, count: int, wrapped: int | None) -> None:
        self.lap, self.wrapped, self.ahead, self.below = self.lap + 1, wrapped, {}, {}
        self.rise(count)

    def is_late(self, count: int) -> bool:
        if self.wrapped is None or count > self.wrapped:
            return False
        return (self.highest - count) % (self.wrapped + 1) < min(RESTART, (self.wrapped + 1) // 8)


def numbers(found: Sequence[Hole]) -> dict[tuple[int, int], int]:
    return {(hole.lap, number): hole.entry for hole in found for number in range(hole.first, hole.last + 1)}


COUNTS = st.one_of(
    st.integers(0, 12),
    st.sampled_from([250, 254, 255, 256, 257, 300, 511, 600, 65280, 65534, 65535, 65536]),
    st.integers(0, 700),
)
MOVES = st.one_of(
    st.tuples(st.just("next"), st.integers(1, 40)),
    st.tuples(st.just("skip"), st.integers(1, 6)),
    st.tuples(st.just("back"), st.integers(0, 300)),
    st.tuples(st.just("to"), COUNTS),
    st.tuples(st.just("declare"), st.tuples(st.integers(-30, 12), st.integers(0, 8))),
    st.tuples(st.just("declare from"), st.tuples(COUNTS, st.integers(0, 8))),
)


def scripted(moves: Sequence[tuple]) -> list[Step]:
    """Entries one by one, each where the counter is by then."""
    steps: list[Step] = []
    at = 0
    for kind, value in moves:
        if kind in ("declare", "declare from"):
            first = max(0, at + value[0] if kind == "declare" else value[0])
            steps.append(Step(len(steps), first, first + value[1], declared=True))
            continue
        counts = {
            "next": range(at + 1, at + 1 + value) if kind == "next" else (),
            "skip": (at + 1 + value,) if kind == "skip" else (),
            "back": (max(0, at - value),) if kind == "back" else (),
            "to": (value,),
        }[kind]
        for count in counts:
            steps.append(Step(len(steps), count, count))
            at = count
    return steps


@settings(deadline=None, max_examples=400)
@given(st.lists(MOVES, max_size=14), st.data())
def test_the_ranges_are_those_of_the_model_however_the_entries_are_cut(moves: list[tuple], data: st.DataObject) -> None:
    model, singly, by_runs, runs = Model(), Counter(), Counter(), list[Step]()
    cut = data.draw(st.integers(0, 200))
    for step in scripted(moves):
        if step.declared:
            model.declare(step.entry, step.first, step.last)
            runs.append(step)
        else:
            model.decide(step.entry, step.first)
            decided(runs, step.entry, step.first)
        singly.take(step)
        if step.entry == cut:
            for run in runs:
                by_runs.take(run)
            by_runs, runs = resumed(by_runs), []
    for run in runs:
        by_runs.take(run)
    found = singly.result()
    assert numbers(found.unexplained) == model.missing
    assert numbers(found.explained) == model.explained
    assert list(found.restarts) == model.restarts
    assert by_runs.state() == singly.state()
    assert by_runs.result().unexplained == found.unexplained


def resumed(made: Counter) -> Counter:
    """The counter as a later verification finds it."""
    return Counter.load(json.loads(json.dumps(made.state())))


@settings(deadline=None, max_examples=200)
@given(st.lists(st.integers(0, 2**53 - 1) | st.sampled_from([0, 1, *LAST_COUNTS]), max_size=60))
def test_whatever_comes_the_state_is_as_small_as_the_holes(counts: list[int]) -> None:
    made = Counter()
    for index, count in enumerate(counts):
        made.take(Step(index, count, count))
    assert sum(map(len, made.missing.values())) <= 2 * len(counts)
    assert all(made.missing.values())
    for hole in made.result().unexplained:
        assert 0 <= hole.first <= hole.last < 2**53
