"""Building blocks that every report shares: fact lists, tables, callouts."""

from collections.abc import Iterable, Sequence
from typing import Any

from reportlab.lib.styles import ParagraphStyle
from reportlab.pdfbase.pdfmetrics import stringWidth
from reportlab.platypus import Flowable, KeepTogether, Paragraph, Spacer, Table, TableStyle

from traceai_reports.document import CONTENT_WIDTH
from traceai_reports.typography import (
    ACCENT,
    ALERT,
    ALERT_PANEL,
    BODY,
    BOLD,
    DIGEST,
    HAIRLINE,
    HEAD_CELL,
    HEAD_CELL_RIGHT,
    INK,
    LABEL,
    MONO,
    MUTED,
    PANEL,
    SANS,
    SMALL,
    VALUE,
    hexadecimal,
    markup,
    visible,
)

LABEL_WIDTH = 124.0

# A label and its value. Strings are foreign text, flowables and labels are the report's own.
Fact = tuple[str, Flowable | str | None]


def text(value: object, style: ParagraphStyle = VALUE) -> Paragraph:
    """Foreign text as a paragraph."""
    return Paragraph(markup(str(value)), style)


def prose(*sentences: str, style: ParagraphStyle = BODY) -> Paragraph:
    """The report's own words. They may carry markup, so foreign text must pass through `markup` first."""
    return Paragraph(" ".join(sentences), style)


def or_missing(value: object) -> Paragraph:
    """A value, or in grey that there is none on record."""
    if value is None or value == "":
        return Paragraph("not recorded", LABEL)
    return text(value)


def digest(value: str | None) -> Paragraph:
    """A digest in a fixed-width face; it wraps where the column ends."""
    return or_missing(None) if value is None else text(value, DIGEST)


def layout(cells: Iterable[Sequence[Flowable | str]], widths: Sequence[float], *commands: Any, head: int = 0) -> Table:
    """A table without lines or padding, set in our own font: ReportLab's default one would not be embedded.

    `head` rows repeat on every page, and a row that is taller than a page breaks inside.
    """
    table = Table([list(row) for row in cells], colWidths=list(widths), repeatRows=head, hAlign="LEFT", splitInRow=1)
    table.setStyle(
        TableStyle(
            [
                ("FONT", (0, 0), (-1, -1), SANS, SMALL.fontSize, SMALL.leading),
                ("TEXTCOLOR", (0, 0), (-1, -1), INK),
                ("VALIGN", (0, 0), (-1, -1), "TOP"),
                ("LEFTPADDING", (0, 0), (-1, -1), 0),
                ("RIGHTPADDING", (0, 0), (-1, -1), 0),
                ("TOPPADDING", (0, 0), (-1, -1), 0),
                ("BOTTOMPADDING", (0, 0), (-1, -1), 0),
                *commands,
            ]
        )
    )
    return table


def facts(rows: Iterable[Fact]) -> Table:
    """Labels and values in two columns, a hairline under each. A value of None is printed as not recorded."""
    cells = [
        [Paragraph(name, LABEL), value if isinstance(value, Flowable) else or_missing(value)] for name, value in rows
    ]
    return layout(
        cells,
        (LABEL_WIDTH, CONTENT_WIDTH - LABEL_WIDTH),
        ("RIGHTPADDING", (0, 0), (0, -1), 6),
        ("TOPPADDING", (0, 0), (-1, -1), 2.6),
        ("BOTTOMPADDING", (0, 0), (-1, -1), 2.8),
        ("LINEBELOW", (0, 0), (-1, -1), 0.4, HAIRLINE),
    )


