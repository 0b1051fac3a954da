"""Where the time goes: how long each stage of an inspection takes, by station, in memory that does not grow."""

import math
import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from datetime import datetime

from sqlalchemy import func, select
from sqlmodel import Session

from traceai.clock import now, uuid7
from traceai.db.connection import Database
from traceai.db.tables import StageLatency, table_of
from traceai.inspection.reading import Attempt

# In the order of an inspection. `read`: read, hash, store, decode, preprocess. `wait`: until the network was free. `judge`: one
# forward pass, explain. `record`: until the record was durable.
STAGES = ("read", "wait", "judge", "record", "total")
# Two neighbouring buckets differ by 5 %, and so does what a quantile says from what it was, at most.
_GROWTH = math.log(1.05)
_table = table_of(StageLatency)


@dataclass
class Histogram:
    """Durations in microseconds, in buckets that grow geometrically."""

    count: int = 0
    largest: int = 0
    _buckets: Counter[int] = field(default_factory=Counter)

    def add(self, microseconds: int) -> None:
        self.count += 1
        self.largest = max(self.largest, microseconds)
        self._buckets[math.ceil(math.log(max(microseconds, 1)) / _GROWTH)] += 1

    def quantile(self, share: float) -> int:
        """The duration that `share` of them (0..1) do not exceed, to 5 %; 0 where there is none."""
        rest = math.ceil(share * self.count)
        for bucket in sorted(self._buckets):
            rest -= self._buckets[bucket]
            if rest <= 0:
                return min(round(math.exp(bucket * _GROWTH)), self.largest)
        return self.largest


class Stages:
    """The durations since they were last taken. Threads may share it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._began_at = now()
        self._found: dict[tuple[str, str], Histogram] = {}

    def note(self, station: str, attempt: Attempt) -> None:
        """Add an attempt that was recorded just now."""
        ended = time.monotonic_ns()
        took = {"read": attempt.read_ns - attempt.started_ns, "total": ended - attempt.started_ns}
        if attempt.batch:
            took["wait"] = attempt.judging_ns - attempt.read_ns
            took["judge"] = attempt.judged_ns - attempt.judging_ns
        took["record"] = ended - (attempt.judged_ns or attempt.read_ns)
        with self._lock:
            for stage, nanoseconds in took.items():
                self._found.setdefault((station, stage), Histogram()).add(nanoseconds // 1000)

    def take(self) -> list[StageLatency]:
        """What was noted since the last call, by station and in the order of the stages."""
        with self._lock:
            found, began_at, self._found, self._began_at = self._found, self._began_at, {}, now()
            ended_at = self._began_at
        by_stage = sorted(found.items(), key=lambda one: (one[0][0], STAGES.index(one[0][1])))
        return [
            StageLatency(
                id=uuid7(),
                station=station,
                stage=stage,
                began_at=began_at,
                ended_at=ended_at,
                count=histogram.count,
                p50_us=histogram.quantile(0.5),
                p95_us=histogram.quantile(0.95),
                p99_us=histogram.quantile(0.99),
                max_us=histogram.largest,
            )
            for (station, stage), histogram in by_stage
        ]


def keep(database: Database, stages: Stages) -> None:
    """Put down in the database what the stages took since the last time.

    Raises:
        UnavailableError: the database does not take it; then it is gone, for it is no evidence.
    """
    if found := stages.take():
        with database.session() as session:
            session.add_all(found)


@dataclass(frozen=True)
class Budget:
    """What a stage took at a station, over all minutes of a period: the count-weighted mean of the medians, and the worst minute's
    quantiles, in microseconds. `share`: of the median total, 0..1.
    """

    station: str
    stage: str
    count: int
    p50_us: int
    p95_us: int
    p99_us: int
    max_us: int
    share: float


def budgets(session: Session, station: str | None = None, since: datetime | None = None) -> list[Budget]:
    """Where the time went, by station and in the order of the stages."""
    c = _table.c
    query = select(
        c.station,
        c.stage,
        func.sum(c.count),
        func.sum(c.count * c.p50_us) / func.sum(c.count),
        func.max(c.p95_us),
        func.max(c.p99_us),
        func.max(c.max_us),
    ).group_by(c.station, c.stage)
    if station is not None:
        query = query.where(c.station == station)
    if since is not None:
        query = query.where(c.ended_at >= since)
    rows = sorted(session.execute(query).all(), key=lambda row: (row[0], STAGES.index(row[1])))
    totals = {row[0]: int(row[3]) for row in rows if row[1] == "total"}
    return [
        Budget(place, stage, int(count), int(p50), p95, p99, largest, int(p50) / max(1, totals.get(place, 0)))
        for place, stage, count, p50, p95, p99, largest in rows
    ]
