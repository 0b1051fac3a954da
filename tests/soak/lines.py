"""The processes of the plant: lines that record, a service that inspects over HTTP, and whoever keeps asking it."""

import io
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import uuid
from pathlib import Path

import httpx
import numpy as np
from PIL import Image

from tests.inspection.recording.servers import wait_until

_ROOT = Path(__file__).parents[2]
# Parts that no round comes to the end of.
_FOR_EVER = 10**9
# Seconds between two parts of a line.
PACE = 0.01


class Line:
    """One line: `tests.inspection.recording.line` in a process of its own, with a home and a spool of its own."""

    def __init__(self, folder: Path, station: str, server: Path) -> None:
        self.home, self.station = folder / station, station
        self.home.mkdir()
        self._server = server
        self._process: subprocess.Popen[bytes] | None = None

    def start(self, step: str = "", after: int = 0, pace: float = PACE) -> None:
        """Go on where it was; with a step it kills itself there, `after` so many parts."""
        command = [
            sys.executable, "-m", "tests.inspection.recording.line", self._server, self.home, self.station, _FOR_EVER, step, after,
            pace,
        ]  # fmt: skip
        with (self.home / "log").open("ab") as log:
            self._process = subprocess.Popen(list(map(str, command)), cwd=_ROOT, stderr=log)

    def run(self, pace: float = PACE) -> None:
        """Start, and wait until a part was acknowledged."""
        self.start(pace=pace)
        self.more(1)

    def kill(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def died(self) -> bool:
        """Wait until it has killed itself. Returns False where it ended in another way."""
        assert self._process is not None
        code = self._process.wait(timeout=90)
        self._process = None
        return code == -signal.SIGKILL

    def more(self, count: int, how: str = "") -> None:
        """Wait until so many more parts were acknowledged, the last of them in this way."""
        target = self.last[0] + count

        def reached() -> bool:
            assert self._process is not None
            if (code := self._process.poll()) is not None:
                raise AssertionError(f"{self.station} ended with {code}: {(self.home / 'log').read_text()[-500:]}")
            number, kind = self.last
            return number >= target and how in {"", kind}

        wait_until(reached, f"{count} more parts {how} at {self.station}", seconds=90)

    @property
    def last(self) -> tuple[int, str]:
        """The last part that was acknowledged, and how."""
        path = self.home / "acknowledged"
        if not path.exists():
            return 0, ""
        with path.open("rb") as told:
            told.seek(max(0, path.stat().st_size - 200))
            lines = told.read().split(b"\n")[:-1]
        if not lines:
            return 0, ""
        number, how, _ = lines[-1].split()
        return int(number), how.decode()


def traceai(home: Path, *arguments: str, url: str | None = None) -> "subprocess.Popen[str]":
    """The command in a process of its own, on the embedded server of `home` where no URL is given."""
    environment = {**os.environ, "TRACEAI_HOME": str(home)} | ({"TRACEAI_DATABASE_URL": url} if url else {})
    return subprocess.Popen(
        [sys.executable, "-c", "from traceai.cli import main; main()", *arguments],
        cwd=_ROOT, env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip


class Service:
    """`traceai serve`, and one client that posts part after part and repeats each until it is answered."""

    def __init__(self, home: Path, station: str, model: str, token: str) -> None:
        self.station = station
        # (number, status, ledger index or -1) of every part that was answered, in order.
        self.answers: list[tuple[int, int, int]] = []
        self.repeats = 0
        self.refused: list[str] = []
        self._home, self._model, self._token = home, model, token
        with socket.create_server(("127.0.0.1", 0)) as free:
            self._port = free.getsockname()[1]
        self._process: subprocess.Popen[str] | None = None
        self._running, self._ending = threading.Event(), threading.Event()
        self._idle = threading.Event()
        self._idle.set()
        self._thread = threading.Thread(target=self._ask, daemon=True)
        self._thread.start()

    def start(self) -> None:
        """Start the service, and wait until a part was answered."""
        self._process = traceai(self._home, "serve", "--port", str(self._port))
        self._running.set()
        self.more(1)

    def kill(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.communicate()
            self._process = None

    def pause(self) -> None:
        """Post no more; what was posted is answered first."""
        self._running.clear()
        assert self._idle.wait(timeout=90)

    def resume(self) -> None:
        self._running.set()

    def more(self, count: int) -> None:
        target = len(self.answers) + count
        wait_until(lambda: len(self.answers) >= target or bool(self.refused), f"{count} more answers", seconds=90)

    def close(self) -> None:
        self._ending.set()
        self._running.set()
        self.kill()
        self._thread.join(timeout=30)

    def _ask(self) -> None:
        with httpx.Client(base_url=f"http://127.0.0.1:{self._port}", timeout=30) as client:
            number = 0
            while not self._ending.is_set():
                self._running.wait()
                self._idle.clear()
                number += 1
                self._post(client, number)
                if not self._running.is_set():
                    self._idle.set()

    def _post(self, client: httpx.Client, number: int) -> None:
        while not self._ending.is_set():
            try:
                response = client.post(
                    "/v1/inspections",
                    headers={"Authorization": f"Bearer {self._token}"},
                    files={"image": (f"{number}.png", picture(number), "image/png")},
                    data={
                        "model": self._model, "station": self.station, "trigger": str(number),
                        "id": posted_id(self.station, number),
                    },
                )  # fmt: skip
            except httpx.TransportError:
                self.repeats += 1
                time.sleep(0.1)  # nobody listens, or nobody does any more
                continue
            if response.status_code in {200, 201}:
                self.answers.append((number, response.status_code, response.json()["ledger"]["index"]))
                return
            if response.status_code == 202:
                self.answers.append((number, 202, -1))
                return
            if response.status_code != 503:
                self.refused.append(f"part {number} was answered {response.status_code}: {response.text[:300]}")
                return
            self.repeats += 1
            time.sleep(0.1)  # it said that it cannot now


def posted_id(station: str, number: int) -> str:
    return str(uuid.uuid5(uuid.NAMESPACE_URL, f"{station} {number}"))


def picture(number: int) -> bytes:
    """A small PNG of its own for each number."""
    pixels = np.random.default_rng(number).integers(0, 256, (32, 32), dtype=np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()
