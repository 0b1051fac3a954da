"""Who is asked before anything is appended to a journal.

The question is hung on the engine, so that whoever appends through it asks, knowingly or not: `log.append` calls
`require_writable` once it holds the lock on the head. An engine that nobody guards may be appended to.
"""

from collections.abc import Callable

from sqlalchemy import Engine
from sqlmodel import Session

Check = Callable[[Session, int, bytes], None]
"""Takes the transaction that appends, and the size and the root of the journal it appends to; raises to refuse."""

_OPTION = "traceai_guard"


def install(engine: Engine, check: Check) -> None:
    """Have `check` asked before every append through `engine`. A later one takes an earlier one's place."""
    engine.update_execution_options(**{_OPTION: check})


def require_writable(session: Session, size: int, root: bytes) -> None:
    """Ask. The caller holds the lock on the head, whose `size` and `root` these are.

    Raises:
        LedgerRolledBackError, LedgerForkedError: see `signer.Signer.require_writable`.
    """
    check: Check | None = session.connection().get_execution_options().get(_OPTION)
    if check is not None:
        check(session, size, root)
