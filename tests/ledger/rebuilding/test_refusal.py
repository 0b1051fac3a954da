"""Nothing is made after a journal that was altered itself: a rebuild would only make the forgery consistent."""

from collections.abc import Callable

import psycopg
import pytest

from tests.ledger.rebuilding.test_rebuild import contents
from tests.ledger.rewriting import rewrite
from tests.ledger.test_log import refusal
from tests.ledger.verification.test_verifier import Sql, entry_of
from traceai.errors import JournalAlteredError, SchemaError
from traceai.ledger import log
from traceai.ledger.merkle import leaf_hash
from traceai.ledger.rebuilding.rebuild import Rebuilt, preview, rebuild
from traceai.ledger.records import Record
from traceai.ledger.verification.auditing import audit
from traceai.sdk import Trace

ACTOR = b'"actor":"erin"', b'"actor":"evil"'


@pytest.fixture
def signed(trace: Trace) -> Trace:
    """Twelve entries, signed at 1, 7 and 12 of them."""
    trace.signer.begin()
    for number in (6, 5):
        with trace.database.session() as session:
            log.append(session, [refusal(n) for n in range(number)])
        trace.checkpoint()
    return trace


def mend(trace: Trace) -> Rebuilt:
    return rebuild(trace.signer, "ada", "Somebody was here.")


def refused(trace: Trace, sentence: str) -> None:
    before = contents(trace)
    for attempt in (preview, lambda signer: rebuild(signer, "ada", "x")):
        with pytest.raises(JournalAlteredError, match=sentence) as error:
            attempt(trace.signer)
        assert error.value.message.startswith("Nothing was rebuilt, for the journal itself does not hold (")
    assert contents(trace) == before


def alter(sql: Sql, *, leaf: bool) -> None:
    entry = entry_of(sql, 5).replace(*ACTOR)
    if leaf:
        sql('UPDATE journal SET entry = %s, leaf_hash = %s WHERE "index" = 5', entry, leaf_hash(entry))
    else:
        sql('UPDATE journal SET entry = %s WHERE "index" = 5', entry)


def evil(record: Record) -> Record:
    return record.model_copy(update={"actor": "evil"})


def test_an_entry_altered(signed: Trace, sql: Sql) -> None:
    alter(sql, leaf=False)
    refused(signed, "journal index 5: the entry's bytes do not have the stored leaf hash")


def test_a_leaf_hash_altered(signed: Trace, sql: Sql) -> None:
    sql("UPDATE journal SET leaf_hash = sha256('x') WHERE \"index\" = 5")
    refused(signed, "journal index 5: the entry's bytes do not have the stored leaf hash")


def test_an_entry_altered_with_its_leaf_hash_and_its_row(signed: Trace, sql: Sql) -> None:
    alter(sql, leaf=True)
    sql("UPDATE model_refused SET actor = 'evil' WHERE journal_index = 5")
    refused(signed, "an entry from 1 to 6 was rewritten")


@pytest.mark.parametrize(
    ("statement", "sentence"),
    [
        ('DELETE FROM journal WHERE "index" = 5', "journal index 5: the entry is missing"),
        ('DELETE FROM journal WHERE "index" = 11', "journal index 11: removed from the end of the journal"),
        ("UPDATE ledger_head SET root = sha256('x')", "ledger_head has 12 entries under the root"),
        ("UPDATE ledger_head SET size = 11", "ledger_head has 11 entries under the root"),
        ("UPDATE journal SET entry = '{}' WHERE \"index\" = 5", "journal index 5"),
    ],
)
def test_journal_and_head_disagree(signed: Trace, sql: Sql, statement: str, sentence: str) -> None:
    sql(statement)
    refused(signed, sentence)


@pytest.mark.parametrize("heads", [0, 2])
def test_there_is_no_one_head(signed: Trace, sql: Sql, heads: int) -> None:
    sql("ALTER TABLE ledger_head DROP CONSTRAINT ck_ledger_head_only_one")
    sql(
        "INSERT INTO ledger_head SELECT 2, size, root, frontier FROM ledger_head"
        if heads
        else "DELETE FROM ledger_head"
    )
    for attempt in (preview, lambda signer: rebuild(signer, "ada", "x")):
        with pytest.raises(SchemaError, match=f"The ledger has {heads or 'no'} head row"):
            attempt(signed.signer)


def test_a_consistent_rewrite_contradicts_a_checkpoint_outside(signed: Trace, sql: Sql, clone: str) -> None:
    rewrite(clone, 5, evil)
    refused(signed, "checkpoint of .* at 7 entries .* an entry from 1 to 6 was rewritten")
    # Nor does it help to have the tables not say who signs.
    sql("DELETE FROM ledger_opened")
    refused(signed, "an entry from 1 to 6 was rewritten")


def test_a_checkpoint_outside_that_does_not_hold(signed: Trace, sql: Sql, monkeypatch: pytest.MonkeyPatch) -> None:
    honest = signed.signer.store.history

    def altered(origin: str) -> list:
        return [
            stored.__class__(**{**vars(stored), "note": stored.note.replace("\n12\n", "\n13\n")})
            for stored in honest(origin)
        ]

    monkeypatch.setattr(signed.signer.store, "history", altered)
    refused(signed, "The checkpoint of .* at 12 entries .* does not hold")
    # Where the tables have to be mended before the checkpoints can be judged, it is refused afterwards, and nothing is kept.
    sql("DELETE FROM ledger_opened")
    before = contents(signed)
    with pytest.raises(JournalAlteredError, match="does not hold"):
        mend(signed)
    assert contents(signed) == before


@pytest.mark.parametrize(
    "statement",
    [
        "DELETE FROM ledger_opened",
        "UPDATE ledger_opened SET journal_index = 3",
        "UPDATE ledger_opened SET origin = 'evil.example', key = 'none'",
    ],
)
def test_the_tables_that_say_who_signs_are_mended_like_any_other(signed: Trace, sql: Sql, statement: str) -> None:
    sql(statement)
    assert preview(signed.signer).counts.keys() == {"ledger_opened"}
    rebuilt = mend(signed)
    assert rebuilt.checkpoints == 3
    outcome = audit(signed.signer)
    assert outcome.holds
    signed.checkpoint()


def test_a_ledger_of_another_home_is_held_against_its_own_head_and_that_is_said(
    signed: Trace, sql: Sql, monkeypatch: pytest.MonkeyPatch, tmp_path: Callable[..., None]
) -> None:
    from traceai.ledger.signing.signer import Signer

    sql("DELETE FROM model_refused")
    away = Signer(signed.database, tmp_path / "away")
    assert rebuild(away, "ada", "x").checkpoints == 0
    assert audit(signed.signer).holds


def test_the_row_triggers_stay_in_force_where_it_is_refused(signed: Trace, sql: Sql, clone: str) -> None:
    with psycopg.connect(clone, autocommit=True) as connection:
        connection.execute("ALTER TABLE ledger_head DISABLE TRIGGER USER")
        connection.execute("UPDATE ledger_head SET root = sha256('x')")
    refused(signed, "ledger_head has 12 entries")
    with psycopg.connect(clone, autocommit=True) as connection, pytest.raises(psycopg.errors.InsufficientPrivilege):
        connection.execute("DELETE FROM model_refused")
