"""Signing the tree: the one place where a private key meets a tree head.

What is signed continues what was signed before, proved from the journal's own tree against the store outside the database.
Order of events in `sign`: look, prove, sign, store (compare-and-swap), publish. A crash before the store leaves nothing; one
after it leaves a checkpoint that the next `sign` publishes. Two processes that sign at once race for the swap; who loses looks
again. Of two databases with one home, whichever signs first is the ledger, and the other is refused from there on.
"""

import logging
import re
import secrets
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Self

from sqlalchemy import Connection, insert, select
from sqlmodel import Session

from traceai.clock import now, uuid7
from traceai.db import tables
from traceai.db.connection import Database
from traceai.errors import (
    AlreadyExistsError,
    CheckpointConflictError,
    InputError,
    LedgerForkedError,
    LedgerGapError,
    NoteError,
    SchemaError,
    TraceaiError,
    VerificationError,
)
from traceai.ledger import guard, log, merkle, records
from traceai.ledger.log import Head
from traceai.ledger.note import VerifierKey, open_note, sign_note
from traceai.ledger.signing import known, serving, standing
from traceai.ledger.signing.checkpoints import CheckpointStore, Stored
from traceai.ledger.signing.keys import KeyFolder
from traceai.ledger.signing.known import Known
from traceai.ledger.signing.standing import Opening, Standing, State
from traceai.ledger.tlog import tiles
from traceai.ledger.tlog.checkpoint import Checkpoint
from traceai.ledger.tree import DatabaseTree

# Each lost race means that somebody else signed; who loses this many has company enough.
ATTEMPTS = 10
# Who opens a ledger that nobody opened, and why.
ITSELF, FIRST_REASON = "traceai", "A new ledger."
# tlog-checkpoint, "Note text": a schema-less URL without spaces and plus signs.
_ORIGIN = re.compile(r"[a-z0-9]([a-z0-9.-]*[a-z0-9])?(:[0-9]{1,5})?(/[A-Za-z0-9._~!$&'()*,;=:@%-]+)*")
_LONGEST_ORIGIN = 200
# In `Session.info` of the transaction that opens a new origin, which is what a refused journal waits for.
_OPENING = "traceai_opening"

_checkpoint = tables.table_of(tables.Checkpoint)
_log = logging.getLogger(__name__)


