"""What surrounds the part: the fixture plate, the part's shadow on it, and the part's own side wall."""

import math

import numpy as np

from traceai.data.synth.camera import Field, View
from traceai.data.synth.shading import bar_direction
from traceai.data.synth.shapes import hypot, outward, smoothstep
from traceai.data.synth.texture import broad_sample, clouds, grain, sample
from traceai.data.synth.workpiece import Lights, Workpiece

GRID = 25.0  # mm between the tapped holes of the fixture plate


def draw(work: Workpiece, view: View, lights: Lights, rng: np.random.Generator) -> Field:
    """Linear RGB (3, count, count) of everything but the top face."""
    floor_u, floor_v = view.below(work.thickness)
    cos, sin = math.cos(view.pose.turn), math.sin(view.pose.turn)
    x = cos * floor_u - sin * floor_v + view.pose.shift_x
    y = sin * floor_u + cos * floor_v + view.pose.shift_y
    origin = (int(rng.integers(512)), int(rng.integers(512)))
    offset = (rng.normal(0, 0.6) + 3.0, rng.normal(0, 0.6) - 2.0)
    toward = bar_direction(lights)

    clear = work.outline.distance(floor_u, floor_v)
    lean_in = work.outline.distance(floor_u + toward[0] * work.thickness, floor_v + toward[1] * work.thickness)
    shadow = smoothstep(-3.5, 4.0, lean_in)
    contact = 1 - 0.75 * np.exp(-np.maximum(clear, 0) * (1 / 3.0))
    sheen = 1 + 0.0045 * (floor_u * toward[0] + floor_v * toward[1])
    plate = 0.030 * (1 + 0.07 * sample(grain(), x, y, 0.16, origin) + 0.08 * broad_sample(clouds(), x, y, 0.5, origin))
    light = plate * sheen * contact * (0.35 + 0.65 * shadow)
    _tapped_grid(
        light, x + offset[0], y + offset[1], cos * toward[0] - sin * toward[1], sin * toward[0] + cos * toward[1]
    )

    rgb = np.empty((3, *light.shape), dtype=np.float32)
    for channel, tone in enumerate((0.93, 0.97, 1.08)):
        rgb[channel] = light * tone
    _side_wall(rgb, work, view, toward, clear)
    return rgb


def _tapped_grid(light: Field, x: Field, y: Field, toward_x: float, toward_y: float) -> None:
    """Darken the fixture's tapped holes, slightly out of focus, with a lit far edge; in place."""
    gap_x = x - GRID * np.rint(x * (1 / GRID))
    gap_y = y - GRID * np.rint(y * (1 / GRID))
    near = np.nonzero(gap_x * gap_x + gap_y * gap_y < 16)
    gap_x, gap_y = gap_x[near], gap_y[near]
    radius = hypot(gap_x, gap_y)
    norm = math.hypot(toward_x, toward_y) + 1e-6
    facing = -(gap_x * toward_x + gap_y * toward_y) / (norm * np.maximum(radius, 0.3))
    ring = np.exp(-(((radius - 2.9) / 0.35) ** 2))
    light[near] *= (0.25 + 0.75 * smoothstep(2.2, 3.0, radius)) * (1 + ring * (0.35 + 0.9 * facing))


def _side_wall(rgb: Field, work: Workpiece, view: View, toward: tuple[float, float], clear: Field) -> None:
    """Draw the wall between the top edge and the fixture where the camera sees it, in place."""
    top = work.outline.distance(view.u, view.v)
    seen = np.nonzero((top > -1.0) & (clear < 0.5))
    if not len(seen[0]):
        return
    above, under = np.maximum(top[seen], 0), clear[seen]
    down = above / np.maximum(above - under, 1e-3)
    cover = np.clip(0.5 - under / view.pixel, 0, 1)
    depth = np.minimum(down, 1) * work.thickness
    u = view.u[seen] + depth * ((view.u[seen] - view.eye[0]) / view.eye[2])
    v = view.v[seen] + depth * ((view.v[seen] - view.eye[1]) / view.eye[2])
    _, out_u, out_v = outward(work.outline, u, v)
    norm = math.hypot(*toward)
    facing = (out_u * toward[0] + out_v * toward[1]) / norm
    glint = np.exp(-(((facing - 0.55) / 0.25) ** 2)) + 0.5 * np.exp(-(((facing + 0.6) / 0.2) ** 2))
    wall = (0.035 + 0.13 * np.maximum(facing, 0) + 0.12 * glint) * (1 - 0.6 * down)
    for channel in range(3):
        layer = rgb[channel]
        layer[seen] += cover * (wall * work.tint[channel] - layer[seen])
