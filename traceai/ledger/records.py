"""The evidence records: what one journal entry says, frozen, strict, and versioned for ever.

A record is never a table class: columns may change, leaves must not. A changed record is a new version under a new
schema name; the old class stays, because entries written with it stay. `docs/record-format.md` is normative.

An entry's bytes are the RFC 8785 form of the record's fields plus two more: `schema`, and `recorded_at`, which the ledger
adds when it appends. Floats are decimal strings, times are RFC 3339 in UTC, hashes are lower-case hexadecimal.
"""

import secrets
from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    JsonValue,
    StringConstraints,
    ValidationError,
    model_validator,
)

from traceai.clock import now, parse_timestamp, timestamp, uuid7
from traceai.errors import InputError

Id = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$")]
Digest = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]


def of_the_calendar(moment: str) -> str:
    parse_timestamp(moment)
    return moment


Timestamp = Annotated[
    str,
    StringConstraints(pattern=r"^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}\.[0-9]{6}Z$"),
    AfterValidator(of_the_calendar),
]
# Zero has no sign: PostgreSQL's numeric keeps none, so the table would differ from the journal.
DecimalString = Annotated[
    str, StringConstraints(pattern=r"^(0|-?[1-9][0-9]*)(\.[0-9]+)?$|^-0\.[0-9]*[1-9][0-9]*$")
]  # fmt: skip
Count = Annotated[int, Field(ge=0, lt=2**53)]
# No control characters, and NUL above all: PostgreSQL cannot store it, so the table would differ from the journal.
Text = Annotated[str, StringConstraints(pattern=r"^[^\x00-\x08\x0b\x0c\x0e-\x1f\x7f]*$", max_length=2000)]
Name = Annotated[str, StringConstraints(pattern=r"^[^\x00-\x1f\x7f]+$", max_length=200)]

Verdict = Literal["pass", "reject", "undecided"]
Truth = Literal["good", "defective"]


class Frozen(BaseModel):
    """What holds what its types say, always: the ledger writes it down without looking again."""

    model_config = ConfigDict(frozen=True, strict=True, extra="forbid")

    def model_copy(self, *, update: Mapping[str, Any] | None = None, deep: bool = False) -> Self:
        """A copy with `update`, validated, which pydantic's own is not.

        Raises:
            ValidationError: a value that its field does not take.
        """
        return super().model_copy(deep=deep) if update is None else self.model_validate({**vars(self), **update})


class Part(Frozen):
    product: Name | None = None
    serial: Name | None = None
    lot: Name | None = None
    view: Name | None = None


class Image(Frozen):
    """What arrived. Of an image that could not be decoded only the first two are known; of none at all, nothing."""

    sha256: Digest | None = None
    bytes: Count | None = None
    pixel_sha256: Digest | None = None
    width: Count | None = None
    height: Count | None = None
    media_type: Name | None = None


class ModelRef(Frozen):
    name: Name
    version: Annotated[int, Field(ge=1)]
    digest: Digest


class OperatingPoint(Frozen):
    pass_below: DecimalString
    reject_at: DecimalString


class Explanation(Frozen):
    """The facts of the heat map; the map itself lies outside the journal, under its `sha256`."""

    method: Name
    layer: Name
    target: Name
    height: Count
    width: Count
    sha256: Digest
    min: DecimalString
    max: DecimalString
    sum: DecimalString
    positive_fraction: DecimalString
    peak_row: Count
    peak_column: Count
    bias: DecimalString | None
    residual: DecimalString | None
    degenerate: bool


class Audit(Frozen):
    """The draw for blind verification, decided before anybody looked."""

    stratum: Name
    probability: DecimalString
    drawn: bool


class Record(Frozen):
    """Base of all records."""

    schema_name: ClassVar[str]

    id: Id = Field(default_factory=lambda: str(uuid7()))
    occurred_at: Timestamp = Field(default_factory=lambda: timestamp(now()))
    # 128 random bits: without them, a purged serial number could be found again by hashing guesses.
    salt: Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{32}$")] = Field(
        default_factory=lambda: secrets.token_hex(16)
    )


