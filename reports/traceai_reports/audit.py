"""The report on all decisions of a scope: counts, rates, what they stand on, and the decisions themselves."""

from collections import Counter
from pathlib import Path

from reportlab.platypus import Flowable, KeepTogether, Paragraph, Spacer

from traceai.stats import Proportion, Rates, describe
from traceai_reports.blocks import LABEL_WIDTH, Fact, bullets, callout, facts, grid, prose, text
from traceai_reports.completeness import completeness, missing_at_a_glance
from traceai_reports.content import AuditReport, Scope, Signature
from traceai_reports.document import CONTENT_WIDTH, Heading, moment, render, section, write
from traceai_reports.figures import OutcomeChart, RateChart, Tiles
from traceai_reports.gallery import Gallery
from traceai_reports.listing import decision_table, failed_table
from traceai_reports.provenance import (
    evaluation,
    explanations,
    ledger,
    lineage,
    model_identity,
    not_approved,
    not_quoted,
)
from traceai_reports.typography import ALERT_PANEL, NOTE, NUMBER, SUBTITLE, TITLE, VALUE, markup

_KIND = "Inspection audit report"
_SOURCES = (
    "The listed decisions, failed inspections, verified errors, outages and model versions are quoted from the ledger's entries. "
    "Counts, rates and charts are computed from the tables, which verification compares with the entries; where they "
    "differ, believe the entries."
)


def audit_report(content: AuditReport, out: Path) -> str:
    """Writes the PDF to `out`, whole or not at all, and returns its SHA-256 in hex. Equal content gives equal bytes.

    Raises:
        InputError: `out` lies in a folder that is missing or cannot be written to.
    """
    gallery = Gallery.load(content.errors)

    def story() -> list[Flowable]:
        return [
            *_opening(content),
            *_rates(content),
            *_confusion(content.rates),
            *_periods(content),
            *completeness(content.completeness),
            *_models(content),
            *_errors(content, gallery),
            *_failed(content),
            *_decisions(content),
            *section("Ledger"),
            *ledger(content.ledger, _span(content), content.last_index),
            Spacer(0, 5),
            prose(_SOURCES, style=NOTE),
            *_limits(content),
        ]

    return write(out, render(content.title, _KIND, content.issue, story))


def _opening(content: AuditReport) -> list[Flowable]:
    counts = content.counts
    tiles = [
        ("total", "inspections", counts.total),
        ("pass", "passed", counts.passed),
        ("undecided", "undecided", counts.undecided),
        ("reject", "rejected", counts.rejected),
        ("failed", "failed", counts.failed),
    ]
    issue = content.issue
    story: list[Flowable] = [
        Paragraph(markup(content.title), TITLE),
        Paragraph(_period(content.scope), SUBTITLE),
        Tiles(tiles, CONTENT_WIDTH),
        Spacer(0, 8),
    ]
    if content.simulated:
        story.append(
            callout(
                "SIMULATED reviews",
                f"{content.simulated:,} of the {content.reviewed:,} reviews in this report are SIMULATED: made by "
                "software for a demonstration, not by a person. No rate that rests on them says anything about a real "
                "line.",
                alert=True,
            )
        )
    if content.ledger.failures:
        story.append(
            callout(
                "Ledger verification failed",
                "The evidence behind this report was altered or is incomplete. The section on the ledger says where.",
                alert=True,
            )
        )
    story += missing_at_a_glance(content.completeness)
    story += not_quoted(content.unreadable)
    story += [
        not_approved(model, "while it was in use")
        for model in content.models
        if not isinstance(model.approved, Signature)
    ]
    scope = content.scope
    everything = "all"
    story += [
        *section("Scope"),
        facts(
            [
                ("Period", _period(scope)),
                ("Station", scope.station or everything),
                ("Model", scope.model or everything),
                ("Product", scope.product or everything),
                ("Lot", scope.lot or everything),
                ("Produced for", issue.produced_for),
                ("Generated", f"{moment(issue.generated_at)} by {issue.generated_by}"),
            ]
        ),
    ]
    return story


def _period(scope: Scope) -> str:
    if scope.since is None and scope.until is None:
        return "All inspections on record"
    start = f"from {moment(scope.since)}" if scope.since else "from the first inspection"
    end = f"until {moment(scope.until)} (exclusive)" if scope.until else "up to the time of writing"
    return f"{start[0].upper()}{start[1:]} {end}"


