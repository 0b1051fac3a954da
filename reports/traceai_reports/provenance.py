"""Sections on what a decision stands on: the model version's lineage and the state of the ledger."""

from collections.abc import Sequence

from reportlab.lib.colors import Color
from reportlab.platypus import Flowable, KeepTogether, Paragraph, Spacer

from traceai.explain import wording
from traceai_reports.blocks import Fact, bullets, callout, digest, facts, grid, key, or_missing, prose, text, verbatim
from traceai_reports.content import Ledger, LedgerFact, ModelVersion, Signature, SignedCheckpoint, Unreadable
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
    if model.waived is not None:
        rows.append(("In spite of its explanations", signed(model.waived)))
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


def explanations(model: ModelVersion, level: int = 1) -> list[Flowable]:
    """How good the version's explanations are, as far as anybody has measured it."""
    found, heading = model.explained, Heading("Quality of the explanations", level)
    if found is None:
        return [heading, prose("Nobody had measured how good this version's explanations are.", style=NOTE)]
    if isinstance(found, Unreadable):
        return [heading, unread(found)]
    doubted = found.verdict != wording.GONE
    rows: list[Fact] = [
        ("Gone with random weights", Paragraph(alert(markup(found.words)), LABEL) if doubted else found.words),
        ("Measured", signed(found.measured)),
        ("Images", found.images),
        ("Method and layer", f"{found.method}, {found.layer}"),
        *((name.capitalize(), value) for name, value in found.findings),
    ]
    table = grid(
        ("Made random, from the output down", "alone", "with all above"),
        [
            [text(layer), Paragraph(alone, SMALL_RIGHT), Paragraph(turn, SMALL_RIGHT)]
            for layer, alone, turn in found.layers
        ],
        (CONTENT_WIDTH - 150, 70, 80),
        right=(1, 2),
        padding=1.6,
    )
    note = prose(
        "How much of the order of the maps' cells is left (mean |Spearman rank correlation|, 1 is all, 0 is nothing) when weights "
        "are random. With all of them random, a map that shows what the network learnt is gone.",
        "That a map goes does not say that it is right.",
        style=NOTE,
    )
    return [KeepTogether([heading, facts(rows)]), Spacer(0, 6), table, Spacer(0, 3), note]


def ledger(state: Ledger, extra: list[Fact], last: int | None) -> list[Flowable]:
    """The tree head, who signed it, and what verification found, fact by fact. `last`: the index of the last inspection."""
    rows = [
        *extra,
        *_signer(state),
        ("Ledger size", f"{state.size:,} entries"),
        ("Root hash", digest(state.root)),
        ("Verified", or_missing(moment(state.verified_at)) if state.verified_at else Paragraph("no", LABEL)),
    ]
    story: list[Flowable] = [facts(rows), *_signed(state, last)]
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
        outcome, colour = _outcome(fact)
        findings = "".join(f"<br/>\u2013 {markup(finding)}" for finding in fact.findings)
        table.append(
            [
                text(fact.name, SMALL),
                Paragraph(markup(fact.meaning) + findings, SMALL),
                Paragraph("\u2013" if fact.checked is None else f"{fact.checked:,}", SMALL_RIGHT),
                Paragraph(f'<font name="{BOLD}" color="{hexadecimal(colour)}">{outcome}</font>', SMALL),
            ]
        )
    widths = (78.0, CONTENT_WIDTH - 78 - 52 - 104, 52.0, 104.0)
    story += [
        *section("Verification, fact by fact", 1),
        grid(("Fact", "What it says", "Checked", "Outcome"), table, widths, right=(2,)),
    ]
    return story


def _outcome(fact: LedgerFact) -> tuple[str, Color]:
    """In words, and their colour."""
    if fact.failures:
        return f"FAILS ({fact.failures})", ALERT
    if fact.checked is None:
        return "not checked for this report", MUTED
    return ("holds", VERDICT_COLOURS["pass"]) if fact.checked else ("nothing to check", MUTED)


def _signer(state: Ledger) -> list[Fact]:
    """The name and the key that tell this ledger from every other."""
    if state.unread:
        return [("Ledger origin", Paragraph(alert("cannot be read"), LABEL))]
    if not state.origin:
        return [("Ledger origin", Paragraph(alert("NOT SIGNED"), LABEL))]
    missing = Paragraph(alert("no key that can sign is on record"), LABEL)
    return [("Ledger origin", state.origin), ("Signing key", key(state.key) if state.key else missing)]


def _signed(state: Ledger, last: int | None) -> list[Flowable]:
    """The newest checkpoint, and what to do with it; or that there is none."""
    if state.unread:
        return [callout("Who signs this ledger cannot be read", markup(state.unread), alert=True)]
    if not state.origin:
        return [
            callout(
                "Ledger not signed",
                "Nobody has signed this ledger. Size and root hash name no log: whoever can write to the database can make "
                "another that fits them. Sign it with <b>traceai ledger checkpoint</b>, and have the report made again.",
                alert=True,
            )
        ]
    found = state.checkpoint
    if found is None:
        return [
            callout(
                "No signed checkpoint",
                "No checkpoint that a key on record signed was found. Nothing signed says that the ledger once had this "
                "size and this root hash.",
                alert=True,
            )
        ]
    story: list[Flowable] = []
    if not found.leads:
        story.append(
            callout(
                "The ledger does not lead to its own checkpoint",
                f"The checkpoint below was signed, and the first {found.size:,} entries of the ledger do not lead to it: "
                "entries were altered, removed or exchanged since, or this is an older copy.",
                alert=True,
            )
        )
    by = [] if found.keys == (state.key,) else [facts([("Signed with", key(signer)) for signer in found.keys])]
    covered = prose(_covered(found, state, last))
    return [
        *story,
        KeepTogether([Heading("The newest signed checkpoint", 1), covered, *by, verbatim(found.note)]),
        KeepTogether([Spacer(0, 7), *bullets(_use(found, state))]),
    ]


def _covered(found: SignedCheckpoint, state: Ledger, last: int | None) -> str:
    """What a checkpoint fixes of this report."""
    every = found.size == state.size
    fixed = f"all {found.size:,} entries" if every else f"the first {found.size:,} of the {state.size:,} entries"
    if last is None:
        return f"It fixes {fixed} of the ledger, bytes and order."
    if last < found.size:
        return f"It fixes {fixed} of the ledger, bytes and order, every inspection in this report among them."
    return (
        f"It fixes {fixed} of the ledger, bytes and order. "
        + alert("Inspections in this report are not among them:")
        + f" what it says of entries from index {found.size:,} on, nobody has signed yet."
    )


def _use(found: SignedCheckpoint, state: Ledger) -> list[str]:
    root = "the root hash above" if found.leads and found.size == state.size else "that root"
    return [
        "<b>Keep these lines</b> where nobody who runs the system can change them. Whoever has them can find out at any time "
        "whether an entry that they cover was changed.",
        "<b>Compare origin and key</b> with those that you were given in another way: in a contract, a letter, an earlier "
        "audit. A page can be forged, and genuine lines can be copied into it; they speak for the ledger, not for this page.",
        "<b>Verify the signature.</b> Save the lines as a text file. Copied from a PDF, they may come without the empty line "
        "before the first dash: put it back. The format is that of https://c2sp.org/signed-note.",
        f"<b>Hold them against the ledger:</b> have the root of its first {found.size:,} entries computed from their bytes. It "
        f"has to be {root}, which the third line has in base64. Programs for both steps stand in docs/trust.md of traceai, "
        "under \u201cKeep something outside\u201d.",
    ]
