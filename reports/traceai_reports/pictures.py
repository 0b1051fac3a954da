"""Images on the page: scaled down to what paper can show, or a panel that says why there is none."""

import io
from dataclasses import dataclass

from PIL import Image as PilImage
from reportlab.lib.utils import ImageReader
from reportlab.platypus import Flowable

from traceai.errors import ImageError
from traceai.images.decode import decode
from traceai_reports.typography import HAIRLINE, MUTED, PANEL, SANS

# Below this many pixels a picture is embedded losslessly: JPEG blocks would pass for texture of the part.
_LOSSLESS_PIXELS = 90_000


@dataclass(frozen=True)
class Picture:
    """An encoded picture ready to draw as often as needed, or the reason why there is none."""

    reader: ImageReader | None
    width: int = 0
    height: int = 0
    reason: str = ""

    @classmethod
    def load(cls, data: bytes | None, *, longest: int, missing: str) -> "Picture":
        """`data` decoded as an inspection decodes it and reduced to `longest` pixels a side.

        `missing` is what the panel says when `data` is None; undecodable bytes say so themselves.
        """
        if data is None:
            return cls(None, reason=missing)
        try:
            picture = PilImage.fromarray(decode(data).pixels)
        except ImageError as error:
            return cls(None, reason=f"cannot be shown ({error.code})")
        picture.thumbnail((longest, longest), PilImage.Resampling.LANCZOS)
        buffer = io.BytesIO()
        if picture.width * picture.height <= _LOSSLESS_PIXELS:
            picture.save(buffer, format="PNG")
        else:
            picture.save(buffer, format="JPEG", quality=85)
        return cls(ImageReader(buffer), picture.width, picture.height)


class Plate(Flowable):
    """A picture centred in a box of fixed size, so that two of them line up whatever their shape."""

    def __init__(self, picture: Picture, width: float, height: float) -> None:
        super().__init__()
        self.picture, self.width, self.height = picture, width, height

    def wrap(self, *_available: float) -> tuple[float, float]:
        return self.width, self.height

    def draw(self) -> None:
        canvas = self.canv
        canvas.setFillColor(PANEL)
        canvas.setStrokeColor(HAIRLINE)
        canvas.setLineWidth(0.5)
        canvas.rect(0, 0, self.width, self.height, stroke=1, fill=1)
        picture = self.picture
        if picture.reader is None:
            canvas.setFillColor(MUTED)
            canvas.setFont(SANS, min(8, self.width / 16))
            canvas.drawCentredString(self.width / 2, self.height / 2 - 2, picture.reason)
            return
        scale = min((self.width - 6) / picture.width, (self.height - 6) / picture.height)
        width, height = picture.width * scale, picture.height * scale
        canvas.drawImage(picture.reader, (self.width - width) / 2, (self.height - height) / 2, width, height)
