"""From pixels to the input of a network, as a model version declares it.

The declaration is part of the version's digest, so that whoever replays a decision prepares the picture the same way.
Resizing works on 8-bit samples in integer arithmetic, and what follows is a table of 256 values per channel: the same
pixels give the same floats on every machine.
"""

from decimal import Decimal
from typing import Annotated, Literal, NamedTuple, Self

import numpy as np
import numpy.typing as npt
from PIL import Image
from pydantic import BaseModel, ConfigDict, Field, model_validator

_RESAMPLING = {
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
    "box": Image.Resampling.BOX,
}

Side = Annotated[int, Field(ge=1, le=16384)]
DecimalString = Annotated[str, Field(pattern=r"^-?(0|[1-9][0-9]{0,8})(\.[0-9]{1,17})?$")]
# JSON has no tuples: a list is taken for one, and nothing else is.
PerChannel = Annotated[tuple[DecimalString, ...], Field(strict=False)]


class Box(NamedTuple):
    """A part of the network's input, as fractions of its width and height, from the top left."""

    left: float
    top: float
    right: float
    bottom: float


class Preprocessing(BaseModel):
    """How a picture becomes a network's input. `Preprocessing.model_validate_json(p.model_dump_json()) == p`.

    Attributes:
        height, width: of the input, in pixels.
        channels: 1 for greyscale (ITU-R BT.601 luma of a colour picture), 3 for RGB (a grey picture thrice).
        interpolation: Pillow's antialiased filter.
        mean, std: per channel, on the scale 0 to 1, as decimal strings: floats never enter records.
        fit: `stretch` ignores the aspect ratio; `letterbox` keeps it, centres the picture and fills the rest with the
            mean, which is zero after normalisation.
    """

    model_config = ConfigDict(frozen=True, strict=True, extra="forbid")

    height: Side
    width: Side
    channels: Literal[1, 3]
    interpolation: Literal["bilinear", "bicubic", "box"] = "bilinear"
    mean: PerChannel
    std: PerChannel
    fit: Literal["stretch", "letterbox"] = "stretch"

    @model_validator(mode="after")
    def _one_of_each_per_channel(self) -> Self:
        if len(self.mean) != self.channels or len(self.std) != self.channels:
            raise ValueError(f"mean and std need {self.channels} values each, one per channel")
        if any(Decimal(value) <= 0 for value in self.std):
            raise ValueError("every std must be positive")
        return self

    def apply(self, pixels: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        """The network's input, float32 (channels, height, width), from uint8 pixels (H, W) or (H, W, 3).

        `(v / 255 - mean) / std`, computed in double precision and rounded once.
        """
        picture = Image.fromarray(pixels)
        if self.channels == 1:
            picture = picture.convert("L")
        left, top, width, height = self._placement(picture.width, picture.height)
        resized = picture.resize((width, height), _RESAMPLING[self.interpolation])
        planes = [np.asarray(band) for band in resized.split()]
        if len(planes) < self.channels:
            planes *= self.channels  # resized once: the same filter in integers gives the same three times
        unit = np.arange(256) / 255.0
        batchless = np.zeros((self.channels, self.height, self.width), np.float32)
        for plane, out, mean, std in zip(planes, batchless, self.mean, self.std, strict=True):
            table = ((unit - float(mean)) / float(std)).astype(np.float32)
            out[top : top + height, left : left + width] = table.take(plane)
        return batchless

    def grid_to_image_box(self, width: int, height: int) -> Box:
        """Which part of the input, and so of an explanation grid, shows a picture of `width` x `height` pixels."""
        left, top, inner_width, inner_height = self._placement(width, height)
        return Box(
            left / self.width,
            top / self.height,
            (left + inner_width) / self.width,
            (top + inner_height) / self.height,
        )

    def _placement(self, width: int, height: int) -> tuple[int, int, int, int]:
        """Left, top, width and height of the picture within the input, in whole pixels."""
        if self.fit == "stretch":
            return 0, 0, self.width, self.height
        # Exact integer arithmetic: the side that fills the input does so without a rounding error.
        if width * self.height >= height * self.width:
            inner_width, inner_height = self.width, max(1, (2 * height * self.width + width) // (2 * width))
        else:
            inner_width, inner_height = max(1, (2 * width * self.height + height) // (2 * height)), self.height
        return (self.width - inner_width) // 2, (self.height - inner_height) // 2, inner_width, inner_height
