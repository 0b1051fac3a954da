"""Ground truth: what a person found a part to be. Reviews are appended and never edited; the last one speaks."""

from collections.abc import Sequence

from sqlalchemy import Subquery, select
from sqlalchemy.dialects.postgresql import distinct_on
from sqlmodel import Session

from traceai.db import tables
from traceai.errors import ConflictError, InputError
from traceai.ledger import log, records
from traceai.ledger.log import Receipt
from traceai.ledger.records import validated

_inspection = tables.table_of(tables.Inspection)
_review = tables.table_of(tables.Review)
_journal = tables.table_of(tables.Journal)

NOT_A_TYPE = "A good part has no defect type; leave the type out, or say that the part is defective."


def add(
    session: Session,
    row: tables.Inspection,
    *,
    truth: str,
    reviewer: str,
    defect_type: str | None = None,
    note: str = "",
    simulated: bool = False,
) -> Receipt:
    """Append one review of `row`.

    Raises:
        InputError: `truth` is neither good nor defective, or a good part is given a defect type.
        ConflictError: the inspection failed, so there is no decision to review.
    """
    return add_many(session, [Finding(row, truth, defect_type, note)], reviewer=reviewer, simulated=simulated)[0]


class Finding:
    """What a reviewer says of one decision."""

    def __init__(self, row: tables.Inspection, truth: str, defect_type: str | None = None, note: str = "") -> None:
        if truth not in ("good", "defective"):
            raise InputError(f"The truth is good or defective, not {truth!r}.")
        if truth == "good" and defect_type:
            raise InputError(NOT_A_TYPE)
        if row.verdict is None:
            raise ConflictError(f"Inspection {row.id} failed and decided nothing, so there is no decision to review.")
        self.row, self.truth, self.defect_type, self.note = row, truth, defect_type or None, note


def add_many(session: Session, findings: Sequence[Finding], *, reviewer: str, simulated: bool = False) -> list[Receipt]:
    """Append reviews in one batch; see `add`."""
    leaves = dict(
        session.execute(
            select(_journal.c["index"], _journal.c.leaf_hash).where(
                _journal.c["index"].in_([finding.row.journal_index for finding in findings])
            )
        ).all()
    )
    reviews = [
        validated(
            records.Review,
            {
                "inspection_id": str(finding.row.id),
                "inspection_leaf": leaves[finding.row.journal_index].hex(),
                "truth": finding.truth,
                "defect_type": finding.defect_type,
                "reviewer": reviewer,
                "source": "simulated" if simulated else "human",
                "note": finding.note,
            },
        )
        for finding in findings
    ]
    return log.append(session, reviews)


def queue(session: Session, *, station: str | None = None, limit: int | None = 50) -> Sequence[tables.Inspection]:
    """Decisions that were drawn for verification and still wait for it, oldest first."""
    query = (
        select(tables.Inspection)
        .outerjoin(_review, _review.c.inspection_id == _inspection.c.id)
        .where(_inspection.c.audit_drawn, _review.c.id.is_(None))
        .order_by(_inspection.c.journal_index)
        .limit(limit)
    )
    if station is not None:
        query = query.where(_inspection.c.station == station)
    return session.execute(query).scalars().all()


def latest() -> Subquery:
    """A subquery with the last review of every reviewed inspection."""
    return (
        select(_review)
        .ext(distinct_on(_review.c.inspection_id))
        .order_by(_review.c.inspection_id, _review.c.journal_index.desc())
        .subquery("latest_review")
    )
