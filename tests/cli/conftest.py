import json
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from traceai.cli import main
from traceai.sdk import Trace


@dataclass(frozen=True)
class Result:
    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


Run = Callable[..., Result]


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Run:
    """Types `traceai ...` in this process, and reads the screen and the exit code."""
    monkeypatch.setenv("COLUMNS", "200")

    def typed(*arguments: object) -> Result:
        monkeypatch.setattr(sys, "argv", ["traceai", *map(str, arguments)])
        capsys.readouterr()
        try:
            main()
            code = 0
        except SystemExit as done:
            code = int(done.code or 0)
        out, err = capsys.readouterr()
        return Result(code, out, err)

    return typed


@pytest.fixture
def here(trace: Trace, clone: str, monkeypatch: pytest.MonkeyPatch) -> Trace:
    """The command line uses this test's database and home."""
    monkeypatch.setenv("TRACEAI_DATABASE_URL", clone)
    monkeypatch.setenv("TRACEAI_HOME", str(trace.settings.home))
    return trace


@pytest.fixture
def classes(tmp_path: Path, images: list[Path]) -> Path:
    """A folder per class: good, dent and scratch."""
    import shutil

    folder = tmp_path / "classes"
    for number, path in enumerate(images):
        target = folder / ("good", "dent", "good", "scratch")[number % 4]
        target.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, target)
    return folder