class Signer:
    """A database and the home that signs it. Threads may share it; making one guards the database's engine."""

    def __init__(self, database: Database, home: Path) -> None:
        self.database = database
        self.keys = KeyFolder(home / "keys")
        self.store = CheckpointStore(home / "checkpoints.db")
        # The largest head that was found writable. Appends make it grow; a head below it, or beside it, is looked into.
        self._seen: Head | None = None
        guard.install(database.engine, self._check)

    # --- looking --------------------------------------------------------------------------------------------------

    def state(self) -> Standing:
        """Where database and home stand to each other, at one moment.

        Raises:
            VerificationError: the journal's own bytes do not say who signs it.
            KeyFileError, CheckpointStoreError: the home cannot be looked at.
        """
        with self._looking() as (_, found):
            return found

    def require_writable(self) -> None:
        """
        Raises:
            LedgerRolledBackError: the journal is shorter than what this home signed.
            LedgerForkedError: it is another.
        """
        standing.require_writable(self.state())

    def verifier_keys(self, origin: str) -> list[VerifierKey]:
        """Every key that ever signed for `origin`, oldest first, from the journal."""
        with self.database.moment() as session:
            found = standing.openings(session.connection(), log.read_head(session))
        keys = [key for opening in found if opening.origin == origin for key in opening.keys]
        return list(dict.fromkeys(keys))

    def known_heads(self, since: int = 0, session: Session | None = None) -> Known:
        """Every tree head that this home signed and the history has to lead to, larger than `since`; see `known.heads`.

        session: look within its transaction, which holds the lock on the head.
        """
        try:
            found = (
                self._judge(session, log.read_head(session), self.store.latest_of_each()) if session else self.state()
            )
        except (VerificationError, SchemaError) as error:
            return known.heads(self.keys, self.store, (), (), since).and_found(error.message)
        kept = known.heads(self.keys, self.store, found.openings, found.here, since)
        # Without them the rest could be another history altogether, and nothing here would contradict it.
        return kept.and_found(f"{found.found}.") if found.state in {State.UNANCHORED, State.TAKEN} else kept

    @contextmanager
    def _looking(self) -> Iterator[tuple[Connection, Standing]]:
        """One moment of the database, and how it stands."""
        while True:
            # First what was signed, then the journal: one that is looked at later holds all of it.
            memory = self.store.latest_of_each()
            with self.database.moment() as session:
                found = self._judge(session, log.read_head(session), memory)
                # Signed for the first time between the two looks, by another process?
                if found.state is State.UNANCHORED and self.store.latest_of_each() != memory:
                    continue
                yield session.connection(), found
                return

    def _judge(self, session: Session, head: Head, memory: list[Stored]) -> Standing:
        return standing.judge(session.connection(), head, self.keys, self.store, memory)

    def _check(self, session: Session, size: int, root: bytes) -> None:
        """The guard: a full look once a process, and again after the head was seen to shrink or signing was refused."""
        if session.info.get(_OPENING):
            return
        seen = self._seen
        if seen is None or size < seen.size or (size == seen.size and root != seen.root):
            self._seen = None
            standing.require_writable(self._judge(session, Head(size, root), self.store.latest_of_each()))
        self._seen = Head(size, root)

    # --- opening --------------------------------------------------------------------------------------------------

    def begin(self) -> None:
        """Open a ledger that nobody has signed yet, here or elsewhere; leave every other one alone.

        Nothing is raised that a reader need not know: a journal that may not be written to can still be looked at, and who
        appends or signs is told.
        """
        try:
            if self.state().state is State.FRESH:
                self.sign()
        except TraceaiError as error:
            _log.debug("not opened: %s", error.message)

    def open(self, actor: str, reason: str, origin: str | None = None) -> Stored:
        """Sign under a new origin from here on, on the record. It continues whatever this home signed last, and says so.

        Args:
            actor, reason: for the record.
            origin: a URL without schema, as example.com/line-4; one of traceai's own making if None.

        Raises:
            InputError: `origin` is no such URL, `reason` is empty, or it or `actor` cannot be recorded.
            AlreadyExistsError: the origin was used before.
            VerificationError: the journal is not even in agreement with itself, so that nothing could be signed.
            KeyFileError, CheckpointStoreError: the home cannot be written to.
        """
        self._open(actor, reason, origin, only_fresh=False)
        return self.sign()

    def _open(self, actor: str, reason: str, origin: str | None, *, only_fresh: bool) -> None:
        origin = origin or f"traceai.local/{secrets.token_hex(8)}"
        _require_url(origin)
        fields: dict[str, object] = {"origin": origin, "key": "", "previous": None, "actor": actor, "reason": reason}
        records.require_reason(reason)
        records.validated(records.LedgerOpened, fields)
        with self.database.session() as session:
            locked = log.lock(session)
            head, memory = Head(locked.size, locked.root), self.store.latest_of_each()
            opened = standing.openings(session.connection(), head)
            if only_fresh and (opened or memory):
                return  # another process was faster
            if origin in {opening.origin for opening in opened} | {stored.origin for stored in memory}:
                raise AlreadyExistsError(f"The origin {origin} was used before; choose another with --origin.")
            _require_root(DatabaseTree(session.connection()), head)
            # Before the journal names the key: store and key survive whatever happens from here on.
            self.store.create()
            fields["key"] = str(self.keys.create(origin).verifier)
            fields["previous"] = _previous(session.connection(), memory, opened)
            session.info[_OPENING] = True
            self._act(session, records.validated(records.LedgerOpened, fields))

    def rotate(self, actor: str, reason: str) -> Stored:
        """Sign with a new key from here on, on the record; the first checkpoint is signed with both.

        The old key stays in the home, and its signatures verify for ever.

        Raises:
            InputError: `reason` is empty, or it or `actor` cannot be recorded.
            LedgerForeignError, KeyFileError: the current key is not here; only who has it can hand over to another.
            LedgerRolledBackError, LedgerForkedError, CheckpointStoreError: as `sign`.
        """
        records.require_reason(reason)
        self.sign()  # opens a fresh ledger; and what was recorded with the old key is signed with it alone
        with self.database.session() as session:
            locked = log.lock(session)
            found = self._judge(session, Head(locked.size, locked.root), self.store.latest_of_each())
            opening = standing.require_signable(found)
            old = str(self.keys.load(opening.keys[-1]).verifier)
            fields = {"origin": opening.origin, "key": "", "replaces": old, "actor": actor, "reason": reason}
            records.validated(records.LedgerKey, fields)
            fields["key"] = str(self.keys.create(opening.origin).verifier)
            self._act(session, records.validated(records.LedgerKey, fields))
        return self.sign()

    def _act(self, session: Session, record: records.Record) -> None:
        """Say on the record who signs, and remember outside the database that this home said it."""
        (receipt,) = log.append(session, [record])
        self.store.add_act(receipt.index, receipt.leaf_hash)

    # --- signing --------------------------------------------------------------------------------------------------

    def sign(self) -> Stored:
        """Sign the journal as it is, and have the checkpoint stored and published. What nothing was added to stays as it is.

        Raises:
            LedgerRolledBackError, LedgerForkedError: this is not the journal that was signed before.
            LedgerTakenError: somebody else opened the ledger anew, or changed its key, since this home did.
            LedgerForeignError: the key is not here.
            KeyFileError: the key cannot be used, or is another than the one on record.
            CheckpointStoreError: the store is gone, or cannot be used.
            CheckpointConflictError: others kept signing meanwhile.
        """
        try:
            for attempt in range(1, ATTEMPTS + 1):
                try:
                    stored = self._sign_once()
                except CheckpointConflictError:
                    # Somebody else signed meanwhile, maybe more than we saw. Who loses may be slow, so it gives way for longer.
                    time.sleep(secrets.randbelow(10 * attempt) / 1e3)
                    continue
                if stored is not None:
                    return stored
                self._open(ITSELF, FIRST_REASON, None, only_fresh=True)
        except VerificationError:
            self._seen = None  # whoever appends next looks too
            raise
        raise CheckpointConflictError("Others kept signing this ledger meanwhile; try again.")

    def _sign_once(self) -> Stored | None:
        """One attempt; None where the ledger has to be opened first."""
        with self._looking() as (connection, found):
            if found.state is State.FRESH:
                return None
            opening = standing.require_signable(found)
            last = found.last
            note = None if last is not None and last.size == found.head.size else self._note(connection, found, opening)
            published = last is not None and note is None and _is_published(connection, last)
        if note is not None:
            last = self.store.advance(opening.origin, last.size if last else None, note)
        assert last is not None  # noqa: S101  # there was one, or there is now
        if not published:
            self.publish(last)
        if self._seen is None or self._seen.size < last.size:
            self._seen = Head(last.size, last.root)
        return last

    def _note(self, connection: Connection, found: Standing, opening: Opening) -> str:
        """The signed head, once it is proved to continue what was signed before."""
        head, last, tree = found.head, found.last, DatabaseTree(connection)
        keys = [self.keys.load(key) for key in _signers(opening, last)]
        if last is None:
            _require_root(tree, head)
        else:
            proof = tiles.consistency_proof(tree, last.size, head.size)
            try:
                merkle.verify_consistency(last.size, head.size, proof, last.root, head.root)
            except VerificationError as error:
                raise _no_root(head) from error
        return sign_note(Checkpoint(opening.origin, head.size, head.root).text(), keys)

    def publish(self, stored: Stored) -> None:
        """Enter a checkpoint of the store in the database, which serves it from there."""
        row = {"id": uuid7(), "origin": stored.origin, "size": stored.size, "root": stored.root, "note": stored.note}
        with self.database.session() as session:
            session.connection().execute(insert(_checkpoint), [row | {"created_at": now()}])


