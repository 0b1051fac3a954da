import socket
from pathlib import Path

import pytest

from tests.cli.conftest import Run
from traceai.ledger import log
from traceai.ledger.records import ReportIssued
from traceai.ledger.signing.checkpoints import CheckpointStore
from traceai.ledger.tlog.checkpoint import open_checkpoint
from traceai.sdk import Trace

ORIGIN = "press.example/line-4"


@pytest.fixture
def opened(run: Run, here: Trace) -> Trace:
    result = run("ledger", "open", "--reason", "Commissioning.", "--as", "ada", "--origin", ORIGIN)
    assert result.code == 0
    return here


def keys(run: Run) -> list[dict]:
    return run("ledger", "key", "show", "--json").json


def append(trace: Trace) -> None:
    with trace.database.session() as session:
        log.append(session, [ReportIssued(kind="audit", sha256="0" * 64, scope={}, issued_by="erin")])


def test_a_new_ledger_opens_itself_and_says_as_what(run: Run, here: Trace) -> None:
    status = run("ledger", "status", "--json").json
    assert status["size"] == 1
    assert status["state"] == "ours"
    assert status["origin"].startswith("traceai.local/")
    assert status["checkpoint"]["size"] == 1
    assert status["clock_behind_s"] is None
    shown = run("ledger", "status").out
    for word in (status["origin"], status["key"], status["root"], "last checkpoint", "ours"):
        assert word in shown
    assert "SET BACK" not in shown


def test_the_operator_names_a_ledger_before_it_names_itself(run: Run, opened: Trace) -> None:
    assert run("ledger", "status", "--json").json["origin"] == ORIGIN
    (key,) = keys(run)
    assert (key["origin"], key["current"], key["here"]) == (ORIGIN, True, True)
    assert key["key"] in run("ledger", "key", "show").out


def test_a_checkpoint_is_printed_as_the_note_it_is(run: Run, opened: Trace) -> None:
    append(opened)
    printed = run("ledger", "checkpoint").out
    (key,) = keys(run)
    checkpoint, note = open_checkpoint(printed, [key["key"]])
    assert (checkpoint.origin, checkpoint.size, str(note)) == (ORIGIN, 2, printed)
    again = run("ledger", "checkpoint", "--json").json
    assert (again["note"], again["root"]) == (printed, checkpoint.root.hex())


def test_a_key_is_rotated_and_both_are_shown(run: Run, opened: Trace) -> None:
    result = run("ledger", "key", "rotate", "--reason", "Yearly.", "--as", "ada")
    assert result.code == 0
    old, new = keys(run)
    assert (old["current"], new["current"]) == (False, True)
    assert old["key"] in result.out
    assert new["key"] in result.out
    assert run("ledger", "status", "--json").json["key"] == new["key"]
    assert run("ledger", "verify").code == 0


def test_inspecting_ends_with_a_checkpoint(run: Run, opened: Trace, tiny: str, images: list[Path]) -> None:
    opened.add_station("press-4")
    result = run("inspect", images[0], images[1], "--model", "tiles", "--station", "press-4", "--json")
    assert result.code == 0
    status = run("ledger", "status", "--json").json
    assert status["checkpoint"]["size"] == status["size"] == result.json[-1]["index"] + 1


def test_who_cannot_sign_records_all_the_same_and_is_told(
    run: Run, opened: Trace, tiny: str, images: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened.add_station("press-4")
    monkeypatch.setenv("TRACEAI_HOME", str(tmp_path / "another"))
    monkeypatch.setenv("TRACEAI_BLOBS", opened.settings.blobs_url)
    result = run("inspect", images[0], "--model", "tiles", "--station", "press-4", "--json")
    assert result.code == 0
    assert len(result.json) == 1
    assert "Recorded, and not signed here" in result.err
    status = run("ledger", "status", "--json")
    assert (status.code, status.json["state"]) == (0, "foreign")
    refused = run("ledger", "checkpoint")
    assert (refused.code, "[ledger-foreign]" in refused.err) == (2, True)


@pytest.fixture
def older(run: Run, opened: Trace) -> Trace:
    """This home has signed more than the database holds."""
    key = opened.signer.keys.load(opened.signer.state().key)
    from traceai.ledger.note import sign_note
    from traceai.ledger.tlog.checkpoint import Checkpoint

    later = sign_note(Checkpoint(ORIGIN, 9, bytes(32)).text(), key)
    opened.signer.store.advance(ORIGIN, 1, later)
    return opened


def test_an_older_database_can_be_looked_at_and_not_added_to(run: Run, older: Trace, classes: Path) -> None:
    status = run("ledger", "status", "--json")
    assert (status.code, status.json["state"], status.json["size"]) == (1, "rolled-back", 1)
    assert "[ledger-rolled-back]" in status.err
    assert "traceai ledger open --reason" in status.err
    assert "rolled-back" in run("ledger", "status").out
    assert run("decision", "list").code == 0
    for command in (
        ("ledger", "checkpoint"),
        ("ledger", "key", "rotate", "--reason", "x"),
        ("data", "import", classes, "--name", "plates"),
    ):
        refused = run(*command)
        assert (refused.code, "[ledger-rolled-back]" in refused.err) == (1, True)
    assert run("ledger", "status", "--json").json["size"] == 1


def test_the_operator_goes_on_with_an_older_database_on_the_record(run: Run, older: Trace) -> None:
    result = run("ledger", "open", "--reason", "The disk was lost.", "--as", "ada", "--origin", "press.example/line-4b")
    assert result.code == 0
    assert "press.example/line-4b" in result.out
    status = run("ledger", "status", "--json")
    assert (status.code, status.json["state"], status.json["origin"]) == (0, "ours", "press.example/line-4b")
    assert [key["origin"] for key in keys(run)] == [ORIGIN, "press.example/line-4b"]


def test_a_bad_origin_and_a_used_one_are_bad_usage(run: Run, opened: Trace) -> None:
    for origin, code in (("https://press.example/x", "bad-input"), (ORIGIN, "already-exists")):
        result = run("ledger", "open", "--reason", "x", "--origin", origin)
        assert (result.code, f"[{code}]" in result.err) == (2, True)
    assert run("ledger", "open").code == 2
    assert run("ledger", "key", "rotate").code == 2


def test_a_clock_that_was_set_back_is_shown(run: Run, opened: Trace) -> None:
    from datetime import UTC, datetime, timedelta

    opened.signer.store = CheckpointStore(opened.signer.store.path, now=lambda: datetime.now(UTC) + timedelta(hours=3))
    append(opened)
    opened.checkpoint()
    assert run("ledger", "status", "--json").json["clock_behind_s"] > 10_000
    assert "SET BACK" in run("ledger", "status").out


def test_what_the_home_lost_is_told(run: Run, opened: Trace) -> None:
    opened.signer.store.path.write_bytes(b"damaged")
    status = run("ledger", "status", "--json")
    assert (status.code, status.json["size"]) == (2, 1)
    assert "[checkpoint-store-unusable]" in status.err


def test_the_service_signs_while_it_runs_and_when_it_ends(
    run: Run, opened: Trace, monkeypatch: pytest.MonkeyPatch
) -> None:
    import uvicorn

    def serve(server: uvicorn.Server, sockets: list[socket.socket]) -> None:
        assert server.config.app.state.heartbeat.error is None
        append(opened)

    monkeypatch.setattr(uvicorn.Server, "run", serve)
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    assert run("serve", "--port", port).code == 0
    assert opened.signer.store.latest(ORIGIN).size == 2
