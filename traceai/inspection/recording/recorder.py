"""The recorder: drafts from any number of threads, in the order in which they came, into the ledger or onto the disk.

One thread commits groups of whatever arrived meanwhile. When the database does not take a group, it goes into the spool, and so
does everything after it until the forwarder has delivered all that waits: a station's decisions keep their order. Whoever submits
waits where the queue is full, so memory stays bounded whatever the database does.

What became of a group is never guessed. A group that may have been committed is written again with its ids looked for, behind the
same lock that the first attempt held or still holds.
"""

import logging
import socket
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import datetime
from pathlib import Path

from traceai.clock import now
from traceai.db.connection import Database, create_engine
from traceai.errors import (
    RecordError,
    RecordRefusedError,
    SpoolError,
    TraceaiError,
    UnavailableError,
    VerificationError,
)
from traceai.inspection.recording.answers import Answer, give
from traceai.inspection.recording.draft import Draft, Spooled
from traceai.inspection.recording.forwarder import Forwarder
from traceai.inspection.recording.losses import Losses
from traceai.inspection.recording.spool import Spool
from traceai.inspection.recording.writer import Outcome, Writer

_log = logging.getLogger(__name__)

# Drafts that wait in memory; a draft takes a few kilobytes.
CAPACITY = 4096
# Drafts a transaction. Beyond this the cost of the commit is spread thin enough, and others want their turn.
GROUP = 1024
# Seconds after which a database that does not answer counts as away.
PATIENCE = 5.0
MINUTE = 60.0
# Seconds between two looks at the spool, into which other processes of this home write as well.
LOOK = 2.0


