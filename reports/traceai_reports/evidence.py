"""From the ledger to a report's content: what is on record, read once, in one transaction.

A report quotes the journal's bytes wherever it can, because those are what can be proved; the tables only find them
(`quotes`). Counts, rates and periods are of the tables, which the verification in the report compares with the journal.
"""

from collections import Counter
from typing import Any

from sqlalchemy import case, func, select
from sqlmodel import Session

from traceai import __version__
from traceai.clock import now, parse_timestamp, uuid7
from traceai.db import tables
from traceai.errors import BlobMissingError, BlobTamperedError, RecordError, TraceaiError
from traceai.images.blobs import BlobStore
from traceai.inspection import history
from traceai.inspection.history import Filter
from traceai.inspection.picture import overlay_png
from traceai.ledger import records
from traceai.ledger.log import append
from traceai.ledger.signing.known import Known
from traceai.ledger.verification.auditing import audit_within
from traceai.ledger.verification.facts import Outcome
from traceai.models.scores import GOOD
from traceai.review import rates as review_rates
from traceai.sdk import Trace
from traceai_reports import content, lineage, signing
from traceai_reports.accounts import account
from traceai_reports.quotes import Quotes
from traceai_reports.rows import VerifiedError, rows

_inspection = tables.table_of(tables.Inspection)
_runtime = tables.table_of(tables.Runtime)
_heat_map = tables.table_of(tables.HeatMap)
_c = _inspection.c

SHOWN_ERRORS = 12
# The whole store would have to be read, which takes hours where it is large; `traceai ledger verify` does that.
_BLOBS = content.LedgerFact(
    name="blobs",
    meaning="every recorded image and model file is stored, byte for byte; only the pictures in this report were read, and "
    "compared with their digests",
    checked=None,
)


def issue(generated_by: str, produced_for: str = "") -> content.Issue:
    return content.Issue(
        report_id=str(uuid7()),
        generated_at=now(),
        generated_by=generated_by,
        software_version=f"traceai {__version__}",
        produced_for=produced_for,
    )


def decision(trace: Trace, reference: str, about: content.Issue) -> content.DecisionReport:
    """Everything on record about one decision.

    Raises:
        DecisionNotFoundError: there is none.
        RecordError: its entry is gone or unreadable, or is another decision's; there is nothing to report.
    """
    known = trace.signer.known_heads()
    with trace.database.moment() as session:
        found = history.dossier(session, history.find(session, reference))
        record, index = found.entry.record, found.row.journal_index
        if not isinstance(record, records.Inspection | records.InspectionFailed) or record.id != str(found.row.id):
            raise RecordError(
                f"Journal entry {index} is not that of decision {found.row.id}; run `traceai ledger verify`."
            )
        quotes = Quotes(session)
        model = lineage.at_decision(session, quotes, record.model, index)
        reviews = quotes.reviews([record.id]).get(record.id, ())
        environment = _environment(session, quotes, record)
        outcome = audit_within(session.connection(), trace.signer, known)
        ledger = _ledger(session, known, outcome)
    common: dict[str, Any] = {
        "issue": about,
        "id": record.id,
        "ledger_index": index,
        "leaf_hash": found.leaf_hash.hex(),
        "recorded_at": parse_timestamp(found.entry.recorded_at),
        "occurred_at": parse_timestamp(record.occurred_at),
        "station": record.station,
        "station_seq": record.station_seq,
        "trigger": record.trigger,
        "part": content.Part(**record.part.model_dump()),
        "image": _image(trace.blobs, record.image),
        "model": model,
        "ledger": ledger,
        "reviews": tuple(_review(at, review) for at, review in reviews),
        "unreadable": quotes.unreadable,
    }
    if isinstance(record, records.InspectionFailed):
        return content.DecisionReport(
            **common, failure=content.Failure(code=record.failure_code, sentence=record.failure)
        )
    point = record.operating_point
    return content.DecisionReport(
        **common,
        verdict=record.verdict,
        predicted=record.predicted,
        defect_score=record.defect_score,
        operating_point=content.OperatingPoint(**point.model_dump()) if point else None,
        scores=tuple(
            content.ClassScore(name=name, score=score, logit=record.logits.get(name), defect=name != GOOD)
            for name, score in record.scores.items()
        ),
        explanation=_explanation(record, found.grid, trace.blobs),
        audit=content.AuditDraw(**record.audit.model_dump()),
        runtime=record.runtime,
        environment=environment,
        latency_us=record.latency_us,
    )


