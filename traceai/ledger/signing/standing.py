"""How a journal stands to what this home remembers of it: whether it is the one that was signed here, and who signs it.

Two memories are compared. The journal says under which origins it was opened and which keys signed for them; the home
(`keys`, `checkpoints`) says what it signed. The tables `ledger_opened` and `ledger_key` only say where to look: what counts are
the journal's bytes at those places, proved included under the root. A row that is missing there cannot make an old state pass
for the current one, because the home remembers the origin and the key it signed with last. And an entry that names a key of this
home is this home's doing only where the home remembers having made it (`CheckpointStore.acts`).
"""

import enum
from collections.abc import Sequence, Set
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import NoReturn

from sqlalchemy import Connection, select

from traceai.clock import now
from traceai.db import tables
from traceai.errors import (
    CheckpointStoreError,
    LedgerForeignError,
    LedgerForkedError,
    LedgerGapError,
    LedgerRolledBackError,
    LedgerTakenError,
    VerificationError,
)
from traceai.ledger import merkle
from traceai.ledger.entry import Entry
from traceai.ledger.log import Head
from traceai.ledger.note import VerifierKey
from traceai.ledger.records import LedgerKey, LedgerOpened
from traceai.ledger.signing.checkpoints import CheckpointStore, Stored
from traceai.ledger.signing.keys import KeyFolder
from traceai.ledger.signing.serving import Signers, newest, signing_key, takes_over
from traceai.ledger.tlog import tiles
from traceai.ledger.tree import DatabaseTree

_opened = tables.table_of(tables.LedgerOpened)
_key = tables.table_of(tables.LedgerKey)


class State(enum.StrEnum):
    """What a home may do with a ledger.

    FRESH: nothing was ever signed, here or there; the first checkpoint opens the ledger.
    OURS: append and sign.
    FOREIGN: somebody else's: append, and leave the signing to whoever holds the key.
    UNANCHORED: the key is here and the checkpoints are not, so that nobody can say whether the journal is an older one:
        append, and sign nothing.
    TAKEN: after this home opened it, or changed its key, somebody else did: append, and sign nothing. Nobody here can tell a
        handover that was agreed from a forged one.
    ROLLED_BACK: older than what was signed here. FORKED: another than what was signed here. Neither append nor sign.
    """

    FRESH = "fresh"
    OURS = "ours"
    FOREIGN = "foreign"
    UNANCHORED = "unanchored"
    TAKEN = "taken"
    ROLLED_BACK = "rolled-back"
    FORKED = "forked"


@dataclass(frozen=True)
class Opening:
    """A `ledger-opened/1` entry and the `ledger-key/1` entries that follow up to the next.

    Attributes:
        acts: the entries (index, leaf hash) that say so: the one that opened it, and those that replaced a key, each in its place.
        keys: every key that ever signed for it, oldest first; the last is the current one. Empty: it named none that can sign.
        previous: the origin that it continues.
    """

    acts: tuple[tuple[int, bytes], ...]
    origin: str
    keys: tuple[VerifierKey, ...]
    previous: str | None

    @property
    def index(self) -> int:
        """Of the entry that opened it."""
        return self.acts[0][0]

    @property
    def key(self) -> VerifierKey | None:
        return self.keys[-1] if self.keys else None

    @property
    def signers(self) -> Signers:
        """Each key with the index of the entry that names it; where the opening named none that can sign, there is none."""
        return tuple((index, key) for (index, _), key in zip(self.acts, self.keys, strict=False))


@dataclass(frozen=True)
class Standing:
    """What was found.

    Attributes:
        found: what a sentence for a person begins with; no full stop.
        head: of the journal.
        openings: all of them, oldest first.
        here: those among them that this home opened.
        last: the checkpoint that the journal was held against.
        clock_behind: by how much this machine's clock stands before a time that it said when it signed; None where it does not.
    """

    state: State
    found: str
    head: Head
    openings: tuple[Opening, ...]
    here: tuple[Opening, ...]
    last: Stored | None
    clock_behind: timedelta | None

    @property
    def opening(self) -> Opening | None:
        """The current one."""
        return self.openings[-1] if self.openings else None

    @property
    def origin(self) -> str | None:
        return self.opening.origin if self.opening else None

    @property
    def key(self) -> VerifierKey | None:
        return self.opening.key if self.opening else None


