"""Transparency log proofs: that an entry is in a log, as one text that verifies offline (https://c2sp.org/tlog-proof).

    c2sp.org/tlog-proof@v1
    index 73894
    gSKyXoYZUgZ6jduWYrkDOARinOMGJveXjgMkBTcdPlQ=
    ...

    example.com/fancylog
    109482
    sFodV/vSp5O8n9a8QpW6PRY97tfOSW5bsc2Xl/EQi08=

    — example.com/fancylog hI2DJw...

This is the format alone. What proves something are `checkpoint.open_checkpoint` and `merkle.verify_inclusion` over its parts.

Laws: `TlogProof.parse(str(p)) == p` and `str(TlogProof.parse(t)) == t`.
"""

import base64
import re
from dataclasses import dataclass
from typing import Self

from traceai.errors import CheckpointError, NoteError, ProofError
from traceai.ledger.note import split_note
from traceai.ledger.tlog.checkpoint import Checkpoint

HEADER = "c2sp.org/tlog-proof@v1"
# The height of a tree of 2^63 - 1 leaves.
MOST_HASHES = 63


@dataclass(frozen=True)
class TlogProof:
    """An unverified proof.

    Attributes:
        index: of the entry, from 0; less than the size that the checkpoint states.
        hashes: 32 bytes each, at most 63: PATH of RFC 6962, section 2.1.1, the leaf's sibling first.
        checkpoint: the signed checkpoint verbatim, well-formed.
        extra: opaque and signed by nobody; None or at least one byte.

    Raises:
        ProofError: anything else.
    """

    index: int
    hashes: tuple[bytes, ...]
    checkpoint: str
    extra: bytes | None = None

    def __post_init__(self) -> None:
        if len(self.hashes) > MOST_HASHES or any(len(h) != 32 for h in self.hashes):
            raise ProofError(f"An inclusion proof has at most {MOST_HASHES} hashes of 32 bytes.")
        if self.extra == b"":
            raise ProofError("A proof without extra data has no line for it.")
        try:
            size = Checkpoint.parse(split_note(self.checkpoint)[0]).size
        except (NoteError, CheckpointError) as error:
            raise ProofError(f"The checkpoint of this proof is malformed. {error.message}") from error
        if not 0 <= self.index < size:
            raise ProofError(f"Leaf {self.index} cannot be in a tree of {size} leaves.")

    def __str__(self) -> str:
        lines = [HEADER]
        if self.extra is not None:
            lines.append(f"extra {base64.b64encode(self.extra).decode()}")
        lines.append(f"index {self.index}")
        lines += [base64.b64encode(h).decode() for h in self.hashes]
        return "\n".join(lines) + f"\n\n{self.checkpoint}"

    @classmethod
    def parse(cls, text: str | bytes) -> Self:
        """The inverse of `str` ("Format").

        Raises:
            ProofError: the specification does not allow this text.
        """
        try:
            decoded = text if isinstance(text, str) else text.decode()
        except UnicodeError as error:
            raise ProofError("A proof is UTF-8, and these bytes are not.") from error
        head, blank, checkpoint = decoded.partition("\n\n")
        header, *lines = head.split("\n")
        if header != HEADER or not blank:
            raise ProofError(f"A proof begins with the line {HEADER} and has an empty line before its checkpoint.")
        extra = _base64(lines.pop(0)[6:]) if lines and lines[0].startswith("extra ") else None
        # 19 digits hold 2^63 - 1; no longer text is ever made a number.
        if not lines or not re.fullmatch("index (0|[1-9][0-9]{0,18})", lines[0]):
            raise ProofError(
                "A proof has a line with the index of its entry, in decimal without sign or leading zeros."
            )
        proof = cls(int(lines[0][6:]), tuple(map(_base64, lines[1:])), checkpoint, extra)
        if str(proof) != decoded:
            raise ProofError("A proof writes its hashes and its extra data as canonical base64.")
        return proof


def _base64(text: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except ValueError as error:
        raise ProofError(
            "The lines of a proof after its index are hashes in base64, and its extra data is base64."
        ) from error
