"""Pinhole camera over a part: pixels to millimetres on the part's top face, and back.

Two frames are used. The *station* frame (X right, Y up in the picture, Z towards the camera) has its origin where the
optical axis meets the plane of the top face. The *part* frame (u, v) is the station frame turned and shifted with the
part; everything is shaded in it. Pictures are rendered at `SUPERSAMPLING` times the final resolution.
"""

import copy
import math
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from traceai.data.synth.scene import Scene

Field = npt.NDArray[np.floating[Any]]  # float32 wherever a picture is concerned
Window = tuple[slice, slice]

SUPERSAMPLING: Final = 2
FIELD_OF_VIEW: Final = 86.0  # mm across the picture, at the optical axis
DISTANCE: Final = 430.0  # mm from the pinhole to the top face


@dataclass(frozen=True)
class Pose:
    """Where the part lies: `turn` in radians, `shift_x` and `shift_y` in mm, station frame."""

    turn: float
    shift_x: float
    shift_y: float


class View:
    """One part seen by one camera, or a rectangle cut out of that picture.

    Attributes:
        shape: Rows and columns, supersampled pixels.
        pixel: Size of a supersampled pixel on the top face, mm.
        x, y: Station coordinates where each pixel's ray meets the plane of the top face, mm, float32 `shape`.
        u, v: The same points in the part frame.
        eye: The pinhole in the part frame, mm; the top face is at height 0.
    """

    def __init__(self, scene: Scene, pose: Pose) -> None:
        count = scene.size * SUPERSAMPLING
        self.pixel = FIELD_OF_VIEW / count
        self.pose = pose
        self._tilt = math.radians(scene.camera_angle)
        self._cos, self._sin = math.cos(pose.turn), math.sin(pose.turn)
        sin_t, cos_t = math.sin(self._tilt), math.cos(self._tilt)
        ray = ((np.arange(count) + 0.5 - count / 2) * (self.pixel / DISTANCE)).astype(np.float32)
        up = -ray[:, None]
        reach = DISTANCE * cos_t / (cos_t - up * sin_t)
        self.x: Field = reach * ray[None, :]
        self.y: Field = np.repeat(reach * (sin_t + up * cos_t) - DISTANCE * sin_t, count, axis=1)
        self.u, self.v = self._to_part(self.x, self.y)
        eye_u, eye_v = self.turned(-pose.shift_x, -DISTANCE * sin_t - pose.shift_y)
        self.eye = (eye_u, eye_v, DISTANCE * cos_t)
        self._centre = (count / 2, count / 2)

    @property
    def shape(self) -> tuple[int, int]:
        return self.u.shape[0], self.u.shape[1]

    def cut(self, window: Window) -> "View":
        """The same view of a window of the picture; rows and columns count from its corner."""
        part = copy.copy(self)
        part.x, part.y, part.u, part.v = (values[window] for values in (self.x, self.y, self.u, self.v))
        part._centre = (self._centre[0] - window[0].start, self._centre[1] - window[1].start)
        return part

    def turned(self, x: float, y: float) -> tuple[float, float]:
        """A station-frame vector in the part frame."""
        return self._cos * x + self._sin * y, self._cos * y - self._sin * x

    def _to_part(self, x: Field, y: Field) -> tuple[Field, Field]:
        dx, dy = x - self.pose.shift_x, y - self.pose.shift_y
        return self._cos * dx + self._sin * dy, self._cos * dy - self._sin * dx

    def lean(self, u: float, v: float) -> tuple[float, float]:
        """How far (mm, part frame) the ray through (u, v) moves sideways per mm that it descends."""
        return (u - self.eye[0]) / self.eye[2], (v - self.eye[1]) / self.eye[2]

    def below(self, depth: float) -> tuple[Field, Field]:
        """Part coordinates where every ray meets the plane `depth` mm under the top face."""
        scale = 1 + depth / self.eye[2]
        shift_u, shift_v = self.eye[0] * depth / self.eye[2], self.eye[1] * depth / self.eye[2]
        return self.u * scale - shift_u, self.v * scale - shift_v

    def project(self, u: float, v: float) -> tuple[float, float]:
        """Column and row (supersampled pixels, centres at half-integers) of a point of the top face."""
        x = self._cos * u - self._sin * v + self.pose.shift_x
        y = self._sin * u + self._cos * v + self.pose.shift_y
        sin_t, cos_t = math.sin(self._tilt), math.cos(self._tilt)
        away_y, away_z = y + DISTANCE * sin_t, -DISTANCE * cos_t
        scale = DISTANCE / (self.pixel * (away_y * sin_t - away_z * cos_t))
        return self._centre[1] + scale * x, self._centre[0] - scale * (away_y * cos_t + away_z * sin_t)

    def window(self, u: float, v: float, radius: float) -> Window:
        """The slice of the picture that surely holds the disc of `radius` mm about (u, v); possibly empty."""
        column, row = self.project(u, v)
        reach = 1.12 * radius / self.pixel
        return self._clipped((row - reach, row + reach), (column - reach, column + reach))

    def box(self, u: float, v: float, half_u: float, half_v: float) -> Window:
        """The slice of the picture that holds a rectangle of the top face, given by its centre and half sides in mm."""
        corners = [self.project(u + a * half_u, v + b * half_v) for a in (-1, 1) for b in (-1, 1)]
        columns, rows = [column for column, _ in corners], [row for _, row in corners]
        return self._clipped((min(rows), max(rows)), (min(columns), max(columns)))

    def _clipped(self, rows: tuple[float, float], columns: tuple[float, float]) -> Window:
        def span(ends: tuple[float, float], count: int) -> slice:
            low = min(max(int(ends[0] - 2), 0), count)
            return slice(low, max(min(int(ends[1] + 3), count), low))

        return span(rows, self.shape[0]), span(columns, self.shape[1])
