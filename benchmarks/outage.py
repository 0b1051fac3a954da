"""What a line notices of a database that goes away: what it hands in, what is recorded, and how long it waits, over time."""

import multiprocessing
import random
import statistics
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.synchronize import Barrier
from pathlib import Path
from typing import Any

import psycopg
from sqlalchemy import Engine

from benchmarks import outage_figure, scratch
from traceai.db.connection import Database, create_engine
from traceai.inspection.recording.draft import Draft, Recorded, Spooled
from traceai.inspection.recording.recorder import Recorder

LINES = ("press-1", "press-2")
# Decisions a second of each line, and the seconds before, during and after the outage.
PACE, BEFORE, AWAY, AFTER = 200, 5.0, 6.0, 9.0
FIGURE = Path(__file__).parents[1] / "docs" / "figures" / "outage.svg"


@dataclass(frozen=True)
class Handed:
    """One decision: when it was handed in, when the line was told, and when it was written into the ledger, in seconds.

    spooled: it was told that it is kept on the disk.
    """

    at: float
    told: float
    recorded: float
    spooled: bool


@dataclass(frozen=True)
class Run:
    """Everything that was handed in, in order; seconds count from the first. The database was away from `gone` to `back`."""

    decisions: list[Handed]
    gone: float
    back: float

    @property
    def seconds(self) -> float:
        return BEFORE + AWAY + AFTER

    def backlog(self, moment: float) -> int:
        """Decisions that the line was told are kept, and that the ledger does not have yet."""
        return sum(one.spooled and one.told <= moment < one.recorded for one in self.decisions)

    @property
    def caught_up(self) -> float:
        """Since when nothing waits in a spool any more."""
        return max((one.recorded for one in self.decisions if one.spooled), default=self.back)


def report() -> None:
    """Print the figures, and draw `docs/figures/outage.svg`."""
    run = measure()
    outage_figure.draw(run, FIGURE)
    spans: tuple[tuple[str, Callable[[float], bool]], ...] = (
        ("before", lambda at: at < run.gone),
        ("away", lambda at: run.gone <= at < run.back),
        ("catching up", lambda at: run.back <= at < run.caught_up),
        ("after", lambda at: at >= run.caught_up),
    )
    print(f"An outage of {run.back - run.gone:.1f} s, {len(LINES)} lines, {len(LINES) * PACE} decisions/s handed in")
    print("  phase           seconds   acknowledged/s   recorded/s   wait p50 ms   p99 ms   max ms")
    edges = (0.0, run.gone, run.back, run.caught_up, run.seconds)
    for (name, within), start, end in zip(spans, edges, edges[1:], strict=False):
        told = [one for one in run.decisions if within(one.told)]
        waits = sorted(one.told - one.at for one in run.decisions if within(one.at))
        if len(waits) < 2:
            continue
        recorded = sum(within(one.recorded) for one in run.decisions)
        p99 = statistics.quantiles(waits, n=100)[98]
        print(
            f"  {name:14} {end - start:8.2f} {len(told) / (end - start):16,.0f} {recorded / (end - start):12,.0f}"
            f" {statistics.median(waits) * 1e3:13.1f} {p99 * 1e3:8.1f} {waits[-1] * 1e3:8.1f}"
        )
    most = max(run.backlog(moment / 100) for moment in range(round(run.seconds * 100)))
    print(f"  at most {most:,} waited in the spools, for {run.caught_up - run.back:.2f} s after the database was back")
    print(f"  drawn in {FIGURE.relative_to(Path.cwd()) if FIGURE.is_relative_to(Path.cwd()) else FIGURE}")


def measure() -> Run:
    """Have the lines hand in at their pace while the database goes away and comes back."""
    with scratch.server() as url:
        engine = scratch.database(url, "outage")
        scratch.stations(engine, LINES)
        context = multiprocessing.get_context("spawn")
        barrier, answers = context.Barrier(len(LINES) + 1), context.Queue()
        processes = [
            context.Process(target=_line, args=(scratch.plain(engine), station, barrier, answers)) for station in LINES
        ]
        for process in processes:
            process.start()
        barrier.wait()
        start = time.time()
        _sleep_until(start + BEFORE)
        with _away(url, "outage"):
            gone = time.time() - start
            _sleep_until(start + BEFORE + AWAY)
        back = time.time() - start
        found = [one for _ in processes for one in answers.get()]
        for process in processes:
            process.join()
        recorded = _recorded(engine)
        engine.dispose()
    assert len(recorded) == len(found), (len(recorded), len(found))  # nothing is lost, and nothing is there twice
    decisions = [
        Handed(at - start, told - start, recorded[reference] - start, spooled) for reference, at, told, spooled in found
    ]
    return Run(sorted(decisions, key=lambda one: one.at), gone, back)


def _line(url: str, station: str, barrier: Barrier, answers: Any) -> None:
    """Hand in one decision every 1/PACE seconds, whatever became of the one before."""
    count = round((BEFORE + AWAY + AFTER) * PACE)
    source, found, lock = random.SystemRandom(), [], threading.Lock()
    made = (scratch.decision(source, station, number + 1) for number in range(count + 1))
    drafts = [Draft(record.model_copy(update={"station_seq": 0}), grid, scratch.ENVIRONMENT) for record, grid in made]
    with tempfile.TemporaryDirectory() as home, Database(create_engine(url), None) as database:
        recorder = Recorder(database, Path(home))
        recorder.submit(drafts.pop()).result()  # connected, and everything imported
        barrier.wait()
        start = time.time()
        promised = []
        for number, draft in enumerate(drafts):
            _sleep_until(start + number / PACE)
            at = time.time()

            def told(answer: Any, reference: str = draft.record.id, at: float = at) -> None:
                with lock:
                    found.append((reference, at, time.time(), isinstance(answer.result(), Spooled)))

            answer = recorder.submit(draft)
            answer.add_done_callback(told)
            promised.append(answer)
        for answer in promised:
            assert isinstance(answer.result(), Recorded | Spooled)
        while not recorder.spool.empty:
            time.sleep(0.05)
        recorder.close()
    answers.put(found)


def _recorded(engine: Engine) -> dict[str, float]:
    """When each decision was written into the ledger, in seconds since the epoch; the first of each line is left out."""
    with engine.connect() as connection:
        rows = connection.exec_driver_sql("SELECT id::text, recorded_at FROM inspection WHERE station_seq > 1")
        return {reference: moment.timestamp() for reference, moment in rows}


@contextmanager
def _away(url: str, name: str) -> Iterator[None]:
    """Within the block the database takes no connections, and every connection is cut."""
    with psycopg.connect(url, autocommit=True) as administrator:
        administrator.execute(f"ALTER DATABASE {name} ALLOW_CONNECTIONS false")
        administrator.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s", [name])
        try:
            yield
        finally:
            administrator.execute(f"ALTER DATABASE {name} ALLOW_CONNECTIONS true")


def _sleep_until(moment: float) -> None:
    time.sleep(max(0.0, moment - time.time()))
