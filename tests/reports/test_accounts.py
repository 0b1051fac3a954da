"""The completeness of a report's stations, from the database: the scope it takes, and what it quotes."""

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest

from tests.ledger.recording import gap, missing, note, record
from tests.reports import reading
from traceai.inspection.history import Filter
from traceai.sdk import Trace
from traceai_reports import audit_report, evidence
from traceai_reports.station import Completeness, Outage, Unquoted

Sql = Callable[..., list[tuple]]
ABOUT = evidence.issue("m.ferrer")


@pytest.fixture
def line(trace: Trace) -> Trace:
    """Triggers 3 to 5 of press-4 are missing and 8 is explained, between six and nine; press-5 has an outage and no decision."""
    trace.add_station("press-4")
    trace.add_station("press-5")
    record(trace, [1, 2], at=when(6))
    record(trace, [6, 7], at=when(7))
    note(trace, gap("press-5", lost=2), missing(8, 8, began_at=when(8), ended_at=when(8)))
    record(trace, [9], at=when(9))
    return trace


def when(hour: int) -> str:
    return f"2026-01-31T{hour:02}:00:00.000000Z"


def found(trace: Trace, **wanted: object) -> Completeness:
    return evidence.audit(trace, Filter(**wanted), ABOUT, "Audit").completeness  # type: ignore[arg-type]


def test_every_station_is_in_the_scope_of_a_report_on_everything(line: Trace) -> None:
    whole = found(line)
    press_4, press_5 = whole.stations
    assert (press_4.station, press_4.decisions, press_4.first_number, press_4.last_number) == ("press-4", 5, 1, 5)
    assert [(hole.first, hole.last, hole.before) for hole in press_4.missing] == [
        (3, 5, datetime(2026, 1, 31, 6, tzinfo=UTC))
    ]
    assert press_4.explained == 1
    assert (press_5.station, press_5.decisions, press_5.lost) == ("press-5", 0, 2)
    assert (whole.since, whole.until, whole.narrowed) == (None, None, False)


def test_an_outage_is_quoted(line: Trace) -> None:
    (outage,) = found(line, station="press-4").stations[0].outages
    assert isinstance(outage, Outage)
    assert (outage.triggers, outage.lost, outage.cause) == ((8, 8), 1, "The database did not answer.")
    assert outage.began_at == datetime(2026, 1, 31, 8, tzinfo=UTC)


def test_a_period_is_taken_as_it_is(line: Trace) -> None:
    since = datetime(2026, 1, 31, 8, tzinfo=UTC)
    (press_4,) = found(line, station="press-4", since=since).stations
    assert (press_4.decisions, press_4.missing_found, press_4.outages_found) == (1, 0, 1)


def test_a_lot_takes_the_stations_and_the_time_of_its_parts(line: Trace) -> None:
    whole = found(line, lot="L7")
    assert [station.station for station in whole.stations] == ["press-4"]
    assert whole.narrowed
    assert whole.since == datetime(2026, 1, 31, 6, tzinfo=UTC)
    assert whole.until == datetime(2026, 1, 31, 9, 0, 0, 1, tzinfo=UTC)
    nothing = found(line, lot="L8")
    assert (nothing.stations, nothing.narrowed) == ((), True)


def test_a_falsified_outage_is_printed_as_it_was_recorded(line: Trace, sql: Sql, tmp_path: Path) -> None:
    before = found(line)
    sql("UPDATE gap SET cause = 'FORGED', lost = 0, delayed = 0, ended_at = 'infinity', actor = 'FORGED'")
    report = evidence.audit(line, Filter(), ABOUT, "Audit")
    assert [station.outages for station in report.completeness.stations] == [s.outages for s in before.stations]
    audit_report(report, tmp_path / "report.pdf")
    assert "FORGED" not in reading.text(tmp_path / "report.pdf").partition("Verification, fact by fact")[0]


def test_an_outage_whose_entry_is_gone_is_named_on_the_first_page(line: Trace, sql: Sql, tmp_path: Path) -> None:
    ((index,),) = sql("SELECT journal_index FROM gap WHERE station = 'press-5'")
    sql('DELETE FROM journal WHERE "index" = %s', index)
    report = evidence.audit(line, Filter(), ABOUT, "Audit")
    assert report.completeness.stations[1].outages == (Unquoted(ledger_index=index, station="press-5"),)
    assert report.unreadable == (index,)
    audit_report(report, tmp_path / "report.pdf")
    assert "Ledger entries that cannot be read" in reading.pages(tmp_path / "report.pdf")[0]
