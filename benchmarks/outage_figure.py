"""The picture of an outage: throughput, what the line waits, and what waits in the spool, over one time axis."""

import math
import re
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from reportlab.graphics import renderSVG
from reportlab.graphics.shapes import Drawing, Line, Polygon, PolyLine, Rect, String
from reportlab.lib.colors import Color, HexColor
from reportlab.pdfbase.pdfmetrics import stringWidth

if TYPE_CHECKING:
    from benchmarks.outage import Run

TITLE = "The database goes away for six seconds; the line keeps its pace"
SUBTITLE = (
    "Two processes hand in 400 decisions a second. What the ledger cannot take is kept on disk, and delivered in order."
)
WIDTH, HEIGHT = 860, 690
LEFT, RIGHT = 84, 24
# Seconds a bin of the upper two panels, and between two looks at the backlog.
BIN, LOOK = 0.5, 0.1

# Two of Okabe and Ito's colours, which stay apart for every kind of colour vision; in grey one is dark and one is half as dark.
BLUE, ORANGE = HexColor("#0072B2"), HexColor("#D55E00")
INK, AXIS, FAINT = HexColor("#222222"), HexColor("#666666"), HexColor("#DDDDDD")
PAPER, SHADE, FILL = HexColor("#FFFFFF"), HexColor("#EFEFEF"), HexColor("#F3C9A8")
FONT, BOLD = "Helvetica", "Helvetica-Bold"


def draw(run: "Run", path: Path) -> Drawing:
    """Write the picture as SVG. Returns the drawing, which other formats can be made of."""
    drawing = picture(run)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(_tidy(renderSVG.drawToString(drawing)))
    return drawing


def _tidy(svg: str) -> str:
    """Fonts as browsers know them, a title for who cannot see it, and no more digits than a screen has."""
    sans = "font-family: Helvetica, Arial, sans-serif"
    svg = svg.replace("font-family: Helvetica-Bold", f"{sans}; font-weight: bold")
    svg = svg.replace("font-family: Helvetica;", f"{sans};")
    svg = svg.replace("<title>...</title>", f"<title>{TITLE}</title>").replace(
        "<desc>...</desc>", f"<desc>{SUBTITLE}</desc>"
    )
    svg = svg.replace(": None;", ": none;")  # not every reader takes it in capitals, and a line is no area
    return re.sub(r"(\d+\.\d)\d+", r"\1", svg)


def picture(run: "Run") -> Drawing:
    drawing = Drawing(WIDTH, HEIGHT)
    drawing.add(Rect(0, 0, WIDTH, HEIGHT, fillColor=PAPER, strokeColor=None))
    _text(drawing, LEFT, HEIGHT - 30, TITLE, 16, font=BOLD)
    _text(drawing, LEFT, HEIGHT - 50, SUBTITLE, 11, AXIS)
    _throughput(drawing, run)
    _waits(drawing, run, _Panel(bottom=232, height=156, top=1000, seconds=run.seconds, bottom_value=0.1))
    _backlog(drawing, run)
    return drawing


@dataclass(frozen=True)
class _Panel:
    """A rectangle with a value axis from `bottom_value` (above 0: a logarithmic one) to `top`, and a time axis of `seconds`."""

    bottom: float
    height: float
    top: float
    seconds: float
    bottom_value: float = 0

    def x(self, seconds: float) -> float:
        return LEFT + (WIDTH - LEFT - RIGHT) * seconds / self.seconds

    def y(self, value: float) -> float:
        if self.bottom_value:
            share = math.log(max(value, self.bottom_value) / self.bottom_value) / math.log(self.top / self.bottom_value)
        else:
            share = value / self.top
        return self.bottom + self.height * min(share, 1.0)

    def frame(self, drawing: Drawing, run: "Run", title: str, ticks: Sequence[float], labelled: bool = False) -> None:
        """Outage, grid, axes and title; the seconds are written under it where it is `labelled`."""
        start, end = self.x(run.gone), self.x(run.back)
        drawing.add(Rect(start, self.bottom, end - start, self.height, fillColor=SHADE, strokeColor=None))
        for value in ticks:
            drawing.add(Line(LEFT, self.y(value), WIDTH - RIGHT, self.y(value), strokeColor=FAINT, strokeWidth=0.7))
            _text(drawing, LEFT - 8, self.y(value) - 3.5, f"{value:,g}", 10, AXIS, "end")
        drawing.add(Line(LEFT, self.bottom, WIDTH - RIGHT, self.bottom, strokeColor=AXIS, strokeWidth=1))
        for edge in (start, end):
            drawing.add(
                Line(edge, self.bottom, edge, self.bottom + self.height, strokeColor=AXIS, strokeWidth=0.8,
                     strokeDashArray=[2, 3])
            )  # fmt: skip
        for second in range(0, round(self.seconds) + 1):
            length = 5 if second % 5 == 0 else 3
            drawing.add(
                Line(
                    self.x(second), self.bottom, self.x(second), self.bottom - length, strokeColor=AXIS, strokeWidth=0.8
                )
            )
            if labelled and second % 5 == 0:
                _text(drawing, self.x(second), self.bottom - 18, str(second), 10, AXIS, "middle")
        _text(drawing, LEFT, self.bottom + self.height + 9, title, 11.5, font=BOLD)

    def line(
        self,
        drawing: Drawing,
        points: Sequence[tuple[float, float]],
        color: Color,
        width: float,
        dash: Sequence[int] | None = None,
    ) -> None:
        flat = [place for seconds, value in points for place in (self.x(seconds), self.y(value))]
        drawing.add(
            PolyLine(
                flat, strokeColor=color, strokeWidth=width, strokeDashArray=dash, strokeLineJoin=1, strokeLineCap=0
            )
        )


