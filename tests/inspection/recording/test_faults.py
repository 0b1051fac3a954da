"""What goes wrong on a factory floor: full disks, read-only ones, damaged files, clocks set back, servers that hang."""

import contextlib
import os
import sqlite3
import subprocess
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import psycopg
import pytest

from tests.inspection.recording.drafts import away, delivered, draft, register
from tests.inspection.recording.test_recorder import findings, gaps, holds, results, rows
from traceai import clock
from traceai.errors import SpoolError
from traceai.inspection.recording import writer
from traceai.inspection.recording.draft import Recorded, Spooled
from traceai.inspection.recording.recorder import Recorder
from traceai.inspection.recording.spool import Spool
from traceai.ledger.copying import Placed
from traceai.sdk import Trace


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 1 MiB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(folder)]
    if os.geteuid() != 0 or subprocess.run(command, check=False, capture_output=True).returncode != 0:
        pytest.skip("mounting a small file system takes root, and a kernel that lets it")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


def fill(folder: Path) -> Path:
    """Leave no room on the disk of `folder`."""
    file = folder / "filler"
    with file.open("wb", buffering=0) as stream, contextlib.suppress(OSError):
        while stream.write(bytes(4096)):
            pass
    return file


def test_a_full_disk_refuses_loudly_keeps_what_it_has_and_tells_the_ledger_later(
    trace: Trace, clone: str, small_disk: Path
) -> None:
    register(trace)
    recorder = Recorder(trace.database, small_disk, patience=2)
    results([recorder.submit(draft(1))])
    with away(clone):
        assert isinstance(results([recorder.submit(draft(2))])[0], Spooled)
        filler = fill(small_disk)
        for number in range(3, 6):
            with pytest.raises(SpoolError, match="cannot be used"):
                recorder.submit(draft(number)).result(timeout=30)
        filler.unlink()
        assert isinstance(results([recorder.submit(draft(6))])[0], Spooled)
    delivered(recorder)
    assert [row.trigger for row in rows(trace)] == [1, 2, 6]
    told = {gap.cause_code: gap for gap in gaps(trace)}
    lost = told["spool-unusable"]
    assert (lost.lost, lost.first_trigger, lost.last_trigger) == (3, 3, 5)
    assert told["database-unavailable"].delayed == 2
    recorder.close()
    assert holds(trace)


def test_with_a_full_disk_and_the_database_back_it_goes_on(trace: Trace, clone: str, small_disk: Path) -> None:
    register(trace)
    recorder = Recorder(trace.database, small_disk, patience=2)
    with away(clone):
        assert isinstance(results([recorder.submit(draft(1))])[0], Spooled)
        fill(small_disk)
        with pytest.raises(SpoolError):
            recorder.submit(draft(2)).result(timeout=30)
    found = results([recorder.submit(draft(number)) for number in (3, 4)])
    assert {type(one) for one in found} == {Recorded}
    (small_disk / "filler").unlink()
    delivered(recorder)
    recorder.close()
    assert sorted(row.trigger for row in rows(trace)) == [1, 3, 4]
    assert {gap.cause_code for gap in gaps(trace)} == {"spool-unusable", "database-unavailable"}
    assert holds(trace)


def test_a_read_only_home_records_as_long_as_the_database_does(trace: Trace, clone: str, small_disk: Path) -> None:
    register(trace)
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    recorder = Recorder(trace.database, small_disk, patience=2)
    assert isinstance(results([recorder.submit(draft(1))])[0], Recorded)
    with away(clone), pytest.raises(SpoolError, match="TRACEAI_HOME"):
        recorder.submit(draft(2)).result(timeout=30)
    assert isinstance(results([recorder.submit(draft(3))])[0], Recorded)
    recorder.close()
    (gap,) = gaps(trace)
    assert (gap.lost, gap.first_trigger) == (1, 2)
    assert holds(trace)


@pytest.mark.parametrize("page", [0, 1, 3, -1])
def test_a_damaged_page_of_the_spool_costs_at_most_what_was_on_it(
    trace: Trace, clone: str, tmp_path: Path, page: int
) -> None:
    register(trace)
    recorder = Recorder(trace.database, tmp_path, patience=2)
    with away(clone):
        results([recorder.submit(draft(number)) for number in range(1, 60)])
        recorder.close()
    file = tmp_path / "spool.db"
    with sqlite3.connect(file) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    connection.close()
    data = bytearray(file.read_bytes())
    at = page * 4096 if page >= 0 else len(data) - 4096
    data[at : at + 4096] = os.urandom(4096)
    file.write_bytes(data)
    again = Recorder(trace.database, tmp_path, patience=2)
    results([again.submit(draft(60))])
    delivered(again)
    status = again.spool.status()
    again.close()
    found = [row.trigger for row in rows(trace)]
    assert found[-1] == 60
    assert found == sorted(set(found))
    assert status.damaged or status.rejected or len(found) == 60
    lost = 60 - len(found)
    # What is gone for good is told in the ledger: how many, and why; and the camera's counter tells which.
    assert sum(gap.lost for gap in gaps(trace)) == lost
    missing = sorted(set(range(1, 61)) - set(found))
    told = findings(trace)
    assert all("have no decision" in finding or "has no decision" in finding for finding in told)
    assert bool(told) == bool(missing and found[0] < missing[-1])


