"""The five kinds of defect, each planned on a workpiece before drawing and each knowing exactly what it touched.

A defect enters the picture where it would in the world: grooves and dents tilt the facets before light falls on them,
cracks and discoloration change what the shaded metal sends back, a missing component is a hole drawn without it.
Severity runs from 0 (a careful inspector needs a second look) to 1 (obvious across the room).
"""

import math
from dataclasses import dataclass
from typing import Final, Protocol

import numpy as np

from traceai.data.synth.camera import Field, View
from traceai.data.synth.shading import Facets
from traceai.data.synth.shapes import hypot, smoothstep
from traceai.data.synth.strokes import Groove, polyline
from traceai.data.synth.texture import TILE, clouds, grain, sample, smooth_sample
from traceai.data.synth.workpiece import Workpiece

DEFECTS: Final = ("scratch", "dent", "crack", "missing_component", "discoloration")


class Defect(Protocol):
    """A planned defect; each hook works in place and marks in `touched` (count, count), 0..1, what it changed."""

    @property
    def absent(self) -> int | None:
        """Index of the hole whose component is missing."""
        ...

    def engrave(self, facets: Facets, view: View, touched: Field) -> None: ...

    def stain(self, rgb: Field, view: View, touched: Field) -> None: ...


class _Plain:
    """A defect that leaves every hook alone."""

    absent: int | None = None

    def engrave(self, facets: Facets, view: View, touched: Field) -> None:
        return

    def stain(self, rgb: Field, view: View, touched: Field) -> None:
        return


def plan(kind: str, severity: float, work: Workpiece, rng: np.random.Generator) -> Defect:
    """A defect of one of `DEFECTS`, placed where it can be seen; `severity` in 0..1."""
    return _PLANNERS[kind](severity, work, rng)


def _between(low: float, high: float, severity: float, rng: np.random.Generator, spread: float = 0.12) -> float:
    """From `low` at severity 0 to `high` at 1, with a relative individual spread."""
    return (low + (high - low) * severity) * math.exp(rng.normal(0, spread))


def site(work: Workpiece, rng: np.random.Generator, room: float) -> tuple[float, float]:
    """A point of the machined face at least `room` mm from every feature, or the roomiest found."""
    u = rng.uniform(-38, 38, 160).astype(np.float32)
    v = rng.uniform(-38, 38, 160).astype(np.float32)
    clear = np.minimum(work.free(u, v), -work.outline.distance(u, v))
    enough = np.nonzero(clear >= room)[0]
    best = int(enough[0]) if len(enough) else int(np.argmax(clear))
    return float(u[best]), float(v[best])


# --- scratch ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Scratch(_Plain):
    groove: Groove

    def engrave(self, facets: Facets, view: View, touched: Field) -> None:
        window, inside = self.groove.cut(facets, view)
        touched[window] = np.maximum(touched[window], np.where(inside > 0.02, 1, 0))


def place_groove(
    work: Workpiece, rng: np.random.Generator, *, length: float, width: float, slope: float, bare: float
) -> Groove:
    """A groove most of whose length crosses free machined metal: the best of a few tries."""
    tried: list[tuple[float, Groove]] = []
    for _ in range(24):
        u, v = site(work, rng, 1.0)
        groove = Groove(
            u, v, rng.uniform(0, math.pi), length, length * rng.normal(0, 0.07), width, slope, bare, rng.uniform(0, 6.3)
        )
        visible = float(np.mean(work.free(*groove.path(25)) > 0.3))
        tried.append((visible, groove))
        if visible >= 0.96:
            break
    return max(tried, key=lambda attempt: attempt[0])[1]


def _scratch(severity: float, work: Workpiece, rng: np.random.Generator) -> Defect:
    return _Scratch(
        place_groove(
            work,
            rng,
            length=_between(11.0, 34.0, severity, rng, 0.2),
            width=_between(0.45, 1.00, severity, rng),
            slope=_between(0.25, 0.70, severity, rng),
            bare=_between(0.80, 1.80, severity, rng),
        )
    )


