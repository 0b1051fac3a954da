"""A row written back by PostgreSQL is its entry, byte for byte, whatever the record says."""

from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from sqlalchemy import text

from tests.ledger.generated import fields
from traceai.db.tables import Journal
from traceai.ledger import log
from traceai.ledger.copying import FEW
from traceai.ledger.projection import TABLES
from traceai.ledger.records import SCHEMAS
from traceai.ledger.verification.readback import readback
from traceai.sdk import Trace


@pytest.mark.parametrize("schema", SCHEMAS)
def test_a_row_written_back_is_its_entry(trace: Trace, schema: str) -> None:
    record_type = SCHEMAS[schema]
    table = str(TABLES[record_type].__tablename__)
    query = text(
        f"SELECT {readback(record_type, 'r')} FROM {table} r WHERE journal_index = :index".replace(":'", "\\:'")
    )
    with trace.database.engine.connect() as connection:
        for (name,) in connection.execute(
            text("SELECT conname FROM pg_constraint WHERE contype IN ('c', 'u') AND conrelid = to_regclass(:t)"),
            {"t": table},
        ).fetchall():
            connection.execute(text(f"ALTER TABLE {table} DROP CONSTRAINT {name}"))
        connection.commit()

    @settings(deadline=None, max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
    @given(fields(record_type))
    def law(values: dict[str, Any]) -> None:
        with trace.database.session() as session:
            # A few are inserted and more are copied.
            for count in (1, FEW + 1):
                receipts = log.append(session, [record_type.model_validate(values) for _ in range(count)])
                index = receipts[-1].index
                entry = session.get_one(Journal, index).entry
                assert session.execute(query, {"index": index}).scalar_one().encode() == entry

    law()
