"""Private keys: files beside the database, never in it, that nobody but their owner can read.

One file a key, in the form of `SigningKey` (golang.org/x/mod/sumdb/note). A file is written once, whole and durable, before
anything names the key; a crash before that leaves a key that nothing names, and no half of one. Rotation adds a file; none is
ever removed. Whoever can read a file can sign in its name: traceai refuses a key that others could have read.
"""

import os
import stat
import tempfile
from contextlib import suppress
from pathlib import Path
from urllib.parse import quote

from traceai.errors import KeyFileError, NoteError
from traceai.ledger.note import ED25519, SigningKey, VerifierKey

SUFFIX = ".key"


class KeyFolder:
    """The keys in one folder of mode 0700. Nothing is kept in memory, so processes and threads may share it."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def create(self, name: str, type: int = ED25519) -> SigningKey:
        """Generate a key and write it down. When this returns, the file survives a power cut.

        Raises:
            KeyFileError: the folder cannot be written to, or others can read it.
            NoteError: `name` can name no key.
        """
        key = SigningKey.generate(name, type)
        try:
            # A home that does not exist yet is made as private as the keys in it.
            self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._require_private(self.path, 0o700)
            path = self._path_of(key.verifier)
            if path.exists():
                raise KeyFileError(f"There is a key file {path} already; nothing was written, so try again.")
            _write(path, f"{key}\n".encode())
        except OSError as error:
            raise KeyFileError(
                f"No key can be written to {self.path} ({error.strerror}); give traceai a folder that it may write to."
            ) from error
        return key

    def load(self, key: VerifierKey | str) -> SigningKey:
        """The private key of a public one.

        Raises:
            KeyFileError: it is not here, is another, is damaged, or can be read by others.
            NoteError: `key` is no vkey.
        """
        wanted = VerifierKey.parse(key) if isinstance(key, str) else key
        path = self._path_of(wanted)
        if not self.has(wanted):
            raise KeyFileError(
                f"The private key of {wanted} is not in {self.path}; restore the file {path.name} from your backup."
            )
        found = self._read(path)
        if found.verifier != wanted:
            raise KeyFileError(
                f"The file {path} holds another key than {wanted}, which is on record; restore it from your backup."
            )
        return found

    def has(self, key: VerifierKey) -> bool:
        """Whether there is a file for `key`. What is in it is for `load` to say.

        Raises:
            KeyFileError: the folder cannot be looked at.
        """
        try:
            self._path_of(key).stat()
        except FileNotFoundError:
            return False
        except OSError as error:
            raise self._unreadable(self.path, error) from error
        return True

    def list(self) -> list[VerifierKey]:
        """The public keys of all private ones here, by name and key ID.

        Raises:
            KeyFileError: one of them cannot be used; the first that cannot is named.
        """
        try:
            paths = sorted(path for path in self.path.iterdir() if path.suffix == SUFFIX and path.name[0] != ".")
        except FileNotFoundError:
            return []
        except OSError as error:
            raise self._unreadable(self.path, error) from error
        return sorted((self._read(path).verifier for path in paths), key=lambda key: (key.name, key.key_id))

    def _path_of(self, key: VerifierKey) -> Path:
        # The name is for the person who looks into the folder; the content says which key it is.
        return self.path / f"{quote(key.name, safe='')[:120]}+{key.key_id.hex()}{SUFFIX}"

    def _read(self, path: Path) -> SigningKey:
        try:
            self._require_private(self.path, 0o700)
            self._require_private(path, 0o600)
            return SigningKey.parse(path.read_text(encoding="utf-8").removesuffix("\n"))
        except OSError as error:
            raise self._unreadable(path, error) from error
        except (NoteError, UnicodeDecodeError) as error:
            # What is wrong with it is not said: a message may travel where the key must not.
            raise KeyFileError(f"The file {path} holds no private key; restore it from your backup.") from error

    def _require_private(self, path: Path, mode: int) -> None:
        found = stat.S_IMODE(path.stat().st_mode)
        if found & 0o077:
            raise KeyFileError(
                f"Others can get at the private key in {path} (mode {found:04o}); run `chmod {mode:o} {path}`, and rotate the key "
                "if one of them may have read it."
            )

    def _unreadable(self, path: Path, error: OSError) -> KeyFileError:
        return KeyFileError(f"{path} cannot be read ({error.strerror}); run traceai as the user who owns it.")


def _write(path: Path, data: bytes) -> None:
    """All of it, durably, or nothing under this name."""
    descriptor, beside = tempfile.mkstemp(dir=path.parent, prefix=".")  # mode 0600
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        Path(beside).rename(path)
    except BaseException:
        with suppress(OSError):
            Path(beside).unlink()
        raise
    sync_folder(path.parent)


def sync_folder(path: Path) -> None:
    """Make the names in a folder durable."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
