"""What is counted across spans: the numbers that every station gave its decisions, and the triggers that its camera gave them.

Spans come in ledger order. What is kept between them is the last number of each station and the state of its counter.
"""

import contextlib
from typing import Any

from sqlalchemy import Connection, LargeBinary, func, select, type_coerce

from traceai.db import tables
from traceai.errors import RecordError
from traceai.ledger.entry import Entry
from traceai.ledger.packing import unpack
from traceai.ledger.records import Gap
from traceai.ledger.triggers import Counter
from traceai.ledger.verification.facts import Fact, Outages, Verified
from traceai.ledger.verification.spans import Span

_station = tables.table_of(tables.Station)
_gap = tables.table_of(tables.Gap)
_journal = tables.table_of(tables.Journal)

# Entries of outages beyond this many are counted, not told: a network that drops out every hour leaves thousands a year.
NEWEST = 20


class Counting:
    """The stations' numbers and counters, as far as they were verified."""

    def __init__(self, since: Verified) -> None:
        self.numbers = dict(since.numbers)
        self._counters = {station: Counter.load(state) for station, state in since.triggers.items()}

    def take(self, span: Span, sequence: Fact) -> None:
        """Go on with the next span. Numbers that are left out are told in `sequence`."""
        for station, runs in span.numbers.items():
            for index, first, last in runs:
                before = self.numbers.get(station, 0)
                if first != before + 1:
                    sequence.fail(f"journal index {index}: station {station} goes from number {before} to {first}")
                self.numbers[station] = last
        for station, steps in span.triggers.items():
            counter = self._counters.setdefault(station, Counter())
            for step in steps:
                counter.take(step)

    def triggers(self) -> dict[str, dict[str, Any]]:
        """The state of every counter, for a later verification that goes on from here."""
        return {station: counter.state() for station, counter in self._counters.items()}

    def complete(self, connection: Connection, sequence: Fact, triggers: Fact) -> None:
        """Hold the stations' own counters against what was recorded, and tell every trigger that is not accounted for."""
        there = set()
        for name, last_seq in connection.execute(select(_station.c.name, _station.c.last_seq)):
            there.add(name)
            if last_seq != self.numbers.get(name, 0):
                sequence.fail(
                    f"station {name}: the counter stands at {last_seq}, its last recorded decision has number "
                    f"{self.numbers.get(name, 0)}"
                )
        for name in sorted(self.numbers.keys() - there):
            sequence.fail(f"station {name}: its row is missing, and {self.numbers[name]} decisions were recorded there")
        for name, counter in sorted(self._counters.items()):
            for _, first, last, entry in counter.result().unexplained:
                what = f"trigger {first} has" if first == last else f"triggers {first} to {last} have"
                triggers.fail(f"station {name}: {what} no decision, noticed at journal index {entry}")


def outages(connection: Connection) -> Outages:
    """The outages on record: how many, and the newest as their entries have them. An entry that is no gap's is told as such."""
    count = connection.execute(select(func.count()).select_from(_gap)).scalar_one()
    latest = select(_gap.c.journal_index).order_by(_gap.c.journal_index.desc()).limit(NEWEST)
    # The stored bytes, so that one entry which cannot be unpacked does not hide the others.
    query = select(_journal.c["index"], type_coerce(_journal.c.entry, LargeBinary)).where(
        _journal.c["index"].in_(latest)
    )
    newest = []
    for index, stored in connection.execute(query.order_by(_journal.c["index"].desc())):
        with contextlib.suppress(RecordError):
            if isinstance(record := Entry.parse(unpack(stored or b"")).record, Gap):
                newest.append((index, record))
    return Outages(count, tuple(newest))
