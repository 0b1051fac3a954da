"""The report on one decision, or on one inspection that failed."""

from decimal import Decimal
from pathlib import Path

from reportlab.platypus import Flowable, KeepTogether, Paragraph, Spacer

from traceai.clock import timestamp
from traceai_reports.blocks import Fact, bullets, callout, digest, facts, grid, layout, or_missing, prose, text
from traceai_reports.content import DecisionReport, Explanation, OperatingPoint, Review, Signature, Unreadable
from traceai_reports.document import CONTENT_WIDTH, Heading, moment, render, section, write
from traceai_reports.figures import Banner, ScoreLine
from traceai_reports.pictures import Picture, Plate
from traceai_reports.provenance import (
    alert,
    evaluation,
    explanations,
    ledger,
    lineage,
    model_identity,
    not_approved,
    not_quoted,
    unread,
)
from traceai_reports.typography import CAPTION, NOTE, NUMBER, SMALL, SUBTITLE, TITLE, VALUE, markup

_KIND = "Inspection decision"
_SUMMED = (
    "The defect score is the sum of the scores of all classes that count as defects, summed before rounding. The verdict "
    "follows from it and the operating point alone, whichever class has the highest score."
)
# How many reviews the box at the top shows; all of them stand in the table.
_BOXED = 6
_GAP = 14.0
_PLATE = (CONTENT_WIDTH - _GAP) / 2


def decision_report(content: DecisionReport, out: Path) -> str:
    """Writes the PDF to `out`, whole or not at all, and returns its SHA-256 in hex. Equal content gives equal bytes.

    Raises:
        InputError: `out` lies in a folder that is missing or cannot be written to.
    """
    explanation = content.explanation
    image = Picture.load(content.image.data, longest=1200, missing="no image is stored")
    overlay = Picture.load(
        explanation.overlay if explanation else None, longest=1200, missing="no heat map can be drawn"
    )

    def story() -> list[Flowable]:
        return [
            *_opening(content, image, overlay),
            *_inspection(content),
            *_image(content),
            *_explanation(content),
            *_model(content),
            *_truth(content),
            *section("Ledger"),
            *ledger(
                content.ledger,
                [("Entry", f"index {content.ledger_index:,}"), ("Leaf hash", digest(content.leaf_hash))],
                content.ledger_index,
            ),
            *_environment(content),
            *_limits(content),
        ]

    name = content.part.serial or content.id
    return write(out, render(f"Inspection decision: {name}", _KIND, content.issue, story))


def _opening(content: DecisionReport, image: Picture, overlay: Picture) -> list[Flowable]:
    part = content.part
    known = (("serial", part.serial), ("lot", part.lot), ("product", part.product), ("station", content.station))
    where = " \u00b7 ".join(f"{name} <b>{markup(value)}</b>" for name, value in known if value)
    story: list[Flowable] = [
        Paragraph("Inspection decision" if content.verdict else "Failed inspection", TITLE),
        Paragraph(f"{where} \u00b7 {moment(content.occurred_at)}", SUBTITLE),
        Banner(content.verdict or "failed", _because(content), CONTENT_WIDTH),
        Spacer(0, 6),
        *_warnings(content),
    ]
    if content.failure is not None:
        story.append(callout(f"Failure: {markup(content.failure.code)}", markup(content.failure.sentence), alert=True))
    if image.reader is not None or overlay.reader is not None or content.verdict is not None:
        story += [Spacer(0, 4), _plates(content, image, overlay)]
    if content.defect_score is not None and content.operating_point is not None and content.verdict is not None:
        line = ScoreLine(content.defect_score, content.operating_point, content.verdict, CONTENT_WIDTH)
        note = prose(_SUMMED, style=NOTE)
        story.append(KeepTogether([Heading("Score and operating point"), Spacer(0, 4), line, Spacer(0, 2), note]))
    if content.scores:
        story += _scores(content)
    return story


def _because(content: DecisionReport) -> str:
    score, point = content.defect_score, content.operating_point
    if content.failure is not None:
        return "The inspection came to no verdict. A failed inspection never passes a part."
    if score is None:
        return "The model has no good class: it can name a defect, but it can never pass a part."
    if point is None:
        return f"Defect score {score}; no operating point is recorded."
    if content.verdict == "pass":
        return f"The defect score {score} lies below the pass threshold {point.pass_below}."
    if content.verdict == "reject":
        return f"The defect score {score} reaches the reject threshold {point.reject_at}."
    return f"The defect score {score} lies between {point.pass_below} and {point.reject_at}: a person must decide."


