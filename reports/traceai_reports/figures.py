"""Drawn facts: verdict symbols, the score against its thresholds, rates with their intervals, verdicts over time."""

import math
from collections.abc import Sequence

from reportlab.lib.colors import Color
from reportlab.pdfbase.pdfmetrics import stringWidth
from reportlab.pdfgen.canvas import Canvas
from reportlab.platypus import Flowable

from traceai.stats import Proportion, percent
from traceai_reports.content import Counts, OperatingPoint
from traceai_reports.typography import (
    ACCENT,
    BOLD,
    HAIRLINE,
    INK,
    ITALIC,
    MUTED,
    PANEL,
    SANS,
    VERDICT_COLOURS,
    VERDICT_TINTS,
    WHITE,
    visible,
)

WORDS = {"pass": "PASS", "reject": "REJECT", "undecided": "UNDECIDED", "failed": "FAILED"}


def draw_symbol(canvas: Canvas, outcome: str, x: float, y: float, size: float) -> None:
    """A shape of its own for every outcome, centred on (x, y): disc with tick, octagon with cross, diamond, square."""
    half, line = size / 2, size / 9
    canvas.saveState()
    canvas.setFillColor(VERDICT_COLOURS[outcome])
    canvas.setStrokeColor(WHITE)
    canvas.setLineWidth(line)
    canvas.setLineCap(1)
    canvas.setLineJoin(1)
    if outcome == "pass":
        canvas.circle(x, y, half, stroke=0, fill=1)
        strokes = [[(-0.24, -0.02), (-0.06, -0.2), (0.25, 0.2)]]
    elif outcome == "reject":
        _polygon(canvas, [(x + half * math.cos(a), y + half * math.sin(a)) for a in _angles(8, math.pi / 8)])
        strokes = [[(-0.19, -0.19), (0.19, 0.19)], [(-0.19, 0.19), (0.19, -0.19)]]
    elif outcome == "undecided":
        _polygon(canvas, [(x + half * math.cos(a), y + half * math.sin(a)) for a in _angles(4, 0)])
        strokes = [[(-0.18, 0), (0.18, 0)]]
    else:
        canvas.rect(x - half * 0.86, y - half * 0.86, size * 0.86, size * 0.86, stroke=0, fill=1)
        strokes = [[(0, 0.22), (0, -0.05)], [(0, -0.23), (0, -0.22)]]
    for stroke in strokes:
        path = canvas.beginPath()
        path.moveTo(x + stroke[0][0] * size, y + stroke[0][1] * size)
        for dx, dy in stroke[1:]:
            path.lineTo(x + dx * size, y + dy * size)
        canvas.drawPath(path, stroke=1, fill=0)
    canvas.restoreState()


def _angles(corners: int, start: float) -> list[float]:
    return [start + 2 * math.pi * k / corners for k in range(corners)]


def _polygon(canvas: Canvas, points: Sequence[tuple[float, float]]) -> None:
    path = canvas.beginPath()
    path.moveTo(*points[0])
    for point in points[1:]:
        path.lineTo(*point)
    path.close()
    canvas.drawPath(path, stroke=0, fill=1)


class Figure(Flowable):
    """A flowable of fixed size."""

    def __init__(self, width: float, height: float) -> None:
        super().__init__()
        self.width, self.height = width, height

    def wrap(self, *_available: float) -> tuple[float, float]:
        return self.width, self.height


class VerdictMark(Figure):
    """A small symbol and its word, for tables."""

    def __init__(self, outcome: str, size: float = 7.2, width: float = 62) -> None:
        super().__init__(width, size + 2)
        self.outcome, self.size = outcome, size

    def draw(self) -> None:
        draw_symbol(self.canv, self.outcome, self.size / 2 + 0.5, self.size / 2, self.size)
        self.canv.setFillColor(VERDICT_COLOURS[self.outcome])
        self.canv.setFont(BOLD, self.size * 0.86)
        self.canv.drawString(self.size + 4, self.size * 0.2, self.outcome)


