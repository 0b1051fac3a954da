"""The evidence file `traceai-evidence/1` as bytes and as values: `docs/evidence-file.md`, sections Form and Fields.

Reading is syntax alone. It says that these bytes are such a file, and nothing about whether what stands in it is true.
"""

import base64
import binascii
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from traceai.errors import EvidenceError, VerificationError
from traceai.ledger import note
from traceai.ledger.evidence import strict_json
from traceai.ledger.note import Signature, VerifierKey
from traceai.ledger.tlog.checkpoint import Checkpoint
from traceai.ledger.tlog.proof import TlogProof

SCHEMA = "traceai-evidence/1"
MEDIA_TYPE = "application/vnd.traceai.evidence+json"
LARGEST = 16 * 2**20
_LARGEST_INDEX = 2**53 - 1


@dataclass(frozen=True)
class Included:
    """An entry of the log that the decision stands on. `hashes`: its inclusion proof under the file's checkpoint."""

    index: int
    entry: bytes
    hashes: tuple[bytes, ...]


@dataclass(frozen=True)
class Timestamp:
    """An RFC 3161 token (DER) over the checkpoint, and where it was asked for."""

    tsa: str
    token: bytes


@dataclass(frozen=True)
class EvidenceFile:
    """One decision and its proof: `bytes(EvidenceFile.parse(b)) == b`.

    entry: the decision's entry, byte for byte as in the log.
    proof: its place in the log, its inclusion proof, and the checkpoint with all signatures.
    keys: the key of every signature on the checkpoint, in the order of the signatures.
    related: ascending by index.
    handovers: for each change of the log's key, the proof of its `ledger-key/1` entry under an earlier checkpoint that the
        replaced key alone signs here; ascending by index.
    """

    entry: bytes
    proof: TlogProof
    keys: tuple[VerifierKey, ...]
    related: tuple[Included, ...] = ()
    handovers: tuple[TlogProof, ...] = ()
    timestamps: tuple[Timestamp, ...] = ()

    def __bytes__(self) -> bytes:
        return _dumps(
            {
                "schema": SCHEMA,
                "entry": self.entry.decode("utf-8"),
                "proof": str(self.proof),
                "keys": [str(key) for key in self.keys],
                "related": [
                    {
                        "index": included.index,
                        "entry": included.entry.decode("utf-8"),
                        "hashes": [found.hex() for found in included.hashes],
                    }
                    for included in self.related
                ],
                "handovers": [str(handover) for handover in self.handovers],
                "timestamps": [
                    {"tsa": stamp.tsa, "token": base64.b64encode(stamp.token).decode("ascii")}
                    for stamp in self.timestamps
                ],
            }
        )

    @classmethod
    def parse(cls, data: bytes) -> "EvidenceFile":
        """Read a file. Every value has one form, and any other is refused.

        Raises:
            EvidenceError: these bytes are no evidence file, or one that was changed.
        """
        if len(data) > LARGEST:
            raise EvidenceError(f"An evidence file has at most {LARGEST} bytes.")
        if not data.endswith(b"\n"):
            raise EvidenceError(
                "An evidence file ends with a line feed; this one was cut off, or is another kind of file."
            )
        try:
            found = cls._read(strict_json.loads(data[:-1]))
        except VerificationError as error:
            raise EvidenceError(f"This is no intact evidence file: {error.message}") from error
        if bytes(found) != data:
            raise EvidenceError("This is no intact evidence file: a value in it is not in its one form.")
        return found

    @classmethod
    def _read(cls, value: Any) -> "EvidenceFile":
        names = ("schema", "entry", "proof", "keys", "related", "handovers", "timestamps")
        schema, entry, proof, keys, related, handovers, timestamps = _fields(value, names)
        if schema != SCHEMA:
            raise EvidenceError("its schema is not known to this release; verify with a newer one.")
        found = cls(
            entry=_text(entry).encode("utf-8"),
            proof=TlogProof.parse(_text(proof)),
            keys=tuple(VerifierKey.parse(_text(key)) for key in _list(keys)),
            related=tuple(_included(item) for item in _list(related)),
            handovers=tuple(TlogProof.parse(_text(item)) for item in _list(handovers)),
            timestamps=tuple(_timestamp(item) for item in _list(timestamps)),
        )
        if any(given.extra is not None for given in (found.proof, *found.handovers)):
            raise EvidenceError("a proof in it has extra data, which nothing would authenticate.")
        indexes = [included.index for included in found.related]
        if indexes != sorted({*indexes} - {found.proof.index}):
            raise EvidenceError("its related entries are not in ascending order, each once.")
        changes = [handover.index for handover in found.handovers]
        if changes != sorted({*changes} & {*indexes}):
            raise EvidenceError("its handovers are not in ascending order, each of one related entry.")
        if any(len(opened(handover)[1]) != 1 for handover in found.handovers):
            raise EvidenceError("a handover has not one signature, that of the key that was replaced.")
        _signed_by(opened(found.proof)[1], found.keys)
        return found


def opened(proof: TlogProof) -> tuple[Checkpoint, tuple[Signature, ...]]:
    """The checkpoint of a proof and the signatures on it, none of them verified."""
    text, signatures = note.split_note(proof.checkpoint)
    return Checkpoint.parse(text), signatures


def _signed_by(signatures: Sequence[Signature], keys: Sequence[VerifierKey]) -> None:
    """Whoever cannot be named cannot be checked: each signature has its key, and no key is there twice."""
    if [(key.name, key.key_id) for key in keys] != [(found.name, found.key_id) for found in signatures]:
        raise EvidenceError("its keys are not those of the checkpoint's signatures, in their order.")
    if len({*keys}) != len(keys):
        raise EvidenceError("one key has signed the checkpoint twice.")
    for key in keys:
        if key.type not in {note.ED25519, note.COSIGNATURE}:
            raise EvidenceError("a signature is of a type that this release does not know.")


def _included(value: Any) -> Included:
    index, entry, hashes = _fields(value, ("index", "entry", "hashes"))
    if type(index) is not int or not 0 <= index <= _LARGEST_INDEX:
        raise EvidenceError("the index of a related entry is no index.")
    return Included(index, _text(entry).encode("utf-8"), tuple(_hash(item) for item in _list(hashes)))


def _timestamp(value: Any) -> Timestamp:
    tsa, token = _fields(value, ("tsa", "token"))
    try:
        return Timestamp(_text(tsa), base64.b64decode(_text(token), validate=True))
    except (binascii.Error, ValueError) as error:
        raise EvidenceError("a timestamp is not in base64.") from error


def _hash(value: Any) -> bytes:
    text = _text(value)
    if not re.fullmatch("[0-9a-f]{64}", text):
        raise EvidenceError("a hash of an inclusion proof is no hash.")
    return bytes.fromhex(text)


def _fields(value: Any, names: Sequence[str]) -> tuple[Any, ...]:
    if type(value) is not dict or value.keys() != {*names}:
        raise EvidenceError(f"it has not the fields {', '.join(names)}.")
    return tuple(value[name] for name in names)


def _list(value: Any) -> list[Any]:
    if type(value) is not list:
        raise EvidenceError("a list is missing.")
    return value


def _text(value: Any) -> str:
    if type(value) is not str:
        raise EvidenceError("a string is missing.")
    return value


def _dumps(value: Any) -> bytes:
    return strict_json.dumps(value) + b"\n"
