"""Threads that hand in decisions one after another, each at a station of its own, and remember what they were told."""

import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from sqlalchemy import select

from tests.inspection.recording.drafts import draft
from tests.inspection.recording.servers import wait_until
from traceai.db.tables import Inspection, Journal
from traceai.inspection.recording.draft import Recorded, Spooled
from traceai.inspection.recording.recorder import Recorder
from traceai.sdk import Trace


@dataclass(frozen=True)
class Told:
    """What the line heard of the decision with this number, and how many seconds it waited."""

    number: int
    outcome: Recorded | Spooled
    waited: float


class Load:
    """What the threads were told, by station, in order. The number of a decision is its trigger."""

    def __init__(self, recorder: Recorder, stations: Sequence[str]) -> None:
        self.told: dict[str, list[Told]] = {station: [] for station in stations}
        self.errors: list[BaseException] = []
        self._recorder = recorder
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._line, args=(station,)) for station in stations]

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def more(self, count: int = 10, kind: type[Recorded | Spooled] | None = None) -> None:
        """Wait until each line was told of `count` more decisions, the last of them of this kind."""
        sizes = {station: len(told) for station, told in self.told.items()}
        wait_until(
            lambda: (
                bool(self.errors)
                or all(
                    len(told) >= sizes[station] + count and (kind is None or isinstance(told[-1].outcome, kind))
                    for station, told in self.told.items()
                )
            ),
            f"{count} more decisions{f' {kind.__name__}' if kind else ''} at each station",
        )
        assert not self.errors

    @property
    def longest_wait(self) -> float:
        return max(one.waited for told in self.told.values() for one in told)

    def count(self, kind: type[Recorded | Spooled]) -> int:
        return sum(isinstance(one.outcome, kind) for told in self.told.values() for one in told)

    def _line(self, station: str) -> None:
        number = 0
        try:
            while not self._stop.is_set():
                number += 1
                began = time.monotonic()
                outcome = self._recorder.submit(draft(number, station)).result(timeout=60)
                self.told[station].append(Told(number, outcome, time.monotonic() - began))
        except BaseException as error:  # noqa: BLE001  # the test's own thread tells it
            self.errors.append(error)


@contextmanager
def load(recorder: Recorder, stations: Sequence[str]) -> Iterator[Load]:
    lines = Load(recorder, stations)
    lines.start()
    try:
        yield lines
    finally:
        lines.stop()
    assert not lines.errors


def check(trace: Trace, lines: Load) -> None:
    """Every decision that was acknowledged is on record once, in its line's order, without a gap, and where its receipt says."""
    for station, told in lines.told.items():
        with trace.database.session() as session:
            stored = session.execute(
                select(Inspection, Journal.leaf_hash)
                .join(Journal, Journal.index == Inspection.journal_index)
                .where(Inspection.station == station)
                .order_by(Inspection.journal_index)
            ).all()
        assert [row.trigger for row, _ in stored] == [one.number for one in told]
        assert [row.station_seq for row, _ in stored] == list(range(1, len(told) + 1))
        for (row, leaf), one in zip(stored, told, strict=True):
            if isinstance(one.outcome, Recorded):
                receipt = one.outcome.receipt
                assert (str(row.id), row.journal_index, leaf) == (receipt.id, receipt.index, receipt.leaf_hash)
                assert row.station_seq == one.outcome.station_seq
            else:
                assert str(row.id) == one.outcome.id
