"""What a person declares missing is missing, also where others record at the same time."""

from collections.abc import Callable
from datetime import UTC, datetime

import pytest

from tests.ledger.recording import missing, note, record
from traceai.errors import ConflictError
from traceai.inspection import completeness
from traceai.inspection.completeness import Period
from traceai.inspection.explaining import declare
from traceai.ledger import log
from traceai.sdk import Trace


@pytest.fixture
def line(trace: Trace) -> Trace:
    trace.add_station("press-4")
    record(trace, [1, 2], at="2026-01-31T06:00:00.000000Z")
    record(trace, [6, 7], at="2026-01-31T08:00:00.000000Z")
    return trace


def declared(trace: Trace, first: int = 3, last: int = 5) -> log.Receipt:
    with trace.database.session() as session:
        return declare(session, "press-4", (first, last), cause="Empty carriers.", actor="ada")


def missing_found(trace: Trace) -> int:
    with trace.database.moment() as session:
        return completeness.completeness(session, "press-4", Period()).missing_found


def test_what_is_declared_lies_between_its_neighbours(line: Trace) -> None:
    receipt = declared(line)
    with line.database.session() as session:
        ((_, gap),) = completeness.entries(session, [receipt.index])
    assert (gap.began_at, gap.ended_at) == ("2026-01-31T06:00:00.000000Z", "2026-01-31T08:00:00.000000Z")
    assert (gap.first_trigger, gap.last_trigger, gap.cause_code, gap.actor) == (3, 5, "declared", "ada")
    assert missing_found(line) == 0


def test_a_part_of_a_hole_can_be_declared(line: Trace) -> None:
    declared(line, 4, 4)
    assert missing_found(line) == 2


@pytest.mark.parametrize(
    "meanwhile",
    [lambda trace: record(trace, [4]), lambda trace: note(trace, missing(2, 3))],
    ids=["a late decision", "another gap"],
)
def test_what_is_recorded_or_explained_meanwhile_is_not_declared(
    line: Trace, monkeypatch: pytest.MonkeyPatch, meanwhile: Callable[[Trace], object]
) -> None:
    whole = completeness.counter

    def slow(session, station):
        found = whole(session, station)
        meanwhile(line)
        return found

    monkeypatch.setattr(completeness, "counter", slow)
    with pytest.raises(ConflictError, match="was recorded or explained at this moment"):
        declared(line)
    monkeypatch.undo()
    with line.database.session() as session:
        assert log.read_head(session).size == 7


def test_the_line_goes_on_while_the_record_is_looked_through(line: Trace, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = completeness.counter

    def slow(session, station):
        found = whole(session, station)
        record(line, [8])
        return found

    monkeypatch.setattr(completeness, "counter", slow)
    assert declared(line).index == 7


def test_the_times_can_be_given(line: Trace) -> None:
    with line.database.session() as session:
        began, ended = datetime(2026, 1, 31, 7, tzinfo=UTC), datetime(2026, 1, 31, 7, 5, tzinfo=UTC)
        receipt = declare(
            session, "press-4", (3, 5), cause="Empty carriers.", actor="ada", began_at=began, ended_at=ended, lost=2
        )
        ((_, gap),) = completeness.entries(session, [receipt.index])
    assert (gap.began_at, gap.ended_at, gap.lost) == ("2026-01-31T07:00:00.000000Z", "2026-01-31T07:05:00.000000Z", 2)
