import os
import sqlite3
import stat
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from multiprocessing import get_context
from pathlib import Path

import pytest

from traceai.errors import CheckpointConflictError, CheckpointError, CheckpointStoreError, NoteError
from traceai.ledger import merkle
from traceai.ledger.note import COSIGNATURE, SigningKey, cosign_note, sign_note, split_note
from traceai.ledger.signing.checkpoints import CheckpointStore
from traceai.ledger.tlog.checkpoint import Checkpoint

ORIGIN = "press.example/line-4"
KEY = SigningKey(ORIGIN, 1, b"k" * 32)
WITNESS = SigningKey("witness.example", COSIGNATURE, b"w" * 32)


def root(size: int, history: str = "") -> bytes:
    return sha256(f"{history}{size}".encode()).digest() if size else merkle.EMPTY_ROOT


def note(size: int, history: str = "", origin: str = ORIGIN, *keys: SigningKey) -> str:
    return sign_note(Checkpoint(origin, size, root(size, history)).text(), [KEY, *keys])


@pytest.fixture
def store(tmp_path: Path) -> CheckpointStore:
    return CheckpointStore(tmp_path / "home" / "checkpoints.db")


def sqlite(store: CheckpointStore, *statements: str) -> None:
    connection = sqlite3.connect(store.path, isolation_level=None)
    try:
        for statement in statements:
            connection.execute(statement)
    finally:
        connection.close()


def test_a_store_that_was_never_written_knows_nothing_and_makes_no_file(store: CheckpointStore) -> None:
    assert store.latest(ORIGIN) is None
    assert store.newest() is None
    assert store.origins() == []
    assert store.history(ORIGIN) == []
    assert store.timestamps(ORIGIN, 1) == []
    assert store.latest_time() is None
    assert not store.exists()


def test_a_log_advances_and_every_note_is_kept(store: CheckpointStore) -> None:
    first = store.advance(ORIGIN, None, note(0))
    assert (first.origin, first.size, first.root, first.note) == (ORIGIN, 0, root(0), note(0))
    store.advance(ORIGIN, 0, note(3))
    third = store.advance(ORIGIN, 3, note(10))
    assert store.latest(ORIGIN) == third
    assert [found.note for found in store.history(ORIGIN)] == [note(0), note(3), note(10)]
    assert CheckpointStore(store.path).history(ORIGIN) == store.history(ORIGIN)


def test_the_file_is_its_owners_alone(store: CheckpointStore) -> None:
    before = os.umask(0)
    try:
        store.advance(ORIGIN, None, note(1))
    finally:
        os.umask(before)
    assert stat.S_IMODE(store.path.stat().st_mode) == 0o600
    assert [path.name for path in store.path.parent.iterdir()] == [store.path.name]


@pytest.mark.parametrize("expected", [None, 0, 2, 4])
def test_only_who_knows_the_last_checkpoint_moves_the_log_on(store: CheckpointStore, expected: int | None) -> None:
    store.advance(ORIGIN, None, note(3))
    with pytest.raises(CheckpointConflictError) as conflict:
        store.advance(ORIGIN, expected, note(5))
    assert conflict.value.code == "checkpoint-conflict"
    assert store.latest(ORIGIN).size == 3


def test_nothing_goes_back_or_gets_a_second_root(store: CheckpointStore) -> None:
    store.advance(ORIGIN, None, note(3))
    for offered in (note(2), note(0), note(3, "other")):
        with pytest.raises(CheckpointConflictError):
            store.advance(ORIGIN, 3, offered)
    assert [found.size for found in store.history(ORIGIN)] == [3]


def test_the_same_checkpoint_again_changes_nothing(store: CheckpointStore) -> None:
    first = store.advance(ORIGIN, None, note(3))
    assert store.advance(ORIGIN, 3, note(3)) == first
    assert store.history(ORIGIN) == [first]


def test_origins_do_not_touch_each_other(store: CheckpointStore) -> None:
    store.advance(ORIGIN, None, note(3))
    store.advance("b.example", None, note(9, origin="b.example"))
    store.advance(ORIGIN, 3, note(20))
    assert store.latest("b.example").size == 9
    assert store.origins() == [ORIGIN, "b.example"]
    # The log that came last is the one in use, whatever is heard of the earlier one.
    assert store.newest() == store.latest("b.example")


