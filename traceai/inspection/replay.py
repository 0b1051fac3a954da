"""A past decision made again from the store alone, and held against its record.

The version is loaded by its recorded digest and the image by its own, both verified byte for byte; the image is decoded and
prepared as the version declares, judged and explained as it was then. What the machine, its libraries and the size of the
batch may change is the last digits, so numbers are compared within the tolerances below, and everything else exactly.
"""

import copy
import threading
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from traceai.db.connection import Database
from traceai.errors import (
    BlobMissingError,
    ConflictError,
    ModelError,
    RecordError,
    ReplayDiffersError,
    VerificationError,
)
from traceai.images.blobs import BlobStore
from traceai.images.decode import DecodedImage, decode, identify
from traceai.inspection import history
from traceai.inspection.history import Dossier
from traceai.inspection.picture import stored_grid
from traceai.ledger import canonical, records

if TYPE_CHECKING:  # torch takes seconds to import, and whoever only reads the history needs none
    from torch import nn

    from traceai.explain.splitting import Split
    from traceai.inspection.afterwards import Afterwards
    from traceai.inspection.engine import Engine
    from traceai.inspection.judging import Judgement

# Of the largest logit, or of 1 where all are smaller: many times what another processor or batch size changes.
LOGITS_WITHIN = 1e-4
# Of the largest cell: two steps of the half precision in which grids are stored.
GRID_WITHIN = 2e-3

_KEPT = 4


@dataclass(frozen=True, eq=False)
class Replay:
    """A decision as recorded and as it comes out now.

    Attributes:
        index: of the record in the ledger.
        image: decoded from the stored bytes.
        logit_error, logit_tolerance: the largest difference of a logit, and what is allowed.
        grid_error, grid_tolerance: likewise of a cell of the heat map, or of its least and its largest where the recorded one was
            purged; the error is None where the shapes differ.
        purged: the recorded heat map is no longer stored, and only what the record says of it was compared.
        identical: the heat map has the recorded digest, so it is the same bit for bit.
        recorded_runtime: the environment it was decided in; None where it is not on record. runtime: that of now.
        differences: what does not agree, a sentence without its full stop each; empty where all agrees.
    """

    record: records.Inspection
    index: int
    engine: "Engine"
    image: DecodedImage
    prepared: npt.NDArray[np.float32]
    judgement: "Judgement"
    logit_error: float
    logit_tolerance: float
    grid_error: float | None
    grid_tolerance: float
    purged: bool
    identical: bool
    recorded_runtime: Mapping[str, Any] | None
    runtime: Mapping[str, Any]
    differences: tuple[str, ...]

    @property
    def agrees(self) -> bool:
        """The record holds: the same decision comes out of the same image and version."""
        return not self.differences

    @property
    def runtime_differs(self) -> list[str]:
        """What of the environment is another now."""
        then = self.recorded_runtime
        return [] if then is None else sorted(n for n in {*then, *self.runtime} if then.get(n) != self.runtime.get(n))

    def explain(self, method: str, *, layer: str | None = None, on: date) -> "Afterwards":
        """Explain the decision in another way than was recorded; see `afterwards.explain`."""
        from traceai.inspection import afterwards  # noqa: PLC0415  # which is made of replays

        return afterwards.explain(self, method, layer=layer, on=on)

    def to_json(self) -> dict[str, Any]:
        """Everything that was compared, as JSON values."""
        then, found = self.record, self.judgement
        return {
            "id": then.id,
            "index": self.index,
            "model": then.model.model_dump(),
            "agrees": self.agrees,
            "differences": list(self.differences),
            "verdict": {"recorded": then.verdict, "replayed": found.verdict},
            "predicted": {"recorded": then.predicted, "replayed": found.predicted},
            "defect_score": {"recorded": then.defect_score, "replayed": found.defect_score},
            "logits": {
                "recorded": dict(then.logits),
                "replayed": found.logits,
                "largest_difference": self.logit_error,
                "tolerance": self.logit_tolerance,
            },
            "explanation": {
                "method": {"recorded": then.explanation.method, "replayed": found.summary.method},
                "layer": {"recorded": then.explanation.layer, "replayed": found.summary.layer},
                "target": {"recorded": then.explanation.target, "replayed": found.summary.target},
                "sha256": {"recorded": then.explanation.sha256, "replayed": found.summary.sha256},
                "identical": self.identical,
                "purged": self.purged,
                "largest_difference": self.grid_error,
                "tolerance": self.grid_tolerance,
            },
            "runtime": {
                "recorded": None if self.recorded_runtime is None else dict(self.recorded_runtime),
                "replayed": dict(self.runtime),
                "differs": self.runtime_differs,
            },
        }


