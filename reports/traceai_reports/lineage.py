"""Where a model version comes from, as a report tells it: what was registered, signed and imported, from the journal."""

from collections.abc import Mapping
from typing import Any

from sqlalchemy import func, select
from sqlmodel import Session

from traceai.clock import parse_timestamp
from traceai.data.layouts import SPLITS
from traceai.db import tables
from traceai.explain import wording
from traceai.inspection.history import Filter
from traceai.ledger import records
from traceai_reports import content
from traceai_reports.content import Signature, Unreadable
from traceai_reports.quotes import Quotes

_inspection = tables.table_of(tables.Inspection)
_version = tables.table_of(tables.ModelVersion)
_event = tables.table_of(tables.ModelEvent)
_snapshot = tables.table_of(tables.DatasetSnapshot)
_quality = tables.table_of(tables.ExplanationQuality)
_c = _inspection.c

# What is printed of an evaluation and of a training, in this order; the record keeps the rest.
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


def in_scope(session: Session, quotes: Quotes, wanted: Filter) -> tuple[content.ModelVersion, ...]:
    """The versions that decided in this scope, with everything signed until now."""
    query = (
        select(_c.model_name, _c.model_version, func.count())
        .where(*wanted.conditions())
        .group_by(_c.model_name, _c.model_version)
        .order_by(_c.model_name, _c.model_version)
    )
    return tuple(
        _told(session, quotes, name, version, decisions=count) for name, version, count in session.execute(query).all()
    )


def at_decision(session: Session, quotes: Quotes, model: records.ModelRef, index: int) -> content.ModelVersion:
    """The version as it stood when entry `index` was decided: what was signed later is no part of that."""
    return _told(session, quotes, model.name, model.version, digest=model.digest, before=index)


def _told(
    session: Session,
    quotes: Quotes,
    name: str,
    version: int,
    *,
    digest: str | None = None,
    before: int | None = None,
    decisions: int | None = None,
) -> content.ModelVersion:
    steps = _steps(session, quotes, name, version, before)
    known: dict[str, Any] = {
        "name": name,
        "version": version,
        "digest": digest,
        "explained": _explained(session, quotes, name, version, before),
        "waived": steps.get("waive"),
        "approved": steps.get("approve"),
        "activated": steps.get("activate"),
        "retired": steps.get("retire"),
        "decisions": decisions,
    }
    registered = select(_version.c.journal_index).where(_version.c.name == name, _version.c.version == version)
    index = session.execute(registered).scalars().first()
    if index is None:
        return content.ModelVersion(**known)
    record = quotes.record(index, records.ModelVersion)
    if not isinstance(record, Unreadable) and (record.model.name, record.model.version) != (name, version):
        record = quotes.refuse(index)
    if isinstance(record, Unreadable):
        return content.ModelVersion(**known, unread=record)
    point = record.operating_point
    return content.ModelVersion(
        **known | {"digest": digest or record.model.digest},
        weights_digest=record.weights_sha256,
        architecture=record.architecture,
        parameters=record.parameters,
        classes=tuple(record.classes),
        operating_point=content.OperatingPoint(**point.model_dump()) if point else None,
        snapshot=_trained_on(session, quotes, record),
        trained=Signature(by=record.made_by, at=parse_timestamp(record.occurred_at)),
        training=_facts(record.training, TRAINING),
        evaluation=_facts(record.evaluation, EVALUATION),
    )


def _steps(
    session: Session, quotes: Quotes, name: str, version: int, before: int | None
) -> dict[str, Signature | Unreadable]:
    """The last approval, activation and retirement of a version, of those that precede entry `before`.

    What kind of step an unreadable entry was, only the table still says.
    """
    query = (
        select(_event.c.journal_index, _event.c.action)
        .where(_event.c.model_name == name, _event.c.model_version == version)
        .order_by(_event.c.journal_index)
    )
    if before is not None:
        query = query.where(_event.c.journal_index < before)
    last: dict[str, Signature | Unreadable] = {}
    for index, action in session.execute(query).all():
        record = quotes.record(index, records.ModelEvent)
        if isinstance(record, Unreadable):
            last[action] = record
        elif (record.model.name, record.model.version) == (name, version):
            last[record.action] = Signature(
                by=record.actor, at=parse_timestamp(record.occurred_at), reason=record.reason
            )
    return last


def _explained(
    session: Session, quotes: Quotes, name: str, version: int, before: int | None
) -> content.Explained | Unreadable | None:
    """The last measurement of a version's explanations, of those that precede entry `before`."""
    query = (
        select(_quality.c.journal_index)
        .where(_quality.c.model_name == name, _quality.c.model_version == version)
        .order_by(_quality.c.journal_index.desc())
        .limit(1)
    )
    if before is not None:
        query = query.where(_quality.c.journal_index < before)
    index = session.execute(query).scalars().first()
    if index is None:
        return None
    record = quotes.record(index, records.ExplanationQuality)
    if isinstance(record, Unreadable):
        return record
    try:
        words, findings, layers = wording.told(record.randomisation, record.measures)
    except ValueError:  # sealed by something else than this program
        return quotes.refuse(index)
    if (record.model.name, record.model.version) != (name, version):
        return quotes.refuse(index)
    return content.Explained(
        measured=Signature(by=record.actor, at=parse_timestamp(record.occurred_at)),
        method=record.method,
        layer=record.layer,
        images=record.images,
        verdict=record.randomisation,
        words=words,
        findings=tuple(findings),
        layers=tuple(layers),
    )


def _trained_on(session: Session, quotes: Quotes, model: records.ModelVersion) -> content.Snapshot | None:
    if model.snapshot_name is None or model.snapshot_digest is None:
        return None
    named: dict[str, Any] = {"name": model.snapshot_name, "digest": model.snapshot_digest}
    imported = select(_snapshot.c.journal_index).where(
        _snapshot.c.name == model.snapshot_name, _snapshot.c.digest == bytes.fromhex(model.snapshot_digest)
    )
    index = session.execute(imported).scalars().first()
    if index is None:
        return content.Snapshot(**named)
    record = quotes.record(index, records.DatasetSnapshot)
    if not isinstance(record, Unreadable) and (record.name, record.digest) != tuple(named.values()):
        record = quotes.refuse(index)
    if isinstance(record, Unreadable):
        return content.Snapshot(**named, unread=record)
    return content.Snapshot(**named, images=record.images, counts=tuple(_counts(record, model.classes)))


def _counts(snapshot: records.DatasetSnapshot, classes: list[str]) -> list[tuple[str, int]]:
    found: list[tuple[str, int]] = []
    for split in SPLITS:
        counts = snapshot.counts.get(split)
        if isinstance(counts, Mapping):
            found += [
                (f"{split}, {name}", count) for name in classes if isinstance(count := counts.get(name), int) and count
            ]
    return found


def _facts(facts: Mapping[str, Any], labels: Mapping[str, str]) -> tuple[tuple[str, str], ...]:
    return tuple((label, str(facts[name])) for name, label in labels.items() if facts.get(name) is not None)