def _follows(score: str, point: OperatingPoint) -> str:
    """The verdict that the recorded numbers lead to."""
    if Decimal(score) < Decimal(point.pass_below):
        return "pass"
    return "reject" if Decimal(score) >= Decimal(point.reject_at) else "undecided"


def _warnings(content: DecisionReport) -> list[Flowable]:
    story: list[Flowable] = []
    score, point = content.defect_score, content.operating_point
    if score is not None and point is not None and content.verdict not in {None, _follows(score, point)}:
        story.append(
            callout(
                "The verdict does not follow from its score",
                f"The recorded score and thresholds lead to {_follows(score, point)}, and {content.verdict} is "
                "recorded.",
                alert=True,
            )
        )
    story += not_quoted(content.unreadable)
    if not isinstance(content.model.approved, Signature):
        when = "when this decision was made" if content.verdict else "when this inspection was attempted"
        story.append(not_approved(content.model, when))
    if content.reviews:
        story.append(_found(content))
    if content.explanation is not None and content.explanation.degenerate:
        story.append(
            callout(
                "The explanation is degenerate",
                "The heat map has no positive evidence for the explained class. Its picture must not be read as "
                "pointing at anything.",
                alert=True,
            )
        )
    return story


def _found(content: DecisionReport) -> Flowable:
    """What the reviews found, the last of which speaks for the part, and whether they contradict each other."""
    reviews, last = content.reviews, content.reviews[-1]
    read = [review for review in reviews if isinstance(review, Review)]
    contradict = len({review.truth for review in read}) > 1
    error = _error(content, last)
    lines = [_line(review) for review in reviews[-_BOXED:]]
    if len(reviews) > _BOXED:
        earlier = len(reviews) - _BOXED
        lines.insert(0, f"The first {earlier:,} of them stand under \u201cAudit draw and reviews\u201d.")
    if any(review.simulated for review in read):
        which = "This review is SIMULATED: it was" if len(reviews) == 1 else "Reviews marked SIMULATED were"
        lines.append(f"<b>{which} made by software for a demonstration, not by a person.</b>")
    simulated = isinstance(last, Review) and last.simulated
    alarming = bool(error) or contradict or simulated or len(read) < len(reviews)
    title = _heading(len(reviews), last, contradict) + (f". This verdict is {error}." if error else "")
    return callout(title, "<br/>".join(lines), alert=alarming)


def _heading(count: int, last: Review | Unreadable, contradict: bool) -> str:
    if isinstance(last, Unreadable):
        said = "cannot be read"
    else:
        said = f"found: {_truth_of(last)}"
        if count == 1:
            return f"{'SIMULATED review' if last.simulated else 'Review'}: {_truth_of(last)}"
        if last.simulated:
            said = f"(SIMULATED) {said}"
    if count == 1:
        return f"The review {said}"
    return f"{count:,} reviews{' that contradict each other' if contradict else ''}; the last one {said}"


def _error(content: DecisionReport, last: Review | Unreadable) -> str | None:
    wrong = {("pass", "defective"): "a false negative", ("reject", "good"): "a false positive"}
    return wrong.get((content.verdict or "", last.truth)) if isinstance(last, Review) else None


def _truth_of(review: Review) -> str:
    return markup(f"{review.truth} ({review.defect_type})" if review.defect_type else review.truth)


def _line(review: Review | Unreadable) -> str:
    """One review in the box."""
    if isinstance(review, Unreadable):
        return alert(f"Ledger entry {review.ledger_index:,} cannot be read.")
    mark = ", SIMULATED" if review.simulated else ""
    return f"<b>{_truth_of(review)}</b>, found by {markup(review.reviewer)}, {moment(review.at)}{mark}."


