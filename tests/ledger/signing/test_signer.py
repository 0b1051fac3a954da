import logging
import sqlite3
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from multiprocessing import get_context
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import psycopg
import pytest
from sqlalchemy import select
from sqlmodel import Session

import traceai
from tests.conftest import cloned, database_url
from traceai.db import tables
from traceai.db.connection import Database, create_engine
from traceai.errors import (
    AlreadyExistsError,
    CheckpointConflictError,
    CheckpointStoreError,
    InputError,
    KeyFileError,
    LedgerForeignError,
    LedgerForkedError,
    LedgerGapError,
    LedgerRolledBackError,
    LedgerTakenError,
    NoteError,
    TraceaiError,
)
from traceai.images.blobs import BlobStore
from traceai.ledger import guard, log
from traceai.ledger.entry import Entry
from traceai.ledger.merkle import leaf_hash
from traceai.ledger.note import SigningKey, cosign_note, open_note, sign_note, split_note
from traceai.ledger.records import LedgerKey, LedgerOpened, LogHead, ReportIssued
from traceai.ledger.signing import signer, standing
from traceai.ledger.signing.checkpoints import CheckpointStore, Stored
from traceai.ledger.signing.signer import Heartbeat, Signer
from traceai.ledger.signing.standing import State
from traceai.ledger.tlog.checkpoint import Checkpoint, open_checkpoint
from traceai.ledger.verification import verifier
from traceai.ledger.verification.auditing import audit
from traceai.sdk import Trace
from traceai.settings import Settings


def report(text: str = "0") -> ReportIssued:
    return ReportIssued(kind="audit", sha256=text[0] * 64, scope={}, issued_by="erin")


def append(trace: Trace, count: int = 1) -> None:
    with trace.database.session() as session:
        log.append(session, [report() for _ in range(count)])


def size(trace: Trace) -> int:
    with trace.database.session() as session:
        return log.read_head(session).size


def entries(trace: Trace) -> list[Entry]:
    with trace.database.session() as session:
        found = session.execute(select(tables.Journal.entry).order_by(tables.Journal.index)).scalars()
        return [Entry.parse(data) for data in found]


def published(trace: Trace) -> list[str]:
    with trace.database.session() as session:
        return list(session.execute(select(tables.Checkpoint.note).order_by(tables.Checkpoint.created_at)).scalars())


def holds(trace: Trace) -> bool:
    """The ledger, and everything that this home signed of it."""
    known = trace.signer.known_heads()
    assert known.findings == ()
    assert known.heads
    return verifier.verify(trace.database.engine, known=known.heads).holds


def at(url: str, home: Path) -> Trace:
    settings = Settings(home=home, database_url=url)
    settings.ensure_home()
    return Trace(settings, Database.open(settings), BlobStore(settings.blobs_url))


@pytest.fixture
def ours(trace: Trace) -> Trace:
    """A ledger opened and signed at three entries."""
    trace.signer.open("ada", "Commissioning.", "press.example/line-4")
    append(trace, 2)
    trace.checkpoint()
    return trace


