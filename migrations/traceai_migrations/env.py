"""The Alembic environment: one transaction a migration, one migrator at a time, and no waiting for ever."""

import re

from alembic import context
from sqlalchemy import text
from sqlmodel import SQLModel

from traceai.db import roles
from traceai.db.connection import create_engine
from traceai.db.migrate import ADVISORY_LOCK
from traceai.settings import Settings

# Partitions are made as the ledger grows; the metadata knows their parents.
PARTITION = re.compile(r"_p[0-9]+$")


def run() -> None:
    engine = context.config.attributes.get("engine")
    if engine is None:
        url = Settings.from_environment().database_url
        if url is None:
            raise SystemExit("Set TRACEAI_DATABASE_URL (see `traceai db url`) before you call alembic yourself.")
        engine = create_engine(url)
    with engine.connect() as connection:
        connection.execute(text("SET lock_timeout = '10s'"))
        connection.execute(text("SET statement_timeout = '10min'"))
        connection.execute(text("SELECT pg_advisory_lock(:key)"), {"key": ADVISORY_LOCK})
        # Where the database is hardened, what a migration makes belongs to the owner and not to whoever migrates.
        if owner := roles.migration_role(connection):
            connection.execute(text(f"SET ROLE {owner}"))
        connection.commit()
        try:
            context.configure(
                connection=connection,
                target_metadata=SQLModel.metadata,
                transaction_per_migration=True,
                compare_type=True,
                compare_server_default=True,
                include_name=lambda name, kind, _: kind != "table" or not PARTITION.search(name or ""),
            )
            with context.begin_transaction():
                context.run_migrations()
        finally:
            connection.execute(text("SELECT pg_advisory_unlock(:key)"), {"key": ADVISORY_LOCK})
            # The connection goes back to a pool, whose next user is another and has other patience.
            connection.execute(text("RESET ROLE"))
            connection.execute(text("RESET lock_timeout"))
            connection.execute(text("RESET statement_timeout"))
            connection.commit()


run()
