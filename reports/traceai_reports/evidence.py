"""From the ledger to a report's content: what is on record, read once, in one transaction.

A report quotes the journal's bytes wherever it can, because those are what can be proved; the tables only find them.
"""

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Table, case, func, select
from sqlmodel import Session

from traceai import __version__
from traceai.clock import now, parse_timestamp, uuid7
from traceai.db import tables
from traceai.errors import BlobMissingError, BlobTamperedError, TraceaiError
from traceai.images.blobs import BlobStore
from traceai.inspection import history
from traceai.inspection.history import Dossier, Filter
from traceai.inspection.picture import overlay_png
from traceai.ledger import records, verification
from traceai.ledger.log import append
from traceai.ledger.verification import Outcome
from traceai.models.scores import GOOD
from traceai.review import rates as review_rates
from traceai.review.verdicts import latest
from traceai.sdk import Trace
from traceai_reports import content, lineage

_inspection: Table = tables.Inspection.__table__  # type: ignore[attr-defined]  # set by SQLAlchemy
_c = _inspection.c

# More rows than this make a paper that nobody reads; the report says how many it leaves out.
LISTED_DECISIONS = 1000
SHOWN_ERRORS = 12


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
    """
    with trace.database.moment() as session:
        found = history.dossier(session, history.find(session, reference))
        outcome = verification.verify_within(session.connection())
    record = found.entry.record
    if not isinstance(record, records.Inspection | records.InspectionFailed):
        raise TypeError(f"journal entry {found.row.journal_index} is no inspection")
    common: dict[str, Any] = {
        "issue": about,
        "id": record.id,
        "ledger_index": found.row.journal_index,
        "leaf_hash": found.leaf_hash.hex(),
        "recorded_at": parse_timestamp(found.entry.recorded_at),
        "occurred_at": parse_timestamp(record.occurred_at),
        "station": record.station,
        "station_seq": record.station_seq,
        "trigger": record.trigger,
        "part": content.Part(**record.part.model_dump()),
        "image": _image(trace.blobs, record.image),
        "model": lineage.at_decision(found),
        "ledger": _ledger(outcome),
        "reviews": tuple(_review(review) for review in found.reviews),
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
        explanation=_explanation(found, record, trace.blobs),
        audit=content.AuditDraw(**record.audit.model_dump()),
        runtime=record.runtime,
        environment=tuple((name, str(value)) for name, value in found.runtime.environment.items())
        if found.runtime
        else (),
        latency_us=record.latency_us,
    )


def audit(trace: Trace, wanted: Filter, about: content.Issue, title: str) -> content.AuditReport:
    """The decisions that `wanted` selects, their rates, the models behind them, and what was verified wrong."""
    with trace.database.moment() as session:
        outcome = verification.verify_within(session.connection())
        report = review_rates.rates(session, wanted)[0]
        rates = report.rates
        period_name, periods = _periods(session, wanted)
        rows = _rows(session, wanted)
        errors = [row for row in rows if row.error is not None]
        errors.sort(key=lambda row: (row.error != "false negative", row.ledger_index))
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
            ledger=_ledger(outcome),
            periods=periods,
            period_name=period_name,
            decisions=tuple(rows[-LISTED_DECISIONS:]),
            models=lineage.in_scope(session, wanted),
            errors=tuple(_error(session, trace.blobs, row) for row in errors[:SHOWN_ERRORS]),
            errors_total=len(errors),
            failed=_failed(session, wanted),
            reviewed=report.reviewed,
            simulated=report.simulated,
            first_index=first,
            last_index=last,
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


def _overlay(found: Dossier, blobs: BlobStore) -> bytes | None:
    data = _stored(blobs, found.row.image_sha256.hex() if found.row.image_sha256 else None)
    if data is None:
        return None
    try:
        return overlay_png(found, data)
    except TraceaiError:
        return None


def _explanation(found: Dossier, record: records.Inspection, blobs: BlobStore) -> content.Explanation:
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
        overlay=_overlay(found, blobs),
    )


def _review(row: tables.Review) -> content.Review:
    return content.Review(
        truth=row.truth,  # type: ignore[arg-type]  # a CHECK holds it to the two
        reviewer=row.reviewer,
        at=row.occurred_at,
        defect_type=row.defect_type,
        source=row.source,  # type: ignore[arg-type]  # likewise
        note=row.note,
        ledger_index=row.journal_index,
    )


def _ledger(outcome: Outcome) -> content.Ledger:
    return content.Ledger(
        size=outcome.size,
        root=outcome.root.hex(),
        verified_at=now(),
        facts=tuple(
            content.LedgerFact(
                name=fact.name,
                meaning=fact.meaning,
                checked=fact.checked,
                failures=fact.failures,
                findings=tuple(fact.findings[:10]),
            )
            for fact in outcome.facts
        ),
    )


def _periods(session: Session, wanted: Filter) -> tuple[str, tuple[content.Counts, ...]]:
    """By day where there are several, else by lot, else by station; nothing to draw where there is one of each."""
    for name, group in (
        ("day", func.to_char(_c.occurred_at, "YYYY-MM-DD")),
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


def _rows(session: Session, wanted: Filter) -> list[content.DecisionRow]:
    review = latest()
    query = (
        select(tables.Inspection, review.c.truth, review.c.defect_type.label("found_type"), review.c.source.label("by"))
        .outerjoin(review, review.c.inspection_id == _c.id)
        .where(*wanted.conditions())
        .order_by(_c.journal_index)
    )
    return [
        content.DecisionRow(
            id=str(row.id),
            ledger_index=row.journal_index,
            occurred_at=row.occurred_at,
            station=row.station,
            station_seq=row.station_seq,
            model=f"{row.model_name}@{row.model_version}",
            verdict=row.verdict,
            defect_score=None if row.defect_score is None else f"{row.defect_score:.6f}",
            failure_code=row.failure_code,
            serial=row.serial,
            lot=row.lot,
            truth=truth,
            defect_type=found_type,
            simulated=by == "simulated",
            drawn=bool(row.audit_drawn),
        )
        for row, truth, found_type, by in session.execute(query).all()
    ]


def _error(session: Session, blobs: BlobStore, row: content.DecisionRow) -> content.VerifiedError:
    found = history.dossier(session, history.find(session, row.id))
    review = found.reviews[-1]
    return content.VerifiedError(
        row=row,
        image=_stored(blobs, found.row.image_sha256.hex() if found.row.image_sha256 else None),
        overlay=_overlay(found, blobs),
        reviewer=review.reviewer,
        note=review.note,
    )


def _failed(session: Session, wanted: Filter) -> tuple[content.FailedInspection, ...]:
    query = (
        select(tables.Inspection)
        .where(*wanted.conditions(), _c.failure_code.is_not(None))
        .order_by(_c.journal_index)
        .limit(LISTED_DECISIONS)
    )
    rows: Sequence[tables.Inspection] = session.execute(query).scalars().all()
    return tuple(
        content.FailedInspection(
            id=str(row.id),
            ledger_index=row.journal_index,
            occurred_at=row.occurred_at,
            station=row.station,
            failure=content.Failure(code=row.failure_code or "", sentence=row.failure or ""),
            serial=row.serial,
        )
        for row in rows
    )