class Heartbeat:
    """Does `work` every few seconds in a thread of its own, until it is stopped; used as a context manager, or by hand.

    What fails is tried again with the next beat. `error` is what the last beat failed with, for who asks whether all is well;
    it is logged when it begins and when it ends, not with every beat, after the words of `failed`.
    """

    def __init__(
        self, work: Callable[[], object], every: float = 5.0, failed: str = "no checkpoint was signed"
    ) -> None:
        self.error: Exception | None = None
        self._work, self._every, self._failed = work, every, failed
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="traceai-heartbeat", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """End after the beat under way, with a last one for what came since."""
        self._stopping.set()
        self._thread.join()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _run(self) -> None:
        while True:
            last = self._stopping.is_set()
            self._beat()
            if last:
                return
            self._stopping.wait(self._every)

    def _beat(self) -> None:
        try:
            self._work()
        except Exception as error:  # noqa: BLE001  # a thread that died unseen would sign nothing for ever
            if _kind(error) != _kind(self.error):
                expected = isinstance(error, TraceaiError)
                _log.error("%s: %s", self._failed, error, exc_info=None if expected else error)
            self.error = error
        else:
            if self.error is not None:
                _log.warning("%s: that is over", self._failed)
            self.error = None


def _kind(error: Exception | None) -> object:
    return error.code if isinstance(error, TraceaiError) else type(error)


