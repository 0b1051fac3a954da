"""Light reflected by machined metal.

A surface is given by its *slopes* p = -grad z, so that its normal is (p, 1). A light is seen in a mirror where p equals
the slope q of the half vector; about that, tool marks spread the reflection far across themselves and little along
themselves. In slope space this is the anisotropic Beckmann lobe (Ward 1992; Walter et al. 2007)

    exp(-((q - p).t / a_along)^2 - ((q - p).b / a_across)^2) / (a_along a_across)

and a light of finite extent widens both roughnesses. Half vectors vary almost linearly over the part, so each light
costs one exponential per pixel.
"""

import math
from dataclasses import dataclass

import numpy as np

from traceai.data.synth.camera import Field, View, Window


@dataclass(frozen=True)
class Light:
    """A lamp in the part frame: position in mm above the top face, half extent as a half-vector slope, intensities."""

    u: float
    v: float
    z: float
    spread: float
    specular: float
    diffuse: float


@dataclass
class Facets:
    """Reflecting surface of a picture or of a window of it; all fields float32 and of one shape.

    Slopes p = -grad z; `along_*` is the unit direction of the tool marks; roughnesses are slopes; `gloss` scales the
    specular and `matte` the diffuse reflection; `sky` is the share of the surroundings that is not hidden.
    """

    slope_u: Field
    slope_v: Field
    along_u: Field
    along_v: Field
    rough_along: Field
    rough_across: Field
    gloss: Field
    matte: Field
    sky: Field

    @classmethod
    def flat(cls, like: Field, *, rough_along: float, rough_across: float, gloss: float, matte: float) -> "Facets":
        def full(value: float) -> Field:
            return np.full(like.shape, value, dtype=np.float32)

        return cls(
            full(0), full(0), full(1), full(0), full(rough_along), full(rough_across), full(gloss), full(matte), full(1)
        )

    def rows(self, band: slice) -> "Facets":
        """A view of some rows."""
        return Facets(**{name: values[band] for name, values in vars(self).items()})


def _unit(u: float, v: float, z: float) -> tuple[float, float, float]:
    norm = math.sqrt(u * u + v * v + z * z)
    return u / norm, v / norm, z / norm


def _half_slope(light: Light, eye: tuple[float, float, float], u: float, v: float) -> tuple[float, float]:
    to_light = _unit(light.u - u, light.v - v, light.z)
    to_eye = _unit(eye[0] - u, eye[1] - v, eye[2])
    height = to_light[2] + to_eye[2]
    return (to_light[0] + to_eye[0]) / height, (to_light[1] + to_eye[1]) / height


_BAND = 16_384  # pixels shaded at a time, so that intermediate values stay in the processor's cache


def radiance(facets: Facets, u: Field, v: Field, view: View, lights: tuple[Light, ...]) -> Field:
    """Linear radiance of metal of unit reflectance, float32 (h, w) as `u`; 1.0 is near the sensor's full scale."""
    total = np.empty_like(u)
    lobes = [_Lobe.of(light, view.eye) for light in lights]
    rows = max(_BAND // max(u.shape[1], 1), 1)
    for first in range(0, len(u), rows):
        band = slice(first, first + rows)
        total[band] = _shade(facets.rows(band), u[band], v[band], lobes)
    return total


@dataclass(frozen=True)
class _Lobe:
    """A light as the shading needs it.

    The half-vector slope at the origin and its change per mm along u and v, and `glow`, the diffuse intensity times the
    unit vector to the light. Matte reflection sums the glows before clamping: no facet here turns its back on a lamp.
    """

    slope: tuple[float, float]
    per_u: tuple[float, float]
    per_v: tuple[float, float]
    glow: tuple[float, float, float]
    light: Light

    @classmethod
    def of(cls, light: Light, eye: tuple[float, float, float]) -> "_Lobe":
        here = _half_slope(light, eye, 0, 0)
        right, up = _half_slope(light, eye, 10, 0), _half_slope(light, eye, 0, 10)
        per_u = ((right[0] - here[0]) / 10, (right[1] - here[1]) / 10)
        per_v = ((up[0] - here[0]) / 10, (up[1] - here[1]) / 10)
        to_u, to_v, to_z = _unit(light.u, light.v, light.z)
        glow = (light.diffuse * to_u, light.diffuse * to_v, light.diffuse * to_z)
        return cls(here, per_u, per_v, glow, light)


def _shade(facets: Facets, u: Field, v: Field, lobes: list[_Lobe]) -> Field:
    """`radiance` of one band; arithmetic in place, for it is the program's inner loop."""
    total = np.zeros_like(u)
    tight_base = facets.rough_along * facets.rough_along
    loose_base = facets.rough_across * facets.rough_across
    for lobe in lobes:
        gap_u = lobe.per_u[0] * u
        gap_u += lobe.per_v[0] * v
        gap_u += lobe.slope[0]
        gap_u -= facets.slope_u
        gap_v = lobe.per_u[1] * u
        gap_v += lobe.per_v[1] * v
        gap_v += lobe.slope[1]
        gap_v -= facets.slope_v
        tight = 1 / (tight_base + lobe.light.spread**2)
        loose = 1 / (loose_base + lobe.light.spread**2)
        along = gap_u * facets.along_u
        along += gap_v * facets.along_v
        gap_v *= facets.along_u
        gap_u *= facets.along_v
        gap_v -= gap_u
        along *= along
        along *= tight
        gap_v *= gap_v
        gap_v *= loose
        along += gap_v
        np.negative(along, out=along)
        np.exp(along, out=along)
        tight *= loose
        along *= np.sqrt(tight, out=tight)
        along *= lobe.light.specular
        total += along
    matte = sum(lobe.glow[0] for lobe in lobes) * facets.slope_u
    matte += sum(lobe.glow[1] for lobe in lobes) * facets.slope_v
    matte += sum(lobe.glow[2] for lobe in lobes)
    np.maximum(matte, 0, out=matte)
    total *= facets.gloss
    matte *= facets.matte
    total += matte
    total *= facets.sky
    return total


def bar_direction(lights: tuple[Light, ...]) -> tuple[float, float]:
    """Horizontal travel (mm, part frame) towards the bar light per mm of rise: what casts shadows."""
    bar = lights[0]
    return bar.u / bar.z, bar.v / bar.z


def station_lights(view: View, light_angle: float) -> tuple[Light, ...]:
    """Bar light at `light_angle`, a side bar, a broad fill, the coaxial ring, and a low lamp that lights up edges."""

    def lamp(angle: float, tilt: float, spread: float, specular: float, diffuse: float) -> Light:
        azimuth, zenith = math.radians(light_angle + angle), math.radians(tilt)
        reach = 330.0
        x, y = reach * math.sin(zenith) * math.cos(azimuth), reach * math.sin(zenith) * math.sin(azimuth)
        u, v = view.turned(x - view.pose.shift_x, y - view.pose.shift_y)
        return Light(u, v, reach * math.cos(zenith), spread, specular, diffuse)

    return (
        lamp(0, 32, 0.080, 0.0265, 0.55),
        lamp(118, 40, 0.11, 0.0110, 0.10),
        lamp(205, 30, 0.20, 0.0085, 0.10),
        lamp(0, 6, 0.34, 0.0155, 0.20),
        lamp(12, 72, 0.22, 0.0300, 0.10),
    )


def blend(rgb: Field, window: Window, cover: Field, colour: Field) -> None:
    """Lay `colour` (3, h, w) over a window of `rgb` (3, H, W) with `cover` (h, w) in 0..1, in place."""
    target = rgb[:, window[0], window[1]]
    target += cover * (colour - target)
