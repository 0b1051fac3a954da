"""What is missing of a station's record, from the database: found by SQL, and the same as verification finds."""

from collections.abc import Callable, Sequence
from datetime import UTC, datetime

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import text

from tests.ledger.recording import gap, missing, note, record
from tests.ledger.test_triggers import MOVES, scripted
from traceai.errors import InputError, RecordError
from traceai.inspection import completeness as module
from traceai.inspection.completeness import Break, Completeness, Missing, Period, completeness, entries, gaps, stations
from traceai.ledger.triggers import Counter, Hole, Restart, Step
from traceai.ledger.verification import verifier
from traceai.sdk import Trace

Sql = Callable[..., list[tuple]]


@pytest.fixture
def line(trace: Trace) -> Trace:
    trace.add_station("press-4")
    trace.add_station("press-5")
    return trace


def at(hour: int, minute: int = 0) -> datetime:
    return datetime(2026, 1, 31, hour, minute, tzinfo=UTC)


def when(hour: int, minute: int = 0) -> str:
    return f"2026-01-31T{hour:02}:{minute:02}:00.000000Z"


def found(
    trace: Trace, station: str = "press-4", since: datetime | None = None, until: datetime | None = None
) -> Completeness:
    with trace.database.moment() as session:
        return completeness(session, station, Period(since, until))


def test_a_complete_record_holds(line: Trace) -> None:
    record(line, [7, 8, None, 8, 9])
    whole = found(line)
    assert whole.holds
    assert (whole.decisions, whole.first_number, whole.last_number, whole.counted) == (5, 1, 5, 4)
    assert (whole.breaks, whole.missing, whole.explained, whole.restarts, whole.outages) == ((), (), (), (), ())


def test_a_station_without_decisions_has_nothing_missing(line: Trace) -> None:
    whole = found(line)
    assert whole.holds
    assert (whole.decisions, whole.first_number, whole.last_number) == (0, None, None)


def test_missing_triggers_stand_between_two_decisions(line: Trace) -> None:
    record(line, [1040], at=when(6))
    record(line, [None], at=when(7))
    index = record(line, [1044], at=when(8))[0].index
    whole = found(line)
    assert not whole.holds
    assert whole.missing == (Missing(1041, 1043, index, at(6), at(8)),)
    assert (whole.missing_found, whole.missing_triggers) == (1, 3)


@pytest.mark.parametrize(
    ("since", "until", "counts"),
    [
        (None, None, 1), (at(5), at(6), 0), (at(5), at(6, 1), 1), (at(7), at(7, 30), 1), (at(8), None, 1), (at(8, 1), None, 0),
        (None, at(6), 0),
    ],
)  # fmt: skip
def test_triggers_are_missing_in_the_period_between_their_neighbours(
    line: Trace, since: datetime | None, until: datetime | None, counts: int
) -> None:
    record(line, [1040], at=when(6))
    record(line, [1044], at=when(8))
    assert found(line, since=since, until=until).missing_found == counts


def test_an_explained_hole_names_the_entry_that_explains_it(line: Trace) -> None:
    record(line, [1, 5])
    index = note(line, missing(2, 4))[0].index
    whole = found(line)
    assert whole.holds
    assert whole.explained == (Hole(0, 2, 4, index),)


def test_a_restart_is_told_and_is_no_hole(line: Trace) -> None:
    record(line, [5, 6], at=when(6))
    index = record(line, [1], at=when(7))[0].index
    assert found(line).restarts == (Restart(index, 6, 1),)
    assert found(line, until=at(7)).restarts == ()


def test_numbers_that_are_skipped_are_told(line: Trace, sql: Sql) -> None:
    receipts = record(line, [None] * 4, at=when(6))
    sql("UPDATE inspection SET station_seq = station_seq + 3 WHERE station_seq > 2")
    whole = found(line)
    assert not whole.holds
    assert whole.breaks == (Break(receipts[2].index, 2, 6),)
    assert found(line, since=at(7)).breaks_found == 0


