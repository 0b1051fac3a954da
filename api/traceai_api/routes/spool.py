"""What this server keeps for a database that was away. It is told without the database."""

from datetime import datetime
from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Depends
from pydantic import BaseModel

from traceai.access import Permission, Principal
from traceai.errors import SpoolError
from traceai_api.answers import guarded
from traceai_api.dependencies import TraceDep, allowed

router = APIRouter(prefix="/spool", tags=["operations"])


class RejectedOut(BaseModel):
    """A record that the ledger does not take. It is kept, and can be offered again."""

    id: UUID
    station: str
    spooled_at: datetime
    rejected_at: datetime
    code: str
    reason: str


class OutageOut(BaseModel):
    """`answered_at`: when the database took the first record again; null while it does not."""

    began_at: datetime
    code: str
    cause: str
    answered_at: datetime | None


class SpoolOut(BaseModel):
    """Where every decision is that was ever kept here; what tells of an outage waits as well."""

    spooled: int
    delivered: int
    waiting: dict[str, int]
    oldest: datetime | None
    rejected: list[RejectedOut]
    outage: OutageOut | None
    damaged_files: int


@router.get(
    "",
    summary="What is kept on the server's disk until the ledger takes it",
    responses=guarded(SpoolError),
)
def spool(_: Annotated[Principal, Depends(allowed(Permission.READ_LEDGER))], trace: TraceDep) -> SpoolOut:
    found = trace.recorder.spool.status()
    return SpoolOut(
        spooled=found.spooled,
        delivered=found.delivered,
        waiting=found.waiting,
        oldest=found.oldest,
        rejected=[RejectedOut.model_validate(one, from_attributes=True) for one in found.rejected],
        outage=None if found.outage is None else OutageOut.model_validate(found.outage, from_attributes=True),
        damaged_files=len(found.damaged),
    )
