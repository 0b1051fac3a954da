"""The whole verification: the database against itself, and against what this home keeps of it outside the database.

`verification` looks at the database alone. Here the signed checkpoints of the home are brought along, and what they and their
witnesses say is told as facts of its own.
"""

import contextlib
import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

from sqlalchemy import Connection

from traceai.clock import now, timestamp
from traceai.errors import PolicyError, SchemaError, TraceaiError, VerificationError
from traceai.images.blobs import BlobStore
from traceai.ledger.merkle import Frontier
from traceai.ledger.signing.known import Known
from traceai.ledger.signing.signer import Signer
from traceai.ledger.triggers import Counter
from traceai.ledger.verification import verifier
from traceai.ledger.verification.facts import Fact, Outcome, Verified
from traceai.ledger.verification.verifier import Progress
from traceai.ledger.witnesses.policy import Policy, policy_fact
from traceai.ledger.witnesses.witnessing import read_policy


def audit(
    signer: Signer,
    blobs: BlobStore | None = None,
    progress: Progress | None = None,
    *,
    since: Verified | None = None,
    workers: int = 1,
) -> Outcome:
    """`verifier.verify`, with every checkpoint that the home of `signer` keeps, and the facts about those."""
    # First what was signed, then the journal: one that is looked at later holds all of it.
    known = signer.known_heads(since.size if since else 0)
    engine = signer.database.engine
    outcome = verifier.verify(engine, blobs, progress, known=known.heads, since=since, workers=workers)
    return _with(outcome, signer, known)


def audit_within(connection: Connection, signer: Signer, known: Known) -> Outcome:
    """Likewise within a repeatable-read transaction that began after `known` was read (`Signer.known_heads`)."""
    return _with(verifier.verify_within(connection, known=known.heads), signer, known)


def _with(outcome: Outcome, signer: Signer, known: Known) -> Outcome:
    signatures = Fact("signatures", "every checkpoint kept outside the database is signed by a key on record")
    signatures.checked = len(known.heads) + len(known.findings)
    if not signatures.checked:
        signatures.meaning = "no checkpoint is kept in this home: nothing outside the database was compared"
    for finding in known.findings:
        signatures.fail(finding)
    witnesses = _witnesses(signer)
    facts = (*outcome.facts, signatures, *([witnesses] if witnesses else []))
    return replace(outcome, facts=facts)


def _witnesses(signer: Signer) -> Fact | None:
    """What the witnesses of the recorded policy vouch for; None where no policy is on record."""
    fact = Fact("witnesses", "")
    try:
        origin = signer.state().origin
        with signer.database.session() as session:
            policy = read_policy(session, origin) if origin else None
    except (VerificationError, PolicyError, SchemaError) as error:
        fact.fail(f"the witness policy cannot be read: {error.message}")
        return fact
    if policy is None or not policy.witnesses:
        return None
    wanted = f"{policy.threshold} of {len(policy.witnesses)} witnesses"
    for stored in sorted(signer.store.history(policy.origin), key=lambda stored: -stored.size):
        fact.checked += 1
        with contextlib.suppress(TraceaiError):
            if (found := policy_fact(stored.note, policy)).witnessed:
                names = ", ".join(cosigned.witness for cosigned in found.by)
                fact.meaning = f"{wanted} saw no other history: {names} cosigned {stored.size} entries"
                return fact
    return _nobody(fact, policy, wanted)


def _nobody(fact: Fact, policy: Policy, wanted: str) -> Fact:
    fact.meaning = f"{wanted} saw no other history"
    fact.fail(f"no checkpoint of {policy.origin} is cosigned by {wanted}")
    return fact


class LastVerified:
    """How far this home verified its ledger the last time that everything held: `<home>/verified.json`.

    It is believed as the home is. Whoever can write there can have less verified, and cannot make a checkpoint hold.
    """

    def __init__(self, home: Path) -> None:
        self._path = home / "verified.json"

    def load(self, origin: str | None) -> tuple[Verified, str] | None:
        """Where to go on for this origin, and when that was verified; None where nothing usable is kept."""
        try:
            kept: dict[str, Any] = json.loads(self._path.read_bytes())
            numbers, triggers = dict(kept["numbers"]), dict(kept["triggers"])
            reached = Verified(int(kept["size"]), bytes.fromhex(kept["frontier"]), numbers, triggers)
            Frontier(reached.size, reached.frontier)
            for state in triggers.values():
                Counter.load(state)
            verified_at = str(kept["verified_at"])
        except (OSError, ValueError, KeyError, TypeError, OverflowError, VerificationError):
            return None
        return (reached, verified_at) if kept.get("origin") == origin and reached.size else None

    def save(self, origin: str | None, reached: Verified) -> None:
        """Replace what is kept, as a whole or not at all."""
        kept = {
            "origin": origin,
            "size": reached.size,
            "frontier": reached.frontier.hex(),
            "numbers": dict(reached.numbers),
            "triggers": dict(reached.triggers),
            "verified_at": timestamp(now()),
        }
        fresh = self._path.with_name(f"verified.json.{os.getpid()}")
        fresh.write_text(json.dumps(kept), "utf-8")
        fresh.replace(self._path)