def test_a_note_has_to_be_a_checkpoint_of_its_origin(store: CheckpointStore) -> None:
    with pytest.raises(CheckpointConflictError):
        store.advance("b.example", None, note(3))
    with pytest.raises(NoteError):
        store.advance(ORIGIN, None, Checkpoint(ORIGIN, 3, root(3)).text())
    with pytest.raises(CheckpointError):
        store.advance(ORIGIN, None, sign_note("no checkpoint\n", KEY))
    assert not store.exists()


def test_signatures_are_added_and_the_note_without_them_stays(store: CheckpointStore) -> None:
    store.advance(ORIGIN, None, note(3))
    text, _ = split_note(note(3))
    early, late = (str(WITNESS.sign(text.encode(), at)) for at in (100, 200))
    added = store.add_signatures(ORIGIN, 3, note(3) + early)
    assert added.note == note(3) + early
    # A witness's newer word takes the place of its older one, so that a note does not grow without end.
    assert store.add_signatures(ORIGIN, 3, f"{text}\n{late}").note == note(3) + late
    assert store.add_signatures(ORIGIN, 3, note(3)).note == note(3) + late
    assert store.latest(ORIGIN).note == note(3) + late
    assert [found.note for found in store.history(ORIGIN)] == [note(3), note(3) + early, note(3) + late]


def test_a_witness_may_answer_late(store: CheckpointStore) -> None:
    store.advance(ORIGIN, None, note(3))
    store.advance(ORIGIN, 3, note(5))
    store.add_signatures(ORIGIN, 3, cosign_note(note(3), WITNESS, at=100))
    assert store.latest(ORIGIN).note == note(5)
    assert len(store.history(ORIGIN)) == 3


def test_signatures_are_added_only_to_what_was_signed(store: CheckpointStore) -> None:
    store.advance(ORIGIN, None, note(3))
    for size, offered in ((3, note(3, "other")), (4, note(4)), (3, note(4)), (4, note(3))):
        with pytest.raises(CheckpointConflictError):
            store.add_signatures(ORIGIN, size, offered)
    assert len(store.history(ORIGIN)) == 1


def test_timestamps_are_kept_beside_their_checkpoint(store: CheckpointStore) -> None:
    store.advance(ORIGIN, None, note(3))
    store.add_timestamp(ORIGIN, 3, "tsa.example", b"first")
    store.add_timestamp(ORIGIN, 3, "tsa.example", b"second")
    assert [(found.tsa, found.token) for found in store.timestamps(ORIGIN, 3)] == [
        ("tsa.example", b"first"),
        ("tsa.example", b"second"),
    ]
    assert store.timestamps(ORIGIN, 4) == []
    with pytest.raises(CheckpointConflictError):
        store.add_timestamp(ORIGIN, 4, "tsa.example", b"of nothing")


def test_what_the_clock_said_is_kept_and_order_is_that_of_acceptance(tmp_path: Path) -> None:
    noon = datetime(2026, 3, 1, 12, tzinfo=UTC)
    times = iter([noon, noon - timedelta(hours=2)])
    store = CheckpointStore(tmp_path / "checkpoints.db", now=lambda: next(times))
    store.advance(ORIGIN, None, note(1))
    store.advance(ORIGIN, 1, note(2))
    assert [found.accepted_at for found in store.history(ORIGIN)] == [noon, noon - timedelta(hours=2)]
    assert store.latest(ORIGIN).size == 2
    assert store.latest_time() == noon


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE checkpoint SET note = 'x'",
        "UPDATE checkpoint SET size = 99",
        "DELETE FROM checkpoint",
        "REPLACE INTO checkpoint SELECT * FROM checkpoint WHERE id = 1",
        "INSERT INTO checkpoint (origin, size, root, note, accepted_at) SELECT origin, 2, root, note, accepted_at FROM checkpoint",
        "INSERT INTO checkpoint (origin, size, root, note, accepted_at)"
        " SELECT origin, size, zeroblob(32), note, accepted_at FROM checkpoint",
        "UPDATE timestamp SET token = x'00'",
        "DELETE FROM timestamp",
        "REPLACE INTO timestamp SELECT * FROM timestamp",
    ],
)
def test_the_file_itself_refuses_to_forget(store: CheckpointStore, statement: str) -> None:
    store.advance(ORIGIN, None, note(3))
    store.add_timestamp(ORIGIN, 3, "tsa.example", b"token")
    with pytest.raises(sqlite3.IntegrityError):
        sqlite(store, statement)
    assert store.latest(ORIGIN).note == note(3)
    assert store.timestamps(ORIGIN, 3)[0].token == b"token"