def audit(trace: Trace, wanted: Filter, about: content.Issue, title: str) -> content.AuditReport:
    """The decisions that `wanted` selects, their rates, the models behind them, and what was verified wrong."""
    known = trace.signer.known_heads()
    with trace.database.moment() as session:
        outcome = audit_within(session.connection(), trace.signer, known)
        report = review_rates.rates(session, wanted)[0]
        rates = report.rates
        period_name, periods = _periods(session, wanted)
        quotes = Quotes(session)
        listed = rows(session, quotes, wanted)
        models = lineage.in_scope(session, quotes, wanted)
        first, last = session.execute(
            select(func.min(_c.journal_index), func.max(_c.journal_index)).where(*wanted.conditions())
        ).one()
        return content.AuditReport(
            issue=about,
            title=title,
            scope=content.Scope(
                since=wanted.since,
                until=wanted.until,
                station=wanted.station,
                model=wanted.model and (wanted.model if wanted.version is None else f"{wanted.model}@{wanted.version}"),
                product=wanted.product,
                lot=wanted.lot,
            ),
            counts=content.Counts(
                passed=rates.passed.decisions,
                rejected=rates.rejected.decisions,
                undecided=rates.undecided.decisions,
                failed=report.failed,
            ),
            rates=rates,
            ledger=_ledger(session, known, outcome),
            periods=periods,
            period_name=period_name,
            decisions=listed.decisions,
            models=models,
            errors=tuple(_error(session, trace.blobs, error) for error in listed.errors[:SHOWN_ERRORS]),
            errors_found=Counter(str(error.row.error) for error in listed.errors),
            failed=listed.failed,
            completeness=account(session, quotes, wanted, first, last),
            reviewed=report.reviewed,
            simulated=report.simulated,
            first_index=first,
            last_index=last,
            unreadable=quotes.unreadable,
        )


def record_issue(trace: Trace, kind: str, sha256: str, scope: dict[str, Any], about: content.Issue) -> None:
    """Enter the report's digest in the journal, so that a genuine copy can be told from another."""
    entry = records.validated(
        records.ReportIssued,
        {"id": about.report_id, "kind": kind, "sha256": sha256, "scope": scope, "issued_by": about.generated_by},
    )
    with trace.database.session() as session:
        append(session, [entry])


# --- parts -----------------------------------------------------------------------------------------------------------


def _image(blobs: BlobStore, image: records.Image) -> content.Image:
    return content.Image(
        data=_stored(blobs, image.sha256) if image.pixel_sha256 else None,
        sha256=image.sha256,
        pixel_sha256=image.pixel_sha256,
        size=image.bytes,
        width=image.width,
        height=image.height,
        media_type=image.media_type,
    )


def _stored(blobs: BlobStore, digest: str | None) -> bytes | None:
    """The bytes, or None where they are gone or altered: a picture that is not the recorded one is never shown."""
    if digest is None:
        return None
    try:
        return blobs.get(digest)
    except (BlobMissingError, BlobTamperedError):
        return None


def _overlay(record: records.Inspection, grid: bytes | None, blobs: BlobStore) -> bytes | None:
    """The picture, or None where image, heat map or the version's manifest are not the recorded ones."""
    data = _stored(blobs, record.image.sha256)
    if data is None:
        return None
    try:
        return overlay_png(record, grid, data, blobs)
    except TraceaiError:
        return None


