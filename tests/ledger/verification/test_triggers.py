"""A trigger without a decision is told by verification, in whatever span it is noticed; one that a gap explains is not."""

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.ledger.recording import gap, missing, note, record
from traceai.ledger.triggers import Counter, Step
from traceai.ledger.verification import spans, verifier
from traceai.ledger.verification.auditing import LastVerified
from traceai.ledger.verification.facts import Fact, Outcome, Verified
from traceai.sdk import Trace

Sql = Callable[..., list[tuple]]


@pytest.fixture
def line(trace: Trace) -> Trace:
    trace.add_station("press-4")
    trace.add_station("press-5")
    return trace


def fact(outcome: Outcome) -> Fact:
    return next(fact for fact in outcome.facts if fact.name == "triggers")


def verified(trace: Trace, since: Verified | None = None, workers: int = 1) -> Fact:
    """What is said of the triggers; everything else holds."""
    outcome = verifier.verify(trace.database.engine, since=since, workers=workers)
    assert not [found.findings for found in outcome.facts if not found.holds and found.name != "triggers"]
    return fact(outcome)


def test_a_counter_without_gaps_holds(line: Trace) -> None:
    record(line, [7, 8, 8, None, 9])
    found = verified(line)
    assert (found.holds, found.checked) == (True, 4)


def test_a_station_without_a_counter_has_nothing_to_check(line: Trace) -> None:
    record(line, [None, None])
    assert verified(line).checked == 0


def test_a_trigger_without_a_decision_is_told_where_it_was_noticed(line: Trace) -> None:
    record(line, range(1030, 1041))
    at = record(line, [1044])[0].index
    assert verified(line).findings == [
        f"station press-4: triggers 1041 to 1043 have no decision, noticed at journal index {at}"
    ]


def test_one_missing_trigger_is_told_as_one(line: Trace) -> None:
    at = record(line, [1, 3], station="press-5")[1].index
    assert verified(line).findings == [f"station press-5: trigger 2 has no decision, noticed at journal index {at}"]


@pytest.mark.parametrize("before", [True, False])
def test_a_gap_that_names_the_triggers_explains_them(line: Trace, before: bool) -> None:
    record(line, [1, 2])
    if before:
        note(line, missing(3, 5))
    record(line, [6])
    if not before:
        note(line, missing(3, 5))
    assert verified(line).holds


def test_a_gap_of_another_station_explains_nothing(line: Trace) -> None:
    record(line, [1, 2, 6])
    note(line, missing(3, 5, station="press-5"))
    assert verified(line).failures == 1


def test_a_gap_that_names_no_triggers_explains_none(line: Trace) -> None:
    record(line, [1, 2, 6])
    note(line, gap())
    assert verified(line).failures == 1


def test_a_span_has_runs_and_gaps_in_ledger_order(line: Trace) -> None:
    record(line, [5000, 5001, 5001])
    note(line, missing(5002, 5003))
    record(line, [5004, 5005])
    note(line, gap(), missing(7, 8))
    with line.database.engine.connect() as connection:
        driver = connection.connection.driver_connection
        assert spans.verify_span(driver, 0, 10).triggers == {
            "press-4": [
                Step(2, 5000, 5001), Step(5, 5002, 5003, declared=True), Step(6, 5004, 5005), Step(9, 7, 8, declared=True),
            ]
        }  # fmt: skip


def test_a_trigger_altered_in_the_table_is_told_as_a_row_and_is_no_crash(line: Trace, sql: Sql) -> None:
    record(line, [1, 2, 3])
    note(line, missing(4, 5))
    sql("ALTER TABLE gap DROP CONSTRAINT ck_gap_triggers")
    sql("UPDATE inspection SET trigger = -9223372036854775808 WHERE trigger = 2")
    sql("UPDATE gap SET first_trigger = 9223372036854775807")
    outcome = verifier.verify(line.database.engine)
    assert {found.name for found in outcome.facts if not found.holds} == {"tables", "triggers"}


@pytest.fixture
def short_spans(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (spans, verifier):
        monkeypatch.setattr(module, "SPAN", 256)


def test_a_hole_across_the_edge_of_a_span_is_one(line: Trace, short_spans: None) -> None:
    record(line, range(1, 255))  # entries 2 to 255
    at = record(line, range(300, 700))[0].index
    assert at == 256
    assert verified(line).findings == [
        "station press-4: triggers 255 to 299 have no decision, noticed at journal index 256"
    ]


def test_a_later_verification_goes_on_with_the_counter(line: Trace, short_spans: None) -> None:
    record(line, [*range(1, 200), *range(210, 300)])
    first = verifier.verify(line.database.engine)
    assert (first.reached.size, fact(first).failures) == (256, 1)
    note(line, missing(200, 209))
    record(line, range(300, 310))
    assert verified(line, since=first.reached).holds
    record(line, [312])
    assert verified(line, since=first.reached).findings[0].startswith("station press-4: triggers 310 to 311 have no")


def test_a_home_keeps_the_counters_with_what_it_verified(line: Trace, short_spans: None, tmp_path: Path) -> None:
    record(line, [*range(1, 300), 305])
    note(line, missing(300, 304))
    reached = verifier.verify(line.database.engine).reached
    assert Counter.load(reached.triggers["press-4"]).highest == 254
    kept = LastVerified(tmp_path)
    kept.save("plant.example/line", reached)
    loaded = kept.load("plant.example/line")
    assert loaded is not None
    assert loaded[0] == reached
    assert verified(line, since=loaded[0]).holds


@pytest.mark.parametrize(("old", "new"), [('"triggers"', '"x"'), ('"highest": 254', '"haughty": 254'), ("[]", "[[3]]")])
def test_what_is_kept_by_another_release_is_not_gone_on_from(
    line: Trace, short_spans: None, tmp_path: Path, old: str, new: str
) -> None:
    record(line, range(1, 300))
    kept = LastVerified(tmp_path)
    kept.save("plant.example/line", verifier.verify(line.database.engine).reached)
    file = tmp_path / "verified.json"
    assert old in file.read_text()
    file.write_text(file.read_text().replace(old, new))
    assert kept.load("plant.example/line") is None


# --- outages -----------------------------------------------------------------------------------------------------------


def test_outages_are_told_newest_first_and_are_no_failure(line: Trace) -> None:
    note(line, gap(delayed=1), gap(delayed=2, station="press-5"))
    outcome = verifier.verify(line.database.engine)
    assert outcome.holds
    assert outcome.outages.count == 2
    assert [(index, record.delayed) for index, record in outcome.outages.newest] == [(1, 2), (0, 1)]


def test_of_many_outages_the_newest_are_told_and_the_rest_counted(line: Trace) -> None:
    note(line, *(gap(delayed=number) for number in range(50)))
    outages = verifier.verify(line.database.engine).outages
    assert (outages.count, len(outages.newest), outages.newest[0][1].delayed) == (50, 20, 49)


def test_an_outage_whose_entry_is_garbage_is_left_out_and_told_as_an_entry(line: Trace, sql: Sql) -> None:
    note(line, gap(), gap())
    sql("UPDATE journal SET entry = 'x' WHERE \"index\" = 1")
    outcome = verifier.verify(line.database.engine)
    assert [index for index, _ in outcome.outages.newest] == [0]
    assert not outcome.holds
