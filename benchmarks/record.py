"""The recorder's figures: durable decisions a second, and what one caller waits, each beside the plainest way to do it."""

import gc
import multiprocessing
import os
import random
import statistics
import subprocess
import tempfile
import threading
import time
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from multiprocessing.synchronize import Barrier
from pathlib import Path
from typing import Any

import psycopg
import psycopg.postgres
from psycopg.types.string import BytesBinaryDumper
from sqlalchemy import Engine

from benchmarks import scratch
from traceai.clock import now, timestamp, uuid7
from traceai.db.connection import Database, create_engine
from traceai.inspection.recording.answers import Answer
from traceai.inspection.recording.draft import Draft, Recorded
from traceai.inspection.recording.recorder import CAPACITY, Recorder
from traceai.ledger import canonical
from traceai.ledger.entry import Entry
from traceai.ledger.merkle import leaf_hash
from traceai.ledger.packing import pack
from traceai.ledger.projection import columns, values
from traceai.ledger.records import Inspection as InspectionRecord

WRITERS = 4
STATIONS = tuple(f"press-{number}" for number in range(WRITERS))


def report(decisions: int = 60_000, single: int = 3_000, rounds: int = 5, million: int = 1_000_000) -> None:
    """Print every figure. `decisions`: recorded by all writers together in a round; `single`: one by one; `million`: for memory."""
    print(f"Recording, {os.cpu_count()} processors, medians of {rounds} rounds")
    with scratch.server() as url:
        rates: dict[str, list[float]] = {}
        waits: dict[str, list[float]] = {}
        for number in range(rounds):
            # In turn and each first in turn, so that whatever else the machine does, what they left it to do included, meets both.
            ours, theirs = (scratch.database(url, f"{whose}_{number}") for whose in ("ours", "theirs"))
            scratch.stations(ours, STATIONS)
            scratch.stations(theirs, STATIONS)
            measured = [("recorder", _recorder, ours), ("copy", _copied, theirs)]
            for name, measure, engine in measured if number % 2 else reversed(measured):
                _settled(url)
                rates.setdefault(name, []).append(measure(engine, decisions))
            _settled(url)
            rate, wait = _inserted(theirs, single)
            rates.setdefault("insert", []).append(rate)
            waits.setdefault("insert", []).append(wait)
            waits.setdefault("recorder", []).append(_one_by_one(ours, single))
            ours.dispose()
            theirs.dispose()
        mlflow = _mlflow(url)
        memory = _memory(url, million)
    print(f"  {WRITERS} writers, all durable           {_middle(rates['recorder']):10,.0f} decisions/s")
    for name, label in (("copy", "plain binary COPY of the rows"), ("insert", "INSERT; COMMIT of each")):
        print(f"  {label:32} {_middle(rates[name]):10,.0f} decisions/s, ours {_ratios(rates['recorder'], rates[name])}")
    if isinstance(mlflow, float):
        print(
            f"  {'MLflow, synchronous tracing':32} {mlflow:10,.0f} decisions/s, ours {_middle(rates['recorder']) / mlflow:,.0f}x"
        )
    else:
        print(f"  MLflow, synchronous tracing      skipped: {mlflow}")
    print(f"  one caller waits, p99            {_middle(waits['recorder']) * 1e3:10.2f} ms")
    ratios = _ratios(waits["recorder"], waits["insert"])
    print(f"  {'INSERT; COMMIT, p99':32} {_middle(waits['insert']) * 1e3:10.2f} ms, ours {ratios}")
    print("  memory of the recording process")
    for count, resident in memory:
        print(f"    after {count:>9,} decisions          {resident / 2**20:7.0f} MiB")


def _settled(url: str) -> None:
    """Have written what earlier ones left to be written, so that nobody is measured beside it."""
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("CHECKPOINT")
    os.sync()


def _middle(values: list[float]) -> float:
    return statistics.median(values)


def _ratios(ours: list[float], others: list[float]) -> str:
    found = [mine / other for mine, other in zip(ours, others, strict=True)]
    return f"{_middle(found):.2f}x ({', '.join(f'{ratio:.2f}' for ratio in found)})"


# --- the recorder ---------------------------------------------------------------------------------------------------------


