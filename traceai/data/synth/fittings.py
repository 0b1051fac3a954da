"""Holes, pockets and the components fitted in them, drawn window by window over the shaded top face."""

import math
from dataclasses import dataclass

import numpy as np

from traceai.data.synth.camera import Field, View
from traceai.data.synth.shading import Facets, bar_direction, blend, radiance
from traceai.data.synth.shapes import Hexagon, coverage, hypot, outward, smoothstep
from traceai.data.synth.texture import ToolMarks
from traceai.data.synth.workpiece import THROUGH, Fitting, Hole, Lights, Recess, Tint

_LANE, _END_MILL = 4.6, 3.4  # mm: step-over and cutter radius of the pocket floor
_ROUND_PITCH = 0.55  # mm between the turning marks on screw heads and counterbore floors


class Bench:
    """What every window needs: the view, the lights, the bare metal and one set of fine turning marks."""

    def __init__(self, view: View, lights: Lights, tint: Tint, rng: np.random.Generator) -> None:
        self.view = view
        self.lights = lights
        self.tint = tint
        self.toward = bar_direction(lights)
        self.marks = ToolMarks(rng, start=0, stop=64, pitch=_ROUND_PITCH, depth=0.08, pixel=view.pixel)

    def facing(self, out_u: Field, out_v: Field) -> Field:
        """Cosine between horizontal directions and the bar light."""
        norm = math.hypot(*self.toward)
        return (out_u * self.toward[0] + out_v * self.toward[1]) / norm

    def turned(
        self, du: Field, dv: Field, at: tuple[float, float], *, slope: Field, tint: Tint, gloss: float = 1.0
    ) -> Field:
        """RGB of a turned surface about a centre; `slope` tilts it outwards, on top of fine turning marks."""
        radius = np.maximum(hypot(du, dv), 0.05)
        out_u, out_v = du / radius, dv / radius
        place = self.marks.index(radius)
        tilt = slope + self.marks.slope[place]
        facets = Facets(
            tilt * out_u,
            tilt * out_v,
            -out_v,
            out_u,
            np.full_like(du, 0.07),
            np.full_like(du, 0.22),
            gloss * self.marks.gloss[place],
            np.full_like(du, 0.05),
            np.ones_like(du),
        )
        return self.coloured(radiance(facets, du + at[0], dv + at[1], self.view, self.lights), tint)

    def coloured(self, light: Field, tint: Tint) -> Field:
        return light[None] * np.asarray(tint, dtype=np.float32)[:, None, None]


def draw_recess(rgb: Field, exposed: Field, recess: Recess, bench: Bench) -> None:
    """Sink a pocket or slot, in place; `exposed` loses what it takes of the top face."""
    view, shape = bench.view, recess.shape
    window = view.box(shape.u, shape.v, shape.half_u + recess.chamfer, shape.half_v + recess.chamfer)
    u, v = view.u[window], view.v[window]
    if not u.size:
        return
    top, out_u, out_v = outward(shape, u, v)
    exposed[window] *= 1 - coverage(top - recess.chamfer, view.pixel)

    facets = Facets.flat(u, rough_along=0.10, rough_across=0.2, gloss=0.9, matte=0.05)
    facets.slope_u, facets.slope_v = -0.9 * out_u, -0.9 * out_v
    facets.along_u, facets.along_v = -out_v, out_u
    edge = bench.coloured(radiance(facets, u, v, view, bench.lights), bench.tint)
    blend(rgb, window, coverage(top - recess.chamfer, view.pixel), edge)

    depth = min(recess.depth, 12.0)
    lean_u, lean_v = (u - view.eye[0]) / view.eye[2], (v - view.eye[1]) / view.eye[2]
    floor_u, floor_v = u + depth * lean_u, v + depth * lean_v
    floor, in_u, in_v = outward(shape, floor_u, floor_v)
    down = np.clip(-top / np.maximum(floor - top, 1e-3), 0, 1)
    lit = np.maximum(bench.facing(-in_u, -in_v), 0)
    wall = bench.coloured((0.03 + 0.30 * lit) * (1 - 0.75 * down), bench.tint)
    if recess.depth >= THROUGH:
        ground = np.full_like(rgb[:, window[0], window[1]], 0.006)
    else:
        ground = _milled_floor(recess, bench, wall=(floor, in_u, in_v), u=floor_u, v=floor_v)
    inside = wall + coverage(floor, view.pixel) * (ground - wall)
    blend(rgb, window, coverage(top, view.pixel), inside)


