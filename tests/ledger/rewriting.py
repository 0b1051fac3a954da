"""What a database superuser can do who knows the ledger by heart: rewrite it so that nothing in it contradicts itself."""

from collections.abc import Callable
from unittest.mock import patch

import psycopg
from sqlmodel import Session

from traceai.clock import parse_timestamp
from traceai.db.connection import create_engine
from traceai.db.tables import EVIDENCE
from traceai.ledger import log, merkle
from traceai.ledger.records import Entry, Record
from traceai.ledger.tree import DatabaseTree

Alter = Callable[[Record], Record]


def rewrite(url: str, index: int, alter: Alter) -> None:
    """Put another entry at `index`, and make entries, leaf hashes, tables, tree and head agree with it.

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
        connection.execute(f"TRUNCATE journal, tree_node, checkpoint, {', '.join(emptied)} CASCADE")
        connection.execute(
            "UPDATE ledger_head SET size = 0, root = %s, frontier = %s", (merkle.EMPTY_ROOT, b"")
        )  # fmt: skip
    for number, entry in enumerate(entries):
        record = alter(entry.record) if number == index else entry.record
        with patch.object(log, "now", lambda at=entry.recorded_at: parse_timestamp(at)), Session(engine) as session:
            log.append(session, [record])
            session.commit()
    with psycopg.connect(url, autocommit=True) as connection:
        for table, trigger, enabled in triggers:
            how = {"A": "ENABLE ALWAYS", "R": "ENABLE REPLICA", "D": "DISABLE"}.get(enabled, "ENABLE")
            connection.execute(f'ALTER TABLE {table} {how} TRIGGER "{trigger}"')
    engine.dispose()