def grid(
    head: Sequence[str],
    rows: Sequence[Sequence[Flowable | str]],
    widths: Sequence[float],
    *commands: Any,
    right: Sequence[int] = (),
    padding: float = 3.2,
) -> Table:
    """A table whose head repeats on every page. `right` are the columns that hold numbers."""
    header = [Paragraph(name, HEAD_CELL_RIGHT if k in right else HEAD_CELL) for k, name in enumerate(head)]
    return layout(
        [header, *rows],
        widths,
        ("VALIGN", (0, 0), (-1, 0), "BOTTOM"),
        ("LEFTPADDING", (1, 0), (-1, -1), 3),
        ("RIGHTPADDING", (0, 0), (-2, -1), 3),
        ("TOPPADDING", (0, 0), (-1, -1), padding),
        ("BOTTOMPADDING", (0, 0), (-1, -1), padding),
        ("LINEBELOW", (0, 0), (-1, 0), 0.9, ACCENT),
        ("LINEBELOW", (0, 1), (-1, -1), 0.4, HAIRLINE),
        *(("ALIGN", (column, 0), (column, -1), "RIGHT") for column in right),
        *commands,
        head=1,
    )


def callout(title: str, body: str, *, alert: bool = False) -> Flowable:
    """A boxed statement that must not be overlooked. Both texts are the report's own and may carry markup."""
    colour = ALERT if alert else ACCENT
    heading = Paragraph(f'<font name="{BOLD}" color="{hexadecimal(colour)}">{title}</font>', BODY)
    table = layout(
        [["", heading], ["", Paragraph(body, BODY)]],
        (4, CONTENT_WIDTH - 4),
        ("BACKGROUND", (0, 0), (0, -1), colour),
        ("BACKGROUND", (1, 0), (1, -1), ALERT_PANEL if alert else PANEL),
        ("LEFTPADDING", (1, 0), (1, -1), 12),
        ("RIGHTPADDING", (1, 0), (1, -1), 12),
        ("TOPPADDING", (0, 0), (-1, 0), 7),
        ("BOTTOMPADDING", (0, 0), (-1, 0), 2),
        ("BOTTOMPADDING", (0, 1), (-1, 1), 8),
    )
    return KeepTogether([Spacer(0, 4), table, Spacer(0, 6)])


def key(value: str) -> Paragraph:
    """A verifier key, on one line where it can be."""
    return text(value, _on_one_line([value], CONTENT_WIDTH - LABEL_WIDTH, DIGEST.fontSize))


def verbatim(value: str) -> Flowable:
    """Foreign lines as they are, one below the other, to be copied."""
    lines = value.splitlines()
    style = _on_one_line(lines, CONTENT_WIDTH - 20, 7.6)
    return layout(
        [[text(line, style) if line else Spacer(0, style.leading)] for line in lines],
        (CONTENT_WIDTH,),
        ("BACKGROUND", (0, 0), (-1, -1), PANEL),
        ("LEFTPADDING", (0, 0), (-1, -1), 10),
        ("RIGHTPADDING", (0, 0), (-1, -1), 10),
        ("TOPPADDING", (0, 0), (-1, 0), 6),
        ("BOTTOMPADDING", (0, -1), (-1, -1), 7),
    )


def _on_one_line(lines: Sequence[str], width: float, largest: float) -> ParagraphStyle:
    """The fixed-width style in which the longest of these fits; below what can be read, it wraps all the same."""
    # The fixed-width face has the characters of Windows-1252 alone.
    font = MONO if all(line == line.encode("cp1252", "replace").decode("cp1252") for line in lines) else SANS
    widest = max(stringWidth(visible(line), font, 1) for line in lines)
    size = min(largest, max(5.0, (width - 1) / widest))
    return ParagraphStyle("verbatim", parent=DIGEST, fontName=font, fontSize=size, leading=1.35 * size)


def bullets(items: Iterable[str]) -> list[Flowable]:
    """The report's own sentences as a list."""
    style = ParagraphStyle("bullet", parent=BODY, leftIndent=11, bulletIndent=1, bulletColor=MUTED, spaceAfter=3.4)
    return [Paragraph(item, style, bulletText="\u2022") for item in items]
