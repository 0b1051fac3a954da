"""Sections on what a decision stands on: the model version's lineage and the state of the ledger."""

from reportlab.platypus import Flowable, Paragraph

from traceai_reports.blocks import Fact, callout, digest, facts, grid, or_missing, prose, text
from traceai_reports.content import Ledger, ModelVersion, Signature
from traceai_reports.document import CONTENT_WIDTH, Heading, moment, section
from traceai_reports.typography import (
    ALERT,
    BOLD,
    LABEL,
    MUTED,
    NOTE,
    SMALL,
    SMALL_RIGHT,
    VERDICT_COLOURS,
    hexadecimal,
    markup,
)


def signed(step: Signature | None, missing: str = "not recorded") -> Flowable:
    """Who, when and why, on one line."""
    if step is None:
        return Paragraph(missing, LABEL)
    reason = f": {step.reason}" if step.reason else ""
    return text(f"{step.by}, {moment(step.at)}{reason}")


def model_identity(model: ModelVersion) -> list[Fact]:
    rows: list[Fact] = [
        ("Model version", model.label),
        ("Version digest", digest(model.digest)),
        ("Weights, SHA-256", digest(model.weights_digest)),
        ("Architecture", model.architecture),
        ("Parameters", None if model.parameters is None else f"{model.parameters:,}"),
        ("Classes", ", ".join(model.classes)),
    ]
    if model.operating_point is not None:
        point = model.operating_point
        rows.append(("Operating point", f"pass below {point.pass_below}, reject from {point.reject_at}"))
    return rows


def lineage(model: ModelVersion) -> list[Fact]:
    rows: list[Fact] = []
    if model.snapshot is not None:
        snapshot = model.snapshot
        counts = "; ".join(f"{name}: {count:,}" for name, count in snapshot.counts)
        rows += [
            ("Training snapshot", f"{snapshot.name} ({snapshot.images:,} images)"),
            ("Snapshot digest", digest(snapshot.digest)),
            ("Images by kind", counts),
        ]
    else:
        rows.append(("Training snapshot", None))
    rows.append(("Trained or registered", signed(model.trained)))
    rows += [(markup(name), value) for name, value in model.training]
    approved = signed(model.approved)
    if model.approved is None:
        approved = Paragraph(f'<font name="{BOLD}" color="{hexadecimal(ALERT)}">NOT APPROVED</font>', LABEL)
    rows += [("Approved", approved), ("Activated", signed(model.activated))]
    if model.retired is not None:
        rows.append(("Retired", signed(model.retired)))
    return rows


def not_approved(model: ModelVersion, when: str) -> Flowable:
    return callout(
        "Model version not approved",
        f"No approval of {markup(model.label)} was on record {when}. Nobody with the right to approve it has "
        "put their name to this version.",
        alert=True,
    )


def evaluation(model: ModelVersion, level: int = 1) -> list[Flowable]:
    if not model.evaluation:
        return [Heading("Evaluation", level), prose("No evaluation of this version is on record.", style=NOTE)]
    rows = [(markup(name), value) for name, value in model.evaluation]
    return [Heading("Evaluation", level), facts(rows)]


def ledger(state: Ledger, extra: list[Fact]) -> list[Flowable]:
    """The tree head, and what verification found, fact by fact."""
    rows = [
        *extra,
        ("Ledger size", f"{state.size:,} entries"),
        ("Root hash", digest(state.root)),
    ]
    if state.origin:
        rows.insert(len(extra), ("Ledger origin", state.origin))
    rows.append(("Verified", or_missing(moment(state.verified_at)) if state.verified_at else Paragraph("no", LABEL)))
    story: list[Flowable] = [facts(rows)]
    if not state.facts:
        story.append(
            callout(
                "Ledger not verified",
                "The ledger was not verified when this report was written. Run <b>traceai ledger verify</b>, or have "
                "the evidence file of a decision checked offline with <b>traceai verify</b>.",
                alert=True,
            )
        )
        return story
    if state.failures:
        story.append(
            callout(
                "Ledger verification failed",
                f"{state.failures} checks did not hold. What this report says rests on evidence that was altered, or "
                "is incomplete, until each finding below is explained.",
                alert=True,
            )
        )
    table = []
    for fact in state.facts:
        outcome, colour = (
            ("holds", VERDICT_COLOURS["pass"]) if not fact.failures else (f"FAILS ({fact.failures})", ALERT)
        )
        if not fact.checked and not fact.failures:
            outcome, colour = "nothing to check", MUTED
        findings = "".join(f"<br/>\u2013 {markup(finding)}" for finding in fact.findings)
        table.append(
            [
                text(fact.name, SMALL),
                Paragraph(markup(fact.meaning) + findings, SMALL),
                Paragraph(f"{fact.checked:,}", SMALL_RIGHT),
                Paragraph(f'<font name="{BOLD}" color="{hexadecimal(colour)}">{outcome}</font>', SMALL),
            ]
        )
    widths = (78.0, CONTENT_WIDTH - 78 - 52 - 92, 52.0, 92.0)
    story += [
        *section("Verification, fact by fact", 1),
        grid(("Fact", "What it says", "Checked", "Outcome"), table, widths, right=(2,)),
    ]
    return story