def openings(connection: Connection, head: Head) -> tuple[Opening, ...]:
    """Under which origins the journal was opened, oldest first, from its own bytes.

    Raises:
        LedgerForkedError: one of the entries is not the one under the root.
        LedgerGapError: one of them, or a part of the tree, is not there.
        RecordError: one of them is no record.
    """
    places = select(_opened.c.journal_index).union(select(_key.c.journal_index)).subquery()
    at = places.c.journal_index
    query = select(at).where(at.between(0, head.size - 1)).order_by(at)
    found: list[Opening] = []
    for index in connection.execute(query).scalars():
        entry = _entry(connection, head, index)
        record, act = entry.record, (index, merkle.leaf_hash(entry.data))
        if isinstance(record, LedgerOpened):
            key = signing_key(record.origin, record.key)
            previous = record.previous.origin if record.previous else None
            found.append(Opening((act,), record.origin, (key,) if key else (), previous))
        elif isinstance(record, LedgerKey) and found:
            last = found[-1]
            key = signing_key(record.origin, record.key)
            if key and record.origin == last.origin and takes_over(key, record.replaces, last.keys):
                found[-1] = replace(last, acts=(*last.acts, act), keys=(*last.keys, key))
    return tuple(found)


def judge(
    connection: Connection, head: Head, keys: KeyFolder, store: CheckpointStore, memory: Sequence[Stored]
) -> Standing:
    """Hold the journal against the home.

    Args:
        connection: its transaction sees one moment, or holds the lock on the head.
        head: of the journal in that transaction.
        memory: `store.latest_of_each()` from before the transaction first looked: what was signed then is in the journal now.

    Raises:
        VerificationError: the journal's own bytes do not say who signs it; see `openings`.
        KeyFileError, CheckpointStoreError: the home cannot be looked at.
    """
    opened = openings(connection, head)
    latest = {stored.origin: stored for stored in memory}
    acts = store.acts()
    here = tuple(opening for opening in opened if opening.acts[0] in acts)
    newest = memory[-1] if memory else None
    if not opened and newest is None:
        state, found, last = State.FRESH, "Nothing was signed yet", None
    elif opened and not here:
        # Whatever it says of itself: it has to continue what this home signed.
        last = newest
        contradiction = _contradiction(connection, head, last) if last else None
        state, found = contradiction or _not_here(opened[-1], keys, newest)
    elif newest is not None and newest.origin not in _accounted_for(opened, here):
        last = newest
        state, found = _contradiction(connection, head, newest) or _unlisted(newest)
    else:
        last = latest.get(here[-1].origin)
        contradiction = _contradiction(connection, head, last) if last else None
        taken = None if contradiction else _taken(opened, acts)
        state, found = contradiction or taken or _signer(connection, head, opened[-1], last, keys, store)
    times = store.latest_time()
    behind = times - now() if times is not None and times > now() else None
    return Standing(state, found, head, opened, here, last, behind)


def _contradiction(connection: Connection, head: Head, last: Stored) -> tuple[State, str] | None:
    if head.size < last.size:
        has = f"has {head.size} entries" if head.size else "is empty"
        return (
            State.ROLLED_BACK,
            f"The journal {has}, and this home signed {last.origin} at {last.size} entries: the database is older than that",
        )
    if tiles.root(DatabaseTree(connection), last.size) != last.root:
        return (
            State.FORKED,
            f"The first {last.size} of the {head.size} entries in the journal are not those that this home signed as "
            f"{last.origin}: some were changed, or this is another ledger",
        )
    return None


def _not_here(current: Opening, keys: KeyFolder, newest: Stored | None) -> tuple[State, str]:
    """A journal that nothing here remembers having opened."""
    if current.key is not None and keys.has(current.key):
        return State.UNANCHORED, _lost(current)
    knows = f", which knows {newest.origin}" if newest else ""
    return State.FOREIGN, f"The key of {current.origin} is not in this home{knows}"


