"""What the log proves of an evidence file: its place in the tree, who signed the tree, who else saw it, and when.

Signed and trusted are two things: a signature says which key made it, and only the auditor says which keys count.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from cryptography import x509

from traceai.errors import InputError, RecordError, TimestampError, VerificationError
from traceai.ledger import merkle
from traceai.ledger.evidence import schemas
from traceai.ledger.evidence.claims import DECIDED, FAILED, Entry, Fact, of
from traceai.ledger.evidence.file import EvidenceFile, opened
from traceai.ledger.note import COSIGNATURE, ED25519, Signature, VerifierKey
from traceai.ledger.printing import shown
from traceai.ledger.tlog.proof import TlogProof


@dataclass(frozen=True)
class Trust:
    """What the auditor brings: nothing of it comes from the file.

    keys: of logs whose signature counts.
    witnesses: keys whose cosignatures count; `threshold` of them are asked for, all of them where it is None.
    authorities: certificates of timestamp authorities.

    Raises:
        InputError: a key of the wrong kind, or a threshold that the witnesses cannot reach.
    """

    keys: tuple[VerifierKey, ...] = ()
    witnesses: tuple[VerifierKey, ...] = ()
    threshold: int | None = None
    authorities: tuple[x509.Certificate, ...] = ()

    def __post_init__(self) -> None:
        for key, type_, kind in [(k, ED25519, "log") for k in self.keys] + [
            (k, COSIGNATURE, "witness") for k in self.witnesses
        ]:
            if key.type != type_:
                raise InputError(f"The key of {key.name} is no key of a {kind}.")
        if self.threshold is not None and not 1 <= self.threshold <= len({key.public for key in self.witnesses}):
            raise InputError("The threshold is not between 1 and the number of witnesses; name them with --witness.")


class Proofs:
    """The facts about one file. decision, related: its entries, as far as they are valid records that were proved included."""

    def __init__(self, file: EvidenceFile, trust: Trust) -> None:
        self.file, self.trust = file, trust
        self.checkpoint, signatures = opened(file.proof)
        self.signed_text = self.checkpoint.text().encode("utf-8")
        # Signature by signature, whether it is its key's.
        self.signatures: list[tuple[VerifierKey, Signature, bool]] = [
            (key, found, key.verify(self.signed_text, found.signature))
            for key, found in zip(file.keys, signatures, strict=True)
        ]
        self.decision: Entry | None = None
        self.related: list[Entry] = []

    def facts(self) -> list[Fact]:
        return [
            self._entry(),
            self._included(),
            self._related(),
            self._signed(),
            self._handovers(),
            self._signer_trusted(),
            self._witnessed(),
            self._witnesses_trusted(),
            self._timestamps(),
        ]

    def _entry(self) -> Fact:
        try:
            fields = schemas.read(self.file.entry)
        except RecordError as error:
            return Fact("entry", False, f"The decision's entry is no valid record: {shown(error.message)}")
        if fields["schema"] not in {DECIDED, FAILED}:
            return Fact("entry", False, f"The entry is a {fields['schema']} and no decision.")
        self.decision = Entry(self.file.proof.index, merkle.leaf_hash(self.file.entry), fields)
        part = ", ".join(f"{name} {shown(value)}" for name, value in fields["part"].items() if value is not None)
        told = f"FAILED ({shown(fields['failure_code'])})" if fields["schema"] == FAILED else fields["verdict"].upper()
        return Fact(
            "entry", True,
            f"{self.decision.kind.capitalize()} {fields['id']}: {told}. Station {shown(fields['station'])}, number "
            f"{fields['station_seq']}, at {fields['occurred_at']}; part: {part or 'not named'}.",
        )  # fmt: skip

    def _included(self) -> Fact:
        kind = self.decision.kind if self.decision else "record"
        index, point = self.file.proof.index, self.checkpoint
        try:
            merkle.verify_inclusion(
                merkle.leaf_hash(self.file.entry), index, point.size, self.file.proof.hashes, point.root
            )
        except VerificationError as error:
            return Fact("included", False, shown(error.message))
        return Fact(
            "included", True,
            f"The {kind} is entry {index} of the {point.size} under the root {point.root.hex()}.",
        )  # fmt: skip

    def _related(self) -> Fact:
        wrong = []
        for found in self.file.related:
            leaf = merkle.leaf_hash(found.entry)
            try:
                merkle.verify_inclusion(leaf, found.index, self.checkpoint.size, found.hashes, self.checkpoint.root)
                self.related.append(Entry(found.index, leaf, schemas.read(found.entry)))
            except VerificationError as error:
                wrong.append(f"Entry {found.index}: {shown(error.message)}")
        if wrong:
            return Fact("related", False, " ".join(wrong))
        return Fact("related", True, f"All {len(self.related)} other entries in the file are in the same tree.")

    def _signed(self) -> Fact:
        name, origin = "signed", self.checkpoint.origin
        by_log = [(key, valid) for key, _, valid in self.signatures if key.type == ED25519]
        if not by_log:
            return Fact(name, False, "No log signed the checkpoint.")
        for key, valid in by_log:
            if key.name != origin:
                return Fact(
                    name, False, f"The checkpoint is of {shown(origin)}, and signed in the name of {shown(key.name)}."
                )
            if not valid:
                return Fact(name, False, f"The signature of the key {_vkey(key)} is not of this checkpoint.")
        stated = self._log_keys()
        for key, _ in by_log:
            if str(key) not in stated:
                return Fact(
                    name,
                    False,
                    f"The key {_vkey(key)} signed, and no entry in this file says that the log has that key.",
                )
        current = list(stated)[-1]
        if current not in {str(key) for key, _ in by_log}:
            return Fact(name, False, f"The key was replaced in entry {stated[current]}, and the new one did not sign.")
        return Fact(
            name, True,
            f"The log {shown(origin)} signed the checkpoint with "
            + " and ".join(f"{_vkey(key)} (stated in entry {stated[str(key)]})" for key, _ in by_log)
            + ".",
        )  # fmt: skip

    def _log_keys(self) -> dict[str, int]:
        """The log's keys, oldest first and the current one last, each with the entry that states it."""
        openings = [entry for entry in of("ledger-opened/1", self.related) if self._is_mine(entry)]
        if not openings:
            return {}
        current = openings[0].fields["key"]
        stated = {current: openings[0].index}
        for change in self._key_changes():
            # A key counts where it takes the current one's place, and nowhere else; one that was replaced never comes back.
            if change.fields["replaces"] == current and change.fields["key"] not in stated:
                current = change.fields["key"]
                stated[current] = change.index
        return stated

    def _key_changes(self) -> list[Entry]:
        return [entry for entry in of("ledger-key/1", self.related) if self._is_mine(entry)]

    def _is_mine(self, entry: Entry) -> bool:
        return bool(entry.fields["origin"] == self.checkpoint.origin)

    def _handovers(self) -> Fact:
        """A new key in a tree that only the new key signed would be its own witness: the old one has to say so too."""
        name, changes = "handovers", self._key_changes()
        wrong = [message for proof in self.file.handovers if (message := self._broken(proof)) is not None]
        if wrong:
            return Fact(name, False, " ".join(wrong))
        if not changes:
            return Fact(name, None, "The log's key was never replaced, as far as this file shows.")
        shown_by = {proof.index for proof in self.file.handovers}
        missing = ", ".join(str(change.index) for change in changes if change.index not in shown_by)
        if missing:
            return Fact(name, None, f"The file does not show that the key replaced in entry {missing} agreed to it.")
        places = ", ".join(str(change.index) for change in changes)
        return Fact(name, True, f"The key that was replaced in entry {places} signed for the new one.")

    def _broken(self, proof: TlogProof) -> str | None:
        """Why a handover is none; None where it holds."""
        change = next((entry for entry in self._key_changes() if entry.index == proof.index), None)
        point, (signature,) = opened(proof)
        if change is None or point.origin != self.checkpoint.origin:
            return f"Entry {proof.index} replaces no key of this log."
        try:
            merkle.verify_inclusion(change.leaf, change.index, point.size, proof.hashes, point.root)
            old = VerifierKey.parse(change.fields["replaces"])
        except VerificationError as error:
            return f"Handover in entry {change.index}: {shown(error.message)}"
        named = (old.name, old.key_id) == (signature.name, signature.key_id) and old.name == point.origin
        if not named or old.type != ED25519 or not old.verify(point.text().encode("utf-8"), signature.signature):
            return f"The key that was replaced in entry {change.index} did not sign the checkpoint that is to show it."
        return None

    def _signer_trusted(self) -> Fact:
        name = "signer trusted"
        if not self.trust.keys:
            return Fact(
                name, None, "Not established: signed by a key that this file brought itself, and no key was given."
            )
        signers = {
            key for key, _, valid in self.signatures
            if valid and key.type == ED25519 and key.name == self.checkpoint.origin
        }  # fmt: skip
        for given in self.trust.keys:
            if given in signers:
                return Fact(name, True, f"You gave the key {_vkey(given)}.")
        for given in self.trust.keys:
            followed = self._followed(str(given))
            if followed and followed[-1] in {str(key) for key in signers}:
                return Fact(
                    name,
                    True,
                    f"You gave the key {_vkey(given)}, which handed over to {shown(' and that to '.join(followed))}.",
                )
        return Fact(name, False, "None of the keys that you gave signed this checkpoint.")

    def _followed(self, key: str) -> list[str]:
        """The keys after `key`, as far as each was handed over to by the one before."""
        agreed = {proof.index for proof in self.file.handovers if self._broken(proof) is None}
        followed = [key]
        for change in self._key_changes():
            new = change.fields["key"]
            if change.index in agreed and change.fields["replaces"] == followed[-1] and new not in followed:
                followed.append(new)
        return followed[1:]

    def _cosigned(self) -> list[tuple[VerifierKey, Signature]]:
        return [(key, found) for key, found, valid in self.signatures if valid and key.type == COSIGNATURE]

    def _witnessed(self) -> Fact:
        """By the log's own policy: the last one in the file."""
        name = "witnessed"
        for key, _, valid in self.signatures:
            if key.type == COSIGNATURE and not valid:
                return Fact(name, False, f"The cosignature of {_vkey(key)} is not of this checkpoint.")
        policies = [entry for entry in of("witness-policy/1", self.related) if self._is_mine(entry)]
        if not policies or policies[-1].fields["threshold"] == 0:
            extra = f" {_told(self._cosigned())} cosigned it nevertheless." if self._cosigned() else ""
            return Fact(
                name, None,
                "The log asks for no witnesses, as far as this file shows. Nobody else confirms that it shows everybody the same "
                f"tree.{extra}",
            )  # fmt: skip
        policy = policies[-1]
        threshold, vkeys = policy.fields["threshold"], {witness["key"] for witness in policy.fields["witnesses"]}
        met = [(key, found) for key, found in self._cosigned() if str(key) in vkeys]
        count = _people(key for key, _ in met)
        told = (
            f"The policy in entry {policy.index} asks for {threshold} of {len(vkeys)} witnesses, and {count} cosigned"
        )
        return Fact(name, count >= threshold, f"{told}{': ' + _told(met) if met else ''}.")

    def _witnesses_trusted(self) -> Fact:
        name, given = "witnesses trusted", self.trust.witnesses
        if not given:
            return Fact(name, None, "Not established: no witness's key was given.")
        met = [(key, found) for key, found in self._cosigned() if key in given]
        count, asked = _people(key for key, _ in met), self.trust.threshold or _people(given)
        told = f"{count} of the witnesses that you named cosigned, and you asked for {asked}"
        return Fact(name, count >= asked, f"{told}{': ' + _told(met) if met else ''}.")

    def _timestamps(self) -> Fact:
        name, stamps = "timestamps", self.file.timestamps
        if not stamps:
            return Fact(name, None, "The file holds no RFC 3161 timestamp.")
        if not self.trust.authorities:
            return Fact(
                name, None, f"Not checked: {len(stamps)} in the file; give the authority's certificate with --tsa."
            )
        try:
            from traceai.ledger.signing.timestamping import verify_timestamp  # noqa: PLC0415  # needs rfc3161-client
        except ImportError:
            return Fact(name, None, f"Not checked: {len(stamps)} in the file, and rfc3161-client is not installed.")
        held, wrong = [], []
        for stamp in stamps:
            try:
                held.append(verify_timestamp(stamp.token, self.signed_text, self.trust.authorities).at)
            except TimestampError as error:
                wrong.append(error.message)
        if wrong:
            return Fact(name, False, " ".join(shown(message) for message in wrong))
        times = ", ".join(at.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S UTC") for at in held)
        return Fact(name, True, f"The checkpoint existed at {times}, says an authority that you named.")


def _vkey(key: VerifierKey) -> str:
    return shown(str(key))


def _people(keys: Iterable[VerifierKey]) -> int:
    """How many: one key under two names is one witness, because a cosignature does not state its name."""
    return len({key.public for key in keys})


def _told(cosigned: Sequence[tuple[VerifierKey, Signature]]) -> str:
    return ", ".join(f"{shown(key.name)} at {_moment(found.timestamp or 0)}" for key, found in cosigned)


def _moment(posix: int) -> str:
    try:
        return datetime.fromtimestamp(posix, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
    except (OverflowError, ValueError, OSError):
        return f"{posix} s after 1970"
