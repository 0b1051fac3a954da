"""Evidence: the rows that a journal entry stands behind, and what the journal holds by digest."""

import uuid
from datetime import datetime
from typing import Any

from sqlalchemy import (
    JSON,
    BigInteger,
    CheckConstraint,
    ForeignKeyConstraint,
    Index,
    LargeBinary,
    UniqueConstraint,
)
from sqlmodel import Field, SQLModel

from traceai.db.tables.base import DECIMAL, UTC_TIME, Evidence


class Inspection(Evidence, table=True):
    """A decision (`inspection/1`) or a failed attempt at one (`inspection-failed/1`)."""

    __tablename__ = "inspection"
    __table_args__ = (
        CheckConstraint("verdict IN ('pass', 'reject', 'undecided')", name="verdict"),
        CheckConstraint(
            "(failure_code IS NULL AND verdict IS NOT NULL AND predicted IS NOT NULL AND scores IS NOT NULL"
            " AND image_sha256 IS NOT NULL AND pixel_sha256 IS NOT NULL AND explanation_sha256 IS NOT NULL"
            " AND audit_drawn IS NOT NULL AND runtime IS NOT NULL)"
            " OR (failure_code IS NOT NULL AND failure IS NOT NULL AND verdict IS NULL AND defect_score IS NULL)",
            name="decided_or_failed",
        ),
        CheckConstraint("audit_probability >= 0 AND audit_probability <= 1", name="audit_probability"),
        CheckConstraint("defect_score >= 0 AND defect_score <= 1", name="defect_score"),
        CheckConstraint("station_seq >= 1", name="station_seq"),
        Index("ix_inspection_id", "id"),
        Index("ix_inspection_station", "station", "station_seq"),
        Index("ix_inspection_serial", "serial", "journal_index"),
        Index("ix_inspection_lot", "lot", "journal_index"),
        Index("ix_inspection_model", "model_name", "model_version", "journal_index"),
        Index("ix_inspection_verdict", "verdict", "journal_index"),
        Index("ix_inspection_occurred_at", "occurred_at"),
        Index("ix_inspection_image_sha256", "image_sha256"),
        {"postgresql_partition_by": "RANGE (journal_index)"},
    )

    id: uuid.UUID
    journal_index: int = Field(primary_key=True, sa_type=BigInteger, sa_column_kwargs={"autoincrement": False})
    station: str
    station_seq: int = Field(sa_type=BigInteger)
    trigger: int | None = Field(default=None, sa_type=BigInteger)
    product: str | None = None
    serial: str | None = None
    lot: str | None = None
    view: str | None = None
    image_sha256: bytes | None = Field(default=None, sa_type=LargeBinary)
    pixel_sha256: bytes | None = Field(default=None, sa_type=LargeBinary)
    image_bytes: int | None = Field(default=None, sa_type=BigInteger)
    image_width: int | None = None
    image_height: int | None = None
    image_media_type: str | None = None
    source: str | None = None
    model_name: str
    model_version: int
    model_digest: bytes = Field(sa_type=LargeBinary)
    logits: dict[str, str] | None = Field(default=None, sa_type=JSON(none_as_null=True))
    scores: dict[str, str] | None = Field(default=None, sa_type=JSON(none_as_null=True))
    defect_score: float | None = Field(default=None, sa_type=DECIMAL)
    pass_below: float | None = Field(default=None, sa_type=DECIMAL)
    reject_at: float | None = Field(default=None, sa_type=DECIMAL)
    verdict: str | None = None
    predicted: str | None = None
    explanation_method: str | None = None
    explanation_layer: str | None = None
    explanation_target: str | None = None
    explanation_height: int | None = None
    explanation_width: int | None = None
    explanation_sha256: bytes | None = Field(default=None, sa_type=LargeBinary)
    explanation_min: float | None = Field(default=None, sa_type=DECIMAL)
    explanation_max: float | None = Field(default=None, sa_type=DECIMAL)
    explanation_sum: float | None = Field(default=None, sa_type=DECIMAL)
    explanation_positive_fraction: float | None = Field(default=None, sa_type=DECIMAL)
    explanation_peak_row: int | None = None
    explanation_peak_column: int | None = None
    explanation_bias: float | None = Field(default=None, sa_type=DECIMAL)
    explanation_residual: float | None = Field(default=None, sa_type=DECIMAL)
    explanation_degenerate: bool | None = None
    audit_stratum: str | None = None
    audit_probability: float | None = Field(default=None, sa_type=DECIMAL)
    audit_drawn: bool | None = None
    runtime: bytes | None = Field(default=None, sa_type=LargeBinary)
    latency_us: int | None = Field(default=None, sa_type=BigInteger)
    failure_code: str | None = None
    failure: str | None = None


