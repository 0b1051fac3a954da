"""The ledger's figures: verification against the least anybody has to do, proofs, and what a decision costs on disk."""

import hashlib
import json
import os
import random
import statistics
import threading
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import psycopg
from sqlalchemy import Engine, text

from benchmarks import scratch
from traceai.ledger import merkle
from traceai.ledger.tlog import tiles
from traceai.ledger.tree import DatabaseTree
from traceai.ledger.verification import verifier
from traceai.ledger.verification.facts import Verified

MILLION = 1_000_000


def report(size: int = MILLION, proofs: int = 10 * MILLION) -> None:
    """Print every figure. `size`: decisions to verify; `proofs`: leaves under the largest tree."""
    with scratch.server() as url:
        _verification(url, size)
        _proofs(url, proofs)


def _verification(url: str, size: int) -> None:
    engine = scratch.database(url, "verify")
    tenth = size // 10
    bytes_written = scratch.decisions(engine, tenth)
    small, less = _verified(engine)
    bytes_written += scratch.decisions(engine, size - tenth)
    print(f"Verification of {size:,} decisions, {os.cpu_count()} processors")
    stored = _stored(engine)
    print(
        f"  stored, journal and tree      {stored / size:8.0f} bytes a decision, {stored / bytes_written:.2f}x its canonical bytes"
    )

    reference = statistics.median(_reference(engine) for _ in range(5))
    seconds, peaks = zip(*(_verified(engine) for _ in range(3)), strict=True)
    each = statistics.median(seconds) / size
    print(f"  json.loads + SHA-256          {reference * 1e6:8.1f} us a decision, one process")
    print(f"  full verification             {each * 1e6:8.1f} us a decision, {reference / each:.2f}x as fast")
    print(
        f"    seconds                     {', '.join(f'{found:.1f}' for found in seconds)}; at {tenth:,} decisions {small:.1f}"
    )
    print(f"    peak memory, all processes  {max(peaks) / 2**20:8.0f} MiB; at {tenth:,} {less / 2**20:.0f} MiB")

    reached = verifier.verify(engine).reached
    for more in (1_000, 10_000, 100_000):
        scratch.decisions(engine, more)
        since = statistics.median(_timed(partial(_hold, engine, reached)) for _ in range(3))
        print(f"  since the last, {more:>7,} new   {since:8.2f} s, {since / more * 1e6:.0f} us a new decision")
        reached = verifier.verify(engine, since=reached).reached
    engine.dispose()


def _proofs(url: str, largest: int) -> None:
    engines = {}
    for size in (largest // 100, largest):
        engines[size] = scratch.database(url, f"proofs_{size}")
        scratch.leaves_only(engines[size], size)
    # In turn, so that whatever else the machine does meets both.
    rounds = [{size: _p99(engine, size) for size, engine in engines.items()} for _ in range(9)]
    one, other = (statistics.median(found[size] for found in rounds) for size in engines)
    print("Inclusion proofs, each on its own, p99")
    print(f"  of {largest // 100:>10,} leaves          {one * 1e3:8.2f} ms")
    print(f"  of {largest:>10,} leaves          {other * 1e3:8.2f} ms, {other / one:.2f}x")
    print(
        f"    in each round               {', '.join(f'{found[largest] / found[largest // 100]:.2f}x' for found in rounds)}"
    )
    for engine in engines.values():
        engine.dispose()


def _p99(engine: Engine, size: int) -> float:
    source = random.Random(size)
    seconds = []
    with engine.connect() as connection:
        root = connection.execute(text("SELECT root FROM ledger_head")).scalar_one()
        tree = DatabaseTree(connection)
        for _ in range(2000):
            index = source.randrange(size)
            began = time.perf_counter()
            proof = tiles.inclusion_proof(tree, index, size)
            seconds.append(time.perf_counter() - began)
            merkle.verify_inclusion(merkle.leaf_hash(index.to_bytes(8, "big")), index, size, proof, root)
    return statistics.quantiles(seconds[100:], n=100)[98]


def _reference(engine: Engine, count: int = 50_000) -> float:
    """Seconds an entry to parse and hash the same bytes, already in memory: nothing compared, nothing fetched."""
    with engine.connect() as connection:
        entries = DatabaseTree(connection).entries(2, count + 2)
    began = time.perf_counter()
    for entry in entries:
        json.loads(entry)
        hashlib.sha256(entry).digest()
    return (time.perf_counter() - began) / count


def _hold(engine: Engine, since: Verified | None = None) -> None:
    outcome = verifier.verify(engine, since=since, workers=verifier.processes(engine, since))
    assert outcome.holds, [finding for fact in outcome.facts for finding in fact.findings][:3]


def _timed(call: Callable[[], object]) -> float:
    began = time.perf_counter()
    call()
    return time.perf_counter() - began


def _verified(engine: Engine) -> tuple[float, int]:
    """Seconds and peak resident bytes of this process and its children while everything is verified."""
    peak, stop = 0, threading.Event()

    def watch() -> None:
        nonlocal peak
        while not stop.wait(0.1):
            peak = max(peak, _resident())

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        seconds = _timed(lambda: _hold(engine))
    finally:
        stop.set()
        watcher.join()
    return seconds, peak


def _resident() -> int:
    own = os.getpid()
    total = 0
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(stat.parent.name) == own or int(fields[1]) == own:
            total += int(fields[21]) * os.sysconf("SC_PAGE_SIZE")
    return total


def _stored(engine: Engine) -> int:
    query = (
        "SELECT sum(pg_total_relation_size(c.oid)) FROM pg_class c"
        " WHERE c.relname = 'tree_node' OR c.relname ~ '^journal_p[0-9]+$'"
    )
    with psycopg.connect(engine.url.set(drivername="postgresql").render_as_string(hide_password=False)) as connection:
        ((total,),) = connection.execute(query).fetchall()
    return int(total)
