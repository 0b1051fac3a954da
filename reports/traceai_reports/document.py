"""From a story to a file: page furniture, metadata, outline, an atomic write. The same story gives the same bytes."""

import contextlib
import hashlib
import io
import os
import secrets
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from reportlab.lib.pagesizes import A4
from reportlab.pdfgen.canvas import Canvas
from reportlab.platypus import BaseDocTemplate, CondPageBreak, Flowable, Frame, PageTemplate, Paragraph

from traceai.errors import InputError
from traceai_reports.content import Issue
from traceai_reports.typography import (
    ACCENT,
    BOLD,
    HAIRLINE,
    HEADING,
    MUTED,
    SANS,
    SUBHEADING,
    markup,
    register_fonts,
    replacements,
    visible,
)

PAGE_WIDTH, PAGE_HEIGHT = A4
MARGIN = 48.0
CONTENT_WIDTH = PAGE_WIDTH - 2 * MARGIN
_TOP, _BOTTOM = 66.0, 58.0

Story = Callable[[], list[Flowable]]

_NUMBERED = "[U+\u2026] stands for a recorded character, by its number in Unicode, that the typefaces of this report cannot show."


def moment(when: datetime) -> str:
    """A time in UTC to the second, for reading."""
    return when.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S UTC")


class Heading(Paragraph):
    """A heading that is also an entry in the document's outline."""

    def __init__(self, text: str, level: int = 0) -> None:
        super().__init__(markup(text), SUBHEADING if level else HEADING)
        self._title, self._level = visible(text), level

    def draw(self) -> None:
        canvas = self.canv
        key = f"section-{canvas.getPageNumber()}-{canvas.absolutePosition(0, 0)[1]:.1f}-{self._level}"
        canvas.bookmarkHorizontal(key, 0, self.height + 6)
        canvas.addOutlineEntry(self._title, key, self._level, closed=False)
        super().draw()


class _Document(BaseDocTemplate):
    def __init__(self, target: io.BytesIO, title: str, kind: str, issue: Issue, pages: int, foot: str) -> None:
        super().__init__(
            target,
            pagesize=A4,
            title=visible(title),
            author=visible(issue.generated_by),
            subject=visible(f"{kind}, report {issue.report_id}"),
            creator=visible(issue.software_version),
            producer="traceai",
            lang="en-GB",
            displayDocTitle=True,
            invariant=1,
            pageCompression=1,
            initialFontName=SANS,
        )
        self._kind, self._issue, self._pages, self._foot = kind, issue, pages, foot
        frame = Frame(
            MARGIN,
            _BOTTOM,
            CONTENT_WIDTH,
            PAGE_HEIGHT - _TOP - _BOTTOM,
            leftPadding=0,
            rightPadding=0,
            topPadding=0,
            bottomPadding=0,
        )
        self.addPageTemplates(PageTemplate(frames=[frame], onPage=self._furnish))

    def _furnish(self, canvas: Canvas, _document: BaseDocTemplate) -> None:
        right = PAGE_WIDTH - MARGIN
        canvas.saveState()
        canvas.setFillColor(ACCENT)
        canvas.setFont(BOLD, 7.6)
        canvas.drawString(MARGIN, PAGE_HEIGHT - 40, "traceai")
        canvas.setFillColor(MUTED)
        canvas.setFont(SANS, 7.2)
        canvas.drawString(MARGIN + 38, PAGE_HEIGHT - 40, self._kind)
        canvas.drawRightString(right, PAGE_HEIGHT - 40, f"Report {visible(self._issue.report_id)}")
        canvas.setStrokeColor(HAIRLINE)
        canvas.setLineWidth(0.6)
        canvas.line(MARGIN, PAGE_HEIGHT - 47, right, PAGE_HEIGHT - 47)
        canvas.line(MARGIN, 43, right, 43)
        canvas.drawString(MARGIN, 47.5, self._foot)
        made = f"Generated {moment(self._issue.generated_at)} with {visible(self._issue.software_version)}"
        canvas.drawString(MARGIN, 31, made)
        canvas.drawRightString(right, 31, f"Page {canvas.getPageNumber()} of {self._pages}")
        canvas.restoreState()


def section(text: str, level: int = 0, *, room: float = 96) -> list[Flowable]:
    """A heading for what may break across pages; it moves on where less than `room` points are left for it."""
    return [CondPageBreak(room), Heading(text, level)]


def render(title: str, kind: str, issue: Issue, story: Story) -> bytes:
    """The PDF. `story` is called twice: the first pass only finds what every footer says, how many pages there are, and what
    [U+XXXX] stands for where a text has such a number in a character's place."""
    register_fonts()
    # ReportLab's own date in its reproducible mode is a fixed day in 2000; the time of issue is just as reproducible.
    stamp = issue.generated_at.astimezone(UTC).strftime("D:%Y%m%d%H%M%SZ")
    pages, foot, data = 0, "", b""
    for _ in range(2):
        target = io.BytesIO()
        with replacements() as numbered:
            document = _Document(target, title, kind, issue, pages, foot)
            document.build(story(), canvasmaker=_dated(stamp))
        pages, data, foot = document.page, target.getvalue(), _NUMBERED if numbered else ""
    return data


def _dated(stamp: str) -> Callable[..., Canvas]:
    def make(*args: Any, **options: Any) -> Canvas:
        canvas = Canvas(*args, **options)
        canvas.setDateFormatter(lambda *_: stamp)
        canvas.showOutline()
        return canvas

    return make


def write(out: Path, data: bytes) -> str:
    """Puts `data` at `out` whole or not at all, and returns its SHA-256 in hex.

    A crash leaves at most a hidden `.part` file beside `out`, and whatever stood at `out` before.

    Raises:
        InputError: The folder is missing or cannot be written to.
    """
    out = Path(out)
    part = out.with_name(f".{out.name}.{secrets.token_hex(4)}.part")
    try:
        with part.open("xb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        part.replace(out)
    except OSError as error:
        with contextlib.suppress(OSError):
            part.unlink(missing_ok=True)
        reason = error.strerror or str(error)
        raise InputError(
            f"The report cannot be written to {out} ({reason}); choose a folder that can be written to."
        ) from error
    return hashlib.sha256(data).hexdigest()