def _explanation(record: records.Inspection, grid: bytes | None, blobs: BlobStore) -> content.Explanation:
    e = record.explanation
    return content.Explanation(
        method=e.method,
        layer=e.layer,
        target=e.target,
        height=e.height,
        width=e.width,
        sha256=e.sha256,
        minimum=e.min,
        maximum=e.max,
        total=e.sum,
        peak_row=e.peak_row,
        peak_column=e.peak_column,
        degenerate=e.degenerate,
        positive_fraction=e.positive_fraction,
        bias=e.bias,
        residual=e.residual,
        overlay=_overlay(record, grid, blobs),
    )


def _review(index: int, review: records.Review | content.Unreadable) -> content.Review | content.Unreadable:
    if isinstance(review, content.Unreadable):
        return review
    return content.Review(
        truth=review.truth,
        reviewer=review.reviewer,
        at=parse_timestamp(review.occurred_at),
        defect_type=review.defect_type,
        source=review.source,
        note=review.note,
        ledger_index=index,
    )


def _environment(
    session: Session, quotes: Quotes, record: records.Inspection | records.InspectionFailed
) -> tuple[tuple[str, str], ...] | content.Unreadable:
    if isinstance(record, records.InspectionFailed):
        return ()
    query = select(_runtime.c.journal_index).where(_runtime.c.digest == bytes.fromhex(record.runtime))
    index = session.execute(query).scalars().first()
    if index is None:
        return ()
    runtime = quotes.record(index, records.Runtime)
    if isinstance(runtime, content.Unreadable):
        return runtime
    if runtime.digest != record.runtime:
        return quotes.refuse(index)
    return tuple((name, str(value)) for name, value in runtime.environment.items())


def _error(session: Session, blobs: BlobStore, error: VerifiedError) -> content.VerifiedError:
    query = select(_heat_map.c.grid).where(_heat_map.c.journal_index == error.row.ledger_index)
    grid = session.execute(query).scalars().first()
    return content.VerifiedError(
        row=error.row,
        image=_stored(blobs, error.decision.image.sha256),
        overlay=_overlay(error.decision, grid, blobs),
        reviewer=error.review.reviewer,
        note=error.review.note,
    )


def _ledger(session: Session, known: Known, outcome: Outcome) -> content.Ledger:
    signed = signing.signed(session, known)
    facts = [
        content.LedgerFact(
            name=fact.name,
            meaning=fact.meaning,
            checked=fact.checked,
            failures=fact.failures,
            findings=tuple(fact.findings[:10]),
        )
        for fact in outcome.facts
    ]
    return content.Ledger(
        size=outcome.size,
        root=outcome.root.hex(),
        origin=signed.origin,
        key=signed.key,
        checkpoint=signed.checkpoint,
        unread=signed.unread,
        verified_at=now(),
        facts=(*facts, _BLOBS),
    )


def _periods(session: Session, wanted: Filter) -> tuple[str, tuple[content.Counts, ...]]:
    """By day where there are several, else by lot, else by station; nothing to draw where there is one of each."""
    for name, group in (
        ("day", func.coalesce(func.to_char(_c.occurred_at, "YYYY-MM-DD"), "no day")),
        ("lot", func.coalesce(_c.lot, "no lot")),
        ("station", _c.station),
    ):
        query = (
            select(
                group.label("label"),
                *(
                    func.count(case((_c.verdict == verdict, 1))).label(verdict)
                    for verdict in ("pass", "reject", "undecided")
                ),
                func.count(case((_c.verdict.is_(None), 1))).label("failed"),
            )
            .where(*wanted.conditions())
            .group_by("label")
            .order_by("label")
        )
        rows = session.execute(query).all()
        if len(rows) > 1:
            return name, tuple(
                content.Counts(label=label, passed=passed, rejected=rejected, undecided=undecided, failed=failed)
                for label, passed, rejected, undecided, failed in rows
            )
    return "day", ()