def test_outages_are_those_that_touch_the_period(line: Trace) -> None:
    receipts = note(line, gap(delayed=3), gap(lost=2, delayed=0, began_at=when(9), ended_at=when(10)), gap("press-5"))
    whole = found(line)
    assert whole.outages == (receipts[1].index, receipts[0].index)
    assert (whole.delayed, whole.lost) == (3, 2)
    for since, until, expected in ((at(6, 20), at(9), [0]), (at(6, 21), at(9), []), (at(6, 21), at(9, 1), [1])):
        assert found(line, since=since, until=until).outages == tuple(receipts[n].index for n in expected)


def test_stations_are_those_that_were_added_and_those_that_outages_name(line: Trace) -> None:
    note(line, gap("press-9"))
    with line.database.moment() as session:
        assert stations(session) == ["press-4", "press-5", "press-9"]


def test_a_period_that_ends_before_it_begins_is_refused() -> None:
    with pytest.raises(InputError, match="ends before it begins"):
        Period(at(7), at(7))


def test_the_newest_places_are_listed_and_all_are_counted(line: Trace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "LISTED", 2)
    monkeypatch.setattr(module, "_CHUNK", 3)
    record(line, range(1, 22, 2))
    note(line, gap(), gap(), missing(2, 2), missing(4, 4), missing(6, 6))
    whole = found(line)
    assert [place.first for place in whole.missing] == [18, 20]
    assert (whole.missing_found, whole.missing_triggers) == (7, 7)
    assert (len(whole.explained), whole.explained_found) == (2, 3)
    assert (len(whole.outages), whole.outages_found) == (2, 5)


def test_a_moment_whose_entry_is_unreadable_is_left_out(line: Trace, sql: Sql) -> None:
    receipts = record(line, [1, 5], at=when(6))
    sql("UPDATE inspection SET occurred_at = 'infinity'")
    assert found(line).missing[0].before == at(6)
    sql("UPDATE journal SET entry = 'x' WHERE \"index\" = %s", receipts[0].index)
    assert found(line).missing == (Missing(2, 4, receipts[1].index, None, at(6)),)


# --- the list of outages -------------------------------------------------------------------------------------------------


def test_outages_are_listed_page_by_page(line: Trace) -> None:
    note(line, *(gap(delayed=number) for number in range(5)), gap("press-5"))
    with line.database.moment() as session:
        first = gaps(session, "press-4", limit=3)
        second = gaps(session, "press-4", limit=3, after=first.next)
        delayed = [record.delayed for _, record in entries(session, [*first.indices, *second.indices])]
    assert delayed == [4, 3, 2, 1, 0]
    assert second.next is None


def test_a_token_of_another_list_is_refused(line: Trace) -> None:
    from traceai.inspection.history import token

    with line.database.moment() as session, pytest.raises(InputError, match="start again from the first page"):
        gaps(session, None, after=token(7))


def test_a_row_that_is_no_gaps_is_refused(line: Trace, sql: Sql) -> None:
    note(line, gap())
    record(line, [1])
    sql("UPDATE gap SET journal_index = 1")
    with line.database.moment() as session, pytest.raises(RecordError, match="is not the gap that the table has"):
        entries(session, [1])


# --- the same as verification -------------------------------------------------------------------------------------------


@settings(deadline=None, max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(MOVES, min_size=1, max_size=10))
def test_sql_and_verification_find_the_same(line: Trace, moves: Sequence[tuple]) -> None:
    with line.database.session() as session:
        session.execute(text("SET LOCAL session_replication_role = replica"))
        for table in ("gap", "inspection", "heat_map", "journal", "tree_node"):
            session.execute(text(f"ALTER TABLE {table} DISABLE TRIGGER USER"))
            session.execute(text(f"DELETE FROM {table}"))
        session.execute(text("DELETE FROM inspection"))
        session.execute(text("UPDATE station SET last_seq = 0"))
        session.execute(text("UPDATE ledger_head SET size = 3, frontier = :f"), {"f": bytes(64)})
    expected = Counter()
    for step in scripted(moves):
        made = note(line, missing(step.first, step.last)) if step.declared else record(line, [step.first])
        expected.take(Step(made[0].index, step.first, step.last, step.declared))
    with line.database.moment() as session:
        assert module.counter(session, "press-4").state() == expected.state()
        assert module.counter(session, "press-4").result() == expected.result()
    told = next(fact for fact in verifier.verify(line.database.engine).facts if fact.name == "triggers")
    assert told.failures == len(expected.result().unexplained)
