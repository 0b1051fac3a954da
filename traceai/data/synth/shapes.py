"""Outlines as signed distances in mm: negative inside, positive outside."""

import math
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from traceai.data.synth.camera import Field


def hypot(u: Field, v: Field) -> Field:
    """Euclidean length of (u, v); `numpy.hypot` guards against overflow at several times the cost."""
    square = u * u
    square += v * v
    return np.sqrt(square, out=square)


class Shape(Protocol):
    """A closed outline in the part frame."""

    def distance(self, u: Field, v: Field) -> Field:
        """Signed distance to the outline, mm, same shape as `u` and `v`."""
        ...


@dataclass(frozen=True)
class Disc:
    u: float
    v: float
    radius: float

    def distance(self, u: Field, v: Field) -> Field:
        return hypot(u - self.u, v - self.v) - self.radius


@dataclass(frozen=True)
class RoundedBox:
    """Centre, half extents and corner radius; with `corner == min(half)` it is an obround slot."""

    u: float
    v: float
    half_u: float
    half_v: float
    corner: float

    def distance(self, u: Field, v: Field) -> Field:
        over_u = np.abs(u - self.u)
        over_u -= self.half_u - self.corner
        over_v = np.abs(v - self.v)
        over_v -= self.half_v - self.corner
        inside: Field = np.minimum(np.maximum(over_u, over_v), 0)
        np.maximum(over_u, 0, out=over_u)
        np.maximum(over_v, 0, out=over_v)
        inside += hypot(over_u, over_v)
        inside -= self.corner
        return inside


@dataclass(frozen=True)
class Hexagon:
    """A hexagon about the origin; `across` is half the distance over the flats, `turn` in radians."""

    across: float
    turn: float

    def distance(self, u: Field, v: Field) -> Field:
        sides = [
            np.abs(u * math.cos(self.turn + k) + v * math.sin(self.turn + k)) for k in (0, math.pi / 3, -math.pi / 3)
        ]
        distance: Field = np.maximum(np.maximum(sides[0], sides[1]), sides[2]) - self.across
        return distance


def coverage(distance: Field, width: float) -> Field:
    """How much of a pixel lies inside, 0..1, given the distance to the outline and the pixel's width in mm."""
    share: Field = np.clip(0.5 - distance * (1 / width), 0, 1)
    return share


def smoothstep(low: float, high: float, x: Field) -> Field:
    """0 below `low`, 1 above `high`, with zero slope at both."""
    t: Field = np.clip((x - low) * (1 / (high - low)), 0, 1)
    return t * t * (3 - 2 * t)


def outward(shape: Shape, u: Field, v: Field, step: float = 0.02) -> tuple[Field, Field, Field]:
    """Distance and its unit gradient, by forward differences of `step` mm."""
    here = shape.distance(u, v)
    du = (shape.distance(u + np.float32(step), v) - here) / step
    dv = (shape.distance(u, v + np.float32(step)) - here) / step
    norm = np.maximum(hypot(du, dv), 1e-3)
    return here, du / norm, dv / norm
