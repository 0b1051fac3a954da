"""Model versions and their lives."""

from typing import Annotated

from fastapi import APIRouter, Depends

from traceai.access import Permission, Principal
from traceai.errors import ModelNotFoundError
from traceai.inspection.history import model_events
from traceai.models import registry
from traceai_api.answers import guarded
from traceai_api.dependencies import SessionDep, allowed
from traceai_api.schemas import ModelVersionOut

router = APIRouter(prefix="/models", tags=["models"])
Reader = Annotated[Principal, Depends(allowed(Permission.READ_MODELS))]


@router.get("", summary="All versions of all models", responses=guarded())
def versions(_: Reader, session: SessionDep) -> list[ModelVersionOut]:
    return [
        ModelVersionOut.of(row, list(model_events(session, row.name, row.version)))
        for row in registry.versions(session)
    ]


@router.get(
    "/{name}/versions/{version}",
    summary="One version, its digest, lineage and life",
    responses=guarded(ModelNotFoundError),
)
def version(_: Reader, session: SessionDep, name: str, version: int) -> ModelVersionOut:
    row = registry.find(session, f"{name}@{version}")
    return ModelVersionOut.of(row, list(model_events(session, row.name, row.version)))
