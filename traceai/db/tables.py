"""The tables. The journal is the truth; the evidence tables are its index and can be rebuilt from it.

A `table=True` class does not validate, so every rule is a named CHECK here and a field type in `ledger.records`.
The triggers that keep evidence append-only are in the migration: metadata cannot express them.
"""

import uuid
from datetime import datetime
from typing import Any

from sqlalchemy import BigInteger, CheckConstraint, DateTime, Index, LargeBinary, MetaData, UniqueConstraint
from sqlalchemy.dialects.postgresql import JSONB
from sqlmodel import Field, SQLModel

SQLModel.metadata.naming_convention = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "ck": "ck_%(table_name)s_%(constraint_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s",
        "pk": "pk_%(table_name)s",
    }
).naming_convention

UTC_TIME = DateTime(timezone=True)


def journal_index() -> Any:
    """The entry that a row is the index of: one row an entry."""
    return Field(sa_type=BigInteger, foreign_key="journal.index", unique=True)


# --- the ledger ------------------------------------------------------------------------------------------------------


class Journal(SQLModel, table=True):
    """Append-only canonical bytes in ledger order."""

    __tablename__ = "journal"
    __table_args__ = (
        CheckConstraint('"index" >= 0', name="index"),
        CheckConstraint("octet_length(leaf_hash) = 32", name="leaf_hash"),
    )

    index: int = Field(primary_key=True, sa_type=BigInteger, sa_column_kwargs={"autoincrement": False})
    schema_name: str = Field(sa_column_kwargs={"name": "schema"}, index=True)
    entry: bytes = Field(sa_type=LargeBinary)
    leaf_hash: bytes = Field(sa_type=LargeBinary)
    recorded_at: datetime = Field(sa_type=UTC_TIME)


class LedgerHead(SQLModel, table=True):
    """The one row whose lock orders all writers: the size of the journal and the right edge of its tree."""

    __tablename__ = "ledger_head"
    __table_args__ = (
        CheckConstraint("id = 1", name="only_one"),
        CheckConstraint("size >= 0", name="size"),
        CheckConstraint("octet_length(root) = 32", name="root"),
    )

    id: int = Field(default=1, primary_key=True, sa_column_kwargs={"autoincrement": False})
    size: int = Field(sa_type=BigInteger)
    root: bytes = Field(sa_type=LargeBinary)
    frontier: bytes = Field(sa_type=LargeBinary)


# --- evidence: rows that a journal entry stands behind -------------------------------------------------------------------


class Inspection(SQLModel, table=True):
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
        UniqueConstraint("station", "station_seq"),
        Index("ix_inspection_serial", "serial", "journal_index"),
        Index("ix_inspection_lot", "lot", "journal_index"),
        Index("ix_inspection_model", "model_name", "model_version", "journal_index"),
        Index("ix_inspection_verdict", "verdict", "journal_index"),
        Index("ix_inspection_occurred_at", "occurred_at"),
        Index("ix_inspection_image_sha256", "image_sha256"),
    )

    id: uuid.UUID = Field(primary_key=True)
    journal_index: int = journal_index()
    station: str = Field(foreign_key="station.name")
    station_seq: int = Field(sa_type=BigInteger)
    trigger: int | None = Field(default=None, sa_type=BigInteger)
    occurred_at: datetime = Field(sa_type=UTC_TIME)
    recorded_at: datetime = Field(sa_type=UTC_TIME)
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
    logits: dict[str, str] | None = Field(default=None, sa_type=JSONB(none_as_null=True))
    scores: dict[str, str] | None = Field(default=None, sa_type=JSONB(none_as_null=True))
    defect_score: float | None = None
    pass_below: float | None = None
    reject_at: float | None = None
    verdict: str | None = None
    predicted: str | None = None
    explanation_method: str | None = None
    explanation_layer: str | None = None
    explanation_target: str | None = None
    explanation_height: int | None = None
    explanation_width: int | None = None
    explanation_sha256: bytes | None = Field(default=None, sa_type=LargeBinary)
    explanation_min: float | None = None
    explanation_max: float | None = None
    explanation_sum: float | None = None
    explanation_positive_fraction: float | None = None
    explanation_peak_row: int | None = None
    explanation_peak_column: int | None = None
    explanation_bias: float | None = None
    explanation_residual: float | None = None
    explanation_degenerate: bool | None = None
    audit_stratum: str | None = None
    audit_probability: float | None = None
    audit_drawn: bool | None = None
    runtime: bytes | None = Field(default=None, sa_type=LargeBinary)
    latency_us: int | None = Field(default=None, sa_type=BigInteger)
    failure_code: str | None = None
    failure: str | None = None


