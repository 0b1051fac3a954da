"""The explanation of a recorded decision as a picture, from stored bytes alone."""

import numpy as np
import numpy.typing as npt

from traceai.errors import ConflictError, ModelError
from traceai.explain.overlay import panel, render, to_png
from traceai.explain.summary import decode_grid
from traceai.images.decode import decode
from traceai.inspection.history import Dossier


def explanation_png(dossier: Dossier, image: bytes) -> bytes:
    """Image and heat map side by side with their scale: PNG, identical bytes for identical input.

    Raises:
        ConflictError: the inspection failed, so there is nothing to explain, or its heat map is no longer stored.
        VerificationError: the stored heat map has not the recorded size.
    """
    row = dossier.row
    pixels, grid = decode(image).pixels, stored_grid(dossier)
    caption = f"{row.id}   {row.verdict}   {row.model_name}@{row.model_version}"
    try:
        return to_png(panel(pixels, grid, target=row.explanation_target or "", caption=caption))
    except ModelError as error:
        raise ConflictError(f"The heat map of {row.id} cannot be drawn: {error.message}.") from error


def overlay_png(dossier: Dossier, image: bytes) -> bytes:
    """The heat map over the image, without legend; see `explanation_png`."""
    return to_png(render(decode(image).pixels, stored_grid(dossier)))


def stored_grid(dossier: Dossier) -> npt.NDArray[np.float32]:
    """(h, w) signed evidence as recorded; see `explanation_png` for what it raises."""
    row = dossier.row
    if row.explanation_height is None or row.explanation_width is None:
        raise ConflictError(f"Inspection {row.id} failed ({row.failure_code}), so there is nothing to explain.")
    if dossier.grid is None:
        raise ConflictError(f"The heat map of {row.id} is no longer stored; its digest remains in the ledger.")
    return decode_grid(dossier.grid, (row.explanation_height, row.explanation_width))
