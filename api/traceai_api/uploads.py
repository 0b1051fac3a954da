"""A guard before every body: nobody unknown is read at all, and nobody is read beyond the limit.

The framework reads a form, to disk if need be, before it asks a route's dependencies. So this stands in front of it.
"""

from http import HTTPStatus

from starlette.concurrency import run_in_threadpool
from starlette.datastructures import Headers
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from traceai import access
from traceai.errors import AuthenticationError, ImageTooLargeError, TraceaiError, UnavailableError
from traceai.images.containers import DEFAULT_LIMITS
from traceai.sdk import Trace
from traceai_api.problems import problem, status_of
from traceai_api.remembered import Remembered

# The other fields of the form, and the form itself.
SLACK = 64 * 1024
UNMEASURED, TOO_LARGE = HTTPStatus.LENGTH_REQUIRED, HTTPStatus.REQUEST_ENTITY_TOO_LARGE
# What a body is refused with that the guard would let nobody send.
REFUSALS: dict[HTTPStatus, str] = {UNMEASURED: "length-required", TOO_LARGE: ImageTooLargeError.code}


class GuardBodies:
    """ASGI middleware for requests that bring a body. A stranger's goes on without it, to be logged and told 401."""

    def __init__(self, app: ASGIApp, trace: Trace, remembered: Remembered) -> None:
        self.app, self.trace, self.remembered = app, trace, remembered

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["method"] not in {"POST", "PUT", "PATCH"}:
            await self.app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        try:
            known = await run_in_threadpool(self._knows, headers.get("authorization", ""))
        except TraceaiError as error:
            await problem(status_of(type(error)), error.code, error.message)(scope, receive, send)
            return
        # RFC 9112, section 6.3: a request with neither header has no body.
        if not known or not ("content-length" in headers or "transfer-encoding" in headers):
            await self.app(_bodiless(scope), _nothing, send)
        elif refusal := _refusal(headers.get("content-length", "")):
            await refusal(scope, receive, send)
        else:
            await self.app(scope, receive, send)

    def _knows(self, authorization: str) -> bool:
        scheme, _, token = authorization.partition(" ")
        try:
            with self.trace.recorder.database.session() as session:
                access.authenticate(session, token if scheme.lower() == "bearer" else None)
        except AuthenticationError:
            self.remembered.confirm(token, None)
            return False
        except UnavailableError:
            if self.remembered.recall(token) is None:
                raise
        return True


def _refusal(length: str) -> Response | None:
    if not length.isdigit():
        return problem(UNMEASURED, REFUSALS[UNMEASURED], "Say how long the body is: send Content-Length.")
    if int(length) > DEFAULT_LIMITS.max_bytes + SLACK:
        return problem(
            TOO_LARGE,
            REFUSALS[TOO_LARGE],
            f"The body has {length} bytes and at most {DEFAULT_LIMITS.max_bytes} are accepted; send a smaller image.",
        )
    return None


def _bodiless(scope: Scope) -> Scope:
    about_it = {b"content-type", b"content-length", b"transfer-encoding"}
    return {**scope, "headers": [(name, value) for name, value in scope["headers"] if name.lower() not in about_it]}


async def _nothing() -> Message:
    return {"type": "http.request", "body": b"", "more_body": False}