class Runtime(SQLModel, table=True):
    __tablename__ = "runtime"

    digest: bytes = Field(primary_key=True, sa_type=LargeBinary)
    id: uuid.UUID
    journal_index: int = journal_index()
    occurred_at: datetime = Field(sa_type=UTC_TIME)
    environment: dict[str, Any] = Field(sa_type=JSONB)


class DatasetSnapshot(SQLModel, table=True):
    __tablename__ = "dataset_snapshot"
    __table_args__ = (UniqueConstraint("name", "digest"),)

    id: uuid.UUID = Field(primary_key=True)
    journal_index: int = journal_index()
    occurred_at: datetime = Field(sa_type=UTC_TIME)
    name: str
    digest: bytes = Field(sa_type=LargeBinary)
    listing: bytes = Field(sa_type=LargeBinary)
    images: int = Field(sa_type=BigInteger)
    counts: dict[str, Any] = Field(sa_type=JSONB)
    made_by: str


class ModelVersion(SQLModel, table=True):
    __tablename__ = "model_version"
    __table_args__ = (UniqueConstraint("name", "version"), CheckConstraint("version >= 1", name="version"))

    id: uuid.UUID = Field(primary_key=True)
    journal_index: int = journal_index()
    occurred_at: datetime = Field(sa_type=UTC_TIME)
    name: str
    version: int
    digest: bytes = Field(sa_type=LargeBinary, index=True)
    weights_sha256: bytes = Field(sa_type=LargeBinary)
    architecture: str
    parameters: int = Field(sa_type=BigInteger)
    layer: str
    classes: list[str] = Field(sa_type=JSONB)
    pass_below: float | None = None
    reject_at: float | None = None
    snapshot_name: str | None = None
    snapshot_digest: bytes | None = Field(default=None, sa_type=LargeBinary)
    training: dict[str, Any] = Field(sa_type=JSONB)
    evaluation: dict[str, Any] = Field(sa_type=JSONB)
    made_by: str


class ModelEvent(SQLModel, table=True):
    __tablename__ = "model_event"
    __table_args__ = (CheckConstraint("action IN ('approve', 'activate', 'retire')", name="action"),)

    id: uuid.UUID = Field(primary_key=True)
    journal_index: int = journal_index()
    occurred_at: datetime = Field(sa_type=UTC_TIME)
    model_name: str = Field(index=True)
    model_version: int
    model_digest: bytes = Field(sa_type=LargeBinary)
    action: str
    actor: str
    reason: str


class ModelRefused(SQLModel, table=True):
    __tablename__ = "model_refused"

    id: uuid.UUID = Field(primary_key=True)
    journal_index: int = journal_index()
    occurred_at: datetime = Field(sa_type=UTC_TIME)
    model_name: str
    model_version: int
    model_digest: bytes = Field(sa_type=LargeBinary)
    file: str
    expected: bytes = Field(sa_type=LargeBinary)
    found: bytes = Field(sa_type=LargeBinary)
    actor: str


class Review(SQLModel, table=True):
    __tablename__ = "review"
    __table_args__ = (
        CheckConstraint("truth IN ('good', 'defective')", name="truth"),
        CheckConstraint("source IN ('human', 'simulated')", name="source"),
        CheckConstraint("truth = 'defective' OR defect_type IS NULL", name="defect_type"),
    )

    id: uuid.UUID = Field(primary_key=True)
    journal_index: int = journal_index()
    occurred_at: datetime = Field(sa_type=UTC_TIME)
    inspection_id: uuid.UUID = Field(foreign_key="inspection.id", index=True)
    inspection_leaf: bytes = Field(sa_type=LargeBinary)
    truth: str
    defect_type: str | None = None
    reviewer: str
    source: str
    note: str


