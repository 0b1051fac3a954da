"""Signed notes: text with the signatures of one or more keys (https://c2sp.org/signed-note).

    Ognuno sta solo sul cuor della terra
    trafitto da un raggio di sole:

    — quasimodo.example/salvatore NnugSzTjtVAewIS+Z/iJhUPeFDkO/5QQ2i5ddnGITLlC+EhfLW9oJKONrMouFSQU0xMcXxj99ihAQwaqP3ZekRwNtIc=

Two signature types are supported: Ed25519 over the text ("Ed25519 signatures"), and the timestamped Ed25519 cosignatures of
witnesses (https://c2sp.org/tlog-cosignature, "Ed25519 signed message"). Signatures of every other type are kept, and count for
nothing. A cosignature states something about checkpoints only: that a text is one is for `checkpoint` to say.

Everything here is refused rather than repaired: whatever is read has one spelling only, so that two readers of the same bytes
cannot come to two notes. Where the specification leaves room, this is Go's golang.org/x/mod/sumdb/note, except that base64 whose
unused bits are not zero is refused, as are key IDs in capitals.

Laws: `str(open_note(text, keys)) == text`, and `C.parse(str(x)) == x` with `str(C.parse(s)) == s` for keys and signatures.
"""

import base64
import hashlib
import re
import secrets
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import AnyStr, Self

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from traceai.errors import NoteError

# "Signature types". Those of a VerifierKey and a SigningKey.
ED25519 = 0x01
COSIGNATURE = 0x04

# "Verifiers SHOULD apply a maximum limit to the number of signatures in a note, but MUST accept at least up to 16."
MOST_SIGNATURES = 100
LATEST_TIMESTAMP = 2**63 - 1

_DASH = "\u2014 "
_COSIGNATURE_LENGTH = 8 + 64


@dataclass(frozen=True)
class VerifierKey:
    """A public key with the name that its owner signs under; as text a "vkey".

    Attributes:
        name: not empty, without Unicode spaces, plus signs or control characters.
        type: `ED25519` or `COSIGNATURE`.
        public: 32 bytes (RFC 8032).

    Raises:
        NoteError: anything else.
    """

    name: str
    type: int
    public: bytes

    def __post_init__(self) -> None:
        _check_name(self.name)
        _check_type(self.type)
        if len(self.public) != 32:
            raise NoteError(f"An Ed25519 public key has 32 bytes and that of {self.name} has {len(self.public)}.")

    @cached_property
    def key_id(self) -> bytes:
        """SHA-256(name || 0x0A || type || public key)[:4]: 4 bytes ("Signatures")."""
        return _key_id(self.name, self.type, self.public)

    def __str__(self) -> str:
        """<name>+<key ID, 8 lower-case hexadecimal digits>+<base64(type || public key)>."""
        return f"{self.name}+{self.key_id.hex()}+{_encode(bytes([self.type]) + self.public)}"

    @classmethod
    def parse(cls, text: str) -> Self:
        """The inverse of `str`.

        Raises:
            NoteError: not that form, a key ID that is not this key's, or a type that is not supported.
        """
        name, key_id, data = _parse_key(text, "verifier")
        key = cls(name, data[0], data[1:])
        if key.key_id != key_id:
            raise NoteError(
                f"The verifier key of {name} states the key ID {key_id.hex()} and has {key.key_id.hex()}: name, type "
                "or key were changed."
            )
        return key

    def verify(self, text: bytes, signature: bytes) -> bool:
        """Whether `signature` (without key ID) is this key's of `text`, which ends in a newline.

        For a cosignature key these are a timestamp of 8 bytes and 64 bytes over the message that states it.
        """
        if self.type == COSIGNATURE:
            if len(signature) != _COSIGNATURE_LENGTH:
                return False
            at = int.from_bytes(signature[:8], "big")
            if at > LATEST_TIMESTAMP:
                return False
            text, signature = _cosigned(text, at), signature[8:]
        try:
            Ed25519PublicKey.from_public_bytes(self.public).verify(signature, text)
        except InvalidSignature:
            return False
        return True


