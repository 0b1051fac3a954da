"""What the caller of an inspection is given back."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any

import numpy as np
import numpy.typing as npt

from traceai.clock import parse_timestamp
from traceai.errors import TraceaiError
from traceai.explain.summary import decode_grid
from traceai.inspection.recording.draft import Attempt, Spooled
from traceai.ledger.log import Receipt
from traceai.ledger.records import Audit, Inspection, InspectionFailed, ModelRef, Part


class Verdict(StrEnum):
    PASS = "pass"  # noqa: S105  # a part that passes
    REJECT = "reject"
    UNDECIDED = "undecided"


class RecordedFailureError(TraceaiError):
    """A failure as it stands on record: `code` is that of the error which it was."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code  # type: ignore[misc]  # of this one, and not of the class


@dataclass(frozen=True, eq=False)
class DecisionExplanation:
    """grid: float32 (h, w), signed Grad-CAM of `target` before any ReLU, as stored; None where it was purged."""

    grid: npt.NDArray[np.float32]
    method: str
    layer: str
    target: str
    sha256: str
    degenerate: bool


@dataclass(frozen=True, eq=False)
class Decision:
    """One recorded decision, or one recorded failure to decide (`verdict` None, `failure` set).

    Held by the caller, it is true: a `Receipt` exists only after the commit. While the database is away the receipt is `Spooled`:
    the record is on this machine's disk, and gets its `station_seq` and its place in the ledger when it is delivered.
    """

    id: str
    receipt: Receipt | Spooled
    station: str
    station_seq: int | None
    occurred_at: datetime
    source: str
    part: Part
    model: ModelRef
    verdict: Verdict | None
    predicted: str | None = None
    scores: Mapping[str, float] | None = None
    defect_score: float | None = None
    explanation: DecisionExplanation | None = None
    audit: Audit | None = None
    latency_us: int | None = None
    failure: TraceaiError | None = None

    @classmethod
    def of(
        cls,
        record: Attempt,
        grid: bytes | None,
        receipt: Receipt | Spooled,
        station_seq: int | None,
        source: str,
        failure: TraceaiError | None = None,
    ) -> "Decision":
        """The decision that `record` holds. `grid`: its stored heat map; `failure`: the very error, where it is at hand."""
        if isinstance(record, InspectionFailed):
            failure = failure or RecordedFailureError(record.failure_code, record.failure)
            return cls(**_common(record, receipt, station_seq, source), verdict=None, failure=failure)
        told = record.explanation
        return cls(
            **_common(record, receipt, station_seq, source),
            verdict=Verdict(record.verdict),
            predicted=record.predicted,
            scores={name: float(score) for name, score in record.scores.items()},
            defect_score=None if record.defect_score is None else float(record.defect_score),
            explanation=None
            if grid is None
            else DecisionExplanation(
                grid=decode_grid(grid, (told.height, told.width)),
                method=told.method,
                layer=told.layer,
                target=told.target,
                sha256=told.sha256,
                degenerate=told.degenerate,
            ),
            audit=record.audit,
            latency_us=record.latency_us,
        )


def _common(
    record: Inspection | InspectionFailed, receipt: Receipt | Spooled, station_seq: int | None, source: str
) -> dict[str, Any]:
    return {
        "id": record.id,
        "receipt": receipt,
        "station": record.station,
        "station_seq": station_seq,
        "occurred_at": parse_timestamp(record.occurred_at),
        "source": source,
        "part": record.part,
        "model": record.model,
    }
