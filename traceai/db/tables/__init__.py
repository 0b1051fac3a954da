"""The tables. The journal is the truth; the evidence tables are its index and can be rebuilt from it.

A `table=True` class does not validate, so every rule is a named CHECK here and a field type in `ledger.records`.
The triggers that keep evidence append-only, and the partitions, are in the migration: metadata cannot express them.

What grows with the line (`PARTITIONED`) is partitioned by ledger index. There the index is the primary key, uniqueness across
partitions is the append's to keep and verification's to check, and no foreign key slows an append.
JSON columns hold canonical text (RFC 8785), as it stands in the entry.
"""

from sqlmodel import SQLModel

from traceai.db.tables.base import Evidence, table_of
from traceai.db.tables.evidence import (
    DatasetImage,
    DatasetSnapshot,
    ExplanationQuality,
    Gap,
    HeatMap,
    Inspection,
    LedgerKey,
    LedgerOpened,
    ModelEvent,
    ModelExport,
    ModelRefused,
    ModelVersion,
    ReportIssued,
    Review,
    Runtime,
    TablesRebuilt,
    WitnessPolicy,
)
from traceai.db.tables.ledger import Checkpoint, Journal, LedgerHead, TreeNode
from traceai.db.tables.operations import AccessFields, AccessLog, ApiToken, StageLatency, Station, User

__all__ = [
    "APPEND_ONLY",
    "EVIDENCE",
    "PARTITIONED",
    "AccessFields",
    "AccessLog",
    "ApiToken",
    "Checkpoint",
    "DatasetImage",
    "DatasetSnapshot",
    "Evidence",
    "ExplanationQuality",
    "Gap",
    "HeatMap",
    "Inspection",
    "Journal",
    "LedgerHead",
    "LedgerKey",
    "LedgerOpened",
    "ModelEvent",
    "ModelExport",
    "ModelRefused",
    "ModelVersion",
    "ReportIssued",
    "Review",
    "Runtime",
    "StageLatency",
    "Station",
    "TablesRebuilt",
    "TreeNode",
    "User",
    "WitnessPolicy",
    "table_of",
]

EVIDENCE: tuple[type[Evidence], ...] = (
    Inspection, Runtime, DatasetSnapshot, ModelVersion, ModelEvent, ModelRefused, ModelExport, Review, ReportIssued, LedgerOpened,
    LedgerKey, WitnessPolicy, TablesRebuilt, Gap, ExplanationQuality,
)  # fmt: skip
APPEND_ONLY: tuple[type[SQLModel], ...] = (
    Journal, TreeNode, *EVIDENCE, HeatMap, DatasetImage, Checkpoint, AccessLog,
)  # fmt: skip
PARTITIONED: tuple[type[SQLModel], ...] = (Journal, Inspection, HeatMap)
