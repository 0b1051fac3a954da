"""An entry's row as PostgreSQL reads it: a line of a text COPY, made before the entry has its place.

A line is made for every decision while a line of parts waits, so it takes as few steps as there are kinds of values: the members
are read object by object, and what can need an escape is looked at in one piece.
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from operator import itemgetter
from typing import Any

from traceai.errors import RecordError
from traceai.ledger.projection import Branch, Kind, leaves, runs, shape
from traceai.ledger.records import Record

_NULL = "\\N"
_ESCAPES = {"\\": "\\\\", "\t": "\\t", "\n": "\\n", "\r": "\\r"}
_TABLE, _BACK, _ESCAPE = str.maketrans(_ESCAPES), {text: sign for sign, text in _ESCAPES.items()}, re.compile(r"\\.")
# What a member of an entry becomes in the line; the other kinds stay as they are.
_TEXTS: dict[Kind, Callable[[Any], str]] = {
    Kind.INTEGER: int.__repr__,
    Kind.BOOLEAN: bool.__repr__,
    Kind.BYTES: "\\\\x".__add__,
    Kind.JSON: bytes.decode,
}
# What can need an escape; the patterns of the other kinds leave no room for it.
_FREE = (Kind.TEXT, Kind.JSON)


class Line(bytes):
    """A row but for its first column: values with tabs between them."""

    __slots__ = ()

    def values(self) -> list[str | None]:
        """What PostgreSQL makes of it, each in the text that it reads as a value of its column."""
        return [None if text == _NULL else _ESCAPE.sub(_unescaped, text) for text in self.decode().split("\t")]


def line(record_type: type[Record], fields: dict[str, Any]) -> Line:
    """The row of an entry with the members `fields` (`entry.fields_of`), its values in the order of `projection.values`.

    Raises:
        RecordError: a value of another type than its field has, which no validated record holds.
    """
    way = _way(record_type)
    values: list[Any] = []
    try:
        for name, read, nothing in way.runs:
            if name is None:
                values += read(fields)
            else:
                members = fields[name]
                values += nothing if members is None else read(members)
        for place, into in way.conversions:
            if (value := values[place]) is not None:
                values[place] = into(value)
        free = "".join([value for place in way.free if (value := values[place])])
        if "\\" in free or "\t" in free or "\n" in free or "\r" in free:
            for place in way.free:
                values[place] = values[place] and values[place].translate(_TABLE)
        for place in way.nullable:
            if values[place] is None:
                values[place] = _NULL
        return Line("\t".join(values).encode())
    except (TypeError, AttributeError) as error:
        raise RecordError(
            f"A value of this {record_type.schema_name} record is not of its field's type: {error}."
        ) from error


@dataclass(frozen=True)
class _Way:
    """How the members of an entry become the values of its row.

    runs: the object (None for the entry itself), what reads some of its members, and what stands where it is null. conversions:
    the places of the values that are no text, and what makes them text. free, nullable: the places of those that can need an
    escape, and of those that can be null.
    """

    runs: tuple[tuple[str | None, Callable[[dict[str, Any]], tuple[Any, ...]], tuple[None, ...]], ...]
    conversions: tuple[tuple[int, Callable[[Any], str]], ...]
    free: tuple[int, ...]
    nullable: tuple[int, ...]


@cache
def _way(record_type: type[Record]) -> _Way:
    absent = {part.name for part in shape(record_type).parts if isinstance(part, Branch) and part.nullable}
    found = list(enumerate(leaves(record_type), start=1))
    return _Way(
        (
            (None, _reader(["recorded_at"]), ()),
            *(
                (path[0] if path else None, _reader([leaf.path[-1] for leaf in run]), (None,) * len(run))
                for path, run in runs(record_type)
            ),
        ),
        tuple((place, _TEXTS[leaf.kind]) for place, leaf in found if leaf.kind in _TEXTS),
        tuple(place for place, leaf in found if leaf.kind in _FREE),
        tuple(place for place, leaf in found if leaf.nullable or leaf.path[0] in absent),
    )


def _reader(names: Sequence[str]) -> Callable[[dict[str, Any]], tuple[Any, ...]]:
    read = itemgetter(*names)
    return read if len(names) > 1 else lambda members: (read(members),)


def _unescaped(found: re.Match[str]) -> str:
    return _BACK[found[0]]
