"""The content-addressed store for images and model files: what is asked for by its hash is what was put, or an error.

Blobs lie under `sha256/ab/cd/<hex>`, where `abcd` begins the SHA-256. They are written once and never changed. In a
local folder, a crash leaves at most a stray `.put-*` file, never half a blob under its final name; object stores
publish an object only when it is complete.
"""

import hashlib
import os
import re
import tempfile
from pathlib import Path

import fsspec
from fsspec.implementations.local import LocalFileSystem

from traceai.errors import BlobMissingError, BlobTamperedError, InputError, SettingsError, UnavailableError

_DIGEST = re.compile(r"[0-9a-f]{64}")


class BlobStore:
    """A folder, or any fsspec URL: `file://`, `memory://`, `s3://bucket/prefix`."""

    def __init__(self, url: str | Path) -> None:
        """Opens the store; nothing is created before the first `put`.

        Raises:
            SettingsError: the URL is of an unknown scheme, or of one whose package is not installed.
        """
        self.url = str(url)
        try:
            self._fs, root = fsspec.core.url_to_fs(os.path.expanduser(self.url))  # noqa: PTH111  a URL is no Path
        except (ValueError, ImportError) as error:
            raise SettingsError(
                f"The blob store {self.url!r} cannot be opened ({error}); "
                "give a folder or a file://, memory:// or s3:// URL, and install what that scheme needs."
            ) from error
        self._root = str(root).rstrip("/")
        self._local = isinstance(self._fs, LocalFileSystem)

    def __repr__(self) -> str:
        return f"BlobStore({self.url!r})"

    def path(self, digest: str) -> str:
        """Where the blob lies within the store: `sha256/ab/cd/<hex>`.

        Raises:
            InputError: `digest` is not 64 lower-case hexadecimal digits.
        """
        if not _DIGEST.fullmatch(digest):
            raise InputError(f"{digest!r} is not a SHA-256 digest; it has 64 lower-case hexadecimal digits.")
        return f"sha256/{digest[:2]}/{digest[2:4]}/{digest}"

    def put(self, data: bytes) -> str:
        """Stores `data` and returns its SHA-256 in hex. Putting the same bytes again changes nothing.

        Raises:
            BlobTamperedError: other bytes already lie under this digest. They are evidence, and are left as they are.
            UnavailableError: the store cannot be written.
        """
        digest = hashlib.sha256(data).hexdigest()
        if self.exists(digest):
            self.get(digest)
            return digest
        location = f"{self._root}/{self.path(digest)}"
        try:
            if self._local:
                _publish(Path(location), data)
            else:
                self._fs.pipe_file(location, data)
        except OSError as error:
            raise UnavailableError(
                f"The blob store {self.url} cannot be written ({error}); check its permissions and free space."
            ) from error
        return digest

    def get(self, digest: str) -> bytes:
        """The bytes with this digest, verified.

        Raises:
            InputError: `digest` is malformed.
            BlobMissingError: there is no such blob.
            BlobTamperedError: what is stored there does not have this digest.
            UnavailableError: the store cannot be read.
        """
        path = self.path(digest)
        try:
            data: bytes = self._fs.cat_file(f"{self._root}/{path}")
        except FileNotFoundError as error:
            raise BlobMissingError(
                f"The blob {digest} is not in the store {self.url}; it was purged, or the store is another one."
            ) from error
        except OSError as error:
            raise self._unreadable(error) from error
        found = hashlib.sha256(data).hexdigest()
        if found != digest:
            raise BlobTamperedError(
                f"The bytes stored as {path} in {self.url} do not have that digest; treat the store as tampered with.",
                recorded=digest,
                found=found,
            )
        return data

    def exists(self, digest: str) -> bool:
        """Whether something is stored under this digest; only `get` verifies what.

        Raises:
            InputError: `digest` is malformed.
            UnavailableError: the store cannot be read.
        """
        try:
            return bool(self._fs.exists(f"{self._root}/{self.path(digest)}"))
        except OSError as error:
            raise self._unreadable(error) from error

    def _unreadable(self, error: OSError) -> UnavailableError:
        return UnavailableError(f"The blob store {self.url} cannot be read ({error}); check that it can be reached.")


def _publish(path: Path, data: bytes) -> None:
    """Makes `data` appear at `path` all at once and durably, readable by its owner only."""
    created = _make_private_folders(path.parent)
    descriptor, temporary = tempfile.mkstemp(prefix=".put-", dir=path.parent)
    try:
        with os.fdopen(descriptor, "wb") as stream:
            stream.write(data)
            stream.flush()
            os.fsync(descriptor)
        Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
    # A rename is durable once its folder is; a new folder, once its parent is.
    for folder in (path.parent, *(new.parent for new in created)):
        _sync_folder(folder)


def _make_private_folders(folder: Path) -> list[Path]:
    """Creates `folder` and its missing parents with mode 0700; returns those created, deepest first."""
    missing = []
    while not folder.exists():
        missing.append(folder)
        folder = folder.parent
    for new in reversed(missing):
        new.mkdir(mode=0o700, exist_ok=True)
    return missing


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
