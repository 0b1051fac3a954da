"""Several recorders and callers on one home, one id, one file: what each is told is what is on record."""

import sqlite3
import subprocess
import sys
import threading
import uuid
from pathlib import Path

import psycopg
import pytest

from tests.conftest import database_url
from tests.inspection.recording.drafts import away, cut, delivered, draft, register
from tests.inspection.recording.test_faults import fill, small_disk  # noqa: F401  # a fixture
from tests.inspection.recording.test_recorder import findings, gaps, holds, results, rows
from traceai import clock
from traceai.errors import RecordError, RecordRefusedError, SpoolError
from traceai.inspection.recording import damage, recorder
from traceai.inspection.recording.answers import Answer
from traceai.inspection.recording.draft import Recorded, Spooled
from traceai.inspection.recording.losses import Losses
from traceai.inspection.recording.recorder import Recorder
from traceai.inspection.recording.spool import Spool
from traceai.inspection.recording.writer import Writer
from traceai.ledger import records
from traceai.sdk import Trace

ANOTHER = """
import sys
from pathlib import Path
from traceai.inspection.recording.spool import Spool
spool = Spool(Path(sys.argv[1]))
print(sum(spool.status().waiting.values()))
spool.close()
"""


def seen_by_another_process(home: Path) -> int:
    command = [sys.executable, "-c", ANOTHER, str(home)]
    return int(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def test_two_recorders_of_a_process_lose_nothing_when_another_process_looks(
    trace: Trace, clone: str, tmp_path: Path
) -> None:
    register(trace)
    one, two = (Recorder(trace.database, tmp_path, patience=2) for _ in range(2))
    with away(clone):
        results([one.submit(draft(1))])
        results([two.submit(draft(2))])
        assert seen_by_another_process(tmp_path) == 2
        kept = results([one.submit(draft(number)) for number in range(3, 20)])
        assert {type(each) for each in kept} == {Spooled}
        assert seen_by_another_process(tmp_path) == 19
    delivered(one)
    one.close()
    two.close()
    assert holds(trace)


def test_what_another_process_spooled_is_delivered_by_one_that_runs(trace: Trace, clone: str, tmp_path: Path) -> None:
    register(trace)
    running = Recorder(trace.database, tmp_path, patience=2)
    results([running.submit(draft(1))])
    with away(clone):
        passing = Recorder(trace.database, tmp_path, patience=2)
        results([passing.submit(draft(2))])
        passing.close()
    delivered(running)
    results([running.submit(draft(3))])
    running.close()
    assert [row.trigger for row in rows(trace)] == [1, 2, 3]
    assert holds(trace)


def test_who_asks_again_is_told_what_is_on_record_and_not_what_was_asked(trace: Trace) -> None:
    register(trace)
    chosen = str(uuid.uuid4())
    first, second = (draft(1, named=True, id=chosen, verdict=verdict) for verdict in ("reject", "pass"))
    writer = Writer(trace.database, 5)
    told = writer.write([first, second])
    assert [one.earlier for one in told] == [False, True]
    assert writer.write([second])[0].earlier
    # The very same draft once more is no other record: its first answer may have been lost.
    assert not writer.write([first], again=True)[0].earlier
    writer.close()
    assert [row.verdict for row in rows(trace)] == ["reject"]


def test_a_decision_made_again_during_an_outage_is_told_to_be_no_second_one(
    trace: Trace, clone: str, tmp_path: Path
) -> None:
    register(trace)
    line = Recorder(trace.database, tmp_path, patience=2)
    chosen = str(uuid.uuid4())
    results([line.submit(draft(1, named=True, id=chosen, verdict="reject"))])
    with away(clone):
        results([line.submit(draft(1, named=True, id=chosen, verdict="pass")), line.submit(draft(2))])
    delivered(line)
    line.close()
    assert [row.verdict for row in rows(trace)] == ["reject", "undecided"]
    told = {gap.cause_code: gap for gap in gaps(trace)}
    assert "came to pass" in told["recorded-before"].cause
    assert told["database-unavailable"].delayed == 1
    assert holds(trace)


def test_a_row_that_rots_in_the_spool_refuses_nobody_but_who_asks_for_it(
    trace: Trace, clone: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    register(trace)
    chosen = str(uuid.uuid4())
    line = Recorder(trace.database, tmp_path, patience=2)
    monkeypatch.setattr(line._forwarder, "start", lambda: None)  # it would find the row too, and set it aside
    with away(clone):
        results([line.submit(draft(1, named=True, id=chosen))])
        with sqlite3.connect(tmp_path / "spool.db") as connection:
            connection.execute("UPDATE waiting SET draft = replace(draft, 'SN-1', 'SN-7')")
        connection.close()
        given = threading.Condition()
        asked = [Answer(one, given) for one in (draft(2), draft(1, named=True, id=chosen), draft(3))]
        line._settle(asked)
        assert [type(answer.exception(timeout=9)) for answer in asked] == [type(None), RecordError, type(None)]
    line.close()


def test_offering_a_rejected_record_again_takes_no_other_along(tmp_path: Path) -> None:
    spool, chosen = Spool(tmp_path), str(uuid.uuid4())
    for number in (1, 2):
        spool.set_aside(draft(number, named=True, id=chosen), RecordRefusedError("x"))
    assert spool.retry(chosen)
    status = spool.status()
    assert (len(status.rejected), status.waiting) == (1, {"press-4": 1})
    spool.close()


def test_a_rescue_that_finds_no_room_is_made_up_for(trace: Trace, small_disk: Path) -> None:  # noqa: F811
    register(trace)
    spool = Spool(small_disk)
    spool.put([draft(number) for number in range(1, 60)], clock.now(), SpoolError("x"))
    spool.close()
    with (small_disk / "spool.db").open("r+b") as stream:
        stream.write(bytes(100))
    filler = fill(small_disk)
    with pytest.raises(SpoolError):
        Spool(small_disk).status()
    filler.unlink()
    line = Recorder(trace.database, small_disk, patience=5)
    results([line.submit(draft(60))])
    delivered(line)
    assert len(line.spool.status().damaged) == 1
    line.close()
    assert [row.trigger for row in rows(trace)] == list(range(1, 61))
    assert holds(trace)


def test_rows_between_two_damaged_pages_are_rescued(tmp_path: Path) -> None:
    spool = Spool(tmp_path)
    spool.put([draft(number) for number in range(1, 200)], clock.now(), SpoolError("x"))
    spool.close()
    file = tmp_path / "spool.db"
    data = bytearray(file.read_bytes())
    leaves = [page for page in range(12, len(data) // 4096) if data[page * 4096] == 0x0D]
    for page in (leaves[2], leaves[-3]):
        data[page * 4096 : (page + 1) * 4096] = bytes(4096)
    file.write_bytes(data)
    with pytest.raises(SpoolError):
        spool.oldest(1000)
    assert 150 < len(spool.oldest(1000)) < 199
    assert len(spool.status().damaged) == 1
    spool.close()


def test_gaps_that_were_delivered_hide_no_loss(tmp_path: Path) -> None:
    spool, losses = Spool(tmp_path), Losses()
    losses.add([draft(number) for number in (1, 3, 5, 7)], SpoolError("full"))
    spool.put([*losses.drafts("x"), *(draft(number) for number in range(10, 14))], clock.now(), SpoolError("x"))
    spool.settle([1, 2, 3, 4], [], "x")
    with spool._file.transaction() as connection:
        connection.execute("DELETE FROM waiting")  # what damage makes unreadable
        damage._count_what_is_lost(connection)
        assert connection.execute("SELECT lost FROM affected").fetchall() == [(4,)]
    spool.close()


def test_what_hangs_beside_the_recorder_holds_up_nothing(
    trace: Trace, clone: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    register(trace)
    monkeypatch.setattr(recorder, "MINUTE", 0.0)
    monkeypatch.setattr(recorder, "LOOK", 0.01)

    def hang() -> None:
        with line.database.session() as session:
            session.connection().exec_driver_sql("LOCK TABLE stage_latency")

    line = Recorder(trace.database, tmp_path, patience=2, beside=hang)
    with psycopg.connect(clone) as other:
        other.execute("LOCK TABLE stage_latency IN ACCESS EXCLUSIVE MODE")
        assert {type(one) for one in results([line.submit(draft(number)) for number in range(1, 9)])} == {Recorded}
    line.close()


def test_a_database_that_only_reads_is_one_that_is_away(trace: Trace, clone: str, tmp_path: Path) -> None:
    register(trace)
    line = Recorder(trace.database, tmp_path, patience=2)
    results([line.submit(draft(1))])
    name = clone.partition("?")[0].rpartition("/")[2]
    with psycopg.connect(database_url(clone, "postgres"), autocommit=True) as administrator:
        administrator.execute(f"ALTER DATABASE {name} SET default_transaction_read_only = on")
        cut(clone)
        assert isinstance(results([line.submit(draft(2))])[0], Spooled)
        administrator.execute(f"ALTER DATABASE {name} SET default_transaction_read_only = off")
    cut(clone)
    delivered(line)
    line.close()
    assert [row.trigger for row in rows(trace)] == [1, 2]
    assert holds(trace)


def test_a_commit_without_an_answer_on_a_full_disk_is_neither_lost_nor_told_to_be(
    trace: Trace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    register(trace)
    line = Recorder(trace.database, tmp_path, patience=2)
    results([line.submit(draft(1))])
    write, lost = Writer._write, ["the answer to the first", "the way to the server", "the way to the server"]

    def failing(self: Writer, *arguments: object) -> object:
        if not lost:
            return write(self, *arguments)
        if lost.pop(0) == "the answer to the first":
            write(self, *arguments)
            self.open = True
        self.close()
        raise recorder.UnavailableError("The connection was lost.")

    def full(*_: object) -> object:
        raise SpoolError("The disk is full.")

    monkeypatch.setattr(Writer, "_write", failing)
    monkeypatch.setattr(line.spool, "put", full)
    with pytest.raises(SpoolError, match="ask again with the same id"):
        line.submit(draft(2)).result(timeout=20)
    assert lost == []
    results([line.submit(draft(3))])
    line.close()
    assert [row.trigger for row in rows(trace)] == [1, 2, 3]
    assert gaps(trace) == []
    assert holds(trace)


@pytest.mark.parametrize("beside", [0, 8])
def test_a_number_that_its_column_cannot_hold_is_refused_alone_and_in_company(trace: Trace, beside: int) -> None:
    register(trace)
    image = records.Image(sha256="1" * 64, bytes=9, pixel_sha256="1" * 64, width=2**40 + 7, height=2, media_type="x")
    writer = Writer(trace.database, 5)
    *others, odd = writer.write([*(draft(number) for number in range(1, beside + 1)), draft(beside + 1, image=image)])
    writer.close()
    assert isinstance(odd, RecordRefusedError)
    assert all(isinstance(one, Recorded) for one in others)
    assert findings(trace) == []
