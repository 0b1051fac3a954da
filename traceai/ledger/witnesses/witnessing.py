"""The log's side of witnessing: ask the witnesses of the recorded policy to cosign a checkpoint, and say what each answered.

Whether enough of them did is a fact (`policy.policy_fact`), never an exception: a witness that is down or refuses stops
no line. What a witness answered is believed only where its key in the policy verifies it.

What is remembered of a witness, the size that it cosigned last, is a hint and no evidence: `<home>/witnesses.json` may be
lost, stale or forged. The witness corrects it with its next answer.
"""

import json
import secrets
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Literal

from sqlalchemy import func, insert, select
from sqlmodel import Session

from traceai.clock import now, uuid7
from traceai.db import tables
from traceai.db.connection import translated
from traceai.errors import (
    InputError,
    NoteError,
    PolicyError,
    UnreachableError,
    VerificationError,
    WitnessContradictionError,
)
from traceai.ledger import log, records
from traceai.ledger.entry import Entry
from traceai.ledger.note import Signature, join_note, parse_signatures, split_note
from traceai.ledger.posting import Reply, check_url, post
from traceai.ledger.signing.checkpoints import Stored
from traceai.ledger.signing.signer import Signer
from traceai.ledger.tlog import tiles
from traceai.ledger.tlog.checkpoint import LARGEST_SIZE
from traceai.ledger.tlog.tiles import TreeReader
from traceai.ledger.tree import DatabaseTree
from traceai.ledger.witnesses.policy import Policy, PolicyFact, PolicyWitness, policy_fact
from traceai.ledger.witnesses.witness import PLAIN, SIZE, Submission

_policy = tables.table_of(tables.WitnessPolicy)
_checkpoint = tables.table_of(tables.Checkpoint)

# The first names the size remembered, the second the size that the witness corrects it to; a third only if it moved on meanwhile.
_ATTEMPTS = 3

Outcome = Literal["cosigned", "refused", "unreachable", "not asked"]


@dataclass(frozen=True)
class Asked:
    """What one witness did with one checkpoint.

    Attributes:
        said: one sentence for a person.
        contradicts: the witness has seen another history than the one presented. The reason to have witnesses.
        at: the time in its cosignature, UTC.
        ahead: the size that it cosigned before, where that is more than was presented.
    """

    witness: str
    outcome: Outcome
    said: str
    contradicts: bool = False
    at: datetime | None = None
    ahead: int | None = None


@dataclass(frozen=True)
class Collected:
    """What asking came to. note: the checkpoint with every signature it had and those that were added."""

    note: str
    asked: tuple[Asked, ...]
    fact: PolicyFact

    @property
    def contradicted(self) -> bool:
        return any(found.contradicts for found in self.asked)


