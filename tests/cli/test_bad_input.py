"""Every user mistake: one clear sentence with what to do, a stable code, exit 2, nothing half-written."""

import os
import socket
from collections.abc import Callable
from pathlib import Path

import psycopg
import pytest

from tests.cli.conftest import Run
from tests.conftest import database_url
from traceai.errors import HomeError
from traceai.sdk import Trace
from traceai.settings import Settings

ID = "01a20998-f540-74bc-8717-dcec9f9e6fee"


@pytest.mark.parametrize(
    ("command", "code"),
    [
        (["data", "import", "{tmp}/nowhere", "--name", "x"], "dataset-missing"),
        (["data", "import", "{tmp}/empty", "--name", "x"], "dataset-empty"),
        (["data", "import", "{tmp}/file.txt", "--name", "x"], "dataset-"),
        (["data", "import", "{tmp}/empty", "--name", "No Good"], "dataset-invalid"),
        (["data", "show", "nothing"], "dataset-missing"),
        (["data", "synth", "{tmp}/new", "--count", "20", "--size", "5"], "bad-input"),
        (["model", "train", "m", "--data", "nothing"], "dataset-missing"),
        (["model", "train", "a@2", "--data", "nothing"], "model-invalid"),
        (["model", "train", "Tiles", "--data", "nothing"], "model-invalid"),
        (["model", "retire", "tiles@1", "--reason", "", "--as", "ada"], "bad-input"),
        (["model", "retire", "tiles@1", "--reason", " ", "--as", "ada"], "bad-input"),
        (["ledger", "key", "rotate", "--reason", ""], "bad-input"),
        (["ledger", "open", "--reason", ""], "bad-input"),
        (["ledger", "witness", "policy", "--threshold", "0", "--reason", ""], "bad-input"),
        (["model", "show", "nothing"], "model-not-found"),
        (["model", "show", "tiles@99"], "model-not-found"),
        (["model", "approve", "tiles@1", "--reason", "again", "--as", "ada"], "model-state"),
        (["model", "approve", "tiles@1", "--reason", "mine", "--as", "erin"], "forbidden"),
        (["model", "activate", "tiles@1"], "model-state"),
        (["inspect", "{tmp}/nowhere.png", "--model", "tiles", "--station", "press-4"], "bad-input"),
        (["inspect", "{tmp}/empty", "--model", "tiles", "--station", "press-4"], "bad-input"),
        (["inspect", "{image}", "--model", "nothing", "--station", "press-4"], "model-not-found"),
        (["inspect", "{image}", "--model", "tiles", "--station", "nowhere"], "station-not-found"),
        (["inspect", "{image}", "{image}", "--model", "tiles", "--station", "press-4", "--serial", "S"], "bad-input"),
        (["inspect", "{image}", "--model", "tiles", "--station", "press-4", "--lot", ""], "bad-input"),
        (["decision", "show", ID], "decision-not-found"),
        (["decision", "explain", "nonsense", "-o", "{tmp}/x.png"], "decision-not-found"),
        (["decision", "explain", ID, "-o", "{tmp}/x.png", "--method", "occlusion"], "decision-not-found"),
        (["decision", "explain", ID, "-o", "{tmp}/x.png", "--method", "lime"], "method-not-offered"),
        (["decision", "explain", ID, "-o", "{tmp}/x.png", "--method", "guided-backprop"], "method-not-offered"),
        (["decision", "explain", ID, "-o", "{tmp}/x.png", "--layer", "resnet.embedder"], "bad-input"),
        (["decision", "replay", ID], "decision-not-found"),
        (["decision", "list", "--verdict", "perhaps"], "bad-input"),
        (["decision", "list", "--from", "yesterday"], "bad-input"),
        (["decision", "list", "--model", "tiles@x"], "bad-input"),
        (["decision", "list", "--limit", "0"], "bad-input"),
        (["decision", "list", "--after", "nonsense"], "bad-input"),
        (["review", "add", ID, "--truth", "good"], "decision-not-found"),
        (["rates", "--by", "weather"], "bad-input"),
        (["rates", "--confidence", "2"], "bad-input"),
        (["report", "decision", ID, "-o", "{tmp}/x.pdf"], "decision-not-found"),
        (["report", "audit", "-o", "{tmp}/nowhere/x.pdf"], "bad-input"),
        (["user", "add", "bob", "--role", "king"], "bad-input"),
        (["token", "create", "--user", "nobody"], "user-not-found"),
        (["station", "add", "press-4"], "already-exists"),
        (["station", "add", "press-5", "--audit", "0"], "bad-input"),
        (["demo", "--data", "{tmp}/nowhere"], "bad-input"),
        (["db", "start"], "settings-invalid"),
    ],
)  # fmt: skip
def test_one_sentence_a_code_and_nothing_changed(
    run: Run, here: Trace, tiny: str, images: list[Path], tmp_path: Path, command: list[str], code: str
) -> None:
    here.add_station("press-4")
    here.signer.begin()  # as the first command on a new ledger does
    (tmp_path / "empty").mkdir()
    (tmp_path / "file.txt").write_text("x")
    before = contents(here)
    files = {path for path in tmp_path.rglob("*") if path.is_file() and "home" not in path.parts}
    result = run(*(word.format(tmp=tmp_path, image=images[0]) for word in command))
    assert result.code == 2, result.err
    said = result.err.strip().splitlines()
    assert len(said) == 1
    assert said[0].startswith("traceai: ")
    assert f"[{code}" in said[0]
    assert said[0].rpartition(" [")[0].endswith(".")
    assert contents(here) == before
    assert {path for path in tmp_path.rglob("*") if path.is_file() and "home" not in path.parts} == files


