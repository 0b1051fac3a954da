"""What the camera station fixes: picture size, light, tilt and sensor noise."""

import math
from dataclasses import dataclass
from typing import Final

from traceai.errors import InputError

_LIMITS: Final[dict[str, tuple[float, float, str]]] = {
    "size": (64, 2048, "pixels"),
    "lighting": (0.1, 5.0, "times the nominal intensity"),
    "light_angle": (-360.0, 360.0, "degrees"),
    "camera_angle": (0.0, 45.0, "degrees from straight down"),
    "noise": (0.0, 10.0, "times the nominal sensor noise"),
}


@dataclass(frozen=True)
class Scene:
    """One set-up of the inspection station.

    Attributes:
        size: Width and height of the picture, pixels.
        lighting: Intensity relative to the nominal exposure; 1.6 begins to clip highlights.
        light_angle: Azimuth of the bar light in the picture, degrees counter-clockwise, 0 at the right edge.
        camera_angle: Tilt of the camera, degrees; 0 looks straight down. Perspective is exact, masks follow it.
        noise: Sensor noise relative to nominal; 0 switches it off.

    Raises:
        InputError: A value is not a finite number within its limits; the message names the limits.
    """

    size: int = 256
    lighting: float = 1.0
    light_angle: float = 125.0
    camera_angle: float = 8.0
    noise: float = 1.0

    def __post_init__(self) -> None:
        if not isinstance(self.size, int) or isinstance(self.size, bool):
            raise InputError(f"Scene size must be a whole number of pixels, not {self.size!r}.")
        for name, (low, high, unit) in _LIMITS.items():
            value = getattr(self, name)
            if not math.isfinite(value) or not low <= value <= high:
                raise InputError(f"Scene {name} must lie between {low:g} and {high:g} {unit}, not {value!r}.")