def _plates(content: DecisionReport, image: Picture, overlay: Picture) -> Flowable:
    explanation = content.explanation
    shape = next((p for p in (image, overlay) if p.reader is not None), None)
    height = min(250.0, max(110.0, _PLATE * shape.height / shape.width)) if shape else 80.0
    heat = "No heat map."
    if explanation is not None:
        heat = (
            f"<b>Heat map.</b> Evidence for <b>{markup(explanation.target)}</b> in {markup(explanation.layer)}: warm "
            "colours argue for this class, cool ones against it."
        )
    cells: list[list[Flowable | str]] = [
        [Plate(image, _PLATE, height), "", Plate(overlay, _PLATE, height)],
        [prose("<b>Image</b> as it was inspected.", style=CAPTION), "", prose(heat, style=CAPTION)],
    ]
    return layout(cells, (_PLATE, _GAP, _PLATE), ("BOTTOMPADDING", (0, 0), (-1, 0), 4))


def _scores(content: DecisionReport) -> list[Flowable]:
    rows: list[list[Flowable | str]] = []
    for score in content.scores:
        mark = "<b>{}</b>" if score.name == content.predicted else "{}"
        rows.append(
            [
                Paragraph(mark.format(markup(score.name)), VALUE),
                text("defect" if score.defect else "good"),
                text(score.score, NUMBER),
                text(score.logit if score.logit is not None else "\u2013", NUMBER),
            ]
        )
    if content.defect_score is not None:
        total = Paragraph("<b>Defect score</b>: the sum over all defect classes", VALUE)
        rows.append([total, "", Paragraph(f"<b>{markup(content.defect_score)}</b>", NUMBER), ""])
    widths = (CONTENT_WIDTH - 270, 80.0, 95.0, 95.0)
    spans = [("SPAN", (0, -1), (1, -1))] if content.defect_score is not None else []
    table = grid(("Class", "Counts as", "Score", "Logit"), rows, widths, *spans, right=(2, 3))
    return [KeepTogether([Heading("Class scores"), prose(_highest(content), style=NOTE), table])]


def _highest(content: DecisionReport) -> str:
    """The class that a classifier would have named, and why the verdict may be another."""
    if content.predicted is None:
        return ""
    note = f"Highest logit: {markup(content.predicted)}."
    if content.defect_score is None:
        return note
    note += " The verdict rests on the defect score, the sum over all defect classes, and not on the highest logit."
    good = any(score.name == content.predicted and not score.defect for score in content.scores)
    if good and content.verdict != "pass":
        note += (
            f" Here each defect class has a lower score than {markup(content.predicted)}, and all of them together have "
            f"{markup(content.defect_score)}."
        )
    return note


def _inspection(content: DecisionReport) -> list[Flowable]:
    part = content.part
    rows: list[Fact] = [
        ("Report made by", content.issue.generated_by),
        ("Produced for", content.issue.produced_for or None),
        ("Decision id" if content.verdict else "Inspection id", digest(content.id)),
        ("Serial number", part.serial),
        ("Lot", part.lot),
        ("Product", part.product),
        ("View", part.view),
        ("Station", f"{content.station}, sequence number {content.station_seq:,}"),
        ("Trigger", None if content.trigger is None else f"{content.trigger:,}"),
        ("Occurred at", timestamp(content.occurred_at)),
        ("Recorded at", timestamp(content.recorded_at)),
    ]
    if content.latency_us is not None:
        rows.append(("Latency", f"{content.latency_us / 1000:,.1f} ms"))
    return [*section("Part and inspection", room=220), facts(rows)]


def _image(content: DecisionReport) -> list[Flowable]:
    image = content.image
    size = None if image.size is None else f"{image.size:,} bytes"
    pixels = f"{image.width} \u00d7 {image.height} pixels" if image.width and image.height else None
    rows: list[Fact] = [
        ("File, SHA-256", digest(image.sha256)),
        ("Pixels, SHA-256", digest(image.pixel_sha256)),
        ("Size", size),
        ("Dimensions", pixels),
        ("Media type", image.media_type),
    ]
    return [KeepTogether([Heading("Image identity"), facts(rows)])]


