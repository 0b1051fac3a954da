"""What differs is collected span by span, and only what differs is kept."""

from collections.abc import Iterator

import pytest

from tests.conftest import cloned
from tests.ledger.verification.test_spans import SIZE, Sql, long  # noqa: F401  # a fixture
from traceai.ledger.rebuilding.rebuild import rebuild
from traceai.ledger.verification import spans, verifier
from traceai.ledger.verification.facts import LISTED
from traceai.sdk import Trace


@pytest.fixture
def clone(server: str, long: str) -> Iterator[str]:  # noqa: F811
    yield from cloned(server, long)


def test_rows_of_many_spans(trace: Trace, sql: Sql) -> None:
    for index in (5, spans.SPAN, SIZE - 1):
        sql("UPDATE model_refused SET actor = 'mallory' WHERE journal_index = %s", index)
    sql("DELETE FROM model_refused WHERE journal_index BETWEEN 100 AND %s", spans.SPAN - 1)
    sql("UPDATE model_refused SET journal_index = journal_index + 1000 WHERE journal_index >= %s", SIZE - 10)
    sql("UPDATE tree_node SET hash = sha256('x') WHERE level = 1 AND \"index\" = 20")
    steps: list[tuple[int, int, str]] = []
    rebuilt = rebuild(trace.signer, "ada", "x", lambda *step: steps.append(step))
    gone = spans.SPAN - 100
    assert rebuilt.counts == {
        "model_refused": {"changed": 2, "inserted": gone + 10, "deleted": 10},
        "tree_node": {"changed": 1},
    }
    assert len(rebuilt.listed) == LISTED
    assert verifier.verify(trace.database.engine).holds
    assert [step[2] for step in steps if step[0] == step[1]] == ["verifying", "mending", "verifying again"]


def test_an_emptied_table(trace: Trace, sql: Sql) -> None:
    sql("TRUNCATE model_refused")
    rebuilt = rebuild(trace.signer, "ada", "x")
    assert rebuilt.counts == {"model_refused": {"inserted": SIZE}}
    assert verifier.verify(trace.database.engine).holds
