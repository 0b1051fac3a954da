"""The ledger as a tiled transparency log (https://c2sp.org/tlog-tiles): a client that knows the format follows it from here.

The prefix of the log is `/v1/ledger`. What a client fetches it verifies itself, so nothing here has to be believed.
"""

import gzip
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Request, Response
from pydantic import BaseModel

from traceai.access import Permission, Principal
from traceai.errors import (
    CheckpointNotFoundError,
    LedgerGapError,
    PrunedError,
    RecordError,
    TileError,
    TileNotFoundError,
)
from traceai.ledger import log
from traceai.ledger.signing.serving import served
from traceai.ledger.tlog.tiles import WIDTH, Tile, entry_bundle, tile_data
from traceai.ledger.tree import DatabaseTree
from traceai_api.answers import guarded
from traceai_api.dependencies import SessionDep, allowed

router = APIRouter(prefix="/ledger", tags=["ledger"])

# Access is asked for every time, so no shared cache may keep an answer.
_FLEETING = {"Cache-Control": "private, no-cache"}
_LASTING = {"Cache-Control": "private, max-age=31536000, immutable", "Vary": "Authorization, Accept-Encoding"}


def _content(media_type: str) -> dict[int | str, dict[str, Any]]:
    return {200: {"description": "As tlog-tiles has it.", "content": {media_type: {}}}}


class HeadOut(BaseModel):
    size: int
    root: str


@router.get("", summary="Size and root of the ledger's tree, unsigned", responses=guarded())
def head(_: Annotated[Principal, Depends(allowed(Permission.READ_LEDGER))], session: SessionDep) -> HeadOut:
    found = log.read_head(session)
    return HeadOut(size=found.size, root=found.root.hex())


@router.get(
    "/checkpoint",
    summary="The newest signed tree head",
    response_class=Response,
    responses=guarded(CheckpointNotFoundError) | _content("text/plain"),
)
def checkpoint(_: Annotated[Principal, Depends(allowed(Permission.READ_LEDGER))], session: SessionDep) -> Response:
    return Response(served(session.connection()).note, media_type="text/plain; charset=utf-8", headers=_FLEETING)


@router.get(
    "/tile/entries/{path:path}",
    summary="A bundle of entries: `<N>` or `<N>.p/<W>`",
    response_class=Response,
    responses=guarded(TileError, CheckpointNotFoundError, TileNotFoundError, PrunedError, LedgerGapError, RecordError)
    | _content("application/octet-stream"),
)
def entries(
    _: Annotated[Principal, Depends(allowed(Permission.READ_DECISIONS))],
    session: SessionDep,
    request: Request,
    path: str,
) -> Response:
    tile = _served(session, request, f"entries/{path}")
    start = tile.index * WIDTH
    data = entry_bundle(DatabaseTree(session.connection()).entries(start, start + tile.width))
    headers = dict(_LASTING)
    if "gzip" in request.headers.get("accept-encoding", ""):
        data, headers["Content-Encoding"] = gzip.compress(data, 6, mtime=0), "gzip"
    return Response(data, media_type="application/octet-stream", headers=headers)


@router.get(
    "/tile/{path:path}",
    summary="A tile of hashes: `<L>/<N>` or `<L>/<N>.p/<W>`",
    response_class=Response,
    responses=guarded(TileError, CheckpointNotFoundError, TileNotFoundError, PrunedError, LedgerGapError)
    | _content("application/octet-stream"),
)
def tile(
    _: Annotated[Principal, Depends(allowed(Permission.READ_LEDGER))],
    session: SessionDep,
    request: Request,
    path: str,
) -> Response:
    data = tile_data(DatabaseTree(session.connection()), _served(session, request, path))
    return Response(data, media_type="application/octet-stream", headers=_LASTING)


def _served(session: SessionDep, request: Request, path: str) -> Tile:
    """The tile at `path`, which a tree of the size of the served checkpoint has.

    Raises:
        TileError, CheckpointNotFoundError, TileNotFoundError, PrunedError.
    """
    tile = Tile.parse(path)
    minimum_index: int = request.app.state.minimum_index
    if tile.is_pruned(minimum_index):
        raise PrunedError(f"This service publishes entries from {minimum_index} on; ask whoever keeps the older ones.")
    size = served(session.connection()).checkpoint.size
    if not tile.is_within(size):
        raise TileNotFoundError(
            f"The tree of {size} entries has no such tile; ask for one that its checkpoint implies."
        )
    return tile
