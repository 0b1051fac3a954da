"""The recorder against a real PostgreSQL: order, back-pressure, outages, ids, and records that can never be accepted."""

import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psycopg
import pytest
from sqlalchemy import select, text

from tests.inspection.recording.drafts import away, cut, delivered, draft, register
from traceai.db.tables import Gap, Inspection, Runtime, Station
from traceai.errors import (
    DatabaseUnavailableError,
    IdTakenError,
    RecordError,
    SpoolError,
    StationNotFoundError,
    UnavailableError,
)
from traceai.inspection.recording.answers import Answer
from traceai.inspection.recording.draft import Recorded, Spooled
from traceai.inspection.recording.recorder import Recorder
from traceai.ledger import log
from traceai.ledger.verification import verifier
from traceai.sdk import Trace


@pytest.fixture
def recorder(trace: Trace, tmp_path: Path) -> Iterator[Recorder]:
    register(trace)
    recorder = Recorder(trace.database, tmp_path, patience=2)
    yield recorder
    recorder.close()


def rows(trace: Trace, station: str = "press-4") -> list[Inspection]:
    with trace.database.session() as session:
        query = select(Inspection).where(Inspection.station == station).order_by(Inspection.journal_index)
        return list(session.execute(query).scalars())


def gaps(trace: Trace) -> list[Gap]:
    with trace.database.session() as session:
        return list(session.execute(select(Gap).order_by(Gap.journal_index)).scalars())


def findings(trace: Trace) -> list[str]:
    outcome = verifier.verify(trace.database.engine)
    return [finding for fact in outcome.facts for finding in fact.findings]


def holds(trace: Trace) -> bool:
    assert findings(trace) == []
    return True


def results(answers: list[Answer]) -> list[Recorded | Spooled]:
    return [answer.result(timeout=30) for answer in answers]


def waited(answers: list[Answer]) -> None:
    for answer in answers:
        answer.exception(timeout=30)


def test_what_was_submitted_first_is_recorded_first_and_every_receipt_is_true(trace: Trace, recorder: Recorder) -> None:
    found = results([recorder.submit(draft(number)) for number in range(1, 200)])
    stored = rows(trace)
    assert [row.trigger for row in stored] == list(range(1, 200))
    assert [(row.journal_index, row.station_seq) for row in stored] == [
        (one.receipt.index, one.station_seq) for one in found
    ]
    assert [one.station_seq for one in found] == list(range(1, 200))
    with trace.database.session() as session:
        assert session.get_one(Station, "press-4").last_seq == 199
        assert len(session.execute(select(Runtime)).all()) == 1
    assert holds(trace)


