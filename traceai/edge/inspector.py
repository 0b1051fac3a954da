"""Inspection with an exported file: the same reading, drawing and recording, and no torch."""

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from threading import Event

from sqlalchemy import select
from sqlmodel import Session

from traceai.db.connection import Database
from traceai.db.tables import ModelExport, Station
from traceai.edge.engine import EdgeEngine
from traceai.edge.file import opened, read
from traceai.errors import ExportTamperedError, StationNotFoundError, UnavailableError
from traceai.images.blobs import BlobStore
from traceai.images.decode import identify
from traceai.inspection.batching import Batcher
from traceai.inspection.decision import Decision
from traceai.inspection.inspector import Inspector
from traceai.inspection.known import KnownLines, Line
from traceai.inspection.reading import Item, Source
from traceai.inspection.recording.recorder import Recorder
from traceai.inspection.stages import Stages
from traceai.models import registry


class EdgeInspector(Inspector):
    """An exported file at one station; see `Inspector`. Every decision names, in its `runtime`, the file that made it.

    Images are judged one after the other, each as soon as it is read and those before it are judged: the file takes one image of
    any size. So `batch` changes nothing.
    """

    @classmethod
    def open(
        cls,
        path: Path,
        station: str,
        *,
        database: Database,
        blobs: BlobStore,
        recorder: Recorder,
        stages: Stages,
        lines: KnownLines,
        threads: int | None = None,
    ) -> "EdgeInspector":
        """See `Trace.edge_inspector`. Nothing in the file is read before its bytes are known to be registered."""
        data = read(path)
        line = _line(identify(data), station, recorder.database, lines)
        engine = EdgeEngine(opened(data, line.digest, threads=threads))
        return cls(database, blobs, recorder, Batcher(engine, 1), line, stages)

    def _flow(
        self, items: Iterable[Item | Source], batch: int, until: Event | None, *, eager: bool
    ) -> Iterator[Decision]:
        return super()._flow(items, 1, until, eager=eager)


def _line(sha256: str, station: str, database: Database, lines: KnownLines) -> Line:
    """The version that the file is of, as the database says, or as it said when it last answered."""
    reference = f"onnx:{sha256}"
    try:
        with database.session() as session:
            export = _registered(session, sha256)
            place = session.get(Station, station)
    except UnavailableError as away:
        return lines.recall(reference, station, away)
    if place is None:
        raise StationNotFoundError(f"There is no station {station}; add it with `traceai station add {station}`.")
    line = Line(
        export.model_name, export.model_version, export.model_digest.hex(), station, place.audit_pass_probability
    )
    lines.remember(reference, line)
    return line


def _registered(session: Session, sha256: str) -> ModelExport:
    """The last registration of the file whose version is not retired: the same network may have been registered as several.

    Raises:
        ExportTamperedError: there is no registration.
        ModelStateError: every version that it was registered for is retired.
    """
    query = (
        select(ModelExport)
        .where(ModelExport.sha256 == bytes.fromhex(sha256))  # type: ignore[arg-type]  # a column expression
        .order_by(ModelExport.journal_index.desc())  # type: ignore[attr-defined]
    )
    exports: Sequence[ModelExport] = session.execute(query).scalars().all()
    if not exports:
        raise ExportTamperedError(
            f"The file with SHA-256 {sha256} is not on record as an export; it was altered, or it is of another ledger.",
            found=sha256,
        )
    usable = (e for e in exports if registry.state(session, e.model_name, e.model_version) != "retired")
    export = next(usable, exports[0])
    registry.require_usable(session, export.model_name, export.model_version)
    return export