def _recorder(engine: Engine, count: int) -> float:
    """Decisions a second of `WRITERS` processes, from the first that is handed in to the last receipt."""
    url = engine.url.render_as_string(hide_password=False)
    context = multiprocessing.get_context("spawn")
    barrier, times = context.Barrier(WRITERS), context.Queue()
    processes = [
        context.Process(target=_write, args=(url, number, count // WRITERS, barrier, times))
        for number in range(WRITERS)
    ]
    for process in processes:
        process.start()
    spans = [times.get() for _ in processes]
    for process in processes:
        process.join()
    with engine.connect() as connection:
        size = connection.exec_driver_sql("SELECT size FROM ledger_head").scalar_one()
    assert size == 2 + count + WRITERS, size
    return count / (max(end for _, end in spans) - min(start for start, _ in spans))


def _write(url: str, number: int, count: int, barrier: Barrier, times: Any) -> None:
    drafts = _drafts(STATIONS[number], count + 1)
    with _recording(url) as recorder:
        recorder.submit(drafts[0]).result()  # connected, and everything imported
        # What is handed in was there before; collecting garbage would look through all of it, over and over.
        gc.collect()
        gc.freeze()
        barrier.wait()
        began = time.monotonic()
        waiting: deque[Answer] = deque()
        for draft in drafts[1:]:
            waiting.append(recorder.submit(draft))
            if len(waiting) > CAPACITY:  # take receipts as they come: nobody keeps them all
                _recorded(waiting.popleft())
        while waiting:
            _recorded(waiting.popleft())
        times.put((began, time.monotonic()))


def _recorded(answer: Answer) -> None:
    assert isinstance(answer.result(), Recorded)


def _one_by_one(engine: Engine, count: int) -> float:
    """p99 of what a caller waits for a receipt, in seconds."""
    drafts, waits = _drafts(STATIONS[0], count), []
    with _recording(engine.url.render_as_string(hide_password=False)) as recorder:
        for draft in drafts:
            began = time.perf_counter()
            recorder.submit(draft).result()
            waits.append(time.perf_counter() - began)
    return statistics.quantiles(waits[100:], n=100)[98]


@contextmanager
def _recording(url: str) -> Iterator[Recorder]:
    with tempfile.TemporaryDirectory() as home, Database(create_engine(url), None) as database:
        recorder = Recorder(database, Path(home), patience=60)
        yield recorder
        recorder.close()


def _drafts(station: str, count: int) -> list[Draft]:
    source = random.SystemRandom()
    found = (scratch.decision(source, station, number + 1) for number in range(count))
    return [Draft(record.model_copy(update={"station_seq": 0}), grid, scratch.ENVIRONMENT) for record, grid in found]


# --- the references -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Rows:
    """What decisions are in the tables, ready to be sent."""

    journal: list[tuple[Any, ...]]
    inspection: list[list[Any]]
    heat_map: list[tuple[Any, ...]]


def _rows(engine: Engine, count: int) -> Rows:
    with engine.connect() as connection:
        first = connection.exec_driver_sql('SELECT max("index") + 1 FROM journal').scalar_one()
    drafts = _drafts("reference", count)
    numbered = (draft.record.model_copy(update={"station_seq": number}) for number, draft in enumerate(drafts, 1))
    entries = [Entry.seal(record, timestamp(now())) for record in numbered]
    inspection = [[index, *values(InspectionRecord, entry.fields)] for index, entry in enumerate(entries, first)]
    for row in inspection:  # JSON as its text: to write it is no part of sending it
        row[:] = [canonical.dumps(value).decode() if isinstance(value, dict) else value for value in row]
    return Rows(
        [(index, pack(entry.data), leaf_hash(entry.data)) for index, entry in enumerate(entries, first)],
        inspection,
        [(index, draft.grid) for index, draft in enumerate(drafts, first)],
    )


def _copied(engine: Engine, count: int) -> float:
    """Decisions a second of one COPY a table and one commit: no order, no hashes, nothing acknowledged before the end."""
    rows = _rows(engine, count)
    gc.collect()
    gc.freeze()
    with psycopg.connect(scratch.plain(engine)) as connection:
        began = time.monotonic()
        _copy(connection, "journal", ("index", "entry", "leaf_hash"), rows.journal)
        _copy(connection, "inspection", columns(InspectionRecord), rows.inspection)
        _copy(connection, "heat_map", ("journal_index", "grid"), rows.heat_map)
        connection.commit()
        return count / (time.monotonic() - began)


def _copy(connection: psycopg.Connection[Any], table: str, names: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
    """Rows by binary COPY as psycopg does it, with its fastest way to write bytes."""
    found = connection.execute("SELECT attname, atttypid FROM pg_attribute WHERE attrelid = %s::regclass", [table])
    kinds = dict(found.fetchall())
    text = psycopg.postgres.types["text"].oid
    into = ", ".join(f'"{name}"' for name in names)
    with connection.cursor() as cursor:
        cursor.adapters.register_dumper(bytes, BytesBinaryDumper)
        with cursor.copy(f"COPY {table} ({into}) FROM STDIN (FORMAT BINARY)") as copy:
            copy.set_types([text if kinds[name] in _TEXTS else kinds[name] for name in names])
            for row in rows:
                copy.write_row(row)


_TEXTS = {psycopg.postgres.types[name].oid for name in ("varchar", "json")}


def _inserted(engine: Engine, count: int) -> tuple[float, float]:
    """Decisions a second of an INSERT into each table and a COMMIT for every decision, and the p99 of one, in seconds."""
    rows, waits = _rows(engine, count), []
    names = columns(InspectionRecord)
    insert = "INSERT INTO inspection ({}) VALUES ({})".format(", ".join(names), ", ".join(["%s"] * len(names)))
    with psycopg.connect(scratch.plain(engine)) as connection:
        for journal, inspection, heat_map in zip(rows.journal, rows.inspection, rows.heat_map, strict=True):
            began = time.perf_counter()
            connection.execute('INSERT INTO journal ("index", entry, leaf_hash) VALUES (%s, %s, %s)', journal)
            connection.execute(insert, inspection)
            connection.execute("INSERT INTO heat_map (journal_index, grid) VALUES (%s, %s)", heat_map)
            connection.commit()
            waits.append(time.perf_counter() - began)
    return count / sum(waits), statistics.quantiles(waits[100:], n=100)[98]


def _mlflow(url: str, count: int = 150) -> float | str:
    """Traces a second, or why that could not be measured."""
    python = os.environ.get("TRACEAI_BENCH_MLFLOW")
    if python is None:
        return "set TRACEAI_BENCH_MLFLOW to a Python that has mlflow and psycopg2"
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("CREATE DATABASE mlflow")
    command = [
        python,
        str(Path(__file__).with_name("mlflow_tracing.py")),
        url.replace("/traceai?", "/mlflow?").replace("postgresql:", "postgresql+psycopg2:"),
        str(count),
    ]
    with tempfile.TemporaryDirectory() as folder:
        done = subprocess.run(command, capture_output=True, text=True, cwd=folder, check=False)
    return float(done.stdout.split()[-1]) if done.returncode == 0 else done.stderr.strip().splitlines()[-1]


# --- memory ---------------------------------------------------------------------------------------------------------------


def _memory(url: str, count: int) -> list[tuple[int, int]]:
    """(decisions, resident bytes) of a process that records `count` of them, ten times on the way."""
    engine = scratch.database(url, "memory")
    scratch.stations(engine, STATIONS)
    context = multiprocessing.get_context("spawn")
    found = context.Queue()
    process = context.Process(
        target=_record_many, args=(engine.url.render_as_string(hide_password=False), count, found)
    )
    process.start()
    seen = [found.get() for _ in range(10)]
    process.join()
    engine.dispose()
    return seen


def _record_many(url: str, count: int, found: Any) -> None:
    drafts = _drafts(STATIONS[0], 500)
    done = threading.Semaphore(2 * CAPACITY)
    with _recording(url) as recorder:
        for number in range(1, count + 1):
            pattern = drafts[number % len(drafts)]
            draft = replace(pattern, record=pattern.record.model_copy(update={"id": str(uuid7())}))
            done.acquire()
            answer = recorder.submit(draft)
            answer.add_done_callback(lambda _: done.release())
            if number % (count // 10) == 0:
                answer.result()
                found.put((number, scratch.resident()))
