"""A PostgreSQL of the benchmark's own, and ledgers of any length in it, made as fast as COPY takes them."""

import hashlib
import os
import random
import shutil
import tempfile
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psycopg
from sqlalchemy import Engine, text
from sqlmodel import Session

from traceai.clock import now, timestamp
from traceai.db import migrate
from traceai.db.connection import create_engine
from traceai.db.embedded import EmbeddedServer
from traceai.db.tables import HeatMap, Journal, Station, TreeNode
from traceai.ledger import canonical, log, records
from traceai.ledger.copying import copy
from traceai.ledger.entry import Entry
from traceai.ledger.merkle import Frontier, leaf_hash
from traceai.ledger.packing import pack
from traceai.ledger.projection import TABLES, columns, values

CLASSES = ("crack", "dent", "discoloration", "good", "missing_component", "scratch")
GRID = (7, 7)
STATION = "press-4"


@contextmanager
def server() -> Iterator[str]:
    """The URL of an embedded PostgreSQL that nobody else uses."""
    folder = Path(tempfile.mkdtemp(prefix="traceai-bench-"))
    folder.chmod(0o755)
    embedded = EmbeddedServer(folder)
    try:
        yield embedded.acquire()
    finally:
        embedded.release()
        shutil.rmtree(folder, ignore_errors=True)


def database(url: str, name: str) -> Engine:
    """A fresh, migrated database."""
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(f'CREATE DATABASE "{name}"')
    engine = create_engine(url.replace("/traceai?", f"/{name}?"))
    migrate.upgrade(engine)
    return engine


def decisions(engine: Engine, count: int) -> int:
    """Append `count` decisions of one station, each as large as a real one. Returns the bytes of their entries."""
    with engine.begin() as connection:
        size, stored = connection.execute(text("SELECT size, frontier FROM ledger_head")).one()
        done = connection.execute(text("SELECT coalesce(max(last_seq), 0) FROM station")).scalar_one()
        connection.execute(text("SELECT traceai_extend(:n)"), {"n": size + count + 2**19})
    source = random.Random(size)  # figures have to repeat, and identifiers must not
    frontier, total = Frontier(size, stored), 0
    first: list[tuple[records.Record, bytes | None]] = [] if size else [(record, None) for record in _before()]
    while count > 0:
        batch = min(count, 20_000)
        entries = [*first, *(decision(source, STATION, done + number + 1) for number in range(batch))]
        total += _copy(engine, frontier, entries)
        done, count, first = done + batch, count - batch, []
    with engine.begin() as connection:
        connection.execute(
            text(
                "INSERT INTO station VALUES (:station, :n, 0.05, now()) ON CONFLICT (name) DO UPDATE SET last_seq = :n"
            ),
            {"n": done, "station": STATION},
        )
    _settle(engine)
    return total


def stations(engine: Engine, names: Sequence[str]) -> None:
    """A ledger ready to record at these stations: what decisions name is on record."""
    with Session(engine) as session, session.begin():
        log.append(session, _before())
        for name in names:
            session.add(Station(name=name, audit_pass_probability=0.05, created_at=now()))


_MODEL = records.ModelRef(name="parts", version=1, digest="5" * 64)
ENVIRONMENT = {"torch": "2.13.0+cpu", "threads": 2, "batch": 32}
_RUNTIME = hashlib.sha256(canonical.dumps(ENVIRONMENT)).hexdigest()


def _before() -> list[records.Record]:
    """What decisions name."""
    return [
        records.ModelVersion(
            model=_MODEL, weights_sha256="6" * 64, architecture="resnet", parameters=174414, layer="resnet.encoder",
            classes=list(CLASSES), operating_point=None, snapshot_name=None, snapshot_digest=None, training={}, evaluation={},
            made_by="bench",
        ),
        records.Runtime(digest=_RUNTIME, environment=ENVIRONMENT),
    ]  # fmt: skip


def _number(source: random.Random, low: float, high: float) -> str:
    return canonical.decimal(source.uniform(low, high))


