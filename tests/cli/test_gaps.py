"""`traceai station gaps`, `traceai station explain-gap`, and what `traceai ledger verify` says of outages."""

from collections.abc import Callable

import pytest

from tests.cli.conftest import Run
from tests.ledger.recording import gap, missing, note, record
from traceai.ledger import log
from traceai.sdk import Trace

Sql = Callable[..., list[tuple]]


@pytest.fixture
def line(here: Trace) -> Trace:
    """Triggers 1041 to 1043 of press-4 have no decision, between six and eight o'clock; press-5 has no counter."""
    here.signer.begin()
    here.add_station("press-4")
    here.add_station("press-5")
    record(here, [1039, 1040], at="2026-01-31T06:00:00.000000Z")
    record(here, [1044, 1045], at="2026-01-31T08:00:00.000000Z")
    record(here, [None], station="press-5")
    return here


def size(trace: Trace) -> int:
    with trace.database.session() as session:
        return log.read_head(session).size


def test_what_is_missing_is_shown_with_its_neighbours(run: Run, line: Trace) -> None:
    shown = run("station", "gaps", "--station", "press-4")
    assert shown.code == 0
    assert "4, numbered from 1 to 4 without a gap" in shown.out
    assert "3 MISSING, with no entry that says why" in shown.out
    assert (
        "Triggers 1041 to 1043 have no decision: between 2026-01-31 06:00:00 and 2026-01-31 08:00:00 UTC, noticed at ledger index"
        in shown.out
    )


def test_a_station_without_a_counter_says_what_cannot_be_told(run: Run, line: Trace) -> None:
    shown = run("station", "gaps", "--station", "press-5").out
    assert "a part that was never inspected cannot be told from one that never came" in shown
    assert "none on record" in shown


def test_every_station_is_shown_as_json(run: Run, line: Trace) -> None:
    note(line, gap(lost=2))
    found = run("station", "gaps", "--json").json
    assert [(one["station"], one["complete"]) for one in found] == [("press-4", False), ("press-5", True)]
    (hole,) = found[0]["missing_triggers"]["newest"]
    assert (hole["first"], hole["last"], hole["before"]) == (1041, 1043, "2026-01-31T06:00:00+00:00")
    assert found[0]["outages"]["delayed"] == 37
    assert found[0]["outages"]["newest"][0]["cause"] == "The database did not answer."


def test_a_period_narrows_what_is_shown(run: Run, line: Trace) -> None:
    assert run("station", "gaps", "--to", "2026-01-31", "--json").json[0]["missing_triggers"]["found"] == 0
    assert run("station", "gaps", "--from", "2026-01-31", "--json").json[0]["missing_triggers"]["found"] == 1


def test_a_station_that_is_not_there_is_one_sentence(run: Run, line: Trace) -> None:
    result = run("station", "gaps", "--station", "press-9")
    assert (result.code, result.err.count("\n")) == (2, 1)
    assert "[station-not-found]" in result.err


def test_verification_fails_until_the_hole_is_explained(run: Run, line: Trace) -> None:
    result = run("ledger", "verify")
    assert result.code == 1
    assert "triggers: station press-4: triggers 1041 to 1043 have no decision, noticed at journal index" in result.out
    explained = run(
        "station",
        "explain-gap",
        "press-4",
        "--triggers",
        "1041-1043",
        "--cause",
        "Empty carriers, no part.",
        "--as",
        "ada",
    )
    assert explained.code == 0
    assert f"Entered in the ledger at index {size(line) - 1}." in explained.out
    verified = run("ledger", "verify", "--no-blobs")
    assert verified.code == 0
    assert (
        "press-4, from 2026-01-31 06:00:00 to 2026-01-31 08:00:00 UTC: triggers 1041 to 1043 have no decision. "
        "Empty carriers, no part (declared)." in verified.out
    )
    shown = run("station", "gaps", "--station", "press-4")
    assert "every one has its decision, or an entry that says why not" in shown.out
    (declared,) = run("station", "gaps", "--json").json[0]["outages"]["newest"]
    assert (declared["cause_code"], declared["actor"], declared["lost"]) == ("declared", "ada", 0)


