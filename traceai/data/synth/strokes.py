"""Fine lines on the top face: a groove with lips, or an antialiased polyline."""

import math
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from PIL import Image, ImageDraw

from traceai.data.synth.camera import Field, View, Window
from traceai.data.synth.shading import Facets
from traceai.data.synth.shapes import smoothstep

_FINER = 4  # polylines are drawn this much finer than the supersampled picture


@dataclass(frozen=True)
class Groove:
    """A scratch: a bowed chord about (u, v).

    Lengths in mm, angles in radians; `bow` is the sagitta; `slope` the steepest slope of the flanks and `bare` how
    strongly the freshly cut metal outshines the worn face.
    """

    u: float
    v: float
    angle: float
    length: float
    bow: float
    width: float
    slope: float
    bare: float
    pressure: float

    def path(self, count: int) -> tuple[Field, Field]:
        """Points along the groove, part frame, mm."""
        along = np.linspace(-self.length / 2, self.length / 2, count, dtype=np.float32)
        aside = self._bend(along)
        cos, sin = math.cos(self.angle), math.sin(self.angle)
        return self.u + cos * along - sin * aside, self.v + sin * along + cos * aside

    def _bend(self, along: Field) -> Field:
        t = along * (2 / self.length)
        result: Field = self.bow * (1 - t * t) + 0.06 * self.bow * np.sin(7 * t + self.pressure)
        return result

    def cut(self, facets: Facets, view: View) -> tuple[Window, Field]:
        """Engrave into `facets`, in place.

        Returns:
            The window touched and how deep each of its pixels lies in the groove, 0..1; 0 is untouched.
        """
        window = view.window(self.u, self.v, self.length / 2 + abs(self.bow) + 1)
        du, dv = view.u[window] - self.u, view.v[window] - self.v
        cos, sin = math.cos(self.angle), math.sin(self.angle)
        along, aside = cos * du + sin * dv, cos * dv - sin * du
        t = np.clip(along * (2 / self.length), -1, 1)
        steep = -2 * self.bow * t * (2 / self.length)
        norm = 1 / np.sqrt(1 + steep * steep)
        offset = (aside - self._bend(t * (self.length / 2))) * norm
        taper = smoothstep(0, 0.25, 1 - np.abs(t)) * (0.78 + 0.22 * np.sin(5.1 * t + self.pressure))
        half = np.maximum(0.5 * self.width * (0.55 + 0.45 * taper), 0.42 * view.pixel)
        x = np.clip(offset / (2 * half), -1, 1)
        inside = np.where(np.abs(x) < 1, taper, 0).astype(np.float32)
        flank = -np.sin(math.pi * x) * inside
        core = np.cos(0.5 * math.pi * x) ** 2 * inside
        normal_u, normal_v = -(sin + steep * cos) * norm, (cos - steep * sin) * norm
        facets.slope_u[window] += self.slope * flank * normal_u
        facets.slope_v[window] += self.slope * flank * normal_v
        lip = np.exp(-(((x - 0.55) / 0.22) ** 2)) * inside
        facets.gloss[window] *= 1 + core * (0.5 * self.bare) - 0.30 * self.bare * lip
        facets.matte[window] += core * (0.42 * self.bare)
        facets.rough_along[window] += core * (0.10 * self.bare)
        return window, inside


def polyline(view: View, points: list[tuple[float, float, float]]) -> tuple[Window, Field]:
    """Coverage 0..1 of a line through (u, v, width) points, mm, over the window that holds it."""
    placed = [(*view.project(u, v), width / view.pixel) for u, v, width in points]
    margin = max(width for *_, width in placed) + 2
    left = max(int(min(x for x, _, _ in placed) - margin), 0)
    top = max(int(min(y for _, y, _ in placed) - margin), 0)
    right = min(int(max(x for x, _, _ in placed) + margin) + 1, view.shape[1])
    bottom = min(int(max(y for _, y, _ in placed) + margin) + 1, view.shape[0])
    if right <= left or bottom <= top:
        return (slice(0, 0), slice(0, 0)), np.zeros((0, 0), dtype=np.float32)
    size = (right - left, bottom - top)
    canvas = Image.new("L", (size[0] * _FINER, size[1] * _FINER))
    draw = ImageDraw.Draw(canvas)
    for (x0, y0, w0), (x1, y1, w1) in pairwise(placed):
        ends = [((x - left) * _FINER, (y - top) * _FINER) for x, y in ((x0, y0), (x1, y1))]
        width = max(round(0.5 * (w0 + w1) * _FINER), 1)
        draw.line(ends, fill=255, width=width)
        x, y = ends[1]
        draw.ellipse((x - width / 2, y - width / 2, x + width / 2, y + width / 2), fill=255)
    cover = np.asarray(canvas.resize(size, Image.Resampling.BOX), dtype=np.float32) / 255
    return (slice(top, bottom), slice(left, right)), cover
