"""Decisions: make one, search them, look at one."""

import re
from datetime import datetime
from typing import Annotated, Literal
from uuid import UUID

from fastapi import APIRouter, Depends, File, Form, Query, Response, UploadFile
from fastapi.responses import JSONResponse
from pydantic import BeforeValidator

from traceai.access import Permission, Principal
from traceai.db.tables import Inspection, Journal
from traceai.errors import (
    BlobMissingError,
    BlobTamperedError,
    CheckpointConflictError,
    CheckpointStoreError,
    ConflictError,
    DecisionNotFoundError,
    EvidenceError,
    IdTakenError,
    InputError,
    KeyFileError,
    LedgerForeignError,
    LedgerForkedError,
    LedgerGapError,
    LedgerRolledBackError,
    ModelError,
    ModelNotFoundError,
    ModelStateError,
    ModelTamperedError,
    NoteError,
    PolicyError,
    RecordError,
    RecordRefusedError,
    SpoolError,
    StationNotFoundError,
    TraceaiError,
    UnavailableError,
    VerificationError,
)
from traceai.images.containers import DEFAULT_LIMITS
from traceai.inspection import history
from traceai.inspection.history import Filter
from traceai.inspection.picture import explanation_png
from traceai.inspection.recording.draft import Spooled
from traceai.ledger.evidence import proving
from traceai.ledger.evidence.file import MEDIA_TYPE
from traceai.review import verdicts
from traceai.sdk import Trace
from traceai_api.answers import IMAGES, Responses, guarded
from traceai_api.dependencies import SessionDep, TraceDep, allowed, whole_form
from traceai_api.schemas import InspectionDetail, InspectionOut, InspectionPage, ReviewIn, ReviewOut, SpooledOut

router = APIRouter(prefix="/inspections", tags=["inspections"])
Reader = Annotated[Principal, Depends(allowed(Permission.READ_DECISIONS))]

PNG: Responses = {200: {"content": {"image/png": {}}, "description": "The picture."}}
RECORDED: Responses = {
    200: {"model": InspectionOut, "description": "It was on record already, under the id that was sent."},
    202: {
        "model": SpooledOut,
        "description": "The database is away: it is kept on the server's disk, and recorded later.",
    },
}
EVIDENCE: Responses = {200: {"content": {MEDIA_TYPE: {}}, "description": "An evidence file, `traceai-evidence/1`."}}

_RFC_3339 = re.compile(r"\d{4}-\d\d-\d\d[Tt ]\d\d:\d\d:\d\d(\.\d+)?([Zz]|[+-]\d\d:\d\d)", re.ASCII)


def rfc3339(text: object) -> object:
    """Raises:
    ValueError: no time of RFC 3339, section 5.6; one without a zone would mean something else in every plant.
    """
    if isinstance(text, str) and not _RFC_3339.fullmatch(text):
        raise ValueError("no time with a time zone; write it as 2026-01-31T06:00:00Z, and a `+` as %2B")
    return text


Moment = Annotated[datetime, BeforeValidator(rfc3339)]


def wanted(  # one parameter a filter, as the query string has them
    serial: str | None = None,
    lot: str | None = None,
    product: str | None = None,
    station: str | None = None,
    model: Annotated[str | None, Query(description="model name")] = None,
    version: Annotated[int | None, Query(ge=1, lt=2**31, description="model version")] = None,
    verdict: Literal["pass", "reject", "undecided", "failed"] | None = None,
    since: Annotated[Moment | None, Query(description="first moment, RFC 3339 with zone")] = None,
    until: Annotated[Moment | None, Query(description="first moment that no longer counts, likewise")] = None,
) -> Filter:
    texts = (serial, lot, product, station, model)
    if any(text is not None and "\x00" in text for text in texts):
        raise InputError("A filter holds a NUL character, which no recorded text has; leave it out.")
    return Filter(serial, lot, product, station, model, version, verdict, since, until)


FilterDep = Annotated[Filter, Depends(wanted)]


@router.get("", summary="Search decisions, newest first", responses=guarded(RecordError))
def search(
    _: Reader,
    session: SessionDep,
    wanted: FilterDep,
    limit: Annotated[int, Query(ge=1, le=history.LARGEST_PAGE)] = 50,
    after: Annotated[str | None, Query(description="`next` of the page before")] = None,
) -> InspectionPage:
    page = history.search(session, wanted, limit=limit, after=after)
    return InspectionPage(
        items=[InspectionOut.of(journal) for _, journal in history.entries(session, page.rows)], next=page.next
    )


