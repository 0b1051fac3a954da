"""`traceai watch`: a folder that a camera writes into, inspected once whatever happens."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.inspection.recording.drafts import away
from traceai.inspection import history
from traceai.ledger.verification import verifier
from traceai.sdk import Trace


class Watcher:
    """`traceai watch` in a process of its own, and what it printed."""

    def __init__(self, folder: Path, output: Path, *judge: str | Path) -> None:
        self.output = output
        without = "sys.modules['torch'] = None; " if "--onnx" in judge else ""
        module = f"import sys; {without}from traceai.cli import main; sys.argv[0] = 'traceai'; main()"
        command = [sys.executable, "-c", module, "watch", folder, *judge, "--station", "press-4", "--json"]
        with output.open("a") as stream:
            self.process = subprocess.Popen(
                list(map(str, command)),
                stdout=stream,
                stderr=subprocess.PIPE,
                text=True,
                env=os.environ | {"PYTHONUNBUFFERED": "1"},
            )

    def lines(self) -> list[dict]:
        return [json.loads(line) for line in self.output.read_text().splitlines()]

    def wait_for(self, count: int) -> list[dict]:
        deadline = time.monotonic() + 60
        while len(found := self.lines()) < count:
            assert time.monotonic() < deadline, found
            assert self.process.poll() is None, self.process.stderr.read()
            time.sleep(0.05)
        return found

    def stop(self, how: signal.Signals = signal.SIGINT) -> tuple[int, str]:
        self.process.send_signal(how)
        _, said = self.process.communicate(timeout=60)
        return self.process.returncode, said


@pytest.fixture(params=["model", "file"])
def start(request: pytest.FixtureRequest, here: Trace, tiny: str, tmp_path: Path) -> Iterator[Callable[[], Watcher]]:
    """Watches with the version, or with its exported file where torch cannot be imported."""
    here.add_station("press-4")
    judge: tuple[str | Path, ...] = ("--model", "tiles")
    if request.param == "file":
        judge = ("--onnx", tmp_path / "tiles.onnx")
        (tmp_path / "tiles.onnx").write_bytes(here.export_model(tiny)[0])
    started: list[Watcher] = []

    def begin() -> Watcher:
        started.append(Watcher(tmp_path / "camera", tmp_path / "out", *judge))
        return started[-1]

    (tmp_path / "camera").mkdir()
    yield begin
    for watcher in started:
        if watcher.process.poll() is None:
            watcher.process.kill()
        watcher.process.communicate()


def sources(trace: Trace) -> list[int]:
    with trace.database.session() as session:
        return [row.station_seq for row in history.search(session, history.Filter(station="press-4")).rows]


def test_images_are_inspected_as_they_come_and_never_twice(
    here: Trace, start: Callable[[], Watcher], images: list[Path], tmp_path: Path, clone: str
) -> None:
    camera = tmp_path / "camera"
    shutil.copy(images[0], camera / "0.png")
    (camera / "notes.txt").write_text("no image")
    watcher = start()
    watcher.wait_for(1)
    (camera / "broken.png").write_text("no image either")
    watcher.wait_for(2)
    shutil.copy(images[1], camera / "1.png")
    found = watcher.wait_for(3)
    assert [Path(line["source"]).name for line in found] == ["0.png", "broken.png", "1.png"]
    assert [line["verdict"] is None for line in found] == [False, True, False]
    code, said = watcher.stop()
    assert code == 0, said
    assert "Watched" in said
    # The same folder again, with one more image; and once with the database away.
    shutil.copy(images[2], camera / "2.png")
    watcher = start()
    watcher.wait_for(4)
    with away(clone):
        shutil.copy(images[3], camera / "3.png")
        assert watcher.wait_for(5)[-1]["spooled_at"] is not None
        watcher.stop(signal.SIGKILL)
    watcher = start()
    shutil.copy(images[4], camera / "4.png")
    watcher.wait_for(6)
    code, said = watcher.stop()
    assert code == 0, said
    here.recorder.deliver()
    assert sorted(sources(here)) == [1, 2, 3, 4, 5, 6]
    assert verifier.verify(here.database.engine).holds
