"""Servers that die, restart and hang, and networks that fall silent, under load: nothing is lost, nothing is there twice."""

import threading
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from sqlalchemy import event
from sqlmodel import Session

from tests.inspection.recording import crowd
from tests.inspection.recording.drafts import away, draft, register
from tests.inspection.recording.load import check, load
from tests.inspection.recording.proxy import Proxy
from tests.inspection.recording.servers import OwnServer, thaw, wait_until
from tests.inspection.recording.test_recorder import delivered, gaps, holds, results, rows
from traceai.db.connection import Database, create_engine
from traceai.db.embedded import EmbeddedServer
from traceai.images.blobs import BlobStore
from traceai.inspection.recording.draft import Recorded, Spooled
from traceai.inspection.recording.recorder import Recorder
from traceai.ledger.verification import verifier
from traceai.sdk import Trace
from traceai.settings import Settings

PATIENCE = 1.0
LINES = ("press-4", "press-5", "press-6", "press-7")
Open = Callable[..., Recorder]


@pytest.fixture(scope="module")
def own(open_folder: Callable[[], Path]) -> Iterator[OwnServer]:
    server = OwnServer(open_folder())
    yield server
    server.close()


@pytest.fixture
def trace(own: OwnServer, tmp_path: Path) -> Iterator[Trace]:
    """A ledger on that server, held by a user of its own, as `traceai.connect` would hold it."""
    url = own.database(f"test_{uuid.uuid4().hex}")
    embedded = EmbeddedServer(own.embedded.home)
    embedded.acquire()
    settings = Settings(home=tmp_path / "home", database_url=url)
    settings.ensure_home()
    with Trace(settings, Database(create_engine(url), embedded), BlobStore(settings.blobs_url)) as opened:
        register(opened)
        for station in LINES[2:]:
            opened.add_station(station)
        yield opened


@pytest.fixture
def proxy(own: OwnServer) -> Iterator[Proxy]:
    made = Proxy(own.embedded.socket_folder / ".s.PGSQL.5432")
    yield made
    made.close()


@pytest.fixture
def recording(trace: Trace, tmp_path: Path) -> Iterator[Open]:
    """Makes a recorder with a home of its own; one that is given a proxy reaches the database through it."""
    opened: list[tuple[Recorder, Database | None]] = []

    def make(proxy: Proxy | None = None, patience: float = PATIENCE, home: Path | None = None) -> Recorder:
        if home is None:
            home = tmp_path / f"recorder-{len(opened)}"
            home.mkdir()
        far = None
        if proxy is not None:
            name = trace.database.engine.url.database
            far = Database(create_engine(f"postgresql://postgres@127.0.0.1:{proxy.port}/{name}"), None)
        recorder = Recorder(far or trace.database, home, patience=patience)
        opened.append((recorder, far))
        return recorder

    yield make
    for recorder, far in opened:
        recorder.close()
        if far is not None:
            far.close()


class AtCommit:
    """Does something once, right before a recorder sends its COMMIT."""

    def __init__(self, action: Callable[[], object]) -> None:
        self.action, self.done = action, threading.Event()

    def __call__(self, _: Session) -> None:
        if not self.done.is_set() and threading.current_thread().name == "traceai-recorder":
            self.done.set()
            self.action()

    def __enter__(self) -> "AtCommit":
        event.listen(Session, "before_commit", self)
        return self

    def __exit__(self, *_: object) -> None:
        event.remove(Session, "before_commit", self)


# --- servers that die -----------------------------------------------------------------------------------------------------


def test_a_postmaster_that_is_killed_is_started_again_and_gets_everything(
    trace: Trace, own: OwnServer, recording: Open
) -> None:
    recorder = recording()
    with load(recorder, LINES) as lines:
        lines.more(20, Recorded)
        killed = own.postmaster
        own.crash()
        lines.more(1, Spooled)
        lines.more(20, Recorded)
    assert own.postmaster != killed
    delivered(recorder)
    check(trace, lines)
    assert {gap.station for gap in gaps(trace)} == set(LINES)
    assert sum(gap.delayed for gap in gaps(trace)) == lines.count(Spooled)
    assert holds(trace)


