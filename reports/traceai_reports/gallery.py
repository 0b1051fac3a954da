"""Verified errors as pictures: false negatives first, for they are what a customer meets."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from reportlab.platypus import Flowable, KeepTogether, Paragraph, Spacer

from traceai_reports.blocks import layout, prose
from traceai_reports.content import VerifiedError
from traceai_reports.document import CONTENT_WIDTH, Heading, moment
from traceai_reports.pictures import Picture, Plate
from traceai_reports.typography import ALERT, BOLD, CAPTION, HAIRLINE, hexadecimal, markup

_GUTTER = 15.0
_CARD = (CONTENT_WIDTH - _GUTTER) / 2
_THUMB = (_CARD - 6) / 2
_TITLES = {
    "false negative": "False negatives: defective parts that were passed",
    "false positive": "False positives: good parts that were rejected",
}


@dataclass(frozen=True)
class Gallery:
    """Errors with their pictures already reduced, so that both passes of a report draw the same ones."""

    entries: tuple[tuple[VerifiedError, Picture, Picture], ...]

    @classmethod
    def load(cls, errors: Sequence[VerifiedError]) -> "Gallery":
        ordered = sorted(errors, key=lambda error: error.row.ledger_index)
        return cls(
            tuple(
                (
                    error,
                    Picture.load(error.image, longest=320, missing="no image is stored"),
                    Picture.load(error.overlay, longest=320, missing="no heat map can be drawn"),
                )
                for error in ordered
            )
        )

    def cards(self, found: Mapping[str, int]) -> list[Flowable]:
        """Two cards a row, each with image and heat map side by side.

        found: how many errors there are of each kind; those without a card are counted in the headings.
        """
        story: list[Flowable] = []
        for kind, title in _TITLES.items():
            cards = [_card(*entry) for entry in self.entries if entry[0].row.error == kind]
            rows = [_row(cards[k : k + 2]) for k in range(0, len(cards), 2)]
            total = found.get(kind, 0)
            if total:
                counted = f"{total:,}" if len(cards) == total else f"{len(cards):,} of {total:,}"
                story += [KeepTogether([Heading(f"{title} ({counted})", 1), Spacer(0, 2), *rows[:1]]), *rows[1:]]
        if story:
            story.append(prose("Left the image, right the heat map of the same forward pass.", style=CAPTION))
        return story


def _row(cards: Sequence[Flowable]) -> Flowable:
    pair: list[Flowable | str] = [cards[0], "", cards[1] if len(cards) > 1 else ""]
    return layout([pair], (_CARD, _GUTTER, _CARD), ("BOTTOMPADDING", (0, 0), (-1, -1), 10))


def _card(error: VerifiedError, image: Picture, overlay: Picture) -> Flowable:
    row = error.row
    truth = f"{row.truth}, {row.defect_type}" if row.defect_type else f"{row.truth}"
    part = ", ".join(value for value in (row.serial, row.lot) if value) or "no serial number"
    simulated = f' <font name="{BOLD}" color="{hexadecimal(ALERT)}">SIMULATED</font>' if row.simulated else ""
    lines = [
        f"<b>{markup(part)}</b>",
        f"Index {row.ledger_index}, {markup(row.station)} {row.station_seq}, {moment(row.occurred_at)}",
        f"Verdict <b>{row.verdict}</b>, score {markup(row.defect_score or '–')}, {markup(row.model)}",
        f"Truth <b>{markup(truth)}</b>, found by {markup(error.reviewer)}{simulated}",
    ]
    if error.note:
        lines.append(markup(error.note if len(error.note) <= 240 else f"{error.note[:239]}\u2026"))
    height = _THUMB * 0.78
    return layout(
        [
            [Plate(image, _THUMB, height), "", Plate(overlay, _THUMB, height)],
            [Paragraph("<br/>".join(lines), CAPTION), "", ""],
        ],
        (_THUMB, 6, _THUMB),
        ("SPAN", (0, 1), (2, 1)),
        ("TOPPADDING", (0, 1), (-1, 1), 4),
        ("BOTTOMPADDING", (0, 1), (-1, 1), 5),
        ("LINEBELOW", (0, 1), (-1, 1), 0.4, HAIRLINE),
    )