# --- several at once --------------------------------------------------------------------------------------------------


def climb(path: Path, top: int) -> list[int]:
    """Move the log on by one, again and again, together with others; the sizes that this one won."""
    store, won = CheckpointStore(path), []
    while True:
        last = store.latest(ORIGIN)
        size = last.size if last else 0
        if size >= top:
            return won
        try:
            store.advance(ORIGIN, last.size if last else None, note(size + 1))
        except CheckpointConflictError:
            continue
        won.append(size + 1)


def test_processes_that_race_each_win_some_and_no_checkpoint_is_lost(store: CheckpointStore) -> None:
    with ProcessPoolExecutor(3, get_context("spawn")) as pool:
        won = [future.result() for future in [pool.submit(climb, store.path, 30) for _ in range(3)]]
    assert sorted(size for sizes in won for size in sizes) == list(range(1, 31))
    assert [found.size for found in store.history(ORIGIN)] == list(range(1, 31))


def test_threads_may_share_a_store(store: CheckpointStore) -> None:
    with ThreadPoolExecutor(4) as pool:
        won = list(pool.map(lambda _: climb(store.path, 20), range(4)))
    assert sorted(size for sizes in won for size in sizes) == list(range(1, 21))


def test_a_file_made_by_somebody_else_meanwhile_is_not_replaced(
    store: CheckpointStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = CheckpointStore(store.path)
    link = os.link

    def late(source: str, target: Path) -> None:
        monkeypatch.setattr(os, "link", link)
        other.advance(ORIGIN, None, note(7))
        link(source, target)

    monkeypatch.setattr(os, "link", late)
    with pytest.raises(CheckpointConflictError):
        store.advance(ORIGIN, None, note(1))
    assert [found.size for found in store.history(ORIGIN)] == [7]
    assert [path.name for path in store.path.parent.iterdir()] == [store.path.name]


def test_a_transaction_that_another_holds_is_waited_for_and_then_named(
    store: CheckpointStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.advance(ORIGIN, None, note(1))
    monkeypatch.setattr("traceai.ledger.signing.checkpoints.PATIENCE", 0.01)
    holder = sqlite3.connect(store.path, isolation_level=None)
    holder.execute("BEGIN IMMEDIATE")
    with pytest.raises(CheckpointStoreError, match="locked"):
        store.advance(ORIGIN, 1, note(2))
    holder.close()
    assert store.advance(ORIGIN, 1, note(2)).size == 2


# --- damage -----------------------------------------------------------------------------------------------------------


def uses(store: CheckpointStore) -> list[Callable[[], object]]:
    return [
        lambda: store.latest(ORIGIN),
        lambda: store.history(ORIGIN),
        store.newest,
        lambda: store.advance(ORIGIN, 3, note(5)),
        lambda: store.advance(ORIGIN, None, note(5)),
        lambda: store.add_signatures(ORIGIN, 3, note(3)),
    ]


@pytest.mark.parametrize("content", [b"", b"not a database at all", b"SQLite format 3\0" + bytes(84), b"x" * 20000])
def test_a_file_that_is_no_store_is_refused_and_left_alone(store: CheckpointStore, content: bytes) -> None:
    store.path.parent.mkdir()
    store.path.write_bytes(content)
    store.path.chmod(0o600)
    for use in uses(store):
        with pytest.raises(CheckpointStoreError) as refused:
            use()
        assert str(store.path) in refused.value.message
    assert refused.value.code == "checkpoint-store-unusable"
    assert store.path.read_bytes() == content


def test_another_programs_database_is_refused_and_left_alone(store: CheckpointStore) -> None:
    store.path.parent.mkdir()
    sqlite(store, "CREATE TABLE checkpoint (origin, size, root, note, accepted_at)")
    before = store.path.read_bytes()
    for use in uses(store):
        with pytest.raises(CheckpointStoreError):
            use()
    assert store.path.read_bytes() == before


def test_a_store_of_a_later_release_is_refused(store: CheckpointStore) -> None:
    store.advance(ORIGIN, None, note(3))
    sqlite(store, "PRAGMA user_version = 3")
    for use in uses(store):
        with pytest.raises(CheckpointStoreError, match="version 3"):
            use()


def test_a_store_cut_short_is_refused(store: CheckpointStore) -> None:
    store.advance(ORIGIN, None, note(3))
    for keep in (4096, 3 * 4096, 5000, 1):
        data = store.path.read_bytes()
        store.path.write_bytes(data[:keep])
        for use in uses(store):
            with pytest.raises(CheckpointStoreError):
                use()
        store.path.write_bytes(data)
    assert store.latest(ORIGIN).size == 3


@pytest.mark.parametrize(
    "change",
    [
        "UPDATE checkpoint SET size = 4",
        "UPDATE checkpoint SET root = zeroblob(32)",
        "UPDATE checkpoint SET note = 'nothing'",
        "UPDATE checkpoint SET accepted_at = 'yesterday'",
    ],
)
def test_a_row_that_does_not_say_what_its_note_says_is_refused(store: CheckpointStore, change: str) -> None:
    store.advance(ORIGIN, None, note(3))
    sqlite(store, "DROP TRIGGER checkpoint_kept_update", change)
    for use in uses(store)[:4]:
        with pytest.raises(CheckpointStoreError):
            use()


def test_a_store_that_is_gone_is_not_made_anew_by_who_knew_it(store: CheckpointStore) -> None:
    store.advance(ORIGIN, None, note(3))
    store.path.unlink()
    for use in (
        lambda: store.advance(ORIGIN, 3, note(5)),
        lambda: store.add_signatures(ORIGIN, 3, note(3)),
        lambda: store.add_timestamp(ORIGIN, 3, "tsa.example", b"token"),
    ):
        with pytest.raises(CheckpointStoreError, match="gone"):
            use()
    assert not store.exists()


def test_a_store_that_others_can_write_to_is_refused(store: CheckpointStore) -> None:
    store.advance(ORIGIN, None, note(3))
    store.path.chmod(0o620)
    with pytest.raises(CheckpointStoreError, match="chmod 600"):
        store.latest(ORIGIN)


def test_a_folder_that_cannot_hold_it_is_said_so(tmp_path: Path) -> None:
    (tmp_path / "home").write_text("a file")
    store = CheckpointStore(tmp_path / "home" / "checkpoints.db")
    with pytest.raises(CheckpointStoreError):
        store.advance(ORIGIN, None, note(1))


def test_a_process_killed_within_a_transaction_leaves_the_last_checkpoint(store: CheckpointStore) -> None:
    store.advance(ORIGIN, None, note(3))
    child = os.fork()
    if child == 0:
        # Dies with the row written and not committed, the rollback journal on disk.
        connection = sqlite3.connect(store.path, isolation_level=None)
        connection.execute("PRAGMA cache_size = 1")
        connection.execute("BEGIN IMMEDIATE")
        connection.executemany(
            "INSERT INTO checkpoint (origin, size, root, note, accepted_at) VALUES (?, ?, ?, ?, '')",
            [(ORIGIN, size, root(size), note(size) + "x" * 5000) for size in range(4, 40)],
        )
        os._exit(9)
    os.waitpid(child, 0)
    assert Path(f"{store.path}-journal").exists()
    assert store.latest(ORIGIN).note == note(3)
    assert store.advance(ORIGIN, 3, note(5)).size == 5
    assert not Path(f"{store.path}-journal").exists()