# --- dent ------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Dent(_Plain):
    """An elliptical depression with a raised rim; `radius` mm to the foot of the rim, `slope` at its steepest."""

    u: float
    v: float
    radius: float
    slope: float
    stretch: float
    turn: float

    def engrave(self, facets: Facets, view: View, touched: Field) -> None:
        window = view.window(self.u, self.v, self.radius * self.stretch + 1)
        du, dv = view.u[window] - self.u, view.v[window] - self.v
        cos, sin = math.cos(self.turn), math.sin(self.turn)
        a, b = (cos * du + sin * dv) / self.stretch, (cos * dv - sin * du) * self.stretch
        rho = hypot(a, b) / self.radius
        inside = rho < 1
        bowl = -np.sin(math.pi * np.clip(rho / 0.74, 0, 1))
        rim = 0.45 * np.sin(math.pi * np.clip((rho - 0.74) / 0.26, 0, 1))
        slope = self.slope * np.where(inside, bowl + rim, 0).astype(np.float32)
        norm = np.maximum(hypot(a, b), 0.02)
        worn = 1 - 0.45 * (1 - smoothstep(0.3, 1.0, rho))
        out_a, out_b = a / norm / self.stretch, b / norm * self.stretch
        facets.slope_u[window] = facets.slope_u[window] * worn + slope * (cos * out_a - sin * out_b)
        facets.slope_v[window] = facets.slope_v[window] * worn + slope * (sin * out_a + cos * out_b)
        facets.rough_along[window] += 0.07 * (1 - smoothstep(0.3, 0.8, rho)) * inside
        touched[window] = np.maximum(touched[window], inside)


def _dent(severity: float, work: Workpiece, rng: np.random.Generator) -> Defect:
    radius = _between(2.6, 6.2, severity, rng)
    u, v = site(work, rng, min(0.9 * radius, 4.0))
    return _Dent(
        u, v, radius, _between(0.26, 0.52, severity, rng), math.exp(rng.normal(0, 0.12)), rng.uniform(0, math.pi)
    )


# --- crack -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Crack(_Plain):
    """Branches as (u, v, width) polylines; `dark` is the share of light lost in the gap."""

    branches: tuple[tuple[tuple[float, float, float], ...], ...]
    dark: float

    def stain(self, rgb: Field, view: View, touched: Field) -> None:
        for branch in self.branches:
            window, cover = polyline(view, list(branch))
            rgb[:, window[0], window[1]] *= 1 - self.dark * cover
            touched[window] = np.maximum(touched[window], np.where(cover > 0, 1, 0))


def _walk(
    rng: np.random.Generator, start: tuple[float, float], heading: float, length: float, width: float
) -> list[tuple[float, float, float]]:
    """A crack's path: short straight facets about a slowly wandering heading, thinning to its tip."""
    u, v = start
    points = [(u, v, width)]
    gone, drift = 0.0, heading
    while gone < length:
        step = rng.uniform(0.35, 0.95)
        drift += rng.normal(0, 0.15)
        turn = drift + rng.normal(0, 0.42)
        u, v = u + step * math.cos(turn), v + step * math.sin(turn)
        gone += step
        points.append((u, v, width * max(1 - gone / length, 0.0) ** 0.6 * rng.uniform(0.75, 1.1) + 0.05))
    return points


