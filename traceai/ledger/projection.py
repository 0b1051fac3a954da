"""What a journal entry looks like in the tables: the one mapping behind append, verify and rebuild.

It is read off the records themselves. A field's type says what its column holds; an object inside a record becomes columns
with a prefix. Nothing is left out, the salt included, so a row can be written back as its entry's bytes (`ledger.readback`).
"""

import enum
import types
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from functools import cache
from itertools import groupby
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from pydantic import BaseModel
from pydantic.types import StringConstraints

from traceai.db import tables
from traceai.ledger import records
from traceai.ledger.entry import Entry
from traceai.ledger.records import Record

Columns = dict[str, Any]
Row = tuple[type[tables.Evidence], Columns]


class Kind(enum.Enum):
    """What a column holds, and so how a field's value gets into it."""

    TEXT = enum.auto()
    INTEGER = enum.auto()
    BOOLEAN = enum.auto()
    NUMBER = enum.auto()
    BYTES = enum.auto()
    UUID = enum.auto()
    TIME = enum.auto()
    JSON = enum.auto()


@dataclass(frozen=True)
class Leaf:
    """One value of a record and its column. `path`: from the record to the value."""

    path: tuple[str, ...]
    column: str
    kind: Kind
    nullable: bool
    hint: Any


@dataclass(frozen=True)
class Branch:
    """An object in a record."""

    name: str
    parts: tuple["Leaf | Branch", ...]
    nullable: bool


TABLES: dict[type[Record], type[tables.Evidence]] = {
    records.Inspection: tables.Inspection,
    records.InspectionFailed: tables.Inspection,
    records.Runtime: tables.Runtime,
    records.DatasetSnapshot: tables.DatasetSnapshot,
    records.ModelVersion: tables.ModelVersion,
    records.ModelEvent: tables.ModelEvent,
    records.ModelRefused: tables.ModelRefused,
    records.ModelExport: tables.ModelExport,
    records.Review: tables.Review,
    records.ReportIssued: tables.ReportIssued,
    records.LedgerOpened: tables.LedgerOpened,
    records.LedgerKey: tables.LedgerKey,
    records.WitnessPolicy: tables.WitnessPolicy,
    records.TablesRebuilt: tables.TablesRebuilt,
    records.Gap: tables.Gap,
    records.ExplanationQuality: tables.ExplanationQuality,
}
_PREFIXES = {"part": "", "operating_point": ""}
_RENAMED = {"image_pixel_sha256": "pixel_sha256"}
# The table of model versions is about its model: there the name needs no prefix.
_UNPREFIXED: dict[tuple[type[Record], str], str] = {
    (records.ModelVersion, f"model_{name}"): name for name in ("name", "version", "digest")
}
_KINDS: tuple[tuple[Any, Kind], ...] = (
    (records.Id, Kind.UUID),
    (records.Digest, Kind.BYTES),
    (records.Timestamp, Kind.TIME),
    (records.DecimalString, Kind.NUMBER),
    (get_type_hints(Record, include_extras=True)["salt"], Kind.BYTES),
)
# What a value of a record becomes in Python; the other kinds stay as they are.
_VALUES: dict[Kind, Callable[[Any], Any]] = {
    Kind.NUMBER: Decimal,
    Kind.BYTES: bytes.fromhex,
    Kind.UUID: uuid.UUID,
    Kind.TIME: datetime.fromisoformat,  # a record holds no other times than canonical ones
}


def project(index: int, entry: Entry) -> Row:
    """The table and the column values that stand for entry number `index`."""
    record_type = type(entry.record)
    return TABLES[record_type], dict(
        zip(columns(record_type), (index, *values(record_type, entry.fields)), strict=True)
    )


@cache
def columns(record_type: type[Record]) -> tuple[str, ...]:
    """The columns that a record fills: its place, which is known last, and then those of `values`."""
    return ("journal_index", "recorded_at", *(leaf.column for leaf in leaves(record_type)))


def values(record_type: type[Record], fields: dict[str, Any]) -> list[Any]:
    """What the row of an entry with the JSON value `fields` holds, its `journal_index` aside, in the order of `columns`."""
    found: list[Any] = [_VALUES[Kind.TIME](fields["recorded_at"])]
    for path, run in runs(record_type):
        there: Any = fields
        for name in path:
            there = there and there[name]
        for leaf in run:
            value = there and there[leaf.path[-1]]
            into = None if value is None else _VALUES.get(leaf.kind)
            found.append(into(value) if into else value)
    return found


@cache
def runs(record_type: type[Record]) -> tuple[tuple[tuple[str, ...], tuple[Leaf, ...]], ...]:
    """The values in the order of their columns, those of one object that stand beside each other together, behind its path."""
    return tuple((path, tuple(run)) for path, run in groupby(leaves(record_type), key=lambda leaf: leaf.path[:-1]))


@cache
def shape(record_type: type[Record]) -> Branch:
    """The record as a tree of its fields, in the order of its class, without `schema` and `recorded_at`."""
    return Branch("", tuple(_parts(record_type, record_type, (), "")), nullable=False)


@cache
def leaves(record_type: type[Record]) -> tuple[Leaf, ...]:
    def walk(branch: Branch) -> Iterator[Leaf]:
        for part in branch.parts:
            if isinstance(part, Leaf):
                yield part
            else:
                yield from walk(part)

    return tuple(walk(shape(record_type)))


def without_null(hint: Any) -> tuple[Any, bool]:
    """A field's type without `| None`, and whether it had it."""
    if get_origin(hint) in (Union, types.UnionType):
        (kind,) = (part for part in get_args(hint) if part is not type(None))
        return kind, True
    return hint, False


def _parts(
    record_type: type[Record], model: type[BaseModel], path: tuple[str, ...], prefix: str
) -> Iterator[Leaf | Branch]:
    hints = get_type_hints(model, include_extras=True)
    for name in model.model_fields:
        kind, nullable = without_null(hints[name])
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            inner = tuple(_parts(record_type, kind, (*path, name), _PREFIXES.get(name, f"{name}_")))
            yield Branch(name, inner, nullable)
        else:
            yield Leaf((*path, name), _column(record_type, prefix + name), _kind(kind), nullable, kind)


def _column(record_type: type[Record], name: str) -> str:
    return _UNPREFIXED.get((record_type, name)) or _RENAMED.get(name, name)


def _kind(hint: Any) -> Kind:
    for known, kind in _KINDS:
        if hint == known:
            return kind
    if hint is bool:
        return Kind.BOOLEAN
    if get_origin(hint) in (dict, list):
        return Kind.JSON
    if get_origin(hint) is Literal or any(isinstance(m, StringConstraints) for m in getattr(hint, "__metadata__", ())):
        return Kind.TEXT
    return Kind.INTEGER


def readable(value: Any) -> str:
    """A column value as a person would want it named in a finding."""
    if value is None:
        return "no value"
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, datetime):
        return value.isoformat()
    return str(value)
