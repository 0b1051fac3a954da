"""Harmless individuality: markings, handling traces, oil, dust and lint. Good parts are not sterile."""

import functools
import math
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from traceai.data.synth.camera import Field, View
from traceai.data.synth.defects import place_groove, site
from traceai.data.synth.shading import Facets
from traceai.data.synth.shapes import hypot, smoothstep
from traceai.data.synth.strokes import Groove, polyline
from traceai.data.synth.texture import TILE, clouds, smooth_sample
from traceai.data.synth.workpiece import Workpiece

_DOT = 8  # bitmap pixels per mm of a marking


@dataclass(frozen=True)
class Blemishes:
    """The harmless traces of one part, planned before drawing."""

    work: Workpiece
    code: Field
    hairlines: tuple[Groove, ...]
    oil: tuple[float, float, float, float, tuple[int, int]] | None
    fingerprint: tuple[float, float, float, float] | None
    paint: tuple[float, float, float, tuple[float, float, float]] | None
    dust: tuple[tuple[float, float, float, float], ...]
    lint: tuple[tuple[float, float, float], ...]

    def engrave(self, facets: Facets, view: View) -> None:
        """Marking, hairlines, oil and fingerprint, in place."""
        _mark(facets, view, _lettering(self.work.label), self.work.label_at)
        _mark(facets, view, self.code, self.work.code_at)
        for hairline in self.hairlines:
            hairline.cut(facets, view)
        if self.oil is not None:
            u, v, radius, strength, origin = self.oil
            window = view.window(u, v, 1.6 * radius)
            reach = hypot(view.u[window] - u, view.v[window] - v) / radius
            film = smooth_sample(clouds(), view.u[window], view.v[window], 0.25, origin)
            wet = strength * smoothstep(0, 0.8, 1 - reach + 0.35 * film) * (reach < 1.55)
            facets.gloss[window] *= 1 - 0.5 * wet
            facets.rough_across[window] *= 1 + 0.8 * wet
        if self.fingerprint is not None:
            _press(facets, view, self.fingerprint)

    def deposit(self, rgb: Field, view: View) -> None:
        """Paint dot, dust and lint, over metal and background alike, in place."""
        if self.paint is not None:
            u, v, radius, colour = self.paint
            window = view.window(u, v, radius + 1)
            du, dv = view.u[window] - u, view.v[window] - v
            wavy = radius * (1 + 0.09 * np.sin(3 * np.arctan2(dv, du) + u) + 0.05 * np.sin(7 * np.arctan2(dv, du) + v))
            cover = 0.88 * smoothstep(-0.2, 0.2, wavy - hypot(du, dv))
            patch = rgb[:, window[0], window[1]]
            shade = 0.55 + 0.9 * np.mean(patch, axis=0)
            for channel in range(3):
                patch[channel] += cover * (colour[channel] * shade - patch[channel])
        for u, v, radius, tone in self.dust:
            window = view.window(u, v, radius + 0.5)
            spot = hypot(view.u[window] - u, view.v[window] - v)
            cover = 0.8 * smoothstep(-0.12, 0.12, radius - spot)
            patch = rgb[:, window[0], window[1]]
            patch += cover * (tone - patch)
        if self.lint:
            window, cover = polyline(view, list(self.lint))
            patch = rgb[:, window[0], window[1]]
            patch += 0.55 * cover * (0.42 - patch)


