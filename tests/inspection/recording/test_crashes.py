"""`kill -9` at every step of recording, and on the way through the spool: nothing acknowledged is lost, nothing is there twice."""

import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from sqlalchemy import select

from tests.inspection.recording.drafts import away, register
from tests.inspection.recording.line import SPOOL_STEPS, STEPS, acknowledged, part_id
from traceai.db.tables import Inspection
from traceai.inspection.recording.recorder import Recorder
from traceai.ledger.verification import verifier
from traceai.sdk import Trace

Run = Callable[..., int]


@pytest.fixture
def line(trace: Trace, clone: str, tmp_path: Path) -> Run:
    """Runs the line until it ends or dies; what it returns with is what the process did."""
    register(trace)
    home = tmp_path / "line"
    home.mkdir()

    def run(until: int, *dying: object) -> int:
        command = [sys.executable, "-m", "tests.inspection.recording.line", clone, home, "press-4", until, *dying]
        return subprocess.run(
            list(map(str, command)), check=False, cwd=Path(__file__).parents[3], timeout=120
        ).returncode

    return run


def check(trace: Trace, home: Path, until: int) -> None:
    """Every part is on record once, in order, where its receipt says; and the ledger verifies."""
    with trace.database.session() as session:
        rows = session.execute(select(Inspection).order_by(Inspection.journal_index)).scalars().all()
    assert [str(row.id) for row in rows] == [part_id("press-4", number) for number in range(1, until + 1)]
    assert [row.station_seq for row in rows] == list(range(1, until + 1))
    index_of = {row.trigger: row.journal_index for row in rows}
    told = acknowledged(home)
    assert [number for number, *_ in told] == list(range(1, until + 1))
    assert all(index_of[number] == index for number, how, index in told if how == "Recorded")
    outcome = verifier.verify(trace.database.engine)
    assert not [fact.findings for fact in outcome.facts if not fact.holds]


@pytest.mark.parametrize("step", STEPS)
def test_a_recorder_killed_while_it_records_loses_nothing(trace: Trace, line: Run, tmp_path: Path, step: str) -> None:
    assert line(20, step, 7) == -signal.SIGKILL
    assert len(acknowledged(tmp_path / "line")) == 7
    assert line(20) == 0
    check(trace, tmp_path / "line", 20)


@pytest.mark.parametrize("step", SPOOL_STEPS[:2])
def test_a_recorder_killed_while_it_spools_loses_nothing(
    trace: Trace, line: Run, clone: str, tmp_path: Path, step: str
) -> None:
    assert line(3) == 0
    with away(clone):
        assert line(20, step, 7) == -signal.SIGKILL
    assert len(acknowledged(tmp_path / "line")) == 10
    assert line(20) == 0
    finish(trace, tmp_path / "line")
    check(trace, tmp_path / "line", 20)


@pytest.mark.parametrize("step", SPOOL_STEPS[2:])
def test_a_forwarder_killed_while_it_delivers_loses_nothing_and_delivers_nothing_twice(
    trace: Trace, line: Run, clone: str, tmp_path: Path, step: str
) -> None:
    assert line(3) == 0
    with away(clone):
        assert line(12) == 0
    assert line(20, step, 0) == -signal.SIGKILL
    assert line(20) == 0
    finish(trace, tmp_path / "line")
    check(trace, tmp_path / "line", 20)


def finish(trace: Trace, home: Path) -> None:
    """Deliver what waits, as `traceai spool deliver` does."""
    recorder = Recorder(trace.database, home, patience=5)
    recorder.deliver()
    recorder.close()
    assert recorder.spool.status().waiting == {}
