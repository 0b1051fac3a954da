"""The other processes that verify spans: each sees the same moment of the database as the one that asks."""

from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from functools import cache
from typing import Any

import psycopg

from traceai.db.connection import settle
from traceai.errors import DatabaseUnavailableError, UnavailableError
from traceai.ledger.verification import spans
from traceai.ledger.verification.server import look_in_the_catalog_first
from traceai.ledger.verification.spans import Span

# Where a span begins and ends, and the sizes at which the tree is wanted.
Stretch = tuple[int, int, tuple[int, ...]]


@cache
def _joined(url: str, snapshot: str) -> psycopg.Connection[Any]:
    """This process's connection, which sees the same moment of the database as the process that asks."""
    connection = None
    try:
        connection = psycopg.connect(url, connect_timeout=10)
        connection.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
        settle(connection)
        connection.execute(psycopg.sql.SQL("SET TRANSACTION SNAPSHOT {}").format(snapshot))
    except psycopg.Error as error:
        if connection is not None:
            connection.close()
        said = str(error).strip().splitlines()[0]
        raise DatabaseUnavailableError(
            f"A process that verifies gets no connection that sees the same moment ({said}); give it one, or run it with "
            "`--workers 1`."
        ) from error
    look_in_the_catalog_first(connection)
    return connection


def work(url: str, snapshot: str, stretch: Stretch) -> Span:
    """Raises:
    DatabaseUnavailableError: this process gets no connection, or none that sees the same moment.
    """
    return spans.verify_span(_joined(url, snapshot), *stretch)


@contextmanager
def no_stragglers(pool: ProcessPoolExecutor) -> Iterator[None]:
    """Whoever stops early, for an error or an interrupt, waits for no work that nobody wants.

    Raises:
        UnavailableError: a process was killed.
    """
    try:
        yield
    except BrokenProcessPool as error:
        raise UnavailableError(
            "One of the processes that verify was ended from outside, perhaps for want of memory; run it with `--workers 1`."
        ) from error
    except BaseException:
        pool.shutdown(wait=False, cancel_futures=True)
        raise
