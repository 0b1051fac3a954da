"""Typefaces, colours and paragraph styles, and the one way for foreign text into a page.

All fonts are embedded, so that a page looks the same in twenty years. They are those that ReportLab ships: Bitstream
Vera for text and a Courier for digests.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from functools import cache
from pathlib import Path
from typing import Any, Final
from xml.sax.saxutils import escape

import reportlab
from reportlab import rl_config
from reportlab.lib.colors import Color, HexColor
from reportlab.lib.enums import TA_RIGHT
from reportlab.lib.fonts import addMapping
from reportlab.lib.styles import ParagraphStyle
from reportlab.pdfbase import pdfmetrics
from reportlab.pdfbase.ttfonts import TTFont

SANS, BOLD, ITALIC, MONO = "Vera", "Vera-Bold", "Vera-Italic", "TraceMono"

INK: Final = HexColor("#1b2530")
MUTED: Final = HexColor("#5c6874")
HAIRLINE: Final = HexColor("#d3d9df")
PANEL: Final = HexColor("#f3f5f7")
ACCENT: Final = HexColor("#1f4262")
ALERT: Final = HexColor("#9c2f10")
ALERT_PANEL: Final = HexColor("#fbeee8")
WHITE: Final = HexColor("#ffffff")

# Blue and vermilion of Okabe & Ito (2008) stay apart under every common colour blindness; shapes and words repeat them.
VERDICT_COLOURS: Final[Mapping[str, Color]] = {
    "pass": HexColor("#0072b2"),
    "reject": HexColor("#c8500a"),
    "undecided": HexColor("#6b7480"),
    "failed": HexColor("#1b2530"),
}
VERDICT_TINTS: Final[Mapping[str, Color]] = {
    "pass": HexColor("#cfe3f1"),
    "reject": HexColor("#f8d9c6"),
    "undecided": HexColor("#e3e6ea"),
    "failed": HexColor("#c3c8ce"),
}


_FONTS = Path(reportlab.__file__).parent / "fonts"


@cache
def register_fonts() -> None:
    """Makes the embedded fonts known to ReportLab, once a process."""
    # Streams in binary: a fifth smaller than in ASCII 85, and several times quicker to write.
    rl_config.useA85 = 0
    for name, file in ((SANS, "Vera"), (BOLD, "VeraBd"), (ITALIC, "VeraIt"), ("Vera-BoldItalic", "VeraBI")):
        pdfmetrics.registerFont(TTFont(name, str(_FONTS / f"{file}.ttf")))
    addMapping(SANS, 0, 0, SANS)
    addMapping(SANS, 1, 0, BOLD)
    addMapping(SANS, 0, 1, ITALIC)
    addMapping(SANS, 1, 1, "Vera-BoldItalic")
    face = pdfmetrics.EmbeddedType1Face(str(_FONTS / "com_____.afm"), str(_FONTS / "com_____.pfb"))
    # Under its own name, Courier, it would be taken for one of the fourteen standard fonts and not be embedded.
    face.name = MONO
    # The ascent only places the first line of a paragraph: with the same one, digests and text share a baseline.
    face.ascent, face.descent = (round(value) for value in pdfmetrics.getAscentDescent(SANS))
    pdfmetrics.registerTypeFace(face)
    pdfmetrics.registerFont(pdfmetrics.Font(MONO, MONO, "WinAnsiEncoding"))


@cache
def _glyphs() -> frozenset[int]:
    return frozenset(TTFont(SANS, str(_FONTS / "Vera.ttf")).face.charToGlyph)


# Where `visible` notes what it wrote as its number, while somebody asks for it.
_replaced: ContextVar[set[str] | None] = ContextVar("replaced", default=None)


@contextmanager
def replacements() -> Iterator[set[str]]:
    """The characters that `visible` writes as their numbers within the block: a page that has such a number explains it."""
    noted: set[str] = set()
    token = _replaced.set(noted)
    try:
        yield noted
    finally:
        _replaced.reset(token)


def visible(text: str) -> str:
    """`text` with every character that the fonts cannot show, or that would show nothing, written as [U+XXXX].

    A box or a blank would hide that two serial numbers differ; so would a control or a direction mark.
    """
    hidden = {c for c in text if not (ord(c) in _glyphs() and c.isprintable())}
    if (noted := _replaced.get()) is not None:
        noted |= hidden
    return "".join(f"[U+{ord(c):04X}]" if c in hidden else c for c in text)


def markup(text: str) -> str:
    """Foreign text for a paragraph: visible, and never read as markup. Line breaks stay."""
    return "<br/>".join(escape(visible(line)) for line in text.splitlines())


def hexadecimal(colour: Color) -> str:
    """A colour for use in a paragraph's markup."""
    return "#" + colour.hexval()[2:]


def _style(name: str, size: float, leading: float, **values: Any) -> ParagraphStyle:
    defaults: dict[str, Any] = {"fontName": SANS, "bulletFontName": SANS, "textColor": INK, "splitLongWords": 1}
    return ParagraphStyle(name, fontSize=size, leading=leading, **(defaults | values))


BODY: Final = _style("body", 8.5, 12.4, spaceAfter=5)
SMALL: Final = _style("small", 7.2, 10)
SMALL_RIGHT: Final = _style("small-right", 7.2, 10, alignment=TA_RIGHT)
CELL: Final = _style("cell", 6.6, 9)
NOTE: Final = _style("note", 7.4, 10.4, textColor=MUTED, spaceAfter=4)
CAPTION: Final = _style("caption", 7.2, 9.8, textColor=MUTED)
LABEL: Final = _style("label", 8.2, 10.8, textColor=MUTED)
VALUE: Final = _style("value", 8.2, 10.8)
DIGEST: Final = _style("digest", 8.2, 10.8, fontName=MONO)
HEAD_CELL: Final = _style("head-cell", 7, 9, fontName=BOLD, textColor=MUTED)
HEAD_CELL_RIGHT: Final = _style("head-cell-right", 7, 9, fontName=BOLD, textColor=MUTED, alignment=TA_RIGHT)
NUMBER: Final = _style("number", 8.2, 10.8, alignment=TA_RIGHT)
TITLE: Final = _style("title", 17, 22, fontName=BOLD, textColor=ACCENT, spaceAfter=2)
SUBTITLE: Final = _style("subtitle", 9, 13, textColor=MUTED, spaceAfter=10)
HEADING: Final = _style("heading", 11.5, 15, fontName=BOLD, textColor=ACCENT, spaceBefore=15, spaceAfter=5)
SUBHEADING: Final = _style("subheading", 9, 12, fontName=BOLD, spaceBefore=9, spaceAfter=3)
