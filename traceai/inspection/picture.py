"""The explanation of a recorded decision as a picture, from stored bytes alone.

What is drawn is what the journal entry says; the table's row is not asked.
"""

import hashlib

import numpy as np
import numpy.typing as npt

from traceai.errors import ConflictError, ModelError, RecordError, VerificationError
from traceai.explain.overlay import panel, render, to_png
from traceai.explain.summary import decode_grid
from traceai.images.decode import decode
from traceai.inspection.history import Dossier
from traceai.ledger import records


def explanation_png(dossier: Dossier, image: bytes) -> bytes:
    """Image and heat map side by side with their scale: PNG, identical bytes for identical input.

    Raises:
        ConflictError: the inspection failed, so there is nothing to explain, or its heat map is no longer stored.
        VerificationError: the stored heat map is not the recorded one.
    """
    record = dossier.entry.record
    if isinstance(record, records.InspectionFailed):
        raise ConflictError(f"Inspection {record.id} failed ({record.failure_code}), so there is nothing to explain.")
    if not isinstance(record, records.Inspection):
        raise RecordError(f"Journal entry {dossier.row.journal_index} is no inspection; run `traceai ledger verify`.")
    grid, pixels = stored_grid(record, dossier.grid), decode(image).pixels
    caption = f"{record.id}   {record.verdict}   {record.model.name}@{record.model.version}"
    try:
        return to_png(panel(pixels, grid, target=record.explanation.target, caption=caption))
    except ModelError as error:
        raise ConflictError(f"The heat map of {record.id} cannot be drawn: {error.message}.") from error


def overlay_png(record: records.Inspection, grid: bytes | None, image: bytes) -> bytes:
    """The stored heat map over the image, without legend; see `explanation_png` for what it raises."""
    return to_png(render(decode(image).pixels, stored_grid(record, grid)))


def stored_grid(record: records.Inspection, grid: bytes | None) -> npt.NDArray[np.float32]:
    """(h, w) signed evidence as recorded; see `explanation_png` for what it raises."""
    if grid is None:
        raise ConflictError(f"The heat map of {record.id} is no longer stored; its digest remains in the ledger.")
    if hashlib.sha256(grid).hexdigest() != record.explanation.sha256:
        raise VerificationError(
            f"The stored heat map of {record.id} is not the recorded one; run `traceai ledger verify`."
        )
    return decode_grid(grid, (record.explanation.height, record.explanation.width))
