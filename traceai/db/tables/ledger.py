"""The ledger itself: the journal, the tree above it, its head, and its heads as they were signed."""

import uuid
from datetime import datetime

from sqlalchemy import BigInteger, CheckConstraint, Index, LargeBinary, SmallInteger
from sqlmodel import Field, SQLModel

from traceai.db.tables.base import UTC_TIME, PackedEntry


class Journal(SQLModel, table=True):
    """Append-only canonical bytes in ledger order, stored packed (`ledger.packing`)."""

    __tablename__ = "journal"
    __table_args__ = (
        CheckConstraint('"index" >= 0', name="index"),
        CheckConstraint("octet_length(leaf_hash) = 32", name="leaf_hash"),
        {"postgresql_partition_by": 'RANGE ("index")'},
    )

    index: int = Field(primary_key=True, sa_type=BigInteger, sa_column_kwargs={"autoincrement": False})
    entry: bytes = Field(sa_type=PackedEntry)
    leaf_hash: bytes = Field(sa_type=LargeBinary)


class TreeNode(SQLModel, table=True):
    """The hash of a full subtree of 256**level leaves, level 1 and above; level 0 is the journal's leaf hashes.

    Written once, when its last leaf is: tile N of level L is 256 rows, and what a tree of any size needs is here.
    """

    __tablename__ = "tree_node"
    __table_args__ = (
        CheckConstraint("level BETWEEN 1 AND 7", name="level"),
        CheckConstraint('"index" >= 0', name="index"),
        CheckConstraint("octet_length(hash) = 32", name="hash"),
    )

    level: int = Field(primary_key=True, sa_type=SmallInteger, sa_column_kwargs={"autoincrement": False})
    index: int = Field(primary_key=True, sa_type=BigInteger, sa_column_kwargs={"autoincrement": False})
    hash: bytes = Field(sa_type=LargeBinary)


class LedgerHead(SQLModel, table=True):
    """The one row whose lock orders all writers: the size of the journal and the right edge of its tree."""

    __tablename__ = "ledger_head"
    __table_args__ = (
        CheckConstraint("id = 1", name="only_one"),
        CheckConstraint("size >= 0", name="size"),
        CheckConstraint("octet_length(root) = 32", name="root"),
    )

    id: int = Field(default=1, primary_key=True, sa_column_kwargs={"autoincrement": False})
    size: int = Field(sa_type=BigInteger)
    root: bytes = Field(sa_type=LargeBinary)
    frontier: bytes = Field(sa_type=LargeBinary)


class Checkpoint(SQLModel, table=True):
    """A signed tree head, as served. More cosignatures make a new row; of the rows that the log signed, the newest of the greatest
    size is served (`signing.serving`).

    Verification believes the store outside the database, never these, and tells of each that is not the log's.
    """

    __tablename__ = "checkpoint"
    __table_args__ = (Index("ix_checkpoint_size", "size", "created_at"),)

    id: uuid.UUID = Field(primary_key=True)
    origin: str
    size: int = Field(sa_type=BigInteger)
    root: bytes = Field(sa_type=LargeBinary)
    note: str
    created_at: datetime = Field(sa_type=UTC_TIME)