def _text(
    drawing: Drawing,
    x: float,
    y: float,
    text: str,
    size: float,
    color: Color = INK,
    anchor: str = "start",
    font: str = FONT,
) -> None:
    drawing.add(String(x, y, text, fontName=font, fontSize=size, fillColor=color, textAnchor=anchor))


def _label(
    drawing: Drawing, x: float, y: float, text: str, color: Color, anchor: str = "start", font: str = BOLD
) -> None:
    """A text beside what it names, on white, so that no line of the grid goes through it."""
    width = stringWidth(text, font, 11)
    start = x - {"start": 0, "end": width}[anchor]
    drawing.add(Rect(start - 3, y - 3, width + 6, 14, fillColor=PAPER, strokeColor=None))
    _text(drawing, x, y, text, 11, color, anchor, font)


def _bins(run: "Run", moment: Callable[..., float]) -> list[float]:
    """Decisions a second in each bin."""
    counts = [0] * round(run.seconds / BIN)
    for one in run.decisions:
        if 0 <= moment(one) < len(counts) * BIN:
            counts[int(moment(one) / BIN)] += 1
    return [count / BIN for count in counts]


def _steps(values: Sequence[float]) -> list[tuple[float, float]]:
    return [(edge * BIN, value) for number, value in enumerate(values) for edge in (number, number + 1)]


def _throughput(drawing: Drawing, run: "Run") -> None:
    told, recorded = _bins(run, lambda one: one.told), _bins(run, lambda one: one.recorded)
    step = next(step for step in (500, 1000, 2000, 5000, 10_000) if max(recorded) < 5 * step)
    panel = _Panel(bottom=438, height=156, top=math.ceil(max(recorded) * 1.05 / step) * step, seconds=run.seconds)
    panel.frame(drawing, run, "Decisions a second", [float(v) for v in range(0, round(panel.top) + 1, step)])
    panel.line(drawing, _steps(recorded), ORANGE, 1.8)
    panel.line(drawing, _steps(told), BLUE, 2.6)
    middle = (run.gone + run.back) / 2
    _text(drawing, panel.x(middle), panel.bottom + panel.height - 16, "database away", 11, AXIS, "middle")
    highest = max(told[int(run.gone / BIN) : int(run.back / BIN) + 1])
    _text(drawing, panel.x(middle), panel.y(highest) + 7, "acknowledged to the line", 11, BLUE, "middle", BOLD)
    peak = max(recorded)
    end = max(number for number, value in enumerate(recorded) if value > peak / 2) + 1
    _label(drawing, panel.x(end * BIN) + 10, panel.y(peak) - 4, "recorded in the ledger", ORANGE)


def _waits(drawing: Drawing, run: "Run", panel: _Panel) -> None:
    panel.frame(
        drawing, run, "What the line waits for an answer, in milliseconds (logarithmic)", (0.1, 1, 10, 100, 1000)
    )
    waits: list[list[float]] = [[] for _ in range(round(run.seconds / BIN))]
    for one in run.decisions:
        waits[min(int(one.at / BIN), len(waits) - 1)].append((one.told - one.at) * 1e3)
    half = [statistics.median(found) for found in waits]
    most = [statistics.quantiles(found, n=100)[98] for found in waits]
    panel.line(drawing, _steps(most), BLUE, 1.6, [5, 3])
    panel.line(drawing, _steps(half), BLUE, 2.6)
    last = panel.x(run.seconds) - 4
    _label(drawing, last, panel.y(max(most[-6:])) + 7, "99 of 100 wait less", BLUE, "end", FONT)
    _label(drawing, last, panel.y(min(half[-6:])) - 16, "half wait less", BLUE, "end")


def _backlog(drawing: Drawing, run: "Run") -> None:
    moments = [number * LOOK for number in range(round(run.seconds / LOOK) + 1)]
    found = [run.backlog(moment) for moment in moments]
    most = max(found)
    panel = _Panel(bottom=66, height=116, top=math.ceil(most * 1.15 / 1000) * 1000, seconds=run.seconds)
    panel.frame(
        drawing,
        run,
        "Decisions that wait in the spool",
        [float(v) for v in range(0, round(panel.top) + 1, 1000)],
        labelled=True,
    )
    points = list(zip(moments, found, strict=True))
    flat = [place for seconds, value in points for place in (panel.x(seconds), panel.y(value))]
    base = panel.y(0)
    drawing.add(Polygon([panel.x(0), base, *flat, panel.x(run.seconds), base], fillColor=FILL, strokeColor=None))
    panel.line(drawing, points, ORANGE, 1.8)
    drawing.add(Line(LEFT, base, WIDTH - RIGHT, base, strokeColor=AXIS, strokeWidth=1))
    beside = panel.x(run.caught_up) + 10
    _label(drawing, beside, panel.y(most * 0.55), f"all delivered {run.caught_up - run.back:.1f} s", ORANGE)
    _label(drawing, beside, panel.y(most * 0.55) - 14, "after the database is back", ORANGE)
    _text(drawing, (LEFT + WIDTH - RIGHT) / 2, panel.bottom - 40, "time, in seconds", 11, AXIS, "middle")
