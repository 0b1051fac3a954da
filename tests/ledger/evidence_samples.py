"""A small log made by hand, without a database: the same bytes every time, and everything in it can be exchanged."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from traceai.ledger import canonical, merkle, records
from traceai.ledger.entry import Entry
from traceai.ledger.evidence.file import EvidenceFile, Included, Timestamp
from traceai.ledger.note import COSIGNATURE, ED25519, SigningKey, sign_note
from traceai.ledger.records import Record
from traceai.ledger.tlog.checkpoint import Checkpoint
from traceai.ledger.tlog.proof import TlogProof

ORIGIN = "example.com/plant-1"
IMAGE = b"a picture of a part"
HEAT_MAP = bytes(range(32))
COSIGNED_AT = 1_800_000_000
DIGEST = "764b7594f35137d3a10e6281e9f6bec4a98950aa5cc25ac8add095343b4d024e"
ENVIRONMENT = {"python": "3.11.7", "torch": "2.13.0", "threads": 2, "machine": "x86_64"}


def key(name: str, seed: int = 0, kind: int = ED25519) -> SigningKey:
    return SigningKey(name, kind, hashlib.sha256(f"{name} {seed}".encode()).digest())


LOG = key(ORIGIN)
WITNESSES = [key(f"witness-{n}.example", kind=COSIGNATURE) for n in (1, 2, 3)]


def shared(number: int) -> dict[str, Any]:
    return {
        "id": f"01a209f6-0000-7000-8000-{number:012x}",
        "occurred_at": f"2026-11-23T19:{number:02}:00.000000Z",
        "salt": f"{number:032x}",
    }


def opened(number: int = 0, origin: str = ORIGIN, log: SigningKey = LOG) -> Record:
    return records.LedgerOpened(
        **shared(number), origin=origin, key=str(log.verifier), previous=None, actor="ada", reason="First start."
    )


def policy(number: int = 1, threshold: int = 2, origin: str = ORIGIN) -> Record:
    return records.WitnessPolicy(
        **shared(number), origin=origin, threshold=threshold, actor="ada", reason="Two other plants.",
        witnesses=[
            records.Witness(name=w.name, key=str(w.verifier), url=f"https://{w.name}/add-checkpoint") for w in WITNESSES
        ],
    )  # fmt: skip


def snapshot(number: int = 2) -> Record:
    return records.DatasetSnapshot(
        **shared(number), name="plates", digest="d" * 64, listing="e" * 64, images=12, made_by="erin",
        counts={"train": {"good": 8, "dent": 4}},
    )  # fmt: skip


def model(number: int = 3, digest: str = DIGEST, **changed: Any) -> records.ModelVersion:
    fields: dict[str, Any] = dict(
        **shared(number), model=records.ModelRef(name="tiles", version=1, digest=digest), weights_sha256="5" * 64,
        architecture="a small network", parameters=4711, layer="resnet.encoder", classes=["good", "dent", "scratch"],
        operating_point=records.OperatingPoint(pass_below="0.66", reject_at="0.67"), snapshot_name="plates",
        snapshot_digest="d" * 64, training={"seed": 7}, evaluation={"auroc": "0.97"}, made_by="erin",
    )  # fmt: skip
    return records.ModelVersion(**fields | changed)


def event(number: int, action: str, actor: str = "ada", digest: str = DIGEST) -> Record:
    return records.ModelEvent(
        **shared(number), model=records.ModelRef(name="tiles", version=1, digest=digest), action=action, actor=actor,
        reason="Evaluated on the test split.",
    )  # fmt: skip


def runtime(number: int = 6) -> Record:
    digest = hashlib.sha256(canonical.dumps(ENVIRONMENT)).hexdigest()
    return records.Runtime(**shared(number), digest=digest, environment=ENVIRONMENT)


def inspection(number: int, **changed: Any) -> records.Inspection:
    fields: dict[str, Any] = dict(
        **shared(number), station="press-4", station_seq=number, trigger=None,
        part=records.Part(serial=f"SN-{number}", lot="L7"),
        image=records.Image(
            sha256=hashlib.sha256(IMAGE).hexdigest(), bytes=len(IMAGE), pixel_sha256="a" * 64, width=64, height=48,
            media_type="image/png",
        ),
        model=records.ModelRef(name="tiles", version=1, digest=DIGEST),
        logits={"good": "0.1", "dent": "1.5", "scratch": "-0.5"},
        scores={"good": "0.17", "dent": "0.73", "scratch": "0.1"}, defect_score="0.830000",
        operating_point=records.OperatingPoint(pass_below="0.66", reject_at="0.67"), verdict="reject", predicted="dent",
        explanation=records.Explanation(
            method="grad-cam/1", layer="resnet.encoder", target="dent", height=4, width=4,
            sha256=hashlib.sha256(HEAT_MAP).hexdigest(), min="-0.5", max="1.5", sum="2", positive_fraction="0.5",
            peak_row=1, peak_column=2, bias=None, residual=None, degenerate=False,
        ),
        audit=records.Audit(stratum="reject", probability="1", drawn=True),
        runtime=hashlib.sha256(canonical.dumps(ENVIRONMENT)).hexdigest(), latency_us=524709,
    )  # fmt: skip
    return records.Inspection(**fields | changed)


def failed(number: int) -> Record:
    return records.InspectionFailed(
        **shared(number), station="press-4", station_seq=number, part=records.Part(), image=records.Image(),
        source="broken.png", model=records.ModelRef(name="tiles", version=1, digest=DIGEST),
        failure_code="image-truncated", failure="The image file ends too early.",
    )  # fmt: skip


def review(number: int, of: Entry, **changed: Any) -> Record:
    fields: dict[str, Any] = dict(
        **shared(number), inspection_id=of.record.id, inspection_leaf=merkle.leaf_hash(of.data).hex(), truth="defective",
        defect_type="dent", reviewer="ruth", source="human", note="",
    )  # fmt: skip
    return records.Review(**fields | changed)


def sealed(record: Record, number: int = 0) -> Entry:
    return Entry.seal(record, f"2026-11-23T20:{number:02}:00.000000Z")


@dataclass(frozen=True)
class Log:
    """Entries in order and who signs for them. `file(7)`: the evidence file of entry 7, with all entries that are not its kind."""

    entries: Sequence[Entry]
    origin: str = ORIGIN
    signers: Sequence[SigningKey] = (LOG,)
    cosigners: Sequence[SigningKey] = tuple(WITNESSES[:2])
    handovers: tuple[TlogProof, ...] = ()
    timestamps: tuple[Timestamp, ...] = ()
    leaves: list[bytes] = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "leaves", [merkle.leaf_hash(entry.data) for entry in self.entries])

    @property
    def checkpoint(self) -> Checkpoint:
        return Checkpoint(self.origin, len(self.leaves), merkle.root(self.leaves))

    @property
    def note(self) -> str:
        return sign_note(self.checkpoint.text(), (*self.signers, *self.cosigners), at=COSIGNED_AT)

    def included(self, index: int) -> Included:
        return Included(index, self.entries[index].data, tuple(merkle.inclusion_proof(self.leaves, index)))

    def evidence(self, index: int, related: Sequence[int] | None = None) -> EvidenceFile:
        if related is None:
            decisions = ("inspection/1", "inspection-failed/1")
            related = [
                n for n, entry in enumerate(self.entries)
                if entry.record.schema_name not in decisions
                and getattr(entry.record, "inspection_id", self.entries[index].record.id) == self.entries[index].record.id
            ]  # fmt: skip
        return EvidenceFile(
            self.entries[index].data,
            TlogProof(index, tuple(merkle.inclusion_proof(self.leaves, index)), self.note),
            tuple(signer.verifier for signer in (*self.signers, *self.cosigners)),
            tuple(self.included(n) for n in related),
            self.handovers,
            self.timestamps,
        )

    def file(self, index: int, related: Sequence[int] | None = None) -> bytes:
        return bytes(self.evidence(index, related))

    def replaced(self, index: int, record: Record) -> "Log":
        """Another history: the entry exchanged, and everything signed anew."""
        entries = list(self.entries)
        entries[index] = sealed(record, index)
        return replace(self, entries=entries)


DECISION = 8
FAILURE = 10


def plant() -> Log:
    """Thirteen entries: three decisions (7, 8, 9), a failed attempt (10), and a review each of the first two (11, 12)."""
    made = [
        opened(), policy(), snapshot(), model(), event(4, "approve"), event(5, "activate"), runtime(),
        *(inspection(n) for n in (7, 8, 9)), failed(10),
    ]  # fmt: skip
    entries = [sealed(record, number) for number, record in enumerate(made)]
    entries += [sealed(review(11, entries[7]), 11), sealed(review(12, entries[8]), 12)]
    return Log(entries)


def rotated() -> Log:
    """The same, and then a new key (entry 13), which the old one vouched for at size 14; now there are 15 entries."""
    before = plant()
    after = key(ORIGIN, 1)
    change = records.LedgerKey(
        **shared(13),
        origin=ORIGIN,
        key=str(after.verifier),
        replaces=str(LOG.verifier),
        actor="ada",
        reason="Every year.",
    )
    changed = replace(before, entries=[*before.entries, sealed(change, 13)], cosigners=())
    handover = TlogProof(13, tuple(merkle.inclusion_proof(changed.leaves, 13)), changed.note)
    entries = [*changed.entries, sealed(inspection(14), 14)]
    return replace(before, entries=entries, signers=(after,), handovers=(handover,))
