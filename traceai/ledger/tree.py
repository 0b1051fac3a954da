"""The tree as it lies in the database: what proofs and tiles are made of."""

from collections.abc import Sequence

from sqlalchemy import Connection, select

from traceai.db import tables
from traceai.errors import LedgerGapError
from traceai.ledger.tlog.tiles import Run

_journal = tables.table_of(tables.Journal)
# One value for all hashes of a run: a row each would cost more than the hashes.
_LEAVES = (
    """(SELECT string_agg(leaf_hash, ''::bytea ORDER BY "index") FROM journal"""
    """ WHERE "index" >= {start} AND "index" < {stop})"""
)
_NODES = (
    """(SELECT string_agg(hash, ''::bytea ORDER BY "index") FROM tree_node"""
    """ WHERE level = {level} AND "index" >= {start} AND "index" < {stop})"""
)


class DatabaseTree:
    """A `tiles.TreeReader` over the journal, within the transaction of `connection`.

    It hands out what is stored. That the stored hashes are those of the entries is for verification to say.
    """

    def __init__(self, connection: Connection) -> None:
        self.connection = connection

    def hashes(self, runs: Sequence[Run]) -> list[list[bytes]]:
        """The stored hashes of each run, as far as they are there, in one query. Whole numbers alone are written into it."""
        if not runs:
            return []
        columns = ", ".join(
            (_NODES if level else _LEAVES).format(level=int(level), start=int(start), stop=int(stop))
            for level, start, stop in runs
        )
        row = self.connection.exec_driver_sql(f"SELECT {columns}").one()
        return [
            [joined[at : at + 32] for at in range(0, len(joined), 32)] for joined in (found or b"" for found in row)
        ]

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
