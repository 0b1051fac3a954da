"""`plate-b`: a face-milled steel bracket with a pocket, a slot, four cap screws, two dowel pins, two inserts."""

import math
from typing import Final

import numpy as np

from traceai.data.synth.camera import Field, View
from traceai.data.synth.shading import Facets
from traceai.data.synth.shapes import RoundedBox, outward
from traceai.data.synth.texture import ToolMarks, broad_sample, clouds
from traceai.data.synth.workpiece import (
    BRASS,
    PIN_STEEL,
    SCREW_TINTS,
    THROUGH,
    Fitting,
    Hole,
    Lights,
    Recess,
    Workpiece,
    hole_clearance,
)

PRODUCT: Final = "plate-b"

HALF_U, HALF_V, CORNER, EDGE = 38.0, 30.0, 5.0, 0.9


def make(rng: np.random.Generator, pixel: float) -> Workpiece:
    """One plate with its own finish, tolerances and hardware; `pixel` is the supersampled pixel, mm."""
    cutter = rng.uniform(36, 52)
    middle = rng.normal(0, 4.0)
    feed = 1.0 if rng.random() < 0.5 else -1.0
    marks = ToolMarks(
        rng, start=-110, stop=110, pitch=rng.uniform(0.8, 1.6), depth=rng.uniform(0.030, 0.065), pixel=pixel
    )
    back = ToolMarks(rng, start=-110, stop=110, pitch=rng.uniform(0.8, 1.6), depth=rng.uniform(0.0, 0.035), pixel=pixel)
    rough_across, rough_along = rng.uniform(0.17, 0.26), rng.uniform(0.045, 0.08)
    gloss = rng.uniform(0.85, 1.1)
    origin = (int(rng.integers(512)), int(rng.integers(512)))
    outline = RoundedBox(0, 0, HALF_U + rng.normal(0, 0.05), HALF_V + rng.normal(0, 0.05), CORNER)

    def face(view: View, lights: Lights) -> Facets:
        u, v = view.u, view.v
        aside = np.clip((v - middle) * (1 / cutter), -0.97, 0.97)
        ahead = np.sqrt(1 - aside * aside)
        front = marks.index(feed * u - cutter * ahead)
        rear = back.index(feed * u + cutter * ahead)
        mist = broad_sample(clouds(), u, v, 0.5, origin)
        out_u, out_v = feed * ahead, aside
        slope = marks.slope[front] * (1 + 0.15 * mist)
        trail = back.slope[rear]
        slope_u = slope * out_u + trail * out_u
        slope_v = slope * out_v - trail * out_v
        facets = Facets(
            slope_u,
            slope_v,
            -out_v,
            out_u,
            np.full_like(u, rough_along),
            rough_across * (1 + 0.05 * mist),
            gloss * marks.gloss[front] * back.gloss[rear] * (1 + 0.03 * mist),
            np.full_like(u, 0.05),
            np.ones_like(u),
        )
        _break_edge(facets, view, outline)
        return facets

    screw_tint = SCREW_TINTS[int(rng.integers(len(SCREW_TINTS)))]

    def near(u: float, v: float) -> tuple[float, float]:
        return u + rng.normal(0, 0.07), v + rng.normal(0, 0.07)

    holes = []
    for u, v in ((-30.3, -22.3), (30.3, -22.3), (30.3, 22.3), (-30.3, 22.3)):
        screw = Fitting("screw", 3.45, rng.uniform(0, math.pi), screw_tint, 0.8 + rng.normal(0, 0.08))
        holes.append(Hole(*near(u, v), 4.3, 4.8, 0.35, 2.0, screw))
    for u, v in ((-31.0, 0.0), (29.5, 0.0)):
        holes.append(Hole(*near(u, v), 2.5, 9.0, 0.3, 2.5, Fitting("pin", 2.45, 0.0, PIN_STEEL, -0.3)))
    for u, v in ((-7.5, 22.3), (-7.5, -22.3)):
        insert = Fitting("insert", 3.0, rng.uniform(0, math.pi), BRASS, 0.05)
        holes.append(Hole(*near(u, v), 3.05, 8.0, 0.25, 1.6, insert))
    fixed = tuple(holes)
    recesses = (
        Recess(RoundedBox(*near(-8.0, 0.0), 15.5, 13.5, 4.0), 3.4, 0.4),
        Recess(RoundedBox(*near(18.5, 0.0), 3.3, 12.5, 3.3), THROUGH, 0.5),
    )

    def free(u: Field, v: Field) -> Field:
        nearest: Field = np.minimum(hole_clearance(fixed, u, v), -EDGE - outline.distance(u, v))
        for recess in recesses:
            nearest = np.minimum(nearest, recess.shape.distance(u, v) - recess.chamfer)
        return nearest

    cool = rng.uniform(-0.01, 0.01)
    return Workpiece(
        product=PRODUCT,
        outline=outline,
        reach=math.hypot(HALF_U, HALF_V) - CORNER * (math.sqrt(2) - 1) + 0.2,
        chamfer=EDGE,
        thickness=12.0,
        tint=(0.955 - cool, 0.965, 0.975 + cool),
        holes=fixed,
        recesses=recesses,
        face=face,
        free=free,
        label_at=(12.0, 22.3, 0.0),
        code_at=(-19.0, -22.3, 0.0),
        label=("PLT-B S355", f"SN {int(rng.integers(1_000_000)):06d}"),
    )


def _break_edge(facets: Facets, view: View, outline: RoundedBox) -> None:
    """Tilt the facets of the outer chamfer outwards, in place."""
    distance = outline.distance(view.u, view.v)
    rim = np.nonzero(np.abs(distance + EDGE / 2) < EDGE / 2 + view.pixel)
    depth, out_u, out_v = outward(outline, view.u[rim], view.v[rim])
    tilt = 0.95 * np.clip((depth + EDGE) / view.pixel + 0.5, 0, 1)
    facets.slope_u[rim] += tilt * out_u
    facets.slope_v[rim] += tilt * out_v
    facets.along_u[rim], facets.along_v[rim] = -out_v, out_u
    facets.rough_across[rim], facets.rough_along[rim] = 0.2, 0.12
