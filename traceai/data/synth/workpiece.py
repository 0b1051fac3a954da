"""What a part is, before anything is drawn: its outline, its holes, what is fitted in them, and its finished face."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Literal

import numpy as np

from traceai.data.synth.camera import Field, View
from traceai.data.synth.shading import Facets, Light
from traceai.data.synth.shapes import RoundedBox, Shape, hypot

Tint = tuple[float, float, float]
Lights = tuple[Light, ...]

THROUGH: Final = 40.0  # depth in mm that light does not come back from


@dataclass(frozen=True)
class Fitting:
    """A component fitted in a hole: cap screw, dowel pin or threaded brass insert; `radius` mm, `turn` radians."""

    kind: Literal["screw", "pin", "insert"]
    radius: float
    turn: float
    tint: Tint
    sunk: float  # mm from the top face down to the component's own top; negative stands proud


@dataclass(frozen=True)
class Hole:
    """A round hole in the top face: `radius` at the top, `depth` to its floor, `chamfer` width; all mm.

    `thread` is the radius of the tapped hole in its floor, or of the hole itself where it has no floor step.
    """

    u: float
    v: float
    radius: float
    depth: float
    chamfer: float
    thread: float
    fitting: Fitting | None = None


@dataclass(frozen=True)
class Recess:
    """A pocket or slot with a flat floor `depth` mm down; `THROUGH` shows the dark fixture."""

    shape: RoundedBox
    depth: float
    chamfer: float


@dataclass(frozen=True)
class Workpiece:
    """One part as made.

    Attributes:
        outline: Silhouette of the top face; `chamfer` mm are broken off its edge.
        reach: Radius in mm of a circle about the origin that holds the top face.
        thickness: Height of the top face above the fixture, mm.
        tint: Reflectance of the bare metal, linear RGB.
        face: Renders the machined face, holes and recesses excepted, for a view under lights.
        free: Distance in mm from a point to the nearest feature of the machined face; negative on a feature.
        label_at: Place and direction (u, v, radians) of the marking; `code_at` of the square code.
    """

    product: str
    outline: Shape
    reach: float
    chamfer: float
    thickness: float
    tint: Tint
    holes: tuple[Hole, ...]
    recesses: tuple[Recess, ...]
    face: Callable[[View, Lights], Facets]
    free: Callable[[Field, Field], Field]
    label_at: tuple[float, float, float]
    code_at: tuple[float, float, float]
    label: tuple[str, str]


def hole_clearance(holes: tuple[Hole, ...], u: Field, v: Field) -> Field:
    """Distance in mm to the nearest hole's chamfer, negative inside."""
    nearest = np.full_like(u, 1e3)
    for hole in holes:
        nearest = np.minimum(nearest, hypot(u - hole.u, v - hole.v) - hole.radius - hole.chamfer)
    return nearest


SCREW_TINTS: Final[tuple[Tint, ...]] = ((0.80, 0.82, 0.86), (0.86, 0.83, 0.74), (0.62, 0.63, 0.66))
BRASS: Final[Tint] = (0.95, 0.72, 0.36)
PIN_STEEL: Final[Tint] = (0.98, 0.98, 0.97)


def on_circle(radius: float, degrees: float) -> tuple[float, float]:
    return radius * math.cos(math.radians(degrees)), radius * math.sin(math.radians(degrees))