def _milled_floor(recess: Recess, bench: Bench, *, wall: tuple[Field, Field, Field], u: Field, v: Field) -> Field:
    """A pocket floor milled to and fro in lanes, with the arcs of the end mill, and a fillet and shade at its foot."""
    distance, in_u, in_v = wall
    inward = np.maximum(-distance, 0)
    lane = (v - recess.shape.v) * (1 / _LANE)
    number = np.rint(lane)
    aside = (lane - number) * (_LANE / _END_MILL)
    ahead = np.sqrt(1 - np.minimum(aside * aside, 0.9))
    sense = 1 - 2 * np.abs(number % 2)
    place = bench.marks.index(np.abs((sense * u - _END_MILL * ahead + 17.3 * number) % 60.0))
    foot = 0.5 * np.exp(-((inward / 0.5) ** 2))
    seam = 0.07 * aside * np.abs(aside)
    tilt = 0.55 * bench.marks.slope[place]
    out_u, out_v = sense * ahead, aside
    facets = Facets(
        tilt * out_u - foot * in_u,
        tilt * out_v - foot * in_v + seam,
        -out_v,
        out_u,
        np.full_like(u, 0.09),
        np.full_like(u, 0.22),
        0.9 * bench.marks.gloss[place],
        np.full_like(u, 0.05),
        1 - 0.5 * np.exp(inward * (-1 / 1.4)),
    )
    over_u, over_v = u + recess.depth * bench.toward[0], v + recess.depth * bench.toward[1]
    shadow = 0.42 + 0.58 * (1 - smoothstep(-0.7, 0.5, recess.shape.distance(over_u, over_v)))
    return bench.coloured(radiance(facets, u, v, bench.view, bench.lights) * shadow, bench.tint)


@dataclass(frozen=True)
class _Sight:
    """A hole in its window: offsets `du`, `dv` (h, w) from its axis at the top face, and how rays lean there."""

    du: Field
    dv: Field
    lean: tuple[float, float]
    hole: Hole
    bench: Bench

    def at(self, depth: float) -> tuple[Field, Field, Field]:
        """Offsets, and distance, from the axis where the rays have descended `depth` mm."""
        du, dv = self.du + depth * self.lean[0], self.dv + depth * self.lean[1]
        return du, dv, hypot(du, dv)

    def strike(self, top: float, radius: float) -> tuple[Field, Field, Field]:
        """How deep under `top` each ray inside a hole meets its wall, mm, and the unit radius there."""
        du, dv, distance = self.at(top)
        square = max(self.lean[0] ** 2 + self.lean[1] ** 2, 1e-6)
        along = du * self.lean[0] + dv * self.lean[1]
        room = np.maximum(radius**2 - distance * distance, 0)
        down = (np.sqrt(along * along + square * room) - along) * (1 / square)
        wall_u, wall_v = du + down * self.lean[0], dv + down * self.lean[1]
        reach = np.maximum(hypot(wall_u, wall_v), 0.05)
        return down, wall_u / reach, wall_v / reach

    def turned(self, depth: float, *, slope: Field, tint: Tint, gloss: float = 1.0) -> Field:
        """RGB of a turned surface `depth` mm down."""
        du, dv, _ = self.at(depth)
        return self.bench.turned(du, dv, (self.hole.u, self.hole.v), slope=slope, tint=tint, gloss=gloss)

    def lit(self, depth: float, radius: float) -> Field:
        """1 where the bar light reaches `depth` mm down a hole of `radius`, 0 where its wall is in the way."""
        du, dv, _ = self.at(depth)
        over = hypot(du + depth * self.bench.toward[0], dv + depth * self.bench.toward[1])
        return 1 - smoothstep(-0.6, 0.6, over - radius)


