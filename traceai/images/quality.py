"""Whether a picture is fit to be judged: brightness, contrast, sharpness and clipping, in five numbers.

They describe the picture, not the part. A lamp that fails, a lens that fogs and a camera that loses focus move them
long before the error rates can show it.
"""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

_SATURATED = 250
_DARK = 5


class Quality(NamedTuple):
    """Of the luma (ITU-R BT.601), on the scale 0 to 255.

    Attributes:
        mean, std: brightness and contrast.
        sharpness: the variance of the Laplacian (4 neighbours) over the inner pixels; 0 for pictures below 3 x 3. It
            grows with noise and texture too: compare it only within one camera and product.
        saturated: the fraction of pixels at 250 or above.
        dark: the fraction of pixels at 5 or below.
    """

    mean: float
    std: float
    sharpness: float
    saturated: float
    dark: float


def measure(pixels: npt.NDArray[np.uint8]) -> Quality:
    """The quality of uint8 pixels, (H, W) greyscale or (H, W, 3) RGB."""
    luma = pixels.astype(np.float64)
    if luma.ndim == 3:
        luma = luma @ np.array([0.299, 0.587, 0.114])
    inner = luma[1:-1, 1:-1]
    laplacian = luma[:-2, 1:-1] + luma[2:, 1:-1] + luma[1:-1, :-2] + luma[1:-1, 2:] - 4 * inner if inner.size else inner
    return Quality(
        mean=float(luma.mean()),
        std=float(luma.std()),
        sharpness=float(laplacian.var()) if laplacian.size else 0.0,
        saturated=float(np.mean(luma >= _SATURATED)),
        dark=float(np.mean(luma <= _DARK)),
    )
