"""What of an explanation is recorded: the grid as float16 bytes, and numbers anyone can recompute from those bytes.

Needs no torch: a verifier reads the stored bytes with this module alone.
"""

import hashlib
import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from traceai.errors import ModelError, VerificationError

METHOD = "grad-cam/1"
_STORED = np.dtype("<f2")

Degeneracy = Literal["non-finite", "all-zero", "constant", "nothing-positive"]


@dataclass(frozen=True, slots=True)
class ExplanationSummary:
    """The recorded numbers of one grid, computed from its stored float16 values, not from what these were rounded from.

    Attributes:
        method: how the grid was made, "grad-cam/1" by this package.
        layer: the layer whose output was explained.
        target: the name of the class whose logit was explained.
        shape: (h, w).
        sha256: of the stored bytes, see `encode_grid`.
        minimum, maximum: over the finite cells.
        total: the sum of the finite cells, correctly rounded and therefore independent of their order.
        positive_fraction: the share of cells above zero, in 0..1.
        peak: (row, column) of the maximum, the first in row-major order.
        bias: the head's bias for the target; None where the head is not linear.
        residual: `total + bias - logit`, which is float16 rounding only; None where the head is not linear.
        degenerate: why this grid explains nothing, or None. "non-finite": a cell is NaN or infinite; "all-zero":
            every cell is 0; "constant": all cells are equal; "nothing-positive": no cell argues for the target.
    """

    method: str
    layer: str
    target: str
    shape: tuple[int, int]
    sha256: str
    minimum: float
    maximum: float
    total: float
    positive_fraction: float
    peak: tuple[int, int]
    bias: float | None
    residual: float | None
    degenerate: Degeneracy | None

    def to_record(self) -> dict[str, object]:
        """The summary as a record holds it: floats as the shortest decimal strings that give them back exactly."""
        return {
            "method": self.method,
            "layer": self.layer,
            "target": self.target,
            "shape": list(self.shape),
            "sha256": self.sha256,
            "min": repr(self.minimum),
            "max": repr(self.maximum),
            "sum": repr(self.total),
            "positive_fraction": repr(self.positive_fraction),
            "peak": list(self.peak),
            "bias": None if self.bias is None else repr(self.bias),
            "residual": None if self.residual is None else repr(self.residual),
            "degenerate": self.degenerate,
        }

    def verify(self, stored: bytes) -> None:
        """Check that `stored` is the grid this summary was made of, and that its numbers are the grid's.

        Raises:
            VerificationError: another grid, or a number that does not follow from it.
        """
        digest = hashlib.sha256(stored).hexdigest()
        if digest != self.sha256:
            raise VerificationError(f"the stored grid has digest {digest}, the record says {self.sha256}")
        logit = None
        if self.bias is not None and self.residual is not None:
            logit = self.total + self.bias - self.residual
        again = summarise(
            stored,
            self.shape,
            layer=self.layer,
            target=self.target,
            bias=self.bias,
            logit=logit,
            method=self.method,
        )
        for name in ("minimum", "maximum", "total", "positive_fraction", "peak", "degenerate"):
            if getattr(again, name) != getattr(self, name):
                raise VerificationError(
                    f"the grid's {name} is {getattr(again, name)}, the record says {getattr(self, name)}"
                )


def encode_grid(grid: npt.ArrayLike) -> bytes:
    """A grid (h, w) as it is stored: IEEE 754 half precision, little-endian, row-major, signed; 2 h w bytes.

    A value beyond 65504 becomes infinite, and the summary says so.
    """
    array = np.asarray(grid)
    if array.ndim != 2 or array.size == 0:
        raise ModelError(f"a grid has two dimensions and at least one cell, not shape {array.shape}")
    with np.errstate(over="ignore"):
        return array.astype(_STORED, order="C").tobytes()


def decode_grid(stored: bytes, shape: tuple[int, int]) -> npt.NDArray[np.float32]:
    """The inverse: `encode_grid(decode_grid(b, shape)) == b`, for every b without a NaN. Returns float32 (h, w).

    Raises:
        VerificationError: `stored` is not 2 h w bytes.
    """
    if min(shape) < 1 or len(stored) != 2 * shape[0] * shape[1]:
        raise VerificationError(f"a stored grid of shape {shape} has not {len(stored)} bytes")
    return np.frombuffer(stored, dtype=_STORED).reshape(shape).astype(np.float32)


def summarise(
    stored: bytes,
    shape: tuple[int, int],
    *,
    layer: str,
    target: str,
    bias: float | None = None,
    logit: float | None = None,
    method: str = METHOD,
) -> ExplanationSummary:
    """The summary of stored grid bytes.

    Args:
        bias, logit: of the target; given together, for linear heads only.
        method: what made the grid; an anomaly map has a name of its own.

    Raises:
        VerificationError: `stored` has not the size that `shape` says.
    """
    grid = decode_grid(stored, shape).astype(np.float64)
    finite = np.isfinite(grid)
    values = grid[finite]
    total = math.fsum(values)
    row, column = divmod(int(np.argmax(np.where(finite, grid, -np.inf))), shape[1])
    degenerate: Degeneracy | None = None
    if not finite.all():
        degenerate = "non-finite"
    elif not grid.any():
        degenerate = "all-zero"
    elif grid.min() == grid.max():
        degenerate = "constant"
    elif grid.max() <= 0:
        degenerate = "nothing-positive"
    return ExplanationSummary(
        method=method,
        layer=layer,
        target=target,
        shape=(int(shape[0]), int(shape[1])),
        sha256=hashlib.sha256(stored).hexdigest(),
        minimum=float(values.min()) if values.size else 0.0,
        maximum=float(values.max()) if values.size else 0.0,
        total=total,
        positive_fraction=float(np.count_nonzero(values > 0) / grid.size),
        peak=(row, column),
        bias=bias,
        residual=None if bias is None or logit is None else total + bias - logit,
        degenerate=degenerate,
    )
