"""The witness over HTTP. A process of its own: no database, no torch, and nothing of the rest of the service is imported.

- `POST /add-checkpoint`: https://c2sp.org/tlog-witness (v1.0.0).
- `GET /<SHA-256 of the origin, lower-case hexadecimal>/checkpoint`: the last checkpoint cosigned of that log. v1.0.0 leaves the
  monitor's retrieval open; this is the path of the specification's later drafts, and no stable promise.

The submission prefix and the monitoring prefix are one. Every refusal is one sentence of plain text.
"""

import asyncio
import logging

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route

from traceai.errors import TraceaiError
from traceai.ledger.witnesses.witness import LONGEST_REQUEST, PLAIN, Answer, Witness

# A request is a few kilobytes; who needs longer than this is no log.
READING_SECONDS = 20

_log = logging.getLogger(__name__)


def create_app(witness: Witness) -> Starlette:
    """The application over one witness, whose store and key the caller opens."""

    async def add_checkpoint(request: Request) -> Response:
        try:
            async with asyncio.timeout(READING_SECONDS):
                body = await _read(request)
        except TimeoutError:
            return _refusal(408, f"The request did not arrive within {READING_SECONDS} seconds.")
        except ClientDisconnect:
            return _refusal(400, "The request broke off.")
        if body is None:
            return _refusal(413, f"A request has at most {LONGEST_REQUEST} bytes.")
        return _response(await run_in_threadpool(witness.add_checkpoint, body))

    def checkpoint(request: Request) -> Response:
        note = witness.latest(request.path_params["origin_hash"])
        if note is None:
            raise HTTPException(404, "This witness has cosigned no checkpoint of a log with this origin hash.")
        return Response(note, headers={"Content-Type": PLAIN, "Cache-Control": "no-store"})

    app = Starlette(
        routes=[
            Route("/add-checkpoint", add_checkpoint, methods=["POST"]),
            Route("/{origin_hash}/checkpoint", checkpoint, methods=["GET"]),
        ],
        exception_handlers={HTTPException: _http, TraceaiError: _ours, Exception: _unexpected},
    )
    app.router.redirect_slashes = False
    return app


async def _read(request: Request) -> bytes | None:
    """The body; None where it is longer than any request, of which no more than that is ever held."""
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > LONGEST_REQUEST:
            return None
    return bytes(body)


def _response(answer: Answer) -> Response:
    return Response(answer.body, answer.status, headers={"Content-Type": answer.content_type})


def _refusal(status: int, said: str, headers: dict[str, str] | None = None) -> Response:
    # The rest of a body that was not read would be taken for the next request.
    closing = {"Connection": "close"} if status in (408, 413) else {}
    return Response(f"{said}\n", status, headers={"Content-Type": PLAIN, **(headers or {}), **closing})


def _http(_: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)  # noqa: S101  # what it is registered for
    sentences = {
        404: "There is nothing here; a witness answers at /add-checkpoint and /<origin hash>/checkpoint.",
        405: "This method is not allowed here; add-checkpoint is a POST and checkpoint a GET.",
    }
    said = error.detail if error.detail.endswith(".") else sentences.get(error.status_code, f"{error.detail}.")
    return _refusal(error.status_code, said, dict(error.headers or {}))


def _ours(_: Request, error: Exception) -> Response:
    assert isinstance(error, TraceaiError)  # noqa: S101
    _log.error("%s [%s]", error.message, error.code)
    return _refusal(503, error.message)


def _unexpected(_: Request, error: Exception) -> Response:
    # The text of an unexpected exception may hold anything; it goes to the log and not to the caller.
    return _refusal(500, "Something unexpected happened, and nothing was cosigned; the witness's log has it.")