class ScoreLine(Figure):
    """The defect score on 0 to 1, over the bands that the operating point cuts."""

    _BAR = 13.0

    def __init__(self, score: str, point: OperatingPoint, outcome: str, width: float) -> None:
        super().__init__(width, 62)
        self.score, self.point, self.outcome = score, point, outcome

    def draw(self) -> None:
        canvas, bottom = self.canv, 22.0
        low, high = (min(1.0, float(value)) for value in (self.point.pass_below, self.point.reject_at))
        for start, end, outcome in ((0.0, low, "pass"), (low, high, "undecided"), (high, 1.0, "reject")):
            if end <= start:
                continue
            canvas.setFillColor(VERDICT_TINTS[outcome])
            canvas.rect(start * self.width, bottom, (end - start) * self.width, self._BAR, stroke=0, fill=1)
            canvas.setFillColor(VERDICT_COLOURS[outcome])
            if stringWidth(outcome, BOLD, 7) + 6 < (end - start) * self.width:
                canvas.setFont(BOLD, 7)
                canvas.drawCentredString((start + end) / 2 * self.width, bottom + 4, outcome)
        self._thresholds(bottom, low, high)
        self._marker(bottom + self._BAR, min(1.0, max(0.0, float(self.score))) * self.width)

    def _thresholds(self, bottom: float, low: float, high: float) -> None:
        canvas = self.canv
        canvas.setStrokeColor(INK)
        canvas.setLineWidth(0.8)
        for at in {low, high} - {0.0, 1.0}:
            canvas.line(at * self.width, bottom - 3, at * self.width, bottom + self._BAR)
        canvas.setFont(SANS, 7)
        canvas.setFillColor(MUTED)
        canvas.drawString(0, 11, "0")
        canvas.drawRightString(self.width, 11, "1")
        canvas.setFillColor(INK)
        below, above = f"pass below {self.point.pass_below}", f"reject from {self.point.reject_at}"
        if low == high:
            self._label(f"{below}, {above}", low * self.width, 0.5)
        else:
            # The lower threshold's label ends at its line and the upper one's begins there: they cannot collide.
            self._label(below, low * self.width, 1.0)
            self._label(above, high * self.width, 0.0)

    def _label(self, text: str, x: float, anchor: float) -> None:
        """Below the bar; a line lower where it would run into the 0 or the 1 at the ends of the scale."""
        width = stringWidth(text, SANS, 7)
        start = min(max(0.0, x - anchor * width), self.width - width)
        free = start > 10 and start + width < self.width - 10
        self.canv.drawString(start, 11 if free else 2, text)

    def _marker(self, top: float, x: float) -> None:
        canvas = self.canv
        canvas.setFillColor(INK)
        _polygon(canvas, [(x, top - 1), (x - 4, top + 7), (x + 4, top + 7)])
        text = f"defect score {self.score}"
        width = stringWidth(text, BOLD, 8)
        canvas.setFont(BOLD, 8)
        canvas.drawString(min(max(0.0, x - width / 2), self.width - width), top + 11, text)


class RateChart(Figure):
    """Rates as dots with interval whiskers on one common scale; what is not estimable says so in words."""

    _ROW, _LABEL, _FIGURES = 23.0, 128.0, 132.0

    def __init__(self, rates: Sequence[tuple[str, str, Proportion]], width: float) -> None:
        super().__init__(width, self._ROW * len(rates) + 26)
        self.rates = rates
        highs = [rate.high for _, _, rate in rates if rate.high is not None]
        self.top = next((top for top in (0.01, 0.02, 0.05, 0.1, 0.2, 0.5) if max(highs, default=1) <= top), 1.0)

    def _x(self, share: float) -> float:
        return self._LABEL + share / self.top * (self.width - self._LABEL - self._FIGURES)

    def draw(self) -> None:
        canvas, floor = self.canv, 20.0
        canvas.setLineWidth(0.5)
        for k in range(6):
            share = self.top * k / 5
            canvas.setStrokeColor(HAIRLINE)
            canvas.line(self._x(share), floor, self._x(share), self.height - 4)
            canvas.setFillColor(MUTED)
            canvas.setFont(SANS, 6.6)
            canvas.drawCentredString(self._x(share), 9, f"{100 * share:g} %")
        for row, (name, meaning, rate) in enumerate(self.rates):
            y = self.height - 4 - self._ROW * (row + 0.5)
            canvas.setFillColor(INK)
            canvas.setFont(BOLD, 7.8)
            canvas.drawString(0, y + 1, name)
            canvas.setFillColor(MUTED)
            canvas.setFont(SANS, 6.6)
            canvas.drawString(0, y - 8, meaning)
            self._rate(rate, y - 2)

    def _rate(self, rate: Proportion, y: float) -> None:
        canvas = self.canv
        if rate.estimate is None or rate.low is None or rate.high is None:
            text = "not estimable"
            canvas.setFillColor(WHITE)
            canvas.rect(self._x(0) + 3, y - 4, stringWidth(text, ITALIC, 7.6) + 6, 10, stroke=0, fill=1)
            canvas.setFillColor(MUTED)
            canvas.setFont(ITALIC, 7.6)
            canvas.drawString(self._x(0) + 6, y - 2, text)
            return
        canvas.setStrokeColor(ACCENT)
        canvas.setLineWidth(1.4)
        low, high = self._x(rate.low), self._x(rate.high)
        canvas.line(low, y, high, y)
        for end in (low, high):
            canvas.line(end, y - 3.2, end, y + 3.2)
        canvas.setFillColor(ACCENT)
        canvas.circle(self._x(rate.estimate), y, 3, stroke=0, fill=1)
        canvas.setFillColor(INK)
        canvas.setFont(BOLD, 8.2)
        canvas.drawRightString(self.width - 84, y - 2.5, percent(rate.estimate))
        canvas.setFont(SANS, 7.2)
        canvas.setFillColor(MUTED)
        canvas.drawRightString(self.width, y - 2.5, f"{percent(rate.low)} to {percent(rate.high)}")


