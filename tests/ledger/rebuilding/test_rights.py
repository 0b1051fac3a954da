"""Who owns the tables may rebuild them, on PostgreSQL 18 and 15; who records or reads is told as whom to connect."""

from pathlib import Path

import pytest

from tests.db.test_roles import Site, bare, site  # noqa: F401  # fixtures
from tests.ledger.test_log import refusal
from traceai.db import roles
from traceai.errors import DatabaseRefusedError
from traceai.ledger import log
from traceai.ledger.rebuilding.rebuild import preview, rebuild
from traceai.ledger.verification.auditing import audit
from traceai.sdk import Trace, attach, connect
from traceai.settings import Settings


def as_(site: Site, home: Path, login: str | None = None) -> Trace:  # noqa: F811
    return attach(Settings(home=home, database_url=site.url_of(login) if login else site.url))


@pytest.fixture
def altered(site: Site, tmp_path: Path) -> Site:  # noqa: F811
    """A hardened database, signed in this home, of which an administrator altered two tables."""
    with connect(Settings(home=tmp_path, database_url=site.url_of("line4"))) as line:
        with line.database.session() as session:
            log.append(session, [refusal(number) for number in range(5)])
        line.checkpoint()
    site.sql(
        "ALTER TABLE model_refused DISABLE TRIGGER USER",
        "UPDATE model_refused SET actor = 'evil' WHERE journal_index < 3",
        "DELETE FROM model_refused WHERE journal_index = 4",
    )
    return site


def test_who_records_or_reads_may_look_and_not_mend(altered: Site, tmp_path: Path) -> None:
    before = altered.sql("SELECT model_refused::text FROM model_refused")
    for login in ("line4", "alice", "notary"):
        with as_(altered, tmp_path, login) as trace:
            assert preview(trace.signer).counts == {"model_refused": {"changed": 2, "inserted": 1}}
            with pytest.raises(DatabaseRefusedError) as error:
                rebuild(trace.signer, "ada", "x")
            assert error.value.message == (
                f"Only the owner of the tables can lift what keeps them append-only, and {login} is not; connect as a superuser, "
                "or as a member of traceai_owner."
            )
    assert altered.sql("SELECT model_refused::text FROM model_refused") == before


@pytest.mark.parametrize("login", [None, "carol"], ids=["superuser", "member of the owner"])
def test_the_owner_mends_and_the_database_stays_hardened(altered: Site, tmp_path: Path, login: str | None) -> None:
    altered.sql("CREATE ROLE carol LOGIN", "GRANT traceai_owner TO carol", "DROP TABLE inspection_p0")
    with as_(altered, tmp_path, login) as trace:
        rebuilt = rebuild(trace.signer, "ada", "Somebody was here.")
        assert rebuilt.counts == {"model_refused": {"changed": 2, "inserted": 1}}
        assert (rebuilt.checkpoints, rebuilt.partitions) == (2, (("inspection", 0),))
        assert audit(trace.signer).holds
        assert {finding.fact for finding in roles.check(trace.database.engine).findings} <= {"roles"}
    with as_(altered, tmp_path, "line4") as line, line.database.session() as session:
        log.append(session, [refusal(9)])


def test_without_roles_the_owner_of_the_tables_mends(bare: Site, tmp_path: Path) -> None:  # noqa: F811
    with as_(bare, tmp_path) as trace:
        with trace.database.session() as session:
            log.append(session, [refusal()])
        bare.sql("ALTER TABLE model_refused DISABLE TRIGGER USER", "DELETE FROM model_refused")
        assert rebuild(trace.signer, "ada", "x").counts == {"model_refused": {"inserted": 1}}
        assert audit(trace.signer).holds
        assert roles.check(trace.database.engine).findings == ()
