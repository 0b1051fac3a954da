"""Logs to witness: honest ones, and ones that rewrite."""

import socket
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import uvicorn

from traceai.ledger import merkle
from traceai.ledger.note import COSIGNATURE, SigningKey, sign_note
from traceai.ledger.signing.checkpoints import CheckpointStore
from traceai.ledger.tlog.checkpoint import Checkpoint
from traceai.ledger.witnesses.misbehaviour import MisbehaviourFile
from traceai.ledger.witnesses.witness import Submission, Witness
from traceai_api.witness import create_app

ORIGIN = "plant-a.example/line"
LOG_KEY = SigningKey(ORIGIN, 1, b"log-".ljust(32, b"."))
WITNESS_KEY = SigningKey("witness.example/w1", COSIGNATURE, b"witness-".ljust(32, b"."))


@dataclass
class Log:
    """A log in memory: what it has signed is its business."""

    leaves: list[bytes] = field(default_factory=list)
    key: SigningKey = LOG_KEY

    @classmethod
    def of(cls, size: int, seed: str = "honest") -> "Log":
        return cls([merkle.leaf_hash(f"{seed} {number}".encode()) for number in range(size)])

    def rewritten(self, index: int) -> "Log":
        """The same log with another entry at `index`."""
        altered = list(self.leaves)
        altered[index] = merkle.leaf_hash(b"altered")
        return Log(altered, self.key)

    def checkpoint(self, size: int, extensions: Sequence[str] = ()) -> Checkpoint:
        return Checkpoint(self.key.name, size, merkle.root(self.leaves[:size]), tuple(extensions))

    def note(self, size: int, extensions: Sequence[str] = ()) -> str:
        return sign_note(self.checkpoint(size, extensions).text(), self.key)

    def proof(self, old: int, size: int) -> tuple[bytes, ...]:
        return tuple(merkle.consistency_proof(self.leaves, old, size))

    def request(self, old: int, size: int) -> bytes:
        proof = self.proof(old, size) if old <= size else ()
        return bytes(Submission(old, proof, self.note(size)))


def witness(folder: Path, key: SigningKey = WITNESS_KEY, *logs: SigningKey) -> Witness:
    folder.mkdir(exist_ok=True)
    return Witness(
        CheckpointStore(folder / "checkpoints.db"),
        key,
        {log.name: [log.verifier] for log in logs or (LOG_KEY,)},
        MisbehaviourFile(folder / "misbehaviour.db"),
    )


@contextmanager
def serving(one: Witness, port: int = 0) -> Iterator[str]:
    """The witness over HTTP, in a thread of this process; yields its URL."""
    listening = socket.create_server(("127.0.0.1", port))
    config = uvicorn.Config(create_app(one), log_level="critical", lifespan="off", ws="none", timeout_keep_alive=60)
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
    thread.start()
    try:
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join()
        listening.close()