class Recorder:
    """Records for one process. Threads share it; it begins to work with the first draft. Close it."""

    def __init__(
        self,
        database: Database,
        home: Path,
        *,
        patience: float = PATIENCE,
        capacity: int = CAPACITY,
        group: int = GROUP,
        beside: Callable[[], None] = lambda: None,
    ) -> None:
        """
        Args:
            patience: seconds after which a database that does not answer counts as away.
            capacity, group: drafts that wait in memory, and drafts a transaction.
            beside: called every minute while decisions are recorded, and at the end, in a thread that nobody waits for.

        Attributes:
            database: the same database, with the same patience, for whoever may not wait longer either.
        """
        self.database = Database(create_engine(database.url, patience), None)
        self.spool = Spool(home)
        self.actor = f"recorder on {socket.gethostname()}"[:200]
        self._database, self._patience, self._capacity, self._group = database, patience, capacity, group
        self._beside = beside
        self._writer = Writer(database, patience)
        self._queue: deque[Answer] = deque()
        self._changed, self._given = threading.Condition(), threading.Condition()
        self._closing = False
        self._thread: threading.Thread | None = None
        self._minder: threading.Thread | None = None
        self._ended = threading.Event()
        self._losses = Losses()
        # Drafts whose senders were told that nothing could keep them, and which may be on record all the same.
        self._open: list[Draft] = []
        # Whether drafts go into the spool. Set by the committer, unset by the forwarder once nothing waits; both hold the spool.
        self._spooling = False
        self._forwarder = Forwarder(database, self.spool, Writer(database, patience), self.actor, self._caught_up)

    @property
    def audit(self) -> dict[str, float]:
        """The probability with which passes are drawn, by station, as the database last said."""
        return self._writer.audit

    def start(self) -> None:
        """Deliver what an earlier process left in the spool, before anything is submitted here."""
        with self._changed:
            self._start()

    def _start(self) -> None:
        if self._closing:
            raise UnavailableError("The recorder is closed; open the ledger again.")
        if self._thread is None or not self._thread.is_alive():
            self._thread = threading.Thread(target=self._run, name="traceai-recorder", daemon=True)
            self._thread.start()
        if self._minder is None:
            self._minder = threading.Thread(target=self._mind, name="traceai-minder", daemon=True)
            self._minder.start()

    def submit(self, draft: Draft) -> Answer:
        """Have `draft` recorded after everything that was submitted before. Waits while the queue is full.

        Returns:
            What becomes of it: Recorded after the commit, Spooled once it is on this machine's disk, or the error for which it
            is neither: SpoolError where nothing could keep it, and otherwise why the ledger can never take it.
        """
        answer = Answer(draft, self._given)
        with self._changed:
            self._start()
            while len(self._queue) >= self._capacity:
                self._changed.wait()
                self._start()  # it may have been closed meanwhile, and then nobody would come for this
            self._queue.append(answer)
            if len(self._queue) == 1:  # otherwise nobody waits for it
                self._changed.notify_all()
        return answer

    def deliver(self) -> int:
        """Write what waits in the spool into the ledger now, in this thread. Returns how many records that were.

        Raises:
            UnavailableError, VerificationError: the database does not take them, the spool cannot be used, or another process is
                delivering.
        """
        return self._forwarder.deliver()

    def close(self) -> None:
        """Record or spool what was submitted, and let go of database and spool. What is spooled stays so, if need be."""
        with self._changed:
            self._closing = True
            self._changed.notify_all()
            thread = self._thread
        if thread is not None:
            thread.join()
        self._ended.set()
        if self._minder is not None:
            self._minder.join()
        self._forwarder.stop(self._patience)
        self._writer.close()
        self.database.close()
        self.spool.close()

    # --- the committer --------------------------------------------------------------------------------------------

    def _run(self) -> None:
        # What an earlier process left behind comes first, if the database takes it now.
        if self._look():
            self._forwarder.caught_up.wait(self._patience)
        while group := self._take():
            self._settle(group)
        if self._losses.drafts(self.actor) or self._open:
            self._settle([])

    def _mind(self) -> None:
        last = time.monotonic()
        while not self._ended.wait(LOOK):
            if not self._spooling:
                self._look()
            if time.monotonic() - last > MINUTE:
                last = time.monotonic()
                self._tell()
        self._tell()

    def _look(self) -> bool:
        """Whether something waits in the spool, whoever put it there; then everything goes behind it until it is delivered."""
        try:
            with self.spool.held():
                if self.spool.empty:
                    return False
                self._spooling = True
        except SpoolError as error:
            _log.warning("%s", error.message)
            return False
        self._forwarder.start()
        return True

    def _tell(self) -> None:
        try:
            self._beside()
        except Exception as error:  # noqa: BLE001  # it is no evidence, and recording goes on
            _log.debug("not told: %r", error)

    def _take(self) -> list[Answer]:
        """Whatever arrived, up to a group of it; nothing once the recorder is closed and empty."""
        with self._changed:
            self._changed.wait_for(lambda: self._queue or self._closing)
            full = len(self._queue) >= self._capacity  # then somebody may wait for room
            group = [self._queue.popleft() for _ in range(min(self._group, len(self._queue)))]
            if full:
                self._changed.notify_all()
        return group

    def _settle(self, group: Sequence[Answer]) -> None:
        """Record or spool a group and answer it; nobody waits for good, whatever happens."""
        try:
            give(self._given, zip(group, self._outcomes(group), strict=True))
        except BaseException as error:
            lost = SpoolError(
                f"The recorder failed ({error!r}), and whether this was recorded is open; ask again with the same id."
            )
            give(self._given, [(answer, lost) for answer in group if not answer.done()])
            if not isinstance(error, Exception):
                raise
            _log.exception("The recorder failed")

    def _outcomes(self, group: Sequence[Answer]) -> Sequence[Outcome | Spooled]:
        self._writer.open = False
        drafts = [answer.draft for answer in group]
        first = [*self._losses.drafts(self.actor), *self._open]
        outcomes: Sequence[Outcome | Spooled]
        try:
            outcomes = self._record([*first, *drafts])
        except Exception as error:  # noqa: BLE001  # whoever waits has to be told, whatever it was
            if not isinstance(error, UnavailableError | VerificationError):
                _log.exception("The recorder failed")
                error = UnavailableError(f"The recorder failed ({error!r}); the part is not on record.")
            if self._writer.open:
                # The commit was asked for, and no answer came: it may be on record, and is offered again until that is known.
                error = SpoolError(f"Whether this was recorded is open; ask again with the same id. {error.cause}")
                self._open += [replace(draft, named=True) for draft in drafts]
                self._losses.freeze()
            else:
                self._losses.add(drafts, error)
            outcomes = [error] * len(group)
        else:
            self._losses.clear()
            self._open.clear()
            outcomes = outcomes[len(first) :]
            self._set_aside(drafts, outcomes)
        return outcomes

    def _set_aside(self, drafts: Sequence[Draft], outcomes: Sequence[Outcome | Spooled]) -> None:
        """Keep what the ledger can never take, and tell it so with the next group."""
        for draft, outcome in zip(drafts, outcomes, strict=True):
            if isinstance(outcome, _NEVER):
                self._losses.add([draft], outcome)
                try:
                    self.spool.set_aside(draft, outcome)
                except SpoolError as error:
                    _log.error("%s", error.message)

    def _record(self, drafts: Sequence[Draft]) -> Sequence[Outcome | Spooled]:
        """
        Raises:
            UnavailableError, VerificationError: neither the database nor the spool took them.
        """
        began, error = now(), None
        if not self._spooling:
            try:
                return self._write(drafts)
            except (UnavailableError, VerificationError) as refusal:
                error = refusal
        return self._keep(drafts, began, error)

    def _write(self, drafts: Sequence[Draft]) -> list[Outcome]:
        began = time.monotonic()
        try:
            return self._writer.write(drafts)
        except UnavailableError:
            if time.monotonic() - began > self._patience / 2:
                raise
            # A server that was restarted hangs up on us, and takes the next connection.
            return self._writer.write(drafts, again=True)

    def _keep(
        self, drafts: Sequence[Draft], began: datetime, error: TraceaiError | None
    ) -> Sequence[Outcome | Spooled]:
        try:
            with self.spool.held():
                # The last that waited may have been delivered while we waited for the spool.
                caught_up = error is None and not self._spooling
                kept = [] if caught_up else self.spool.put(drafts, began, error or _BEHIND)
                self._spooling = not caught_up
        except SpoolError as full:
            _log.error("%s", full.message)
            try:
                return self._writer.write(drafts, again=True)
            except (UnavailableError, VerificationError) as refusal:
                raise SpoolError(f"{full.message} ({refusal.message})") from refusal
        if caught_up:
            return self._record(drafts)
        if error is not None:
            _log.warning("Recording goes into the spool: %s", error.message)
        self._forwarder.start()
        return kept

    def _caught_up(self) -> bool:
        """Asked by the forwarder when nothing waits: whether drafts go to the database again from here on."""
        with self.spool.held():
            if not self.spool.empty:
                return False
            if self._spooling:
                _log.warning("Everything that waited in the spool is in the ledger.")
            self._spooling = False
            return True


# Of what the ledger can never take, whoever offers it.
_NEVER = (RecordError, RecordRefusedError)
_BEHIND = UnavailableError("Decisions were recorded behind others that waited.")
