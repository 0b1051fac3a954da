"""Decisions to record, and ways to take the database away from whoever records them."""

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import psycopg

from tests.conftest import database_url
from traceai.inspection.recording.draft import Draft
from traceai.ledger import canonical, records
from traceai.ledger.records import ModelRef

MODEL = ModelRef(name="parts", version=1, digest="5" * 64)
ENVIRONMENT = {"torch": "2.13.0", "batch": 1}
RUNTIME = hashlib.sha256(canonical.dumps(ENVIRONMENT)).hexdigest()


def draft(number: int, station: str = "press-4", named: bool = False, **fields: Any) -> Draft:
    """A decision as an inspector would hand it in; its image and its serial number tell its number."""
    grid = number.to_bytes(8, "big")
    record = records.Inspection(
        **{
            "station": station,
            "station_seq": 0,
            "trigger": number,
            "part": records.Part(serial=f"SN-{number}"),
            "image": records.Image(
                sha256=f"{number:064x}", bytes=9, pixel_sha256=f"{number:064x}", width=2, height=2, media_type="image/png"
            ),
            "model": MODEL,
            "logits": {"dent": "0.5", "good": "1.5"},
            "scores": {"dent": "0.3", "good": "0.7"},
            "defect_score": "0.300000",
            "operating_point": None,
            "verdict": "undecided",
            "predicted": "good",
            "explanation": records.Explanation(
                method="grad-cam/1", layer="x", target="dent", height=2, width=2, sha256=hashlib.sha256(grid).hexdigest(),
                min="0", max="1", sum="1", positive_fraction="0.5", peak_row=0, peak_column=0, bias=None, residual=None,
                degenerate=False,
            ),
            "audit": records.Audit(stratum="undecided", probability="1", drawn=True),
            "runtime": RUNTIME,
            "latency_us": 5,
            **fields,
        }
    )  # fmt: skip
    return Draft(record, grid, ENVIRONMENT, named)


def register(trace: Any) -> None:
    """Put the model that the decisions name on record, and the stations that they come from."""
    from traceai.ledger import log

    version = records.ModelVersion(
        model=MODEL, weights_sha256="6" * 64, architecture="resnet", parameters=1, layer="x", classes=["dent", "good"],
        operating_point=None, snapshot_name=None, snapshot_digest=None, training={}, evaluation={}, made_by="erin",
    )  # fmt: skip
    with trace.database.session() as session:
        log.append(session, [version])
    for station in ("press-4", "press-5"):
        trace.add_station(station)


@contextmanager
def away(clone: str) -> Iterator[None]:
    """Within the block the database takes no connections, and every connection is cut."""
    name = clone.partition("?")[0].rpartition("/")[2]
    with psycopg.connect(database_url(clone, "postgres"), autocommit=True) as administrator:
        administrator.execute(f"ALTER DATABASE {name} ALLOW_CONNECTIONS false")
        administrator.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s", [name])
        try:
            yield
        finally:
            administrator.execute(f"ALTER DATABASE {name} ALLOW_CONNECTIONS true")


def cut(clone: str) -> None:
    """Cut every connection to the database; it takes new ones."""
    name = clone.partition("?")[0].rpartition("/")[2]
    with psycopg.connect(database_url(clone, "postgres"), autocommit=True) as administrator:
        administrator.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s", [name])
