"""`traceai.connect()`: the three lines that put an inspection on record."""

import getpass
import os
from typing import TYPE_CHECKING

from traceai.clock import now
from traceai.db.connection import Database
from traceai.db.tables import Station
from traceai.errors import AlreadyExistsError, InputError
from traceai.images.blobs import BlobStore
from traceai.inspection.inspector import Inspector
from traceai.ledger.records import ModelRef
from traceai.settings import Settings

if TYPE_CHECKING:  # torch takes seconds to import
    from traceai.inspection.engine import Engine

DEFAULT_PASS_AUDIT = 0.05


class Trace:
    """An open connection to the ledger and the blob store. Close it, or use it as a context manager."""

    def __init__(self, settings: Settings, database: Database, blobs: BlobStore) -> None:
        self.settings, self.database, self.blobs = settings, database, blobs
        # Loaded networks by digest: a digest never means another network, so there is nothing to invalidate.
        self._engines: dict[bytes, Engine] = {}

    def inspector(self, model: str, station: str, actor: str | None = None) -> Inspector:
        """An inspector for `NAME` (its active version) or `NAME@V` at a station.

        Raises:
            ModelNotFoundError, ModelStateError: no such version, or not one to inspect with.
            ModelTamperedError: its files are not what was registered; the refusal is recorded.
            StationNotFoundError: no such station.
        """
        from traceai.inspection.engine import Engine  # noqa: PLC0415  # imports torch, which auditors do not need
        from traceai.models import registry  # noqa: PLC0415

        with self.database.session() as session:
            row = registry.find(session, model)
            registry.require_usable(session, row)
        if row.digest not in self._engines:
            loaded = registry.load(self.database, self.blobs, row, actor=actor or operator())
            self._engines[row.digest] = Engine(loaded)
        reference = ModelRef(name=row.name, version=row.version, digest=row.digest.hex())
        return Inspector(self.database, self.blobs, self._engines[row.digest], reference, station)

    def add_station(self, name: str, *, audit_pass_probability: float = DEFAULT_PASS_AUDIT) -> None:
        """Add a place on the line, and the probability with which its passes are drawn for blind verification.

        Raises:
            AlreadyExistsError: the name is taken.
            InputError: the probability is not in (0, 1]: without verified passes no miss rate can be estimated.
        """
        if not 0 < audit_pass_probability <= 1:
            raise InputError(
                f"The audit probability {audit_pass_probability} is not above 0 and at most 1; without verified passes no "
                "miss rate can be estimated."
            )
        if not name.strip() or not name.isprintable() or len(name) > 200:
            raise InputError("A station needs a printable name of at most 200 characters.")
        with self.database.session() as session:
            if session.get(Station, name) is not None:
                raise AlreadyExistsError(f"There is a station {name} already; choose another name.")
            session.add(Station(name=name, audit_pass_probability=audit_pass_probability, created_at=now()))

    def close(self) -> None:
        self.database.close()

    def __enter__(self) -> "Trace":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def connect(settings: Settings | None = None) -> Trace:
    """Open the database and the blob store that the environment names (`TRACEAI_HOME` and the others).

    Raises:
        SettingsError, UnavailableError: see `Database.open`.
    """
    settings = settings or Settings.from_environment()
    if settings.blobs is None:
        settings.ensure_home()
    blobs = BlobStore(settings.blobs_url)
    return Trace(settings, Database.open(settings), blobs)


def operator() -> str:
    """Who runs this process, as the operating system knows them: the `actor` where nobody else is named."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return f"uid {os.getuid()}"
