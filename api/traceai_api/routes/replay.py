"""A past decision made again from the store, and held against its record."""

from typing import Annotated, Any
from uuid import UUID

from fastapi import APIRouter, Depends
from pydantic import BaseModel, Field

from traceai.access import Permission, Principal
from traceai.errors import (
    BlobMissingError,
    BlobTamperedError,
    ConflictError,
    DecisionNotFoundError,
    ModelError,
    ModelTamperedError,
    RecordError,
    ReplayDiffersError,
    SplitError,
    UnavailableError,
    VerificationError,
)
from traceai.inspection.replay import Replay
from traceai.ledger.records import ModelRef
from traceai_api.answers import IMAGES, guarded
from traceai_api.dependencies import TraceDep, allowed

router = APIRouter(prefix="/inspections", tags=["inspections"])


class Texts(BaseModel):
    recorded: str | None
    replayed: str | None


class LogitsOut(BaseModel):
    recorded: dict[str, str]
    replayed: dict[str, str]
    largest_difference: float
    tolerance: float


class HeatMapOut(BaseModel):
    method: Texts
    layer: Texts
    target: Texts
    sha256: Texts
    identical: bool = Field(description="the heat map is the recorded one, bit for bit")
    purged: bool = Field(description="the recorded one is no longer stored: its least and largest cell were compared")
    largest_difference: float | None = Field(description="of a cell; null where the shapes differ")
    tolerance: float


class RuntimesOut(BaseModel):
    recorded: dict[str, Any] | None
    replayed: dict[str, Any]
    differs: list[str]


class ReplayOut(BaseModel):
    """What was recorded beside what comes out of the stored image and model now."""

    id: UUID
    index: int
    model: ModelRef
    agrees: bool
    differences: list[str] = Field(description="what does not agree, a sentence each")
    verdict: Texts
    predicted: Texts
    defect_score: Texts
    logits: LogitsOut
    explanation: HeatMapOut
    runtime: RuntimesOut

    @classmethod
    def of(cls, replayed: Replay) -> "ReplayOut":
        return cls.model_validate(replayed.to_json())


@router.post(
    "/{reference}/replay",
    summary="Make the decision again from the stored image and model, and compare; nothing is recorded",
    responses=guarded(
        DecisionNotFoundError, ConflictError, BlobMissingError, ModelError, SplitError, *IMAGES, BlobTamperedError,
        ModelTamperedError, RecordError, ReplayDiffersError, VerificationError, UnavailableError, body=True,
    ),
)  # fmt: skip
def replay(
    principal: Annotated[Principal, Depends(allowed(Permission.REPLAY))], trace: TraceDep, reference: str
) -> ReplayOut:
    """`agrees` is false where another decision comes out. A version whose code is not kept here cannot be replayed over HTTP."""
    return ReplayOut.of(trace.replay(reference, actor=principal.name))
