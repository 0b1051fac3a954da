"""What a database superuser can do who knows the ledger by heart: rewrite it so that nothing in it contradicts itself."""

from collections.abc import Callable
from unittest.mock import patch

import psycopg
from sqlmodel import Session

from traceai.clock import parse_timestamp
from traceai.db.connection import create_engine
from traceai.db.tables import EVIDENCE
from traceai.ledger import log, merkle
from traceai.ledger.entry import Entry
from traceai.ledger.records import Record
from traceai.ledger.tree import DatabaseTree

Alter = Callable[[Record], Record]


def rewrite(url: str, index: int, alter: Alter) -> None:
    """Put another entry at `index`, and make entries, leaf hashes, tables, tree and head agree with it."""
    reenter(url, lambda records: [alter(record) if at == index else record for at, record in enumerate(records)])


def reenter(url: str, make: Callable[[list[Record]], list[Record]]) -> None:
    """Have other entries in all places, and leaf hashes, tables, tree and head agree with them.

    Times stay what they were. Afterwards every trigger is in force again, as if nothing had happened.
    """
    engine = create_engine(url)  # an engine that nobody guards
    with Session(engine) as session:
        size = log.read_head(session).size
        entries = [Entry.parse(data) for data in DatabaseTree(session.connection()).entries(0, size)]
    with psycopg.connect(url, autocommit=True) as connection:
        names = [name for (name,) in connection.execute("SELECT tablename FROM pg_tables WHERE schemaname = 'public'")]
        triggers = connection.execute(
            "SELECT tgrelid::regclass::text, tgname, tgenabled FROM pg_trigger WHERE NOT tgisinternal"
        ).fetchall()
        for name in names:
            connection.execute(f'ALTER TABLE "{name}" DISABLE TRIGGER USER')
        emptied = [row.__tablename__ for row in EVIDENCE]
        # An origin is opened twice in some of what follows.
        for constraint in ("uq_ledger_opened_origin", "pk_ledger_opened"):
            connection.execute(f"ALTER TABLE ledger_opened DROP CONSTRAINT IF EXISTS {constraint}")
        connection.execute(f"TRUNCATE journal, tree_node, checkpoint, {', '.join(emptied)} CASCADE")
        connection.execute(
            "UPDATE ledger_head SET size = 0, root = %s, frontier = %s", (merkle.EMPTY_ROOT, b"")
        )  # fmt: skip
    times = [entry.recorded_at for entry in entries]
    for number, record in enumerate(make([entry.record for entry in entries])):
        at = times[min(number, len(times) - 1)]
        with patch.object(log, "now", lambda at=at: parse_timestamp(at)), Session(engine) as session:
            log.append(session, [record])
            session.commit()
    with psycopg.connect(url, autocommit=True) as connection:
        for table, trigger, enabled in triggers:
            how = {"A": "ENABLE ALWAYS", "R": "ENABLE REPLICA", "D": "DISABLE"}.get(enabled, "ENABLE")
            connection.execute(f'ALTER TABLE {table} {how} TRIGGER "{trigger}"')
    engine.dispose()
