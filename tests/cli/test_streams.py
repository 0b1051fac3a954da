"""Standard output that is closed, full or of another encoding, and an interrupt: a sentence and an exit code, no traceback."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cli.conftest import Run
from traceai.inspection import history
from traceai.sdk import Trace

TYPED = [sys.executable, "-c", "from traceai.cli import main; main()"]
SERIAL = "Teil-é-部-😀"


def shell(redirection: str, *arguments: object) -> subprocess.CompletedProcess[str]:
    """Types `traceai ...` in a shell, with a redirection."""
    return subprocess.run(
        ["/bin/sh", "-c", f'"$@" {redirection}', "sh", *TYPED, *map(str, arguments)],
        capture_output=True, text=True, check=False,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("redirection", "command", "unbuffered"),
    [
        (">&-", ["decision", "list", "--json"], ""),
        ("> /dev/full", ["decision", "list"], ""),
        ("> /dev/full", ["decision", "list", "--json"], "1"),
        ("> /dev/full", ["--version"], "1"),
    ],
)
def test_standard_output_that_fails_is_one_sentence(
    here: Trace, monkeypatch: pytest.MonkeyPatch, redirection: str, command: list[str], unbuffered: str
) -> None:
    monkeypatch.setenv("PYTHONUNBUFFERED", unbuffered)
    done = shell(redirection, *command)
    assert done.returncode == 2
    assert done.stderr.startswith("traceai: Standard output cannot be written to (")
    assert done.stderr.endswith(" [output-failed]\n")
    assert done.stderr.count("\n") == 1


def test_where_nothing_can_be_told_nothing_is_begun(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRACEAI_HOME", str(tmp_path / "home"))
    assert shell(">&-", "decision", "list").returncode == 2
    assert not (tmp_path / "home").exists()


@pytest.mark.parametrize("redirection", ["2>&-", "2> /dev/full"])
def test_standard_error_that_fails_changes_no_exit_code(redirection: str) -> None:
    assert shell(redirection, "nothing").returncode == 2
    assert shell(redirection, "--version").returncode == 0


@pytest.mark.parametrize("encoding", ["ascii", "latin-1"])
def test_what_the_encoding_does_not_have_is_escaped(
    run: Run, here: Trace, tiny: str, images: list[Path], monkeypatch: pytest.MonkeyPatch, encoding: str
) -> None:
    here.add_station("press-4")
    inspect = ["inspect", images[0], "--model", "tiles", "--station", "press-4", "--serial", SERIAL, "--json"]
    found = run(*inspect).json[0]["id"]
    monkeypatch.setenv("PYTHONIOENCODING", encoding)
    for command in (["decision", "list"], ["decision", "show", found]):
        done = subprocess.run([*TYPED, *command], capture_output=True, check=False)
        assert (done.returncode, done.stderr) == (0, b"")
        assert SERIAL.encode(encoding, "backslashreplace") in done.stdout
    done = subprocess.run([*TYPED, "decision", "list", "--json"], capture_output=True, check=False)
    assert json.loads(done.stdout)["items"][0]["serial"] == SERIAL


def test_an_interrupt_is_one_sentence(run: Run, here: Trace, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(history, "search", interrupt)
    result = run("decision", "list")
    assert (result.code, result.out) == (130, "")
    assert result.err == "traceai: Interrupted; what was recorded before stays on record.\n"
