"""The offline verifier: `python -m traceai.ledger.verify FILE`, for whoever trusts neither the ledger nor its owner.

Another program than the one that writes: it needs Python, `cryptography` and this package, and neither the database, the
network nor the record classes. It says, fact by fact, what an evidence file (`docs/evidence-file.md`) proves.
"""

import argparse
import hashlib
import json
import sys
import traceback
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

try:
    from cryptography import x509
except ImportError:
    if __name__ != "__main__":
        raise
    sys.stderr.write("The package `cryptography` is not installed. Nothing was verified and nothing refuted.\n")
    sys.exit(3)

from traceai.errors import EvidenceError, InputError, NoteError, TraceaiError, VerificationError
from traceai.ledger.evidence.claims import FAILED, Entry, Fact, claims, kind
from traceai.ledger.evidence.file import LARGEST, EvidenceFile
from traceai.ledger.evidence.proofs import Proofs, Trust
from traceai.ledger.note import VerifierKey
from traceai.ledger.printing import shown
from traceai.ledger.tlog.checkpoint import Checkpoint

MARKS = {True: "holds", False: "FAILS", None: "not checked"}
NOT_ESTABLISHED = (
    "TRUST IS NOT ESTABLISHED. No key was given, and whoever made this file may have made the ledger in it as well. Get the "
    "log's key from somewhere else than this file and give it with --key."
)


@dataclass(frozen=True)
class Outcome:
    """The facts. `decision`: the fields of its entry, where the file has a valid one."""

    facts: tuple[Fact, ...]
    decision: dict[str, Any] | None = None
    checkpoint: Checkpoint | None = None

    @property
    def holds(self) -> bool:
        """Nothing that was checked turned out wrong. It says nothing of what was not checked."""
        return all(fact.holds is not False for fact in self.facts)

    @property
    def trusted(self) -> bool:
        """A key that the auditor brought signed the log."""
        return any(fact.name == "signer trusted" and fact.holds for fact in self.facts)

    @property
    def conclusion(self) -> str:
        if not self.holds:
            return "The file does not verify."
        if not self.trusted:
            return f"Nothing in the file is contradicted. {NOT_ESTABLISHED}"
        found = kind(self.decision) if self.decision else "decision"
        return f"The file verifies: this {found} is in the log whose key you gave, as it stands here."

    def to_json(self) -> dict[str, Any]:
        point = self.checkpoint
        return {
            "holds": self.holds,
            "trusted": self.trusted,
            "conclusion": self.conclusion,
            "checkpoint": {"origin": point.origin, "size": point.size, "root": point.root.hex()} if point else None,
            "decision": self.decision,
            "facts": [asdict(fact) for fact in self.facts],
        }


def verify(
    data: bytes, trust: Trust | None = None, *, image: bytes | None = None, heat_map: bytes | None = None
) -> Outcome:
    """Everything that `data` proves, given `trust`. Damaged bytes are a fact that does not hold, not an exception.

    image: the camera's file; heat_map: the stored grid. Each is compared with the digest that the decision recorded.
    """
    try:
        file = EvidenceFile.parse(data)
    except EvidenceError as error:
        return Outcome((Fact("format", False, f"{shown(error.message)} Nothing else could be checked."),))
    proofs = Proofs(file, trust or Trust())
    facts = [Fact("format", True, "The file is an intact traceai-evidence/1."), *proofs.facts()]
    decision = proofs.decision
    if decision is not None:
        facts += claims(decision, proofs.related)
        facts += [_image(decision, image), _heat_map(decision, heat_map)]
    return Outcome(tuple(facts), decision.fields if decision else None, proofs.checkpoint)


def _image(decision: Entry, image: bytes | None) -> Fact:
    name, recorded = "image", decision.fields["image"]
    if recorded["sha256"] is None:
        return Fact(name, None if image is None else False, f"The {decision.kind} names no image: none could be read.")
    if image is None:
        return Fact(name, None, f"Not checked: give --image. Its SHA-256 has to be {recorded['sha256']}.")
    found = hashlib.sha256(image).hexdigest()
    if found != recorded["sha256"] or len(image) != recorded["bytes"]:
        return Fact(name, False, f"This image has the SHA-256 {found}; recorded is {recorded['sha256']}.")
    return Fact(name, True, f"The image given is the one that was inspected, byte for byte: SHA-256 {found}.")


def _heat_map(decision: Entry, heat_map: bytes | None) -> Fact:
    name = "heat map"
    if decision.schema == FAILED:
        return Fact(name, None if heat_map is None else False, "The attempt failed, and has no heat map.")
    recorded = decision.fields["explanation"]
    if heat_map is None:
        return Fact(name, None, f"Not checked: give --heat-map. Its SHA-256 has to be {recorded['sha256']}.")
    found = hashlib.sha256(heat_map).hexdigest()
    if found != recorded["sha256"] or len(heat_map) != 2 * recorded["height"] * recorded["width"]:
        return Fact(name, False, f"This heat map has the SHA-256 {found}; recorded is {recorded['sha256']}.")
    return Fact(
        name, True,
        f"The heat map given is the one that was recorded for {shown(recorded['target'])}, byte for byte: SHA-256 {found}.",
    )  # fmt: skip


