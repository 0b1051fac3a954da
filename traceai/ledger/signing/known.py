"""The tree heads that a home signed, for verification to hold the journal against."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Self

from traceai.errors import VerificationError
from traceai.ledger.signing.checkpoints import CheckpointStore, Stored
from traceai.ledger.signing.keys import KeyFolder
from traceai.ledger.signing.standing import Opening
from traceai.ledger.tlog.checkpoint import open_checkpoint
from traceai.ledger.verification.facts import KnownHead


@dataclass(frozen=True)
class Known:
    """heads: smallest first. findings: what the home holds and cannot vouch for, a sentence each.

    newest: the signed note of the last head; None where there is no head.
    """

    heads: tuple[KnownHead, ...]
    findings: tuple[str, ...]
    newest: str | None = None

    def and_found(self, finding: str) -> Self:
        return replace(self, findings=(finding, *self.findings))


def heads(
    keys: KeyFolder, store: CheckpointStore, opened: Sequence[Opening], here: Sequence[Opening], since: int = 0
) -> Known:
    """Every head larger than `since` that the history has to lead to, its signature verified by the journal's keys.

    An origin that was given up for another binds the journal up to where this home opened the other, and no further: what an
    older copy lacked is lost on the record. What was rewritten before that place stays a finding for ever.

    Args:
        opened, here: of `standing.Standing`; both empty where the journal does not say who signs it, and the home's own keys do.

    Raises:
        CheckpointStoreError, KeyFileError: the home cannot be looked at.
    """
    found: list[KnownHead] = []
    findings: list[str] = []
    largest: Stored | None = None
    for last in store.latest_of_each():
        end = bound(last.origin, opened, here)
        by = [key for opening in opened if opening.origin == last.origin for key in opening.keys]
        if opened and not by and end is None:
            findings.append(
                f"This home signed {last.origin} at {last.size} entries, and the journal was never opened under that name."
            )
            continue
        by = by or [key for key in keys.list() if key.name == last.origin]
        newest = {stored.size: stored for stored in store.history(last.origin)}
        for size, stored in sorted(newest.items()):
            if size <= since or (end is not None and size > end):
                continue
            label = f"checkpoint of {last.origin} at {size} entries ({stored.accepted_at:%Y-%m-%d %H:%M} UTC)"
            try:
                open_checkpoint(stored.note, by)
            except VerificationError as error:
                findings.append(f"The {label} does not hold: {error.message}")
            else:
                found.append(KnownHead(size, stored.root, label))
                if largest is None or size >= largest.size:
                    largest = stored
    return Known(tuple(sorted(found, key=lambda head: head.size)), tuple(findings), largest.note if largest else None)


def bound(origin: str, opened: Sequence[Opening], here: Sequence[Opening]) -> int | None:
    """The size up to which checkpoints of `origin` bind the journal: where this home went on under another. None: all do."""
    own = [opening.index for opening in opened if opening.origin == origin]
    if own:
        later = [opening.index for opening in here if opening.index > own[-1]]
    else:
        later = [opening.index for opening in here if opening.previous == origin]
    return min(later, default=None)