class Inspection(Record):
    """One decision of one model version on one image, with its explanation."""

    schema_name: ClassVar[str] = "inspection/1"

    station: Name
    station_seq: Count
    trigger: Count | None = None
    part: Part
    image: Image
    model: ModelRef
    logits: dict[Name, DecimalString]
    scores: dict[Name, DecimalString]
    defect_score: DecimalString | None
    operating_point: OperatingPoint | None
    verdict: Verdict
    predicted: Name
    explanation: Explanation
    audit: Audit
    runtime: Digest
    latency_us: Count


class InspectionFailed(Record):
    """An attempt that came to no decision. It never passes a part."""

    schema_name: ClassVar[str] = "inspection-failed/1"

    station: Name
    station_seq: Count
    trigger: Count | None = None
    part: Part
    image: Image
    source: Text
    model: ModelRef
    failure_code: Name
    failure: Text


class Runtime(Record):
    """The environment behind the `runtime` digest of later inspections: versions, device, threads, batch shape."""

    schema_name: ClassVar[str] = "runtime/1"

    digest: Digest
    environment: dict[Name, JsonValue]


class DatasetSnapshot(Record):
    """A data set as it was imported. `listing` is the digest of the stored list of its images, every column of it."""

    schema_name: ClassVar[str] = "dataset-snapshot/1"

    name: Name
    digest: Digest
    listing: Digest
    images: Count
    counts: dict[Name, JsonValue]
    made_by: Name


class ModelVersion(Record):
    schema_name: ClassVar[str] = "model-version/1"

    model: ModelRef
    weights_sha256: Digest
    architecture: Text
    parameters: Count
    layer: Name
    classes: list[Name]
    operating_point: OperatingPoint | None
    snapshot_name: Name | None
    snapshot_digest: Digest | None
    training: dict[Name, JsonValue]
    evaluation: dict[Name, JsonValue]
    made_by: Name


class ModelEvent(Record):
    """A step in the life of a version: approve, activate, retire; waive, before an approval in spite of its explanations."""

    schema_name: ClassVar[str] = "model-event/1"

    model: ModelRef
    action: Literal["waive", "approve", "activate", "retire"]
    actor: Name
    reason: Text


class ModelRefused(Record):
    """Stored model bytes did not have their digest; no inspection was made with them."""

    schema_name: ClassVar[str] = "model-refused/1"

    model: ModelRef
    file: Name
    expected: Digest
    found: Digest
    actor: Name


class ModelExport(Record):
    """A version was written as one file for another runtime, which answered as the version does.

    sha256, size: of the file, in bytes. tools: the versions of what wrote it and what ran it. images: how many both were
    compared on. logit_difference, grid_difference: the largest that were found; all verdicts were the same.
    """

    schema_name: ClassVar[str] = "model-export/1"

    model: ModelRef
    format: Literal["onnx"]
    sha256: Digest
    size: Count
    tools: dict[Name, JsonValue]
    images: Count
    logit_difference: DecimalString
    grid_difference: DecimalString
    made_by: Name


class ExplanationQuality(Record):
    """How good a version's explanations were found to be, on the images of a data set."""

    schema_name: ClassVar[str] = "explanation-quality/1"

    model: ModelRef
    method: Name
    layer: Name
    snapshot_name: Name
    snapshot_digest: Digest
    images: Text
    randomisation: Literal["gone", "survive", "not-judged"]
    measures: dict[Name, JsonValue]
    actor: Name


class Review(Record):
    """What a person found the part to be. Appended, never edited: a later review of the same part speaks for it."""

    schema_name: ClassVar[str] = "review/1"

    inspection_id: Id
    inspection_leaf: Digest
    truth: Truth
    defect_type: Name | None
    reviewer: Name
    source: Literal["human", "simulated"]
    note: Text


