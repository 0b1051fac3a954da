"""`GET /v1/gaps`: outages page by page, and what is missing at each station."""

from collections.abc import Callable

import pytest

from tests.api.conftest import Client
from tests.ledger.recording import gap, missing, note, record
from traceai.sdk import Trace

Sql = Callable[..., list[tuple]]


@pytest.fixture
def line(trace: Trace) -> Trace:
    """Triggers 3 to 5 of press-4 are missing, 7 and 8 are explained; three outages more, one of them at press-5."""
    trace.add_station("press-4")
    trace.add_station("press-5")
    record(trace, [1, 2, 6], at="2026-01-31T06:00:00.000000Z")
    note(trace, gap(), gap("press-5", delayed=0, lost=2), missing(7, 8))
    record(trace, [9], at="2026-01-31T08:00:00.000000Z")
    note(trace, gap(began_at="2026-02-01T06:00:00.000000Z", ended_at="2026-02-01T07:00:00.000000Z"))
    return trace


def test_outages_come_newest_first_as_their_entries_have_them(client: Client, line: Trace) -> None:
    found = client("auditor").get("/v1/gaps").json()
    assert [item["ledger"]["index"] for item in found["items"]] == [9, 7, 6, 5]
    assert found["next"] is None
    newest, declared, *_ = found["items"]
    assert newest["record"] == "gap/1"
    assert newest["began_at"] == "2026-02-01T06:00:00Z"
    assert (newest["delayed"], newest["lost"], newest["cause_code"]) == (37, 0, "database-unavailable")
    assert (declared["first_trigger"], declared["last_trigger"]) == (7, 8)
    assert len(newest["ledger"]["leaf_hash"]) == 64
    assert "salt" not in newest


def test_every_station_says_what_is_missing(client: Client, line: Trace) -> None:
    press_4, press_5 = client("auditor").get("/v1/gaps").json()["stations"]
    assert (press_4["station"], press_4["complete"], press_5["complete"]) == ("press-4", False, True)
    assert (press_4["decisions"], press_4["first_number"], press_4["last_number"], press_4["with_trigger"]) == (
        4,
        1,
        4,
        4,
    )
    (hole,) = press_4["missing"]
    assert (hole["first"], hole["last"], hole["noticed"], hole["before"]) == (3, 5, 4, "2026-01-31T06:00:00Z")
    assert press_4["explained"] == [{"first": 7, "last": 8, "ledger_index": 7}]
    assert (press_5["outages_found"], press_5["lost"], press_5["with_trigger"]) == (1, 2, 0)


def test_pages_follow_each_other_and_only_the_first_has_the_stations(client: Client, line: Trace) -> None:
    auditor = client("auditor")
    first = auditor.get("/v1/gaps", params={"limit": 3}).json()
    second = auditor.get("/v1/gaps", params={"limit": 3, "after": first["next"]}).json()
    assert [item["ledger"]["index"] for item in [*first["items"], *second["items"]]] == [9, 7, 6, 5]
    assert second["next"] is None
    assert len(first["stations"]) == 2
    assert second["stations"] is None


def test_station_and_period_narrow_both(client: Client, line: Trace) -> None:
    auditor = client("auditor")
    found = auditor.get("/v1/gaps", params={"station": "press-5"}).json()
    assert [item["station"] for item in found["items"]] == ["press-5"]
    assert [one["station"] for one in found["stations"]] == ["press-5"]
    later = auditor.get("/v1/gaps", params={"since": "2026-02-01T00:00:00Z"}).json()
    assert [item["ledger"]["index"] for item in later["items"]] == [9]
    assert [one["missing_found"] for one in later["stations"]] == [0, 0]
    assert auditor.get("/v1/gaps", params={"until": "2026-01-31T06:00:00Z"}).json()["items"] == []
    nowhere = auditor.get("/v1/gaps", params={"station": "press-9"}).json()
    assert (nowhere["items"], nowhere["stations"]) == ([], [])


@pytest.mark.parametrize(
    "parameters",
    [
        {"since": "2026-02-01"},
        {"since": "2026-02-01T00:00:00Z", "until": "2026-01-01T00:00:00Z"},
        {"limit": 0},
        {"limit": 1001},
        {"after": "nonsense"},
        {"station": "a\x00"},
        {"lot": "L7"},
    ],
)
def test_what_the_call_does_not_take_is_refused(client: Client, line: Trace, parameters: dict[str, object]) -> None:
    response = client("auditor").get("/v1/gaps", params=parameters)
    assert (response.status_code, response.json()["code"]) == (400, "bad-input")


@pytest.mark.parametrize(
    ("role", "status"), [("auditor", 200), ("engineer", 200), ("station", 403), ("reviewer", 403), ("", 401)]
)
def test_who_may_read_decisions_may_read_what_is_missing(client: Client, line: Trace, role: str, status: int) -> None:
    assert client(role).get("/v1/gaps").status_code == status


def test_an_altered_table_is_no_answer(client: Client, line: Trace, sql: Sql) -> None:
    sql("UPDATE gap SET journal_index = 2 WHERE journal_index = 9")
    response = client("auditor").get("/v1/gaps")
    assert (response.status_code, response.json()["code"]) == (500, "record-invalid")
