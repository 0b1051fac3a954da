"""Change what is append-only, for a moment that nobody sees: who may, who has to wait, and how the triggers come back.

All of it is one transaction. Whatever ends it early leaves the triggers as they were.
"""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import psycopg
from psycopg import sql
from sqlalchemy import Engine
from sqlalchemy.exc import IntegrityError
from sqlmodel import SQLModel

from traceai.db import migrate, protection, roles
from traceai.db.protection import EXTEND, ROW_TRIGGER, Catalog, names
from traceai.db.tables import EVIDENCE, Journal, LedgerHead, Station, TreeNode
from traceai.errors import ConflictError, DatabaseRefusedError, SchemaError
from traceai.ledger.log import PARTITION

# In the order in which an append locks them.
_ORDERING: tuple[type[SQLModel], ...] = (Station, LedgerHead)
_CHANGED: tuple[type[SQLModel], ...] = (Journal, TreeNode, *EVIDENCE)


@dataclass(frozen=True)
class Rights:
    """As whom the tables are changed (None: as whoever is connected), and in which schema they lie."""

    role: str | None
    schema: str


def require(engine: Engine) -> Rights:
    """The rights to lift what protects the tables. On a hardened database they are the owner's, and no superuser's.

    Raises:
        DatabaseRefusedError: whoever is connected does not have them.
    """
    with migrate.looking(engine) as catalog:
        schema, login = catalog.schema, catalog.rows("SELECT current_user")[0][0]
        foreign = catalog.rows(
            "SELECT DISTINCT pg_get_userbyid(c.relowner) FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace"
            " WHERE n.nspname = %(schema)s AND c.relname = ANY(%(tables)s) AND NOT pg_has_role(c.relowner, 'USAGE') ORDER BY 1",
            {"schema": schema, "tables": names((*_ORDERING, *_CHANGED))},
        )
    with engine.connect() as connection:
        role = roles.migration_role(connection)
    if foreign and role is None:
        owner = ", ".join(name for (name,) in foreign)
        raise DatabaseRefusedError(
            f"Only the owner of the tables can lift what keeps them append-only, and {login} is not; connect as a superuser, or as "
            f"a member of {owner}."
        )
    return Rights(role, schema)


def enter(connection: psycopg.Connection[Any], rights: Rights) -> Catalog:
    """Begin the transaction: as the owner, with the tables kept from every writer until it ends. Readers go on.

    Locks come in the order in which an append takes them, and before anything is looked at: what a repeatable-read transaction
    sees from here on is what nobody else changes.

    Raises:
        ConflictError: somebody holds one of the tables for longer than `roles.PATIENCE`.
    """
    run = connection.execute
    if rights.role is not None:
        run(sql.SQL("SET LOCAL ROLE {}").format(sql.Identifier(rights.role)))
    run(sql.SQL("SET LOCAL lock_timeout = {}").format(roles.PATIENCE))
    for tables, mode in ((_ORDERING, "EXCLUSIVE"), (_CHANGED, "SHARE ROW EXCLUSIVE")):
        listed = sql.SQL(", ").join(sql.Identifier(rights.schema, name) for name in names(tables))
        run(sql.SQL("LOCK TABLE {} IN {} MODE").format(listed, sql.SQL(mode)))
    catalog = Catalog(connection)
    # What is called from here on is the schema's own, or the server's.
    run(sql.SQL("SET LOCAL search_path TO {}, pg_temp").format(sql.Identifier(rights.schema)))
    return catalog


@contextmanager
def lifted(catalog: Catalog, tables: Iterable[str]) -> Iterator[None]:
    """Rows of `tables` can be changed and deleted in the block. After it every table is protected as this release protects it.

    Raises:
        ConflictError: at the end, a row names another that is gone.
        SchemaError: the protection could not be put back as it has to be.
    """
    run = catalog.connection.execute
    for relation in protection.carrying(catalog, ROW_TRIGGER, tables):
        run(sql.SQL("ALTER TABLE {} DISABLE TRIGGER {}").format(relation.identifier, sql.Identifier(ROW_TRIGGER)))
    run("SET CONSTRAINTS ALL DEFERRED")
    yield
    run("SET CONSTRAINTS ALL IMMEDIATE")
    for finding in protection.triggers(catalog):
        for statement in finding.cure:
            run(statement)
    if left := protection.triggers(catalog):
        raise SchemaError(f"The tables cannot be protected again ({left[0].says}); run `traceai db check`.")


def extend(catalog: Catalog, tables: Sequence[str]) -> list[tuple[str, int]]:
    """Make the partitions of `tables` that are missing. Returns the table and the first ledger index of each.

    Raises:
        SchemaError: one of them could not be made.
    """
    made = [(table, first) for table, first in protection.missing_partitions(catalog) if table in tables]
    for _, first in made:
        catalog.connection.execute(sql.SQL("SELECT {}({})").format(catalog.identifier(EXTEND), first))
    for table, first in protection.missing_partitions(catalog):
        if table in tables:
            raise SchemaError(
                f"There is no partition of {table} for ledger index {first} to {first + PARTITION - 1}, and a table of its name "
                "stands in the way; attach that again, or rename it."
            )
    return made


@contextmanager
def refusals() -> Iterator[None]:
    """Turn what can go wrong in such a transaction into this house's errors."""
    try:
        yield
    except (psycopg.errors.LockNotAvailable, psycopg.errors.DeadlockDetected) as error:
        raise ConflictError(
            f"Others are using the tables ({_said(error)}); try again when the line stands still."
        ) from error
    except (psycopg.IntegrityError, IntegrityError) as error:
        said = _said(error.orig if isinstance(error, IntegrityError) and error.orig else error)
        raise ConflictError(
            f"The tables do not take what the journal says ({said}); put that right by hand, and try again."
        ) from error


def _said(error: BaseException) -> str:
    return str(error).strip().splitlines()[0]
