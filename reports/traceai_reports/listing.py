"""The long tables of an audit report: decisions, and failed inspections."""

from collections.abc import Sequence
from datetime import UTC, datetime

from reportlab.pdfbase.pdfmetrics import stringWidth
from reportlab.platypus import Flowable, Paragraph, Table

from traceai_reports.blocks import grid, text
from traceai_reports.content import DecisionRow, FailedInspection, Unreadable
from traceai_reports.document import CONTENT_WIDTH
from traceai_reports.figures import VerdictMark
from traceai_reports.provenance import alert
from traceai_reports.typography import ALERT_PANEL, CELL, MONO, SANS, markup, visible

_SIZE = CELL.fontSize
_FONT = ("FONT", (0, 1), (-1, -1), SANS, CELL.fontSize, CELL.leading)


def _time(when: datetime) -> str:
    return when.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S")


def _part(row: DecisionRow) -> str:
    return visible(", ".join(value for value in (row.serial, row.lot) if value)) or "\u2013"


def _found(row: DecisionRow) -> str:
    if row.unread is not None:
        return f"entry {row.unread.ledger_index} unreadable"
    if row.truth is None:
        return ""
    found = f"{row.truth}, {row.defect_type}" if row.defect_type else row.truth
    return f"{found} SIMULATED" if row.simulated else found


def _fitting(shown: str, width: float) -> Flowable | str:
    """Text as it is where it fits on one line, and as a wrapping paragraph where it does not."""
    return shown if stringWidth(shown, SANS, _SIZE) <= width - 6 else text(shown, CELL)


def _truth(row: DecisionRow) -> Flowable | str:
    found = markup(_found(row))
    if row.error or row.unread:
        found = alert(found)
    return Paragraph(found, CELL) if found else ""


def _unread(at: Unreadable, columns: int) -> list[Flowable | str]:
    """A line that only says where its entry should be."""
    sentence = alert("This entry is gone, was altered, or is no inspection; what it said is not known.")
    return [f"{at.ledger_index}", Paragraph(sentence, CELL), *[""] * (columns - 2)]


def _widths(texts: Sequence[Sequence[str]], available: float) -> list[float]:
    """Widths for columns of text: each what it needs, the widest cut first where that is more than there is."""
    needed = [max(stringWidth(value, SANS, _SIZE) for value in column) + 8 for column in texts]
    spare, widths = available, [0.0] * len(needed)
    for left, k in zip(range(len(needed), 0, -1), sorted(range(len(needed)), key=needed.__getitem__), strict=True):
        widths[k] = min(needed[k], spare / left)
        spare -= widths[k]
    return [width + spare / len(widths) for width in widths]


def decision_table(lines: Sequence[DecisionRow | Unreadable]) -> Table:
    """One line a decision; the head repeats on every page. The model has a column only where there are several."""
    rows = [line for line in lines if isinstance(line, DecisionRow)]
    several = len({row.model for row in rows}) > 1
    fixed = {"Index": 33.0, "Occurred": 76.0, "Verdict": 50.0, "Score": 39.0, "D": 11.0, "Id ends": 36.0}
    texts = {
        "Station, no.": ["Station, no.", *(visible(f"{row.station}, {row.station_seq}") for row in rows)],
        "Serial, lot": ["Serial, lot", *(_part(row) for row in rows)],
        "Model": ["Model", *(visible(row.model) for row in rows)],
        "Truth": ["defective", *(visible(_found(row)) for row in rows)],
    }
    if not several:
        del texts["Model"]
    flexible = dict(zip(texts, _widths(list(texts.values()), CONTENT_WIDTH - sum(fixed.values())), strict=True))
    head = ("Index", "Occurred", *list(texts)[:-1], "Verdict", "Score", "D", "Truth", "Id ends")
    widths = [(fixed | flexible)[name] for name in head]
    cells: list[list[Flowable | str]] = []
    shaded: list[tuple[object, ...]] = []
    last, readable = len(head) - 1, 0
    for line, row in enumerate(lines, start=1):
        if isinstance(row, Unreadable):
            cells.append(_unread(row, len(head)))
            shaded += [("BACKGROUND", (0, line), (-1, line), ALERT_PANEL), ("SPAN", (1, line), (last, line))]
            continue
        readable += 1
        cells.append(
            [
                f"{row.ledger_index}",
                _time(row.occurred_at),
                *(_fitting(texts[name][readable], flexible[name]) for name in list(texts)[:-1]),
                VerdictMark(row.verdict or "failed", 6.2, 44),
                row.defect_score or "\u2013",
                "D" if row.drawn else "",
                _truth(row),
                row.id[-8:],
            ]
        )
        if row.error:
            shaded.append(("BACKGROUND", (0, line), (-1, line), ALERT_PANEL))
    identifiers = ("FONT", (last, 1), (last, -1), MONO, CELL.fontSize, CELL.leading)
    return grid(head, cells, widths, _FONT, identifiers, *shaded, right=(0, head.index("Score")), padding=2)


def failed_table(lines: Sequence[FailedInspection | Unreadable]) -> Table:
    head = ("Index", "Occurred", "Station", "Serial", "Failure")
    widths = (36.0, 84.0, 66.0, 78.0, CONTENT_WIDTH - 264)
    cells: list[list[Flowable | str]] = [
        _unread(row, len(head))
        if isinstance(row, Unreadable)
        else [
            f"{row.ledger_index}",
            _time(row.occurred_at),
            _fitting(visible(row.station), widths[2]),
            _fitting(visible(row.serial or "\u2013"), widths[3]),
            Paragraph(f"<b>{markup(row.failure.code)}</b>: {markup(row.failure.sentence)}", CELL),
        ]
        for row in lines
    ]
    spans = [("SPAN", (1, k), (-1, k)) for k, row in enumerate(lines, start=1) if isinstance(row, Unreadable)]
    return grid(head, cells, widths, _FONT, *spans, right=(0,), padding=2)