def _rates(content: AuditReport) -> list[Flowable]:
    rates = content.rates
    lines: list[tuple[str, str, Proportion]] = [
        ("False-negative rate", "of defective parts, passed", rates.false_negative_rate),
        ("False-positive rate", "of good parts, rejected", rates.false_positive_rate),
        ("Escape rate", "of passed parts, defective", rates.escape_rate),
        ("Overkill rate", "of rejected parts, good", rates.overkill_rate),
        ("Defect prevalence", "of decided parts, defective", rates.defect_prevalence),
        ("Undecided share", "of all decisions", rates.undecided_share),
    ]
    chart = RateChart(lines, CONTENT_WIDTH)
    note = f"Dots are estimates, whiskers {100 * rates.confidence:g} % intervals, all on one scale."
    rows = [[text(name, VALUE), text(describe(rate), VALUE)] for name, _, rate in lines]
    story: list[Flowable] = [
        KeepTogether([Heading("Error rates"), Spacer(0, 2), chart, prose(note, style=NOTE)]),
        KeepTogether(
            [
                Heading("The rates and the counts behind them", 1),
                grid(("Rate", "Estimate"), rows, (LABEL_WIDTH, CONTENT_WIDTH - LABEL_WIDTH)),
            ]
        ),
        KeepTogether([Heading("How the rates are estimated", 1), *(prose(part) for part in _method(rates))]),
    ]
    if rates.caveats:
        story.append(KeepTogether([Heading("To bear in mind", 1), *bullets(markup(c) for c in rates.caveats)]))
    return story


def _method(rates: Rates) -> list[str]:
    if rates.census and rates.passed.decisions + rates.rejected.decisions:
        first = (
            "Every passed and every rejected part in scope was verified. The rates are therefore plain counts, with "
            "Wilson score intervals."
        )
    else:
        first = (
            "Not every part was verified by a person. Which ones would be was drawn at random when each decision was "
            "made, with a probability that is part of its record. The verified parts of each verdict are expanded to "
            "all parts with that verdict (Horvitz and Thompson 1952; Begg and Greenes 1983); counting among verified "
            "parts alone would be wrong, because rejected parts are verified more often than passed ones. Intervals "
            "combine the Wilson intervals of the ingredients (MOVER)."
        )
    return [
        first,
        "An interval is the range of rates that these counts are compatible with at the stated confidence, for the "
        "process that made the parts. It stays open upwards even when not one error was found: no errors among few "
        "verified parts is weak evidence.",
        "<b>Not estimable</b> means that the verified parts say nothing about this rate, for instance because no "
        "passed part was verified. It does not mean zero. A report with such a line has not shown that the inspection "
        "works.",
        "Positive means defective. Undecided parts are neither passed nor rejected; they are left to a person and "
        "enter no error rate.",
    ]


def _confusion(rates: Rates) -> list[Flowable]:
    tallies = (rates.passed, rates.undecided, rates.rejected)
    unverified = [t.decisions - t.verified - t.targeted_good - t.targeted_defective for t in tallies]
    lines: list[tuple[str, list[int]]] = [
        ("Drawn and verified: good", [t.verified_good for t in tallies]),
        ("Drawn and verified: defective", [t.verified_defective for t in tallies]),
        ("Reviewed without a draw: good", [t.targeted_good for t in tallies]),
        ("Reviewed without a draw: defective", [t.targeted_defective for t in tallies]),
        ("Not reviewed", unverified),
        ("All decisions", [t.decisions for t in tallies]),
    ]
    rows: list[list[Flowable | str]] = []
    for name, counts in lines:
        mark = "<b>{}</b>" if name == "All decisions" else "{}"
        numbers = [Paragraph(mark.format(f"{count:,}"), NUMBER) for count in (*counts, sum(counts))]
        rows.append([Paragraph(mark.format(name), VALUE), *numbers])
    column = (CONTENT_WIDTH - 190) / 4
    tint = [("BACKGROUND", cell, cell, ALERT_PANEL) for cell in ((3, 1), (1, 2))]
    table = grid(
        ("Truth", "Passed", "Undecided", "Rejected", "Total"),
        rows,
        (190.0, column, column, column, column),
        *tint,
        right=(1, 2, 3, 4),
    )
    return [
        KeepTogether(
            [
                Heading("Verdicts against verified truth"),
                table,
                Spacer(0, 4),
                prose(
                    "Shaded: verified errors, defective parts that were passed and good parts that were rejected. "
                    "Parts reviewed without a draw were picked for a reason; they are counted here and enter no rate.",
                    style=NOTE,
                ),
            ]
        )
    ]