@pytest.fixture
def copy_of(server: str, clone: str) -> Iterator[Callable[[Trace], str]]:
    """Copies a database as it stands, as a backup does; returns the copy's URL."""
    made: list[str] = []

    def copy(trace: Trace) -> str:
        trace.database.engine.dispose()
        name = f"{urlsplit(clone).path[1:]}_{len(made)}"
        with psycopg.connect(server, autocommit=True) as connection:
            connection.execute(f"CREATE DATABASE {name} TEMPLATE {urlsplit(clone).path[1:]}")
        made.append(name)
        return database_url(server, name)

    yield copy
    with psycopg.connect(server, autocommit=True) as connection:
        for name in made:
            connection.execute(f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture
def empty(server: str) -> Iterator[str]:
    """The URL of a database that no ledger was ever opened in."""
    yield from cloned(server)


@contextmanager
def unguarded(url: str) -> Iterator[Session]:
    """What somebody writes who asks nobody."""
    database = Database(create_engine(url), None)
    with database.session() as session:
        yield session
    database.close()


@contextmanager
def failing(monkeypatch: pytest.MonkeyPatch, target: Any, name: str) -> Iterator[None]:
    class CrashError(Exception):
        pass

    def crash(*_: object, **__: object) -> None:
        raise CrashError

    with monkeypatch.context() as patched:
        patched.setattr(target, name, crash)
        with pytest.raises(CrashError):
            yield


# --- opening ----------------------------------------------------------------------------------------------------------


def test_a_new_ledger_is_opened_by_itself_and_once(clone: str, tmp_path: Path) -> None:
    settings = Settings(home=tmp_path / "home", database_url=clone)
    with traceai.connect(settings) as trace:
        assert size(trace) == 1
    with traceai.connect(settings) as trace:
        (entry,) = entries(trace)
        opened = entry.record
        assert isinstance(opened, LedgerOpened)
        assert opened.reason == "A new ledger."
        assert opened.previous is None
        assert opened.origin.startswith("traceai.local/")
        (note,) = published(trace)
        checkpoint, _ = open_checkpoint(note, [opened.key])
        assert (checkpoint.origin, checkpoint.size) == (opened.origin, 1)
        assert trace.signer.state().state is State.OURS
        assert trace.signer.store.latest(opened.origin).note == note
        assert holds(trace)


def test_an_empty_ledger_is_fresh_and_can_be_signed_at_once(trace: Trace) -> None:
    found = trace.signer.state()
    assert (found.state, found.head.size, found.origin, found.key, found.last) == (State.FRESH, 0, None, None, None)
    trace.signer.require_writable()
    assert trace.signer.known_heads().heads == ()
    assert trace.checkpoint().size == 1
    assert holds(trace)


def test_entries_from_before_it_was_opened_are_signed_too(trace: Trace) -> None:
    append(trace, 3)
    assert trace.checkpoint().size == 4
    assert holds(trace)


def test_the_operator_may_choose_the_origin(trace: Trace) -> None:
    stored = trace.signer.open("ada", "Commissioning.", "press.example/line-4")
    opened = entries(trace)[0].record
    assert (opened.origin, opened.actor, opened.reason) == ("press.example/line-4", "ada", "Commissioning.")
    assert stored.note.startswith("press.example/line-4\n1\n")
    assert [str(key) for key in trace.signer.verifier_keys("press.example/line-4")] == [opened.key]


@pytest.mark.parametrize(
    "origin",
    ["https://press.example/a", "press.example/a b", "press.example/a+b", "press.example/", "/a", "é.example", "Ü", "a" * 201,
     "a\n", "a//b", "press.example/a\u2003b"],
)  # fmt: skip
def test_what_is_no_schemaless_url_is_no_origin(trace: Trace, origin: str) -> None:
    with pytest.raises(InputError, match="cannot be an origin"):
        trace.signer.open("ada", "Commissioning.", origin)
    assert size(trace) == 0


def test_what_cannot_be_recorded_leaves_no_key_behind(trace: Trace) -> None:
    for actor, reason in (("", "Because."), ("ada", "x" * 2001)):
        with pytest.raises(InputError):
            trace.signer.open(actor, reason)
    assert trace.signer.keys.list() == []
    with pytest.raises(InputError):
        trace.checkpoint()
        trace.signer.rotate("", "Because.")
    assert len(trace.signer.keys.list()) == 1


def test_a_journal_that_contradicts_itself_is_not_opened(trace: Trace, sql: Callable[..., list[tuple]]) -> None:
    append(trace, 3)
    sql("UPDATE ledger_head SET root = sha256('else')")
    with pytest.raises(LedgerForkedError, match="ledger verify"):
        trace.signer.open("ada", "Commissioning.")
    assert trace.signer.keys.list() == []
    assert size(trace) == 3


def test_an_origin_is_used_once(ours: Trace) -> None:
    with pytest.raises(AlreadyExistsError):
        ours.signer.open("ada", "Again.", "press.example/line-4")
    assert size(ours) == 3


def test_processes_that_meet_a_new_ledger_at_once_open_it_once(clone: str, tmp_path: Path) -> None:
    traces = [at(clone, tmp_path / "home") for _ in range(4)]
    together = threading.Barrier(4)

    def begin(trace: Trace) -> None:
        together.wait()
        trace.signer.begin()

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(begin, traces))
    assert size(traces[0]) == 1
    assert len(traces[0].signer.keys.list()) == 1
    assert {trace.signer.state().state for trace in traces} == {State.OURS}
    for trace in traces:
        trace.close()


