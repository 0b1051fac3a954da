"""Where a witness lives: its key, its memory, and what it refused, in one folder of its own.

    keys/               one private key, made once
    checkpoints.db      every checkpoint that it cosigned
    misbehaviour.db     every contradiction that it was shown

The memory is made before the key. So a key without a memory means that the memory was lost, and such a witness refuses to
start: it would vouch for whatever history it is shown first. A copy of an older memory put back cannot be told from here; the
log's own cosigned checkpoints tell it.
"""

import os
import socket
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from traceai.errors import CheckpointStoreError, HomeError, InputError, NoteError
from traceai.ledger.note import COSIGNATURE, SigningKey, VerifierKey
from traceai.ledger.signing.checkpoints import CheckpointStore
from traceai.ledger.signing.keys import KeyFolder
from traceai.ledger.witnesses.misbehaviour import MisbehaviourFile
from traceai.ledger.witnesses.witness import Witness


@dataclass(frozen=True)
class WitnessHome:
    """The folder at `path`."""

    path: Path

    @property
    def store(self) -> CheckpointStore:
        return CheckpointStore(self.path / "checkpoints.db")

    @property
    def misbehaviour(self) -> MisbehaviourFile:
        """Created where it is missing.

        Raises:
            HomeError: it cannot be.
        """
        return MisbehaviourFile(self.path / "misbehaviour.db")

    def key(self) -> SigningKey | None:
        """The witness's key; None where it was not made yet.

        Raises:
            KeyFileError: it cannot be used.
            HomeError: there is more than one, or one that is not for cosignatures.
        """
        keys = KeyFolder(self.path / "keys")
        found = keys.list()
        if len(found) > 1 or any(key.type != COSIGNATURE for key in found):
            raise HomeError(f"{self.path} holds keys that are not one witness's; give the witness a folder of its own.")
        return keys.load(found[0]) if found else None

    def open(self, logs: Mapping[str, Sequence[VerifierKey]], name: str | None = None) -> Witness:
        """The witness of this folder, made on the first call.

        Args:
            logs: the keys that are trusted for each origin.
            name: of the key; without it, the name it has, or one after this machine. It cannot be changed later.

        Raises:
            InputError: another name than it has, or one that no key can have; or logs that it cannot witness.
            UnavailableError: the folder cannot be used, or the memory is gone.
        """
        self._ensure()
        key = self.key()
        if key is None:
            if self.store.newest() is not None:
                raise HomeError(
                    f"The key of this witness is gone from {self.path / 'keys'}; restore it from your backup."
                )
            self.store.create()
            key = self._make(name or f"{socket.gethostname() or 'localhost'}/traceai-witness")
        elif name not in (None, key.name):
            raise InputError(f"This witness is called {key.name}; give another one a folder of its own with --home.")
        elif not self.store.exists():
            raise CheckpointStoreError(
                f"The memory of this witness, {self.store.path}, is gone; restore it from your backup, or begin a new witness "
                "in another folder."
            )
        return Witness(self.store, key, logs, self.misbehaviour)

    def _ensure(self) -> None:
        try:
            self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
            problem = None if os.access(self.path, os.W_OK | os.X_OK) else "permission denied"
        except OSError as error:
            problem = error.strerror
        if problem:
            raise HomeError(
                f"The witness cannot write to {self.path} ({problem}); give it a folder of its own with --home."
            )

    def _make(self, name: str) -> SigningKey:
        try:
            return KeyFolder(self.path / "keys").create(name, COSIGNATURE)
        except NoteError as error:
            raise InputError(f"{name!r} can name no witness: {error.message}") from error


def trusted(vkeys: Iterable[str]) -> dict[str, list[VerifierKey]]:
    """The keys that are trusted for each origin, which is the key's name (tlog-checkpoint, "Signatures").

    Raises:
        InputError: one of them is no verifier key.
    """
    logs: dict[str, list[VerifierKey]] = {}
    for vkey in vkeys:
        try:
            key = VerifierKey.parse(vkey)
        except NoteError as error:
            raise InputError(f"{vkey!r} is no verifier key of a log: {error.message}") from error
        if key not in logs.setdefault(key.name, []):
            logs[key.name].append(key)
    return logs