def plan(work: Workpiece, rng: np.random.Generator) -> Blemishes:
    """Draw the harmless traces of one part."""

    def shift() -> tuple[float, float]:
        return rng.uniform(-40, 40), rng.uniform(-40, 40)

    hairlines = tuple(
        place_groove(
            work,
            rng,
            length=rng.uniform(3, 13),
            width=0.20,
            slope=rng.uniform(0.01, 0.04),
            bare=rng.uniform(0.02, 0.09),
        )
        for _ in range(int(rng.poisson(0.7)))
    )
    oil = fingerprint = paint = None
    if rng.random() < 0.30:
        u, v = site(work, rng, 1.0)
        oil = (u, v, rng.uniform(7, 16), rng.uniform(0.15, 0.40), (int(rng.integers(TILE)), int(rng.integers(TILE))))
    if rng.random() < 0.12:
        u, v = site(work, rng, 2.0)
        fingerprint = (u, v, rng.uniform(0, math.pi), rng.uniform(0.06, 0.15))
    if rng.random() < 0.10:
        u, v = site(work, rng, 2.2)
        colour = ((0.05, 0.28, 0.10), (0.62, 0.46, 0.03), (0.04, 0.13, 0.42))[int(rng.integers(3))]
        paint = (u, v, rng.uniform(1.2, 1.9), colour)
    dust = tuple(
        (*shift(), rng.uniform(0.08, 0.24), float(rng.choice((0.02, 0.35, 0.5)))) for _ in range(int(rng.poisson(3)))
    )
    lint: tuple[tuple[float, float, float], ...] = ()
    if rng.random() < 0.08:
        (u, v), heading, curl = shift(), rng.uniform(0, 2 * math.pi), rng.normal(0, 0.09)
        points = []
        for _ in range(int(rng.integers(12, 26))):
            points.append((u, v, 0.13))
            heading += curl + rng.normal(0, 0.12)
            u, v = u + 0.5 * math.cos(heading), v + 0.5 * math.sin(heading)
        lint = tuple(points)
    return Blemishes(work, _square_code(rng), hairlines, oil, fingerprint, paint, dust, lint)


def _mark(facets: Facets, view: View, bitmap: Field, at: tuple[float, float, float]) -> None:
    """Laser marking: an annealed, matte, slightly darker trace that hides the tool marks, in place."""
    u, v, turn = at
    height, width = bitmap.shape[0] / _DOT, bitmap.shape[1] / _DOT
    window = view.window(u, v, 0.5 * math.hypot(height, width) + 0.5)
    du, dv = view.u[window] - u, view.v[window] - v
    cos, sin = math.cos(turn), math.sin(turn)
    column = ((cos * du + sin * dv + width / 2) * _DOT).astype(np.int32)
    row = ((height / 2 - (cos * dv - sin * du)) * _DOT).astype(np.int32)
    inside = (column >= 0) & (column < bitmap.shape[1]) & (row >= 0) & (row < bitmap.shape[0])
    ink = bitmap[np.clip(row, 0, bitmap.shape[0] - 1), np.clip(column, 0, bitmap.shape[1] - 1)] * inside
    facets.gloss[window] *= 1 - 0.62 * ink
    facets.rough_along[window] += 0.06 * ink
    facets.slope_u[window] *= 1 - 0.7 * ink
    facets.slope_v[window] *= 1 - 0.7 * ink


@functools.cache
def _font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(size)


def _lettering(lines: tuple[str, str]) -> Field:
    """Two lines of text, 2.5 mm letters, 0..1, `_DOT` pixels per mm."""
    canvas = Image.new("L", (17 * _DOT, 7 * _DOT))
    draw = ImageDraw.Draw(canvas)
    for line, text in enumerate(lines):
        draw.text(
            (canvas.width / 2, (1.8 + 3.4 * line) * _DOT), text, fill=255, font=_font(int(3.3 * _DOT)), anchor="mm"
        )
    return np.asarray(canvas, dtype=np.float32) / 255


def _square_code(rng: np.random.Generator) -> Field:
    """A 12 x 12 matrix code in the manner of ECC 200: solid L, alternating clock track, random content; 5.4 mm."""
    cells = rng.random((12, 12)) < 0.5
    cells[:, 0] = cells[-1, :] = True
    cells[0, :] = np.arange(12) % 2 == 0
    cells[:, -1] = np.arange(12) % 2 == 1
    size = round(5.4 * _DOT)
    image = Image.fromarray((cells * 255).astype(np.uint8)).resize((size, size), Image.Resampling.BOX)
    return np.asarray(image, dtype=np.float32) / 255


def _press(facets: Facets, view: View, fingerprint: tuple[float, float, float, float]) -> None:
    """Skin grease in ridges of 0.5 mm, a whorl about a point below the middle, in place."""
    u, v, turn, strength = fingerprint
    window = view.window(u, v, 8)
    du, dv = view.u[window] - u, view.v[window] - v
    cos, sin = math.cos(turn), math.sin(turn)
    a, b = cos * du + sin * dv, cos * dv - sin * du
    print_area = 1 - smoothstep(0.6, 1.0, hypot(a / 4.6, b / 6.4))
    ridges = 0.5 + 0.5 * np.sin(2 * math.pi / 0.85 * hypot(a, 0.8 * (b + 1.5)) + 0.5 * np.sin(1.1 * b))
    facets.gloss[window] *= 1 - strength * print_area * (0.5 + ridges)
