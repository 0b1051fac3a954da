"""A grid drawn over its image: warm where it argues for the target, cool where it argues against, clear at zero.

The colours are two arcs of constant hue in OKLab (Ottosson, 2020), whose lightness and chroma change linearly with the
evidence, so that equal steps of evidence look equal. Orange and blue stay apart under protanopia, deuteranopia and
tritanopia. The same input gives the same bytes.
"""

import io
from functools import cache

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFont

from traceai.errors import ModelError
from traceai.explain.catalogue import METHODS, Legend

_WARM_HUE, _COOL_HUE = np.deg2rad(52.0), np.deg2rad(252.0)
_MAX_OPACITY = 0.7
_MARGIN = 16
_INK, _PAPER, _FAINT = (28, 28, 30), (255, 255, 255), (110, 110, 116)

WHOLE = (0.0, 0.0, 1.0, 1.0)


RECORDED = METHODS["grad-cam"].legend

_Bytes = npt.NDArray[np.uint8]
_Floats = npt.NDArray[np.float64]
_Index = npt.NDArray[np.intp]


def _oklab_to_srgb(lightness: _Floats, chroma: _Floats, hue: float) -> _Floats:
    """sRGB in 0..255, clipped to gamut."""
    a, b = chroma * np.cos(hue), chroma * np.sin(hue)
    long = (lightness + 0.3963377774 * a + 0.2158037573 * b) ** 3
    medium = (lightness - 0.1055613458 * a - 0.0638541728 * b) ** 3
    short = (lightness - 0.0894841775 * a - 1.2914855480 * b) ** 3
    linear = np.stack(
        [
            4.0767416621 * long - 3.3077115913 * medium + 0.2309699292 * short,
            -1.2684380046 * long + 2.6097574011 * medium - 0.3413193965 * short,
            -0.0041960863 * long - 0.7034186147 * medium + 1.7076147010 * short,
        ],
        axis=-1,
    ).clip(0.0, 1.0)
    encoded = np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)
    return np.asarray(encoded * 255.0)


@cache
def _colours() -> _Floats:
    """(511, 4): RGB in 0..255 and opacity in 0..1; row 255 is no evidence, 510 all for, 0 all against."""
    strength = np.linspace(0.0, 1.0, 256)
    opacity = _MAX_OPACITY * strength
    warm = _oklab_to_srgb(0.80 - 0.12 * strength, 0.06 + 0.13 * strength, float(_WARM_HUE))
    cool = _oklab_to_srgb(0.80 - 0.28 * strength, 0.04 + 0.10 * strength, float(_COOL_HUE))
    table = np.concatenate([np.column_stack([cool, opacity])[::-1], np.column_stack([warm, opacity])[1:]])
    table.flags.writeable = False
    return table


def render(
    pixels: _Bytes,
    grid: npt.ArrayLike,
    *,
    box: tuple[float, float, float, float] = WHOLE,
    limit: float | None = None,
    contour: float | None = 0.5,
) -> Image.Image:
    """The image with its evidence over it.

    Args:
        pixels: uint8 (H, W) or (H, W, 3).
        grid: (h, w) signed; enlarged bilinearly to H x W.
        box: the part of the grid that shows the image, as fractions (left, top, right, bottom); for a letterboxed
            input, `Preprocessing.grid_to_image_box`.
        limit: the evidence drawn at full strength, for comparing pictures; the largest absolute value when None.
        contour: draws a line where the evidence for the target is this share of `limit`, in 0..1; None draws none.

    Returns:
        RGB, W x H.

    Raises:
        ModelError: a grid that is not two-dimensional and finite, or pixels of another form.
    """
    base = _as_rgb(pixels)
    height, width = base.shape[:2]
    values = _checked(grid)
    scale = _limit(values, limit)
    evidence = _enlarge(values / scale, height, width, box).clip(-1.0, 1.0)
    entry = _colours()[np.rint(255.0 * evidence).astype(np.intp) + 255]
    opacity = entry[..., 3:]
    blended = base * (1.0 - opacity) + entry[..., :3] * opacity
    if contour is not None:
        _draw_contour(blended, evidence >= contour)
    return Image.fromarray(np.rint(blended).astype(np.uint8))


