"""Open a database: find the server, say clearly what is wrong with it, hand out sessions."""

import atexit
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import psycopg
import sqlalchemy
from sqlalchemy import Engine, event
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import (
    ArgumentError,
    DataError,
    DBAPIError,
    IntegrityError,
    OperationalError,
    ProgrammingError,
)
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from sqlmodel import Session

from traceai.db import migrate
from traceai.db.embedded import EmbeddedServer
from traceai.errors import (
    ConflictError,
    DatabaseRefusedError,
    DatabaseUnavailableError,
    InputError,
    SchemaError,
    SettingsError,
)  # fmt: skip
from traceai.ledger import canonical
from traceai.settings import Settings

OLDEST_SERVER = 15


class _NoAnswerError(DatabaseUnavailableError):
    """The server may be back in a moment, as one that is too old may not."""


class Database:
    """One PostgreSQL, embedded or yours. Close it, or use it as a context manager."""

    def __init__(self, engine: Engine, embedded: EmbeddedServer | None) -> None:
        self.engine = engine
        self.embedded = embedded
        atexit.register(self.close)

    @classmethod
    def open(cls, settings: Settings, *, check_schema: bool = True, may_be_away: bool = False) -> "Database":
        """Connect, and make sure that the schema is the one this release was written for.

        A brand-new embedded database is given its schema here; every other one waits for `traceai db upgrade`.

        may_be_away: open one of yours that does not answer all the same. Whatever is asked of it raises DatabaseUnavailableError.

        Raises:
            SettingsError: the URL is not one of a PostgreSQL.
            DatabaseUnavailableError: no server answers, or it is older than PostgreSQL 15.
            DatabaseRefusedError: wrong password, unknown role or unknown database, or a role that may not even look.
            SchemaError: the schema is missing, older or newer.
        """
        embedded = None
        if settings.database_url is None:
            embedded = EmbeddedServer(settings.ensure_home())
            url = embedded.acquire()
        else:
            url = settings.database_url
        database = cls(create_engine(url), embedded)
        try:
            database._greet()
            if check_schema:
                with translated():
                    if embedded is not None and migrate.is_empty(database.engine):
                        migrate.upgrade(database.engine)
                    migrate.require_current(database.engine)
        except _NoAnswerError:
            if not may_be_away or embedded is not None:
                database.close()
                raise
        except BaseException:
            database.close()
            raise
        return database

    @contextmanager
    def session(self) -> Iterator[Session]:
        """One transaction: committed at the end of the block, rolled back when the block raises."""
        with translated(), Session(self.engine, expire_on_commit=False) as session, session.begin():
            yield session

    @contextmanager
    def moment(self) -> Iterator[Session]:
        """A read-only session in which everything is of one moment, whatever others write meanwhile."""
        options = {"isolation_level": "REPEATABLE READ", "postgresql_readonly": True}
        with (
            translated(),
            self.engine.connect().execution_options(**options) as connection,
            connection.begin(),
            Session(connection, expire_on_commit=False) as session,
        ):
            yield session

    def revive(self) -> None:
        """Start the embedded server again where it died under us. One that somebody stopped stays stopped.

        Raises:
            DatabaseUnavailableError: it does not start.
        """
        if self.embedded is not None:
            self.embedded.revive()

    @property
    def url(self) -> str:
        """The URL for psql and other tools, password included."""
        return self.engine.url.set(drivername="postgresql").render_as_string(hide_password=False)

    def close(self) -> None:
        atexit.unregister(self.close)
        self.engine.dispose()
        if self.embedded is not None:
            self.embedded.release()

    def __enter__(self) -> "Database":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _greet(self) -> None:
        with translated(), self.engine.connect() as connection:
            version = connection.dialect.server_version_info
        if version is None or int(version[0]) < OLDEST_SERVER:
            raise DatabaseUnavailableError(
                f"This server is PostgreSQL {version[0] if version else '?'}; traceai needs {OLDEST_SERVER} or later."
            )


class _Impatient(psycopg.Connection[Any]):
    """A connection on which nothing is waited for longer than `patience` seconds, whatever became of the server or the way to it.

    After `OperationalError` it is good for nothing but to be closed. What the server makes of what it was sent stays open.
    """

    patience: float

    def wait(self, gen: Any, interval: float = 0.1, timeout: float | None = None) -> Any:
        try:
            return super().wait(gen, interval, self.patience if timeout is None else timeout)
        except psycopg.errors._WaitTimeout as error:
            self.pgconn.finish()  # or whatever is asked of it next, a ROLLBACK first, would be waited for as well
            raise psycopg.OperationalError(f"no answer within {self.patience:g} seconds") from error


def create_engine(url: str, patience: float | None = None) -> Engine:
    """An engine on psycopg 3, in UTC, for any `postgres://` or `postgresql://` URL.

    Args:
        patience: seconds after which a statement is given up, by the server and, where that does not answer, by us; None: never.

    Raises:
        SettingsError: `url` is malformed or names another database system.
    """
    try:
        parsed: URL = make_url(url)
    except (ArgumentError, ValueError) as error:
        raise SettingsError(
            "TRACEAI_DATABASE_URL is not a URL; write it as postgresql://user:password@host:5432/database."
        ) from error
    if parsed.drivername.partition("+")[0] not in {"postgresql", "postgres"}:
        raise SettingsError(
            f"TRACEAI_DATABASE_URL names {parsed.drivername}, but traceai keeps evidence in PostgreSQL only."
        )
    options: dict[str, Any] = {"pool_pre_ping": True, "connect_args": {"connect_timeout": 10}}
    if patience is not None:
        options = {"creator": lambda: _connect(parsed, patience)}
    engine = sqlalchemy.create_engine(
        parsed.set(drivername="postgresql+psycopg"),
        # JSON columns hold the text that stands in the entry, so that a row can be written back byte for byte.
        json_serializer=lambda value: canonical.dumps(value).decode(),
        # It would be looked for with an operator that others could put into a schema of the search path.
        use_native_hstore=False,
        **options,
    )

    @event.listens_for(engine, "connect")
    def _settled(connection: psycopg.Connection[Any], _: object) -> None:
        settle(connection, patience)

    return engine


