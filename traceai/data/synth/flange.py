"""`flange-a`: a turned bearing cover with a cast recess, six cap screws and two dowel pins."""

import math
from typing import Final

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from traceai.data.synth.camera import Field, View
from traceai.data.synth.shading import Facets, bar_direction
from traceai.data.synth.shapes import Disc, hypot
from traceai.data.synth.texture import ToolMarks, broad_sample, clouds, grain, sample
from traceai.data.synth.workpiece import (
    PIN_STEEL,
    SCREW_TINTS,
    THROUGH,
    Fitting,
    Hole,
    Lights,
    Workpiece,
    hole_clearance,
    on_circle,
)

PRODUCT: Final = "flange-a"

OUTER, RIM = 38.0, 1.1
BORE, HUB = 8.6, 16.0
RECESS_IN, RECESS_OUT, RECESS_DEPTH = 17.2, 22.8, 2.6
BOLT_CIRCLE = 30.4
_STEP = 0.02
_COUNT = int(48 / _STEP)


def _profile(rng: np.random.Generator) -> tuple[Field, Field]:
    """Height in mm and castness 0..1 against the radius, every `_STEP` mm."""
    wall = 0.9
    seal = 24.6 + rng.uniform(-0.15, 0.15)
    knots = [
        (0.0, -1.2), (BORE, -1.2), (BORE + 1.0, 0.0), (HUB - 0.5, 0.0), (HUB, -0.45), (RECESS_IN - 0.2, -0.6),
        (RECESS_IN - 0.2 + wall, -RECESS_DEPTH), (RECESS_OUT - wall, -RECESS_DEPTH), (RECESS_OUT, -0.25),
        (RECESS_OUT + 0.25, 0.0), (seal, 0.0), (seal + 0.35, -0.22), (seal + 0.55, -0.22), (seal + 0.9, 0.0),
        (OUTER - RIM, 0.0), (OUTER, -RIM), (48.0, -RIM),
    ]  # fmt: skip
    radius = np.arange(_COUNT) * _STEP
    height = np.interp(radius, [k[0] for k in knots], [k[1] for k in knots])
    cast = ((radius > RECESS_IN - 0.1) & (radius < RECESS_OUT - 0.1)).astype(float)
    smooth = 0.14 / _STEP
    return (
        ndimage.gaussian_filter1d(height, smooth).astype(np.float32),
        ndimage.gaussian_filter1d(cast, smooth).astype(np.float32),
    )


