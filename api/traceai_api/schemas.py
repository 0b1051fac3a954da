"""What the API says. The parts of a decision are the evidence record's own."""

from datetime import datetime
from typing import Literal
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field

from traceai.clock import parse_timestamp
from traceai.db import tables
from traceai.inspection.completeness import Completeness
from traceai.inspection.decision import Decision
from traceai.inspection.history import Dossier
from traceai.inspection.recording.draft import Spooled
from traceai.ledger import records
from traceai.ledger.entry import Entry
from traceai.ledger.records import Audit, Explanation, Image, ModelRef, OperatingPoint, Part
from traceai.stats.proportions import Proportion


class LedgerRef(BaseModel):
    """Where the journal holds this, and the hash it holds it by."""

    index: int
    leaf_hash: str
    recorded_at: datetime


class Failure(BaseModel):
    code: str
    message: str
    source: str


class InspectionOut(BaseModel):
    """One decision, or one failed attempt (`verdict` null, `failure` set)."""

    id: UUID
    record: str = Field(description="the schema of the journal entry, such as inspection/1")
    occurred_at: datetime
    station: str
    station_seq: int
    trigger: int | None
    part: Part
    image: Image
    model: ModelRef
    verdict: Literal["pass", "reject", "undecided"] | None
    failure: Failure | None = None
    predicted: str | None = None
    scores: dict[str, str] | None = None
    defect_score: str | None = None
    operating_point: OperatingPoint | None = None
    explanation: Explanation | None = None
    audit: Audit | None = None
    runtime: str | None = None
    latency_us: int | None = None
    ledger: LedgerRef

    @classmethod
    def of(cls, journal: tables.Journal) -> "InspectionOut":
        """Read from the journal's bytes, not from the table: what is shown is what can be proved."""
        entry = Entry.parse(journal.entry)
        record = entry.record
        fields = record.model_dump(exclude={"salt", "source", "failure_code", "failure"})
        failure = None
        if isinstance(record, records.InspectionFailed):
            failure = Failure(code=record.failure_code, message=record.failure, source=record.source)
        return cls.model_validate(
            {
                "verdict": None,
                **fields,
                "record": record.schema_name,
                "failure": failure,
                "ledger": LedgerRef(
                    index=journal.index,
                    leaf_hash=journal.leaf_hash.hex(),
                    recorded_at=parse_timestamp(entry.recorded_at),
                ),
            }
        )


class SpooledOut(BaseModel):
    """A decision that is on the server's disk and not in the ledger yet; it can be looked up once it is."""

    id: UUID
    spooled_at: datetime
    station: str
    part: Part
    model: ModelRef
    verdict: Literal["pass", "reject", "undecided"] | None
    predicted: str | None
    defect_score: float | None

    @classmethod
    def of(cls, decision: Decision, kept: Spooled) -> "SpooledOut":
        return cls(
            id=UUID(decision.id),
            spooled_at=kept.spooled_at,
            station=decision.station,
            part=decision.part,
            model=decision.model,
            verdict=None if decision.verdict is None else decision.verdict.value,
            predicted=decision.predicted,
            defect_score=decision.defect_score,
        )


class InspectionPage(BaseModel):
    items: list[InspectionOut]
    next: str | None = Field(description="pass it as `after` for the next page; null on the last")


class GapOut(BaseModel):
    """An outage of a station's record: from when to when, why, and what is missing because of it."""

    id: UUID
    record: str = Field(description="the schema of the journal entry, such as gap/1")
    occurred_at: datetime
    station: str
    began_at: datetime
    ended_at: datetime
    cause_code: str = Field(description="stable, such as database-unavailable; declared where a person says so")
    cause: str
    delayed: int = Field(description="decisions that were recorded late; all of them are in the ledger")
    lost: int = Field(description="attempts of which nothing was recorded")
    first_trigger: int | None = Field(description="of the camera's counts that have no decision because of it")
    last_trigger: int | None
    actor: str
    ledger: LedgerRef

    @classmethod
    def of(cls, journal: tables.Journal, gap: records.Gap) -> "GapOut":
        return cls.model_validate(
            {
                **gap.model_dump(exclude={"salt"}),
                "record": gap.schema_name,
                "ledger": LedgerRef(
                    index=journal.index,
                    leaf_hash=journal.leaf_hash.hex(),
                    recorded_at=parse_timestamp(Entry.parse(journal.entry).recorded_at),
                ),
            }
        )


class BreakOut(BaseModel):
    """Two decisions of a station whose numbers do not follow each other."""

    ledger_index: int
    before: int
    number: int


class MissingOut(BaseModel):
    """Counts of the camera without a decision, and without an entry that says why."""

    first: int
    last: int
    noticed: int = Field(description="ledger index of the decision that revealed them")
    before: datetime | None = Field(description="when the decision before them occurred; null where it is unreadable")
    after: datetime | None = Field(description="when the decision after them occurred, likewise")