def _explanation(content: DecisionReport) -> list[Flowable]:
    found = content.explanation
    if found is None:
        return [
            *section("Explanation"),
            prose("No explanation is recorded: the inspection came to no verdict that could be explained."),
        ]
    rows: list[Fact] = [
        ("Method", f"{found.method}, layer {found.layer}"),
        ("Explained class", found.target),
        ("Grid", f"{found.height} \u00d7 {found.width}, signed"),
        ("Grid, SHA-256", digest(found.sha256)),
        ("Minimum, maximum", f"{found.minimum}, {found.maximum}"),
        ("Sum", found.total),
        ("Peak", f"row {found.peak_row}, column {found.peak_column} (from 0, top left)"),
        ("Positive cells", None if found.positive_fraction is None else f"share {found.positive_fraction}"),
        ("Completeness residual", _residual(found)),
        ("Degenerate", "yes" if found.degenerate else "no"),
    ]
    return [
        KeepTogether(
            [
                Heading("Explanation"),
                prose(
                    "The heat map comes from the same forward pass as the scores. It shows which regions the network "
                    "used for the explained class, not whether that class is right.",
                ),
                facts(rows),
            ]
        )
    ]


def _residual(found: Explanation) -> Flowable:
    if found.residual is None:
        return or_missing(None)
    bias = f" with bias {found.bias}" if found.bias is not None else ""
    return text(f"{found.residual}: the grid's sum{bias} against the recorded logit")


def _model(content: DecisionReport) -> list[Flowable]:
    model = content.model
    return [
        *section("Model"),
        facts(model_identity(model)),
        KeepTogether([Heading("Lineage and approval", 1), facts(lineage(model))]),
        KeepTogether(evaluation(model)),
        *explanations(model),
    ]


def _truth(content: DecisionReport) -> list[Flowable]:
    story: list[Flowable] = section("Audit draw and reviews", room=140)
    if content.audit is not None:
        audit = content.audit
        drawn = "drawn" if audit.drawn else "not drawn"
        story.append(
            facts(
                [
                    ("Audit stratum", audit.stratum),
                    ("Inclusion probability", f"{audit.probability}, fixed when the decision was made"),
                    ("Blind verification", drawn),
                ]
            )
        )
        story.append(Spacer(0, 6))
    if not content.reviews:
        unknown = "Whether the verdict was right is not known." if content.verdict else "There is no verdict to review."
        return [*story, prose("No review of this part is on record.", unknown)]
    rows: list[list[Flowable | str]] = []
    for review in content.reviews:
        if isinstance(review, Unreadable):
            rows.append([unread(review), "", "", "", ""])
            continue
        found = f"{review.truth}, {review.defect_type}" if review.defect_type else review.truth
        source = "<b>SIMULATED</b>" if review.simulated else "person"
        rows.append(
            [
                text(moment(review.at), SMALL),
                Paragraph(f"<b>{markup(found)}</b>", SMALL),
                text(review.reviewer, SMALL),
                Paragraph(source, SMALL),
                text(review.note, SMALL),
            ]
        )
    widths = (104.0, 96.0, 84.0, 62.0, CONTENT_WIDTH - 346)
    spans = [("SPAN", (0, k), (-1, k)) for k, r in enumerate(content.reviews, start=1) if isinstance(r, Unreadable)]
    story.append(grid(("Reviewed", "Truth", "Reviewer", "Made by", "Note"), rows, widths, *spans))
    if len(content.reviews) > 1:
        story.append(prose("Reviews are appended and never edited; the last one speaks for the part.", style=NOTE))
    return story


def _environment(content: DecisionReport) -> list[Flowable]:
    if content.runtime is None:
        return []
    rows: list[Fact] = [("Runtime digest", digest(content.runtime))]
    if isinstance(content.environment, Unreadable):
        rows.append(("Environment", unread(content.environment)))
    else:
        rows += [(markup(name), value) for name, value in content.environment]
    return [KeepTogether([Heading("Runtime environment"), facts(rows)])]


def _limits(content: DecisionReport) -> list[Flowable]:
    decided = [
        "Whether the verdict was right, unless a review says so. A review is a person's finding and can itself be "
        "wrong.",
        "Why the network decided so. The heat map says where the evidence lay, not what the network understood.",
    ]
    items = [
        *(
            decided
            if content.verdict
            else ["Whether the part is good or defective. A failed inspection decided nothing."]
        ),
        "That the image shows the part with this serial number. The camera and the station assert that; the ledger "
        "fixes what they asserted.",
        "How reliable the model is in general. That is the subject of the audit report, with rates and intervals.",
        "Changes after it was written. A printed report can be forged. Check "
        f"the leaf hash above against entry {content.ledger_index:,} of the ledger.",
    ]
    return [*section("What this report does not show", room=110), *bullets(items)]
