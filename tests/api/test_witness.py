"""The witness over HTTP: statuses and content types on the wire, limits, and what its process does not import."""

import http.client
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from starlette.testclient import TestClient

from tests.ledger.logs import LOG_KEY, ORIGIN, WITNESS_KEY, Log, serving, witness
from traceai.errors import HomeError
from traceai.ledger.tlog.checkpoint import open_checkpoint
from traceai.ledger.witnesses.witness import LONGEST_REQUEST, PLAIN, SIZE, Submission, Witness
from traceai_api.witness import create_app

MONITORED = f"/{sha256(ORIGIN.encode()).hexdigest()}/checkpoint"


@pytest.fixture
def one(tmp_path: Path) -> Witness:
    return witness(tmp_path / "w")


@pytest.fixture
def client(one: Witness) -> Iterator[TestClient]:
    with TestClient(create_app(one), raise_server_exceptions=False) as made:
        yield made


def test_every_answer_of_the_specification_has_its_status_and_type(client: TestClient) -> None:
    log = Log.of(9)

    def post(body: bytes) -> tuple[int, str]:
        answer = client.post("/add-checkpoint", content=body)
        return answer.status_code, answer.headers["Content-Type"]

    assert post(log.request(0, 5)) == (200, PLAIN)
    assert post(b"junk") == (400, PLAIN)
    assert post(Log(log.leaves, WITNESS_KEY).request(0, 5)) == (404, PLAIN)
    assert post(log.request(0, 5).replace(b"\n5\n", b"\n6\n")) == (403, PLAIN)
    assert post(log.request(0, 9)) == (409, SIZE)
    assert post(log.rewritten(1).request(5, 5)) == (409, PLAIN)
    assert post(log.rewritten(1).request(5, 9)) == (422, PLAIN)
    assert client.post("/add-checkpoint", content=log.request(4, 9)).content == b"5\n"


def test_a_monitor_reads_the_last_cosigned_checkpoint(client: TestClient) -> None:
    assert client.get(MONITORED).status_code == 404
    for old, size in ((0, 5), (5, 9)):
        client.post("/add-checkpoint", content=Log.of(9).request(old, size))
    answer = client.get(MONITORED)
    assert (answer.status_code, answer.headers["Content-Type"]) == (200, PLAIN)
    checkpoint, note = open_checkpoint(answer.text, [LOG_KEY.verifier, WITNESS_KEY.verifier])
    assert checkpoint == Log.of(9).checkpoint(9)
    assert len(note.verified) == 2


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/add-checkpoint", 405),
        ("PUT", "/add-checkpoint", 405),
        ("POST", MONITORED, 405),
        ("GET", "/", 404),
        ("GET", "/junk/checkpoint", 404),
        ("GET", MONITORED.upper(), 404),
        ("POST", "/add-checkpoint/", 404),
    ],
)
def test_what_is_not_there_is_one_sentence(client: TestClient, method: str, path: str, status: int) -> None:
    answer = client.request(method, path, follow_redirects=False)
    assert (answer.status_code, answer.headers["Content-Type"]) == (status, PLAIN)
    assert re.fullmatch(r"[A-Z][^\n]*\.\n", answer.text)
    if status == 405:
        assert answer.headers["Allow"]


