"""`traceai ledger witness` and `ledger timestamp` as people type them: a witness process, a ledger, and who rewrites it."""

import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cli.conftest import Run
from tests.ledger.answering import answering
from tests.ledger.rewriting import rewrite
from tests.ledger.signing.test_timestamping import OPENSSL, Authority, reply
from tests.ledger.test_log import refusal
from traceai.ledger import log
from traceai.ledger.tlog.checkpoint import open_checkpoint
from traceai.sdk import Trace

ORIGIN = "plant-a.example/line"
Witnessing = tuple[str, str, Path, int]


@pytest.fixture
def ledger(here: Trace) -> Trace:
    here.signer.open("ada", "A new line.", ORIGIN)
    append(here, 4)
    return here


def append(trace: Trace, count: int) -> None:
    with trace.database.session() as session:
        log.append(session, [refusal(number) for number in range(count)])


@pytest.fixture
def witness(ledger: Trace, tmp_path: Path) -> Iterator[Witnessing]:
    """A witness of the ledger as `traceai ledger witness serve` starts it: its key, URL, folder and process."""
    home = tmp_path / "neighbour"
    typed = [
        "ledger",
        "witness",
        "serve",
        "--home",
        home,
        "--log",
        ledger.signer.state().key,
        "--port",
        0,
        "--name",
        "w.example/1",
    ]
    command = [sys.executable, "-c", "from traceai.cli import main; main()", *map(str, typed)]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("TRACEAI_")}
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment)
    key = url = ""
    for line in process.stdout or ():
        key = line.split()[1] if line.startswith("key:") else key
        if " listens on " in line:
            url = line.split()[-1]
            break
    assert key, "the witness did not start"
    yield key, url, home, process.pid
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=30)
    assert process.returncode == 0


def recorded(run: Run, witness: Witnessing, threshold: int = 1, *more: str) -> None:
    key, url, _, _ = witness
    options = [option for other in more for option in ("--witness", other)]
    done = run(
        "ledger", "witness", "policy", "--threshold", threshold, "--witness", f"{key}={url}", *options,
        "--reason", "A neighbour vouches for us.", "--as", "ada",
    )  # fmt: skip
    assert done.code == 0, done.err


def test_a_ledger_is_witnessed(run: Run, witness: Witnessing, ledger: Trace) -> None:
    key, url, home, _ = witness
    assert "asks for no witness" in run("ledger", "witness", "policy").out
    assert run("ledger", "witness", "collect").err.endswith("[not-found]\n")
    recorded(run, witness)
    shown = run("ledger", "witness", "policy", "--json").json
    assert shown == {"origin": ORIGIN, "threshold": 1, "witnesses": [{"name": "w.example/1", "key": key, "url": url}]}
    done = run("ledger", "witness", "collect")
    assert done.code == 0
    assert re.search(
        r"cosigned +w\.example/1\n +It cosigned 6 entries at \d{4}-\d\d-\d\d \d\d:\d\d:\d\d UTC\.", done.out
    )
    assert "witnessed: 1 of 1 cosigned, 1 needed" in done.out
    found = run("ledger", "witness", "collect", "--json").json
    assert (found["witnessed"], found["size"], found["contradicted"]) == (True, 6, False)
    keys = [key, *ledger.signer.verifier_keys(ORIGIN)]
    assert len(open_checkpoint(found["note"], keys)[1].verified) == 2
    told = run("ledger", "witness", "show", "--home", home)
    assert told.code == 0
    assert key in told.out
    assert f"{ORIGIN}" in told.out


@pytest.mark.skipif(not Path("/proc/self/maps").exists(), reason="needs /proc")
def test_the_serving_process_has_left_the_rest_of_traceai_behind(witness: Witnessing) -> None:
    loaded = Path(f"/proc/{witness[3]}/maps").read_text()
    assert "cryptography" in loaded
    for package in ("psycopg", "sqlalchemy", "torch", "pydantic_core", "numpy", "orjson"):
        assert f"/{package}" not in loaded
    assert b"traceai.cli.witness_process" in Path(f"/proc/{witness[3]}/cmdline").read_bytes()


def test_one_of_two_witnesses_is_too_few_where_two_are_asked_for(run: Run, witness: Witnessing) -> None:
    from traceai.ledger.note import COSIGNATURE, SigningKey

    absent = SigningKey.generate("absent.example", COSIGNATURE).verifier
    recorded(run, witness, 2, f"{absent}=http://127.0.0.1:1")
    done = run("ledger", "witness", "collect")
    assert done.code == 1
    assert re.search(
        r"unreachable +absent\.example\n +http://127\.0\.0\.1:1/add-checkpoint cannot be reached", done.out
    )
    assert "NOT WITNESSED: 1 of 2 cosigned, 2 needed" in done.out


