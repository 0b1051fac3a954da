"""The witness: it puts its name to a log's new checkpoint when that continues what it saw before, and to nothing else.

https://c2sp.org/tlog-witness (v1.0.0), `add-checkpoint`, without the HTTP around it, and https://c2sp.org/tlog-cosignature.
Trust in a log's history needs no trust in the log as long as one witness that cosigned it is honest; a witness that is not
can vouch for a rewritten history, and can do nothing else.

Order of events: check, sign, persist by compare-and-swap, answer. A crash before the swap leaves nothing; one after it leaves a
checkpoint that was cosigned and not answered, and the log asks again from there. Of two requests that race from one size one is
persisted; the other's cosignature never leaves the process.

What the specification leaves open and this witness does: it takes an Ed25519 key of its own for cosignatures; it keeps what
contradicts its history (`misbehaviour`); it does not cosign while its clock stands before its own last cosignature, because a
cosignature states what was the largest tree at a time.
"""

import base64
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from hashlib import sha256
from http import HTTPStatus
from typing import Self

from traceai import clock
from traceai.errors import (
    CheckpointConflictError,
    CheckpointStoreError,
    InputError,
    NoteError,
    UnavailableError,
    VerificationError,
)
from traceai.ledger import merkle
from traceai.ledger.note import COSIGNATURE, Signature, SigningKey, VerifierKey, join_note, open_note, split_note
from traceai.ledger.signing.checkpoints import CheckpointStore, Stored
from traceai.ledger.tlog.checkpoint import LARGEST_SIZE, Checkpoint
from traceai.ledger.witnesses.misbehaviour import Kind, Misbehaviour, MisbehaviourFile, roots

MOST_PROOF_LINES = 63
# Sixteen signatures of nearly 5 kB, which every verifier has to accept, and room for proof and text.
LONGEST_REQUEST = 128 << 10

# A checkpoint that is sent again within this time gets the cosignature that it got, so that repeating it fills no disk.
FRESH_SECONDS = 300

PLAIN = "text/plain; charset=utf-8"
SIZE = "text/x.tlog.size"


@dataclass(frozen=True)
class Answer:
    """What HTTP has to say, and nothing about how."""

    status: int
    content_type: str
    body: bytes


@dataclass(frozen=True)
class Submission:
    """The body of an `add-checkpoint` request. Laws: `bytes(Submission.parse(b)) == b`, `Submission.parse(bytes(s)) == s`.

    Attributes:
        old: the size that the proof starts from.
        proof: hashes of 32 bytes.
        note: the signed checkpoint, not looked at.
    """

    old: int
    proof: tuple[bytes, ...]
    note: str

    def __bytes__(self) -> bytes:
        lines = [f"old {self.old}", *(base64.b64encode(node).decode() for node in self.proof), "", self.note]
        return "\n".join(lines).encode()

    @classmethod
    def parse(cls, body: bytes) -> Self:
        """Read a request strictly: it has one spelling.

        Raises:
            InputError: not a request.
        """
        head, blank, note = body.partition(b"\n\n")
        if not blank:
            raise InputError("An add-checkpoint request has an empty line between the proof and the checkpoint.")
        first, *proof = head.split(b"\n")
        size = re.fullmatch(b"old (0|[1-9][0-9]{0,18})", first)
        if size is None or int(size[1]) > LARGEST_SIZE:
            raise InputError("The first line of an add-checkpoint request is `old SIZE`, SIZE decimal and below 2^63.")
        if len(proof) > MOST_PROOF_LINES:
            raise InputError(
                f"A consistency proof has at most {MOST_PROOF_LINES} lines, and this one has {len(proof)}."
            )
        try:
            return cls(int(size[1]), tuple(_hash(line) for line in proof), note.decode())
        except UnicodeDecodeError as error:
            raise InputError("A checkpoint is UTF-8.") from error