class Runtime(Evidence, table=True):
    __tablename__ = "runtime"

    digest: bytes = Field(sa_type=LargeBinary, unique=True)
    environment: dict[str, Any] = Field(sa_type=JSON)


class DatasetSnapshot(Evidence, table=True):
    __tablename__ = "dataset_snapshot"
    __table_args__ = (UniqueConstraint("name", "digest"),)

    name: str
    digest: bytes = Field(sa_type=LargeBinary)
    listing: bytes = Field(sa_type=LargeBinary)
    images: int = Field(sa_type=BigInteger)
    counts: dict[str, Any] = Field(sa_type=JSON)
    made_by: str


class ModelVersion(Evidence, table=True):
    __tablename__ = "model_version"
    __table_args__ = (UniqueConstraint("name", "version"), CheckConstraint("version >= 1", name="version"))

    name: str
    version: int
    digest: bytes = Field(sa_type=LargeBinary, index=True)
    weights_sha256: bytes = Field(sa_type=LargeBinary)
    architecture: str
    parameters: int = Field(sa_type=BigInteger)
    layer: str
    classes: list[str] = Field(sa_type=JSON)
    pass_below: float | None = Field(default=None, sa_type=DECIMAL)
    reject_at: float | None = Field(default=None, sa_type=DECIMAL)
    snapshot_name: str | None = None
    snapshot_digest: bytes | None = Field(default=None, sa_type=LargeBinary)
    training: dict[str, Any] = Field(sa_type=JSON)
    evaluation: dict[str, Any] = Field(sa_type=JSON)
    made_by: str


class ModelEvent(Evidence, table=True):
    __tablename__ = "model_event"
    __table_args__ = (CheckConstraint("action IN ('waive', 'approve', 'activate', 'retire')", name="action"),)

    model_name: str = Field(index=True)
    model_version: int
    model_digest: bytes = Field(sa_type=LargeBinary)
    action: str
    actor: str
    reason: str


class ModelRefused(Evidence, table=True):
    __tablename__ = "model_refused"

    model_name: str
    model_version: int
    model_digest: bytes = Field(sa_type=LargeBinary)
    file: str
    expected: bytes = Field(sa_type=LargeBinary)
    found: bytes = Field(sa_type=LargeBinary)
    actor: str


class ModelExport(Evidence, table=True):
    __tablename__ = "model_export"
    __table_args__ = (
        CheckConstraint("format IN ('onnx')", name="format"),
        CheckConstraint("logit_difference >= 0 AND grid_difference >= 0", name="differences"),
    )

    model_name: str = Field(index=True)
    model_version: int
    model_digest: bytes = Field(sa_type=LargeBinary)
    format: str
    sha256: bytes = Field(sa_type=LargeBinary, index=True)
    size: int = Field(sa_type=BigInteger)
    tools: dict[str, Any] = Field(sa_type=JSON)
    images: int = Field(sa_type=BigInteger)
    logit_difference: float = Field(sa_type=DECIMAL)
    grid_difference: float = Field(sa_type=DECIMAL)
    made_by: str


class ExplanationQuality(Evidence, table=True):
    __tablename__ = "explanation_quality"
    __table_args__ = (CheckConstraint("randomisation IN ('gone', 'survive', 'not-judged')", name="randomisation"),)

    model_name: str = Field(index=True)
    model_version: int
    model_digest: bytes = Field(sa_type=LargeBinary)
    method: str
    layer: str
    snapshot_name: str
    snapshot_digest: bytes = Field(sa_type=LargeBinary)
    images: str
    randomisation: str
    measures: dict[str, Any] = Field(sa_type=JSON)
    actor: str


class Review(Evidence, table=True):
    __tablename__ = "review"
    __table_args__ = (
        CheckConstraint("truth IN ('good', 'defective')", name="truth"),
        CheckConstraint("source IN ('human', 'simulated')", name="source"),
        CheckConstraint("truth = 'defective' OR defect_type IS NULL", name="defect_type"),
    )

    inspection_id: uuid.UUID = Field(index=True)
    inspection_leaf: bytes = Field(sa_type=LargeBinary)
    truth: str
    defect_type: str | None = None
    reviewer: str
    source: str
    note: str


