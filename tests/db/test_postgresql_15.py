"""The oldest server that is supported does everything that the embedded one does."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from alembic import command
from sqlalchemy import text

from tests.conftest import cloned, register_tiny
from traceai.db import migrate
from traceai.db.connection import Database
from traceai.images.blobs import BlobStore
from traceai.inspection import history
from traceai.inspection.history import Filter
from traceai.ledger.verification import verifier
from traceai.review import rates, verdicts
from traceai.sdk import Trace
from traceai.settings import Settings
from traceai_reports import audit_report, evidence


@pytest.fixture
def trace_15(server_15: str, tmp_path: Path) -> Iterator[Trace]:
    for url in cloned(server_15):
        settings = Settings(home=tmp_path / "home", database_url=url)
        settings.ensure_home()
        with Trace(settings, Database.open(settings), BlobStore(settings.blobs_url)) as opened:
            yield opened


def test_it_is_15_and_its_schema_is_the_declared_one(trace_15: Trace) -> None:
    with trace_15.database.session() as session:
        assert session.execute(text("SHOW server_version_num")).scalar_one().startswith("15")
    command.check(migrate.configuration(trace_15.database.engine))
    assert migrate.unprotected(trace_15.database.engine) == []


def test_from_image_to_verified_report(trace_15: Trace, images: Sequence[Path], tmp_path: Path) -> None:
    reference = register_tiny(trace_15)
    trace_15.add_station("press-4", audit_pass_probability=1.0)
    decisions = list(trace_15.inspector(reference, "press-4").inspect_many(images))
    with trace_15.database.session() as session:
        for decision in decisions:
            verdicts.add(session, history.find(session, decision.id), truth="good", reviewer="ruth")
        report = rates.rates(session, Filter(), by="day")[0]
    assert (report.decisions, report.reviewed) == (12, 12)
    about = evidence.issue("erin")
    digest = audit_report(evidence.audit(trace_15, Filter(), about, "Audit"), tmp_path / "audit.pdf")
    evidence.record_issue(trace_15, "audit", digest, {}, about)
    outcome = verifier.verify(trace_15.database.engine, trace_15.blobs)
    assert outcome.holds
    assert outcome.size == 3 + 1 + 12 + 12 + 1
