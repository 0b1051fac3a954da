"""What is copied from the screen is whole: in a pipe nothing is broken, on a terminal no word is."""

import fcntl
import io
import os
import pty
import re
import struct
import subprocess
import termios
from pathlib import Path

import pytest

from tests.cli.conftest import Run
from tests.cli.test_streams import TYPED
from traceai.cli.screen import Listing, Screen
from traceai.sdk import Trace

ID = "01a20998-f540-74bc-8717-dcec9f9e6fee"


def printed(listing: Listing, width: int, *, terminal: bool = True) -> list[str]:
    file = io.StringIO()
    Screen(file=file, width=width, force_terminal=terminal, color_system=None).print(listing)
    return [line.rstrip() for line in file.getvalue().splitlines()]


def decisions() -> Listing:
    made = Listing([">index", "id", "when", "lot", "verdict", "meaning"], spare=("meaning", "when", "lot"))
    made.add_row("7", ID, "2026-01-31 06:00:00", "L7", "REJECT", "a word and another")
    return made


@pytest.mark.parametrize(
    ("width", "left_out"),
    [
        (200, []),
        (100, []),
        (99, ["meaning"]),
        (80, ["meaning"]),
        (79, ["when"]),
        (78, ["when", "meaning"]),
        (58, ["when", "lot", "meaning"]),
        (20, ["when", "lot", "meaning"]),
    ],
)
def test_columns_are_left_out_the_least_important_first_and_said_to_be(width: int, left_out: list[str]) -> None:
    heading, row, *said = printed(decisions(), width)
    assert ID in row
    assert "REJECT" in row
    assert not {*left_out} & {*heading.split()}
    assert {*heading.split(), *left_out} == {"index", "id", "when", "lot", "verdict", "meaning"}
    assert " ".join(said) == (f"Not shown, for want of width: {', '.join(left_out)}." if left_out else "")


def test_what_is_no_terminal_has_no_width() -> None:
    heading, _ = printed(decisions(), 20, terminal=False)
    assert heading.split() == ["index", "id", "when", "lot", "verdict", "meaning"]


def test_sentences_break_between_words_and_a_hash_in_them_does_not() -> None:
    made = Listing(["fact", "~meaning"])
    made.add_row("entry", f"The entry has the hash {'0' * 64} and no other one.")
    shown = printed(made, 40)
    assert any("0" * 64 in line for line in shown)
    assert len(shown) > 2


def on_a_terminal(*command: str) -> str:
    """What a terminal of 80 columns shows."""
    here, there = pty.openpty()
    fcntl.ioctl(there, termios.TIOCSWINSZ, struct.pack("HHHH", 25, 80, 0, 0))
    environment = {**os.environ, "TERM": "xterm", "NO_COLOR": "1"}
    environment.pop("COLUMNS", None)
    with subprocess.Popen([*TYPED, *command], stdin=there, stdout=there, stderr=there, env=environment) as process:
        os.close(there)
        shown = b""
        try:
            while read := os.read(here, 65536):
                shown += read
        except OSError:  # how Linux says that nobody writes any more
            pass
    os.close(here)
    assert process.returncode == 0, shown
    return re.sub(r"\x1b\[[0-9;]*m", "", shown.decode())


def test_a_terminal_of_80_columns(run: Run, here: Trace, tiny: str, images: list[Path]) -> None:
    here.add_station("press-4", audit_pass_probability=1.0)
    inspect = ["inspect", *images[:3], "--model", "tiles", "--station", "press-4", "--json"]
    found = run(*inspect).json
    status = run("ledger", "status", "--json").json
    shown = on_a_terminal("ledger", "status")
    assert status["root"] in shown
    assert status["key"] in shown
    for command in (("decision", "list"), ("review", "queue")):
        lines = on_a_terminal(*command).splitlines()
        assert sum(decision["id"] in line for line in lines for decision in found) == 3
        assert all(len(line) <= 80 for line in lines)
        assert len(lines) <= 3 + 3


def test_a_pipe(run: Run, here: Trace, tiny: str, images: list[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "40")
    here.add_station("press-4")
    part = ["--serial", "S" * 150, "--lot", "L" * 150]
    assert run("inspect", images[0], "--model", "tiles", "--station", "press-4", *part).code == 0
    monkeypatch.setenv("COLUMNS", "40")
    (line,) = [line for line in run("decision", "list").out.splitlines() if "S" * 150 in line]
    assert "L" * 150 in line
    assert "tiles@1" in line
    assert run("ledger", "status", "--json").json["key"] in run("ledger", "status").out
