"""A line in a process of its own, which may die at a named step. It writes down what was acknowledged, and goes on where it was.

    python -m tests.inspection.recording.line URL HOME STATION UNTIL [STEP AFTER [PAUSE]]

Every part has an id that follows from its number, as a line integrator would have it, so that it can be asked for again. URL is a
database, or the folder of an embedded server, which the line then uses and keeps running. STEP is where the process kills itself,
or empty, AFTER so many parts were acknowledged; PAUSE is what lies between two parts, in seconds.
"""

import os
import signal
import sys
import time
import uuid
from pathlib import Path
from typing import Any

from sqlalchemy import event
from sqlmodel import Session

from tests.inspection.recording.drafts import draft
from traceai.db.connection import Database, create_engine
from traceai.db.embedded import EmbeddedServer
from traceai.inspection.recording import forwarder, spool, writer
from traceai.inspection.recording.recorder import Recorder
from traceai.ledger import log

STEPS = ("before insert", "after insert", "before commit", "after commit", "before receipt")
# Where a draft is on its way through the spool.
SPOOL_STEPS = ("before spooling", "after spooling", "after delivery", "after settling")


def part_id(station: str, number: int) -> str:
    return str(uuid.uuid5(uuid.NAMESPACE_OID, f"{station} {number}"))


def acknowledged(home: Path) -> list[tuple[int, str, int]]:
    """(number, how, ledger index or -1) of every part that the line was told of, in order; a torn last line was never told."""
    path = home / "acknowledged"
    lines = path.read_text().split("\n")[:-1] if path.exists() else []
    return [(int(number), how, int(index)) for number, how, index in (line.split() for line in lines)]


class Dies:
    """Kills this process when it comes by for the first time after it was armed."""

    def __init__(self) -> None:
        self.armed = False

    def __call__(self, *_: object) -> None:
        if self.armed:
            os.kill(os.getpid(), signal.SIGKILL)

    def around(self, owner: Any, name: str, *, before: bool) -> None:
        """Have `owner.name` die before, or after, it does its work."""
        work = getattr(owner, name)

        def wrapped(*arguments: Any, **named: Any) -> Any:
            if before:
                self()
            done = work(*arguments, **named)
            if not before:
                self()
            return done

        setattr(owner, name, wrapped)


def arm(step: str) -> Dies:
    dies = Dies()
    if step in {"before insert", "after insert"}:
        dies.around(log, "write", before=step == "before insert")
    elif step in {"before commit", "after commit"}:
        event.listen(Session, step.replace(" ", "_"), dies)
    elif step == "before receipt":
        dies.around(writer.Writer, "write", before=False)
    elif step in {"before spooling", "after spooling"}:
        dies.around(spool.Spool, "put", before=step == "before spooling")
    elif step == "after delivery":
        dies.around(spool.Spool, "settle", before=True)
    else:
        dies.around(forwarder.Forwarder, "_one_batch", before=False)
    return dies


def opened(where: str) -> Database:
    if "://" in where:
        return Database(create_engine(where), None)
    server = EmbeddedServer(Path(where))
    return Database(create_engine(server.acquire()), server)


def main(where: str, home: Path, station: str, until: int, step: str = "", after: int = 0, pause: float = 0) -> None:
    dies = arm(step) if step else Dies()
    done = acknowledged(home)
    with opened(where) as database, (home / "acknowledged").open("a") as told:
        recorder = Recorder(database, home, patience=5)
        for count, number in enumerate(range(len(done) + 1, until + 1)):
            dies.armed = bool(step) and count >= after
            kept = recorder.submit(draft(number, station, named=True, id=part_id(station, number))).result()
            told.write(f"{number} {type(kept).__name__} {-1 if kept.index is None else kept.index}\n")
            told.flush()
            time.sleep(pause)
        recorder.close()


if __name__ == "__main__":
    where, home, station, until, *rest = sys.argv[1:]
    main(where, Path(home), station, int(until), *rest[:1], *map(int, rest[1:2]), *map(float, rest[2:3]))
