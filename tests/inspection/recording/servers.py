"""A PostgreSQL of a test's own, and what becomes of servers: killed, restarted, stopped, frozen."""

import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psycopg

from traceai.db import migrate
from traceai.db.connection import create_engine
from traceai.db.embedded import EmbeddedServer

TEMPLATE = "fresh"


class OwnServer:
    """A server in `folder`, which another user has to be able to enter. Close it."""

    def __init__(self, folder: Path, *, durable: bool = False) -> None:
        """durable: whether what is committed survives a power cut as well. The kill of a process it always does."""
        self.embedded = EmbeddedServer(folder)
        self.url = self.embedded.acquire()
        with psycopg.connect(self.url, autocommit=True) as connection:
            connection.execute(f"ALTER SYSTEM SET fsync TO {'on' if durable else 'off'}")
            connection.execute("SELECT pg_reload_conf()")

    def database(self, name: str) -> str:
        """The URL of a fresh, migrated database."""
        with psycopg.connect(self._to("postgres"), autocommit=True) as connection:
            if not connection.execute("SELECT 1 FROM pg_database WHERE datname = %s", [TEMPLATE]).fetchone():
                connection.execute(f"CREATE DATABASE {TEMPLATE}")
                engine = create_engine(self._to(TEMPLATE))
                migrate.upgrade(engine)
                engine.dispose()
            connection.execute(f"CREATE DATABASE {name} TEMPLATE {TEMPLATE}")
        return self._to(name)

    @property
    def postmaster(self) -> int:
        return int((self.embedded.data / "postmaster.pid").read_text().split("\n", 1)[0])

    def crash(self) -> None:
        """Kill the postmaster and nobody else, as the kernel does where memory runs out."""
        os.kill(self.postmaster, signal.SIGKILL)

    def restart(self, mode: str) -> None:
        """mode: `fast` (transactions are rolled back, then a checkpoint) or `immediate` (as after a power cut)."""
        self.embedded._run("pg_ctl", "restart", "-w", "-t", "60", "-m", mode, "-D", str(self.embedded.data))

    @contextmanager
    def frozen(self) -> Iterator[None]:
        """Within the block the server and everything that it started stands still; it neither answers nor hangs up."""
        stopped = self.freeze()
        try:
            yield
        finally:
            thaw(stopped)

    def freeze(self) -> list[int]:
        """Have it stand still. Returns the processes for `thaw`."""
        postmaster = self.postmaster
        os.kill(postmaster, signal.SIGSTOP)  # first, so that it starts no more of them
        stopped = [postmaster, *_children(postmaster)]
        for process in stopped[1:]:
            with suppress(ProcessLookupError):
                os.kill(process, signal.SIGSTOP)
        return stopped

    def close(self) -> None:
        self.embedded.release()

    def _to(self, name: str) -> str:
        return self.url.replace("/traceai?", f"/{name}?")


def thaw(stopped: list[int]) -> None:
    for process in reversed(stopped):
        with suppress(ProcessLookupError):
            os.kill(process, signal.SIGCONT)


def _children(parent: int) -> list[int]:
    found = []
    for entry in Path("/proc").iterdir():
        with suppress(OSError, ValueError):
            # The second field is the program's name, in brackets, and may hold anything.
            if int((entry / "stat").read_text().rpartition(")")[2].split()[1]) == parent:
                found.append(int(entry.name))
    return found


def wait_until(condition: Callable[[], bool], what: str, seconds: float = 30) -> None:
    """Look every few milliseconds until `condition` holds. Fails with `what` after `seconds`."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"waited {seconds:g} s in vain: {what}"
        time.sleep(0.01)
