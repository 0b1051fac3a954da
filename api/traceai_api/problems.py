"""Errors as RFC 9457 problem documents, with the library's stable `code`."""

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
    TraceaiError,
    UnavailableError,
    VerificationError,
)

# The first match counts, so the special stand before the general.
STATUS: tuple[tuple[type[TraceaiError], HTTPStatus], ...] = (
    (AuthenticationError, HTTPStatus.UNAUTHORIZED),
    (ForbiddenError, HTTPStatus.FORBIDDEN),
    (NotFoundError, HTTPStatus.NOT_FOUND),
    (ConflictError, HTTPStatus.CONFLICT),
    (ImageTooLargeError, HTTPStatus.REQUEST_ENTITY_TOO_LARGE),
    (ImageError, HTTPStatus.UNPROCESSABLE_ENTITY),
    (InputError, HTTPStatus.BAD_REQUEST),
    (UnavailableError, HTTPStatus.SERVICE_UNAVAILABLE),
    (VerificationError, HTTPStatus.INTERNAL_SERVER_ERROR),
)


class Problem(BaseModel):
    """RFC 9457. `code` is stable; `detail` is one sentence for a person."""

    type: str = "about:blank"
    title: str
    status: int
    code: str
    detail: str
    inspection_id: str | None = None


def status_of(error: TraceaiError) -> HTTPStatus:
    return next((status for family, status in STATUS if isinstance(error, family)), HTTPStatus.INTERNAL_SERVER_ERROR)


def problem(status: HTTPStatus, code: str, detail: str, inspection_id: str | None = None) -> JSONResponse:
    body = Problem(title=status.phrase, status=status.value, code=code, detail=detail, inspection_id=inspection_id)
    headers = {"WWW-Authenticate": "Bearer"} if status is HTTPStatus.UNAUTHORIZED else None
    return JSONResponse(body.model_dump(exclude_none=True), status, headers, media_type="application/problem+json")


def install(app: FastAPI) -> None:
    @app.exception_handler(TraceaiError)
    def _ours(_: Request, error: TraceaiError) -> JSONResponse:
        recorded = error.details.get("inspection_id")
        return problem(status_of(error), error.code, error.message, str(recorded) if recorded else None)

    @app.exception_handler(RequestValidationError)
    def _malformed(_: Request, error: RequestValidationError) -> JSONResponse:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"] if part not in ("query", "path", "body"))
        return problem(HTTPStatus.BAD_REQUEST, "bad-input", f"{where or 'The request'}: {first['msg']}.")

    @app.exception_handler(HTTPException)
    def _http(_: Request, error: HTTPException) -> JSONResponse:
        status = HTTPStatus(error.status_code)
        return problem(status, status.phrase.lower().replace(" ", "-"), f"{error.detail}.")

    @app.exception_handler(Exception)
    def _unexpected(_: Request, error: Exception) -> JSONResponse:
        # The text of an unexpected exception may hold anything; it goes to the log and not to the caller.
        return problem(
            HTTPStatus.INTERNAL_SERVER_ERROR, "internal", "Something unexpected happened; the server's log has it."
        )
