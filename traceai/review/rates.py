"""From the tables to `traceai.stats.rates`: count decisions and their verified truth, by verdict and audit probability."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, Row, String, and_, case, cast, func, select
from sqlmodel import Session

from traceai.db import tables
from traceai.errors import InputError, RecordError
from traceai.inspection.history import Filter
from traceai.review.verdicts import latest
from traceai.stats.rates import Cell, Rates, estimate_rates

_inspection = tables.table_of(tables.Inspection)
_c = _inspection.c

# Version 1 of one model is not version 1 of another, so a version is named as everywhere else: name@version.
GROUPS: Mapping[str, ColumnElement[Any]] = {
    "station": _c.station,
    "model": _c.model_name,
    "version": _c.model_name + "@" + cast(_c.model_version, String),
    "product": _c.product,
    "lot": _c.lot,
    "day": func.to_char(_c.occurred_at, "YYYY-MM-DD"),
}


@dataclass(frozen=True)
class TypeAgreement:
    """How often a reviewed part's defect type is the one the model named, over reviews that name a type."""

    defect_type: str
    agreed: int
    reviewed: int


@dataclass(frozen=True)
class RatesReport:
    """The rates of one group of decisions, and what has to stand beside them.

    failed: attempts that came to no decision. simulated: how many of the reviews were not made by a person.
    """

    group: str | None
    rates: Rates
    decisions: int
    failed: int
    reviewed: int
    simulated: int
    types: tuple[TypeAgreement, ...]


def rates(session: Session, wanted: Filter, *, by: str | None = None, confidence: float = 0.95) -> list[RatesReport]:
    """Rates over the decisions that `wanted` selects, one report a group of `by` (see `GROUPS`), in its order.

    Only reviews of parts that were drawn for audit enter an estimate; the last review of a part counts.

    Raises:
        InputError: `by` is no group, or the confidence is outside (0, 1).
        RecordError: The table has an audit draw that no decision can have recorded.
    """
    if by is not None and by not in GROUPS:
        raise InputError(f"Rates cannot be grouped by {by}; choose one of {', '.join(GROUPS)}.")
    if wanted.verdict is not None:
        raise InputError("Rates of one verdict alone mean nothing; leave the verdict out.")
    group: ColumnElement[Any] = cast(None, String) if by is None else GROUPS[by]
    review = latest()
    good, defective = review.c.truth == "good", review.c.truth == "defective"
    count = func.count
    query = (
        select(
            group.label("group"),
            _c.verdict,
            _c.audit_probability,
            count().label("decisions"),
            count(case((and_(_c.audit_drawn, good), 1))).label("verified_good"),
            count(case((and_(_c.audit_drawn, defective), 1))).label("verified_defective"),
            count(case((and_(~_c.audit_drawn, good), 1))).label("targeted_good"),
            count(case((and_(~_c.audit_drawn, defective), 1))).label("targeted_defective"),
            count(review.c.id).label("reviewed"),
            count(case((review.c.source == "simulated", 1))).label("simulated"),
        )
        .select_from(_inspection.outerjoin(review, review.c.inspection_id == _c.id))
        .where(*wanted.conditions())
        .group_by("group", _c.verdict, _c.audit_probability)
        .order_by("group")
    )
    groups: dict[str | None, list[Row[Any]]] = {}
    for row in session.execute(query).all():
        groups.setdefault(row.group, []).append(row)
    types = _types(session, wanted, group)
    return [_report(name, rows, types.get(name, ()), confidence) for name, rows in (groups or {None: []}).items()]


def _report(name: str | None, rows: list[Row[Any]], types: tuple[TypeAgreement, ...], confidence: float) -> RatesReport:
    decided = [row for row in rows if row.verdict is not None]
    return RatesReport(
        group=name,
        rates=estimate_rates(map(_cell, decided), confidence),
        decisions=sum(row.decisions for row in decided),
        failed=sum(row.decisions for row in rows if row.verdict is None),
        reviewed=sum(row.reviewed for row in rows),
        simulated=sum(row.simulated for row in rows),
        types=types,
    )


def _cell(row: Row[Any]) -> Cell:
    drawn = row.verified_good + row.verified_defective
    if row.audit_probability is None or (row.audit_probability == 0 and drawn):
        raise RecordError(
            f"{row.decisions} decisions with the verdict {row.verdict} have an audit draw that none can have recorded; "
            "run `traceai ledger verify`."
        )
    return Cell(
        verdict=row.verdict,
        probability=row.audit_probability,
        decisions=row.decisions,
        verified_good=row.verified_good,
        verified_defective=row.verified_defective,
        targeted_good=row.targeted_good,
        targeted_defective=row.targeted_defective,
    )


def _types(session: Session, wanted: Filter, group: ColumnElement[Any]) -> dict[str | None, tuple[TypeAgreement, ...]]:
    review = latest()
    query = (
        select(
            group.label("group"),
            review.c.defect_type,
            func.count(case((_c.explanation_target == review.c.defect_type, 1))).label("agreed"),
            func.count().label("reviewed"),
        )
        .select_from(_inspection.join(review, review.c.inspection_id == _c.id))
        .where(*wanted.conditions(), review.c.defect_type.is_not(None))
        .group_by("group", review.c.defect_type)
        .order_by("group", review.c.defect_type)
    )
    found: dict[str | None, list[TypeAgreement]] = {}
    for row in session.execute(query).all():
        found.setdefault(row.group, []).append(TypeAgreement(row.defect_type, row.agreed, row.reviewed))
    return {name: tuple(agreements) for name, agreements in found.items()}