@dataclass(frozen=True)
class Signature:
    """One signature line. That it is genuine is for `open_note` to say.

    Attributes:
        name: of the key.
        key_id: 4 bytes.
        signature: 1 byte or more, without the key ID.

    Raises:
        NoteError: anything else.
    """

    name: str
    key_id: bytes
    signature: bytes

    def __post_init__(self) -> None:
        _check_name(self.name)
        if len(self.key_id) != 4 or not self.signature:
            raise NoteError(
                f"A signature line holds four bytes of key ID and a signature; that of {self.name} does not."
            )

    @property
    def timestamp(self) -> int | None:
        """The POSIX time (s) that these bytes state if they are a cosignature; None where they are too long or too short.

        It means something only for a signature that a key of type `COSIGNATURE` verified.
        """
        return int.from_bytes(self.signature[:8], "big") if len(self.signature) == _COSIGNATURE_LENGTH else None

    def __str__(self) -> str:
        """The line, with its newline."""
        return f"{_DASH}{self.name} {_encode(self.key_id + self.signature)}\n"

    @classmethod
    def parse(cls, line: str) -> Self:
        """The inverse of `str`.

        Raises:
            NoteError: not one signature line that ends in a newline ("Format").
        """
        if not line.startswith(_DASH) or not line.endswith("\n"):
            raise NoteError("A signature line begins with an em dash and a space, and ends in a newline.")
        name, _, encoded = line[len(_DASH) : -1].partition(" ")
        data = _decode(encoded, "A signature")
        return cls(name, data[:4], data[4:])


@dataclass(frozen=True)
class Note:
    """What `open_note` found.

    Attributes:
        text: what was signed; ends in a newline.
        signatures: every signature line, in the order of the note.
        verified: the signatures of known keys, each with its key: at least one, and no key twice.
        others: the signatures of unknown keys, which prove nothing.
    """

    text: str
    signatures: tuple[Signature, ...]
    verified: tuple[tuple[VerifierKey, Signature], ...]
    others: tuple[Signature, ...]

    def __str__(self) -> str:
        return join_note(self.text, self.signatures)


@dataclass(frozen=True)
class SigningKey:
    """A private key: whoever holds its text can sign in its name. `repr` does not show the secret and `str` does.

    Attributes:
        name, type: as in `VerifierKey`.
        seed: 32 bytes, the private key of RFC 8032.

    Raises:
        NoteError: anything else.
    """

    name: str
    type: int
    seed: bytes = field(repr=False)

    def __post_init__(self) -> None:
        _check_name(self.name)
        _check_type(self.type)
        if len(self.seed) != 32:
            raise NoteError(f"An Ed25519 private key has 32 bytes and that of {self.name} has {len(self.seed)}.")

    @classmethod
    def generate(cls, name: str, type: int = ED25519) -> Self:
        """A new key from the operating system's randomness."""
        return cls(name, type, secrets.token_bytes(32))

    @cached_property
    def verifier(self) -> VerifierKey:
        return VerifierKey(self.name, self.type, self._private.public_key().public_bytes_raw())

    @cached_property
    def _private(self) -> Ed25519PrivateKey:
        return Ed25519PrivateKey.from_private_bytes(self.seed)

    def __str__(self) -> str:
        """PRIVATE+KEY+<name>+<key ID>+<base64(type || seed)>, the form of golang.org/x/mod/sumdb/note."""
        return f"PRIVATE+KEY+{self.name}+{self.verifier.key_id.hex()}+{_encode(bytes([self.type]) + self.seed)}"

    @classmethod
    def parse(cls, text: str) -> Self:
        """The inverse of `str`.

        Raises:
            NoteError: not that form, a key ID that is not this key's, or a type that is not supported.
        """
        prefix = "PRIVATE+KEY+"
        if not text.startswith(prefix):
            raise NoteError(f"A signing key begins with {prefix}.")
        name, key_id, data = _parse_key(text[len(prefix) :], "signing")
        key = cls(name, data[0], data[1:])
        if key.verifier.key_id != key_id:
            raise NoteError(f"The signing key of {name} does not have the key ID {key_id.hex()} that it states.")
        return key

    def sign(self, text: bytes, at: int | None = None) -> Signature:
        """The signature of `text`, which ends in a newline.

        Args:
            at: for a cosignature its POSIX time (s), 0 to 2**63 - 1; the current time if None. Other types state no time.

        Raises:
            NoteError: `text` can be no note's text, or `at` cannot be stated.
        """
        _check_text(_decoded(text))
        if self.type != COSIGNATURE:
            if at is not None:
                raise NoteError(f"The signatures of {self.name} are no cosignatures and state no time.")
            return Signature(self.name, self.verifier.key_id, self._private.sign(text))
        at = int(time.time()) if at is None else at
        if not 0 <= at <= LATEST_TIMESTAMP:
            raise NoteError(f"A cosignature's time is between 0 and 2^63 - 1 and not {at}.")
        signature = at.to_bytes(8, "big") + self._private.sign(_cosigned(text, at))
        return Signature(self.name, self.verifier.key_id, signature)


