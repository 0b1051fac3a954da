"""Who signs the ledger, as a report tells it: origin, key and newest checkpoint, with which a page is matched to a log."""

from dataclasses import dataclass

from sqlalchemy import Connection
from sqlmodel import Session

from traceai.errors import VerificationError
from traceai.ledger import log
from traceai.ledger.log import Head
from traceai.ledger.signing import serving, standing
from traceai.ledger.signing.known import Known
from traceai.ledger.signing.standing import Opening
from traceai.ledger.tlog import tiles
from traceai.ledger.tlog.checkpoint import Checkpoint, open_checkpoint
from traceai.ledger.tree import DatabaseTree
from traceai_reports.content import SignedCheckpoint


@dataclass(frozen=True)
class Signed:
    """As in `content.Ledger`."""

    origin: str = ""
    key: str | None = None
    checkpoint: SignedCheckpoint | None = None
    unread: str = ""


def signed(session: Session, known: Known) -> Signed:
    """Who signs, from the journal's own bytes, and the newest checkpoint: that of this home, or else the one that is served.

    Args:
        known: read before the transaction of `session` began, so that the journal has to lead to it.
    """
    connection = session.connection()
    try:
        head = log.read_head(session)
        opened = standing.openings(connection, head)
    except VerificationError as error:
        return Signed(unread=error.message)
    if not opened:
        return Signed()
    current = opened[-1]
    found = None if known.newest else serving.newest(connection, current.origin, current.signers)
    note = found.note if found else known.newest
    checkpoint = _checkpoint(connection, head, opened, note) if note else None
    return Signed(current.origin, str(current.key) if current.key else None, checkpoint)


def _checkpoint(connection: Connection, head: Head, opened: tuple[Opening, ...], note: str) -> SignedCheckpoint | None:
    """None where no key on record signed it."""
    try:
        point, found = open_checkpoint(note, dict.fromkeys(key for opening in opened for key in opening.keys))
    except VerificationError:
        return None
    keys = tuple(str(key) for key, _ in found.verified)
    return SignedCheckpoint(size=point.size, note=note, keys=keys, leads=_leads(connection, head, point))


def _leads(connection: Connection, head: Head, point: Checkpoint) -> bool:
    try:
        return point.size <= head.size and tiles.root(DatabaseTree(connection), point.size) == point.root
    except VerificationError:
        return False