def _connect(url: URL, patience: float) -> _Impatient:
    plain = url.set(drivername="postgresql").render_as_string(hide_password=False)
    connection: _Impatient = _Impatient.connect(
        plain,
        connect_timeout=max(2, round(patience)),  # libpq takes 1 for 2
        keepalives_idle=5,
        keepalives_interval=2,
        keepalives_count=3,
        tcp_user_timeout=round(patience * 1000),
    )
    connection.patience = patience
    return connection


def settle(connection: psycopg.Connection[Any], patience: float | None = None) -> None:
    """Whatever the database or the role is set to: times in UTC, texts in UTF-8, and no hanging up on who works, or thinks.

    patience: seconds after which the server gives up a statement, and a transaction in which nothing more arrives, with the locks
        that it holds; None: never.
    """
    connection.execute(
        "SET TIME ZONE 'UTC'; SET client_encoding TO 'UTF8'; SET datestyle TO 'ISO'; SET quote_all_identifiers TO off"
    )
    milliseconds = round((patience or 0) * 1000)
    for timeout, value, since in (
        ("statement_timeout", milliseconds, 0),
        ("idle_in_transaction_session_timeout", milliseconds, 0),
        ("idle_session_timeout", 0, 14),
        # After a pipeline of statements PostgreSQL does not count a transaction as idle; a writer's takes one wait for the lock.
        ("transaction_timeout", 3 * milliseconds, 17),
    ):
        if connection.info.server_version >= since * 10_000:
            connection.execute(f"SET {timeout} TO {value}".encode())
    if patience is not None:
        # While it waits for rows of a COPY the server knows no timeout; that nobody is there any more, its own system tells it.
        connection.execute(
            "SET tcp_keepalives_idle TO 5; SET tcp_keepalives_interval TO 2; SET tcp_keepalives_count TO 3"
        )
    connection.commit()


@contextmanager
def translated() -> Iterator[None]:
    """Turn what the server refuses into this house's errors."""
    try:
        yield
    except OperationalError as error:
        raise _translate(error) from error
    except (DataError, UnicodeEncodeError) as error:
        raise _unstorable() from error
    except IntegrityError as error:
        raise _raced() from error
    except ProgrammingError as error:
        raise _misfit(error.orig) from error
    except psycopg.OperationalError as error:  # from the driver itself, where a reader works without the toolkit
        raise DatabaseUnavailableError(f"PostgreSQL stopped answering ({error}); run the command again.") from error
    except psycopg.ProgrammingError as error:
        raise _misfit(error) from error
    except psycopg.DataError as error:
        raise _unstorable() from error
    except psycopg.IntegrityError as error:
        raise _raced() from error
    except (
        DBAPIError,
        PoolTimeoutError,
        psycopg.Error,
    ) as error:  # a standby that only reads, a pool that is exhausted
        said = str(getattr(error, "orig", None) or error).strip().splitlines()[0]
        raise DatabaseUnavailableError(
            f"PostgreSQL does not do this now ({said}); see to it, and try again."
        ) from error


def _unstorable() -> InputError:
    return InputError("A text holds a character that PostgreSQL cannot store; leave it out.")


def _raced() -> ConflictError:
    return ConflictError("Somebody else entered the same thing at the same moment; look again and retry.")


def _misfit(error: BaseException | None) -> Exception:
    state = getattr(error, "sqlstate", None)
    said = str(error).strip().splitlines()[0]
    if state is None:  # libpq itself, before any server was asked
        return SettingsError(f"TRACEAI_DATABASE_URL is not usable: {said}.")
    if state == "42501":
        return DatabaseRefusedError(
            f"PostgreSQL refused this ({said}); connect as a member of a role that may (`traceai db harden` sets them up)."
        )
    return SchemaError(f"The schema is not the one this release knows ({said}); run `traceai db check`.")


# Classes of SQLSTATE that say nothing of what was asked: no connection, no room, an object in use, an operator who intervened.
_PASSING = {"08", "53", "55", "57"}


def _translate(error: OperationalError) -> Exception:
    # libpq tells of every address that it tried, and ends with advice. The last that says how it failed counts; the server's own
    # words end that line. SQLSTATE is not set for failures while connecting.
    lines = str(error.orig or error).strip().splitlines()
    said = next((line for line in reversed(lines) if "failed: " in line), lines[-1])
    reason = said.rpartition("FATAL:")[2].strip()
    if "FATAL:" in said and any(
        word in said
        for word in ("password authentication failed", "does not exist", "no pg_hba.conf entry", "permission")
    ):
        return DatabaseRefusedError(f"PostgreSQL refused the connection ({reason}); check TRACEAI_DATABASE_URL.")
    state = getattr(error.orig, "sqlstate", None)
    if error.connection_invalidated or state is None or state[:2] in _PASSING:
        return _NoAnswerError(f"PostgreSQL does not answer ({reason}); start it or check TRACEAI_DATABASE_URL.")
    return SchemaError(f"PostgreSQL could not do this ({said}); run `traceai db check`.")