def test_a_byte_that_rots_in_a_spooled_record_is_found(trace: Trace, clone: str, tmp_path: Path) -> None:
    register(trace)
    recorder = Recorder(trace.database, tmp_path, patience=2)
    with away(clone):
        results([recorder.submit(draft(number)) for number in (1, 2, 3)])
        recorder.close()
    with sqlite3.connect(tmp_path / "spool.db") as connection:
        connection.execute("UPDATE waiting SET draft = replace(draft, 'SN-2', 'SN-9') WHERE position = 2")
    connection.close()
    again = Recorder(trace.database, tmp_path, patience=2)
    again.deliver()
    (rejected,) = again.spool.status().rejected
    again.close()
    assert "not what was put there" in rejected.reason
    assert [row.serial for row in rows(trace)] == ["SN-1", "SN-3"]
    assert "record-rejected" in {gap.cause_code for gap in gaps(trace)}
    # Its count is not in what can be read of it, so nothing explains why that has no decision.
    assert findings(trace) == ["station press-4: trigger 2 has no decision, noticed at journal index 3"]


def test_a_clock_that_is_set_back_changes_no_order(
    trace: Trace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    register(trace)
    recorder = Recorder(trace.database, tmp_path, patience=2)
    first = results([recorder.submit(draft(number)) for number in (1, 2)])
    real = clock.now
    monkeypatch.setattr("traceai.inspection.recording.writer.now", lambda: real() - timedelta(hours=1))
    second = results([recorder.submit(draft(number)) for number in (3, 4)])
    recorder.close()
    assert second[0].receipt.recorded_at < first[0].receipt.recorded_at
    assert [row.trigger for row in rows(trace)] == [1, 2, 3, 4]
    assert holds(trace)


@pytest.mark.parametrize("table", ["journal", "inspection", "heat_map"])
def test_a_connection_cut_in_the_middle_of_a_copy_leaves_nothing_behind_and_is_made_up_for(
    trace: Trace, tmp_path: Path, clone: str, monkeypatch: pytest.MonkeyPatch, table: str
) -> None:
    register(trace)
    recorder = Recorder(trace.database, tmp_path, patience=5)
    results([recorder.submit(draft(1))])
    cuts: list[int] = []
    write = psycopg.Copy.write
    statement = f'COPY "{table}"'.encode()
    placed: list[bytes] = []

    def ready(*arguments: object) -> Placed:
        found = of(*arguments)
        if found.statement.startswith(statement):
            placed.append(found.data)
        return found

    def cut(self: psycopg.Copy, data: bytes) -> None:
        if not cuts and any(data is one for one in placed):
            write(self, data[: len(data) // 2])
            cuts.append(self.connection.info.backend_pid)
            with psycopg.connect(clone, autocommit=True) as administrator:
                administrator.execute("SELECT pg_terminate_backend(%s)", cuts)
            data = data[len(data) // 2 :]
        write(self, data)

    of = Placed.of
    monkeypatch.setattr(Placed, "of", ready)
    monkeypatch.setattr(psycopg.Copy, "write", cut)
    found = results([recorder.submit(draft(number)) for number in range(2, 40)])
    assert len(cuts) == 1
    assert {type(one) for one in found} == {Recorded}
    recorder.close()
    assert [row.trigger for row in rows(trace)] == list(range(1, 40))
    assert holds(trace)


def test_a_reply_lost_after_the_commit_is_looked_up_and_not_recorded_again(
    trace: Trace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    register(trace)
    recorder = Recorder(trace.database, tmp_path, patience=5)
    write, lost = writer.Writer._write, []

    def forgetful(self: writer.Writer, *arguments: object) -> object:
        outcomes = write(self, *arguments)
        if not lost:
            lost.append(outcomes)
            self.close()
            raise writer.DatabaseUnavailableError("The connection was lost.")
        return outcomes

    monkeypatch.setattr(writer.Writer, "_write", forgetful)
    (found,) = results([recorder.submit(draft(1))])
    recorder.close()
    assert found.receipt == lost[0][0].receipt
    assert len(rows(trace)) == 1


def test_a_spool_is_private_and_survives_being_opened_by_two(tmp_path: Path) -> None:
    one, two = Spool(tmp_path), Spool(tmp_path)
    one.put([draft(1)], clock.now(), SpoolError("x"))
    two.put([draft(2)], clock.now(), SpoolError("x"))
    assert [waiting.draft.record.trigger for waiting in one.oldest(9)] == [1, 2]
    assert (tmp_path / "spool.db").stat().st_mode & 0o777 == 0o600
    for spool in (one, two):
        spool.close()
