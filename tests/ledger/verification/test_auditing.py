"""What a home says beside the database: which checkpoints are the log's own, and what witnesses vouch for, of every origin."""

import sqlite3
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import insert

from tests.ledger.test_log import refusal
from traceai.clock import uuid7
from traceai.db import tables
from traceai.ledger import log, records
from traceai.ledger.note import COSIGNATURE, SigningKey, cosign_note, sign_note
from traceai.ledger.tlog.checkpoint import Checkpoint
from traceai.ledger.verification.auditing import audit
from traceai.ledger.verification.facts import Fact
from traceai.ledger.witnesses.policy import Policy, PolicyWitness
from traceai.ledger.witnesses.witnessing import record_policy
from traceai.sdk import Trace

Sql = Callable[..., list[tuple]]
FIRST, SECOND = "press.example/line-4", "press.example/line-5"
ANNA, BERT = (SigningKey(f"witness.example/{name}", COSIGNATURE, name.encode() * 8) for name in ("anna", "bert"))


@pytest.fixture
def ours(trace: Trace) -> Trace:
    trace.signer.open("ada", "A new line.", FIRST)
    grow(trace)
    return trace


def grow(trace: Trace, more: int = 3) -> None:
    with trace.database.session() as session:
        log.append(session, [refusal(number) for number in range(more)])
    trace.checkpoint()


def fact_of(trace: Trace, name: str) -> Fact | None:
    return next((fact for fact in audit(trace.signer).facts if fact.name == name), None)


def key_of(trace: Trace) -> SigningKey:
    origin = trace.signer.state().origin
    assert origin is not None
    return trace.signer.keys.load(trace.signer.verifier_keys(origin)[-1])


def put(trace: Trace, note: str, origin: str = FIRST, size: int = 100, root: bytes = bytes(32)) -> None:
    """As anybody may who may insert."""
    later = datetime.now(UTC) + timedelta(days=1)
    row = {"id": uuid7(), "origin": origin, "size": size, "root": root, "note": note, "created_at": later}
    with trace.database.session() as session:
        session.connection().execute(insert(tables.table_of(tables.Checkpoint)), [row])


# --- what the database holds out as signed ---------------------------------------------------------------------------------


def test_the_log_s_own_checkpoints_hold_after_a_new_key_and_a_new_origin(ours: Trace) -> None:
    ours.signer.rotate("ada", "Yearly.")
    grow(ours)
    ours.signer.open("ada", "Moved.", SECOND)
    grow(ours)
    outcome = audit(ours.signer)
    assert outcome.holds, [fact.findings for fact in outcome.facts]
    served = fact_of(ours, "served")
    assert served is not None
    assert served.checked == 6


def test_where_nothing_was_signed_nothing_is_said_of_it(trace: Trace) -> None:
    assert fact_of(trace, "served") is None


def foreign(trace: Trace) -> tuple[str, str]:
    text = Checkpoint(FIRST, 100, bytes(32)).text()
    return sign_note(text, SigningKey.generate(FIRST)), "100 entries: the key in force at that size did not sign it"


def garbage(trace: Trace) -> tuple[str, str]:
    return "no note", "100 entries: the key in force at that size did not sign it"


def ahead(trace: Trace) -> tuple[str, str]:
    return sign_note(Checkpoint(FIRST, 100, bytes(32)).text(), key_of(trace)), "100 entries: the ledger has 4"


def of_another_size(trace: Trace) -> tuple[str, str]:
    text = Checkpoint(FIRST, 99, bytes(32)).text()
    return sign_note(text, key_of(trace)), f"100 entries: what is signed there is {FIRST} at 99 entries"


@pytest.mark.parametrize("made", [foreign, garbage, ahead, of_another_size])
def test_a_checkpoint_that_somebody_put_there_is_told(ours: Trace, made: Callable[[Trace], tuple[str, str]]) -> None:
    note, finding = made(ours)
    put(ours, note)
    outcome = audit(ours.signer)
    (fact,) = (fact for fact in outcome.facts if not fact.holds)
    assert (fact.name, fact.findings) == ("served", [f"table checkpoint, {FIRST} at {finding}"])


def test_a_checkpoint_of_a_stranger_s_log_is_told(ours: Trace) -> None:
    put(ours, sign_note(Checkpoint("x.example", 100, bytes(32)).text(), SigningKey.generate("x.example")), "x.example")
    fact = fact_of(ours, "served")
    assert fact is not None
    assert fact.findings == ["table checkpoint, x.example at 100 entries: the journal was never opened under that name"]


def test_a_signed_tree_that_the_entries_do_not_lead_to_is_told_to_a_home_that_keeps_nothing(ours: Trace) -> None:
    put(ours, sign_note(Checkpoint(FIRST, 2, bytes(32)).text(), key_of(ours)), size=2)
    fact = fact_of(ours, "served")
    assert fact is not None
    assert fact.findings == [f"table checkpoint, {FIRST} at 2 entries: the entries lead to another root"]


