"""Inspection with an exported file: the same reading, drawing and recording, and no torch."""

from collections.abc import Sequence
from pathlib import Path

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
from traceai.inspection.inspector import Inspector
from traceai.inspection.known import KnownLines, Line
from traceai.inspection.reading import Attempt
from traceai.inspection.recording.recorder import Recorder
from traceai.inspection.stages import Stages
from traceai.models import registry


class EdgeInspector(Inspector):
    """An exported file at one station; see `Inspector`. Every decision names, in its `runtime`, the file that made it.

    Images are judged one after the other, each as soon as it is read: the file takes one image of any size.
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

    def _judge(self, attempts: Sequence[Attempt]) -> None:
        for attempt in attempts:
            super()._judge([attempt])


def _line(sha256: str, station: str, database: Database, lines: KnownLines) -> Line:
    """The version that the file is of, as the database says, or as it said when it last answered."""
    reference = f"onnx:{sha256}"
    try:
        with database.session() as session:
            export = _registered(session, sha256)
            registry.require_usable(session, export.model_name, export.model_version)
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
    query = select(ModelExport).where(ModelExport.sha256 == bytes.fromhex(sha256)).limit(1)  # type: ignore[arg-type]
    export: ModelExport | None = session.execute(query).scalar_one_or_none()
    if export is None:
        raise ExportTamperedError(
            f"The file with SHA-256 {sha256} is not on record as an export; it was altered, or it is of another ledger.",
            found=sha256,
        )
    return export
