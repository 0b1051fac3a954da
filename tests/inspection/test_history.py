from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from traceai.errors import DecisionNotFoundError, InputError
from traceai.inspection import history
from traceai.inspection.history import Filter
from traceai.inspection.reading import Item
from traceai.sdk import Trace

BEGIN = datetime(2026, 1, 31, 6, tzinfo=UTC)


@pytest.fixture
def recorded(trace: Trace, tiny: str, images: Sequence[Path]) -> list:
    for name in ("press-4", "press-5"):
        trace.add_station(name)
    decisions = []
    for number, station in enumerate(("press-4", "press-4", "press-5")):
        items = [
            Item(
                path,
                serial=f"SN-{number}-{k}",
                lot=f"L{number}",
                product="plate",
                occurred_at=BEGIN + timedelta(hours=number),
            )
            for k, path in enumerate(images[:5])
        ]
        decisions += trace.inspector(tiny, station).inspect_many(items)
    return decisions


def found(trace: Trace, **wanted: object) -> list[str]:
    with trace.database.session() as session:
        return [str(row.id) for row in history.search(session, Filter(**wanted), limit=100).rows]


def ids(decisions: list) -> list[str]:
    return [decision.id for decision in decisions][::-1]


def test_newest_first(trace: Trace, recorded: list) -> None:
    assert found(trace) == ids(recorded)


@pytest.mark.parametrize(
    ("wanted", "part"),
    [
        ({"serial": "SN-1-2"}, slice(7, 8)),
        ({"lot": "L2"}, slice(10, 15)),
        ({"station": "press-4"}, slice(0, 10)),
        ({"station": "press-4", "lot": "L1"}, slice(5, 10)),
        ({"model": "tiles", "version": 1}, slice(0, 15)),
        ({"model": "tiles", "version": 2}, slice(0, 0)),
        ({"product": "plate"}, slice(0, 15)),
        ({"since": BEGIN + timedelta(hours=1)}, slice(5, 15)),
        ({"until": BEGIN + timedelta(hours=1)}, slice(0, 5)),
        ({"since": BEGIN + timedelta(hours=1), "until": BEGIN + timedelta(hours=2)}, slice(5, 10)),
        ({"serial": "' OR 1=1 --"}, slice(0, 0)),
    ],
)
def test_filters(trace: Trace, recorded: list, wanted: dict, part: slice) -> None:
    assert found(trace, **wanted) == ids(recorded[part])


def test_verdicts_partition_the_decisions(trace: Trace, recorded: list) -> None:
    parts = [found(trace, verdict=verdict) for verdict in history.VERDICTS]
    assert sorted(reference for part in parts for reference in part) == sorted(ids(recorded))
    assert parts[3] == []


@pytest.mark.parametrize("limit", [1, 4, 15, 100])
def test_pages_cover_everything_once_whatever_is_recorded_meanwhile(
    trace: Trace, recorded: list, tiny: str, images: Sequence[Path], limit: int
) -> None:
    seen: list[str] = []
    after = None
    while True:
        with trace.database.session() as session:
            page = history.search(session, Filter(), limit=limit, after=after)
        seen += [str(row.id) for row in page.rows]
        after = page.next
        if after is None:
            break
        trace.inspector(tiny, "press-5").inspect(images[0])
    assert seen == ids(recorded)


@pytest.mark.parametrize("after", ["", "x", "ZDE", "!!!", "ZA", "é", "ZC0x", "A" * 500])
def test_a_position_that_was_never_given_out_is_refused(trace: Trace, after: str) -> None:
    with trace.database.session() as session:
        if after == "ZDE":  # "d1": a position like any other
            assert history.search(session, Filter(), after=after).rows == []
            return
        with pytest.raises(InputError, match="start again from the first page"):
            history.search(session, Filter(), after=after)


@pytest.mark.parametrize("limit", [0, -1, 1001])
def test_a_page_has_a_sensible_size(trace: Trace, limit: int) -> None:
    with trace.database.session() as session, pytest.raises(InputError):
        history.search(session, Filter(), limit=limit)


def test_a_decision_is_found_by_id_and_by_ledger_index(trace: Trace, recorded: list) -> None:
    with trace.database.session() as session:
        for reference in (recorded[3].id, str(recorded[3].receipt.index)):
            assert str(history.find(session, reference).id) == recorded[3].id


@pytest.mark.parametrize("reference", ["0", "999999", "9" * 30, "nonsense", "", "01a20998-f540-74bc-8717-dcec9f9e6fee"])
def test_an_unknown_decision_is_named(trace: Trace, tiny: str, reference: str) -> None:
    with trace.database.session() as session, pytest.raises(DecisionNotFoundError):
        history.find(session, reference)


def test_a_dossier_holds_what_the_decision_stood_on(trace: Trace, recorded: list) -> None:
    with trace.database.session() as session:
        dossier = history.dossier(session, history.find(session, recorded[0].id))
    assert dossier.entry.record.id == recorded[0].id
    assert dossier.model.name == "tiles"
    assert [event.action for event in dossier.events] == ["approve", "activate"]
    assert dossier.standing("approve").actor == "ada"
    assert dossier.standing("retire") is None
    assert dossier.runtime.environment["batch"] == 5
    assert dossier.grid is not None


def test_what_was_signed_after_a_decision_did_not_stand_behind_it(trace: Trace, recorded: list) -> None:
    from traceai.models import registry

    with trace.database.session() as session:
        registry.retire(session, registry.find(session, "tiles"), actor="ada", reason="worn out")
    with trace.database.session() as session:
        dossier = history.dossier(session, history.find(session, recorded[0].id))
    assert len(dossier.events) == 3
    assert dossier.standing("retire") is None


def test_a_period_that_ends_before_it_begins_is_refused() -> None:
    with pytest.raises(InputError, match="ends before it begins"):
        Filter(since=BEGIN, until=BEGIN)
