"""The rows of an audit report: which decisions stand in it, found in the tables, and what they say, from the journal."""

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import ColumnElement, and_, or_, select
from sqlmodel import Session

from traceai.clock import parse_timestamp
from traceai.db import tables
from traceai.inspection.history import Filter
from traceai.ledger import records
from traceai.review.verdicts import latest
from traceai_reports.content import DecisionRow, FailedInspection, Failure, Unreadable
from traceai_reports.quotes import Quotes

_inspection = tables.table_of(tables.Inspection)
_c = _inspection.c

# More rows than this make a paper that nobody reads; the report says how many it leaves out.
LISTED_DECISIONS = 1000

Attempt = records.Inspection | records.InspectionFailed
Reviews = Sequence[tuple[int, records.Review | Unreadable]]


@dataclass(frozen=True)
class VerifiedError:
    """A decision that its last review contradicts, as recorded."""

    row: DecisionRow
    decision: records.Inspection
    review: records.Review


@dataclass(frozen=True)
class Rows:
    """What an audit report lists.

    Attributes:
        decisions: The newest of the scope, at most `LISTED_DECISIONS`, in ledger order.
        failed: The failed inspections, at most as many, in ledger order.
        errors: All verified errors, false negatives first.
    """

    decisions: tuple[DecisionRow | Unreadable, ...]
    failed: tuple[FailedInspection | Unreadable, ...]
    errors: tuple[VerifiedError, ...]


def rows(session: Session, quotes: Quotes, wanted: Filter) -> Rows:
    """What stands in a row is what its entry says.

    The tables choose the rows. A listed decision that only its entry calls failed or wrong is among the failed or wrong ones
    all the same, and one that only its table row calls so is not.
    """
    newest = _indices(session, wanted, newest_first=True)[::-1]
    failed = set(_indices(session, wanted, _c.failure_code.is_not(None)))
    suspects = _contradicted(session, wanted)
    chosen = sorted({*newest, *failed, *suspects})
    quotes.read(chosen)
    attempts = {index: quotes.attempt(index) for index in chosen}
    reviews = quotes.reviews(a.id for a in attempts.values() if not isinstance(a, Unreadable))
    lines: dict[int, DecisionRow | Unreadable] = {}
    failures: list[FailedInspection | Unreadable] = []
    errors: list[VerifiedError] = []
    for index, attempt in attempts.items():
        if isinstance(attempt, Unreadable):
            lines[index] = attempt
            if index in failed:
                failures.append(attempt)
            continue
        own: Reviews = reviews.get(attempt.id, ())
        line = lines[index] = _line(index, attempt, own)
        if isinstance(attempt, records.InspectionFailed):
            failures.append(_failed(index, attempt))
        elif line.error and not isinstance(review := own[-1][1], Unreadable):
            errors.append(VerifiedError(line, attempt, review))
    errors.sort(key=lambda error: (error.row.error != "false negative", error.row.ledger_index))
    return Rows(
        decisions=tuple(lines[index] for index in newest),
        failed=tuple(failures[:LISTED_DECISIONS]),
        errors=tuple(errors),
    )


def _indices(
    session: Session, wanted: Filter, *conditions: ColumnElement[bool], newest_first: bool = False
) -> Sequence[int]:
    order = _c.journal_index.desc() if newest_first else _c.journal_index
    query = select(_c.journal_index).where(*wanted.conditions(), *conditions).order_by(order).limit(LISTED_DECISIONS)
    return session.execute(query).scalars().all()


def _contradicted(session: Session, wanted: Filter) -> Sequence[int]:
    """Where the tables have a verdict that the last review contradicts."""
    review = latest()
    wrong = or_(
        and_(_c.verdict == "pass", review.c.truth == "defective"),
        and_(_c.verdict == "reject", review.c.truth == "good"),
    )
    query = (
        select(_c.journal_index)
        .join(review, review.c.inspection_id == _c.id)
        .where(*wanted.conditions(), wrong)
        .order_by(_c.journal_index)
    )
    return session.execute(query).scalars().all()


def _line(index: int, attempt: Attempt, reviews: Reviews) -> DecisionRow:
    decided = attempt if isinstance(attempt, records.Inspection) else None
    score = decided.defect_score if decided else None
    last = reviews[-1][1] if reviews else None
    review = last if isinstance(last, records.Review) else None
    return DecisionRow(
        id=attempt.id,
        ledger_index=index,
        occurred_at=parse_timestamp(attempt.occurred_at),
        station=attempt.station,
        station_seq=attempt.station_seq,
        model=f"{attempt.model.name}@{attempt.model.version}",
        verdict=decided.verdict if decided else None,
        defect_score=None if score is None else f"{float(score):.6f}",
        failure_code=attempt.failure_code if isinstance(attempt, records.InspectionFailed) else None,
        serial=attempt.part.serial,
        lot=attempt.part.lot,
        truth=review.truth if review else None,
        defect_type=review.defect_type if review else None,
        simulated=review is not None and review.source == "simulated",
        drawn=decided is not None and decided.audit.drawn,
        unread=last if isinstance(last, Unreadable) else None,
    )


def _failed(index: int, attempt: records.InspectionFailed) -> FailedInspection:
    return FailedInspection(
        id=attempt.id,
        ledger_index=index,
        occurred_at=parse_timestamp(attempt.occurred_at),
        station=attempt.station,
        failure=Failure(code=attempt.failure_code, sentence=attempt.failure),
        serial=attempt.part.serial,
    )