def contents(trace: Trace) -> dict[str, int]:
    from sqlalchemy import text
    from sqlmodel import SQLModel

    with trace.database.engine.connect() as connection:
        return {
            name: connection.execute(text(f'SELECT count(*) FROM "{name}"')).scalar_one()
            for name in SQLModel.metadata.tables
        }


@pytest.mark.parametrize(
    "command",
    [
        ["inspect"],
        ["nothing"],
        ["decision", "show"],
        ["rates", "--no-such-option"],
        ["serve", "--port", "0"],
        ["serve", "--port", "x"],
        ["model", "train", "m", "--data", "d", "--max-miss", "7"],
        ["model", "train", "m", "--data", "d", "--max-miss", "1"],
        ["model", "train", "m", "--data", "d", "--max-false-alarm", "-1"],
        ["model", "train", "m", "--data", "d", "--max-false-alarm", "nan"],
        ["model", "train", "m", "--data", "d", "--seed", "99999999999999999999999"],
        ["model", "train", "m", "--data", "d", "--steps", "99999999999999999999999"],
        ["model", "train", "m", "--data", "d", "--seconds", "inf"],
        ["demo", "--seed", "99999999999999999999999"],
        ["review", "queue", "--limit", "99999999999999999999999"],
    ],
)  # fmt: skip
def test_wrong_usage_is_one_sentence_that_says_where_help_is(run: Run, command: list[str]) -> None:
    result = run(*command)
    assert (result.code, result.out) == (2, "")
    assert result.err.startswith("traceai: ")
    assert result.err.endswith(" --help`. [usage]\n")
    assert result.err.count("\n") == 1


@pytest.mark.parametrize(
    ("command", "said"),
    [
        (["verify", "nofile.json"], "nofile.json cannot be read"),
        (["decision", "list", "--model", "tiles@x"], "tiles@x names no version"),
        (["model", "approve", "tiles@1", "--reason", "mine", "--as", "erin"], "erin made tiles@1"),
    ],
)
def test_names_are_quoted_as_they_are(run: Run, here: Trace, tiny: str, command: list[str], said: str) -> None:
    assert run(*command).err.startswith(f"traceai: {said}")


def test_a_command_that_needs_another_shows_which_there_are(run: Run) -> None:
    result = run("decision")
    assert result.code == 2
    assert "explain" in result.err


def test_the_database_is_down(run: Run, here: Trace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRACEAI_DATABASE_URL", "postgresql://someone:secret@127.0.0.1:1/nothing")
    result = run("decision", "list")
    assert result.code == 2
    assert "[database-unavailable]" in result.err
    assert "secret" not in result.err


def test_the_schema_was_never_migrated(run: Run, here: Trace, server: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with psycopg.connect(server, autocommit=True) as connection:
        connection.execute("CREATE DATABASE bare")
    monkeypatch.setenv("TRACEAI_DATABASE_URL", database_url(server, "bare"))
    result = run("decision", "list")
    assert result.code == 2
    assert "traceai db upgrade" in result.err
    assert run("db", "check").code == 1
    assert run("db", "upgrade").code == 0
    assert run("decision", "list").code == 0
    with psycopg.connect(server, autocommit=True) as connection:
        connection.execute("DROP DATABASE bare WITH (FORCE)")


def test_a_port_that_is_taken(run: Run, here: Trace) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        result = run("serve", "--port", taken.getsockname()[1])
    assert result.code == 2
    assert "[port-taken]" in result.err
    assert "--port" in result.err


@pytest.mark.parametrize("host", ["no-such-host.invalid", "", "a..b", "x" * 300, "1.2.3.4.5"])
def test_a_host_that_does_not_resolve(run: Run, here: Trace, host: str) -> None:
    result = run("serve", "--host", host, "--port", "9")
    assert result.code == 2
    assert "cannot be resolved" in result.err
    assert "[bad-input]" in result.err
    assert result.err.count("\n") == 1


def test_an_address_that_is_not_of_this_machine(run: Run, here: Trace) -> None:
    result = run("serve", "--host", "192.0.2.1", "--port", "9876")
    assert (result.code, "[port-taken]" in result.err) == (2, True)


def test_a_home_that_is_not_a_folder(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("x")
    monkeypatch.setenv("TRACEAI_HOME", str(tmp_path / "file" / "home"))
    result = run("decision", "list")
    assert result.code == 2
    assert "[home-unusable]" in result.err


def test_a_home_that_is_not_writable(open_folder: Callable[[], Path]) -> None:
    home = open_folder()
    home.chmod(0o555)
    child = os.fork()
    if child == 0:  # root may write anywhere, so somebody else has to try
        if os.geteuid() == 0:
            os.setuid(65534)
        try:
            Settings(home=home).ensure_home()
        except HomeError as error:
            os._exit(42 if "is not writable" in error.message else 1)
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 42
    home.chmod(0o755)


@pytest.mark.parametrize("url", ["mysql://x/y", "nonsense"])
def test_a_url_that_is_not_postgresql(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    monkeypatch.setenv("TRACEAI_HOME", str(tmp_path))
    monkeypatch.setenv("TRACEAI_DATABASE_URL", url)
    result = run("decision", "list")
    assert result.code == 2
    assert "[settings-invalid]" in result.err


def test_a_crash_exits_3_and_is_no_verification_result(run: Run, here: Trace, monkeypatch: pytest.MonkeyPatch) -> None:
    from traceai.ledger.verification import verifier

    def crash(*_: object, **__: object) -> None:
        raise RuntimeError("unforeseen")

    monkeypatch.setattr(verifier, "verify", crash)
    result = run("ledger", "verify")
    assert result.code == 3
    assert "unforeseen" in result.err
