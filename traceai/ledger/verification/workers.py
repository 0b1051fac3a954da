"""The other processes that verify spans: each sees the same moment of the database as the one that asks."""

from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from typing import Any

import psycopg

from traceai.ledger.verification import spans
from traceai.ledger.verification.server import look_in_the_catalog_first
from traceai.ledger.verification.spans import Span

# Where a span begins and ends, and the sizes at which the tree is wanted.
Stretch = tuple[int, int, tuple[int, ...]]

_shared: dict[str, psycopg.Connection[Any]] = {}


def join(url: str, snapshot: str) -> None:
    """Look at the same moment of the database as the process that asks."""
    connection = psycopg.connect(url)
    connection.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
    connection.execute("SET TIME ZONE 'UTC'")
    connection.commit()
    connection.execute(psycopg.sql.SQL("SET TRANSACTION SNAPSHOT {}").format(snapshot))
    look_in_the_catalog_first(connection)
    _shared["connection"] = connection


def work(stretch: Stretch) -> Span:
    return spans.verify_span(_shared["connection"], *stretch)


@contextmanager
def no_stragglers(pool: ProcessPoolExecutor) -> Iterator[None]:
    """Whoever stops early, for an error or an interrupt, waits for no work that nobody wants."""
    try:
        yield
    except BaseException:
        pool.shutdown(wait=False, cancel_futures=True)
        raise
