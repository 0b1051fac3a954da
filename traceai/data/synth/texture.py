"""Irregularity: noise tiles that repeat seamlessly, and one-dimensional tool-mark tables."""

import functools
import math

import numpy as np
import numpy.typing as npt
from scipy import fft, ndimage

from traceai.data.synth.camera import Field

_COARSE = 8
TILE = 512  # texels, a power of two so that wrapping is a mask


@functools.cache
def grain() -> Field:
    """Seamless band-limited noise, about three texels to a lump, zero mean, unit deviation, (TILE, TILE)."""
    white = np.random.default_rng(20_011).standard_normal((TILE, TILE), dtype=np.float32)
    return _unit_deviation(ndimage.gaussian_filter(white, 1.2, mode="wrap"))


@functools.cache
def clouds() -> Field:
    """Seamless fractal noise with amplitude falling as 1 / frequency^1.6, zero mean, unit deviation, (TILE, TILE)."""
    white = np.random.default_rng(20_012).standard_normal((TILE, TILE))
    frequency = np.hypot(np.fft.fftfreq(TILE)[:, None], np.fft.rfftfreq(TILE)[None, :])
    frequency[0, 0] = 1
    spectrum = np.fft.rfft2(white) / frequency**1.6
    spectrum[0, 0] = 0
    return _unit_deviation(np.fft.irfft2(spectrum).astype(np.float32))


def _unit_deviation(values: Field) -> Field:
    centred = values - np.mean(values, dtype=np.float64)
    return np.asarray(centred / np.std(centred, dtype=np.float64), dtype=np.float32)


def sample(tile: Field, u: Field, v: Field, texel: float, origin: tuple[int, int]) -> Field:
    """The tile at part coordinates, nearest texel; `texel` in mm."""
    column = ((u * (1 / texel)).astype(np.int32) + origin[0]) & (TILE - 1)
    row = ((v * (1 / texel)).astype(np.int32) + origin[1]) & (TILE - 1)
    return tile.ravel()[row * TILE + column]


def smooth_sample(tile: Field, u: Field, v: Field, texel: float, origin: tuple[int, int]) -> Field:
    """The tile at part coordinates, bilinear: for textures coarser than a pixel."""
    x, y = u * (1 / texel) + origin[0], v * (1 / texel) + origin[1]
    left, low = np.floor(x).astype(np.int32), np.floor(y).astype(np.int32)
    fx, fy = x - left, y - low
    c0, c1 = left & (TILE - 1), (left + 1) & (TILE - 1)
    r0, r1 = (low & (TILE - 1)) * TILE, ((low + 1) & (TILE - 1)) * TILE
    flat = tile.ravel()
    top = flat[r0 + c0] * (1 - fx) + flat[r0 + c1] * fx
    bottom = flat[r1 + c0] * (1 - fx) + flat[r1 + c1] * fx
    result: Field = top * (1 - fy) + bottom * fy
    return result


def broad_sample(tile: Field, u: Field, v: Field, texel: float, origin: tuple[int, int]) -> Field:
    """Like `smooth_sample` for a whole picture and structures wider than `_COARSE` pixels, at a tenth of the cost."""
    rows, columns = u.shape
    coarse = smooth_sample(tile, u[::_COARSE, ::_COARSE], v[::_COARSE, ::_COARSE], texel, origin)
    return _stretch(_stretch(coarse, rows).T, columns).T


def _stretch(values: Field, length: int) -> Field:
    """Linear interpolation along the first axis, every `_COARSE`-th row given."""
    after = np.concatenate([values[1:], values[-1:]])
    step = (after - values) * np.float32(1 / _COARSE)
    out = np.empty((len(values) * _COARSE, values.shape[1]), dtype=np.float32)
    for k in range(_COARSE):
        out[k::_COARSE] = values + np.float32(k) * step
    return out[:length]


class ToolMarks:
    """What one pass of a tool leaves, as a function of the distance across its marks.

    `slope` holds slopes (unitless) and `gloss` factors about 1, both every `STEP` mm from `start` on. Detail finer than
    `pixel` is averaged away, as the optics would.
    """

    STEP = 0.02

    def __init__(
        self, rng: np.random.Generator, *, start: float, stop: float, pitch: float, depth: float, pixel: float
    ) -> None:
        self.start = start
        count = int((stop - start) / self.STEP) + 2
        position = np.arange(count) * self.STEP

        length = fft.next_fast_len(count, real=True)
        frequency = fft.rfftfreq(length, self.STEP)
        optics = np.exp(-2 * (math.pi * 0.45 * pixel * frequency) ** 2)

        def rough(width: float, share: float = 1.0) -> npt.NDArray[np.complex128]:
            """Spectrum of noise smoothed over `width` mm, with standard deviation `share`."""
            band = frequency[frequency * width < 0.75]  # beyond it the smoothing leaves less than 2e-5
            white = rng.standard_normal((2, len(band)))
            spectrum = np.zeros(len(frequency), dtype=np.complex128)
            spectrum[: len(band)] = np.exp(-2 * (math.pi * width * band) ** 2) * (white[0] + 1j * white[1])
            spectrum[0] = 0
            deviation = math.sqrt(2 * float(np.sum(np.abs(spectrum) ** 2))) / length
            result: npt.NDArray[np.complex128] = spectrum * (share / deviation)
            return result

        def along(spectrum: npt.NDArray[np.complex128]) -> npt.NDArray[np.float64]:
            result: npt.NDArray[np.float64] = fft.irfft(spectrum, length)[:count]
            return result

        phase = 2 * math.pi * position / pitch + along(rough(6 * pitch, 1.5)) + rng.uniform(0, 6.3)
        feed = math.exp(-2 * (math.pi * 0.45 * pixel / pitch) ** 2) * np.sin(phase) * (0.75 + along(rough(2.5, 0.25)))
        tearing = rough(0.22 * pitch, 0.6) + rough(0.7, 0.45) + rough(4.0, 0.25)
        wear = rough(0.3 * pitch, 0.035) + rough(1.2, 0.03) + rough(6.0, 0.025)
        self.slope = (depth * (0.55 * feed + along(tearing * optics))).astype(np.float32)
        self.gloss = (1 + along(wear * optics)).astype(np.float32)

    def index(self, across: Field) -> npt.NDArray[np.int32]:
        place = ((across - self.start) * (1 / self.STEP)).astype(np.int32)
        return np.clip(place, 0, len(self.slope) - 1)