def test_threads_at_two_stations_share_groups_and_each_keeps_its_order(trace: Trace, recorder: Recorder) -> None:
    def line(station: str, first: int) -> None:
        for number in range(first, first + 150):
            recorder.submit(draft(number, station)).result(timeout=30)

    threads = [
        threading.Thread(target=line, args=(station, first))
        for station, first in (("press-4", 1), ("press-5", 1), ("press-5", 1000))
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [row.trigger for row in rows(trace)] == list(range(1, 151))
    assert [row.station_seq for row in rows(trace, "press-5")] == list(range(1, 301))
    assert verifier.verify(trace.database.engine).size == 1 + 1 + 450


def test_two_processes_worth_of_recorders_share_one_station(trace: Trace, recorder: Recorder, tmp_path: Path) -> None:
    other = Recorder(trace.database, tmp_path / "other", patience=2)
    (tmp_path / "other").mkdir()
    answers = []
    for number in range(1, 101):
        answers.append(recorder.submit(draft(number)))
        answers.append(other.submit(draft(number)))
    assert sorted(one.station_seq for one in results(answers)) == list(range(1, 201))
    other.close()
    assert [row.station_seq for row in rows(trace)] == list(range(1, 201))
    assert holds(trace)


def test_during_an_outage_the_line_goes_on_and_the_ledger_is_told(trace: Trace, recorder: Recorder, clone: str) -> None:
    before = results([recorder.submit(draft(1))])
    with away(clone):
        during = results([recorder.submit(draft(number)) for number in range(2, 40)])
        assert {type(one) for one in during} == {Spooled}
        assert recorder.spool.status().waiting == {"press-4": 38}
    after = results([recorder.submit(draft(40))])
    delivered(recorder)
    assert isinstance(before[0], Recorded)
    assert {str(row.id) for row in rows(trace)} >= {one.id for one in during}
    assert [row.trigger for row in rows(trace)] == list(range(1, 41))
    (gap,) = gaps(trace)
    late = 38 + isinstance(after[0], Spooled)
    assert (gap.station, gap.cause_code, gap.delayed, gap.lost) == ("press-4", "database-unavailable", late, 0)
    assert gap.began_at <= gap.ended_at
    status = recorder.spool.status()
    assert (status.spooled, status.delivered, status.waiting, status.outage) == (late, late, {}, None)
    assert isinstance(results([recorder.submit(draft(41))])[0], Recorded)
    assert holds(trace)


def test_a_connection_that_was_cut_is_no_outage(trace: Trace, recorder: Recorder, clone: str) -> None:
    results([recorder.submit(draft(1))])
    cut(clone)
    assert isinstance(results([recorder.submit(draft(2))])[0], Recorded)
    assert gaps(trace) == []


def test_what_an_earlier_process_left_in_the_spool_comes_first(trace: Trace, tmp_path: Path, clone: str) -> None:
    register(trace)
    first = Recorder(trace.database, tmp_path, patience=2)
    results([first.submit(draft(1))])
    with away(clone):
        results([first.submit(draft(number)) for number in (2, 3, 4)])
        first.close()
    second = Recorder(trace.database, tmp_path, patience=2)
    results([second.submit(draft(5))])
    delivered(second)
    second.close()
    assert [row.trigger for row in rows(trace)] == [1, 2, 3, 4, 5]
    assert holds(trace)


def test_an_id_that_the_caller_chose_is_recorded_once(trace: Trace, recorder: Recorder) -> None:
    chosen = "0197fbd0-0000-7000-8000-000000000001"
    first, again = results([recorder.submit(draft(1, named=True, id=chosen)) for _ in range(2)])
    third = results([recorder.submit(draft(1, named=True, id=chosen))])[0]
    assert first.receipt == again.receipt == third.receipt
    assert not first.earlier
    assert third.earlier
    assert third.station_seq == 1
    assert len(rows(trace)) == 1


def test_an_id_names_one_image(trace: Trace, recorder: Recorder) -> None:
    chosen = "0197fbd0-0000-7000-8000-000000000001"
    results([recorder.submit(draft(1, named=True, id=chosen))])
    with pytest.raises(IdTakenError, match="another image"):
        recorder.submit(draft(2, named=True, id=chosen)).result(timeout=30)
    with pytest.raises(IdTakenError):
        recorder.submit(draft(1, "press-5", named=True, id=chosen)).result(timeout=30)
    assert len(rows(trace)) == 1


def test_an_id_is_recorded_once_across_an_outage(trace: Trace, recorder: Recorder, clone: str) -> None:
    known, new = "0197fbd0-0000-7000-8000-000000000001", "0197fbd0-0000-7000-8000-000000000002"
    results([recorder.submit(draft(1, named=True, id=known))])
    with away(clone):
        results([recorder.submit(draft(1, named=True, id=known))])
        one, two = results([recorder.submit(draft(2, named=True, id=new)) for _ in range(2)])
        assert one.spooled_at == two.spooled_at
        assert two.earlier is not None
    delivered(recorder)
    assert [str(row.id) for row in rows(trace)] == [known, new]
    assert holds(trace)


def test_an_id_recorded_at_the_same_moment_by_two_is_recorded_once(trace: Trace, tmp_path: Path) -> None:
    register(trace)
    (tmp_path / "other").mkdir()
    two = [Recorder(trace.database, tmp_path, patience=5), Recorder(trace.database, tmp_path / "other", patience=5)]
    for number in range(1, 40):
        chosen = f"0197fbd0-0000-7000-8000-{number:012}"
        found = results([recorder.submit(draft(number, named=True, id=chosen)) for recorder in two])
        assert found[0].receipt == found[1].receipt
    for recorder in two:
        recorder.close()
    assert [row.station_seq for row in rows(trace)] == list(range(1, 40))
    assert holds(trace)


@pytest.mark.parametrize(
    ("poison", "expected", "kept"),
    [
        ({"station": "nowhere"}, StationNotFoundError, False),
        ({"logits": {f"class {n}": "0." + "1" * 40 for n in range(2000)}}, RecordError, True),
    ],
)
def test_a_record_that_can_never_be_accepted_is_set_apart_and_the_rest_flows(
    trace: Trace, recorder: Recorder, poison: dict[str, object], expected: type[Exception], kept: bool
) -> None:
    drafts = {number: draft(number, **(poison if number == 3 else {})) for number in range(1, 7)}
    answers = [recorder.submit(one) for one in drafts.values()]
    waited(answers)
    with pytest.raises(expected):
        answers[2].result()
    assert [one.station_seq for one in results(answers[:2] + answers[3:])] == [1, 2, 3, 4, 5]
    assert recorder.spool.empty
    recorder.close()
    if kept:  # what somebody asked of a station that there is not was no decision of this one
        assert [one.id for one in recorder.spool.status().rejected] == [drafts[3].record.id]
        assert [(gap.lost, gap.first_trigger) for gap in gaps(trace)] == [(1, 3)]
        assert holds(trace)
    else:
        assert recorder.spool.status().rejected == ()
        (finding,) = findings(trace)
        assert finding.startswith("station press-4: trigger 3 has no decision, noticed at journal index ")


def test_whoever_waits_is_told_when_the_recorder_fails_and_the_next_is_recorded(
    trace: Trace, recorder: Recorder, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError("no room for this")

    monkeypatch.setattr(recorder.spool, "set_aside", fail)
    poison = draft(1, logits={f"class {n}": "0." + "1" * 40 for n in range(2000)})
    error = recorder.submit(poison).exception(timeout=30)
    assert isinstance(error, SpoolError)
    assert "no room for this" in error.message
    assert "ask again with the same id" in error.message
    (found,) = results([recorder.submit(draft(2))])
    assert isinstance(found, Recorded)


def test_a_row_that_postgresql_refuses_is_set_apart(
    trace: Trace, recorder: Recorder, sql: Callable[..., list[tuple]]
) -> None:
    sql("ALTER TABLE inspection ADD CONSTRAINT odd CHECK (trigger <> 3)")
    answers = [recorder.submit(draft(number)) for number in range(1, 7)]
    waited(answers)
    assert answers[2].exception().code == "record-refused"
    assert [row.trigger for row in rows(trace)] == [1, 2, 4, 5, 6]
    recorder.close()
    assert len(recorder.spool.status().rejected) == 1
    assert holds(trace)


def test_a_poison_record_in_the_spool_is_kept_and_told_and_the_rest_is_delivered(
    trace: Trace, recorder: Recorder, clone: str, sql: Callable[..., list[tuple]]
) -> None:
    results([recorder.submit(draft(1))])
    sql("ALTER TABLE inspection ADD CONSTRAINT odd CHECK (trigger <> 3)")
    with away(clone):
        results([recorder.submit(draft(number)) for number in (2, 3, 4)])
    delivered(recorder)
    (rejected,) = recorder.spool.status().rejected
    assert rejected.code == "record-refused"
    assert [row.trigger for row in rows(trace)] == [1, 2, 4]
    told = {gap.cause_code: gap for gap in gaps(trace)}
    assert (told["record-rejected"].lost, told["record-rejected"].first_trigger) == (1, 3)
    assert told["database-unavailable"].delayed == 2
    assert holds(trace)
    sql("ALTER TABLE inspection DROP CONSTRAINT odd")
    assert recorder.spool.retry(rejected.id)
    recorder.close()
    again = Recorder(trace.database, recorder.spool.path.parent, patience=2)
    results([again.submit(draft(5))])
    delivered(again)
    again.close()
    assert [row.trigger for row in rows(trace)] == [1, 2, 4, 3, 5]
    assert again.spool.status().rejected == ()


def test_a_full_queue_makes_the_caller_wait_and_loses_nothing(
    trace: Trace, recorder: Recorder, clone: str, tmp_path: Path
) -> None:
    small = Recorder(trace.database, tmp_path / "small", patience=10, capacity=8, group=4)
    (tmp_path / "small").mkdir()
    results([small.submit(draft(1))])
    submitted: list[int] = []
    answers: list[Answer] = []

    def line() -> None:
        for number in range(2, 60):
            answers.append(small.submit(draft(number)))
            submitted.append(number)

    with trace.database.session() as session:
        log.lock(session)  # a slow database
        thread = threading.Thread(target=line)
        thread.start()
        time.sleep(0.5)
        assert len(submitted) <= 8 + 4
    thread.join(timeout=30)
    assert {type(one) for one in results(answers)} == {Recorded}
    small.close()
    assert [row.trigger for row in rows(trace)] == list(range(1, 60))


def test_a_database_that_does_not_answer_in_time_counts_as_away(trace: Trace, recorder: Recorder) -> None:
    results([recorder.submit(draft(1))])
    with trace.database.session() as session:
        log.lock(session)
        began = time.monotonic()
        (kept,) = results([recorder.submit(draft(2))])
        assert isinstance(kept, Spooled)
        assert time.monotonic() - began < 6
        began = time.monotonic()
        results([recorder.submit(draft(3))])
        assert time.monotonic() - began < 1
    delivered(recorder)
    assert [row.trigger for row in rows(trace)] == [1, 2, 3]
    assert holds(trace)


def test_who_waits_for_room_is_told_when_the_recorder_closes(trace: Trace, tmp_path: Path) -> None:
    register(trace)
    small = Recorder(trace.database, tmp_path, patience=20, capacity=2, group=1)
    results([small.submit(draft(1))])
    told: list[object] = []

    def line() -> None:
        try:
            for number in range(2, 50):
                told.append(small.submit(draft(number)))
        except UnavailableError as error:
            told.append(error.message)

    with trace.database.session() as session:
        log.lock(session)
        thread = threading.Thread(target=line)
        thread.start()
        while len(small._queue) < 2:
            time.sleep(0.01)
        closing = threading.Thread(target=small.close)
        closing.start()
        while not small._closing:
            time.sleep(0.01)
    closing.join(timeout=30)
    thread.join(timeout=30)
    *answers, last = told
    assert "closed" in last
    assert {type(one) for one in results(answers)} == {Recorded}
    assert len(rows(trace)) == 1 + len(answers)


def test_a_lock_that_is_waited_for_too_long_is_told_as_a_database_that_is_away(trace: Trace, clone: str) -> None:
    with psycopg.connect(clone) as other:
        other.execute("LOCK TABLE station IN ACCESS EXCLUSIVE MODE")
        with pytest.raises(DatabaseUnavailableError, match="statement timeout"), trace.database.session() as session:
            session.execute(text("SET LOCAL statement_timeout TO 100"))
            session.execute(select(Station))
