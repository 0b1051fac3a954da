"""Making the evidence file of a decision from the database: `docs/evidence-file.md`.

What is handed out was verified first, by the offline verifier: a database that no longer leads to its own signed checkpoint hands
out nothing.
"""

from collections.abc import Callable, Sequence
from functools import cache, partial
from itertools import islice
from typing import NamedTuple, TypeVar

from sqlalchemy import select
from sqlmodel import Session

from traceai.db import tables
from traceai.errors import EvidenceError, UnavailableError, VerificationError
from traceai.inspection import history
from traceai.ledger import log, note
from traceai.ledger.evidence.file import EvidenceFile, Included, Timestamp
from traceai.ledger.note import VerifierKey
from traceai.ledger.signing import serving, standing
from traceai.ledger.signing.checkpoints import Stored
from traceai.ledger.signing.signer import Signer
from traceai.ledger.tlog import tiles
from traceai.ledger.tlog.checkpoint import Checkpoint, open_checkpoint
from traceai.ledger.tlog.proof import TlogProof
from traceai.ledger.tree import DatabaseTree
from traceai.ledger.verify import verify
from traceai.ledger.witnesses import witnessing
from traceai.ledger.witnesses.policy import Policy, policy_fact

Row = TypeVar("Row", bound=tables.Evidence)

# What has to hold before a file leaves the house. The rest is what the record says, and goes out as it is.
_REQUIRED = ("format", "entry", "included", "related", "signed")
# Witnesses answer within seconds, so that one of the last checkpoints has their cosignatures or none will have.
_LOOKED_AT = 100

_checkpoint = tables.table_of(tables.Checkpoint)


class Proved(NamedTuple):
    """The id of a decision and its evidence file."""

    id: str
    data: bytes


def prove(signer: Signer, reference: str) -> Proved:
    """The evidence file of a decision, by its id or its ledger index.

    Only a checkpoint that covers the decision and everything that was recorded of it since will do; where there is none, the
    ledger is signed first, by who can. Among them one that is witnessed as its log's policy asks is preferred, then one with a
    timestamp, the earliest, then the newest.

    Raises:
        DecisionNotFoundError: there is none.
        UnavailableError: nothing signed covers the decision and what was recorded of it, and this home cannot sign.
        LedgerTakenError: somebody else signs the ledger that this home signed.
        VerificationError: as `build`; or this is not the ledger that this home signed.
    """
    standing.require_untaken(signer.state())
    with signer.database.moment() as session:
        decision = history.find(session, reference)
        _, needed = _standing_on(session, decision)
    # Signing takes a connection of its own; nothing is held meanwhile.
    newest = _newest(signer, needed)
    with signer.database.moment() as session:
        decision = history.find(session, reference)
        notes = [newest.note] if isinstance(newest, Stored) else []
        notes += _served(session, needed)
        if not notes and isinstance(newest, UnavailableError):
            raise newest
        origin = _read(notes[0]).origin
        stamped = [size for size in signer.store.stamped(origin) if size > needed][:_LOOKED_AT]
        notes += _served(session, needed, origin, stamped)
        witnessed = _witnesses(session)

        def worth(checkpoint: str) -> tuple[bool, bool, int]:
            size = _read(checkpoint).size
            return witnessed(checkpoint), size in stamped, -size if size in stamped else size

        chosen = max(notes, key=worth)
        point = _read(chosen)
        stamps = signer.store.timestamps(point.origin, point.size)
        data = build(session, decision, chosen, [Timestamp(stamp.tsa, stamp.token) for stamp in stamps])
        return Proved(str(decision.id), data)


def _newest(signer: Signer, needed: int) -> Stored | UnavailableError:
    """The last checkpoint of this home, signed now if need be; or why there is none."""
    try:
        newest = signer.store.newest()
        return newest if newest is not None and newest.size > needed else signer.sign()
    except UnavailableError as error:
        return error


def build(
    session: Session, decision: tables.Inspection, checkpoint: str, timestamps: Sequence[Timestamp] = ()
) -> bytes:
    """The evidence file of `decision` under a signed checkpoint that covers it.

    Args:
        checkpoint: the signed note, with whatever cosignatures it has.
        timestamps: RFC 3161 responses over its text.

    Raises:
        EvidenceError: the checkpoint does not cover the decision, or the database does not lead to it.
        VerificationError: something that the file needs is missing or damaged.
    """
    point = _read(checkpoint)
    if decision.journal_index >= point.size:
        raise EvidenceError(
            f"The checkpoint covers {point.size} entries, and decision {decision.id} is not among them."
        )
    tree = DatabaseTree(session.connection())

    def included(index: int) -> Included:
        return Included(index, tree.entry(index), tuple(tiles.inclusion_proof(tree, index, point.size)))

    subject = included(decision.journal_index)
    signed, keys = _named(session, checkpoint)
    standing_on, _ = _standing_on(session, decision)
    changes = [row for row in _of_log(session, tables.LedgerKey, point.origin) if row.journal_index < point.size]
    covered = {*standing_on, *_of_origin(session, point), *(row.journal_index for row in changes)}
    made = EvidenceFile(
        entry=subject.entry,
        proof=TlogProof(subject.index, subject.hashes, signed),
        keys=keys,
        related=tuple(included(index) for index in sorted(covered) if index < point.size),
        handovers=tuple(proof for row in changes if (proof := _handover(session, tree, row)) is not None),
        timestamps=tuple(timestamps),
    )
    data = bytes(made)
    for fact in verify(data).facts:
        if fact.name in _REQUIRED and fact.holds is not True:
            raise EvidenceError(
                f"The database does not prove decision {decision.id} under the signed checkpoint of {point.size} entries; run "
                f"`traceai ledger verify`. {fact.name}: {fact.sentence}"
            )
    return data


