"""Thirty-two threads in four processes, all at the same stations, while somebody verifies; and what has to be true afterwards.

    python -m tests.inspection.recording.crowd URL HOME PROCESS SECONDS

Each process writes what its threads were told into `HOME/receipts`, one decision a line.
"""

import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import psycopg

from tests.inspection.recording.drafts import draft
from traceai.db.connection import Database, create_engine
from traceai.inspection.recording.draft import Recorded
from traceai.inspection.recording.recorder import Recorder
from traceai.ledger.verification.facts import Outcome

PROCESSES, THREADS = 4, 8
STATIONS = tuple(f"crowd-{number}" for number in range(THREADS))
_ROOT = Path(__file__).parents[3]


@dataclass(frozen=True)
class _Receipt:
    """What one thread was told; the times are seconds of the machine's one monotonic clock."""

    id: str
    station: str
    station_seq: int
    index: int
    leaf_hash: str
    submitted: float
    told: float


@dataclass
class Found:
    """receipts: decisions that were acknowledged. verified: how often the ledger was verified meanwhile. wrong: in sentences."""

    receipts: int = 0
    verified: int = 0
    wrong: list[str] = field(default_factory=list)


def run(url: str, folder: Path, seconds: float, verify: Callable[[], Outcome]) -> Found:
    """Have the crowd record for so long, in homes below `folder`, and say what is wrong with what it left."""
    found, processes = Found(), []
    for number in range(PROCESSES):
        home = folder / f"crowd-{number}"
        home.mkdir()
        command = [sys.executable, "-m", "tests.inspection.recording.crowd", url, home, number, seconds]
        processes.append(subprocess.Popen(list(map(str, command)), cwd=_ROOT))
    try:
        while not found.wrong and any(process.poll() is None for process in processes):
            outcome = verify()
            found.verified += 1
            found.wrong += [str(finding) for fact in outcome.facts if not fact.holds for finding in fact.findings]
    finally:
        for process in processes:
            process.kill()
            process.wait()
    if found.wrong:
        return found
    found.wrong += [f"a process ended with {process.returncode}" for process in processes if process.returncode]
    receipts = [one for number in range(PROCESSES) for one in _read(folder / f"crowd-{number}" / "receipts")]
    found.receipts = len(receipts)
    found.wrong += _compare(url, receipts)
    return found


def _compare(url: str, receipts: list[_Receipt]) -> list[str]:
    """Receipts against the tables: the same decisions, true receipts, no gap in any numbering, one order for all."""
    with psycopg.connect(url) as connection:
        stored = connection.execute(
            "SELECT i.id::text, i.station, i.station_seq, i.journal_index, encode(j.leaf_hash, 'hex')"
            ' FROM inspection i JOIN journal j ON j."index" = i.journal_index WHERE i.station = ANY(%s)'
            " ORDER BY i.journal_index",
            [list(STATIONS)],
        ).fetchall()
    receipts = sorted(receipts, key=lambda one: one.index)
    wrong = []
    if stored != [(one.id, one.station, one.station_seq, one.index, one.leaf_hash) for one in receipts]:
        wrong.append(f"{len(receipts)} receipts are not those of the {len(stored)} decisions on record")
    for station in STATIONS:
        numbers = [number for _, name, number, *_ in stored if name == station]
        if numbers != list(range(1, len(numbers) + 1)):
            wrong.append(f"the decisions at {station} are not numbered from 1 to {len(numbers)} in ledger order")
    latest = 0.0
    for one in receipts:
        if one.told < latest:
            wrong.append(f"entry {one.index} was acknowledged before one with a lower index was handed in")
        latest = max(latest, one.submitted)
    return wrong


def _read(path: Path) -> list[_Receipt]:
    found = []
    for line in path.read_text().splitlines():
        reference, station, number, index, leaf, submitted, told = line.split()
        found.append(_Receipt(reference, station, int(number), int(index), leaf, float(submitted), float(told)))
    return found


# --- one process ----------------------------------------------------------------------------------------------------------


def main(url: str, home: Path, process: int, seconds: float) -> None:
    lock, errors = threading.Lock(), []
    with Database(create_engine(url), None) as database, (home / "receipts").open("w") as receipts:
        recorder = Recorder(database, home, patience=60)
        until = time.monotonic() + seconds

        def line(station: str) -> None:
            number = process * 10**9
            try:
                while time.monotonic() < until:
                    number += 1
                    submitted = time.monotonic()
                    one = recorder.submit(draft(number, station, trigger=None)).result()
                    told = time.monotonic()
                    assert isinstance(one, Recorded)
                    found = one.receipt
                    with lock:
                        receipts.write(
                            f"{found.id} {station} {one.station_seq} {found.index} {found.leaf_hash.hex()} {submitted!r} {told!r}\n"
                        )
            except BaseException as error:
                errors.append(error)
                raise

        threads = [threading.Thread(target=line, args=(station,)) for station in STATIONS]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        recorder.close()
    sys.exit(bool(errors))


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]), float(sys.argv[4]))
