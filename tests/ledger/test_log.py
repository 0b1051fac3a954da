import threading

import pytest
from sqlalchemy import select

from traceai.clock import timestamp
from traceai.db.tables import Journal, ModelRefused
from traceai.ledger import log, merkle, records
from traceai.ledger.entry import Entry
from traceai.ledger.records import ModelRef
from traceai.ledger.verification import verifier
from traceai.sdk import Trace


def refusal(number: int = 0) -> records.ModelRefused:
    return records.ModelRefused(
        model=ModelRef(name="tiles", version=1, digest="0" * 64),
        file="weights",
        expected="1" * 64,
        found=f"{number:064x}",
        actor="erin",
    )


def test_entries_are_numbered_from_zero_and_lead_to_the_root(trace: Trace) -> None:
    with trace.database.session() as session:
        first = log.append(session, [refusal(0), refusal(1)])
        second = log.append(session, [refusal(2)])
    assert [receipt.index for receipt in first + second] == [0, 1, 2]
    with trace.database.session() as session:
        entries = session.execute(select(Journal).order_by(Journal.index)).scalars().all()
        head = log.read_head(session)
    assert [merkle.leaf_hash(entry.entry) for entry in entries] == [receipt.leaf_hash for receipt in first + second]
    assert head == log.Head(3, merkle.root([entry.leaf_hash for entry in entries]))


def test_the_row_says_what_the_entry_says(trace: Trace) -> None:
    with trace.database.session() as session:
        receipt = log.append(session, [refusal(7)])[0]
    with trace.database.session() as session:
        row = session.execute(select(ModelRefused)).scalar_one()
        entry = Entry.parse(session.get_one(Journal, 0).entry)
    assert str(row.id) == entry.record.id == receipt.id
    assert row.found.hex() == f"{7:064x}"
    assert timestamp(receipt.recorded_at) == entry.recorded_at


def test_a_rolled_back_append_leaves_no_gap(trace: Trace) -> None:
    with pytest.raises(ZeroDivisionError), trace.database.session() as session:
        log.append(session, [refusal(0)])
        raise ZeroDivisionError
    with trace.database.session() as session:
        assert log.append(session, [refusal(1)])[0].index == 0


def test_nothing_appended_is_nothing_changed(trace: Trace) -> None:
    with trace.database.session() as session:
        assert log.append(session, []) == []
        assert log.read_head(session).size == 0


def test_an_empty_ledger_verifies(trace: Trace) -> None:
    assert verifier.verify(trace.database.engine, trace.blobs).holds


def test_writers_at_the_same_time_share_one_gapless_order(trace: Trace) -> None:
    receipts: list[log.Receipt] = []

    def write() -> None:
        for _ in range(10):
            with trace.database.session() as session:
                found = log.append(session, [refusal(), refusal()])
            receipts.extend(found)

    threads = [threading.Thread(target=write) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    with trace.database.session() as session:
        stored = dict(session.execute(select(Journal.index, Journal.leaf_hash)).all())
        head = log.read_head(session)
    assert sorted(stored) == list(range(120))
    assert {receipt.index: receipt.leaf_hash for receipt in receipts} == stored
    assert head.root == merkle.root([stored[index] for index in range(120)])
