"""One picture of one part, and the exact mask of its defect."""

import math
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from traceai.data.synth import backdrop, blemishes, defects, flange, plate
from traceai.data.synth.camera import Field, Pose, View
from traceai.data.synth.defects import DEFECTS
from traceai.data.synth.fittings import Bench, draw_hole, draw_recess
from traceai.data.synth.optics import photograph, shrink
from traceai.data.synth.scene import Scene
from traceai.data.synth.shading import radiance, station_lights
from traceai.data.synth.shapes import coverage
from traceai.data.synth.workpiece import Lights, Workpiece
from traceai.errors import InputError

_MAKERS: Final = {flange.PRODUCT: flange.make, plate.PRODUCT: plate.make}
PRODUCTS: Final[tuple[str, ...]] = tuple(_MAKERS)


@dataclass(frozen=True)
class Part:
    """A photographed part.

    Attributes:
        pixels: uint8 (size, size, 3), sRGB.
        mask: uint8 (size, size), 255 where the defect is and 0 elsewhere; all 0 on a good part.
        product: One of `PRODUCTS`.
        defect: One of `DEFECTS`; None for a good part.
        severity: 0 (needs a second look) to 1 (obvious); None for a good part.
    """

    pixels: npt.NDArray[np.uint8]
    mask: npt.NDArray[np.uint8]
    product: str
    defect: str | None
    severity: float | None


def draw_part(
    rng: np.random.Generator, *, product: str, defect: str | None, scene: Scene, severity: float | None = None
) -> Part:
    """Photograph one part.

    Every aspect has its own stream of random numbers, so the same generator state with `defect=None` gives the
    defect-free twin of a defective part: the same bytes except in and within a blur's reach of the mask.

    Args:
        rng: Decides everything that is individual about the part; advanced by the same amount for every picture.
        product: One of `PRODUCTS`.
        defect: One of `DEFECTS`, or None for a good part.
        scene: The camera station.
        severity: 0 to 1; drawn, seldom near either end, when None.

    Raises:
        InputError: Unknown product or defect, or a severity outside 0 to 1 or given for a good part.
    """
    if product not in _MAKERS:
        raise InputError(f"Unknown product {product!r}; choose one of {', '.join(PRODUCTS)}.")
    if defect is not None and defect not in DEFECTS:
        raise InputError(f"Unknown defect {defect!r}; choose one of {', '.join(DEFECTS)}, or None for a good part.")
    if severity is not None and defect is None:
        raise InputError("A good part has no severity; leave severity out or name a defect.")
    if severity is not None and not 0 <= severity <= 1:
        raise InputError(f"Severity must lie between 0 and 1, not {severity!r}.")

    making, placing, handling, harming, setting, noise = (
        np.random.default_rng(int(seed)) for seed in rng.integers(2**63, size=6)
    )
    view = View(scene, _pose(placing, product))
    work = _MAKERS[product](making, view.pixel)
    traces = blemishes.plan(work, handling)
    drawn = harming.beta(2.0, 1.5)
    planned = None
    if defect is not None:
        severity = drawn if severity is None else float(severity)
        planned = defects.plan(defect, severity, work, harming)

    lights = station_lights(view, scene.light_angle + placing.normal(0, 3.0))
    light, touched = _expose(work, view, lights, placing, traces=traces, planned=planned)
    pixels = photograph(light, scene, setting, noise)
    mask = np.where(shrink(touched) > 0.2, 255, 0).astype(np.uint8)
    return Part(pixels, mask, product, defect, severity)


def _pose(rng: np.random.Generator, product: str) -> Pose:
    """A flange lies at any angle; a plate is located by stops and may be loaded either way round."""
    turn = rng.uniform(-math.pi, math.pi)
    if product == plate.PRODUCT:
        turn = float(rng.choice((0.0, math.pi))) + rng.normal(0, math.radians(2.0))
    return Pose(turn, rng.normal(0, 0.7), rng.normal(0, 0.7))


def _expose(
    work: Workpiece,
    view: View,
    lights: Lights,
    rng: np.random.Generator,
    *,
    traces: blemishes.Blemishes,
    planned: defects.Defect | None,
) -> tuple[Field, Field]:
    """Linear RGB (3, n, n) and the defect's visible extent (n, n), 0..1, both supersampled."""
    picture = backdrop.draw(work, view, lights, rng)
    frame = view.window(0, 0, work.reach)
    near = view.cut(frame)
    rgb = picture[:, frame[0], frame[1]]
    bench = Bench(near, lights, work.tint, rng)
    touched = np.zeros(near.shape, dtype=np.float32)

    facets = work.face(near, lights)
    traces.engrave(facets, near)
    if planned is not None:
        planned.engrave(facets, near, touched)
    metal = bench.coloured(radiance(facets, near.u, near.v, near, lights), work.tint)
    if planned is not None:
        planned.stain(metal, near, touched)

    exposed = coverage(work.outline.distance(near.u, near.v), near.pixel)
    rgb += exposed * (metal - rgb)
    for recess in work.recesses:
        draw_recess(rgb, exposed, recess, bench)
    for index, hole in enumerate(work.holes):
        absent = planned is not None and planned.absent == index
        footprint = draw_hole(rgb, exposed, hole, bench, fitted=not absent)
        if absent and footprint is not None:
            touched = footprint
            exposed = np.maximum(exposed, footprint)
    traces.deposit(picture, view)
    extent = np.zeros(view.shape, dtype=np.float32)
    extent[frame] = touched * (exposed > 0.05)
    return picture, extent
