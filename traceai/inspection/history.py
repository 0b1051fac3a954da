"""What was decided: search by keyset, and everything that belongs to one decision."""

import base64
import binascii
import uuid
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, TypeVar

from sqlalchemy import ColumnElement, false, select
from sqlmodel import Session

from traceai.db.tables import (
    DatasetSnapshot,
    HeatMap,
    Inspection,
    Journal,
    ModelEvent,
    ModelExport,
    ModelVersion,
    Review,
    Runtime,
    table_of,
)
from traceai.errors import DecisionNotFoundError, InputError, RecordError
from traceai.ledger.entry import Entry

OfVersion = TypeVar("OfVersion", ModelEvent, ModelExport)

LARGEST_PAGE = 1000
VERDICTS = ("pass", "reject", "undecided", "failed")

_table = table_of(Inspection)
_c = _table.c


@dataclass(frozen=True)
class Filter:
    """Every field that is not None narrows the search. `since` is inclusive, `until` exclusive (both UTC-aware)."""

    serial: str | None = None
    lot: str | None = None
    product: str | None = None
    station: str | None = None
    model: str | None = None
    version: int | None = None
    verdict: str | None = None
    since: datetime | None = None
    until: datetime | None = None

    def __post_init__(self) -> None:
        if self.verdict is not None and self.verdict not in VERDICTS:
            raise InputError(f"There is no verdict {self.verdict}; choose one of {', '.join(VERDICTS)}.")
        if self.since and self.until and self.since >= self.until:
            raise InputError("The period ends before it begins; give a later end.")

    def conditions(self) -> list[ColumnElement[bool]]:
        """SQL conditions on `inspection`."""
        equal = {
            _c.serial: self.serial,
            _c.lot: self.lot,
            _c.product: self.product,
            _c.station: self.station,
            _c.model_name: self.model,
            _c.model_version: self.version,
        }
        found: list[ColumnElement[bool]] = [column == value for column, value in equal.items() if value is not None]
        if self.verdict == "failed":
            found.append(_c.failure_code.is_not(None))
        elif self.verdict is not None:
            found.append(_c.verdict == self.verdict)
        if self.since is not None:
            found.append(_c.occurred_at >= self.since)
        if self.until is not None:
            found.append(_c.occurred_at < self.until)
        return found

    def describe(self) -> dict[str, Any]:
        """The fields that narrow, as JSON values: the scope of a report."""
        values = {name: getattr(self, name) for name in self.__dataclass_fields__}
        return {
            name: value.isoformat() if isinstance(value, datetime) else value
            for name, value in values.items()
            if value is not None
        }


@dataclass(frozen=True)
class Page:
    """Newest first. `next` is opaque; None on the last page."""

    rows: Sequence[Inspection]
    next: str | None


def search(session: Session, wanted: Filter, *, limit: int = 50, after: str | None = None) -> Page:
    """One page by keyset: as fast on page ten thousand as on the first, and unmoved by what is recorded meanwhile.

    Raises:
        InputError: `after` is not a token that an earlier page gave, or `limit` is out of range.
    """
    if not 1 <= limit <= LARGEST_PAGE:
        raise InputError(f"A page has 1 to {LARGEST_PAGE} decisions; ask for fewer.")
    query = select(Inspection).where(*wanted.conditions()).order_by(_c.journal_index.desc()).limit(limit + 1)
    if after is not None:
        query = query.where(_c.journal_index < position(after))
    rows = session.execute(query).scalars().all()
    more = len(rows) > limit
    return Page(rows[:limit], token(rows[limit - 1].journal_index) if more else None)


def find(session: Session, reference: str) -> Inspection:
    """A decision by its id, or by its ledger index.

    Raises:
        DecisionNotFoundError: there is none.
        RecordError: there are two.
    """
    row: Inspection | None
    if reference.isascii() and reference.isdigit() and len(reference) < 19:
        row = session.get(Inspection, int(reference))
    else:
        try:
            named = select(Inspection).where(_c.id == uuid.UUID(reference))
        except ValueError:
            named = select(Inspection).where(false())
        rows = session.execute(named.limit(2)).scalars().all()
        if len(rows) > 1:
            raise RecordError(
                f"Ledger entries {rows[0].journal_index} and {rows[1].journal_index} both claim the id {reference}; name one "
                "by its ledger index, and run `traceai ledger verify`."
            )
        row = rows[0] if rows else None
    if row is None:
        raise DecisionNotFoundError(f"There is no decision {reference}; `traceai decision list` shows those there are.")
    return row


def on_record(session: Session, references: Collection[str]) -> set[str]:
    """Which of these ids are those of decisions."""
    named = select(_c.id).where(_c.id.in_([uuid.UUID(reference) for reference in references]))
    return {str(reference) for reference in session.execute(named).scalars()}


