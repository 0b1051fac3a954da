"""Where a model version comes from, as a report tells it."""

from typing import Any

from sqlalchemy import Table, func, select
from sqlmodel import Session

from traceai.data.layouts import SPLITS
from traceai.db import tables
from traceai.inspection import history
from traceai.inspection.history import Dossier, Filter
from traceai_reports import content

_inspection: Table = tables.Inspection.__table__  # type: ignore[attr-defined]  # set by SQLAlchemy
_c = _inspection.c

# What is printed of an evaluation and of a training, in this order; the tables keep the rest.
EVALUATION = {
    "evaluated_on": "Evaluated how",
    "images": "Images held out",
    "goods": "of which good",
    "defects": "of which defective",
    "auroc": "AUROC",
    "average_precision": "Average precision",
    "undefined": "Not defined because",
    "operating_point": "Operating point",
    "type_accuracy": "Defect type right",
    "type_recall": "Mean recall over types",
    "pointing": "Explanation's peak on the defect",
    "pointing_chance": "The same for a random cell",
}
TRAINING = {"seed": "Seed", "steps": "Optimiser steps", "code_version": "traceai", "torch_version": "torch"}


def in_scope(session: Session, wanted: Filter) -> tuple[content.ModelVersion, ...]:
    query = (
        select(_c.model_name, _c.model_version, func.count())
        .where(*wanted.conditions())
        .group_by(_c.model_name, _c.model_version)
        .order_by(_c.model_name, _c.model_version)
    )
    return tuple(_model_now(session, name, version, count) for name, version, count in session.execute(query).all())


def _model_now(session: Session, name: str, version: int, decisions: int) -> content.ModelVersion:
    row, snapshot = history.model_and_snapshot(session, name, version)
    if row is None:
        return content.ModelVersion(name=name, version=version, digest="", decisions=decisions)
    last = {event.action: event for event in history.model_events(session, name, version)}
    return _model(
        row,
        snapshot,
        approved=last.get("approve"),
        activated=last.get("activate"),
        retired=last.get("retire"),
        decisions=decisions,
    )


def _signature(event: tables.ModelEvent | None) -> content.Signature | None:
    if event is None:
        return None
    return content.Signature(by=event.actor, at=event.occurred_at, reason=event.reason)


def at_decision(found: Dossier) -> content.ModelVersion:
    """The version as it stood when it decided: what was signed later is no part of that."""
    row = found.row
    if found.model is None:
        return content.ModelVersion(name=row.model_name, version=row.model_version, digest=row.model_digest.hex())
    return _model(
        found.model,
        found.snapshot,
        approved=found.standing("approve"),
        activated=found.standing("activate"),
        retired=found.standing("retire"),
    )


def _model(
    row: tables.ModelVersion,
    snapshot: tables.DatasetSnapshot | None,
    *,
    approved: tables.ModelEvent | None,
    activated: tables.ModelEvent | None,
    retired: tables.ModelEvent | None,
    decisions: int | None = None,
) -> content.ModelVersion:
    point = None
    if row.pass_below is not None and row.reject_at is not None:
        point = content.OperatingPoint(pass_below=str(row.pass_below), reject_at=str(row.reject_at))
    return content.ModelVersion(
        name=row.name,
        version=row.version,
        digest=row.digest.hex(),
        weights_digest=row.weights_sha256.hex(),
        architecture=row.architecture,
        parameters=row.parameters,
        classes=tuple(row.classes),
        operating_point=point,
        snapshot=None
        if snapshot is None
        else content.Snapshot(
            name=snapshot.name,
            digest=snapshot.digest.hex(),
            images=snapshot.images,
            counts=tuple(
                (f"{split}, {name}", count)
                for split in SPLITS
                for name in row.classes
                if (count := snapshot.counts.get(split, {}).get(name))
            ),
        ),
        trained=content.Signature(by=row.made_by, at=row.occurred_at),
        approved=_signature(approved),
        activated=_signature(activated),
        retired=_signature(retired),
        training=_told(row.training, TRAINING),
        evaluation=_told(row.evaluation, EVALUATION),
        decisions=decisions,
    )


def _told(facts: dict[str, Any], labels: dict[str, str]) -> tuple[tuple[str, str], ...]:
    return tuple((label, str(facts[name])) for name, label in labels.items() if facts.get(name) is not None)