def _require_root(tree: DatabaseTree, head: Head) -> None:
    if tiles.root(tree, head.size) != head.root:
        raise _no_root(head)


def _no_root(head: Head) -> LedgerForkedError:
    return LedgerForkedError(
        f"The stored root of {head.size} entries is not that of the journal, so nothing was signed; run `traceai ledger verify`, "
        "which says where they differ, and restore the right backup."
    )


def _signers(opening: Opening, last: Stored | None) -> tuple[VerifierKey, ...]:
    """Who signs the checkpoint after `last`: the current key; after a rotation also the one before, which vouches for it."""
    if last is None:
        return opening.keys
    unlisted = LedgerGapError(
        f"The last checkpoint of {opening.origin} is signed by a key that the tables do not list for it; run `traceai ledger "
        "verify`, which names the row that is missing."
    )
    try:
        note = open_note(last.note, opening.keys)
    except NoteError as error:
        raise unlisted from error
    if any(signature.name == opening.origin for signature in note.others):
        raise unlisted
    verified = {key for key, _ in note.verified}
    return opening.keys[max(number for number, key in enumerate(opening.keys) if key in verified) :]


def _previous(connection: Connection, memory: list[Stored], opened: tuple[Opening, ...]) -> dict[str, object] | None:
    """What a new origin continues: what this home signed last, or else what the ledger shows of itself."""
    if memory:
        return {"origin": memory[-1].origin, "size": memory[-1].size, "root": memory[-1].root.hex()}
    found = serving.newest(connection, opened[-1].origin, opened[-1].signers) if opened else None
    if found is None:
        return None
    return {"origin": found.checkpoint.origin, "size": found.checkpoint.size, "root": found.checkpoint.root.hex()}


def _is_published(connection: Connection, stored: Stored) -> bool:
    """Whether the database has it, whatever else somebody put beside it."""
    c = _checkpoint.c
    same = (c.origin == stored.origin, c.size == stored.size, c.note == stored.note)
    return connection.execute(select(c.id).where(*same).limit(1)).scalar_one_or_none() is not None


def _require_url(origin: str) -> None:
    if len(origin) > _LONGEST_ORIGIN or not _ORIGIN.fullmatch(origin):
        raise InputError(
            f"{origin!r:.80} cannot be an origin; write a URL without schema, spaces and plus signs, as plant.example/line-4."
        )
