"""Who may inspect while the database is away: whoever this process let in when it last answered, and nobody else.

A line that posts its images goes on, its decisions wait in the spool, and so does what the access log has to say of them. Nothing
but inspecting is allowed like this, and no longer than `LASTS`.
"""

import hashlib
import threading
import time
from uuid import UUID

from sqlalchemy.dialects.postgresql import insert

from traceai.access import GRANTS, Permission, Principal
from traceai.db.connection import Database
from traceai.db.tables import AccessFields, AccessLog
from traceai.inspection.recording.spool import Spool

# Seconds since the database said so.
LASTS = 12 * 3600


class Asked(AccessFields):
    """A line of the access log: a table's own class checks nothing."""

    id: UUID


class Remembered:
    """The memory of one service. Threads share it."""

    def __init__(self, spool: Spool) -> None:
        self._spool = spool
        self._lock = threading.Lock()
        self._known: dict[bytes, tuple[Principal, float]] = {}
        # How often something was kept, and how much of that is entered. An earlier process may have left some.
        self._kept, self._entered = 1, 0

    def confirm(self, token: str, principal: Principal | None) -> None:
        """The database says that this is the token of `principal`, or nobody's."""
        with self._lock:
            if principal is not None and Permission.INSPECT in GRANTS[principal.role]:
                self._known[_digest(token)] = principal, time.monotonic()
            else:
                self._known.pop(_digest(token), None)

    def recall(self, token: str) -> Principal | None:
        """Whose token it was when the database last said so."""
        with self._lock:
            found = self._known.get(_digest(token))
        return found[0] if found and time.monotonic() - found[1] < LASTS else None

    def keep(self, asked: Asked) -> None:
        """Write down on this machine's disk who asked, until the database takes it.

        Raises:
            SpoolError: that cannot be kept, so nobody is let in.
        """
        self._spool.keep_access(asked.model_dump_json().encode())
        with self._lock:
            self._kept += 1

    def settle(self, database: Database) -> None:
        """Enter in the access log what was kept, now that the database takes it. A crash half-way enters nothing twice.

        Raises:
            UnavailableError: not now; it stays kept.
        """
        with self._lock:
            before = self._kept
        if before == self._entered:
            return
        kept = self._spool.accesses()
        if kept:
            with database.session() as session:
                for _, asked in kept:
                    row = Asked.model_validate_json(asked).model_dump()
                    session.execute(insert(AccessLog).values(row).on_conflict_do_nothing())
            self._spool.forget_accesses(kept[-1][0])
        self._entered = before


def _digest(token: str) -> bytes:
    return hashlib.sha256(token.encode()).digest()
