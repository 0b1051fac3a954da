"""Rows into tables by binary COPY, the fastest way in that PostgreSQL has."""

from collections.abc import Iterable, Sequence
from functools import cache
from typing import Any

import psycopg
from psycopg import sql
from sqlalchemy import JSON, BigInteger, Boolean, DateTime, Integer, LargeBinary, Numeric, SmallInteger, String, Uuid
from sqlmodel import SQLModel

from traceai.ledger import canonical

# What the values of a column are sent as. JSON is its own text.
_SENT: tuple[tuple[type[Any], str], ...] = (
    (SmallInteger, "int2"), (BigInteger, "int8"), (Integer, "int4"), (Boolean, "bool"), (DateTime, "timestamptz"),
    (LargeBinary, "bytea"), (Numeric, "numeric"), (String, "text"), (Uuid, "uuid"), (JSON, "text"),
)  # fmt: skip


def copy(
    connection: psycopg.Connection[Any], table: type[SQLModel], columns: Sequence[str], rows: Iterable[Sequence[Any]]
) -> None:
    """Append `rows`, whose values are in the order of `columns`, within the transaction of `connection`.

    Entries of the journal have to be packed (`ledger.packing`). JSON values are written as their canonical text.

    Raises:
        psycopg.Error: what PostgreSQL, or the way to it, has to say.
    """
    statement, types, documents = _copying(table, tuple(columns))
    with connection.cursor() as cursor, cursor.copy(statement) as into:
        into.set_types(types)
        for row in rows:
            if documents:
                row = list(row)  # noqa: PLW2901  # the caller's own stays as it is
                for place in documents:
                    if row[place] is not None:
                        row[place] = canonical.dumps(row[place]).decode()
            into.write_row(row)


@cache
def _copying(table: type[SQLModel], columns: tuple[str, ...]) -> tuple[sql.Composed, list[str], list[int]]:
    """The statement, what each column is sent as, and where the JSON columns are."""
    kinds = [table.__table__.c[name].type for name in columns]  # type: ignore[attr-defined]  # set by SQLAlchemy
    statement = sql.SQL("COPY {} ({}) FROM STDIN (FORMAT BINARY)").format(
        sql.Identifier(str(table.__tablename__)), sql.SQL(", ").join(map(sql.Identifier, columns))
    )
    return statement, [_sent(kind) for kind in kinds], [n for n, kind in enumerate(kinds) if isinstance(kind, JSON)]


def _sent(kind: Any) -> str:
    kind = getattr(kind, "impl_instance", kind)  # behind a decorator of ours
    return next(name for known, name in _SENT if isinstance(kind, known))
