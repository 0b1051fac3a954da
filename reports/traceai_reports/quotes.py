"""What the journal says. A report quotes it, because its bytes can be proved; the tables only say where to look."""

import uuid
from collections.abc import Iterable, Iterator, Sequence
from typing import TypeVar

from sqlalchemy import select
from sqlmodel import Session

from traceai.db import tables
from traceai.errors import RecordError
from traceai.ledger import records
from traceai.ledger.entry import Entry
from traceai.ledger.merkle import leaf_hash
from traceai.ledger.records import Record
from traceai_reports.content import Unreadable

_journal = tables.table_of(tables.Journal)
_review = tables.table_of(tables.Review)

BATCH = 1000
R = TypeVar("R", bound=Record)


class Quotes:
    """The entries that one report quotes, each read once, within the transaction of `session`.

    An entry is quoted where its bytes have the leaf hash stored with them and are a record that this release knows.
    `unreadable` has the index of every entry that should have been quoted and could not.
    """

    def __init__(self, session: Session) -> None:
        self._session = session
        self._entries: dict[int, Entry | None] = {}
        self._unreadable: set[int] = set()

    @property
    def unreadable(self) -> tuple[int, ...]:
        return tuple(sorted(self._unreadable))

    def read(self, indices: Iterable[int]) -> None:
        """Fetch these in batches, so that quoting each of them asks the database nothing more."""
        wanted = sorted(set(indices) - self._entries.keys())
        self._entries.update(dict.fromkeys(wanted))
        for batch in _batches(wanted):
            for index, data, leaf in self._stored(batch):
                self._entries[index] = _entry(data, leaf)

    def record(self, index: int, kind: type[R]) -> R | Unreadable:
        """The record of entry `index`, where it is one of this kind."""
        self.read([index])
        entry = self._entries[index]
        return entry.record if entry and isinstance(entry.record, kind) else self.refuse(index)

    def attempt(self, index: int) -> records.Inspection | records.InspectionFailed | Unreadable:
        """The decision, or the failed attempt at one, that entry `index` is."""
        self.read([index])
        entry = self._entries[index]
        if entry and isinstance(entry.record, records.Inspection | records.InspectionFailed):
            return entry.record
        return self.refuse(index)

    def refuse(self, index: int) -> Unreadable:
        """Entry `index` should be quoted and cannot be."""
        self._unreadable.add(index)
        return Unreadable(ledger_index=index)

    def reviews(self, decisions: Iterable[str]) -> dict[str, list[tuple[int, records.Review | Unreadable]]]:
        """The reviews of the decisions with these ids: their indices and records, in ledger order.

        A review whose entry names another decision is none of this one's, whatever the table says.
        """
        indices: list[tuple[str, int]] = []
        for batch in _batches(sorted(set(decisions))):
            query = (
                select(_review.c.inspection_id, _review.c.journal_index)
                .where(_review.c.inspection_id.in_([uuid.UUID(decision) for decision in batch]))
                .order_by(_review.c.journal_index)
            )
            indices += [(str(decision), index) for decision, index in self._session.execute(query)]
        self.read(index for _, index in indices)
        found: dict[str, list[tuple[int, records.Review | Unreadable]]] = {}
        for decision, index in indices:
            review = self.record(index, records.Review)
            if isinstance(review, Unreadable) or review.inspection_id == decision:
                found.setdefault(decision, []).append((index, review))
        return found

    def _stored(self, indices: Sequence[int]) -> list[tuple[int, bytes | None, bytes | None]]:
        query = select(_journal.c["index"], _journal.c.entry, _journal.c.leaf_hash).where(
            _journal.c["index"].in_(indices)
        )
        try:
            return [(index, data, leaf) for index, data, leaf in self._session.execute(query)]
        except RecordError:
            # One entry that cannot be unpacked spoils the answer for all that were asked for with it.
            half = len(indices) // 2
            return [*self._stored(indices[:half]), *self._stored(indices[half:])] if half else []


def _entry(data: bytes | None, leaf: bytes | None) -> Entry | None:
    if data is None or leaf_hash(data) != leaf:
        return None
    try:
        return Entry.parse(data)
    except RecordError:
        return None


T = TypeVar("T")


def _batches(wanted: Sequence[T]) -> Iterator[Sequence[T]]:
    return (wanted[start : start + BATCH] for start in range(0, len(wanted), BATCH))