def entries(session: Session, rows: Sequence[Inspection]) -> list[tuple[Inspection, Journal]]:
    """Each row with the journal entry it is the index of."""
    found = session.execute(
        select(Journal).where(Journal.index.in_([row.journal_index for row in rows]))  # type: ignore[attr-defined]
    ).scalars()
    by_index = {entry.index: entry for entry in found}
    for row in rows:
        if row.journal_index not in by_index:
            raise _gone(row)
    return [(row, by_index[row.journal_index]) for row in rows]


def _gone(row: Inspection) -> RecordError:
    return RecordError(f"Journal entry {row.journal_index} of decision {row.id} is gone; run `traceai ledger verify`.")


@dataclass(frozen=True)
class Dossier:
    """One decision with all that it stands on, as stored now. `export`: the file that made it, where one did."""

    row: Inspection
    entry: Entry
    leaf_hash: bytes
    grid: bytes | None
    model: ModelVersion | None
    events: Sequence[ModelEvent]
    snapshot: DatasetSnapshot | None
    runtime: Runtime | None
    export: ModelExport | None
    reviews: Sequence[Review]

    def standing(self, action: str) -> ModelEvent | None:
        """The last `action` on the model version that preceded this decision in the ledger."""
        before = [e for e in self.events if e.action == action and e.journal_index < self.row.journal_index]
        return before[-1] if before else None


def dossier(session: Session, row: Inspection) -> Dossier:
    journal = session.get(Journal, row.journal_index)
    if journal is None:
        raise _gone(row)
    grid = session.get(HeatMap, row.journal_index)
    model, snapshot = model_and_snapshot(session, row.model_name, row.model_version)
    runtime = None
    if row.runtime:
        query = select(Runtime).where(Runtime.digest == row.runtime)  # type: ignore[arg-type]  # a column expression
        runtime = session.execute(query).scalar_one_or_none()
    # Of a table that may have been altered.
    environment = runtime.environment if runtime else None
    ran = environment.get("export") if isinstance(environment, dict) else None
    exports = model_exports(session, row.model_name, row.model_version) if ran else ()
    return Dossier(
        row=row,
        entry=Entry.parse(journal.entry),
        leaf_hash=journal.leaf_hash,
        grid=grid.grid if grid else None,
        model=model,
        events=model_events(session, row.model_name, row.model_version),
        snapshot=snapshot,
        runtime=runtime,
        export=next((export for export in exports if export.sha256.hex() == ran), None),
        reviews=session.execute(
            select(Review).where(Review.inspection_id == row.id).order_by(Review.journal_index)  # type: ignore[arg-type]
        )
        .scalars()
        .all(),
    )


def model_and_snapshot(session: Session, name: str, version: int) -> tuple[ModelVersion | None, DatasetSnapshot | None]:
    """A version and the data it was trained on, where they are on record."""
    model = session.execute(
        select(ModelVersion).where(
            ModelVersion.name == name,  # type: ignore[arg-type]  # a column expression
            ModelVersion.version == version,  # type: ignore[arg-type]
        )
    ).scalar_one_or_none()
    if model is None or model.snapshot_digest is None:
        return model, None
    snapshot = session.execute(
        select(DatasetSnapshot).where(
            DatasetSnapshot.name == model.snapshot_name,
            DatasetSnapshot.digest == model.snapshot_digest,
        )
    ).scalar_one_or_none()
    return model, snapshot


def model_events(session: Session, name: str, version: int) -> Sequence[ModelEvent]:
    """The life of a version so far, in ledger order."""
    return _of_version(session, ModelEvent, name, version)


def model_exports(session: Session, name: str, version: int) -> Sequence[ModelExport]:
    """The files that a version was written as, in ledger order."""
    return _of_version(session, ModelExport, name, version)


def _of_version(session: Session, table: type[OfVersion], name: str, version: int) -> Sequence[OfVersion]:
    c = table_of(table).c
    query = select(table).where(c.model_name == name, c.model_version == version).order_by(c.journal_index)
    return session.execute(query).scalars().all()


def token(journal_index: int, kind: str = "d") -> str:
    """Where the next page begins: `position(token(n, k), k) == n`. `kind`: one letter, for one list alone."""
    return base64.urlsafe_b64encode(f"{kind}{journal_index}".encode()).decode().rstrip("=")


def position(token: str, kind: str = "d") -> int:
    """Raises:
    InputError: not a token of this list.
    """
    try:
        text = base64.urlsafe_b64decode(token + "=" * (-len(token) % 4)).decode("ascii")
    except (binascii.Error, UnicodeDecodeError, ValueError):
        text = ""
    if not (text.startswith(kind) and text[1:].isdigit() and len(text) < 20):
        raise InputError("`after` is not a position that this list gave out; start again from the first page.")
    return int(text[1:])