def test_an_outage_is_told_by_verification_and_is_no_failure(run: Run, here: Trace) -> None:
    note(here, gap())
    result = run("ledger", "verify")
    assert result.code == 0
    assert (
        "press-4, from 2026-01-31 06:00:00 to 2026-01-31 06:20:00 UTC: 37 decisions were recorded late. The database did not "
        "answer (database-unavailable)." in result.out
    )
    told = run("ledger", "verify", "--json").json["outages"]
    assert (told["found"], told["newest"][0]["delayed"], told["newest"][0]["station"]) == (1, 37, "press-4")


def test_many_outages_are_counted(run: Run, here: Trace) -> None:
    note(here, *(gap() for _ in range(23)))
    assert "And 3 earlier outages; see `traceai station gaps`." in run("ledger", "verify").out


def test_a_cause_cannot_move_the_cursor(run: Run, here: Trace) -> None:
    note(here, gap(cause="Nothing.\nAll holds", station="press\u202e4"))
    told = run("ledger", "verify").out
    assert "\nAll holds" not in told
    assert "\u202e" not in told


def test_an_outage_without_triggers_is_declared_with_its_times(run: Run, line: Trace) -> None:
    times = ("--from", "2026-01-31T06:00Z", "--until", "2026-01-31T06:05Z")
    assert run("station", "explain-gap", "press-5", "--cause", "A cable.", "--lost", 3, *times).code == 0
    (declared,) = run("station", "gaps", "--station", "press-5", "--json").json[0]["outages"]["newest"]
    assert (declared["lost"], declared["first_trigger"]) == (3, None)
    assert declared["ended_at"] == "2026-01-31T06:05:00.000000Z"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--triggers", "1040-1043"], "Of the triggers 1040 to 1043 of press-4 only 1041 to 1043 are missing"),
        (["--triggers", "1044"], "Trigger 1044 of press-4 is not missing"),
        (["--triggers", "1046-1050"], "None of the triggers 1046 to 1050 of press-4 is missing"),
        (["--triggers", "1-2"], "None of the triggers 1 to 2 of press-4 is missing"),
        (["--triggers", "1043-1041"], "are no range of counts"),
        (["--triggers", "x"], "are no range of counts"),
        (["--triggers", "1041-"], "are no range of counts"),
        (["--triggers", "-5"], "are no range of counts"),
        (["--triggers", "9007199254740992"], "are no range of counts"),
        (["--triggers", "1041", "--cause", " "], "The cause is empty"),
        (["--triggers", "1041", "--cause", "x" * 2001], "The cause cannot be recorded"),
        (["--triggers", "1041", "--as", "line\nbreak"], "The actor cannot be recorded"),
        (["--triggers", "1041", "--from", "yesterday"], "--from 'yesterday' is no date"),
        (["--triggers", "1041", "--until", "2026-01-30"], "The gap ends before it begins"),
        ([], "give both times"),
        (["--from", "2026-01-30"], "give both times"),
    ],
)
def test_what_cannot_be_declared_is_one_sentence_and_records_nothing(
    run: Run, line: Trace, arguments: list[str], said: str
) -> None:
    before = size(line)
    cause = [] if "--cause" in arguments else ["--cause", "A test."]
    result = run("station", "explain-gap", "press-4", *cause, *arguments)
    assert result.code == 2
    assert said in result.err
    assert (result.out, result.err.count("\n")) == ("", 1)
    assert size(line) == before


def test_a_station_that_is_not_there_explains_nothing(run: Run, line: Trace) -> None:
    result = run("station", "explain-gap", "press-9", "--triggers", "1", "--cause", "A test.")
    assert (result.code, "[station-not-found]" in result.err) == (2, True)


def test_what_is_explained_already_cannot_be_declared_again(run: Run, line: Trace) -> None:
    note(line, missing(1042, 1042))
    result = run("station", "explain-gap", "press-4", "--triggers", "1041-1043", "--cause", "A test.")
    assert (result.code, "only 1041, 1043 are missing" in result.err) == (2, True)


def test_an_altered_table_of_outages_is_no_answer(run: Run, line: Trace, sql: Sql) -> None:
    note(line, gap())
    sql("UPDATE gap SET journal_index = 2")
    result = run("station", "gaps")
    assert (result.code, "[record-invalid]" in result.err) == (1, True)
