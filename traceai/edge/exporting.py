"""A version exported: written, run beside torch on the same pictures, and only where both agree entered in the ledger."""

from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any

import numpy as np
import numpy.typing as npt
import onnxruntime
from sqlalchemy import select
from sqlmodel import Session

from traceai.db.tables import ModelExport
from traceai.edge.engine import EdgeEngine
from traceai.edge.file import IMAGE, opened
from traceai.edge.writing import preparation, write
from traceai.errors import ExportError, ModelError
from traceai.images.blobs import BlobStore
from traceai.images.decode import DecodedImage, from_array
from traceai.images.preprocess import Preprocessing
from traceai.inspection.engine import Engine
from traceai.inspection.judging import Answer, Judgement, judgements
from traceai.ledger import log, records
from traceai.ledger.canonical import decimal
from traceai.ledger.records import ModelRef, validated
from traceai.models import registry
from traceai.models.artifact import LoadedModel

# The largest difference of a logit and of a cell of an explanation, and of a cell as a share of the strongest one, for an
# explanation may be faint all over; below the last there is nothing but rounding.
TOLERANCE, SHARE, ROUNDING = 1e-3, 1e-2, 1e-9
# Of a side of a picture that both are compared on, in pixels: it is to fit into memory.
_LARGEST = 2048
TOOLS = ("traceai", "torch", "onnx", "onnxscript", "onnxruntime")


@dataclass(frozen=True)
class Exported:
    """A file, and how far its answers are from those of torch: on how many images, in any logit, in any cell of a grid."""

    data: bytes
    images: int
    logit_difference: float
    grid_difference: float


def export(model: LoadedModel) -> Exported:
    """The file of a version, checked.

    Raises:
        ExportError: the network cannot be written as ONNX, or the file does not answer as the network does.
    """
    data = write(model)
    pictures = probe(model.manifest.preprocessing)
    _compare_preparation(model.manifest.preprocessing, pictures)
    torch_engine, edge_engine = Engine(model), EdgeEngine(opened(data, model.digest))
    logits, grids = [], []
    for picture in pictures:
        ours, theirs = (
            torch_engine.answer([torch_engine.prepare(picture)]),
            edge_engine.answer(edge_engine.prepare(picture)),
        )
        what = f"a picture of {picture.width} x {picture.height} pixels"
        if ours.target[0] != theirs.target[0]:
            raise ExportError(f"The ONNX file explains another class than torch for {what}; it is not registered.")
        logits.append(_difference(ours.logits, theirs.logits, TOLERANCE, f"logits for {what}"))
        grids.append(_difference(ours.grid, theirs.grid, grid_tolerance(ours.grid), f"explanation of {what}"))
        _require_same(_judged(ours, model), _judged(theirs, model), what)
    return Exported(data, len(pictures), max(logits), max(grids))


def register(session: Session, blobs: BlobStore, model: ModelRef, exported: Exported, *, made_by: str) -> ModelExport:
    """Keep the file and enter it in the ledger. The same file of the same version is entered once.

    Raises:
        ModelStateError: the version is retired.
    """
    registry.require_usable(session, model.name, model.version)
    sha256 = blobs.put(exported.data)  # first: a crash leaves a file without an entry, never an entry without its file
    log.lock(session)  # so that two who export at once see each other
    known = (
        select(ModelExport)
        .where(
            ModelExport.sha256 == bytes.fromhex(sha256),  # type: ignore[arg-type]  # a column expression
            ModelExport.model_name == model.name,  # type: ignore[arg-type]
            ModelExport.model_version == model.version,  # type: ignore[arg-type]
        )
        .limit(1)
    )
    row: ModelExport | None = session.execute(known).scalar_one_or_none()
    if row is None:
        record = validated(
            records.ModelExport,
            {
                "model": model.model_dump(),
                "format": "onnx",
                "sha256": sha256,
                "size": len(exported.data),
                "tools": {name: version(name) for name in TOOLS},
                "images": exported.images,
                "logit_difference": decimal(exported.logit_difference),
                "grid_difference": decimal(exported.grid_difference),
                "made_by": made_by,
            },
        )
        log.append(session, [record])
        row = session.execute(known).scalar_one()
    return row