class ReportIssued(SQLModel, table=True):
    __tablename__ = "report_issued"
    __table_args__ = (CheckConstraint("kind IN ('audit', 'decision')", name="kind"),)

    id: uuid.UUID = Field(primary_key=True)
    journal_index: int = journal_index()
    occurred_at: datetime = Field(sa_type=UTC_TIME)
    kind: str
    sha256: bytes = Field(sa_type=LargeBinary, index=True)
    scope: dict[str, Any] = Field(sa_type=JSONB)
    issued_by: str


# --- evidence that the journal holds by digest -------------------------------------------------------------------------


class HeatMap(SQLModel, table=True):
    """The signed grid, float16 little-endian, row by row. Its SHA-256 is in the inspection's entry."""

    __tablename__ = "heat_map"

    inspection_id: uuid.UUID = Field(primary_key=True, foreign_key="inspection.id")
    grid: bytes = Field(sa_type=LargeBinary)


class DatasetImage(SQLModel, table=True):
    """One image of a snapshot. The listing that the snapshot's entry names by digest says the same of each."""

    __tablename__ = "dataset_image"
    __table_args__ = (
        CheckConstraint("label IN ('good', 'defect')", name="label"),
        CheckConstraint("split IN ('train', 'val', 'test')", name="split"),
    )

    snapshot_id: uuid.UUID = Field(primary_key=True, foreign_key="dataset_snapshot.id")
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


# --- operations: not evidence, and changed in place --------------------------------------------------------------------


class Station(SQLModel, table=True):
    """A place on the line. Its lock hands out `station_seq`; the rates of the audit draw are recorded with each part."""

    __tablename__ = "station"
    __table_args__ = (
        CheckConstraint("last_seq >= 0", name="last_seq"),
        CheckConstraint("audit_pass_probability > 0 AND audit_pass_probability <= 1", name="audit_pass_probability"),
    )

    name: str = Field(primary_key=True)
    last_seq: int = Field(default=0, sa_type=BigInteger)
    audit_pass_probability: float
    created_at: datetime = Field(sa_type=UTC_TIME)


class User(SQLModel, table=True):
    __tablename__ = "app_user"
    __table_args__ = (
        CheckConstraint(
            "role IN ('station', 'reviewer', 'engineer', 'approver', 'auditor', 'admin')",
            name="role",
        ),
    )

    name: str = Field(primary_key=True)
    role: str
    created_at: datetime = Field(sa_type=UTC_TIME)


class ApiToken(SQLModel, table=True):
    """A token is 256 random bits, so a plain SHA-256 of it cannot be guessed back."""

    __tablename__ = "api_token"

    sha256: bytes = Field(primary_key=True, sa_type=LargeBinary)
    user_name: str = Field(foreign_key="app_user.name", index=True)
    created_at: datetime = Field(sa_type=UTC_TIME)
    revoked_at: datetime | None = Field(default=None, sa_type=UTC_TIME)


class AccessLog(SQLModel, table=True):
    """Who asked for what, and whether they were let in. Written before the answer leaves."""

    __tablename__ = "access_log"

    id: uuid.UUID = Field(primary_key=True)
    at: datetime = Field(sa_type=UTC_TIME, index=True)
    user_name: str
    role: str
    permission: str
    allowed: bool
    method: str
    target: str


EVIDENCE: tuple[type[SQLModel], ...] = (
    Inspection, Runtime, DatasetSnapshot, ModelVersion, ModelEvent, ModelRefused, Review, ReportIssued,
)  # fmt: skip
APPEND_ONLY: tuple[type[SQLModel], ...] = (Journal, *EVIDENCE, HeatMap, DatasetImage, AccessLog)
