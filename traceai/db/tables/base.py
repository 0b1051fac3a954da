"""What all tables share: names of constraints, types of columns, and what every row of evidence has."""

import uuid
from datetime import datetime
from typing import Any

from sqlalchemy import BigInteger, DateTime, LargeBinary, MetaData, Numeric, Table
from sqlalchemy.types import TypeDecorator
from sqlmodel import Field, SQLModel

from traceai.ledger.packing import pack, unpack

SQLModel.metadata.naming_convention = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "ck": "ck_%(table_name)s_%(constraint_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s",
        "pk": "pk_%(table_name)s",
    }
).naming_convention

UTC_TIME = DateTime(timezone=True)
# A decimal string as it was recorded, its trailing zeros included; read as a float.
DECIMAL = Numeric(asdecimal=False)


def table_of(model: type[SQLModel]) -> Table:
    """The table of a `table=True` class, as SQLAlchemy Core takes it."""
    table: Table = model.__table__  # type: ignore[attr-defined]  # set by SQLAlchemy, and unknown to SQLModel's types
    return table


class PackedEntry(TypeDecorator[bytes]):
    """A column of journal entries, packed on the way in and unpacked on the way out.

    Reading raises RecordError where the stored bytes are no packed entry.
    """

    impl = LargeBinary
    cache_ok = True

    def process_bind_param(self, value: bytes | None, dialect: Any) -> bytes | None:
        return None if value is None else pack(value)

    def process_result_value(self, value: bytes | None, dialect: Any) -> bytes | None:
        return None if value is None else unpack(value)


class Evidence(SQLModel):
    """What every row has that a journal entry stands behind: one row an entry."""

    id: uuid.UUID = Field(primary_key=True)
    journal_index: int = Field(sa_type=BigInteger, unique=True)
    occurred_at: datetime = Field(sa_type=UTC_TIME)
    recorded_at: datetime = Field(sa_type=UTC_TIME)
    salt: bytes = Field(sa_type=LargeBinary)
