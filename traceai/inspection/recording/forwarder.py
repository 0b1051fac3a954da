"""The forwarder: from the spool into the ledger, in order, exactly once in effect.

Write, commit, then delete from the spool. A crash in between leaves a draft that is offered again; the ledger knows its id and
gives the receipt it gave before. Of all processes that share a home, one forwards.
"""

import fcntl
import logging
import os
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from traceai.db.connection import Database
from traceai.errors import SpoolError, TraceaiError, UnavailableError, VerificationError
from traceai.inspection.recording.draft import Draft, Recorded
from traceai.inspection.recording.spool import Spool, Waiting
from traceai.inspection.recording.writer import Writer

_log = logging.getLogger(__name__)

BATCH = 256
# Seconds between attempts while the database is away: at first, and at most.
SHORTEST, LONGEST = 0.1, 2.0


class Forwarder:
    """Delivers what waits in the spool, in a thread of its own, until `done` says that nothing more will come.

    Attributes:
        caught_up: set while nothing waits.
    """

    def __init__(
        self, database: Database, spool: Spool, writer: Writer, actor: str, done: Callable[[], bool] = lambda: True
    ) -> None:
        self.caught_up = threading.Event()
        self._database, self._spool, self._writer, self._actor, self._done = database, spool, writer, actor, done
        self._stopping = threading.Event()
        self._starting = threading.Lock()
        self._thread: threading.Thread | None = None
        self._progressing = False

    def start(self) -> None:
        """Begin, where it is not under way."""
        with self._starting:
            if self._thread is None and not self._stopping.is_set():
                self.caught_up.clear()
                self._thread = threading.Thread(target=self._run, name="traceai-forwarder", daemon=True)
                self._thread.start()

    def stop(self, patience: float) -> None:
        """Stop; a delivery that makes progress is given `patience` seconds to end."""
        with self._starting:
            thread = self._thread
        if thread is not None and self._progressing:
            self.caught_up.wait(patience)
        self._stopping.set()
        if thread is not None:
            thread.join()
        self._writer.close()

    def deliver(self) -> int:
        """Deliver all that waits now, in this thread. Returns how many drafts that were.

        Raises:
            UnavailableError, VerificationError: the database does not take them, the spool cannot be used, or another process is
                delivering.
        """
        with self._alone() as alone:
            if not alone:
                raise UnavailableError("Another process is delivering what waits in the spool; look again in a moment.")
            count = 0
            while not self._spool.conclude(self._actor):
                count += self._one_batch(self._spool.oldest(BATCH))
            return count

    # --- the thread -----------------------------------------------------------------------------------------------

    def _run(self) -> None:
        pause = SHORTEST
        while not self._stopping.is_set():
            try:
                with self._alone() as alone:
                    while alone and (waiting := self._spool.oldest(BATCH)) and not self._stopping.is_set():
                        self._one_batch(waiting)
                        self._progressing = True
                        pause = SHORTEST
                        if len(waiting) < BATCH:
                            break
                    if self._stopping.is_set():
                        return
                    # The database takes records. Who has more to spool waits while the last is delivered, for there would always
                    # be a last one behind it where the line never pauses.
                    with self._spool.held():
                        while alone and not self._spool.conclude(self._actor):
                            self._one_batch(self._spool.oldest(BATCH))
                        with self._starting:
                            if self._done():
                                self._thread = None
                                self.caught_up.set()
                                return
            except (UnavailableError, VerificationError) as error:
                self._progressing = False
                _log.debug("not delivered: %s", error.message)
            except Exception:  # noqa: BLE001  # what waits is kept, and told; the next attempt may do better
                _log.exception("The forwarder failed")
            self._stopping.wait(pause)
            pause = min(2 * pause, LONGEST)

    def _one_batch(self, waiting: Sequence[Waiting]) -> int:
        """Deliver the oldest drafts, and enter what became of them. Returns how many are in the ledger."""
        readable = [one.draft for one in waiting if isinstance(one.draft, Draft)]
        try:
            self._database.revive()
            outcomes = iter(self._writer.write(readable, again=True, decided=True) if readable else [])
        except (UnavailableError, VerificationError):
            self._spool.silent()
            raise
        delivered: list[int] = []
        rejected: list[tuple[int, TraceaiError]] = []
        repeated: list[Draft] = []
        for one in waiting:
            outcome = next(outcomes) if isinstance(one.draft, Draft) else one.draft
            if isinstance(outcome, Recorded):
                delivered.append(one.position)
                if outcome.earlier and isinstance(one.draft, Draft):
                    repeated.append(one.draft)
            else:
                rejected.append((one.position, outcome))
                _log.error("A record was set aside: %s", outcome.message)
        self._spool.settle(delivered, rejected, self._actor, repeated)
        return len(delivered)

    @contextmanager
    def _alone(self) -> Iterator[bool]:
        """Whether no other process forwards from this home."""
        try:
            lock = os.open(self._spool.path.with_suffix(".forwarding"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise SpoolError(f"The spool {self._spool.path} cannot be used: {error}.") from error
        try:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                yield False
            else:
                yield True
        finally:
            os.close(lock)
