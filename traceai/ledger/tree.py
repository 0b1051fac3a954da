"""The tree as it lies in the database: what proofs and tiles are made of."""

from collections.abc import Sequence

from sqlalchemy import Connection, Table, select

from traceai.db import tables
from traceai.errors import LedgerGapError

_journal: Table = tables.Journal.__table__  # type: ignore[attr-defined]  # set by SQLAlchemy
_LEAVES = (
    """SELECT string_agg(leaf_hash, ''::bytea ORDER BY "index") FROM journal"""
    """ WHERE "index" >= %(start)s AND "index" < %(stop)s"""
)
_NODES = (
    """SELECT string_agg(hash, ''::bytea ORDER BY "index") FROM tree_node"""
    """ WHERE level = %(level)s AND "index" >= %(start)s AND "index" < %(stop)s"""
)


class DatabaseTree:
    """A `tiles.TreeReader` over the journal, within the transaction of `connection`.

    It hands out what is stored. That the stored hashes are those of the entries is for verification to say.
    """

    def __init__(self, connection: Connection) -> None:
        self.connection = connection

    def hashes(self, level: int, start: int, stop: int) -> Sequence[bytes]:
        """The hashes (32 bytes each) of the full subtrees of 256**level leaves, number `start` to `stop` - 1.

        Raises:
            LedgerGapError: one of them is not there.
        """
        # One value for all of them: a row each would cost more than the hashes.
        joined = self.connection.exec_driver_sql(
            _LEAVES if level == 0 else _NODES, {"level": level, "start": start, "stop": stop}
        ).scalar_one()
        found = joined or b""
        if len(found) != 32 * (stop - start):
            raise LedgerGapError(
                f"The tree has {len(found) // 32} of the {stop - start} hashes from {start} at level {level}; run "
                "`traceai ledger verify`."
            )
        return [found[at : at + 32] for at in range(0, len(found), 32)]

    def entries(self, start: int, stop: int) -> list[bytes]:
        """The bytes of the entries `start` to `stop` - 1.

        Raises:
            LedgerGapError: one of them is not there.
        """
        query = (
            select(_journal.c.entry)
            .where(_journal.c.index >= start, _journal.c.index < stop)
            .order_by(_journal.c.index)
        )
        found = list(self.connection.execute(query).scalars())
        if len(found) != stop - start:
            raise LedgerGapError(
                f"The journal has {len(found)} of the {stop - start} entries from {start}; run `traceai ledger verify`."
            )
        return found

    def entry(self, index: int) -> bytes:
        return self.entries(index, index + 1)[0]
