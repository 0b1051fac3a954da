"""What the caller of an inspection is given back."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

import numpy as np
import numpy.typing as npt

from traceai.errors import TraceaiError
from traceai.ledger.log import Receipt
from traceai.ledger.records import Audit, ModelRef, Part


class Verdict(StrEnum):
    PASS = "pass"  # noqa: S105  # a part that passes
    REJECT = "reject"
    UNDECIDED = "undecided"


@dataclass(frozen=True, eq=False)
class DecisionExplanation:
    """grid: float32 (h, w), signed Grad-CAM of `target` before any ReLU, as stored."""

    grid: npt.NDArray[np.float32]
    method: str
    layer: str
    target: str
    sha256: str
    degenerate: bool


@dataclass(frozen=True, eq=False)
class Decision:
    """One recorded decision, or one recorded failure to decide (`verdict` None, `failure` set).

    Held by the caller, it is true: the receipt exists only after the commit.
    """

    id: str
    receipt: Receipt
    station: str
    station_seq: int
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