def _crack(severity: float, work: Workpiece, rng: np.random.Generator) -> Defect:
    """From a hole's edge, a recess or the rim into the metal, where stress concentrates."""
    length = _between(10.0, 28.0, severity, rng, 0.2)
    width = _between(0.65, 1.20, severity, rng)
    tried: list[tuple[float, list[tuple[float, float, float]]]] = []
    for _ in range(30):
        hole = work.holes[int(rng.integers(len(work.holes)))]
        bearing = rng.uniform(-math.pi, math.pi)
        reach = hole.radius + hole.chamfer + (1.0 if not hole.chamfer else 0.0)
        start = (hole.u + reach * math.cos(bearing), hole.v + reach * math.sin(bearing))
        heading = bearing + rng.normal(0, 0.25)
        trunk = _walk(rng, start, heading, length, width)
        where = np.asarray(trunk, dtype=np.float32)
        visible = float(np.mean(work.free(where[:, 0], where[:, 1]) > -0.2))
        tried.append((visible, trunk))
        if visible >= 0.9:
            break
    trunk = max(tried, key=lambda attempt: attempt[0])[1]
    branches = [tuple(trunk)]
    for _ in range(int(rng.poisson(0.4 + 1.8 * severity))):
        fork = int(rng.integers(max(len(trunk) // 4, 1), max(3 * len(trunk) // 4, 2)))
        fork = min(fork, len(trunk) - 2)
        (u0, v0, w0), (u1, v1, _) = trunk[fork], trunk[fork + 1]
        heading = math.atan2(v1 - v0, u1 - u0) + float(rng.choice((-1.0, 1.0))) * rng.uniform(0.5, 1.0)
        branches.append(tuple(_walk(rng, (u0, v0), heading, length * rng.uniform(0.2, 0.45), 0.75 * w0)))
    return _Crack(tuple(branches), min(_between(0.88, 0.98, severity, rng, 0.03), 0.985))


# --- missing component -----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Missing(_Plain):
    absent: int | None


def _missing(severity: float, work: Workpiece, rng: np.random.Generator) -> Defect:
    """Larger components go missing at higher severity: a pin is easier to overlook than a screw."""
    fitted = [(hole.radius, index) for index, hole in enumerate(work.holes) if hole.fitting is not None]
    sizes = sorted({round(radius, 2) for radius, _ in fitted})
    wanted = sizes[min(int(severity * len(sizes)), len(sizes) - 1)]
    return _Missing(int(rng.choice([index for radius, index in fitted if round(radius, 2) == wanted])))


# --- discoloration ---------------------------------------------------------------------------------------------------

# Temper colours of steel by oxide thickness: bare, straw, bronze, purple, blue, pale blue-grey; linear RGB factors.
_TEMPER: Final = np.array(
    [(1, 1, 1), (0.93, 0.76, 0.42), (0.72, 0.45, 0.20), (0.47, 0.29, 0.33), (0.30, 0.36, 0.56), (0.44, 0.53, 0.63)]
)
_RUST: Final = (0.235, 0.115, 0.055)


@dataclass(frozen=True)
class _Discoloration(_Plain):
    """A patch with an irregular soft border; `amount` 0..1 is the oxide at its middle, or how opaque a stain is."""

    kind: str
    u: float
    v: float
    radius: float
    amount: float
    stretch: float
    turn: float
    origin: tuple[int, int]

    def stain(self, rgb: Field, view: View, touched: Field) -> None:
        window = view.window(self.u, self.v, 1.7 * self.radius * self.stretch)
        u, v = view.u[window], view.v[window]
        if not u.size:
            return
        cos, sin = math.cos(self.turn), math.sin(self.turn)
        du, dv = u - self.u, v - self.v
        reach = hypot((cos * du + sin * dv) / self.stretch, (cos * dv - sin * du) * self.stretch) / self.radius
        lumps = smooth_sample(clouds(), u, v, 0.028 * self.radius + 0.06, self.origin)
        field = 1 - reach + (0.20 if self.kind == "heat" else 0.36) * lumps
        edge = np.clip(1.5 * (1.65 - reach), 0, 1)
        strength = edge * smoothstep(0, {"heat": 0.95, "rust": 0.35, "stain": 0.30}[self.kind], field)
        strength = np.maximum(strength - 0.12, 0) * (1 / 0.88)
        patch = rgb[:, window[0], window[1]]
        if self.kind == "heat":
            ramp = np.clip(strength * self.amount * (len(_TEMPER) - 1), 0, len(_TEMPER) - 1)
            for channel in range(3):
                patch[channel] *= np.interp(ramp, np.arange(len(_TEMPER)), _TEMPER[:, channel]).astype(np.float32)
        elif self.kind == "rust":
            pits = sample(grain(), u, v, 0.12, self.origin) + smooth_sample(clouds(), u, v, 0.03, self.origin[::-1])
            speckle = smoothstep(-0.9, 0.9, 0.65 * pits + 1.8 * field - 0.15)
            opaque = strength * speckle * self.amount
            powder = 0.34 + 0.30 * np.mean(patch, axis=0)
            for channel, tone in enumerate(_RUST):
                patch[channel] += opaque * (tone * powder - patch[channel])
        else:
            ring = np.exp(-(((field - 0.16) / 0.11) ** 2))
            film = strength * self.amount * (0.45 + 0.55 * ring)
            for channel, loss in enumerate((0.52, 0.66, 0.84)):
                patch[channel] *= 1 - loss * film
        touched[window] = np.maximum(touched[window], np.where(strength > 0, 1, 0))


def _discoloration(severity: float, work: Workpiece, rng: np.random.Generator) -> Defect:
    radius = _between(5.0, 14.0, severity, rng, 0.15)
    u, v = site(work, rng, min(radius * 0.5, 3.5))
    kind = str(rng.choice(("heat", "rust", "stain"), p=(0.5, 0.25, 0.25)))
    low = {"heat": 0.38, "rust": 0.65, "stain": 0.90}[kind]
    amount = min(_between(low, 0.95, severity, rng), 1.0)
    origin = (int(rng.integers(TILE)), int(rng.integers(TILE)))
    return _Discoloration(kind, u, v, radius, amount, math.exp(rng.normal(0, 0.15)), rng.uniform(0, math.pi), origin)


_PLANNERS: Final = {
    "scratch": _scratch,
    "dent": _dent,
    "crack": _crack,
    "missing_component": _missing,
    "discoloration": _discoloration,
}