class ExplainedOut(BaseModel):
    """Counts of the camera without a decision, of which a gap says why."""

    first: int
    last: int
    ledger_index: int


class RestartOut(BaseModel):
    """The camera's counter began anew."""

    ledger_index: int
    came_from: int
    to: int


class CompletenessOut(BaseModel):
    """One station in the period: the newest hundred places of each kind, and how many there are."""

    station: str
    complete: bool = Field(description="no number is left out, and every trigger has its decision or its explanation")
    decisions: int = Field(description="failed attempts included")
    first_number: int | None
    last_number: int | None
    with_trigger: int = Field(
        description="decisions with a trigger; with none, what never came cannot be told from what is lost"
    )
    breaks: list[BreakOut]
    breaks_found: int
    missing: list[MissingOut]
    missing_found: int
    missing_triggers: int
    explained: list[ExplainedOut]
    explained_found: int
    restarts: list[RestartOut]
    restarts_found: int
    outages_found: int
    delayed: int
    lost: int

    @classmethod
    def of(cls, found: Completeness) -> "CompletenessOut":
        return cls.model_validate(
            {
                **vars(found),
                "complete": found.holds,
                "with_trigger": found.counted,
                "breaks": [BreakOut(ledger_index=b.index, before=b.before, number=b.number) for b in found.breaks],
                "missing": [MissingOut.model_validate(one, from_attributes=True) for one in found.missing],
                "explained": [ExplainedOut(first=h.first, last=h.last, ledger_index=h.entry) for h in found.explained],
                "restarts": [RestartOut(ledger_index=r.entry, came_from=r.came_from, to=r.to) for r in found.restarts],
            }
        )


class GapPage(BaseModel):
    items: list[GapOut]
    next: str | None = Field(description="pass it as `after` for the next page; null on the last")
    stations: list[CompletenessOut] | None = Field(
        description="what is missing, station by station; null on every page but the first"
    )


class ReviewOut(BaseModel):
    id: UUID
    inspection_id: UUID
    truth: Literal["good", "defective"]
    defect_type: str | None
    reviewer: str
    source: Literal["human", "simulated"]
    note: str
    occurred_at: datetime
    ledger_index: int

    @classmethod
    def of(cls, row: tables.Review) -> "ReviewOut":
        return cls.model_validate({**row.model_dump(), "ledger_index": row.journal_index})


class ReviewIn(BaseModel):
    model_config = ConfigDict(extra="forbid")

    truth: Literal["good", "defective"]
    defect_type: str | None = None
    note: str = Field(default="", max_length=2000)


class ModelEventOut(BaseModel):
    action: str
    actor: str
    reason: str
    occurred_at: datetime
    ledger_index: int

    @classmethod
    def of(cls, row: tables.ModelEvent) -> "ModelEventOut":
        return cls.model_validate({**row.model_dump(), "ledger_index": row.journal_index})


class ModelVersionOut(BaseModel):
    name: str
    version: int
    digest: str
    weights_sha256: str
    architecture: str
    parameters: int
    layer: str
    classes: list[str]
    pass_below: float | None
    reject_at: float | None
    snapshot_name: str | None
    snapshot_digest: str | None
    training: dict[str, object]
    evaluation: dict[str, object]
    made_by: str
    occurred_at: datetime
    ledger_index: int
    events: list[ModelEventOut]

    @classmethod
    def of(cls, row: tables.ModelVersion, events: list[tables.ModelEvent]) -> "ModelVersionOut":
        return cls.model_validate(
            {
                **row.model_dump(),
                "digest": row.digest.hex(),
                "weights_sha256": row.weights_sha256.hex(),
                "snapshot_digest": row.snapshot_digest.hex() if row.snapshot_digest else None,
                "ledger_index": row.journal_index,
                "events": [ModelEventOut.of(event) for event in events],
            }
        )


class InspectionDetail(InspectionOut):
    """A decision with what it stands on."""

    reviews: list[ReviewOut]
    model_events: list[ModelEventOut]
    snapshot_name: str | None
    snapshot_digest: str | None

    @classmethod
    def of_dossier(cls, dossier: Dossier, journal: tables.Journal) -> "InspectionDetail":
        return cls(
            **InspectionOut.of(journal).model_dump(),
            reviews=[ReviewOut.of(review) for review in dossier.reviews],
            model_events=[ModelEventOut.of(event) for event in dossier.events],
            snapshot_name=dossier.snapshot.name if dossier.snapshot else None,
            snapshot_digest=dossier.snapshot.digest.hex() if dossier.snapshot else None,
        )


class ProportionOut(BaseModel):
    """A rate with its interval, or the reason why there is none."""

    estimate: float | None
    low: float | None
    high: float | None
    confidence: float
    method: str
    x: float | None = None
    n: float | None = None
    reason: str | None = None

    @classmethod
    def of(cls, value: Proportion) -> "ProportionOut":
        return cls.model_validate(value, from_attributes=True)
