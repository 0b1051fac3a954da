"""The whole verification: the database against itself, and against what this home keeps of it outside the database.

`verification` looks at the database alone. Here the signed checkpoints of the home are brought along, and what they and their
witnesses say is told as facts of its own.
"""

import contextlib
import json
import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, select

from traceai.clock import now, timestamp
from traceai.db import tables
from traceai.errors import PolicyError, SchemaError, TraceaiError, VerificationError
from traceai.images.blobs import BlobStore
from traceai.ledger import log
from traceai.ledger.merkle import Frontier
from traceai.ledger.signing import serving, standing
from traceai.ledger.signing.known import Known, bound
from traceai.ledger.signing.signer import Signer
from traceai.ledger.signing.standing import Opening, Standing
from traceai.ledger.tlog import tiles
from traceai.ledger.tree import DatabaseTree
from traceai.ledger.triggers import Counter
from traceai.ledger.verification import spans, verifier
from traceai.ledger.verification.facts import Fact, Outcome, Verified
from traceai.ledger.verification.verifier import Progress
from traceai.ledger.witnesses.policy import Policy, policy_fact
from traceai.ledger.witnesses.witnessing import recorded_policy

_checkpoint = tables.table_of(tables.Checkpoint)


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
    return _with(outcome, signer, known, since.size if since else 0)


def audit_within(connection: Connection, signer: Signer, known: Known) -> Outcome:
    """Likewise within a repeatable-read transaction that began after `known` was read (`Signer.known_heads`)."""
    return _with(verifier.verify_within(connection, known=known.heads), signer, known)


def _with(outcome: Outcome, signer: Signer, known: Known, since: int = 0) -> Outcome:
    signatures = Fact("signatures", "every checkpoint kept outside the database is signed by a key on record")
    signatures.checked = len(known.heads) + len(known.findings)
    if not signatures.checked:
        signatures.meaning = "no checkpoint is kept in this home: nothing outside the database was compared"
    for finding in known.findings:
        signatures.fail(finding)
    others = [fact for fact in (_served(signer, known, since), _witnesses(signer)) if fact is not None]
    return replace(outcome, facts=(*outcome.facts, signatures, *others))


def _served(signer: Signer, known: Known, since: int) -> Fact | None:
    """What the database holds out as signed: anybody who may insert may have put it there. None where there is nothing.

    Where the journal does not say who signs it, that is told of the signatures, and nothing can be told of these.
    """
    fact = Fact("served", "every checkpoint in the database is signed by the log's key, and of the tree that there is")
    roots = {head.size: head.root for head in known.heads}  # the entries were held against those
    c = _checkpoint.c
    unseen = (c.size > since) | (c.size <= 0) | c.size.is_(None)
    query = select(c.origin, c.size, c.root, c.note).where(unseen).order_by(c.size, c.origin, c.created_at)
    with signer.database.moment() as session:
        connection = session.connection()
        try:
            head = log.read_head(session)
            signers = {opening.origin: opening.signers for opening in standing.openings(connection, head)}
        except (VerificationError, SchemaError):
            return None
        with connection.execute(query.execution_options(yield_per=spans.SPAN)) as rows:
            for origin, size, root, note in rows:
                fact.checked += 1
                if None in (origin, size, root, note):
                    fact.fail("table checkpoint: a row lacks a value")
                    continue
                where = f"table checkpoint, {origin} at {size} entries"
                if origin not in signers:
                    fact.fail(f"{where}: the journal was never opened under that name")
                    continue
                signed = serving.signed(note, signers[origin], size)
                if signed is None:
                    fact.fail(f"{where}: the key in force at that size did not sign it")
                elif (signed.origin, signed.size, signed.root) != (origin, size, root):
                    fact.fail(f"{where}: what is signed there is {signed.origin} at {signed.size} entries")
                elif size > head.size:
                    fact.fail(f"{where}: the ledger has {head.size}")
                elif root != (roots[size] if size in roots else _root(connection, size)):
                    fact.fail(f"{where}: the entries lead to another root")
    return fact if fact.checked else None


def _root(connection: Connection, size: int) -> bytes | None:
    """Of the first `size` entries, as the stored tree has it; None where it cannot be read, which is told of the tree."""
    try:
        return tiles.root(DatabaseTree(connection), size)
    except VerificationError:
        return None


def _witnesses(signer: Signer) -> Fact | None:
    """What the witnesses of the recorded policies vouch for, of every origin; None where no policy is on record."""
    fact = Fact("witnesses", "")
    said = []
    try:
        found = signer.state()
        with signer.database.moment() as session:
            policies = [recorded_policy(session, opening.origin) for opening in found.openings]
            for opening, recorded in zip(found.openings, policies, strict=True):
                if recorded is None or not recorded[1].witnesses:
                    continue
                index, policy = recorded
                asked = _kept(signer, session.connection(), found, opening, index)
                if asked is not None:
                    said.append(_vouched(fact, policy, asked))
    except (VerificationError, PolicyError, SchemaError) as error:
        fact.fail(f"the witness policy cannot be read: {error.message}")
        return fact
    fact.meaning = "; ".join(said)
    return fact if said else None


def _kept(
    signer: Signer, connection: Connection, found: Standing, opening: Opening, policy: int
) -> list[tuple[int, str]] | None:
    """The checkpoints of an origin that its witnesses can have cosigned, largest first: (size, note).

    Of one that was given up for another only what still binds the journal, and was signed under the policy (the index of whose
    entry `policy` is); None where nothing was. Of one that was signed elsewhere, what the database shows.
    """
    kept = [(stored.size, stored.note) for stored in signer.store.history(opening.origin)]
    if opening is not found.opening:
        if not kept:
            kept = [
                (one.checkpoint.size, one.note) for one in serving.genuine(connection, opening.origin, opening.signers)
            ]
        end = bound(opening.origin, found.openings, found.here)
        binding = [(size, note) for size, note in kept if policy < size and (end is None or size <= end)]
        if kept and not binding:
            return None
        kept = binding
    return sorted(kept, key=lambda one: -one[0])


def _vouched(fact: Fact, policy: Policy, kept: Sequence[tuple[int, str]]) -> str:
    """What is to be said of an origin; what nobody vouches for is told in `fact`."""
    wanted = f"{policy.threshold} of {len(policy.witnesses)} witnesses"
    for size, note in kept:
        fact.checked += 1
        with contextlib.suppress(TraceaiError):
            if (found := policy_fact(note, policy)).witnessed:
                names = ", ".join(cosigned.witness for cosigned in found.by)
                return f"{wanted} saw no other history: {names} cosigned {size} entries of {policy.origin}"
    fact.fail(f"no checkpoint of {policy.origin} is cosigned by {wanted}")
    return f"{wanted} saw no other history of {policy.origin}"


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
