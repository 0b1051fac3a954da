"""The service: one application over one `Trace`."""

from fastapi import APIRouter, FastAPI
from sqlalchemy import text

from traceai import __version__
from traceai.sdk import Trace
from traceai_api import problems
from traceai_api.answers import DATABASE, answers, describe
from traceai_api.dependencies import TraceDep
from traceai_api.remembered import Remembered
from traceai_api.routes import evidence, gaps, inspections, ledger, models, replay, spool
from traceai_api.uploads import GuardBodies

DESCRIPTION = """
What the network saw, which version decided, why, and who approved it. Every call needs a token
(`Authorization: Bearer ...`); who asks for evidence is written to the access log. Errors are RFC 9457 problem documents
with a stable `code`. Lists are read page by page: pass `next` as `after`.
"""


def create_app(trace: Trace, *, minimum_index: int = 0) -> FastAPI:
    """The application. It reads and records through `trace`, which the caller opens and closes.

    minimum_index: tiles and entry bundles that end at or before this entry are not published (tlog-tiles, "Pruning").
    """
    app = FastAPI(
        title="traceai",
        version=__version__,
        description=DESCRIPTION,
        docs_url=None,
        redoc_url=None,
        openapi_url="/v1/openapi.json",
        redirect_slashes=False,  # a redirect would repeat whatever the Host header says
    )
    app.state.trace = trace
    app.state.minimum_index = minimum_index
    app.state.remembered = Remembered(trace.recorder.spool)
    problems.install(app)
    app.add_middleware(GuardBodies, trace=trace, remembered=app.state.remembered)
    v1 = APIRouter(prefix="/v1")
    for module in (inspections, replay, gaps, models, evidence, ledger, spool):
        v1.include_router(module.router)
    app.include_router(v1)

    @app.get("/healthz", tags=["operations"], summary="The process is alive")
    def healthz() -> dict[str, str]:
        return {"status": "ok"}

    @app.get(
        "/readyz",
        tags=["operations"],
        summary="The process can do its work: the database answers",
        responses=answers(*DATABASE),
    )
    def readyz(trace: TraceDep) -> dict[str, str]:
        with trace.database.session() as session:
            session.execute(text("SELECT 1"))
        return {"status": "ready"}

    describe(app)
    return app