def _hash(line: bytes) -> bytes:
    if not re.fullmatch(b"[A-Za-z0-9+/]{43}=", line) or base64.b64encode(found := base64.b64decode(line)) != line:
        raise InputError("A line of a consistency proof is one hash of 32 bytes in canonical base64.")
    return found


@dataclass(frozen=True)
class _Request:
    """A submission whose checkpoint a trusted key of its log signed; `note` has the signatures that verified and no others."""

    old: int
    proof: tuple[bytes, ...]
    checkpoint: Checkpoint
    note: str


class _RefusedError(Exception):
    def __init__(self, status: HTTPStatus, said: str, content_type: str = PLAIN) -> None:
        super().__init__(said)
        self.answer = Answer(status, content_type, f"{said}\n".encode())


@dataclass
class Witness:
    """One witness of some logs. Threads and processes may share its store.

    Attributes:
        store: this witness's own; what it holds, this witness cosigned.
        key: of type `COSIGNATURE`; for nothing else.
        logs: the keys that are trusted for each origin.
        misbehaviour: where contradictions are kept; None keeps none.
        now: the clock.

    Raises:
        InputError: a key that cannot do what it is for.
    """

    store: CheckpointStore
    key: SigningKey
    logs: Mapping[str, Sequence[VerifierKey]]
    misbehaviour: MisbehaviourFile | None = None
    now: Callable[[], datetime] = field(default=clock.now, repr=False)

    def __post_init__(self) -> None:
        if self.key.type != COSIGNATURE:
            raise InputError(f"The key of {self.key.name} is none for cosignatures (type 0x04); generate one that is.")
        if not self.logs or not all(self.logs.values()):
            raise InputError("A witness needs the verifier key of a log to witness.")
        if any(key.public == self.key.verifier.public for keys in self.logs.values() for key in keys):
            raise InputError("A log cannot witness itself: the witness's key is one of the log's.")
        self.store.create()

    def add_checkpoint(self, body: bytes) -> Answer:
        """Answer one request: 200 with a cosignature, or a refusal whose text is for a person.

        Raises:
            UnavailableError: the store is gone or cannot be used, or the clock stands before the last cosignature. Nothing was
                signed.
        """
        try:
            request = self._authenticate(body)
            while True:
                latest = self._latest(request.checkpoint.origin)
                self._check(request, latest)
                again = self._recent(request, latest)
                if again is not None:
                    return Answer(HTTPStatus.OK, PLAIN, str(again).encode())
                cosigned = self._cosign(request, latest)
                text, signatures = split_note(request.note)
                try:
                    self.store.advance(
                        request.checkpoint.origin,
                        latest.size if latest else None,
                        join_note(text, [*signatures, cosigned]),
                    )
                except CheckpointConflictError:
                    continue  # somebody else moved the log on: look again, and most likely refuse
                return Answer(HTTPStatus.OK, PLAIN, str(cosigned).encode())
        except _RefusedError as refused:
            return refused.answer

    def latest(self, origin_hash: str) -> str | None:
        """The last checkpoint cosigned of the log whose origin has this SHA-256 (lower-case hexadecimal), as a note.

        A monitor compares it with what the log shows to others.
        """
        for origin in self.logs:
            if sha256(origin.encode()).hexdigest() == origin_hash:
                stored = self.store.latest(origin)
                return stored.note if stored else None
        return None

    def _authenticate(self, body: bytes) -> _Request:
        if len(body) > LONGEST_REQUEST:
            raise _RefusedError(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, f"A request has at most {LONGEST_REQUEST} bytes.")
        try:
            submission = Submission.parse(body)
            text, _ = split_note(submission.note)
            checkpoint = Checkpoint.parse(text)
        except (InputError, VerificationError) as error:
            raise _RefusedError(HTTPStatus.BAD_REQUEST, error.message) from error
        keys = self.logs.get(checkpoint.origin)
        if keys is None:
            raise _RefusedError(HTTPStatus.NOT_FOUND, "This witness does not know the log of this origin.")
        try:
            note = open_note(submission.note, keys)
        except NoteError as error:
            raise _RefusedError(
                HTTPStatus.FORBIDDEN, f"No key that is trusted for this origin signed: {error.message}"
            ) from error
        if submission.old > checkpoint.size:
            raise _RefusedError(HTTPStatus.BAD_REQUEST, "The old size is larger than the checkpoint's.")
        kept = join_note(text, [signature for _, signature in note.verified])
        return _Request(submission.old, submission.proof, checkpoint, kept)

    def _check(self, request: _Request, latest: Stored | None) -> None:
        """Refuse what does not continue `latest`, and keep what contradicts it."""
        size, root = (latest.size, latest.root) if latest else (0, merkle.EMPTY_ROOT)
        checkpoint = request.checkpoint
        known = latest if checkpoint.size >= size else self.store.at(checkpoint.origin, checkpoint.size)
        if known is not None and known.size == checkpoint.size and known.root != checkpoint.root:
            self._keep("other-root", request, known)
        if request.old != size:
            raise _RefusedError(HTTPStatus.CONFLICT, str(size), SIZE)
        if checkpoint.size == size and checkpoint.root != root:
            raise _RefusedError(
                HTTPStatus.CONFLICT,
                f"This witness cosigned another root of {size} entries: {base64.b64encode(root).decode()}.",
            )
        try:
            merkle.verify_consistency(size, checkpoint.size, request.proof, root, checkpoint.root)
        except VerificationError as error:
            if latest is not None and checkpoint.size > size > 0:
                self._keep(_kind(request, latest), request, latest)
            raise _RefusedError(HTTPStatus.UNPROCESSABLE_ENTITY, error.message) from error

    def _latest(self, origin: str) -> Stored | None:
        # Without its memory a witness would begin anew, and vouch for whatever it is shown first.
        if not self.store.exists():
            raise CheckpointStoreError(
                f"The memory of this witness, {self.store.path}, is gone; restore it from your backup, or begin with another key."
            )
        return self.store.latest(origin)

    def _recent(self, request: _Request, latest: Stored | None) -> Signature | None:
        """The cosignature that this very checkpoint got a moment ago. Anybody can send a checkpoint again, and again."""
        if latest is None or not latest.note.startswith(f"{request.checkpoint.text()}\n"):
            return None
        last = own_cosignature(latest.note, self.key.verifier)
        age = self.now().timestamp() - last.timestamp if last is not None and last.timestamp is not None else None
        return last if age is not None and 0 <= age < FRESH_SECONDS else None

    def _cosign(self, request: _Request, latest: Stored | None) -> Signature:
        at = int(self.now().timestamp())
        last = own_cosignature(latest.note, self.key.verifier) if latest else None
        if last is not None and last.timestamp is not None and last.timestamp > at:
            raise UnavailableError(
                f"The clock of this witness stands at {_moment(at)}, before its last cosignature of {_moment(last.timestamp)}; set "
                "it right."
            )
        return self.key.sign(request.checkpoint.text().encode(), at)

    def _keep(self, kind: Kind, request: _Request, known: Stored) -> None:
        if self.misbehaviour is not None:
            checkpoint = request.checkpoint
            self.misbehaviour.keep(
                Misbehaviour(
                    kind,
                    checkpoint.origin,
                    known.size,
                    known.note,
                    checkpoint.size,
                    request.note,
                    request.proof,
                    self.now(),
                )
            )


def own_cosignature(note: str, key: VerifierKey) -> Signature | None:
    """The cosignature by `key` on a note of the own store, which holds none that was not verified or made here."""
    _, signatures = split_note(note)
    return next((s for s in signatures if (s.name, s.key_id) == (key.name, key.key_id)), None)


def _kind(request: _Request, latest: Stored) -> Kind:
    """What a proof that failed shows nevertheless."""
    try:
        old, new = roots(latest.size, request.checkpoint.size, request.proof, latest.root)
    except VerificationError:
        return "unproven"
    return "other-prefix" if new == request.checkpoint.root and old != latest.root else "unproven"


def _moment(at: int) -> str:
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
