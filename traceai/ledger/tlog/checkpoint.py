"""Checkpoints: the head of a log's tree as the text of a signed note (https://c2sp.org/tlog-checkpoint).

    example.com/behind-the-sofa
    20852163
    CsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=

Laws: `Checkpoint.parse(c.text()) == c` and `Checkpoint.parse(t).text() == t`.
"""

import base64
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Self

from traceai.errors import CheckpointError
from traceai.ledger import merkle
from traceai.ledger.note import Note, VerifierKey, open_note

LARGEST_SIZE = 2**63 - 1


@dataclass(frozen=True)
class Checkpoint:
    """The tree of `size` leaves that a log had ("Note text").

    Attributes:
        origin: what identifies the log: one line, not empty.
        size: 0 to 2**63 - 1.
        root: 32 bytes, the MTH of RFC 6962 over all leaves; of an empty tree SHA-256 of nothing.
        extensions: further lines, none of them empty. Opaque; no client may rely on them.

    Raises:
        CheckpointError: anything else.
    """

    origin: str
    size: int
    root: bytes
    extensions: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not all(_is_line(line) for line in (self.origin, *self.extensions)):
            raise CheckpointError(
                "The origin and the extension lines of a checkpoint are lines, and none of them is empty."
            )
        if not 0 <= self.size <= LARGEST_SIZE:
            raise CheckpointError(f"The size of a tree is between 0 and 2^63 - 1 and not {self.size}.")
        if len(self.root) != 32:
            raise CheckpointError(f"The root of a tree has 32 bytes and this one {len(self.root)}.")
        if self.size == 0 and self.root != merkle.EMPTY_ROOT:
            raise CheckpointError(
                "The root of the empty tree is the hash of nothing, and this checkpoint states another."
            )

    def text(self) -> str:
        """What is signed: at least three lines, each with its newline."""
        root = base64.b64encode(self.root).decode()
        return "".join(f"{line}\n" for line in (self.origin, self.size, root, *self.extensions))

    @classmethod
    def parse(cls, text: str) -> Self:
        """The inverse of `text`.

        Raises:
            CheckpointError: the specification does not allow this text.
        """
        lines = text.split("\n")
        if len(lines) < 4 or lines.pop() != "":
            raise CheckpointError("A checkpoint has at least three lines, and each ends in a newline.")
        origin, size, root, *extensions = lines
        # 19 digits hold 2^63 - 1; no longer text is ever made a number.
        if not re.fullmatch("0|[1-9][0-9]{0,18}", size):
            raise CheckpointError(
                "The size of a tree is a decimal number without sign or leading zeros, at most 2^63 - 1."
            )
        if not re.fullmatch("[A-Za-z0-9+/]{43}=", root):
            raise CheckpointError("The root of a tree is 32 bytes in base64.")
        checkpoint = cls(origin, int(size), base64.b64decode(root), tuple(extensions))
        if checkpoint.text() != text:
            raise CheckpointError("The root of a tree is canonical base64.")
        return checkpoint


def open_checkpoint(note_text: str | bytes, verifier_keys: Iterable[VerifierKey | str]) -> tuple[Checkpoint, Note]:
    """Verify a signed checkpoint, then read it.

    That the origin is the log's, and that the log's own key is among `note.verified`, is for the caller to say: a witness's
    signature alone says nothing of who signed the tree.

    Raises:
        NoteError: as in `open_note`.
        CheckpointError: the note holds no checkpoint.
    """
    note = open_note(note_text, verifier_keys)
    return Checkpoint.parse(note.text), note


def _is_line(text: str) -> bool:
    """Whether `text` can be a line of a signed note's text (signed-note, "Format")."""
    return text != "" and not re.search("[\x00-\x1f\ud800-\udfff]", text)