def draw_hole(rgb: Field, exposed: Field, hole: Hole, bench: Bench, *, fitted: bool) -> Field | None:
    """Bore a hole and fit its component unless `fitted` is False, in place.

    Returns:
        Coverage of the hole and its chamfer, as `exposed`: the footprint of what is missing. None outside the picture.
    """
    view = bench.view
    window = view.window(hole.u, hole.v, hole.radius + hole.chamfer + 1)
    du, dv = view.u[window] - hole.u, view.v[window] - hole.v
    if not du.size:
        return None
    sight = _Sight(du, dv, view.lean(hole.u, hole.v), hole, bench)
    radius = hypot(du, dv)
    mouth = coverage(radius - hole.radius - hole.chamfer, view.pixel)
    exposed[window] *= 1 - mouth
    if hole.chamfer:
        blend(rgb, window, mouth, sight.turned(0, slope=np.full_like(du, -0.85), tint=bench.tint))
    fitting = hole.fitting if fitted else None
    if fitting is not None:
        inside = 0.35 * _bore_wall(sight)
    elif hole.thread < hole.radius and not _is_insert(hole):
        inside = _counterbore(sight)
    else:
        inside = _deep_hole(sight, 0, hole.radius, bench.tint, threaded=hole.fitting is None or _is_insert(hole))
    if fitting is not None and fitting.kind == "screw":
        inside = _screw(inside, sight, fitting)
    elif fitting is not None and fitting.kind == "insert":
        inside = _insert(inside, sight, fitting)
    blend(rgb, window, coverage(radius - hole.radius, view.pixel), inside)
    if fitting is not None and fitting.kind == "pin":
        _, _, distance = sight.at(fitting.sunk)
        blend(rgb, window, coverage(distance - fitting.radius, view.pixel), _pin(sight, fitting))
    footprint = np.zeros_like(exposed)
    footprint[window] = mouth
    return footprint


def _is_insert(hole: Hole) -> bool:
    return hole.fitting is not None and hole.fitting.kind == "insert"


def _counterbore(sight: _Sight) -> Field:
    """Wall and turned floor of a counterbore, with the tapped hole in its middle."""
    hole, bench = sight.hole, sight.bench
    _, _, radius = sight.at(hole.depth)
    gap = np.maximum(hole.radius - radius, 0)
    sky = (1 - 0.55 * np.exp(gap * (-1 / 0.8))) * (0.30 + 0.70 * sight.lit(hole.depth, hole.radius)) * 0.75
    bevel = -0.7 * coverage(np.abs(radius - hole.thread - 0.15) - 0.15, bench.view.pixel)
    floor = sight.turned(hole.depth, slope=bevel, tint=bench.tint) * sky
    tapped = _deep_hole(sight, hole.depth, hole.thread, bench.tint, threaded=True)
    floor += coverage(radius - hole.thread, bench.view.pixel) * (tapped - floor)
    wall = _bore_wall(sight)
    result: Field = wall + coverage(radius - hole.radius, bench.view.pixel) * (floor - wall)
    return result


def _bore_wall(sight: _Sight) -> Field:
    """The wall of the hole where the view rays meet it."""
    hole, bench = sight.hole, sight.bench
    down, wall_u, wall_v = sight.strike(0, hole.radius)
    down = np.minimum(down * (1 / hole.depth), 1)
    lit = np.maximum(bench.facing(-wall_u, -wall_v), 0)
    return bench.coloured((0.025 + 0.34 * lit * lit) * (1 - 0.7 * down), bench.tint)