def test_a_store_that_fails_is_a_503_and_no_signature(
    one: Witness, client: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise HomeError("The disk is full.")

    monkeypatch.setattr(one.store, "advance", full)
    answer = client.post("/add-checkpoint", content=Log.of(5).request(0, 5))
    assert (answer.status_code, answer.text) == (503, "The disk is full.\n")


def test_a_witness_without_its_memory_cosigns_nothing(one: Witness, client: TestClient) -> None:
    client.post("/add-checkpoint", content=Log.of(9).request(0, 5))
    one.store.path.unlink()
    answer = client.post("/add-checkpoint", content=Log.of(9).rewritten(1).request(0, 9))
    assert answer.status_code == 503
    assert "The memory of this witness" in answer.text


def test_a_crash_says_nothing_of_itself(one: Witness, client: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    def crash(*_: object) -> None:
        raise RuntimeError("a secret")

    monkeypatch.setattr(one, "add_checkpoint", crash)
    answer = client.post("/add-checkpoint", content=b"x")
    assert answer.status_code == 500
    assert "secret" not in answer.text


def test_a_connection_is_kept_for_the_next_request(one: Witness) -> None:
    log = Log.of(9)
    with serving(one) as url:
        connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=30)
        connection.connect()
        sock = connection.sock
        for old, size in ((0, 3), (3, 5), (3, 9), (5, 9)):
            connection.request("POST", "/add-checkpoint", log.request(old, size))
            answer = connection.getresponse()
            answer.read()
            assert answer.status == (409 if (old, size) == (3, 9) else 200)
            assert connection.sock is sock
        connection.close()
    assert one.store.latest(ORIGIN).size == 9


@pytest.mark.parametrize("announced", [True, False])
def test_a_body_beyond_the_limit_is_refused_without_being_read(one: Witness, announced: bool) -> None:
    with serving(one) as url:
        connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=30)
        if announced:
            connection.putrequest("POST", "/add-checkpoint")
            connection.putheader("Content-Length", str(10**12))
            connection.endheaders(b"x" * (LONGEST_REQUEST + 1))
        else:
            chunks = iter([b"x" * (LONGEST_REQUEST // 2)] * 3)
            connection.request("POST", "/add-checkpoint", chunks, encode_chunked=True)
        answer = connection.getresponse()
        assert answer.status == 413
        assert answer.read() == b"A request has at most %d bytes.\n" % LONGEST_REQUEST
        assert answer.headers["Connection"] == "close"
        connection.close()


def test_the_largest_request_that_a_witness_has_to_read_is_read(client: TestClient) -> None:
    """Sixteen further signatures of 5 kB each, and 63 proof lines."""
    lines = "".join(f"— stranger{n}.example {'AAAAAAAA' * 833}\n" for n in range(16))
    body = bytes(Submission(0, (bytes(32),) * 63, Log.of(5).note(5) + lines))
    assert 100_000 < len(body) <= LONGEST_REQUEST
    assert client.post("/add-checkpoint", content=body).status_code == 422


# --- the process -------------------------------------------------------------------------------------------------------

HEAVY = {"sqlalchemy", "sqlmodel", "psycopg", "torch", "numpy", "pydantic", "fastapi", "transformers", "PIL", "fsspec"}


def started(*arguments: object, profiled: bool = False) -> subprocess.Popen[str]:
    options = ["-X", "importtime"] if profiled else []
    module = [sys.executable, *options, "-m", "traceai.cli.witness_process"]
    return subprocess.Popen(
        [*module, *map(str, arguments)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, encoding="utf-8"
    )


def ready(process: subprocess.Popen[str]) -> tuple[str, str]:
    """The key and the URL that a witness prints once it listens."""
    assert process.stdout is not None
    key = url = ""
    for line in process.stdout:
        if line.startswith("key:"):
            key = line.split()[1]
        if " listens on " in line:
            url = line.split()[-1]
            return key, url
    raise AssertionError(process.communicate()[1])


def ended(process: subprocess.Popen[str]) -> str:
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=30)
    assert process.returncode == 0, err
    return err


def test_the_process_imports_neither_database_nor_torch(tmp_path: Path) -> None:
    process = started("--home", tmp_path / "w", f"--log={LOG_KEY.verifier}", "--port", 0, profiled=True)
    _, url = ready(process)
    connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=30)
    connection.request("POST", "/add-checkpoint", Log.of(5).request(0, 5))
    assert connection.getresponse().status == 200
    connection.close()
    imported = {
        line.rsplit("|", 1)[-1].strip().partition(".")[0] for line in ended(process).splitlines() if "|" in line
    }
    assert {"starlette", "cryptography", "sqlite3"} <= imported
    assert not imported & HEAVY


def test_a_witness_keeps_its_key_and_its_memory(tmp_path: Path) -> None:
    home, log = tmp_path / "w", Log.of(9)
    arguments = ("--home", home, f"--log={LOG_KEY.verifier}", "--port", 0)
    keys = []
    for old, size in ((0, 5), (5, 9)):
        process = started(*arguments)
        key, url = ready(process)
        connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=30)
        connection.request("POST", "/add-checkpoint", log.request(old, size))
        assert connection.getresponse().status == 200
        connection.close()
        ended(process)
        keys.append(key)
    assert keys[0] == keys[1]
    assert sorted(path.name for path in home.iterdir()) == ["checkpoints.db", "keys", "misbehaviour.db"]


def refused(*arguments: object) -> str:
    process = started(*arguments)
    out, err = process.communicate(timeout=60)
    assert (process.returncode, out) == (2, "")
    assert re.fullmatch(r"traceai: [^\n]+\. \[[a-z-]+\]\n", err)
    return err


def test_what_keeps_a_witness_from_starting_is_one_sentence(tmp_path: Path) -> None:
    key = f"--log={LOG_KEY.verifier}"
    (tmp_path / "file").write_text("")
    assert "cannot write to" in refused("--home", tmp_path / "file" / "w", key, "--port", 0)
    assert "no verifier key" in refused("--home", tmp_path / "a", "--log", "junk", "--port", 0)
    assert "can name no witness" in refused("--home", tmp_path / "b", key, "--port", 0, "--name", "two words")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        err = refused("--home", tmp_path / "c", key, "--port", taken.getsockname()[1])
    assert "[port-taken]" in err
    assert not (tmp_path / "c").exists()


def test_a_witness_that_lost_its_memory_or_its_key_does_not_start(tmp_path: Path) -> None:
    home = tmp_path / "w"
    arguments = ("--home", home, f"--log={LOG_KEY.verifier}", "--port", 0)
    process = started(*arguments, "--name", "witness.example/w9")
    key, url = ready(process)
    assert key.startswith("witness.example/w9+")
    connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=30)
    connection.request("POST", "/add-checkpoint", Log.of(5).request(0, 5))
    assert connection.getresponse().status == 200
    connection.close()
    ended(process)
    assert "is called witness.example/w9" in refused(*arguments, "--name", "another.example")
    memory = (home / "checkpoints.db").rename(tmp_path / "memory")
    assert "The memory of this witness" in refused(*arguments)
    memory.rename(home / "checkpoints.db")
    (home / "keys").rename(tmp_path / "keys")
    assert "The key of this witness is gone" in refused(*arguments)