class ReportIssued(Record):
    """A report left the house; its digest tells a genuine copy from another."""

    schema_name: ClassVar[str] = "report/1"

    kind: Literal["audit", "decision"]
    sha256: Digest
    scope: dict[Name, JsonValue]
    issued_by: Name


class LogHead(Frozen):
    """The last checkpoint of a log: what a log that continues it began from."""

    origin: Name
    size: Count
    root: Digest


class LedgerOpened(Record):
    """From here on checkpoints are signed as `origin`, with `key`. `previous`: the log before it, where there was one."""

    schema_name: ClassVar[str] = "ledger-opened/1"

    origin: Name
    key: Text
    previous: LogHead | None
    actor: Name
    reason: Text


class LedgerKey(Record):
    """From here on `key` signs for `origin` instead of `replaces`, whose signatures stay valid."""

    schema_name: ClassVar[str] = "ledger-key/1"

    origin: Name
    key: Text
    replaces: Text
    actor: Name
    reason: Text


class Witness(Frozen):
    name: Name
    key: Text
    url: Text


class WitnessPolicy(Record):
    """Whose cosignatures are asked for from here on, and how many of them make a checkpoint witnessed."""

    schema_name: ClassVar[str] = "witness-policy/1"

    origin: Name
    threshold: Count
    witnesses: list[Witness]
    actor: Name
    reason: Text


class TablesRebuilt(Record):
    """The tables were not what the journal says, and were made so again. `mended`: by table, how many rows were what."""

    schema_name: ClassVar[str] = "tables-rebuilt/1"

    mended: dict[Name, JsonValue]
    actor: Name
    reason: Text


class Gap(Record):
    """The record of a station has a hole here, or was late: from when to when, why, and what is missing.

    delayed: decisions that were kept in the local spool and recorded late; they are all in the ledger.
    lost: attempts of which nothing could be recorded; who asked was told.
    first_trigger, last_trigger: the camera's counts that have no decision because of it.
    actor: the recorder that writes it, or the person who declared it.
    """

    schema_name: ClassVar[str] = "gap/1"

    station: Name
    began_at: Timestamp
    ended_at: Timestamp
    cause_code: Name
    cause: Text
    delayed: Count
    lost: Count
    first_trigger: Count | None
    last_trigger: Count | None
    actor: Name

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        if self.ended_at < self.began_at:  # one form of time, so text sorts as time does
            raise ValueError("the gap ends before it begins")
        if (self.first_trigger is None) != (self.last_trigger is None):
            raise ValueError("of the triggers, one is given without the other")
        if self.first_trigger is not None and self.last_trigger is not None and self.last_trigger < self.first_trigger:
            raise ValueError("the last trigger is below the first")
        return self


SCHEMAS: dict[str, type[Record]] = {
    record.schema_name: record
    for record in (
        Inspection, InspectionFailed, Runtime, DatasetSnapshot, ModelVersion, ModelEvent, ModelRefused, ModelExport, Review,
        ReportIssued, LedgerOpened, LedgerKey, WitnessPolicy, TablesRebuilt, Gap, ExplanationQuality,
    )
}  # fmt: skip


def validated(record_type: type[Record], fields: dict[str, Any]) -> Record:
    """A record from what somebody asked to have recorded.

    Raises:
        InputError: a field that no record can hold.
    """
    try:
        return record_type.model_validate(fields)
    except ValidationError as error:
        where = ".".join(str(part) for part in error.errors()[0]["loc"])
        raise InputError(
            f"The {where.replace('_', ' ')} cannot be recorded; give printable text of at most 200 characters (a note: 2000)."
        ) from error


def require_reason(reason: str) -> None:
    """Raises:
    InputError: nothing that an auditor could read.
    """
    if not reason.strip():
        raise InputError("The reason is empty; say in a sentence why, for an auditor will read it.")
