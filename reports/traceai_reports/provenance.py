"""Sections on what a decision stands on: the model version's lineage and the state of the ledger."""

from collections.abc import Sequence

from reportlab.platypus import Flowable, Paragraph

from traceai_reports.blocks import Fact, callout, digest, facts, grid, or_missing, prose, text
from traceai_reports.content import Ledger, ModelVersion, Signature, Unreadable
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

# How many entries are named that cannot be quoted; verification lists the rest.
_NAMED = 20


def alert(words: str) -> str:
    """The report's own words as markup that is not overlooked."""
    return f'<font name="{BOLD}" color="{hexadecimal(ALERT)}">{words}</font>'


def unread(at: Unreadable) -> Flowable:
    """What is printed where an entry should be quoted."""
    return Paragraph(alert(f"ledger entry {at.ledger_index:,} cannot be read"), LABEL)


def not_quoted(indices: Sequence[int]) -> list[Flowable]:
    """Which entries the report lacks; nothing where it lacks none."""
    if not indices:
        return []
    named = ", ".join(f"{index:,}" for index in indices[:_NAMED])
    more = f" and {len(indices) - _NAMED:,} others" if len(indices) > _NAMED else ""
    return [
        callout(
            "Ledger entries that cannot be read",
            "Entries that this report should quote are gone, were altered, or are not what they should be: "
            f"index {named}{more}. Nothing is printed in their place; what the tables still say of them is not proved "
            "by anything.",
            alert=True,
        )
    ]


def signed(step: Signature | Unreadable | None, missing: str = "not recorded") -> Flowable:
    """Who, when and why, on one line."""
    if step is None:
        return Paragraph(missing, LABEL)
    if isinstance(step, Unreadable):
        return unread(step)
    reason = f": {step.reason}" if step.reason else ""
    return text(f"{step.by}, {moment(step.at)}{reason}")


def model_identity(model: ModelVersion) -> list[Fact]:
    rows: list[Fact] = [
        ("Model version", model.label),
        ("Version digest", digest(model.digest)),
    ]
    if model.unread is not None:
        return [*rows, ("Registration", unread(model.unread))]
    rows += [
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
    rows: list[Fact] = [] if model.unread is not None else _origin(model)
    approved = signed(model.approved)
    if model.approved is None:
        approved = Paragraph(alert("NOT APPROVED"), LABEL)
    rows += [("Approved", approved), ("Activated", signed(model.activated))]
    if model.retired is not None:
        rows.append(("Retired", signed(model.retired)))
    return rows


def _origin(model: ModelVersion) -> list[Fact]:
    rows: list[Fact] = []
    if model.snapshot is not None:
        snapshot = model.snapshot
        counts = "; ".join(f"{name}: {count:,}" for name, count in snapshot.counts)
        images = "" if snapshot.images is None else f" ({snapshot.images:,} images)"
        rows += [
            ("Training snapshot", f"{snapshot.name}{images}"),
            ("Snapshot digest", digest(snapshot.digest)),
            ("Images by kind", unread(snapshot.unread) if snapshot.unread else counts),
        ]
    else:
        rows.append(("Training snapshot", None))
    rows.append(("Trained or registered", signed(model.trained)))
    return [*rows, *((markup(name), value) for name, value in model.training)]


def not_approved(model: ModelVersion, when: str) -> Flowable:
    if isinstance(model.approved, Unreadable):
        return callout(
            "Approval cannot be read",
            f"The tables name ledger entry {model.approved.ledger_index:,} as the approval of {markup(model.label)}, and it "
            "cannot be read. Who approved this version, and whether anybody did, is not proved.",
            alert=True,
        )
    return callout(
        "Model version not approved",
        f"No approval of {markup(model.label)} was on record {when}. Nobody with the right to approve it has "
        "put their name to this version.",
        alert=True,
    )


def evaluation(model: ModelVersion, level: int = 1) -> list[Flowable]:
    if model.unread is not None:
        return [Heading("Evaluation", level), unread(model.unread)]
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