@router.post(
    "",
    status_code=201,
    summary="Inspect one image and record the decision",
    response_model=InspectionOut,
    responses=RECORDED
    | guarded(
        ModelError, ModelNotFoundError, StationNotFoundError, BlobMissingError, ModelStateError, ConflictError, IdTakenError,
        *IMAGES, ModelTamperedError, BlobTamperedError, RecordError, RecordRefusedError, SpoolError, UnavailableError, body=True,
    ),
)  # fmt: skip
def inspect(
    principal: Annotated[Principal, Depends(allowed(Permission.INSPECT))],
    _: Annotated[None, Depends(whole_form)],
    trace: TraceDep,
    image: Annotated[UploadFile, File(description="the camera image, as the camera wrote it")],
    model: Annotated[str, Form(description="NAME, for its active version, or NAME@VERSION")],
    station: Annotated[str, Form()],
    product: Annotated[str | None, Form()] = None,
    serial: Annotated[str | None, Form()] = None,
    lot: Annotated[str | None, Form()] = None,
    view: Annotated[str | None, Form()] = None,
    trigger: Annotated[int | None, Form(ge=0, lt=2**53, description="the count of the camera or controller")] = None,
    id: Annotated[  # the field's name
        UUID | None, Form(description="yours: with it, a request that is repeated records nothing twice")
    ] = None,
) -> InspectionOut | Response:
    """An image that cannot be inspected is recorded as well; the problem document then names the record.

    Without an answer, ask again with the same `id` and image: one inspection is recorded, and that is what is answered.
    """
    inspector = trace.inspector(model, station, actor=principal.name)
    data = image.file.read(DEFAULT_LIMITS.max_bytes + 1)
    try:
        decision = inspector.inspect(
            data,
            name=image.filename or "upload",
            product=product,
            serial=serial,
            lot=lot,
            view=view,
            trigger=trigger,
            id=id,
        )
    except TraceaiError as error:
        decided = error.details.get("decision")
        error.details["inspection_id"] = getattr(decided, "id", None)
        raise
    if isinstance(decision.receipt, Spooled):
        return JSONResponse(SpooledOut.of(decision, decision.receipt).model_dump(mode="json"), 202)
    with trace.database.session() as session:
        recorded = InspectionOut.of(session.get_one(Journal, decision.receipt.index))
    if decision.earlier:
        return JSONResponse(recorded.model_dump(mode="json"), 200)
    return recorded


@router.get(
    "/{reference}",
    summary="One decision and what it stands on",
    responses=guarded(DecisionNotFoundError, RecordError),
)
def detail(_: Reader, session: SessionDep, reference: str) -> InspectionDetail:
    row = history.find(session, reference)
    return InspectionDetail.of_dossier(history.dossier(session, row), session.get_one(Journal, row.journal_index))


@router.get(
    "/{reference}/image",
    summary="The image, byte for byte as it arrived",
    response_class=Response,
    responses=guarded(DecisionNotFoundError, BlobMissingError, BlobTamperedError, UnavailableError),
)
def image(
    _: Annotated[Principal, Depends(allowed(Permission.READ_IMAGES))],
    session: SessionDep,
    trace: TraceDep,
    reference: str,
) -> Response:
    row = history.find(session, reference)
    data = stored_image(trace, row)
    # Served as what it was recognised as, never as what a browser might guess.
    media_type = row.image_media_type or "application/octet-stream"
    return Response(
        data,
        media_type=media_type,
        headers={
            "X-Content-Type-Options": "nosniff",
            "ETag": f'"{row.image_sha256.hex() if row.image_sha256 else ""}"',
        },
    )


@router.get(
    "/{reference}/explanation.png",
    summary="Image and heat map side by side",
    response_class=Response,
    responses=PNG
    | guarded(
        DecisionNotFoundError, BlobMissingError, ConflictError, *IMAGES, BlobTamperedError, RecordError,
        VerificationError, UnavailableError,
    ),
)  # fmt: skip
def explanation(_: Reader, session: SessionDep, trace: TraceDep, reference: str) -> Response:
    row = history.find(session, reference)
    picture = explanation_png(history.dossier(session, row), stored_image(trace, row), trace.blobs)
    return Response(picture, media_type="image/png", headers={"X-Content-Type-Options": "nosniff"})


@router.get(
    "/{reference}/evidence",
    summary="The evidence file: this decision with all that proves it, to be verified offline",
    response_class=Response,
    responses=EVIDENCE
    | guarded(
        DecisionNotFoundError, ConflictError, RecordError, LedgerGapError, EvidenceError, LedgerRolledBackError,
        LedgerForkedError, NoteError, PolicyError, LedgerForeignError, KeyFileError, CheckpointStoreError,
        CheckpointConflictError,
    ),
)  # fmt: skip
def evidence_file(_: Reader, trace: TraceDep, reference: str) -> Response:
    found = proving.prove(trace.signer, reference)
    name = f'attachment; filename="{found.id}.evidence.json"'
    headers = {"Content-Disposition": name, "X-Content-Type-Options": "nosniff"}
    return Response(found.data, media_type=MEDIA_TYPE, headers=headers)


@router.get(
    "/{reference}/reviews",
    summary="What people found this part to be, oldest first",
    responses=guarded(DecisionNotFoundError, RecordError),
)
def reviews(_: Reader, session: SessionDep, reference: str) -> list[ReviewOut]:
    return [ReviewOut.of(r) for r in history.dossier(session, history.find(session, reference)).reviews]


@router.post(
    "/{reference}/reviews",
    status_code=201,
    summary="Add what you found this part to be",
    responses=guarded(DecisionNotFoundError, ConflictError, RecordError, body=True),
)
def review(
    principal: Annotated[Principal, Depends(allowed(Permission.REVIEW))],
    session: SessionDep,
    reference: str,
    found: ReviewIn,
) -> ReviewOut:
    row = history.find(session, reference)
    verdicts.add(
        session, row, truth=found.truth, defect_type=found.defect_type, note=found.note, reviewer=principal.name
    )
    return ReviewOut.of(history.dossier(session, row).reviews[-1])


def stored_image(trace: Trace, row: Inspection) -> bytes:
    if row.image_sha256 is None:
        raise BlobMissingError(f"Inspection {row.id} failed before an image was read, so there is none to show.")
    return trace.blobs.get(row.image_sha256.hex())