def test_a_server_that_was_stopped_on_purpose_stays_stopped(
    trace: Trace, own: OwnServer, recording: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    recorder = recording()
    results([recorder.submit(draft(1))])
    revive, revivals = trace.database.revive, []
    monkeypatch.setattr(trace.database, "revive", lambda: revivals.append(revive()))
    assert own.embedded.stop()
    try:
        found = results([recorder.submit(draft(number)) for number in (2, 3)])
        assert {type(one) for one in found} == {Spooled}
        wait_until(lambda: len(revivals) >= 3, "three attempts to deliver")
        assert not own.embedded.running
    finally:
        own.embedded.release()
        own.embedded.acquire()
    delivered(recorder)
    assert [row.trigger for row in rows(trace)] == [1, 2, 3]
    assert holds(trace)


@pytest.mark.parametrize("mode", ["fast", "immediate"])
def test_a_server_that_is_restarted_under_load_loses_nothing(
    trace: Trace, own: OwnServer, recording: Open, mode: str
) -> None:
    recorder = recording()
    with load(recorder, LINES) as lines:
        for _ in range(3):
            lines.more(20, Recorded)
            own.restart(mode)
        lines.more(20, Recorded)
    delivered(recorder)
    check(trace, lines)
    assert holds(trace)


def test_two_recorders_that_share_a_spool_both_catch_up_under_load(trace: Trace, recording: Open) -> None:
    one = recording()
    two = recording(home=one.spool.path.parent)
    with load(one, LINES[:2]) as first, load(two, LINES[2:]) as second:
        for lines in (first, second):
            lines.more(20, Recorded)
        with away(trace.database.url):
            for lines in (first, second):
                lines.more(5, Spooled)
        for lines in (first, second):
            lines.more(20, Recorded)
    delivered(one)
    check(trace, first)
    check(trace, second)
    assert holds(trace)


# --- servers that hang ----------------------------------------------------------------------------------------------------


def test_a_server_that_hangs_keeps_nobody_waiting(trace: Trace, own: OwnServer, recording: Open) -> None:
    recorder = recording()
    with load(recorder, LINES) as lines:
        lines.more(20, Recorded)
        with own.frozen():
            lines.more(50, Spooled)
        lines.more(20, Recorded)
    assert lines.longest_wait < 2 * PATIENCE + 1
    delivered(recorder)
    check(trace, lines)
    assert holds(trace)


def test_a_commit_that_was_on_its_way_when_the_server_froze_is_made_once(
    trace: Trace, own: OwnServer, recording: Open
) -> None:
    recorder = recording()
    results([recorder.submit(draft(1))])
    stopped: list[int] = []
    with AtCommit(lambda: stopped.extend(own.freeze())):
        try:
            found = results([recorder.submit(draft(number)) for number in range(2, 6)])
        finally:
            thaw(stopped)
    assert {type(one) for one in found} == {Spooled}
    delivered(recorder)
    assert [row.trigger for row in rows(trace)] == [1, 2, 3, 4, 5]
    assert {gap.cause for gap in gaps(trace)} == {
        f"PostgreSQL does not answer (no answer within {PATIENCE:g} seconds)."
    }
    assert holds(trace)


def test_whether_a_frozen_server_runs_is_answered_however_many_ask(own: OwnServer) -> None:
    asked = []
    with own.frozen():
        # More than wait in line for a server that accepts nobody.
        thread = threading.Thread(target=lambda: asked.extend(own.embedded.running for _ in range(1000)), daemon=True)
        thread.start()
        thread.join(timeout=20)
        assert len(asked) == 1000
    assert own.embedded.running


# --- networks -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("up", "down"), [(True, True), (True, False), (False, True)])
def test_a_network_that_falls_silent_under_load_keeps_nobody_waiting_and_loses_nothing(
    trace: Trace, recording: Open, proxy: Proxy, up: bool, down: bool
) -> None:
    recorder = recording(proxy)
    with load(recorder, LINES) as lines:
        lines.more(20, Recorded)
        proxy.hold(up=up, down=down)
        lines.more(50, Spooled)
        proxy.heal()
        lines.more(20, Recorded)
    assert lines.longest_wait < 2 * PATIENCE + 1
    delivered(recorder)
    check(trace, lines)
    assert holds(trace)


def test_connections_that_are_cut_under_load_are_no_loss(trace: Trace, recording: Open, proxy: Proxy) -> None:
    recorder = recording(proxy)
    with load(recorder, LINES) as lines:
        for _ in range(20):
            lines.more(5)
            proxy.cut()
        lines.more(20, Recorded)
    delivered(recorder)
    check(trace, lines)
    assert holds(trace)


def test_a_commit_that_arrives_while_its_answer_does_not_is_made_once(
    trace: Trace, recording: Open, proxy: Proxy
) -> None:
    recorder = recording(proxy)
    results([recorder.submit(draft(1))])
    with AtCommit(lambda: proxy.hold(up=False)):
        (found,) = results([recorder.submit(draft(2))])
    assert isinstance(found, Spooled)
    (first, second) = rows(trace)
    assert (first.trigger, second.trigger) == (1, 2)
    assert second.recorded_at < found.spooled_at
    proxy.heal()
    delivered(recorder)
    assert [row.trigger for row in rows(trace)] == [1, 2]
    assert holds(trace)


def test_a_commit_whose_answer_is_cut_off_is_looked_up(trace: Trace, recording: Open, proxy: Proxy) -> None:
    recorder = recording(proxy, patience=10)
    results([recorder.submit(draft(1))])
    with AtCommit(lambda: proxy.hold(up=False)):
        answer = recorder.submit(draft(2))
        wait_until(lambda: len(rows(trace)) == 2, "the COMMIT arrives")
    proxy.cut()
    proxy.heal()
    (found,) = results([answer])
    assert isinstance(found, Recorded)
    assert [row.journal_index for row in rows(trace)][1] == found.index
    assert gaps(trace) == []
    assert holds(trace)


def test_a_commit_that_arrives_late_is_made_once(trace: Trace, recording: Open, proxy: Proxy) -> None:
    recorder = recording(proxy)
    results([recorder.submit(draft(1))])
    with AtCommit(lambda: proxy.hold(down=False)):
        (found,) = results([recorder.submit(draft(2))])
    assert isinstance(found, Spooled)
    assert [row.trigger for row in rows(trace)] == [1]
    proxy.heal()  # and here is the COMMIT, and behind it the end of its connection
    delivered(recorder)
    results([recorder.submit(draft(3))])
    assert [row.trigger for row in rows(trace)] == [1, 2, 3]
    assert holds(trace)


def test_a_writer_that_falls_silent_with_the_lock_holds_up_the_others_for_a_moment_only(
    trace: Trace, recording: Open, proxy: Proxy
) -> None:
    silent, other = recording(proxy), recording()
    results([silent.submit(draft(1)), other.submit(draft(1, "press-5"))])
    with AtCommit(proxy.strand):
        (kept,) = results([silent.submit(draft(2))])
    assert isinstance(kept, Spooled)
    results([other.submit(draft(2, "press-5"))])
    delivered(other)
    delivered(silent)
    assert [row.trigger for row in rows(trace)] == [1, 2]
    assert [row.trigger for row in rows(trace, "press-5")] == [1, 2]
    assert holds(trace)


# --- crowds ---------------------------------------------------------------------------------------------------------------


def test_32_threads_in_4_processes_make_one_order_that_verifies_at_every_moment(trace: Trace, tmp_path: Path) -> None:
    url = trace.database.url
    for station in crowd.STATIONS:
        trace.add_station(station)
    found = crowd.run(url, tmp_path, seconds=5, verify=lambda: verifier.verify(trace.database.engine))
    assert found.verified >= 2
    assert found.receipts > 100
    assert found.wrong == []
