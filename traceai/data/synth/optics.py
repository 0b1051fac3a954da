"""From linear light at the lens to the bytes of the camera: aperture, exposure, noise, response."""

import functools

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from traceai.data.synth.camera import SUPERSAMPLING, Field
from traceai.data.synth.scene import Scene

_SHOT, _READ = 0.0105, 0.0020  # deviations at full scale and in the dark, share of full scale
_SENSITIVITY = 1.2
_FLARE = 0.0035  # light scattered in the lens, share of full scale
_KNEE = 0.72  # where highlights begin to roll off, share of full scale


def shrink(values: Field) -> Field:
    """Mean over `SUPERSAMPLING` x `SUPERSAMPLING` blocks of the last two axes."""
    total = values[..., ::SUPERSAMPLING, ::SUPERSAMPLING].copy()
    for row in range(SUPERSAMPLING):
        for column in range(SUPERSAMPLING):
            if row or column:
                total += values[..., row::SUPERSAMPLING, column::SUPERSAMPLING]
    total *= 1 / SUPERSAMPLING**2
    return total


def photograph(
    light: Field, scene: Scene, setting: np.random.Generator, noise: np.random.Generator
) -> npt.NDArray[np.uint8]:
    """One exposure.

    Args:
        light: Linear RGB (3, n, n) at the supersampled resolution; consumed.
        setting: Draws what differs from shot to shot: exposure, focus, white balance.
        noise: Draws the sensor noise, the same amount whatever is in the picture.

    Returns:
        uint8 (size, size, 3), sRGB-encoded.
    """
    exposure = _SENSITIVITY * scene.lighting * float(np.exp(setting.normal(0, 0.045)))
    blur = setting.uniform(0.38, 0.62) * scene.size / 256
    balance = [1 + setting.normal(0, 0.008), 1.0, 1 + setting.normal(0, 0.010)]
    small = shrink(light)
    axis = np.linspace(-1, 1, scene.size, dtype=np.float32) ** 2
    falloff = exposure * (1 - 0.11 * (axis[:, None] + axis[None, :]))
    for channel in range(3):
        layer = ndimage.gaussian_filter(small[channel], blur, truncate=3.0)
        layer += _FLARE
        layer *= falloff * np.float32(balance[channel])
        small[channel] = layer
    bright = np.maximum(small - _KNEE, 0)
    small = np.minimum(small, _KNEE) + (1 - _KNEE) * (1 - np.exp(-bright * (1 / (1 - _KNEE))))
    if scene.noise:
        common = noise.standard_normal((scene.size, scene.size), dtype=np.float32)
        own = noise.standard_normal(small.shape, dtype=np.float32)
        columns = noise.standard_normal(scene.size, dtype=np.float32)
        deviation = np.sqrt(_SHOT**2 * np.maximum(small, 0) + _READ**2) * np.float32(scene.noise)
        small += deviation * (0.8 * common + 0.6 * own) + np.float32(0.0005 * scene.noise) * columns
    codes = np.clip(small * 4095 + 0.5, 0, 4095).astype(np.uint16)
    return np.ascontiguousarray(_response()[codes].transpose(1, 2, 0))


@functools.cache
def _response() -> npt.NDArray[np.uint8]:
    """The sRGB transfer function (IEC 61966-2-1) for a 12-bit converter."""
    linear = np.arange(4096) / 4095
    curve = np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)
    codes: npt.NDArray[np.uint8] = np.rint(255 * curve).astype(np.uint8)
    return codes