def decision(source: random.Random, station: str, seq: int) -> tuple[records.Inspection, bytes]:
    """A decision as large as a real one, and its heat map."""
    grid = source.randbytes(2 * GRID[0] * GRID[1])
    record = records.Inspection(
        id=str(uuid.UUID(bytes=source.randbytes(16), version=4)),
        occurred_at=timestamp(now()),
        salt=source.randbytes(16).hex(),
        station=station,
        station_seq=seq,
        part=records.Part(product="parts", serial=f"SN-{seq:08}", lot=f"L{seq // 500:05}"),
        image=records.Image(
            sha256=source.randbytes(32).hex(), bytes=source.randrange(9000, 40000), pixel_sha256=source.randbytes(32).hex(),
            width=256, height=256, media_type="image/png",
        ),
        model=_MODEL,
        logits={name: _number(source, -8, 8) for name in CLASSES},
        scores={name: _number(source, 0, 1) for name in CLASSES},
        defect_score=f"{source.random():.6f}",
        operating_point=records.OperatingPoint(pass_below="0.211939", reject_at="0.307559"),
        verdict="pass",
        predicted="good",
        explanation=records.Explanation(
            method="grad-cam/1", layer="resnet.encoder", target="scratch", height=GRID[0], width=GRID[1],
            sha256=hashlib.sha256(grid).hexdigest(), min=_number(source, -1, 0), max=_number(source, 0, 1),
            sum=_number(source, -2, 2), positive_fraction=_number(source, 0, 1), peak_row=source.randrange(7),
            peak_column=source.randrange(7), bias=_number(source, -1, 1), residual=_number(source, -1e-4, 1e-4), degenerate=False,
        ),
        audit=records.Audit(stratum="pass", probability="0.05", drawn=source.random() < 0.05),
        runtime=_RUNTIME,
        latency_us=source.randrange(20_000, 300_000),
    )  # fmt: skip
    return record, grid


def _copy(engine: Engine, frontier: Frontier, written: Sequence[tuple[records.Record, bytes | None]]) -> int:
    total, recorded_at = 0, timestamp(now())
    journal, nodes, maps = [], [], []
    rows: dict[type[records.Record], list[list[Any]]] = {}
    for record, grid in written:
        index, entry = frontier.size, Entry.seal(record, recorded_at)
        leaf = leaf_hash(entry.data)
        total += len(entry.data)
        journal.append((index, pack(entry.data), leaf))
        nodes += frontier.append(leaf)
        rows.setdefault(type(record), []).append([index, *values(type(record), entry.fields)])
        if grid is not None:
            maps.append((index, grid))
    with psycopg.connect(plain(engine)) as connection:
        copy(connection, Journal, ("index", "entry", "leaf_hash"), journal)
        copy(connection, TreeNode, ("level", "index", "hash"), nodes)
        copy(connection, HeatMap, ("journal_index", "grid"), maps)
        for record_type, found in rows.items():
            copy(connection, TABLES[record_type], columns(record_type), found)
        connection.execute(
            "UPDATE ledger_head SET size = %s, root = %s, frontier = %s",
            (frontier.size, frontier.root(), bytes(frontier)),
        )
    return total


def leaves_only(engine: Engine, count: int) -> None:
    """A journal that is good for nothing but its tree: `count` leaves and the nodes above them."""
    frontier = Frontier()
    with psycopg.connect(plain(engine)) as connection:
        for start in range(0, count, 2**18):
            nodes = []
            connection.execute("SELECT traceai_extend(%s)", [start + 2**18])
            with connection.cursor().copy('COPY journal ("index", entry, leaf_hash) FROM STDIN') as copy:
                for index in range(start, min(start + 2**18, count)):
                    leaf = leaf_hash(index.to_bytes(8, "big"))
                    copy.write_row((index, b"{}", leaf))
                    nodes += frontier.append(leaf)
            with connection.cursor().copy('COPY tree_node (level, "index", hash) FROM STDIN') as copy:
                for node in nodes:
                    copy.write_row(node)
        connection.execute(
            "UPDATE ledger_head SET size = %s, root = %s, frontier = %s",
            (frontier.size, frontier.root(), bytes(frontier)),
        )
    _settle(engine)


def _settle(engine: Engine) -> None:
    """Have the server finish what loading left to do, or it does so beside what is measured next."""
    with psycopg.connect(plain(engine), autocommit=True) as connection:
        connection.execute("VACUUM ANALYZE")
        connection.execute("CHECKPOINT")


def plain(engine: Engine) -> str:
    """Its URL, as the driver takes it."""
    return engine.url.set(drivername="postgresql").render_as_string(hide_password=False)


def resident() -> int:
    """Bytes of this process in memory now. Not its peak, which a process inherits from the one that started it."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