def test_a_reader_who_may_not_write_is_not_bothered(trace: Trace, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise KeyFileError("No key can be written.")

    monkeypatch.setattr(trace.signer.keys, "create", refuse)
    trace.signer.begin()
    assert trace.signer.state().state is State.FRESH
    with pytest.raises(KeyFileError):
        trace.checkpoint()


# --- signing ----------------------------------------------------------------------------------------------------------


def test_nothing_new_is_not_signed_again(ours: Trace) -> None:
    first = ours.checkpoint()
    assert ours.checkpoint() == first
    assert len(ours.signer.store.history(first.origin)) == 2
    assert len(published(ours)) == 2


def test_every_checkpoint_is_kept_published_and_verifies(ours: Trace) -> None:
    for count in (1, 5, 300):
        append(ours, count)
        ours.checkpoint()
    stored = ours.signer.store.history("press.example/line-4")
    assert [found.size for found in stored] == [1, 3, 4, 9, 309]
    assert published(ours) == [found.note for found in stored]
    keys = ours.signer.verifier_keys("press.example/line-4")
    assert [open_checkpoint(found.note, keys)[0].root for found in stored] == [found.root for found in stored]
    assert holds(ours)


def test_signatures_that_came_later_are_published_with_the_next_call(ours: Trace) -> None:
    stored = ours.checkpoint()
    witness = SigningKey.generate("witness.example", 4)
    added = ours.signer.store.add_signatures(stored.origin, stored.size, cosign_note(stored.note, witness))
    assert ours.checkpoint() == added
    assert published(ours)[-1] == added.note


@pytest.mark.parametrize("step", ["advance", "after the store", "publish"])
def test_a_crash_at_any_step_of_signing_is_gone_with_the_next_call(
    ours: Trace, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    append(ours)
    store = ours.signer.store
    if step == "advance":
        with failing(monkeypatch, store, "advance"):
            ours.checkpoint()
        assert store.latest("press.example/line-4").size == 3
    elif step == "after the store":
        with failing(monkeypatch, ours.signer, "publish"):
            ours.checkpoint()
        assert store.latest("press.example/line-4").size == 4
    else:
        with failing(monkeypatch, signer, "now"):  # within the transaction that publishes
            ours.checkpoint()
        assert store.latest("press.example/line-4").size == 4
    assert len(published(ours)) == 2
    stored = ours.checkpoint()
    assert stored.size == 4
    assert published(ours)[-1] == stored.note
    assert len(store.history("press.example/line-4")) == 3
    assert holds(ours)


@pytest.mark.parametrize("step", ["create", "append", "sign"])
def test_a_crash_at_any_step_of_opening_is_gone_with_the_next_call(
    trace: Trace, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    target = {"create": trace.signer.keys, "append": log, "sign": trace.signer}[step]
    with failing(monkeypatch, target, step):
        trace.signer.open("ada", "Commissioning.", "press.example/line-4")
    assert size(trace) == (1 if step == "sign" else 0)
    stored = trace.checkpoint()
    assert stored.size == 1
    assert isinstance(entries(trace)[0].record, LedgerOpened)
    assert trace.signer.state().state is State.OURS
    assert holds(trace)


def test_who_loses_a_race_looks_again(ours: Trace, monkeypatch: pytest.MonkeyPatch) -> None:
    other = Signer(ours.database, ours.settings.absolute_home)
    advance, raced = ours.signer.store.advance, []

    def late(*arguments: Any) -> Any:
        if not raced:
            raced.append(True)
            append(ours)
            other.sign()
        return advance(*arguments)

    append(ours)
    monkeypatch.setattr(ours.signer.store, "advance", late)
    assert ours.checkpoint().size == 5
    assert [found.size for found in ours.signer.store.history("press.example/line-4")] == [1, 3, 5]


def test_what_is_signed_while_somebody_looks_is_not_taken_for_a_rollback(
    ours: Trace, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = Signer(ours.database, ours.settings.absolute_home)
    read_head = log.read_head

    def then_signed(session: Session) -> log.Head:
        head = read_head(session)
        monkeypatch.setattr(log, "read_head", read_head)
        append(ours)
        other.sign()
        return head

    monkeypatch.setattr(log, "read_head", then_signed)
    found = ours.signer.state()
    assert (found.state, found.head.size, found.last.size) == (State.OURS, 3, 3)
    assert other.store.latest("press.example/line-4").size == 4


def test_a_first_checkpoint_while_somebody_looks_is_not_taken_for_a_lost_store(
    trace: Trace, monkeypatch: pytest.MonkeyPatch
) -> None:
    with failing(monkeypatch, trace.signer, "sign"):
        trace.signer.open("ada", "Commissioning.", "press.example/line-4")
    other = Signer(trace.database, trace.settings.absolute_home)
    remembered = trace.signer.store.latest_of_each

    def then_signed() -> list[Stored]:
        found = remembered()
        monkeypatch.setattr(trace.signer.store, "latest_of_each", remembered)
        other.sign()
        return found

    monkeypatch.setattr(trace.signer.store, "latest_of_each", then_signed)
    assert trace.signer.state().state is State.OURS


def test_a_race_lost_for_ever_ends(ours: Trace, monkeypatch: pytest.MonkeyPatch) -> None:
    def lose(*_: object) -> None:
        raise CheckpointConflictError("Lost.")

    append(ours)
    monkeypatch.setattr(ours.signer.store, "advance", lose)
    with pytest.raises(CheckpointConflictError, match="try again"):
        ours.checkpoint()


def serve(url: str, home: Path, rounds: int) -> int:
    """A service in a process of its own: records and signs."""
    with at(url, home) as trace:
        for _ in range(rounds):
            append(trace, 2)
            trace.checkpoint()
        return trace.checkpoint().size


def test_two_services_on_one_ledger_sign_one_history(ours: Trace, clone: str) -> None:
    home = ours.settings.absolute_home
    with ProcessPoolExecutor(2, get_context("spawn")) as pool:
        sizes = [future.result() for future in [pool.submit(serve, clone, home, 12) for _ in range(2)]]
    assert ours.checkpoint().size == max(sizes) == 3 + 2 * 2 * 12
    signed = [stored.size for stored in ours.signer.store.history("press.example/line-4")]
    assert signed == sorted(set(signed))
    assert holds(ours)


def test_a_stored_root_that_is_not_the_trees_is_not_signed(ours: Trace, sql: Callable[..., list[tuple]]) -> None:
    append(ours)
    sql("UPDATE ledger_head SET root = sha256('else')")
    for refused in (ours.checkpoint, lambda: ours.signer.open("ada", "Never mind."), ours.signer.state):
        with pytest.raises(LedgerForkedError, match="ledger verify"):
            refused()
    assert ours.signer.store.latest("press.example/line-4").size == 3


def test_a_tree_that_does_not_continue_what_was_signed_is_not_signed(
    ours: Trace, sql: Callable[..., list[tuple]]
) -> None:
    append(ours)
    sql("UPDATE journal SET leaf_hash = sha256('else') WHERE \"index\" = 1")
    with pytest.raises(LedgerForkedError):
        ours.checkpoint()
    assert ours.signer.store.latest("press.example/line-4").size == 3


# --- older and other databases ------------------------------------------------------------------------------------------


def test_an_older_copy_is_refused_until_it_is_opened_on_the_record(ours: Trace, copy_of: Callable) -> None:
    backup = copy_of(ours)
    append(ours, 2)
    last = ours.checkpoint()
    with at(backup, ours.settings.absolute_home) as restored:
        found = restored.signer.state()
        assert (found.state, found.head.size, found.last) == (State.ROLLED_BACK, 3, last)
        for refused in (restored.signer.require_writable, restored.checkpoint, lambda: append(restored)):
            with pytest.raises(
                LedgerRolledBackError, match=r"3 entries.*5 entries.*traceai ledger open --reason"
            ) as error:
                refused()
        assert error.value.code == "ledger-rolled-back"
        with pytest.raises(LedgerRolledBackError):
            restored.signer.rotate("ada", "Yearly.")
        assert size(restored) == 3  # and it can be read
        known = restored.signer.known_heads()
        assert [head.size for head in known.heads] == [1, 3, 5]
        assert not verifier.verify(restored.database.engine, known=known.heads).holds

        restored.signer.open("ada", "The disk was lost; yesterday's backup is all there is.")
        opened = entries(restored)[3].record
        assert opened.previous == LogHead(origin=last.origin, size=5, root=last.root.hex())
        append(restored)
        assert restored.checkpoint().size == 5
        assert restored.signer.state().state is State.OURS
        # Bound by what was signed up to there, and by everything since.
        assert [head.size for head in restored.signer.known_heads().heads] == [1, 3, 4, 5]
        assert holds(restored)


def test_an_older_copy_can_be_connected_to_and_read(ours: Trace, copy_of: Callable) -> None:
    backup = copy_of(ours)
    append(ours)
    ours.checkpoint()
    with traceai.connect(Settings(home=ours.settings.home, database_url=backup)) as restored:
        assert size(restored) == 3
        assert restored.signer.state().state is State.ROLLED_BACK


def test_an_empty_database_is_no_new_ledger_to_a_home_that_signed_another(ours: Trace, empty: str) -> None:
    with traceai.connect(Settings(home=ours.settings.home, database_url=empty)) as other:
        assert size(other) == 0
        with pytest.raises(LedgerRolledBackError, match="is empty"):
            append(other)
        with pytest.raises(LedgerRolledBackError, match="is empty"):
            other.checkpoint()
        other.signer.open("ada", "A new server; the old one stays as an archive.")
        assert entries(other)[0].record.previous.origin == "press.example/line-4"
        other.checkpoint()
        assert holds(other)


def test_another_history_of_the_same_length_is_refused_until_it_is_opened_on_the_record(
    ours: Trace, copy_of: Callable
) -> None:
    backup = copy_of(ours)
    append(ours, 2)
    last = ours.checkpoint()
    with unguarded(backup) as session:
        log.append(session, [report() for _ in range(4)])
    with at(backup, ours.settings.absolute_home) as rewritten:
        assert rewritten.signer.state().state is State.FORKED
        for refused in (rewritten.signer.require_writable, rewritten.checkpoint, lambda: append(rewritten)):
            with pytest.raises(LedgerForkedError, match=r"first 5 of the 7.*traceai ledger open --reason") as error:
                refused()
        assert error.value.code == "ledger-forked"
        rewritten.signer.open("ada", "An administrator restored the wrong dump.")
        assert rewritten.checkpoint().size == 8
        # Opening it does not make it whole: what was signed before the new origin is held against it for ever.
        known = rewritten.signer.known_heads()
        assert last.size in {head.size for head in known.heads}
        outcome = verifier.verify(rewritten.database.engine, known=known.heads)
        assert [fact.name for fact in outcome.facts if not fact.holds] == ["checkpoints"]


def test_of_two_copies_with_one_home_the_first_to_sign_is_the_ledger(ours: Trace, copy_of: Callable) -> None:
    with at(copy_of(ours), ours.settings.absolute_home) as copy:
        append(copy, 1)
        append(ours, 1)
        assert ours.checkpoint().size == 4
        with pytest.raises(LedgerForkedError):
            copy.checkpoint()
        with pytest.raises(LedgerForkedError):
            append(copy)
        assert ours.signer.state().state is State.OURS
        assert holds(ours)


def test_once_a_copy_is_opened_on_the_record_it_is_the_ledger(ours: Trace, copy_of: Callable) -> None:
    with at(copy_of(ours), ours.settings.absolute_home) as copy:
        copy.signer.open("ada", "We go on with the copy.", "press.example/line-4b")
        append(copy)
        copy.checkpoint()
        assert holds(copy)
        original = at(ours.database.url, ours.settings.absolute_home)
        with original, pytest.raises(LedgerRolledBackError, match="line-4b"):
            append(original)
        append(copy, 20)
        assert copy.checkpoint().size == 25


def test_a_database_from_before_the_last_origin_is_older_however_long_it_is(ours: Trace, copy_of: Callable) -> None:
    backup = copy_of(ours)
    ours.signer.open("ada", "A proper name.", "press.example/line-5")
    with at(backup, ours.settings.absolute_home) as restored:
        assert restored.signer.state().state is State.ROLLED_BACK
        with unguarded(backup) as session:
            log.append(session, [report() for _ in range(9)])
        assert restored.signer.state().state is State.FORKED


# --- whose ledger -------------------------------------------------------------------------------------------------------


@pytest.fixture
def elsewhere(ours: Trace, clone: str, tmp_path: Path) -> Iterator[Trace]:
    """The same database from a home that has none of its keys."""
    with at(clone, tmp_path / "elsewhere") as trace:
        yield trace


def test_another_home_may_append_and_not_sign(ours: Trace, elsewhere: Trace) -> None:
    assert elsewhere.signer.state().state is State.FOREIGN
    elsewhere.signer.begin()
    assert size(elsewhere) == 3
    append(elsewhere)
    for refused in (elsewhere.checkpoint, lambda: elsewhere.signer.rotate("eve", "Mine.")):
        with pytest.raises(LedgerForeignError, match=r"press\.example/line-4") as error:
            refused()
    assert error.value.code == "ledger-foreign"
    assert ours.checkpoint().size == 4
    assert holds(ours)


def test_another_home_may_take_over_on_the_record_and_the_first_one_hears_of_it(ours: Trace, elsewhere: Trace) -> None:
    last = ours.checkpoint()
    elsewhere.signer.open("ada", "The old machine is gone.", "press.example/line-4c")
    assert entries(elsewhere)[3].record.previous == LogHead(origin=last.origin, size=3, root=last.root.hex())
    assert elsewhere.signer.state().state is State.OURS
    assert ours.signer.state().state is State.TAKEN
    append(ours)
    with pytest.raises(LedgerTakenError, match="line-4c"):
        ours.checkpoint()
    assert holds(elsewhere)
    assert "Entry 3, which this home did not make" in ours.signer.known_heads().findings[0]


def test_a_forged_opening_does_not_hide_an_older_copy(ours: Trace, copy_of: Callable) -> None:
    backup = copy_of(ours)
    append(ours, 9)
    ours.checkpoint()
    key = SigningKey.generate("evil.example/log").verifier
    previous = LogHead(origin="press.example/line-4", size=3, root="0" * 64)
    with unguarded(backup) as session:
        log.append(session, [LedgerOpened(origin=key.name, key=str(key), previous=previous, actor="eve", reason="x")])
    with at(backup, ours.settings.absolute_home) as restored:
        assert restored.signer.state().state is State.ROLLED_BACK
        # And it frees the journal of nothing that was signed.
        assert [head.size for head in restored.signer.known_heads().heads] == [1, 3, 12]


def test_a_forged_opening_does_not_account_for_what_this_home_opened_later(ours: Trace, copy_of: Callable) -> None:
    backup = copy_of(ours)
    ours.signer.open("ada", "A proper name.", "press.example/line-5")
    append(ours, 9)
    ours.checkpoint()
    key = SigningKey.generate("evil.example/log").verifier
    previous = LogHead(origin="press.example/line-5", size=13, root="0" * 64)
    with unguarded(backup) as session:
        log.append(session, [LedgerOpened(origin=key.name, key=str(key), previous=previous, actor="eve", reason="x")])
    with at(backup, ours.settings.absolute_home) as restored:
        assert restored.signer.state().state is State.ROLLED_BACK


def test_a_new_key_counts_only_where_the_current_one_is_replaced(ours: Trace) -> None:
    evil, other = (str(SigningKey.generate(name).verifier) for name in ("press.example/line-4", "other.example"))
    current = str(ours.signer.state().key)
    for origin, key, replaces in (("press.example/line-4", evil, evil), ("other.example", other, current)):
        with ours.database.session() as session:
            log.append(session, [LedgerKey(origin=origin, key=key, replaces=replaces, actor="eve", reason="x")])
    assert str(ours.signer.state().key) == current
    assert ours.checkpoint().size == 5
    with ours.database.session() as session:
        record = LedgerKey(origin="press.example/line-4", key=evil, replaces=current, actor="eve", reason="x")
        log.append(session, [record])
    # Whoever may append can hand the ledger to a key that is not here; then nothing is signed, rather than by the old one.
    with pytest.raises(LedgerTakenError):
        ours.checkpoint()


def test_a_database_that_this_home_never_opened_is_a_finding(ours: Trace, empty: str, tmp_path: Path) -> None:
    with at(empty, tmp_path / "other home") as other:
        other.signer.open("eve", "A new ledger.", "press.example/line-4x")
    with at(empty, ours.settings.absolute_home) as seen:
        assert seen.signer.state().state is State.ROLLED_BACK
        known = seen.signer.known_heads()
        assert known.heads == ()
        assert "press.example/line-4 at 3 entries" in known.findings[0]


# --- what the home lost -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("emptied", [False, True])
def test_without_its_checkpoints_a_home_signs_nothing_until_it_opens_anew(ours: Trace, emptied: bool) -> None:
    last = ours.checkpoint()
    ours.signer.store.path.unlink()
    if emptied:
        ours.signer.store.create()
    assert ours.signer.state().state is State.UNANCHORED
    append(ours)
    with pytest.raises(CheckpointStoreError, match=r"restore checkpoints\.db"):
        ours.checkpoint()
    assert ours.signer.store.exists() == emptied
    ours.signer.open("ada", "The checkpoints were lost with the disk.")
    assert entries(ours)[4].record.previous == LogHead(origin=last.origin, size=3, root=last.root.hex())
    append(ours)
    ours.checkpoint()
    assert ours.signer.state().state is State.OURS
    assert holds(ours)


def test_a_lost_store_does_not_verify(ours: Trace) -> None:
    ours.checkpoint()
    assert audit(ours.signer).holds
    ours.signer.store.path.unlink()
    outcome = audit(ours.signer)
    (fact,) = (fact for fact in outcome.facts if not fact.holds)
    assert fact.name == "signatures"
    assert "checkpoints" in fact.findings[0]


def test_who_keeps_no_checkpoint_is_told_that_nothing_outside_was_compared(ours: Trace, elsewhere: Trace) -> None:
    ours.checkpoint()
    (fact,) = (fact for fact in audit(elsewhere.signer).facts if fact.name == "signatures")
    assert fact.meaning == "no checkpoint is kept in this home: nothing outside the database was compared"


def test_a_home_without_checkpoints_is_not_taken_in_by_a_database_that_shows_none(
    ours: Trace, sql: Callable[..., list[tuple]]
) -> None:
    ours.signer.store.path.unlink()
    sql("DELETE FROM checkpoint")
    assert ours.signer.state().state is State.UNANCHORED
    with pytest.raises(CheckpointStoreError):
        ours.checkpoint()


def test_a_damaged_store_is_told_and_neither_signed_nor_replaced(ours: Trace) -> None:
    ours.signer.store.path.write_bytes(b"damaged")
    for refused in (ours.signer.state, ours.checkpoint, lambda: ours.signer.open("ada", "x")):
        with pytest.raises(CheckpointStoreError):
            refused()
    ours.signer.begin()
    assert ours.signer.store.path.read_bytes() == b"damaged"
    assert size(ours) == 3


def test_without_its_key_a_home_cannot_sign_and_still_knows_what_it_signed(ours: Trace, copy_of: Callable) -> None:
    backup = copy_of(ours)
    append(ours)
    ours.checkpoint()
    for path in ours.signer.keys.path.iterdir():
        path.unlink()
    assert ours.signer.state().state is State.FOREIGN
    append(ours)
    with pytest.raises(LedgerForeignError):
        ours.checkpoint()
    assert holds(ours)
    with at(backup, ours.settings.absolute_home) as restored:
        assert restored.signer.state().state is State.ROLLED_BACK


def test_another_key_in_the_files_place_signs_nothing(ours: Trace) -> None:
    (path,) = ours.signer.keys.path.iterdir()
    path.write_text(f"{SigningKey.generate('press.example/line-4')}\n")
    append(ours)
    with pytest.raises(KeyFileError, match="on record"):
        ours.checkpoint()
    assert ours.signer.store.latest("press.example/line-4").size == 3


def test_a_key_that_others_can_read_signs_nothing_and_stops_no_recording(ours: Trace) -> None:
    (path,) = ours.signer.keys.path.iterdir()
    path.chmod(0o644)
    append(ours)
    with pytest.raises(KeyFileError, match="chmod 600"):
        ours.checkpoint()
    path.chmod(0o600)
    assert ours.checkpoint().size == 4


# --- rotation -----------------------------------------------------------------------------------------------------------


def test_a_rotation_is_signed_by_both_keys_and_the_old_one_verifies_for_ever(ours: Trace) -> None:
    before = ours.checkpoint()
    (old,) = ours.signer.verifier_keys(before.origin)
    after = ours.signer.rotate("ada", "Yearly.")
    old_again, new = ours.signer.verifier_keys(before.origin)
    assert old_again == old != new
    record = entries(ours)[-1].record
    assert (record.key, record.replaces, record.actor, record.reason) == (str(new), str(old), "ada", "Yearly.")
    assert [key for key, _ in open_note(after.note, [old, new]).verified] == [old, new]
    append(ours)
    later = ours.checkpoint()
    assert [key for key, _ in open_note(later.note, [old, new]).verified] == [new]
    with pytest.raises(NoteError):
        open_note(later.note, [old])
    open_checkpoint(before.note, [old])
    assert set(ours.signer.keys.list()) == {old, new}
    assert holds(ours)


def test_a_crash_between_the_new_key_and_its_checkpoint_still_has_both_sign(
    ours: Trace, monkeypatch: pytest.MonkeyPatch
) -> None:
    with failing(monkeypatch, ours.signer.store, "advance"):
        ours.signer.rotate("ada", "Yearly.")
    assert isinstance(entries(ours)[-1].record, LedgerKey)
    append(ours)
    keys = ours.signer.verifier_keys("press.example/line-4")
    assert len(keys) == 2
    assert [key for key, _ in open_note(ours.checkpoint().note, keys).verified] == keys


def test_a_crash_before_a_new_key_is_on_record_leaves_the_old_one(ours: Trace, monkeypatch: pytest.MonkeyPatch) -> None:
    with failing(monkeypatch, log, "append"):
        ours.signer.rotate("ada", "Yearly.")
    assert len(ours.signer.keys.list()) == 2
    append(ours)
    stored = ours.checkpoint()
    (key,) = ours.signer.verifier_keys(stored.origin)
    open_checkpoint(stored.note, [key])
    assert len(ours.signer.rotate("ada", "Yearly.").note.split("\n— ")) == 3


def test_rotations_at_once_follow_each_other(ours: Trace, clone: str) -> None:
    others = [at(clone, ours.settings.absolute_home) for _ in range(3)]
    with ThreadPoolExecutor(3) as pool:
        list(pool.map(lambda trace: trace.signer.rotate("ada", "At once."), others))
    keys = ours.signer.verifier_keys("press.example/line-4")
    assert len(set(keys)) == 4
    assert ours.signer.state().key == keys[-1]
    assert holds(ours)
    for trace in others:
        trace.close()


# --- tables that lie ----------------------------------------------------------------------------------------------------


def test_a_row_that_is_missing_does_not_change_who_signs(ours: Trace, sql: Callable[..., list[tuple]]) -> None:
    ours.signer.rotate("ada", "Yearly.")
    sql("DELETE FROM ledger_key")
    append(ours)
    with pytest.raises(LedgerGapError, match="row that is missing"):
        ours.checkpoint()
    sql("DELETE FROM ledger_opened")
    with pytest.raises(LedgerGapError, match=r"press\.example/line-4.*row that is missing"):
        ours.signer.state()
    known = ours.signer.known_heads()
    assert [head.size for head in known.heads] == [1, 3, 4]
    assert "row that is missing" in known.findings[0]


def test_a_row_that_points_elsewhere_is_not_believed(ours: Trace, sql: Callable[..., list[tuple]]) -> None:
    sql(
        "INSERT INTO ledger_opened SELECT gen_random_uuid(), 1, occurred_at, recorded_at, salt, 'evil.example', 'k', NULL, NULL,"
        " NULL, 'eve', 'x' FROM ledger_opened"
    )
    assert ours.signer.state().origin == "press.example/line-4"
    assert ours.checkpoint().size == 3


def test_an_opening_that_was_rewritten_is_not_believed(ours: Trace, sql: Callable[..., list[tuple]]) -> None:
    opened = entries(ours)[0]
    forged = Entry.seal(
        opened.record.model_copy(update={"key": str(SigningKey.generate("press.example/line-4").verifier)}),
        opened.recorded_at,
    )
    sql('UPDATE journal SET entry = %s, leaf_hash = %s WHERE "index" = 0', forged.data, leaf_hash(forged.data))
    with pytest.raises(LedgerForkedError, match="Entry 0"):
        ours.signer.state()
    with at(ours.database.url, ours.settings.absolute_home) as restarted, pytest.raises(LedgerForkedError):
        append(restarted)
    # The heads are held against the journal all the same, and verification says where it was changed.
    known = ours.signer.known_heads()
    assert [head.size for head in known.heads] == [1, 3]
    assert not verifier.verify(ours.database.engine, known=known.heads).holds
    # Nothing that contradicts itself is ever signed, not even under another origin.
    with pytest.raises(LedgerForkedError):
        ours.signer.open("ada", "Entry 0 was tampered with.")
    assert len(ours.signer.keys.list()) == 1


def test_a_stored_checkpoint_that_was_altered_is_a_finding(ours: Trace) -> None:
    stored = ours.checkpoint()
    text, _ = split_note(stored.note)
    forged = sign_note(text, SigningKey.generate("press.example/line-4"))
    connection = sqlite3.connect(ours.signer.store.path, isolation_level=None)
    connection.execute("DROP TRIGGER checkpoint_kept_update")
    connection.execute("UPDATE checkpoint SET note = ? WHERE size = 3", [forged])
    connection.close()
    known = ours.signer.known_heads()
    assert [head.size for head in known.heads] == [1]
    assert "at 3 entries" in known.findings[0]
    append(ours)
    with pytest.raises(LedgerGapError):
        ours.checkpoint()


def test_known_heads_can_begin_where_verification_left_off(ours: Trace) -> None:
    append(ours)
    ours.checkpoint()
    assert [head.size for head in ours.signer.known_heads(since=3).heads] == [4]


# --- the guard ----------------------------------------------------------------------------------------------------------


def test_the_guard_looks_once_and_again_when_the_head_was_seen_to_shrink(
    ours: Trace, clone: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks: list[int] = []
    judge = standing.judge

    def counted(*arguments: Any) -> Any:
        looks.append(arguments[1].size)
        return judge(*arguments)

    trace = at(clone, ours.settings.absolute_home)
    monkeypatch.setattr(standing, "judge", counted)

    def ask(size: int, root: bytes) -> None:
        with trace.database.session() as session:
            guard.require_writable(session, size, root)

    append(ours, 2)
    ours.checkpoint()
    with trace.database.session() as session:
        now = log.read_head(session)
    looks.clear()
    ask(now.size, now.root)
    ask(now.size, now.root)
    ask(now.size + 7, bytes(32))
    assert looks == [5]
    before = ours.signer.store.history("press.example/line-4")[-2]
    for _ in range(2):
        with pytest.raises(LedgerRolledBackError):
            ask(before.size, before.root)
    assert looks == [5, 3, 3]
    trace.close()


def test_whoever_appends_through_a_guarded_engine_is_asked(ours: Trace, copy_of: Callable) -> None:
    backup = copy_of(ours)
    append(ours)
    ours.checkpoint()
    with at(backup, ours.settings.absolute_home) as restored:
        with pytest.raises(LedgerRolledBackError), restored.database.session() as session:
            log.append(session, [report()])
        with pytest.raises(LedgerRolledBackError), Session(restored.database.engine) as session:
            log.append(session, [report()])
        assert size(restored) == 3


def test_what_signing_refused_the_next_append_is_asked_about(ours: Trace) -> None:
    append(ours)
    store = ours.signer.store
    # As if the database had been put back under a running service, to a head of the size that was last seen.
    key = ours.signer.keys.load(ours.signer.state().key)
    store.advance("press.example/line-4", 3, sign_note(Checkpoint("press.example/line-4", 9, bytes(32)).text(), key))
    append(ours)
    with pytest.raises(LedgerRolledBackError):
        ours.checkpoint()
    with pytest.raises(LedgerRolledBackError):
        append(ours)


# --- the clock ----------------------------------------------------------------------------------------------------------


def test_a_home_without_its_checkpoints_signs_nothing_where_more_was_signed_than_there_is(
    ours: Trace, sql: Callable[..., list[tuple]]
) -> None:
    """The database is an older one, and the store was lost: the one row left says that something was signed."""
    stored = ours.checkpoint()
    key = ours.signer.keys.load(ours.signer.verifier_keys(stored.origin)[0])
    ahead = Checkpoint(stored.origin, stored.size + 100, bytes(32))
    sql("UPDATE checkpoint SET size = %s, note = %s", ahead.size, sign_note(ahead.text(), key))
    with sqlite3.connect(ours.signer.store.path) as store:
        for (trigger,) in store.execute("SELECT name FROM sqlite_master WHERE type = 'trigger'").fetchall():
            store.execute(f"DROP TRIGGER {trigger}")
        store.execute("DELETE FROM checkpoint")
    store.close()
    with pytest.raises(CheckpointStoreError, match="and the checkpoints that were signed with it are not"):
        ours.checkpoint()


def test_a_clock_that_was_set_back_is_told_and_stops_nothing(ours: Trace) -> None:
    assert ours.signer.state().clock_behind is None
    future = datetime.now(UTC) + timedelta(hours=5)
    path = ours.signer.store.path
    ours.signer.store = CheckpointStore(path, now=lambda: future)
    append(ours)
    ours.checkpoint()
    ours.signer.store = CheckpointStore(path)
    behind = ours.signer.state().clock_behind
    assert timedelta(hours=4) < behind <= timedelta(hours=5)
    append(ours)
    assert ours.checkpoint().size == 5
    times = [stored.accepted_at for stored in ours.signer.store.history("press.example/line-4")]
    assert times[-2] == future
    assert times[-1] < future
    assert ours.signer.state().clock_behind is not None
    assert holds(ours)


# --- the heartbeat ------------------------------------------------------------------------------------------------------


def test_a_heartbeat_signs_until_it_is_stopped_and_once_more(ours: Trace) -> None:
    beaten = threading.Event()

    def work() -> None:
        ours.checkpoint()
        beaten.set()

    with Heartbeat(work, every=3600) as heartbeat:
        assert beaten.wait(30)
        append(ours, 4)
    assert heartbeat.error is None
    assert ours.signer.store.latest("press.example/line-4").size == 7
    assert not [thread for thread in threading.enumerate() if thread.name == "traceai-heartbeat"]


def test_a_heartbeat_keeps_its_error_logs_it_once_and_goes_on(caplog: pytest.LogCaptureFixture) -> None:
    outcomes: list[Exception | None] = [
        LedgerRolledBackError("Older."), LedgerRolledBackError("Older."), RuntimeError("a bug"), RuntimeError("a bug"), None,
    ]  # fmt: skip
    errors: list[str | None] = []
    done = threading.Event()

    def work() -> None:
        errors.append(str(heartbeat.error) if heartbeat.error else None)
        if not outcomes:
            done.set()
            return
        outcome = outcomes.pop(0)
        if outcome:
            raise outcome

    heartbeat = Heartbeat(work, every=0.001)
    with caplog.at_level(logging.WARNING), heartbeat:
        assert done.wait(30)
    assert errors[:6] == [None, "Older.", "Older.", "a bug", "a bug", None]
    assert heartbeat.error is None
    said = [record.getMessage() for record in caplog.records]
    assert said == [
        "no checkpoint was signed: Older.", "no checkpoint was signed: a bug", "no checkpoint was signed: that is over",
    ]  # fmt: skip


def test_every_refusal_is_an_error_of_this_house() -> None:
    for error in (LedgerRolledBackError, LedgerForkedError, LedgerForeignError, KeyFileError, CheckpointStoreError):
        assert issubclass(error, TraceaiError)