class ReportIssued(Evidence, table=True):
    __tablename__ = "report_issued"
    __table_args__ = (CheckConstraint("kind IN ('audit', 'decision')", name="kind"),)

    kind: str
    sha256: bytes = Field(sa_type=LargeBinary, index=True)
    scope: dict[str, Any] = Field(sa_type=JSON)
    issued_by: str


class LedgerOpened(Evidence, table=True):
    """A new origin, and the log that it continues, where there was one."""

    __tablename__ = "ledger_opened"

    origin: str = Field(unique=True)
    key: str
    previous_origin: str | None = None
    previous_size: int | None = Field(default=None, sa_type=BigInteger)
    previous_root: bytes | None = Field(default=None, sa_type=LargeBinary)
    actor: str
    reason: str


class LedgerKey(Evidence, table=True):
    """From here on another key signs for the origin."""

    __tablename__ = "ledger_key"

    origin: str
    key: str
    replaces: str
    actor: str
    reason: str


class WitnessPolicy(Evidence, table=True):
    """Whose cosignatures are asked for from here on, and how many make a checkpoint witnessed."""

    __tablename__ = "witness_policy"

    origin: str
    threshold: int = Field(sa_type=BigInteger)
    witnesses: list[dict[str, str]] = Field(sa_type=JSON)
    actor: str
    reason: str


class TablesRebuilt(Evidence, table=True):
    """These tables were made again what the journal says; `mended` counts the rows, table by table."""

    __tablename__ = "tables_rebuilt"

    mended: dict[str, dict[str, int]] = Field(sa_type=JSON)
    actor: str
    reason: str


class Gap(Evidence, table=True):
    """Where the record of a station has a hole, or was late."""

    __tablename__ = "gap"
    __table_args__ = (
        CheckConstraint("ended_at >= began_at", name="ended_at"),
        CheckConstraint("delayed >= 0 AND lost >= 0", name="counts"),
        CheckConstraint(
            "(first_trigger IS NULL AND last_trigger IS NULL)"
            " OR (first_trigger IS NOT NULL AND last_trigger IS NOT NULL"
            " AND first_trigger >= 0 AND last_trigger >= first_trigger)",
            name="triggers",
        ),
        Index("ix_gap_station", "station", "journal_index"),
    )

    station: str
    began_at: datetime = Field(sa_type=UTC_TIME)
    ended_at: datetime = Field(sa_type=UTC_TIME)
    cause_code: str
    cause: str
    delayed: int = Field(sa_type=BigInteger)
    lost: int = Field(sa_type=BigInteger)
    first_trigger: int | None = Field(default=None, sa_type=BigInteger)
    last_trigger: int | None = Field(default=None, sa_type=BigInteger)
    actor: str


# --- by digest --------------------------------------------------------------------------------------------------------


class HeatMap(SQLModel, table=True):
    """The signed grid, float16 little-endian, row by row. Its SHA-256 is in the inspection's entry."""

    __tablename__ = "heat_map"
    __table_args__ = ({"postgresql_partition_by": "RANGE (journal_index)"},)

    journal_index: int = Field(primary_key=True, sa_type=BigInteger, sa_column_kwargs={"autoincrement": False})
    grid: bytes = Field(sa_type=LargeBinary)


class DatasetImage(SQLModel, table=True):
    """One image of a snapshot. The listing that the snapshot's entry names by digest says the same of each."""

    __tablename__ = "dataset_image"
    __table_args__ = (
        # A rebuild takes a snapshot's row away and puts the recorded one in its place.
        ForeignKeyConstraint(["snapshot_id"], ["dataset_snapshot.id"], deferrable=True, initially="IMMEDIATE"),
        CheckConstraint("label IN ('good', 'defect')", name="label"),
        CheckConstraint("split IN ('train', 'val', 'test')", name="split"),
    )

    snapshot_id: uuid.UUID = Field(primary_key=True)
    path: str = Field(primary_key=True)
    label: str
    defect_type: str
    mask_path: str | None = None
    split: str
    group_id: str
    condition: str
    label_note: str
    sha256: bytes = Field(sa_type=LargeBinary, index=True)
    pixel_sha256: bytes = Field(sa_type=LargeBinary)
    width: int
    height: int
    mask_sha256: bytes | None = Field(default=None, sa_type=LargeBinary)