class OutcomeChart(Figure):
    """Inspections by period as stacked bars, errors of the camera included; the legend names every colour."""

    _LEFT, _FLOOR = 34.0, 34.0
    _ORDER = ("pass", "undecided", "reject", "failed")

    def __init__(self, periods: Sequence[Counts], width: float, height: float = 158) -> None:
        super().__init__(width, height)
        self.periods = periods
        largest = max(period.total for period in periods)
        step = 10 ** math.floor(math.log10(max(1, largest)))
        self.step = next(s for s in (step / 5, step / 2, step, 2 * step) if largest / s <= 5)
        self.step = max(1, math.ceil(self.step))
        self.top = self.step * math.ceil(max(1, largest) / self.step)

    def draw(self) -> None:
        canvas = self.canv
        ceiling = self.height - 18
        scale = (ceiling - self._FLOOR) / self.top
        self._legend()
        canvas.setLineWidth(0.5)
        for value in range(0, self.top + 1, self.step):
            y = self._FLOOR + value * scale
            canvas.setStrokeColor(HAIRLINE)
            canvas.line(self._LEFT, y, self.width, y)
            canvas.setFillColor(MUTED)
            canvas.setFont(SANS, 6.6)
            canvas.drawRightString(self._LEFT - 5, y - 2.3, f"{value}")
        pitch = (self.width - self._LEFT) / len(self.periods)
        bar = min(34.0, pitch * 0.68)
        widest = max(stringWidth(visible(period.label), SANS, 6.6) for period in self.periods)
        every = max(1, math.ceil((widest + 6) / pitch))
        for k, period in enumerate(self.periods):
            x, y = self._LEFT + pitch * (k + 0.5), self._FLOOR
            counts = (period.passed, period.undecided, period.rejected, period.failed)
            for outcome, count in zip(self._ORDER, counts, strict=True):
                canvas.setFillColor(_bar_colour(outcome))
                canvas.rect(x - bar / 2, y, bar, count * scale, stroke=0, fill=1)
                y += count * scale
            if k % every == 0:
                canvas.setFillColor(MUTED)
                canvas.setFont(SANS, 6.6)
                canvas.drawCentredString(x, self._FLOOR - 11, visible(period.label))

    def _legend(self) -> None:
        canvas, x = self.canv, self._LEFT
        for outcome in self._ORDER:
            canvas.setFillColor(_bar_colour(outcome))
            canvas.rect(x, self.height - 9, 7, 7, stroke=0, fill=1)
            canvas.setFillColor(INK)
            canvas.setFont(SANS, 7)
            canvas.drawString(x + 11, self.height - 8, outcome)
            x += 24 + stringWidth(outcome, SANS, 7)


def _bar_colour(outcome: str) -> Color:
    """Passes are the many: light, so that the few others stand out."""
    return VERDICT_TINTS["pass"] if outcome == "pass" else VERDICT_COLOURS[outcome]


class Banner(Figure):
    """The outcome, large: symbol, word, and a line of what it rests on."""

    def __init__(self, outcome: str, line: str, width: float) -> None:
        super().__init__(width, 58)
        self.outcome, self.line = outcome, line

    def draw(self) -> None:
        canvas, colour = self.canv, VERDICT_COLOURS[self.outcome]
        canvas.setFillColor(PANEL)
        canvas.rect(0, 0, self.width, self.height, stroke=0, fill=1)
        canvas.setFillColor(colour)
        canvas.rect(0, 0, 5, self.height, stroke=0, fill=1)
        draw_symbol(canvas, self.outcome, 36, self.height / 2, 36)
        canvas.setFillColor(colour)
        canvas.setFont(BOLD, 23)
        canvas.drawString(66, 27, WORDS[self.outcome])
        canvas.setFillColor(INK)
        canvas.setFont(SANS, 8.4)
        canvas.drawString(67, 12, self.line)


class Tiles(Figure):
    """The headline counts in a row, each with its symbol."""

    def __init__(self, tiles: Sequence[tuple[str, str, int]], width: float) -> None:
        super().__init__(width, 50)
        self.tiles = tiles

    def draw(self) -> None:
        canvas, gap = self.canv, 8.0
        width = (self.width - gap * (len(self.tiles) - 1)) / len(self.tiles)
        for k, (outcome, name, count) in enumerate(self.tiles):
            x, known = k * (width + gap), outcome in VERDICT_COLOURS
            canvas.setFillColor(PANEL)
            canvas.rect(x, 0, width, self.height, stroke=0, fill=1)
            canvas.setFillColor(VERDICT_COLOURS[outcome] if known else ACCENT)
            canvas.rect(x, self.height - 2.5, width, 2.5, stroke=0, fill=1)
            figure = f"{count:,}"
            size = min(17.0, 17.0 * (width - 18) / stringWidth(figure, BOLD, 17))
            canvas.setFillColor(INK)
            canvas.setFont(BOLD, size)
            canvas.drawString(x + 9, 22, figure)
            canvas.setFillColor(MUTED)
            canvas.setFont(SANS, 7.4)
            start = x + 9
            if known:
                draw_symbol(canvas, outcome, x + 13, 12, 8)
                start += 13
            canvas.drawString(start, 9.4, name)