def probe(how: Preprocessing) -> list[DecodedImage]:
    """Pictures of every shape that makes a difference to their preparation: the same ones every time.

    Blobs of grey and of colour on a ground, as large as the network's input, smaller, larger, tall, wide, and of one pixel.
    """
    height, width = how.height, how.width
    sizes = [
        (height, width), (2 * height, 2 * width), (height // 2 + 1, width // 2 + 1), (3 * height + 5, width),
        (height, 3 * width + 7), (3 * height + 1, width // 2 + 1), (height // 3 + 1, 2 * width + 3),
        (2 * height + 1, 2 * width - 1), (1, 1), (1, 40), (40, 1),
    ]  # fmt: skip
    noise = np.random.default_rng(0)
    found = []
    for number, size in enumerate(size for size in sizes for _ in range(2)):
        tall, wide = (min(side, _LARGEST) for side in size)
        shape = (tall, wide) if number % 2 else (tall, wide, 3)
        coarse = noise.integers(0, 256, (8, 8, *shape[2:]))
        picture = coarse[np.arange(tall) * 8 // tall][:, np.arange(wide) * 8 // wide]
        pixels = np.clip(picture + noise.normal(0, 12, shape), 0, 255).astype(np.uint8)
        found.append(from_array(pixels)[1])
    return found


def _compare_preparation(how: Preprocessing, pictures: Sequence[DecodedImage]) -> None:
    """Raises:
    ExportError: the graph does not prepare a picture as the Pillow at hand does.
    """
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    session = onnxruntime.InferenceSession(preparation(how), options, providers=["CPUExecutionProvider"])
    for picture in pictures:
        pixels = picture.pixels.reshape(1, picture.height, picture.width, -1)
        if not np.array_equal(session.run(None, {IMAGE: pixels})[0][0], how.apply(picture.pixels)):
            raise ExportError(
                f"The ONNX file does not prepare a picture of {picture.width} x {picture.height} pixels as this Pillow does; "
                "install the Pillow that this release is tested with (13)."
            )


def grid_tolerance(grid: npt.NDArray[Any]) -> float:
    """The largest difference of a cell that leaves the explanation `grid` what it is."""
    return min(TOLERANCE, SHARE * float(np.abs(grid).max()) + ROUNDING)


def _difference(ours: npt.NDArray[Any], theirs: npt.NDArray[Any], tolerance: float, what: str) -> float:
    """Raises:
    ExportError: it exceeds the tolerance, or the network gives no numbers.
    """
    if not np.isfinite(ours).all():
        raise ExportError(f"The {what} are not finite numbers in torch either; train or register the version anew.")
    if ours.shape != theirs.shape:
        raise ExportError(
            f"The ONNX file and torch differ in the {what}: the shapes are {theirs.shape} and {ours.shape}."
        )
    difference = float(np.abs(ours.astype(np.float64) - theirs).max())
    if not difference <= tolerance:
        raise ExportError(f"The ONNX file and torch differ in the {what} by {difference:.2g}; it is not registered.")
    return difference


def _judged(answer: Answer, model: LoadedModel) -> Judgement | ModelError:
    manifest = model.manifest
    (found,) = judgements(
        answer, classes=manifest.classes, layer=manifest.layer, operating_point=manifest.operating_point
    )
    return found


def _require_same(ours: Judgement | ModelError, theirs: Judgement | ModelError, what: str) -> None:
    if isinstance(ours, ModelError) or isinstance(theirs, ModelError) or ours.verdict != theirs.verdict:
        raise ExportError(f"The ONNX file and torch come to different verdicts on {what}; it is not registered.")