def _lost(current: Opening) -> str:
    return f"The key of {current.origin} is in this home, and the checkpoints that were signed with it are not"


def _taken(opened: Sequence[Opening], acts: Set[tuple[int, bytes]]) -> tuple[State, str] | None:
    """The first entry after this home's last act that says who signs, and is not this home's."""
    made = [(act, opening) for opening in opened for act in opening.acts]
    own = max(index for (index, leaf), _ in made if (index, leaf) in acts)
    for (index, _), opening in made:
        if index > own:
            return (
                State.TAKEN,
                f"Entry {index}, which this home did not make, has {opening.origin} signed with the key {opening.key}",
            )
    return None


def _signer(
    connection: Connection, head: Head, current: Opening, last: Stored | None, keys: KeyFolder, store: CheckpointStore
) -> tuple[State, str]:
    """Whose turn it is to sign a journal that nothing here contradicts."""
    if current.key is None or not keys.has(current.key):
        return State.FOREIGN, f"The current key of {current.origin} is not in this home"
    if last is None and newest(connection, current.origin, current.signers) is not None:
        return State.UNANCHORED, _lost(current)
    signed = f"{last.size} of {head.size} entries" if last else "nothing yet"
    return State.OURS, f"Signed here as {current.origin}: {signed}"


def _unlisted(newest: Stored) -> NoReturn:
    raise LedgerGapError(
        f"The tables do not say where the journal was opened as {newest.origin}; run `traceai ledger verify`, which names the row "
        "that is missing."
    )


def require_writable(found: Standing) -> None:
    """
    Raises:
        LedgerRolledBackError, LedgerForkedError: the journal contradicts what this home signed.
    """
    remedy = "restore the right backup, or open a new origin on the record with `traceai ledger open --reason ...`."
    if found.state is State.ROLLED_BACK:
        raise LedgerRolledBackError(f"{found.found}; {remedy}")
    if found.state is State.FORKED:
        raise LedgerForkedError(f"{found.found}; {remedy}")


def require_untaken(found: Standing) -> None:
    """
    Raises:
        LedgerTakenError: somebody else signs a ledger that this home signed.
    """
    if found.state is State.TAKEN:
        raise LedgerTakenError(
            f"{found.found}; where that was agreed, sign and prove from the home that has this key; where it was not, open a new "
            "origin on the record with `traceai ledger open --reason ...`."
        )


def require_signable(found: Standing) -> Opening:
    """The current opening, whose current key is in this home.

    Raises:
        LedgerRolledBackError, LedgerForkedError: as `require_writable`.
        LedgerTakenError: somebody else opened it anew, or changed its key, since.
        LedgerForeignError: the key is elsewhere.
        CheckpointStoreError: the key is here, and what it signed is not.
    """
    require_writable(found)
    if found.state is State.UNANCHORED:
        raise CheckpointStoreError(
            f"{found.found}; restore checkpoints.db from your backup, or open a new origin with `traceai ledger open --reason ...`."
        )
    require_untaken(found)
    if found.state is not State.OURS or found.opening is None:
        raise LedgerForeignError(
            f"{found.found}; sign where it is, restore its file, or open a new origin with `traceai ledger open --reason ...`."
        )
    return found.opening


def _entry(connection: Connection, head: Head, index: int) -> Entry:
    tree = DatabaseTree(connection)
    data = tree.entry(index)
    proof = tiles.inclusion_proof(tree, index, head.size)
    try:
        merkle.verify_inclusion(merkle.leaf_hash(data), index, head.size, proof, head.root)
    except VerificationError as error:
        raise LedgerForkedError(
            f"Entry {index}, which says who signs this ledger, is not the one under the root of {head.size} entries; run `traceai "
            "ledger verify`."
        ) from error
    return Entry.parse(data)


def _accounted_for(opened: Sequence[Opening], here: Sequence[Opening]) -> set[str]:
    """The origins that the journal answers for. What it continues counts only where this home said so."""
    return {opening.origin for opening in opened} | {opening.previous for opening in here if opening.previous}