def _deep_hole(sight: _Sight, top: float, radius: float, tint: Tint, *, threaded: bool) -> Field:
    """A deep hole from `top` mm down: a lit crescent of wall, thread flanks if it is tapped, then darkness."""
    bench = sight.bench
    du, dv, distance = sight.at(top)
    down, wall_u, wall_v = sight.strike(top, radius)
    lit = np.maximum(bench.facing(-wall_u, -wall_v), 0)
    light = 0.004 + (0.03 + 0.36 * lit) * np.exp(down * (-1 / (1.1 * radius)))
    if threaded:
        turn = np.arctan2(dv, du) * (1 / (2 * math.pi))
        light *= 0.55 + 0.45 * np.cos(2 * math.pi * (down * (1 / 0.7) + turn))
        flank = smoothstep(0.72 * radius, 0.80 * radius, distance)
        grooves = 0.5 + 0.5 * np.cos(2 * math.pi * ((distance - 0.72 * radius) * (2.0 / (0.28 * radius)) + turn))
        light = light * (1 - flank) + flank * (0.03 + (0.05 + 0.28 * lit) * grooves)
    return bench.coloured(light, tint)


def _screw(below: Field, sight: _Sight, fitting: Fitting) -> Field:
    """A hexagon socket cap screw (ISO 4762) seated in its counterbore."""
    bench, pixel = sight.bench, sight.bench.view.pixel
    hu, hv, distance = sight.at(fitting.sunk)
    bevel = fitting.radius - 0.55
    slope = 0.85 * smoothstep(bevel - 0.15, bevel + 0.15, distance) + 0.012 * distance
    socket = Hexagon(0.50 * fitting.radius, fitting.turn)
    edge, out_u, out_v = outward(socket, hu, hv)
    slope -= 0.5 * coverage(np.abs(edge - 0.12) - 0.12, pixel)
    head = sight.turned(fitting.sunk, slope=slope, tint=fitting.tint, gloss=0.95)
    head *= 0.55 + 0.45 * sight.lit(fitting.sunk, sight.hole.radius)
    depth = 2.4
    floor = socket.distance(hu + depth * sight.lean[0], hv + depth * sight.lean[1])
    down = np.clip(-edge / np.maximum(floor - edge, 1e-3), 0, 1)
    sides = (0.02 + 0.30 * np.maximum(bench.facing(-out_u, -out_v), 0)) * (1 - 0.6 * down)
    hidden = socket.distance(hu + depth * bench.toward[0], hv + depth * bench.toward[1])
    ground = 0.02 + 0.10 * (1 - smoothstep(-0.4, 0.4, hidden))
    deep = bench.coloured(sides + coverage(floor, pixel) * (ground - sides), fitting.tint)
    head += coverage(edge, pixel) * (deep - head)
    result: Field = below + coverage(distance - fitting.radius, pixel) * (head - below)
    return result


def _pin(sight: _Sight, fitting: Fitting) -> Field:
    """The ground, slightly domed and bevelled end of a dowel pin (ISO 8734), standing proud of the face."""
    _, _, distance = sight.at(fitting.sunk)
    bevel = fitting.radius - 0.42
    slope = 0.8 * smoothstep(bevel - 0.1, bevel + 0.1, distance) + 0.05 * distance
    return sight.turned(fitting.sunk, slope=slope, tint=fitting.tint, gloss=1.25)


def _insert(below: Field, sight: _Sight, fitting: Fitting) -> Field:
    """A slotted brass threaded insert (DIN 7965), flush with the face."""
    pixel, thread = sight.bench.view.pixel, sight.hole.thread
    du, dv, distance = sight.at(0)
    bevel = -0.7 * coverage(np.abs(distance - thread - 0.15) - 0.15, pixel)
    ring = sight.turned(0, slope=bevel, tint=fitting.tint)
    across = np.abs(dv * math.cos(fitting.turn) - du * math.sin(fitting.turn))
    ring *= 1 - 0.75 * coverage(across - 0.28, pixel)
    ring += coverage(distance - thread, pixel) * (_deep_hole(sight, 0, thread, fitting.tint, threaded=True) - ring)
    result: Field = below + coverage(distance - fitting.radius, pixel) * (ring - below)
    return result