def test_what_somebody_put_beside_it_has_nothing_published_again(ours: Trace, sql: Sql) -> None:
    stored = ours.checkpoint()
    put(ours, "no note", size=stored.size)
    ours.checkpoint()
    ours.checkpoint()
    assert sql("SELECT count(*) FROM checkpoint WHERE size = %s AND note = %s", stored.size, stored.note) == [(1,)]


# --- what witnesses vouch for ------------------------------------------------------------------------------------------------


def agree(trace: Trace, *witnesses: SigningKey) -> None:
    listed = tuple(PolicyWitness(w.name, w.verifier, "https://w.example") for w in witnesses)
    policy = Policy(trace.signer.state().origin or "", len(listed), listed)
    record_policy(trace.signer, policy, actor="ada", reason="Agreed.")


def cosign(trace: Trace, *witnesses: SigningKey) -> int:
    stored = trace.signer.sign()
    kept = trace.signer.store.add_signatures(stored.origin, stored.size, cosign_note(stored.note, witnesses))
    trace.signer.publish(kept)
    return stored.size


def forget(trace: Trace, condition: str) -> None:
    """Take checkpoints out of the store."""
    with sqlite3.connect(trace.signer.store.path) as store:
        for (trigger,) in store.execute("SELECT name FROM sqlite_master WHERE type = 'trigger'").fetchall():
            store.execute(f"DROP TRIGGER {trigger}")
        store.execute(f"DELETE FROM checkpoint WHERE {condition}")
    store.close()


def test_an_earlier_origin_s_cosignatures_are_part_of_what_is_vouched_for(ours: Trace) -> None:
    agree(ours, ANNA)
    first = cosign(ours, ANNA)
    ours.signer.open("ada", "Moved.", SECOND)
    fact = fact_of(ours, "witnesses")
    assert fact is not None
    assert fact.holds
    assert fact.meaning == f"1 of 1 witnesses saw no other history: {ANNA.name} cosigned {first} entries of {FIRST}"
    agree(ours, ANNA, BERT)
    second = cosign(ours, BERT, ANNA)
    fact = fact_of(ours, "witnesses")
    assert fact is not None
    assert fact.holds
    assert fact.meaning == (
        f"1 of 1 witnesses saw no other history: {ANNA.name} cosigned {first} entries of {FIRST}; "
        f"2 of 2 witnesses saw no other history: {ANNA.name}, {BERT.name} cosigned {second} entries of {SECOND}"
    )


def test_an_earlier_origin_s_cosignatures_taken_away_are_told(ours: Trace) -> None:
    agree(ours, ANNA)
    cosign(ours, ANNA)
    ours.signer.open("ada", "Moved.", SECOND)
    forget(ours, f"note LIKE '%{ANNA.name}%'")
    fact = fact_of(ours, "witnesses")
    assert fact is not None
    assert fact.findings == [f"no checkpoint of {FIRST} is cosigned by 1 of 1 witnesses"]


def test_the_newest_origin_does_not_hide_behind_an_earlier_one(ours: Trace) -> None:
    agree(ours, ANNA)
    cosign(ours, ANNA)
    ours.signer.open("ada", "Moved.", SECOND)
    agree(ours, BERT)
    ours.checkpoint()
    fact = fact_of(ours, "witnesses")
    assert fact is not None
    assert fact.findings == [f"no checkpoint of {SECOND} is cosigned by 1 of 1 witnesses"]


def test_an_origin_that_somebody_else_opened_hides_no_policy(ours: Trace) -> None:
    agree(ours, ANNA)
    ours.checkpoint()
    thief = SigningKey.generate("thief.example")
    opened = records.LedgerOpened(origin=thief.name, key=str(thief.verifier), previous=None, actor="x", reason="x")
    with ours.database.session() as session:
        log.append(session, [opened])
    fact = fact_of(ours, "witnesses")
    assert fact is not None
    assert fact.findings == [f"no checkpoint of {FIRST} is cosigned by 1 of 1 witnesses"]


def test_of_an_origin_under_whose_policy_nothing_was_signed_nothing_is_asked(ours: Trace) -> None:
    agree(ours, ANNA)
    ours.signer.open("ada", "Moved at once.", SECOND)
    assert fact_of(ours, "witnesses") is None


def test_of_an_origin_that_another_home_signed_the_database_shows_what_was_cosigned(ours: Trace) -> None:
    agree(ours, ANNA)
    first = cosign(ours, ANNA)
    ours.signer.open("ada", "The home was lost.", SECOND)
    forget(ours, f"origin = '{FIRST}'")
    fact = fact_of(ours, "witnesses")
    assert fact is not None
    assert fact.holds
    assert f"cosigned {first} entries of {FIRST}" in fact.meaning