class CosignedSizes:
    """The size that each witness cosigned last, as far as this home remembers."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = threading.Lock()

    def get(self, witness: PolicyWitness, origin: str) -> int:
        size = self._read().get(str(witness.key), {}).get(origin, 0)
        return size if type(size) is int and 0 <= size <= LARGEST_SIZE else 0

    def put(self, witness: PolicyWitness, origin: str, size: int) -> None:
        """Remember; where that fails, the witness will have to correct us, and nothing else is lost."""
        with self._lock:
            sizes = self._read()
            if sizes.get(str(witness.key), {}).get(origin) == size:
                return
            sizes.setdefault(str(witness.key), {})[origin] = size
            beside = self._path.with_name(f"{self._path.name}.{secrets.token_hex(4)}")
            try:
                beside.write_text(json.dumps(sizes, indent=1))
                beside.replace(self._path)
            except OSError:
                beside.unlink(missing_ok=True)

    def _read(self) -> dict[str, dict[str, int]]:
        try:
            found = json.loads(self._path.read_bytes())
        except (OSError, ValueError, RecursionError):
            return {}
        if not isinstance(found, dict) or not all(isinstance(sizes, dict) for sizes in found.values()):
            return {}
        return found


def read_policy(session: Session, origin: str) -> Policy | None:
    """The policy recorded last for `origin`, from the journal's own bytes; None where none was.

    Raises:
        PolicyError: the recorded one cannot be evaluated.
        RecordError, LedgerGapError: the entry is damaged or gone.
    """
    found = recorded_policy(session, origin)
    return found[1] if found else None


def recorded_policy(session: Session, origin: str) -> tuple[int, Policy] | None:
    """Likewise, with the index of its entry."""
    index = session.execute(select(func.max(_policy.c.journal_index)).where(_policy.c.origin == origin)).scalar_one()
    if index is None:
        return None
    record = Entry.parse(DatabaseTree(session.connection()).entry(index)).record
    if not isinstance(record, records.WitnessPolicy) or record.origin != origin:
        raise PolicyError(f"Entry {index} is no witness policy of {origin}; run `traceai ledger verify`.")
    return index, Policy.parse(record.model_dump())


def record_policy(signer: Signer, policy: Policy, *, actor: str, reason: str) -> log.Receipt:
    """Put a policy on record, as a `witness-policy/1` entry. It holds from the next checkpoint on.

    Raises:
        InputError: a witness that is the log itself, a URL that nobody can be asked at, no reason, or a text that no record holds.
    """
    records.require_reason(reason)
    own = {key.public for key in signer.verifier_keys(policy.origin)}
    for witness in policy.witnesses:
        check_url(witness.url)
        if witness.key.public in own:
            raise InputError(f"A log cannot witness itself, and the key of {witness.name} is one of its own.")
    listed = [{"name": w.name, "key": str(w.key), "url": w.url} for w in policy.witnesses]
    fields = {
        "origin": policy.origin,
        "threshold": policy.threshold,
        "witnesses": listed,
        "actor": actor,
        "reason": reason,
    }
    record = records.validated(records.WitnessPolicy, fields)
    with signer.database.session() as session:
        return log.append(session, [record])[0]


def require_vouched(found: Collected | None) -> None:
    """
    Raises:
        WitnessContradictionError: a witness answered that it has seen another history.
        UnreachableError: fewer cosigned than the policy asks for.
    """
    if found is None or (found.fact.witnessed and not found.contradicted):
        return
    said = " ".join(f"{one.witness}: {one.said}" for one in found.asked if one.contradicts or not found.contradicted)
    if found.contradicted:
        raise WitnessContradictionError(f"A witness says that it has seen another history of this ledger. {said}")
    raise UnreachableError(f"Fewer witnesses cosigned than the policy asks for. {said}")


def collect(signer: Signer, stored: Stored, sizes: CosignedSizes, timeout: float = 10) -> Collected | None:
    """Ask the witnesses of the recorded policy about `stored`, keep what they signed, and publish it.

    None where no policy is on record. Everything that can be wrong with a witness is in the result; what is wrong with the
    ledger itself is raised.

    Raises:
        PolicyError, RecordError, LedgerGapError: the recorded policy cannot be read.
        CheckpointStoreError, CheckpointConflictError: `stored` is not a checkpoint of the store any more.
        UnavailableError: the database does not answer.
    """
    with signer.database.session() as session:
        policy = read_policy(session, stored.origin)
    if policy is None:
        return None
    # Each statement by itself: no snapshot is held open while a witness thinks.
    with translated(), signer.database.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        found = cosign(stored, policy, DatabaseTree(connection), sizes, timeout)
    if found.note != stored.note:
        kept = signer.store.add_signatures(stored.origin, stored.size, found.note)
        _publish(signer, kept)
        found = replace(found, note=kept.note, fact=policy_fact(kept.note, policy))
    signed = signer.store.latest(stored.origin)
    return replace(found, asked=tuple(_overtaken(asked, signed.size if signed else 0) for asked in found.asked))


def _publish(signer: Signer, stored: Stored) -> None:
    row = {"id": uuid7(), "origin": stored.origin, "size": stored.size, "root": stored.root, "note": stored.note}
    with signer.database.session() as session:
        session.connection().execute(insert(_checkpoint), [row | {"created_at": now()}])


def _overtaken(asked: Asked, signed: int) -> Asked:
    """Who has cosigned more than was presented, but no more than was signed here meanwhile, contradicts nothing."""
    if asked.ahead is None or asked.ahead > signed:
        return asked
    said = f"It has cosigned {asked.ahead} entries already, which were signed here meanwhile; ask again."
    return replace(asked, said=said, contradicts=False)


def cosign(stored: Stored, policy: Policy, tree: TreeReader, sizes: CosignedSizes, timeout: float = 10) -> Collected:
    """Ask every witness of `policy` at once to cosign the checkpoint `stored`, and verify what comes back.

    Args:
        tree: the tree that the checkpoint was signed over; asked by one thread at a time.
        timeout: seconds for one answer of one witness, who may have to be asked again from the size that it names.
    """
    if not policy.witnesses:
        return Collected(stored.note, (), policy_fact(stored.note, policy))
    try:
        if tiles.root(tree, stored.size) != stored.root:
            raise VerificationError(
                f"The {stored.size} entries in the database are not those that were signed; run `traceai ledger verify`."
            )
    except VerificationError as error:
        asked = tuple(Asked(w.name, "not asked", error.message, contradicts=True) for w in policy.witnesses)
        return Collected(stored.note, asked, policy_fact(stored.note, policy))

    one_at_a_time = threading.Lock()

    def prove(old: int) -> tuple[bytes, ...]:
        with one_at_a_time:
            return tuple(tiles.consistency_proof(tree, old, stored.size))

    with ThreadPoolExecutor(len(policy.witnesses), thread_name_prefix="witness") as threads:
        answers = list(threads.map(lambda w: _Conversation(w, stored, prove, sizes, timeout).hold(), policy.witnesses))
    text, signatures = split_note(stored.note)
    have = {(signature.name, signature.key_id) for signature in signatures}
    added = [found for _, found in answers if found is not None and (found.name, found.key_id) not in have]
    note = join_note(text, [*signatures, *added])
    return Collected(note, tuple(asked for asked, _ in answers), policy_fact(note, policy))


class _Conversation:
    """One witness, one checkpoint."""

    def __init__(
        self, witness: PolicyWitness, stored: Stored, prove: Callable[[int], tuple[bytes, ...]], sizes: CosignedSizes,
        timeout: float,
    ) -> None:  # fmt: skip
        self._witness, self._stored, self._prove, self._sizes = witness, stored, prove, sizes
        self._timeout = timeout
        self._url = f"{witness.url.rstrip('/')}/add-checkpoint"

    def hold(self) -> tuple[Asked, Signature | None]:
        try:
            return self._ask()
        except UnreachableError as error:
            return Asked(self._witness.name, "unreachable", error.message), None
        except (InputError, VerificationError) as error:
            return Asked(self._witness.name, "not asked", error.message), None

    def _ask(self) -> tuple[Asked, Signature | None]:
        stored, old = self._stored, self._sizes.get(self._witness, self._stored.origin)
        # A hint beyond what was signed is asked about with a size that the witness will correct.
        old = old if old <= stored.size else 0
        for _ in range(_ATTEMPTS):
            body = bytes(Submission(old, self._prove(old), stored.note))
            reply = post(self._url, body, PLAIN, self._timeout)
            if reply.status == 200:
                return self._read(reply)
            corrected = _size(reply)
            if corrected is None or corrected == old:
                break
            self._sizes.put(self._witness, stored.origin, corrected)
            if corrected > stored.size:
                return self._refused(
                    f"It has cosigned {corrected} entries of this log before, and only {stored.size} are presented now: entries "
                    "are missing here, or an older copy was put back.",
                    contradicts=True, ahead=corrected,
                ), None  # fmt: skip
            old = corrected
        return self._refusal(reply, old), None

    def _read(self, reply: Reply) -> tuple[Asked, Signature | None]:
        stored, key = self._stored, self._witness.key
        text, _ = split_note(stored.note)
        try:
            signatures = parse_signatures(reply.body)
        except NoteError:
            return self._refused("It answered with something other than signatures."), None
        for signature in signatures:
            known = (signature.name, signature.key_id) == (key.name, key.key_id)
            if known and key.verify(text.encode(), signature.signature):
                self._sizes.put(self._witness, stored.origin, stored.size)
                fact = policy_fact(join_note(text, [signature]), Policy(stored.origin, 1, (self._witness,)))
                at = fact.by[0].at
                said = f"It cosigned {stored.size} entries{f' at {at:%Y-%m-%d %H:%M:%S} UTC' if at else ''}."
                return Asked(self._witness.name, "cosigned", said, at=at), signature
        return self._refused("It answered with no cosignature of its key in the policy."), None

    def _refusal(self, reply: Reply, old: int) -> Asked:
        size, said = self._stored.size, _quoted(reply)
        if reply.status == 409 and old == size > 0 and _size(reply) is None:
            return self._refused(
                f"It has cosigned {size} entries of this log before, and they are not the {size} that are presented now, under "
                f"the same log key: entries were altered, removed or exchanged since.{said}",
                contradicts=True,
            )
        if reply.status == 422 and old > 0:
            return self._refused(
                f"It has cosigned {old} entries of this log before, and the {size} that are presented now do not begin with "
                f"those {old}: entries were altered, removed or exchanged since.{said}",
                contradicts=True,
            )
        reasons = {
            400: "It could not read the request.",
            403: "It does not trust the key that signed; give its operator the log's verifier key.",
            404: f"It does not watch {self._stored.origin}; give its operator the log's verifier key.",
            409: "It corrected the size it cosigned last with every answer; ask again.",
        }
        return self._refused(f"{reasons.get(reply.status, f'It answered with status {reply.status}.')}{said}")

    def _refused(self, said: str, *, contradicts: bool = False, ahead: int | None = None) -> Asked:
        return Asked(self._witness.name, "refused", said, contradicts, ahead=ahead)


def _size(reply: Reply) -> int | None:
    """The size that a witness corrects us to (tlog-witness: 409 with `text/x.tlog.size`)."""
    line = reply.body.removesuffix(b"\n")
    if reply.status != 409 or reply.content_type != SIZE or line == reply.body or not line.isdigit() or len(line) > 19:
        return None
    size = int(line)
    return size if str(size).encode() == line and size <= LARGEST_SIZE else None


def _quoted(reply: Reply) -> str:
    """The first line of what a stranger answered, as far as it is text for a terminal."""
    if reply.content_type != "text/plain":
        return ""
    line = reply.body[:2000].decode(errors="replace").partition("\n")[0][:200].strip()
    return f' In its words: "{line}"' if line and line.isprintable() else ""
