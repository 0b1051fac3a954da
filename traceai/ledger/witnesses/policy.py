"""Whose cosignatures make a checkpoint witnessed: k of n, evaluated as a fact and never as an exception. Pure.

The policy is the last `witness-policy/1` entry of an origin. A cosignature says that its witness had seen no other history of
that log by the time it states (https://c2sp.org/tlog-cosignature).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, NamedTuple, Self

from traceai.errors import NoteError, PolicyError
from traceai.ledger.note import COSIGNATURE, Note, VerifierKey, split_note

# A note holds no more than 100 signatures, those of the log's keys among them.
MOST_WITNESSES = 32
# datetime ends with the year 9999; a time beyond says nothing about when.
_LATEST = 253402300799


@dataclass(frozen=True)
class PolicyWitness:
    """One witness: how people call it, its key, and the prefix under which it takes `add-checkpoint`."""

    name: str
    key: VerifierKey
    url: str


@dataclass(frozen=True)
class Policy:
    """`threshold` of these `witnesses`. Both empty: this log is not witnessed, and no checkpoint of it ever counts as such.

    Raises:
        PolicyError: a key that is not for cosignatures, a witness twice, or a threshold that cannot be met or asks for nobody.
    """

    origin: str
    threshold: int
    witnesses: tuple[PolicyWitness, ...]

    def __post_init__(self) -> None:
        if len(self.witnesses) > MOST_WITNESSES:
            raise PolicyError(f"A policy has at most {MOST_WITNESSES} witnesses and not {len(self.witnesses)}.")
        for witness in self.witnesses:
            if witness.key.type != COSIGNATURE:
                raise PolicyError(f"The key of the witness {witness.name} is none for cosignatures (type 0x04).")
        # One key under two names would be one witness that counts twice: the signed message does not commit to the name.
        if len({witness.key.public for witness in self.witnesses}) != len(self.witnesses):
            raise PolicyError("The witness policy names one public key twice.")
        if len({witness.name for witness in self.witnesses}) != len(self.witnesses):
            raise PolicyError("The witness policy names two witnesses alike.")
        least = 1 if self.witnesses else 0
        if not least <= self.threshold <= len(self.witnesses):
            raise PolicyError(
                f"A policy with {len(self.witnesses)} witnesses can ask for {least} to {len(self.witnesses)} of them and not "
                f"for {self.threshold}."
            )

    @classmethod
    def parse(cls, fields: Mapping[str, Any]) -> Self:
        """From the fields of a `witness-policy/1` record, or of its table row.

        Raises:
            PolicyError: see the class; or fields that are not those of such a record.
        """
        try:
            origin, threshold, listed = fields["origin"], fields["threshold"], fields["witnesses"]
            if type(origin) is not str or type(threshold) is not int or not isinstance(listed, Sequence):
                raise TypeError("a field of another type")
            witnesses = tuple(
                PolicyWitness(str(found["name"]), VerifierKey.parse(str(found["key"])), str(found["url"]))
                for found in listed
            )
        except NoteError as error:
            raise PolicyError(f"The witness policy has a key that is none: {error.message}") from error
        except (KeyError, TypeError) as error:
            raise PolicyError("The witness policy lacks a field, or has one of another type.") from error
        return cls(origin, threshold, witnesses)


@dataclass(frozen=True)
class Cosigned:
    """A cosignature that verified. at: what the witness's clock said, UTC; None beyond the year 9999."""

    witness: str
    at: datetime | None


class PolicyFact(NamedTuple):
    """witnessed: at least `needed` witnesses of the policy cosigned, and at least one. by: those that did, in policy order."""

    witnessed: bool
    by: tuple[Cosigned, ...]
    needed: int


def policy_fact(note: str | Note, policy: Policy) -> PolicyFact:
    """Evaluate a policy on a checkpoint. Signatures that do not verify count for nothing, and hinder none that does.

    That a key of the log signed the text, and that it is a checkpoint of the policy's origin, is for the caller to say.

    Raises:
        NoteError: `note` is not a note at all.
    """
    text, signatures = split_note(str(note))
    data = text.encode()
    by = []
    for witness in policy.witnesses:
        times = [
            signature.timestamp
            for signature in signatures
            if (signature.name, signature.key_id) == (witness.key.name, witness.key.key_id)
            and witness.key.verify(data, signature.signature)
        ]
        stated = [time for time in times if time is not None]
        if stated:
            first = min(stated)
            by.append(Cosigned(witness.name, datetime.fromtimestamp(first, UTC) if first <= _LATEST else None))
    return PolicyFact(bool(by) and len(by) >= policy.threshold, tuple(by), policy.threshold)