def _periods(content: AuditReport) -> list[Flowable]:
    if not content.periods:
        return []
    chart = OutcomeChart(content.periods, CONTENT_WIDTH)
    return [KeepTogether([Heading(f"Inspections by {content.period_name}"), Spacer(0, 4), chart])]


def _models(content: AuditReport) -> list[Flowable]:
    story: list[Flowable] = section("Model versions in use", room=160)
    if not content.models:
        return [*story, prose("No model version took a decision in this scope.")]
    for model in content.models:
        used = "" if model.decisions is None else f" \u2013 {model.decisions:,} inspections in scope"
        story += [
            *section(f"{model.label}{used}", 1),
            facts([*model_identity(model)[1:], *lineage(model)]),
            KeepTogether([Spacer(0, 2), *evaluation(model)]),
            *explanations(model),
        ]
    return story


def _errors(content: AuditReport, gallery: Gallery) -> list[Flowable]:
    story: list[Flowable] = section("Verified errors", room=200)
    if not content.errors:
        return [
            *story,
            prose(
                "No review in this scope contradicts a verdict. Whether that means much depends on how many parts were "
                "verified: see the rates and their intervals."
            ),
        ]
    found = content.errors_found or Counter(str(error.row.error) for error in content.errors)
    if found.total() > len(content.errors):
        story.append(prose(f"{len(content.errors):,} of {found.total():,} verified errors are shown."))
    return [*story, *gallery.cards(found)]


def _failed(content: AuditReport) -> list[Flowable]:
    story: list[Flowable] = section("Failed inspections")
    if not content.failed:
        sentence = "None." if not content.counts.failed else f"{content.counts.failed:,}, none of them listed here."
        return [*story, prose(sentence)]
    shown = len(content.failed)
    lead = "A failed inspection came to no verdict and passed no part."
    if shown < content.counts.failed:
        lead += f" {shown:,} of {content.counts.failed:,} are listed."
    return [*story, prose(lead), failed_table(content.failed)]


def _decisions(content: AuditReport) -> list[Flowable]:
    story: list[Flowable] = section("Decisions", room=120)
    if not content.decisions:
        return [*story, prose("No decision is listed.")]
    lead = (
        "In ledger order, times in UTC. The index names a decision unambiguously; beside it stand the last eight "
        "digits of its identifier. Score is the defect score, the sum over all defect classes. Truth is what the last "
        "review found; errors are shaded, and D marks parts drawn for audit."
    )
    if len(content.decisions) < content.counts.total:
        lead = f"{len(content.decisions):,} of {content.counts.total:,} inspections are listed. {lead}"
    return [*story, prose(lead, style=NOTE), decision_table(content.decisions)]


def _span(content: AuditReport) -> list[Fact]:
    if content.first_index is None or content.last_index is None:
        return [("Entries in scope", "none")]
    return [("Entries in scope", f"from index {content.first_index:,} to index {content.last_index:,}")]


def _limits(content: AuditReport) -> list[Flowable]:
    items = [
        "Errors that nobody looked for. Rates rest on the verified parts alone; the intervals say how much they leave "
        "open.",
        "Mistakes of the reviewers. A verified truth is a person's finding.",
        "Parts that never reached a camera. The ledger numbers what a station recorded without a gap, and holds the camera's "
        "triggers against it where they are recorded; it cannot know of parts that were not presented.",
        "That an image shows the part whose serial number stands beside it. The station asserts that; the ledger "
        "fixes what it asserted.",
        "That the heat maps are the reason for a verdict. They show where the network found evidence.",
        "The future. Rates hold for this scope; another product, light or model version may do better or worse.",
        "Changes after it was written. A printed report can be forged; compare its SHA-256 with the "
        "one entered in the ledger, and the ledger's root with one noted elsewhere.",
    ]
    return [*section("What this report does not show", room=110), *bullets(items)]