def panel(
    pixels: _Bytes,
    grid: npt.ArrayLike,
    *,
    target: str,
    caption: str = "",
    box: tuple[float, float, float, float] = WHOLE,
    limit: float | None = None,
    contour: float | None = 0.5,
    legend: Legend = RECORDED,
    notice: str = "",
) -> Image.Image:
    """Image and overlay side by side, above a scale that says what the colours and the line mean.

    The smaller side is enlarged to at least 320 pixels so that the legend can be read. `target` is the name of the explained class;
    `caption` are more lines under the scale; `notice` stands above everything, white on black. See `render` for the rest.
    """
    base = _as_rgb(pixels)
    values = _checked(grid)
    low = 0.0 if legend.signed else float(values.min())
    values = values - low
    scale = _limit(values, limit)
    factor = max(1.0, 320 / min(base.shape[:2]))
    width, height = round(base.shape[1] * factor), round(base.shape[0] * factor)
    left = Image.fromarray(base).resize((width, height), Image.Resampling.BICUBIC)
    right = render(np.asarray(left), values, box=box, limit=scale, contour=contour)

    small = ImageFont.load_default(13)
    lines = caption.splitlines()
    bottom = 70 + 22 * bool(lines) + 18 * (len(lines) - 1) * bool(lines)
    head = 30 if notice else 0
    sheet = Image.new("RGB", (2 * width + 3 * _MARGIN, head + height + 2 * _MARGIN + bottom), _PAPER)
    sheet.paste(left, (_MARGIN, head + _MARGIN))
    sheet.paste(right, (2 * _MARGIN + width, head + _MARGIN))

    draw = ImageDraw.Draw(sheet)
    room = sheet.width - 2 * _MARGIN
    if notice:
        draw.rectangle((0, 0, sheet.width, head - 1), fill=_INK)
        draw.text((_MARGIN, head // 2), _fitted(notice, room, small), fill=_PAPER, font=small, anchor="lm")
    top = head + height + 2 * _MARGIN
    start, end = 2 * _MARGIN + width, 2 * (_MARGIN + width)
    sheet.paste(_scale_bar(end - start, 14, legend.signed), (start, top))
    draw.rectangle((start, top, end - 1, top + 13), outline=_FAINT)
    ends = (f"{-scale:.3g}", f"+{scale:.3g}") if legend.signed else (f"{low:.3g}", f"{low + scale:.3g}")
    words = [end.format(target=target) for end in legend.ends]
    for x, anchor, number, word in ((start, "la", ends[0], words[0]), (end, "ra", ends[1], words[1])):
        draw.text((x, top + 18), number, fill=_INK, font=small, anchor=anchor)
        draw.text((x, top + 38), word, fill=_FAINT, font=small, anchor=anchor)
    if legend.signed:
        draw.text(((start + end) // 2, top + 18), "0", fill=_INK, font=small, anchor="ma")

    notes = [(legend.about.format(target=target), _INK), (legend.value, _FAINT)]
    if contour is not None:
        notes.append((f"line: {contour:.0%} of full scale", _FAINT))
    for row, (text, colour) in enumerate(notes):
        draw.text((_MARGIN, top - 2 + 20 * row), _fitted(text, width, small), fill=colour, font=small)
    for row, text in enumerate(lines):
        draw.text((_MARGIN, top + 62 + 18 * row), _fitted(text, room, small), fill=_FAINT, font=small)
    return sheet


def to_png(image: Image.Image) -> bytes:
    """PNG bytes without metadata: equal pictures give equal bytes."""
    buffer = io.BytesIO()
    image.save(buffer, format="PNG", compress_level=6)
    return buffer.getvalue()


def _as_rgb(pixels: _Bytes) -> _Bytes:
    if pixels.dtype != np.uint8 or pixels.ndim not in (2, 3) or (pixels.ndim == 3 and pixels.shape[2] != 3):
        raise ModelError(f"pixels are uint8 (H, W) or (H, W, 3), not {pixels.dtype} {pixels.shape}")
    return np.repeat(pixels[..., None], 3, axis=2) if pixels.ndim == 2 else pixels


def _checked(grid: npt.ArrayLike) -> _Floats:
    values = np.asarray(grid, dtype=np.float64)
    if values.ndim != 2 or values.size == 0 or not np.isfinite(values).all():
        raise ModelError("only a finite grid of shape (h, w) can be drawn")
    return values


def _limit(values: _Floats, limit: float | None) -> float:
    """An all-zero grid has no scale of its own; any positive one draws it fully clear."""
    chosen = float(np.abs(values).max()) if limit is None else limit
    return chosen if chosen > 0 else 1.0


def _enlarge(values: _Floats, height: int, width: int, box: tuple[float, float, float, float]) -> _Floats:
    """Bilinear between cell centres; the half cell at each border keeps the value of its cell."""

    def weights(cells: int, size: int, start: float, end: float) -> tuple[_Index, _Index, _Floats]:
        position = ((start + (np.arange(size) + 0.5) * (end - start) / size) * cells - 0.5).clip(0, cells - 1)
        low = np.floor(position).astype(np.intp)
        return low, np.minimum(low + 1, cells - 1), position - low

    left, top, right, bottom = box
    upper, lower, down = weights(values.shape[0], height, top, bottom)
    before, after, across = weights(values.shape[1], width, left, right)
    rows = values[upper] * (1 - down)[:, None] + values[lower] * down[:, None]
    return np.asarray(rows[:, before] * (1 - across) + rows[:, after] * across)


def _draw_contour(picture: _Floats, inside: npt.NDArray[np.bool_]) -> None:
    """A white line just inside the region and a dark one just outside: seen on any background."""
    width = max(1, min(inside.shape) // 250)
    inner, outer = inside, inside
    for _ in range(width):
        inner, outer = ~_grow(~inner), _grow(outer)
    picture[outer & ~inside] = _INK
    picture[inside & ~inner] = _PAPER


def _grow(region: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
    grown = region.copy()
    grown[1:] |= region[:-1]
    grown[:-1] |= region[1:]
    grown[:, 1:] |= region[:, :-1]
    grown[:, :-1] |= region[:, 1:]
    return grown


def _fitted(text: str, width: int, font: ImageFont.FreeTypeFont | ImageFont.ImageFont) -> str:
    """`text`, cut with an ellipsis where it is wider than `width` pixels."""
    kept = text
    while kept and font.getlength(kept if kept == text else kept + "...") > width:
        kept = kept[:-1]
    return kept if kept == text else kept + "..."


def _scale_bar(width: int, height: int, signed: bool) -> Image.Image:
    entry = _colours()[np.rint(np.linspace(0 if signed else 255, 510, width)).astype(np.intp)]
    row = 170.0 * (1.0 - entry[:, 3:]) + entry[:, :3] * entry[:, 3:]
    return Image.fromarray(np.repeat(np.rint(row).astype(np.uint8)[None], height, axis=0))
