"""A guard before every body: nobody unknown is read at all, and nobody is read beyond the limit.

The framework reads a form, to disk if need be, before it asks a route's dependencies. So this stands in front of it.
"""

from http import HTTPStatus

from starlette.concurrency import run_in_threadpool
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from traceai import access
from traceai.errors import ImageTooLargeError, TraceaiError
from traceai.images.containers import DEFAULT_LIMITS
from traceai.sdk import Trace
from traceai_api.problems import problem, status_of

# The other fields of the form, and the form itself.
SLACK = 64 * 1024
UNMEASURED, TOO_LARGE = HTTPStatus.LENGTH_REQUIRED, HTTPStatus.REQUEST_ENTITY_TOO_LARGE
# What a body is refused with that the guard would let nobody send.
REFUSALS: dict[HTTPStatus, str] = {UNMEASURED: "length-required", TOO_LARGE: ImageTooLargeError.code}


class GuardBodies:
    """ASGI middleware for requests that bring a body."""

    def __init__(self, app: ASGIApp, trace: Trace) -> None:
        self.app, self.trace = app, trace

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["method"] in {"POST", "PUT", "PATCH"}:
            headers = Headers(scope=scope)
            length = headers.get("content-length", "")
            if not length.isdigit():
                refusal = problem(UNMEASURED, REFUSALS[UNMEASURED], "Say how long the body is: send Content-Length.")
            elif int(length) > DEFAULT_LIMITS.max_bytes + SLACK:
                refusal = problem(
                    TOO_LARGE,
                    REFUSALS[TOO_LARGE],
                    f"The body has {length} bytes and at most {DEFAULT_LIMITS.max_bytes} are accepted; send a smaller image.",
                )
            else:
                error = await run_in_threadpool(self._stranger, headers.get("authorization", ""))
                # Small bodies go on, so that the access log hears of whoever sends them.
                if error is None or int(length) <= SLACK:
                    await self.app(scope, receive, send)
                    return
                refusal = problem(status_of(type(error)), error.code, error.message)
            await refusal(scope, receive, send)
            return
        await self.app(scope, receive, send)

    def _stranger(self, authorization: str) -> TraceaiError | None:
        scheme, _, token = authorization.partition(" ")
        try:
            with self.trace.database.session() as session:
                access.authenticate(session, token if scheme.lower() == "bearer" else None)
        except TraceaiError as error:
            return error
        return None
