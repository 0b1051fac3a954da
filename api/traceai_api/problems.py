"""Errors as RFC 9457 problem documents, with the library's stable `code`."""

from collections.abc import Mapping
from http import HTTPStatus

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel
from starlette.exceptions import HTTPException

from traceai.errors import (
    AuthenticationError,
    ConflictError,
    ForbiddenError,
    ImageError,
    ImageTooLargeError,
    InputError,
    NotFoundError,
    PrunedError,
    TraceaiError,
    UnavailableError,
    VerificationError,
)

# The first match counts, so the special stand before the general.
STATUS: tuple[tuple[type[TraceaiError], HTTPStatus], ...] = (
    (AuthenticationError, HTTPStatus.UNAUTHORIZED),
    (ForbiddenError, HTTPStatus.FORBIDDEN),
    (PrunedError, HTTPStatus.GONE),
    (NotFoundError, HTTPStatus.NOT_FOUND),
    (ConflictError, HTTPStatus.CONFLICT),
    (ImageTooLargeError, HTTPStatus.REQUEST_ENTITY_TOO_LARGE),
    (ImageError, HTTPStatus.UNPROCESSABLE_ENTITY),
    (InputError, HTTPStatus.BAD_REQUEST),
    (UnavailableError, HTTPStatus.SERVICE_UNAVAILABLE),
    (VerificationError, HTTPStatus.INTERNAL_SERVER_ERROR),
)

# An error that is none of ours, and whatever else goes wrong within the service itself.
UNEXPECTED = (HTTPStatus.INTERNAL_SERVER_ERROR, "internal")


class Problem(BaseModel):
    """RFC 9457. `code` is stable; `detail` is one sentence for a person."""

    type: str = "about:blank"
    title: str
    status: int
    code: str
    detail: str
    inspection_id: str | None = None


def status_of(kind: type[TraceaiError]) -> HTTPStatus:
    return next((status for family, status in STATUS if issubclass(kind, family)), HTTPStatus.INTERNAL_SERVER_ERROR)


def problem(
    status: HTTPStatus,
    code: str,
    detail: str,
    inspection_id: str | None = None,
    headers: Mapping[str, str] | None = None,
) -> JSONResponse:
    body = Problem(title=status.phrase, status=status.value, code=code, detail=detail, inspection_id=inspection_id)
    if status is HTTPStatus.UNAUTHORIZED:
        headers = {"WWW-Authenticate": "Bearer"}
    return JSONResponse(body.model_dump(exclude_none=True), status, headers, media_type="application/problem+json")


def install(app: FastAPI) -> None:
    @app.exception_handler(TraceaiError)
    def _ours(_: Request, error: TraceaiError) -> JSONResponse:
        recorded = error.details.get("inspection_id")
        return problem(status_of(type(error)), error.code, error.message, str(recorded) if recorded else None)

    @app.exception_handler(RequestValidationError)
    def _malformed(_: Request, error: RequestValidationError) -> JSONResponse:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"] if part not in ("query", "path", "body"))
        what = first["msg"].removeprefix("Value error, ")
        return problem(HTTPStatus.BAD_REQUEST, InputError.code, f"{where or 'The request'}: {what}.")

    @app.exception_handler(HTTPException)
    def _http(_: Request, error: HTTPException) -> JSONResponse:
        status = HTTPStatus(error.status_code)
        # The framework's own, for a form that it cannot take apart: malformed like any other request.
        malformed = status is HTTPStatus.BAD_REQUEST
        code = InputError.code if malformed else status.phrase.lower().replace(" ", "-")
        return problem(status, code, f"{error.detail.removesuffix('.')}.", headers=error.headers)

    @app.exception_handler(Exception)
    def _unexpected(_: Request, error: Exception) -> JSONResponse:
        # The text of an unexpected exception may hold anything; it goes to the log and not to the caller.
        return problem(*UNEXPECTED, "Something unexpected happened; the server's log has it.")