def _standing_on(session: Session, decision: tables.Inspection) -> tuple[set[int], int]:
    """The entries that the decision stands on and those that speak of it; and the last of them, itself included."""
    found = history.dossier(session, decision)
    rows: list[tables.Evidence | None] = [found.model, found.snapshot, found.runtime, found.export, *found.reviews]
    rows += [event for event in found.events if event.journal_index < decision.journal_index]
    indexes = {row.journal_index for row in rows if row is not None}
    return indexes, max({*indexes, decision.journal_index})


def _of_origin(session: Session, point: Checkpoint) -> list[int]:
    """Where the log was opened, and the witness policy in force: those before it bind nobody any more."""
    openings = [row.journal_index for row in _of_log(session, tables.LedgerOpened, point.origin)]
    policies = [row.journal_index for row in _of_log(session, tables.WitnessPolicy, point.origin)]
    return [*openings, *[index for index in policies if index < point.size][-1:]]


def _handover(session: Session, tree: DatabaseTree, change: tables.LedgerKey) -> TlogProof | None:
    """The change of a key under the first checkpoint that has it and the replaced key signed; None where none is left."""
    query = select(_checkpoint.c.note).where(
        _checkpoint.c.origin == change.origin, _checkpoint.c.size > change.journal_index
    )
    query = query.order_by(_checkpoint.c.size, _checkpoint.c.created_at.desc()).execution_options(yield_per=16)
    with session.execute(query) as notes:
        for found in notes.scalars():
            try:
                point, opened = open_checkpoint(found, [change.replaces])
                hashes = tiles.inclusion_proof(tree, change.journal_index, point.size)
            except VerificationError:
                continue  # anybody may have put it there
            checkpoint = note.join_note(opened.text, [signature for _, signature in opened.verified])
            return TlogProof(change.journal_index, tuple(hashes), checkpoint)
    return None


def _named(session: Session, checkpoint: str) -> tuple[str, tuple[VerifierKey, ...]]:
    """The checkpoint with the signatures of keys that the log has on record, and those keys in their order.

    Others could be named by nobody who reads the file; of a witness that signed more than once, the first signature stays.
    """
    stated = [row.key for row in _all(session, tables.LedgerOpened)]
    stated += [row.key for row in _all(session, tables.LedgerKey)]
    stated += [witness["key"] for row in _all(session, tables.WitnessPolicy) for witness in row.witnesses]
    known = {(key.name, key.key_id): key for key in map(VerifierKey.parse, stated)}
    text, signatures = note.split_note(checkpoint)
    kept: dict[VerifierKey, note.Signature] = {}
    for signature in signatures:
        key = known.get((signature.name, signature.key_id))
        if key is not None:
            kept.setdefault(key, signature)
    if not kept:
        raise EvidenceError("No key that the log has on record signed the checkpoint.")
    return note.join_note(text, list(kept.values())), tuple(kept)


def _served(session: Session, index: int, origin: str | None = None, sizes: Sequence[int] | None = None) -> list[str]:
    """The last checkpoints in the database that the log signed, of trees with this entry and no larger than there is; only those of
    `origin` at `sizes`, where given."""
    connection = session.connection()
    head, size = log.read_head(session), _checkpoint.c.size
    wanted = (size > index) & (size <= head.size) if sizes is None else size.in_(sizes)
    found = (
        served.note
        for opening in reversed(standing.openings(connection, head))
        if origin in (None, opening.origin)
        for served in serving.genuine(connection, opening.origin, opening.signers, wanted)
    )
    return list(islice(found, _LOOKED_AT))


def _witnesses(session: Session) -> Callable[[str], bool]:
    """Whether as many witnesses cosigned a checkpoint as the policy of its log asks for now."""
    policy_of = cache(partial(witnessing.read_policy, session))

    def witnessed(checkpoint: str) -> bool:
        policy: Policy | None = policy_of(_read(checkpoint).origin)
        return policy is not None and policy_fact(checkpoint, policy).witnessed

    return witnessed


def _read(checkpoint: str) -> Checkpoint:
    return Checkpoint.parse(note.split_note(checkpoint)[0])


def _all(session: Session, table: type[Row]) -> Sequence[Row]:
    return session.execute(select(table).order_by(table.journal_index)).scalars().all()  # type: ignore[arg-type]


def _of_log(session: Session, table: type[Row], origin: str) -> list[Row]:
    return [row for row in _all(session, table) if row.origin == origin]  # type: ignore[attr-defined]