class _TurnedFace:
    """The face as the lathe left it: every property is a table over the radius, but for the casting's grain."""

    def __init__(self, rng: np.random.Generator, pixel: float) -> None:
        height, cast = _profile(rng)
        marks = ToolMarks(
            rng, start=0, stop=48, pitch=rng.uniform(0.55, 1.15), depth=rng.uniform(0.035, 0.085), pixel=pixel
        )
        rough_across = rng.uniform(0.16, 0.26)
        rough_along = rng.uniform(0.030, 0.060)
        gloss = rng.uniform(0.85, 1.12)
        self._centre = (rng.normal(0, 0.10), rng.normal(0, 0.10))
        self._origin = (int(rng.integers(512)), int(rng.integers(512)))
        self._grain = rng.uniform(0.14, 0.24)

        radius = np.arange(_COUNT, dtype=np.float32) * _STEP
        slope = -np.gradient(height, _STEP)
        turned = (1 - cast) * (0.25 + 0.75 * np.exp(-((slope / 0.12) ** 2)))
        deep = np.clip(-height / RECESS_DEPTH, 0, 1) * (radius > HUB) * (radius < RECESS_OUT + 0.5)
        wall_gap = np.minimum(np.abs(radius - RECESS_IN), np.abs(radius - RECESS_OUT))
        annulus = ((radius > RECESS_IN) & (radius < RECESS_OUT)).astype(np.float32)
        self._height, self._cast = height, cast
        self._slope: Field = (slope + marks.slope[marks.index(radius)] * turned).astype(np.float32)
        self._gloss: Field = (gloss * marks.gloss[marks.index(radius)] * (1 - 0.55 * cast)).astype(np.float32)
        self._along: Field = (rough_along + (0.42 - rough_along) * cast).astype(np.float32)
        self._across: Field = (rough_across + (0.42 - rough_across) * cast).astype(np.float32)
        self._matte: Field = (0.035 + 0.16 * cast).astype(np.float32)
        self._sky: Field = (1 - deep * (0.18 + 0.42 * np.exp(-wall_gap / 0.9))).astype(np.float32)
        self._sunk: Field = (deep * (radius > HUB + 0.5)).astype(np.float32)
        self._open: Field = ndimage.gaussian_filter1d(annulus, 0.35 / _STEP)

    def _place(self, u: Field, v: Field) -> tuple[Field, npt.NDArray[np.int32]]:
        radius = hypot(u - self._centre[0], v - self._centre[1])
        return radius, np.minimum((radius * (1 / _STEP)).astype(np.int32), _COUNT - 1)

    def __call__(self, view: View, lights: Lights) -> Facets:
        _, above = self._place(view.u, view.v)
        lean = self._height[above] * (1 / view.eye[2])
        u, v = view.u - lean * (view.u - view.eye[0]), view.v - lean * (view.v - view.eye[1])
        radius, place = self._place(u, v)
        inverse = 1 / np.maximum(radius, 0.5)
        out_u, out_v = u * inverse, v * inverse
        mist = broad_sample(clouds(), u, v, 0.45, self._origin)
        slope_u, slope_v = self._slope[place] * out_u, self._slope[place] * out_v
        casting = self._cast[place]
        rough = np.nonzero(casting > 0.01)
        bump = self._grain * casting[rough]
        slope_u[rough] += bump * sample(grain(), u[rough], v[rough], 0.14, self._origin)
        slope_v[rough] += bump * sample(grain(), u[rough], v[rough], 0.14, self._origin[::-1])
        return Facets(
            slope_u,
            slope_v,
            -out_v,
            out_u,
            self._along[place],
            self._across[place] * (1 + 0.06 * mist),
            self._gloss[place] * (1 + 0.035 * mist),
            self._matte[place],
            self._sky[place] * self._sunlit(u, v, place, bar_direction(lights)),
        )

    def _sunlit(self, u: Field, v: Field, place: npt.NDArray[np.int32], toward: tuple[float, float]) -> Field:
        """1 but where a wall of the recess keeps the bar light off its floor."""
        lit = np.ones_like(u)
        floor = np.nonzero(self._sunk[place] > 0)
        height = self._height[place[floor]]
        _, exit_place = self._place(u[floor] - height * toward[0], v[floor] - height * toward[1])
        lit[floor] = 1 - 0.55 * self._sunk[place[floor]] * (1 - self._open[exit_place])
        return lit


def make(rng: np.random.Generator, pixel: float) -> Workpiece:
    """One flange with its own finish, tolerances and hardware; `pixel` is the supersampled pixel, mm."""
    face = _TurnedFace(rng, pixel)
    fixed = _holes(rng)

    def free(u: Field, v: Field) -> Field:
        radius = hypot(u, v)
        land = np.maximum(
            np.minimum(radius - BORE - 1.0, HUB - 0.4 - radius),
            np.minimum(radius - 25.6, OUTER - RIM - radius),
        )
        clear: Field = np.minimum(land, hole_clearance(fixed, u, v))
        return clear

    warm = rng.uniform(-0.012, 0.012)
    label_u, label_v = on_circle(BOLT_CIRCLE, 150)
    code_u, code_v = on_circle(BOLT_CIRCLE + 0.3, 330)
    return Workpiece(
        product=PRODUCT,
        outline=Disc(0, 0, OUTER),
        reach=OUTER,
        chamfer=RIM,
        thickness=13.0,
        tint=(0.97 + warm, 0.955, 0.925 - warm),
        holes=fixed,
        recesses=(),
        face=face,
        free=free,
        label_at=(label_u, label_v, math.radians(60)),
        code_at=(code_u, code_v, math.radians(240)),
        label=("FLG-A C45", f"SN {int(rng.integers(1_000_000)):06d}"),
    )


def _holes(rng: np.random.Generator) -> tuple[Hole, ...]:
    """Bore, screws and pins, each within its tolerance."""
    screw_tint = SCREW_TINTS[int(rng.integers(len(SCREW_TINTS)))]
    holes = [Hole(0.0, 0.0, BORE, THROUGH, 0.0, BORE)]
    for k in range(6):
        u, v = on_circle(BOLT_CIRCLE, 60 * k + rng.normal(0, 0.15))
        screw = Fitting("screw", 3.25, rng.uniform(0, math.pi), screw_tint, 0.7 + rng.normal(0, 0.08))
        holes.append(Hole(u, v, 4.0, 4.4, 0.35, 1.9, screw))
    for degrees in (30, 210):
        u, v = on_circle(BOLT_CIRCLE, degrees + rng.normal(0, 0.15))
        pin = Fitting("pin", 2.45, 0.0, PIN_STEEL, -0.3)
        holes.append(Hole(u, v, 2.5, 9.0, 0.3, 2.5, pin))
    return tuple(holes)