def open_note(text: str | bytes, verifier_keys: Iterable[VerifierKey | str]) -> Note:
    """Read a note and verify the signatures of the keys that are known ("Signatures").

    The signatures of unknown keys are ignored, also where they share a name or a key ID (but not both) with a known one. Of a
    known key that signed more than once only the first signature counts and is verified, as in Go.

    Args:
        text: the whole note, as UTF-8 where it is bytes.
        verifier_keys: the keys that the caller trusts, as objects or vkeys. The same key may be given twice.

    Raises:
        NoteError: the note is malformed; a known key's signature does not verify; no known key signed; a key is malformed or of
            an unsupported type; or two different keys have the same name and key ID.
    """
    known = _known(verifier_keys)
    signed, signatures = split_note(text)
    data = signed.encode()
    verified: dict[VerifierKey, Signature] = {}
    others = []
    for signature in signatures:
        key = known.get((signature.name, signature.key_id))
        if key is None:
            others.append(signature)
        elif key not in verified:
            if not key.verify(data, signature.signature):
                raise NoteError(f"The signature of {key.name}+{key.key_id.hex()} does not verify.")
            verified[key] = signature
    if not verified:
        signers = ", ".join(dict.fromkeys(f"{s.name}+{s.key_id.hex()}" for s in signatures))
        raise NoteError(f"None of the known keys signed this note; those that it names are {signers}.")
    return Note(signed, signatures, tuple(verified.items()), tuple(dict.fromkeys(others)))


def sign_note(
    text: AnyStr, key: SigningKey | str | Iterable[SigningKey | str], at: int | None = None
) -> AnyStr:  # fmt: skip
    """Sign a text. Whatever it looks like, all of it is what is signed; `cosign_note` adds signatures to a note.

    Args:
        text: ends in a newline; UTF-8 where it is bytes.
        key: one key or several, as objects or as text.
        at: the time of the cosignatures (POSIX, s); the current time if None.

    Returns:
        The note: bytes where `text` is bytes.

    Raises:
        NoteError: text or key are malformed, there is no key, or there are more than `MOST_SIGNATURES`.
    """
    signed = _decoded(text)
    note = join_note(signed, _signatures(signed, key, at))
    return note if isinstance(text, str) else note.encode()


def cosign_note(
    note: AnyStr, key: SigningKey | str | Iterable[SigningKey | str], at: int | None = None
) -> AnyStr:  # fmt: skip
    """Add signatures to a note, after those that it has. These are kept unverified: open the note first to know whose they are.

    An older signature by one of the keys gives way to the new one, as in Go.

    Args:
        note: as `sign_note` returns it; key, at: as there.

    Returns:
        The note: bytes where `note` is bytes.

    Raises:
        NoteError: note or key are malformed, there is no key, or there would be more than `MOST_SIGNATURES` signatures.
    """
    signed, there = split_note(note)
    cosigned = join_note(signed, _renewed(there, _signatures(signed, key, at)))
    return cosigned if isinstance(note, str) else cosigned.encode()


def split_note(text: str | bytes) -> tuple[str, tuple[Signature, ...]]:
    """The text and the signatures of a note ("Format"). Nothing is verified, so that nothing of it may be believed.

    Raises:
        NoteError: malformed.
    """
    decoded = _decoded(text)
    head, blank, lines = decoded.rpartition("\n\n")
    if not blank:
        raise NoteError("A note has an empty line between its text and its signatures.")
    return head + "\n", parse_signatures(lines)


def join_note(text: str, signatures: Sequence[Signature]) -> str:
    """The inverse of `split_note`.

    Raises:
        NoteError: `text` can be no note's, or there is no signature or more than `MOST_SIGNATURES`.
    """
    _check_text(text)
    _check_count(len(signatures))
    return f"{text}\n{''.join(map(str, signatures))}"


def parse_signatures(lines: str | bytes) -> tuple[Signature, ...]:
    """The signature lines of a note, or of a witness's answer; nothing is verified.

    Raises:
        NoteError: malformed, none, more than `MOST_SIGNATURES`, or anything after the last.
    """
    decoded = _decoded(lines)
    if not decoded.endswith("\n"):
        raise NoteError("The last signature line of a note ends in a newline.")
    _check_count(decoded.count("\n"))
    return tuple(Signature.parse(line + "\n") for line in decoded[:-1].split("\n"))


