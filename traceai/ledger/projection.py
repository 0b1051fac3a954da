"""What a journal entry looks like in the tables: the one mapping behind append, verify and rebuild."""

import uuid
from collections.abc import Callable
from datetime import datetime
from typing import Any

from sqlmodel import SQLModel

from traceai.clock import parse_timestamp
from traceai.db import tables
from traceai.ledger import records
from traceai.ledger.records import Entry, Record

Columns = dict[str, Any]
Row = tuple[type[SQLModel], Columns]


def project(index: int, entry: Entry) -> Row:
    """The table and the column values that stand for entry number `index`."""
    table, columns = _PROJECTIONS[type(entry.record)]
    record = entry.record
    row = {
        "id": uuid.UUID(record.id),
        "journal_index": index,
        "occurred_at": parse_timestamp(record.occurred_at),
        **columns(record),
    }
    if table is tables.Inspection:
        row["recorded_at"] = parse_timestamp(entry.recorded_at)
    return table, row


def _hex(digest: str | None) -> bytes | None:
    return None if digest is None else bytes.fromhex(digest)


def _number(text: str | None) -> float | None:
    return None if text is None else float(text)


def _model(model: records.ModelRef) -> Columns:
    return {"model_name": model.name, "model_version": model.version, "model_digest": _hex(model.digest)}


def _operating_point(point: records.OperatingPoint | None) -> Columns:
    return {
        "pass_below": _number(point.pass_below) if point else None,
        "reject_at": _number(point.reject_at) if point else None,
    }


def _attempt(record: records.Inspection | records.InspectionFailed) -> Columns:
    return {
        "station": record.station,
        "station_seq": record.station_seq,
        "trigger": record.trigger,
        "product": record.part.product,
        "serial": record.part.serial,
        "lot": record.part.lot,
        "view": record.part.view,
        "image_sha256": _hex(record.image.sha256),
        "pixel_sha256": _hex(record.image.pixel_sha256),
        "image_bytes": record.image.bytes,
        "image_width": record.image.width,
        "image_height": record.image.height,
        "image_media_type": record.image.media_type,
        **_model(record.model),
    }


def _inspection(record: records.Inspection) -> Columns:
    explanation = record.explanation
    return {
        **_attempt(record),
        "logits": dict(record.logits),
        "scores": dict(record.scores),
        "defect_score": _number(record.defect_score),
        **_operating_point(record.operating_point),
        "verdict": record.verdict,
        "predicted": record.predicted,
        "explanation_method": explanation.method,
        "explanation_layer": explanation.layer,
        "explanation_target": explanation.target,
        "explanation_height": explanation.height,
        "explanation_width": explanation.width,
        "explanation_sha256": _hex(explanation.sha256),
        "explanation_min": _number(explanation.min),
        "explanation_max": _number(explanation.max),
        "explanation_sum": _number(explanation.sum),
        "explanation_positive_fraction": _number(explanation.positive_fraction),
        "explanation_peak_row": explanation.peak_row,
        "explanation_peak_column": explanation.peak_column,
        "explanation_bias": _number(explanation.bias),
        "explanation_residual": _number(explanation.residual),
        "explanation_degenerate": explanation.degenerate,
        "audit_stratum": record.audit.stratum,
        "audit_probability": _number(record.audit.probability),
        "audit_drawn": record.audit.drawn,
        "runtime": _hex(record.runtime),
        "latency_us": record.latency_us,
    }


def _inspection_failed(record: records.InspectionFailed) -> Columns:
    return {
        **_attempt(record),
        "source": record.source,
        "failure_code": record.failure_code,
        "failure": record.failure,
    }


def _runtime(record: records.Runtime) -> Columns:
    return {"digest": _hex(record.digest), "environment": dict(record.environment)}


def _snapshot(record: records.DatasetSnapshot) -> Columns:
    return {
        "name": record.name,
        "digest": _hex(record.digest),
        "listing": _hex(record.listing),
        "images": record.images,
        "counts": dict(record.counts),
        "made_by": record.made_by,
    }


def _model_version(record: records.ModelVersion) -> Columns:
    return {
        "name": record.model.name,
        "version": record.model.version,
        "digest": _hex(record.model.digest),
        "weights_sha256": _hex(record.weights_sha256),
        "architecture": record.architecture,
        "parameters": record.parameters,
        "layer": record.layer,
        "classes": list(record.classes),
        **_operating_point(record.operating_point),
        "snapshot_name": record.snapshot_name,
        "snapshot_digest": _hex(record.snapshot_digest),
        "training": dict(record.training),
        "evaluation": dict(record.evaluation),
        "made_by": record.made_by,
    }


def _model_event(record: records.ModelEvent) -> Columns:
    return {**_model(record.model), "action": record.action, "actor": record.actor, "reason": record.reason}


def _model_refused(record: records.ModelRefused) -> Columns:
    return {
        **_model(record.model),
        "file": record.file,
        "expected": _hex(record.expected),
        "found": _hex(record.found),
        "actor": record.actor,
    }


def _review(record: records.Review) -> Columns:
    return {
        "inspection_id": uuid.UUID(record.inspection_id),
        "inspection_leaf": _hex(record.inspection_leaf),
        "truth": record.truth,
        "defect_type": record.defect_type,
        "reviewer": record.reviewer,
        "source": record.source,
        "note": record.note,
    }


def _report(record: records.ReportIssued) -> Columns:
    return {
        "kind": record.kind,
        "sha256": _hex(record.sha256),
        "scope": dict(record.scope),
        "issued_by": record.issued_by,
    }


_PROJECTIONS: dict[type[Record], tuple[type[SQLModel], Callable[[Any], Columns]]] = {
    records.Inspection: (tables.Inspection, _inspection),
    records.InspectionFailed: (tables.Inspection, _inspection_failed),
    records.Runtime: (tables.Runtime, _runtime),
    records.DatasetSnapshot: (tables.DatasetSnapshot, _snapshot),
    records.ModelVersion: (tables.ModelVersion, _model_version),
    records.ModelEvent: (tables.ModelEvent, _model_event),
    records.ModelRefused: (tables.ModelRefused, _model_refused),
    records.Review: (tables.Review, _review),
    records.ReportIssued: (tables.ReportIssued, _report),
}


def readable(value: Any) -> str:
    """A column value as a person would want it named in a finding."""
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, datetime):
        return value.isoformat()
    return str(value)