class Replayer:
    """Replays decisions, and keeps the networks of the last few versions. Threads may share it."""

    def __init__(self, database: Database, blobs: BlobStore) -> None:
        self._database, self._blobs = database, blobs
        self._lock = threading.Lock()
        self._engines: OrderedDict[str, Engine] = OrderedDict()

    def replay(
        self, reference: str, *, actor: str, module: "nn.Module | None" = None, parts: "Split | None" = None
    ) -> Replay:
        """Make the decision `reference` (its id or ledger index) again.

        Args:
            actor: who asks, for the record of a refusal.
            module, parts: the network of a version whose code is not kept here. It is copied, for the recorded parameters are
                loaded into it, and the caller's own may be at work.

        Raises:
            DecisionNotFoundError, ConflictError: there is no such decision, or the inspection failed.
            BlobMissingError: image or model were purged.
            BlobTamperedError, ModelTamperedError, VerificationError: image, model, heat map or runtime are not those on record.
            ModelError: a version whose code is not kept here, without `module`.
            ReplayDiffersError: the network gives no finite number where it did.
        """
        with self._database.session() as session:
            dossier = history.dossier(session, history.find(session, reference))
        record = dossier.entry.record
        if isinstance(record, records.InspectionFailed):
            raise ConflictError(
                f"Inspection {record.id} failed ({record.failure_code}), so there is nothing to replay."
            )
        if not isinstance(record, records.Inspection):
            raise RecordError(
                f"Journal entry {dossier.row.journal_index} is no inspection; run `traceai ledger verify`."
            )
        if record.image.sha256 is None:
            raise BlobMissingError(f"Decision {record.id} names no image, so there is none to replay.")
        data = self._blobs.get(record.image.sha256)
        return _compared(dossier, record, self._engine(record.model, actor, module, parts), decode(data))

    def _engine(
        self, model: records.ModelRef, actor: str, module: "nn.Module | None", parts: "Split | None"
    ) -> "Engine":
        from traceai.inspection.engine import Engine  # noqa: PLC0415  # see above
        from traceai.models import registry  # noqa: PLC0415

        if module is not None:
            module, parts = copy.deepcopy((module, parts))  # together, for they share parameters
            return Engine(registry.load(self._database, self._blobs, model, actor=actor, module=module, parts=parts))
        with self._lock:
            if model.digest not in self._engines:
                self._engines[model.digest] = Engine(registry.load(self._database, self._blobs, model, actor=actor))
            self._engines.move_to_end(model.digest)
            while len(self._engines) > _KEPT:
                self._engines.popitem(last=False)
            return self._engines[model.digest]


def _compared(dossier: Dossier, record: records.Inspection, engine: "Engine", image: DecodedImage) -> Replay:
    prepared = engine.prepare(image)
    (found,) = engine.judge([prepared])
    if isinstance(found, ModelError):
        raise ReplayDiffersError(
            f"Decision {record.id} was replayed and the network's output is not a finite number, which it was when it was "
            "recorded; look for what differs in the runtime."
        )
    logit_error, logit_tolerance = _logits(record, found)
    identical = found.summary.sha256 == record.explanation.sha256
    grid_error, grid_tolerance = _grid(dossier, record, found)
    differences = [
        f"the {what} was {then} and is {now}"
        for what, then, now in (
            ("digest of the decoded pixels", record.image.pixel_sha256, image.pixel_sha256),
            ("verdict", record.verdict, found.verdict),
            ("predicted class", record.predicted, found.predicted),
            ("explained class", record.explanation.target, found.summary.target),
            ("explanation method", record.explanation.method, found.summary.method),
            ("layer", record.explanation.layer, found.summary.layer),
            ("shape of the heat map", (record.explanation.height, record.explanation.width), found.summary.shape),
            ("list of classes", sorted(record.logits), sorted(found.logits)),
        )
        if then != now
    ]
    if not logit_error <= logit_tolerance:
        differences.append(f"a logit differs by {logit_error:.3g}, and {logit_tolerance:.3g} is allowed")
    if grid_error is not None and not grid_error <= grid_tolerance:
        differences.append(f"a cell of the heat map differs by {grid_error:.3g}, and {grid_tolerance:.3g} is allowed")
    return Replay(
        record=record,
        index=dossier.row.journal_index,
        engine=engine,
        image=image,
        prepared=prepared,
        judgement=found,
        logit_error=logit_error,
        logit_tolerance=logit_tolerance,
        grid_error=grid_error,
        grid_tolerance=grid_tolerance,
        purged=dossier.grid is None,
        identical=identical,
        recorded_runtime=_runtime(dossier, record),
        runtime=engine.environment(1),
        differences=tuple(differences),
    )


def _logits(record: records.Inspection, found: "Judgement") -> tuple[float, float]:
    """The largest difference of a logit that both have, and the tolerance."""
    then = {name: float(value) for name, value in record.logits.items()}
    errors = [abs(then[name] - float(value)) for name, value in found.logits.items() if name in then]
    return max(errors, default=0.0), LOGITS_WITHIN * max(1.0, *map(abs, then.values()))


def _grid(dossier: Dossier, record: records.Inspection, found: "Judgement") -> tuple[float | None, float]:
    """The largest difference of a cell, or None where the shapes differ, and the tolerance.

    Raises:
        VerificationError: the stored heat map is not the recorded one.
    """
    said, now = record.explanation, found.heat_map.astype(np.float64)
    tolerance = GRID_WITHIN * max(abs(float(said.min)), abs(float(said.max)), 2.0**-14)
    if (said.height, said.width) != found.summary.shape:
        return None, tolerance
    if dossier.grid is None:
        then, now = (
            np.array([float(said.min), float(said.max)]),
            np.array([found.summary.minimum, found.summary.maximum]),
        )
    else:
        then = stored_grid(record, dossier.grid).astype(np.float64)
    # Half precision may have overflowed: two infinities of a sign are equal, and their difference is not a number.
    same = (then == now) | (np.isnan(then) & np.isnan(now))
    with np.errstate(invalid="ignore"):
        error = np.where(same, 0.0, np.abs(then - now))
    return float(np.nan_to_num(error, nan=np.finfo(float).max, posinf=np.finfo(float).max).max()), tolerance


def _runtime(dossier: Dossier, record: records.Inspection) -> Mapping[str, Any] | None:
    """Raises:
    VerificationError: the stored environment is not the recorded one.
    """
    if dossier.runtime is None:
        return None
    environment: Mapping[str, Any] = dossier.runtime.environment
    if identify(canonical.dumps(environment)) != record.runtime:
        raise VerificationError(
            f"The stored runtime of {record.id} is not the recorded one; run `traceai ledger verify`."
        )
    return environment
