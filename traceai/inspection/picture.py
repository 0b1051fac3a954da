"""The explanation of a recorded decision as a picture, from stored bytes alone: image, heat map, and the version's manifest.

What is drawn is what the journal entry says; the table's row is not asked. The manifest says which part of the heat map lies on
the image, for a version may see it with bars above and below.
"""

import hashlib
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from traceai.errors import ConflictError, ModelError, RecordError, VerificationError
from traceai.explain.overlay import panel, render, to_png
from traceai.explain.summary import decode_grid
from traceai.images.blobs import BlobStore
from traceai.images.decode import decode
from traceai.images.preprocess import Box
from traceai.inspection.history import Dossier
from traceai.ledger import records
from traceai.models.manifest import Manifest

if TYPE_CHECKING:
    from traceai.inspection.afterwards import Afterwards

# Of a map that is noisy from pixel to pixel, this share is drawn below full strength: a single pixel would dim all others.
_FULL_COLOUR = 0.99


def explanation_png(dossier: Dossier, image: bytes, blobs: BlobStore) -> bytes:
    """Image and heat map side by side with their scale: PNG, identical bytes for identical input.

    Raises:
        ConflictError: the inspection failed, so there is nothing to explain, or its heat map is no longer stored.
        VerificationError: the stored heat map is not the recorded one.
        BlobMissingError, BlobTamperedError: the version's manifest is not stored, or altered.
    """
    record = dossier.entry.record
    if isinstance(record, records.InspectionFailed):
        raise ConflictError(f"Inspection {record.id} failed ({record.failure_code}), so there is nothing to explain.")
    if not isinstance(record, records.Inspection):
        raise RecordError(f"Journal entry {dossier.row.journal_index} is no inspection; run `traceai ledger verify`.")
    grid, pixels = stored_grid(record, dossier.grid), decode(image).pixels
    caption = f"{record.id}   {record.verdict}   {record.model.name}@{record.model.version}"
    try:
        box = _place(record, pixels, blobs)
        return to_png(panel(pixels, grid, target=record.explanation.target, caption=caption, box=box))
    except ModelError as error:
        raise ConflictError(f"The heat map of {record.id} cannot be drawn: {error.message}.") from error


def afterwards_png(found: "Afterwards") -> bytes:
    """Image and map side by side, as `explanation_png` draws them, under a notice that this was made afterwards: PNG.

    Identical bytes for an identical explanation, its day included.
    """
    record, method = found.replay.record, found.method
    lines = [f"{record.id}   {record.verdict}   {record.model.name}@{record.model.version}"]
    if found.settings:
        lines.append("; ".join(_setting(name, value) for name, value in found.settings.items()))
    if found.error is not None:
        verdict = "" if found.complete else "   INCOMPLETE: not to be relied on"
        total = float(found.grid.sum(dtype=np.float64))
        lines.append(
            f"completeness: sums to {total:.3g} of the logit, {abs(found.error):.2g} off what it must{verdict}"
        )
    limit = float(np.quantile(np.abs(found.grid), _FULL_COLOUR)) if method.fine else None
    if limit:
        lines.append(f"the strongest {1 - _FULL_COLOUR:.0%} of the pixels are drawn in full colour")
    if not method.signed and found.grid.min() > 0:
        lines.append(f"the scale is stretched: the most is {found.grid.max() / found.grid.min():.3g} times the least")
    lines.append(f"on record: {record.explanation.method} at {record.explanation.layer}; the replayed decision agrees")
    return to_png(
        panel(
            found.replay.image.pixels,
            found.grid,
            target=record.explanation.target,
            caption="\n".join(lines),
            box=found.box,
            limit=limit or None,
            contour=None if method.fine or not method.signed else 0.5,
            legend=method.legend,
            notice=f"MADE AFTERWARDS, on {found.made_on.isoformat()}, by {method.name}: not the recorded explanation",
        )
    )


def _setting(name: str, value: str | int) -> str:
    return f"{name.removesuffix('_px')} {value} px" if name.endswith("_px") else f"{name} {value}"


def overlay_png(record: records.Inspection, grid: bytes | None, image: bytes, blobs: BlobStore) -> bytes:
    """The stored heat map over the image, without legend; see `explanation_png` for what it raises, and `ModelError`."""
    values, pixels = stored_grid(record, grid), decode(image).pixels
    return to_png(render(pixels, values, box=_place(record, pixels, blobs)))


def _place(record: records.Inspection, pixels: npt.NDArray[np.uint8], blobs: BlobStore) -> Box:
    """Which part of the heat map lies on the image.

    Raises:
        ModelError: the manifest is not one that this release can read.
    """
    manifest = Manifest.from_bytes(record.model.digest, blobs.get(record.model.digest))
    height, width = pixels.shape[:2]
    return manifest.preprocessing.grid_to_image_box(width, height)


def stored_grid(record: records.Inspection, grid: bytes | None) -> npt.NDArray[np.float32]:
    """(h, w) signed evidence as recorded; see `explanation_png` for what it raises."""
    if grid is None:
        raise ConflictError(f"The heat map of {record.id} is no longer stored; its digest remains in the ledger.")
    if hashlib.sha256(grid).hexdigest() != record.explanation.sha256:
        raise VerificationError(
            f"The stored heat map of {record.id} is not the recorded one; run `traceai ledger verify`."
        )
    return decode_grid(grid, (record.explanation.height, record.explanation.width))