# --- the command line --------------------------------------------------------------------------------------------------

EPILOG = """
Exit 0: nothing that was checked is contradicted; whether a key that you trust signed it is a fact of its own, and without
--key nobody says so. Exit 1: the file does not verify. Exit 2: bad usage. Exit 3: a crash, which verified and refuted nothing.
"""


def trust_of(
    keys: Sequence[str], witnesses: Sequence[str] = (), threshold: int | None = None, authorities: Sequence[Path] = ()
) -> Trust:
    """What an auditor typed.

    Raises:
        InputError: a key that is none, a certificate that is none, or a threshold that cannot be reached.
    """
    try:
        certificates = [found for path in authorities for found in x509.load_pem_x509_certificates(read(path))]
        return Trust(
            tuple(VerifierKey.parse(key) for key in keys),
            tuple(VerifierKey.parse(key) for key in witnesses),
            threshold,
            tuple(certificates),
        )
    except NoteError as error:
        raise InputError(f"A key that was given is none: {error.message}") from error
    except ValueError as error:
        raise InputError("A file given with --tsa holds no X.509 certificate in PEM form.") from error


def read(path: Path) -> bytes:
    """Raises:
    InputError: the file cannot be read.
    """
    try:
        return path.read_bytes()
    except (OSError, ValueError) as error:
        raise _unreadable(path, error) from error


def read_evidence(path: Path) -> bytes:
    """A file that may be an evidence file.

    Raises:
        InputError: it cannot be read, or is a PDF, of which nothing can be verified offline.
    """
    try:
        with path.open("rb") as opened:
            data = opened.read(LARGEST + 1)
            if data.startswith(b"%PDF-"):
                opened.seek(0)
                raise InputError(
                    f"{path} is a PDF, and nothing in a PDF verifies offline. Its SHA-256 is "
                    f"{hashlib.file_digest(opened, 'sha256').hexdigest()}: a report of ours is genuine when the ledger holds a "
                    "report/1 entry with this digest (table report_issued, column sha256)."
                )
            return data
    except (OSError, ValueError) as error:
        raise _unreadable(path, error) from error


def _unreadable(path: Path, error: Exception) -> InputError:
    reason = error.strerror if isinstance(error, OSError) else "no file name"
    return InputError(f"{path} cannot be read ({reason}); name a file that exists.")


def main(arguments: Sequence[str] | None = None) -> int:
    """Verify the file that the arguments name, print the facts, return the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m traceai.ledger.verify",
        description="Verify a traceai evidence file, offline.",
        epilog=EPILOG,
    )
    parser.add_argument("file", type=Path, help="the evidence file")
    parser.add_argument(
        "--key", action="append", default=[], help="key of a log that you trust, as NAME+ID+KEY; may be repeated"
    )
    parser.add_argument(
        "--witness", action="append", default=[], help="key of a witness that you trust; may be repeated"
    )
    parser.add_argument("--threshold", type=int, help="how many of these witnesses must have cosigned (default: all)")
    parser.add_argument(
        "--tsa", action="append", default=[], type=Path, help="certificate (PEM) of a timestamp authority"
    )
    parser.add_argument("--image", type=Path, help="the image, to compare with the recorded digest")
    parser.add_argument("--heat-map", type=Path, help="the stored grid, to compare with the recorded digest")
    parser.add_argument("--json", action="store_true", help="print JSON")
    given = parser.parse_args(arguments)
    try:
        outcome = verify(
            read_evidence(given.file),
            trust_of(given.key, given.witness, given.threshold, given.tsa),
            image=given.image and read(given.image),
            heat_map=given.heat_map and read(given.heat_map),
        )
        if given.json:
            _print(json.dumps(outcome.to_json(), indent=2))
        else:
            for fact in outcome.facts:
                _print(f"{MARKS[fact.holds]:<13}{fact.name:<19}{fact.sentence}")
            _print(f"\n{outcome.conclusion}")
        sys.stdout.flush()
    except TraceaiError as error:
        sys.stderr.write(f"{error.message} [{error.code}]\n")
        return 1 if isinstance(error, VerificationError) else 2
    except Exception:  # noqa: BLE001  # a crash says so, with its own exit code
        traceback.print_exc()
        sys.stderr.write("unexpected error, please report the lines above. It verified and refuted nothing.\n")
        return 3
    return 0 if outcome.holds else 1


def _print(text: str) -> None:
    """On any terminal: a recorded name that it cannot show is no reason to say nothing."""
    encoding = sys.stdout.encoding or "utf-8"
    sys.stdout.write(text.encode(encoding, "backslashreplace").decode(encoding) + "\n")


if __name__ == "__main__":
    sys.exit(main())