def _signatures(
    text: str, given: SigningKey | str | Iterable[SigningKey | str], at: int | None
) -> list[Signature]:  # fmt: skip
    several = (given,) if isinstance(given, SigningKey | str) else given
    keys = dict.fromkeys(SigningKey.parse(key) if isinstance(key, str) else key for key in several)
    if not keys:
        raise NoteError("There is no key to sign with.")
    return [key.sign(text.encode(), at if key.type == COSIGNATURE else None) for key in keys]


def _renewed(there: Sequence[Signature], new: Sequence[Signature]) -> list[Signature]:
    replaced = {(signature.name, signature.key_id) for signature in new}
    return [*(old for old in there if (old.name, old.key_id) not in replaced), *new]


def _known(keys: Iterable[VerifierKey | str]) -> dict[tuple[str, bytes], VerifierKey]:
    known: dict[tuple[str, bytes], VerifierKey] = {}
    for given in (keys,) if isinstance(keys, VerifierKey | str) else keys:
        key = VerifierKey.parse(given) if isinstance(given, str) else given
        if known.setdefault((key.name, key.key_id), key) != key:
            raise NoteError(
                f"Two different keys are called {key.name}+{key.key_id.hex()}, so that it is unclear whose signature counts."
            )
    return known


def _parse_key(text: str, kind: str) -> tuple[str, bytes, bytes]:
    parts = text.split("+", 2)
    if len(parts) != 3 or not re.fullmatch("[0-9a-f]{8}", parts[1]):
        raise NoteError(f"A {kind} key has a name, a key ID of 8 lower-case hexadecimal digits and a key in base64.")
    data = _decode(parts[2], f"The key in a {kind} key")
    if not data:
        raise NoteError(f"This {kind} key has no type and no key.")
    return parts[0], bytes.fromhex(parts[1]), data


def _key_id(name: str, type: int, public: bytes) -> bytes:
    return hashlib.sha256(name.encode() + b"\n" + bytes([type]) + public).digest()[:4]


def _cosigned(text: bytes, at: int) -> bytes:
    """The message of a cosignature (tlog-cosignature, "Ed25519 signed message")."""
    return b"cosignature/v1\ntime %d\n" % at + text


def _check_name(name: str) -> None:
    """ "Key names MUST be non-empty and MUST NOT contain any Unicode spaces or plus"; they lie in notes, so no controls either."""
    if not name or "+" in name or any(c.isspace() or c < " " or "\ud800" <= c <= "\udfff" for c in name):
        raise NoteError("A key name is not empty and has no spaces, plus signs or control characters.")


def _check_type(type: int) -> None:
    if type not in (ED25519, COSIGNATURE):
        raise NoteError(
            f"Keys of type 0x{type:02x} are not supported: only 0x01 (Ed25519) and 0x04 (Ed25519 cosignatures of witnesses)."
        )


def _check_text(text: str) -> None:
    _decoded(text)
    if not text.endswith("\n"):
        raise NoteError("The text of a note ends in a newline.")


def _check_count(signatures: int) -> None:
    if not 1 <= signatures <= MOST_SIGNATURES:
        raise NoteError(f"A note has between 1 and {MOST_SIGNATURES} signatures and not {signatures}.")


def _decoded(text: str | bytes) -> str:
    """ "Signed notes MUST be valid UTF-8 and MUST NOT contain any ASCII control characters other than newline"."""
    try:
        decoded = text if isinstance(text, str) else text.decode()
        decoded.encode()
    except UnicodeError as error:
        raise NoteError("A note is UTF-8, and these bytes are not.") from error
    if re.search("[\x00-\x09\x0b-\x1f]", decoded):
        raise NoteError("A note has no control characters other than newlines.")
    return decoded


def _encode(data: bytes) -> str:
    return base64.b64encode(data).decode()


def _decode(text: str, what: str) -> bytes:
    """RFC 4648, section 4, and only what `_encode` writes: padded, without spaces, and with unused bits zero (section 3.5)."""
    try:
        data = base64.b64decode(text, validate=True)
    except ValueError as error:
        raise NoteError(f"{what} is not base64.") from error
    if _encode(data) != text:
        raise NoteError(f"{what} is not canonical base64.")
    return data
