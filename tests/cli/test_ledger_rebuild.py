from collections.abc import Callable

import pytest

from tests.cli.conftest import Run
from tests.ledger.test_log import refusal
from traceai.ledger import log
from traceai.sdk import Trace

Sql = Callable[..., list[tuple]]
WHY = ("--reason", "The database was tampered with.", "--as", "ada")


@pytest.fixture
def altered(here: Trace, sql: Sql) -> Trace:
    """Six entries, signed; one row altered, one deleted."""
    here.signer.begin()
    with here.database.session() as session:
        log.append(session, [refusal(number) for number in range(5)])
    here.checkpoint()
    sql("UPDATE model_refused SET actor = 'evil', file = 'manifest' WHERE journal_index = 2")
    sql("DELETE FROM model_refused WHERE journal_index = 4")
    return here


def test_what_was_mended_is_listed_recorded_and_signed(run: Run, altered: Trace) -> None:
    assert run("ledger", "verify").code == 1
    result = run("ledger", "rebuild", *WHY)
    assert (result.code, result.err.strip()) == (0, "")
    for words in (
        "model_refused",
        "changed",
        "file, actor",
        "1 changed, 1 inserted",
        "recorded at  6",
        "checkpoints  2",
    ):
        assert words in result.out
    assert "Append-only triggers were off or missing, and are in force again" in result.out
    assert run("ledger", "verify").code == 0
    status = run("ledger", "status", "--json").json
    assert status["size"] == status["checkpoint"]["size"] == 7
    again = run("ledger", "rebuild", *WHY)
    assert (again.code, "nothing was to be mended" in again.out) == (0, True)
    assert run("ledger", "status", "--json").json["size"] == 7


def test_as_json(run: Run, altered: Trace) -> None:
    dry = run("ledger", "rebuild", "--dry-run", "--json")
    done = run("ledger", "rebuild", *WHY, "--json")
    assert (dry.code, done.code) == (0, 0)
    assert (dry.json["dry_run"], dry.json["recorded"]) == (True, None)
    assert (done.json["dry_run"], done.json["recorded"]["index"]) == (False, 6)
    for name in ("entries", "root", "checkpoints", "mended", "rows", "left"):
        assert dry.json[name] == done.json[name]
    assert done.json["mended"] == {"model_refused": {"changed": 1, "inserted": 1}}
    changed, inserted = done.json["rows"]
    assert (changed["index"], changed["action"], inserted["index"], inserted["action"]) == (2, "changed", 4, "inserted")
    assert changed["columns"] == [
        {"column": "file", "stood": "manifest", "recorded": "weights"},
        {"column": "actor", "stood": "evil", "recorded": "erin"},
    ]


def test_a_dry_run_changes_nothing(run: Run, altered: Trace, sql: Sql) -> None:
    before = sql("SELECT model_refused::text FROM model_refused ORDER BY journal_index")
    result = run("ledger", "rebuild", "--dry-run", *WHY)
    assert result.code == 0
    assert "Would be mended" in result.out
    assert "1 would be changed, 1 would be inserted" in result.out
    assert sql("SELECT model_refused::text FROM model_refused ORDER BY journal_index") == before
    assert run("ledger", "status", "--json").json["size"] == 6


def test_a_dry_run_of_a_new_ledger_does_not_open_it(run: Run, here: Trace) -> None:
    result = run("ledger", "rebuild", "--dry-run", "--json")
    assert (result.code, result.json["entries"], result.json["mended"]) == (0, 0, {})
    with here.database.session() as session:
        assert log.read_head(session).size == 0


def test_without_a_reason_nothing_is_done(run: Run, altered: Trace) -> None:
    result = run("ledger", "rebuild")
    assert (result.code, result.out) == (2, "")
    assert "Say with --reason why the tables are rebuilt" in result.err


def test_an_altered_journal_is_refused_in_one_sentence(run: Run, altered: Trace, sql: Sql) -> None:
    sql("UPDATE journal SET leaf_hash = sha256('x') WHERE \"index\" = 3")
    for command in (("--dry-run",), WHY):
        result = run("ledger", "rebuild", *command)
        assert (result.code, result.out) == (1, "")
        assert result.err.strip() == (
            "traceai: Nothing was rebuilt, for the journal itself does not hold (journal index 3: the entry's bytes do not have "
            "the stored leaf hash); run `traceai ledger verify` and restore the right backup. [journal-altered]"
        )


def test_what_cannot_be_mended_is_named_and_exits_1(run: Run, altered: Trace, sql: Sql) -> None:
    sql("INSERT INTO heat_map VALUES (999, 'x')")
    assert run("ledger", "rebuild", "--dry-run").code == 0
    result = run("ledger", "rebuild", *WHY)
    assert result.code == 1
    assert "NOT MENDED: heat maps. The journal does not hold what that takes." in result.out
    assert "heat maps: table heat_map: a row claims journal index 999, which does not exist" in result.out
    assert "recorded at  6" in result.out


def test_a_home_without_checkpoints_is_told_so(
    run: Run, altered: Trace, tmp_path: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TRACEAI_HOME", f"{tmp_path}/away")
    result = run("ledger", "rebuild", "--dry-run")
    assert result.code == 0
    assert "No checkpoint is kept in this home: the journal was held against nothing but the database" in result.err