def test_a_witness_refuses_a_rewritten_ledger(
    run: Run, witness: Witnessing, ledger: Trace, clone: str, tmp_path: Path
) -> None:
    """A superuser alters one entry and everything that depends on it, puts the home's memory back, and signs with the log's key."""
    _, _, home, _ = witness
    recorded(run, witness)
    memory = ledger.settings.absolute_home / "checkpoints.db"
    shutil.copy(memory, tmp_path / "copied.db")
    append(ledger, 3)
    assert run("ledger", "witness", "collect").code == 0
    ledger.database.engine.dispose()

    rewrite(clone, 7, lambda record: record.model_copy(update={"found": "f" * 64}))
    shutil.copy(tmp_path / "copied.db", memory)
    ledger.signer.sign()

    facts = run("ledger", "verify", "--no-blobs", "--json").json["facts"]
    # Everything here agrees with everything else here. That nobody outside confirms it is all there is to see.
    assert {fact["name"] for fact in facts if not fact["holds"]} <= {"witnesses"}
    refused = run("ledger", "witness", "collect")
    assert refused.code == 1
    assert (
        "refused     w.example/1\n"
        "            It has cosigned 9 entries of this log before, and they are not the 9 that are presented now, under the same "
        "log key: entries were altered, removed or exchanged since. In its words: "
        '"This witness cosigned another root of 9 entries: '
    ) in refused.out
    assert "NOT WITNESSED: 0 of 1 cosigned, 1 needed" in refused.out
    assert "A witness has seen another history of this ledger than the one it is shown now." in refused.err

    shown = run("ledger", "witness", "show", "--home", home)
    assert shown.code == 1
    assert "CONTRADICTION" in shown.out
    assert f"{ORIGIN} signed two different histories of 9 entries" in shown.out
    kept = run("ledger", "witness", "show", "--home", home, "--json").json["misbehaviour"][0]
    notes = [open_checkpoint(kept[name], ledger.signer.verifier_keys(ORIGIN))[0] for name in ("known_note", "note")]
    assert notes[0].size == notes[1].size == 9
    assert notes[0].root != notes[1].root

    append(ledger, 2)
    grown = run("ledger", "witness", "collect")
    assert grown.code == 1
    assert (
        "It has cosigned 9 entries of this log before, and the 11 that are presented now do not begin with those 9"
        in grown.out
    )
    kinds = [one["kind"] for one in run("ledger", "witness", "show", "--home", home, "--json").json["misbehaviour"]]
    assert kinds == ["other-root", "other-prefix"]


@pytest.mark.parametrize(
    ("command", "code"),
    [
        (["witness", "show", "--home", "{tmp}/nobody"], "not-found"),
        (["witness", "policy", "--threshold", "1"], "bad-input"),
        (["witness", "policy", "--reason", "why"], "bad-input"),
        (["witness", "policy", "--threshold", "1", "--reason", "why"], "bad-input"),
        (["witness", "policy", "--threshold", "1", "--reason", "why", "--witness", "junk"], "bad-input"),
        (["witness", "policy", "--threshold", "1", "--reason", "why", "--witness", "a+0+b=http://x"], "bad-input"),
        (
            ["witness", "policy", "--threshold", "2", "--reason", "why", "--witness", "{key}=https://x.example"],
            "bad-input",
        ),
        (["witness", "policy", "--threshold", "1", "--reason", "why", "--witness", "{key}=file:///x"], "bad-input"),
        (
            ["witness", "policy", "--threshold", "1", "--reason", "why", "--witness", "{log}=https://x.example"],
            "bad-input",
        ),
        (["timestamp", "--ca", "{tmp}/nowhere.pem"], "bad-input"),
        (["timestamp", "--ca", "{tmp}/junk.pem"], "bad-input"),
    ],
)
def test_a_mistake_is_one_sentence_and_nothing_is_recorded(
    run: Run, ledger: Trace, tmp_path: Path, command: list[str], code: str
) -> None:
    from traceai.ledger.note import COSIGNATURE, SigningKey

    (tmp_path / "junk.pem").write_text("junk")
    key = SigningKey.generate("w.example", COSIGNATURE).verifier
    before = ledger.signer.sign().size
    words = [word.format(tmp=tmp_path, key=key, log=ledger.signer.state().key) for word in command]
    done = run("ledger", *words)
    assert (done.code, done.out) == (2, "")
    assert re.fullmatch(rf"traceai: [^\n]+\. \[{code}\]\n", done.err)
    assert ledger.signer.sign().size == before


@pytest.mark.skipif(OPENSSL is None, reason="openssl is not installed")
def test_a_ledger_is_stamped_and_every_stamp_verifies_offline(
    run: Run, ledger: Trace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    authority, stranger = Authority.create(tmp_path / "tsa"), Authority.create(tmp_path / "stranger")
    ca = authority.folder / "ca.pem"
    assert "No checkpoint was stamped yet" in run("ledger", "timestamp", "--ca", ca).out
    with answering(reply(authority)) as url:
        for _ in range(2):
            append(ledger, 1)
            done = run("ledger", "timestamp", "--tsa", url, "--ca", ca)
            assert done.code == 0, done.err
            assert re.search(rf"holds +\d+ +\d{{4}}-\d\d-\d\d \d\d:\d\d:\d\d +{url}", done.out)
        assert run("ledger", "timestamp", "--tsa", url, "--ca", stranger.folder / "ca.pem").code == 1
    monkeypatch.setenv("TRACEAI_DATABASE_URL", "postgresql://nobody@127.0.0.1:1/nothing")
    found = run("ledger", "timestamp", "--ca", ca, "--json")
    assert found.code == 0
    assert [(row["size"], row["holds"]) for row in found.json] == [(6, True), (7, True)]
    wrong = run("ledger", "timestamp", "--ca", stranger.folder / "ca.pem")
    assert wrong.code == 1
    assert wrong.out.count("FAILS") == 2
