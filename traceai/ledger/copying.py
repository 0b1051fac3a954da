"""Rows into tables: many by COPY, the fastest way in that PostgreSQL has; a few by INSERT, which takes fewer round trips."""

import struct
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from typing import Any, Self

import psycopg
from psycopg import sql
from psycopg.types.string import BytesBinaryDumper
from sqlalchemy import JSON, BigInteger, Boolean, DateTime, Integer, LargeBinary, Numeric, SmallInteger, String, Uuid
from sqlmodel import SQLModel

from traceai.db.tables import table_of
from traceai.ledger import canonical
from traceai.ledger.lines import Line

# What the values of a column are sent as. JSON is its own text.
_SENT: tuple[tuple[type[Any], str], ...] = (
    (SmallInteger, "int2"), (BigInteger, "int8"), (Integer, "int4"), (Boolean, "bool"), (DateTime, "timestamptz"),
    (LargeBinary, "bytea"), (Numeric, "numeric"), (String, "text"), (Uuid, "uuid"), (JSON, "text"),
)  # fmt: skip


# Up to so many rows go in by INSERT.
FEW = 4


@contextmanager
def together(connection: psycopg.Connection[Any], rows: int) -> Iterator[None]:
    """Have what is written within the block sent in one go where it is `rows` rows or less a table, and those are few.

    Then what PostgreSQL has to say comes at the end of the block.
    """
    if rows > FEW:
        yield
    else:
        with connection.pipeline():
            yield


def copy(
    connection: psycopg.Connection[Any], table: type[SQLModel], columns: Sequence[str], rows: Sequence[Sequence[Any]]
) -> None:
    """Append `rows`, whose values are in the order of `columns`, within the transaction of `connection`.

    Entries of the journal have to be packed (`ledger.packing`). JSON values are written as their canonical text.

    Raises:
        psycopg.Error: what PostgreSQL, or the way to it, has to say.
    """
    way = _way(table, tuple(columns))
    if len(rows) <= FEW:
        connection.cursor().executemany(way.insert, [_sendable(row, way) for row in rows])
        return
    with connection.cursor() as cursor:
        # What is registered for bytea is a wrapper in Python around this one.
        cursor.adapters.register_dumper(bytes, BytesBinaryDumper)
        with cursor.copy(way.copy) as into:
            into.set_types(way.types)
            for row in rows:
                into.write_row(_sendable(row, way))


class Tail(bytes):
    """The columns of a row after the first, all of them bytes, as a binary COPY takes them: each behind its length."""

    __slots__ = ()

    @classmethod
    def of(cls, *values: bytes) -> Self:
        tail = b""
        for value in values:
            tail += _LENGTH.pack(len(value)) + value
        return cls(tail)

    def values(self) -> list[bytes]:
        """`Tail.of(*values).values() == values`."""
        found, start = [], 0
        while start < len(self):
            end = start + 4 + _LENGTH.unpack_from(self, start)[0]
            found.append(self[start + 4 : end])
            start = end
        return found


@dataclass(frozen=True)
class Placed:
    """Rows that were made before their first column was known, an integer of 64 bits, and have it now: ready to be sent.

    few: them, where they go in by INSERT. data: what a COPY reads of them otherwise.
    """

    statement: bytes
    few: Sequence[tuple[int, Line]] | Sequence[tuple[int, Tail]]
    data: bytes

    @classmethod
    def of(
        cls,
        table: type[SQLModel],
        columns: Sequence[str],
        rows: Sequence[tuple[int, Line]] | Sequence[tuple[int, Tail]],
    ) -> Self:
        """columns: of `table`, as the rows were made."""
        way = _way(table, tuple(columns))
        if len(rows) <= FEW:
            return cls(way.insert, rows, b"")
        if isinstance(rows[0][1], Line):
            return cls(way.copy_lines, (), b"".join([b"%d\t%b\n" % row for row in rows]))
        count = len(columns)
        data = _HEADER + b"".join([_FIRST.pack(count, 8, first) + row for first, row in rows]) + _TRAILER
        return cls(way.copy, (), data)

    def send(self, connection: psycopg.Connection[Any]) -> None:
        """Append them, as `copy` does."""
        with self.under_way(connection):
            pass

    @contextmanager
    def under_way(self, connection: psycopg.Connection[Any]) -> Iterator[None]:
        """As `send`, with something else to do meanwhile: the block runs while PostgreSQL takes the last of the rows."""
        with connection.cursor() as cursor:
            if self.data:
                with cursor.copy(self.statement) as into:
                    into.write(self.data)
                    yield
            else:
                cursor.executemany(self.statement, [(first, *row.values()) for first, row in self.few])
                yield


# The file format of PostgreSQL's binary COPY. A row: how many columns it has, and each of them behind its length.
_HEADER, _TRAILER = b"PGCOPY\n\xff\r\n\0" + bytes(8), b"\xff\xff"
_LENGTH, _FIRST = struct.Struct("!i"), struct.Struct("!hiq")


def _sendable(row: Sequence[Any], way: "_Way") -> Sequence[Any]:
    """
    Raises:
        psycopg.DataError: an integer that its column cannot hold; a COPY would cut it down without a word.
    """
    for place in way.integers:
        if row[place] is not None and not -(2**31) <= row[place] < 2**31:
            raise psycopg.errors.NumericValueOutOfRange(f"integer out of range: {row[place]}")
    if way.documents:
        row = list(row)  # the caller's own stays as it is
        for place in way.documents:
            if row[place] is not None:
                row[place] = canonical.dumps(row[place]).decode()
    return row


@dataclass(frozen=True)
class _Way:
    """How to write columns of a table: the statements, what each column is sent as in a COPY, where the JSON columns are, and where
    those of 32-bit integers.
    """

    copy: bytes
    copy_lines: bytes
    insert: bytes
    types: list[str]
    documents: list[int]
    integers: list[int]


@cache
def _way(table: type[SQLModel], columns: tuple[str, ...]) -> _Way:
    kinds = [table_of(table).c[name].type for name in columns]
    into = sql.SQL("{} ({})").format(
        sql.Identifier(str(table.__tablename__)), sql.SQL(", ").join(map(sql.Identifier, columns))
    )
    values = sql.SQL(", ").join([sql.Placeholder()] * len(columns))
    # As bytes: what is composed is put together again each time it is executed.
    return _Way(
        copy=sql.SQL("COPY {} FROM STDIN (FORMAT BINARY)").format(into).as_bytes(),
        copy_lines=sql.SQL("COPY {} FROM STDIN (ENCODING 'UTF8')").format(into).as_bytes(),
        insert=sql.SQL("INSERT INTO {} VALUES ({})").format(into, values).as_bytes(),
        types=[_sent(kind) for kind in kinds],
        documents=[place for place, kind in enumerate(kinds) if isinstance(kind, JSON)],
        integers=[place for place, kind in enumerate(kinds) if _sent(kind) == "int4"],
    )


def _sent(kind: Any) -> str:
    kind = getattr(kind, "impl_instance", kind)  # behind a decorator of ours
    return next(name for known, name in _SENT if isinstance(kind, known))
