"""What the operation needs: stations, users, and who asked for what. No entry stands behind these."""

import uuid
from datetime import datetime

from sqlalchemy import BigInteger, CheckConstraint, Index, LargeBinary
from sqlmodel import Field, SQLModel

from traceai.db.tables.base import UTC_TIME


class Station(SQLModel, table=True):
    """A place on the line. The lock on the head guards its counter; the rates of the audit draw are recorded with each part."""

    __tablename__ = "station"
    __table_args__ = (
        CheckConstraint("last_seq >= 0", name="last_seq"),
        CheckConstraint("audit_pass_probability > 0 AND audit_pass_probability <= 1", name="audit_pass_probability"),
    )

    name: str = Field(primary_key=True)
    last_seq: int = Field(default=0, sa_type=BigInteger)
    audit_pass_probability: float
    created_at: datetime = Field(sa_type=UTC_TIME)


class StageLatency(SQLModel, table=True):
    """What the stages of an inspection took at a station between two times, in microseconds; see `inspection.stages`."""

    __tablename__ = "stage_latency"
    __table_args__ = (Index("ix_stage_latency_station", "station", "ended_at"),)

    id: uuid.UUID = Field(primary_key=True)
    station: str
    stage: str
    began_at: datetime = Field(sa_type=UTC_TIME)
    ended_at: datetime = Field(sa_type=UTC_TIME)
    count: int = Field(sa_type=BigInteger)
    p50_us: int = Field(sa_type=BigInteger)
    p95_us: int = Field(sa_type=BigInteger)
    p99_us: int = Field(sa_type=BigInteger)
    max_us: int = Field(sa_type=BigInteger)


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


class AccessFields(SQLModel):
    """Who asked for what, and whether they were let in."""

    at: datetime = Field(sa_type=UTC_TIME, index=True)
    user_name: str
    role: str
    permission: str
    allowed: bool
    method: str
    target: str


class AccessLog(AccessFields, table=True):
    """Written before the answer leaves."""

    __tablename__ = "access_log"

    id: uuid.UUID = Field(primary_key=True)
