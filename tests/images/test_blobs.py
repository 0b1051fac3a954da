import hashlib
import os
import stat
import subprocess
import sys
import tempfile
import uuid
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from traceai.errors import BlobMissingError, BlobTamperedError, InputError, SettingsError, UnavailableError
from traceai.images.blobs import BlobStore

DATA = b"the bytes of a picture"
DIGEST = hashlib.sha256(DATA).hexdigest()


@pytest.fixture(params=["folder", "file-url", "memory"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> BlobStore:
    urls: dict[str, str | Path] = {
        "folder": tmp_path / "a" / "b",
        "file-url": f"file://{tmp_path}/c",
        "memory": f"memory://{uuid.uuid4()}",
    }
    return BlobStore(urls[request.param])


def files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())


def test_what_was_put_is_what_is_got(store: BlobStore) -> None:
    assert not store.exists(DIGEST)
    assert store.put(DATA) == DIGEST
    assert store.exists(DIGEST)
    assert store.get(DIGEST) == DATA
    assert store.put(DATA) == DIGEST


def test_missing_blob(store: BlobStore) -> None:
    with pytest.raises(BlobMissingError, match="purged"):
        store.get("0" * 64)


@pytest.mark.parametrize(
    "digest", ["", "../" * 20 + "etc/passwd", DIGEST.upper(), DIGEST[:-1], DIGEST + "\n", "g" * 64]
)
def test_malformed_digests_reach_no_file(store: BlobStore, digest: str) -> None:
    for ask in (store.get, store.exists, store.path):
        with pytest.raises(InputError, match="SHA-256"):
            ask(digest)


def test_layout_and_permissions(tmp_path: Path) -> None:
    BlobStore(tmp_path / "blobs").put(DATA)
    (file,) = files(tmp_path)
    assert file == tmp_path / "blobs" / "sha256" / DIGEST[:2] / DIGEST[2:4] / DIGEST
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    for folder in list(file.parents)[:4]:
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700


def test_opening_creates_nothing(tmp_path: Path) -> None:
    assert not BlobStore(tmp_path / "blobs").exists(DIGEST)
    assert list(tmp_path.iterdir()) == []


def test_home_is_expanded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    BlobStore("~/blobs").put(DATA)
    assert (tmp_path / "blobs" / "sha256").is_dir()


@given(st.binary(max_size=64), st.integers(0, 63), st.integers(1, 255))
@settings(deadline=None, max_examples=40)
def test_any_changed_byte_is_found(data: bytes, position: int, flip: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        store = BlobStore(folder)
        digest = store.put(data)
        (file,) = files(Path(folder))
        changed = bytearray(data or b"\0")
        changed[position % len(changed)] ^= flip
        file.write_bytes(changed)
        with pytest.raises(BlobTamperedError, match=digest):
            store.get(digest)


def test_putting_does_not_paper_over_tampering(tmp_path: Path) -> None:
    store = BlobStore(tmp_path)
    store.put(DATA)
    (file,) = files(tmp_path)
    file.write_bytes(b"half")
    with pytest.raises(BlobTamperedError):
        store.put(DATA)
    assert file.read_bytes() == b"half"


@pytest.mark.parametrize("step", ["fsync", "replace"])
def test_a_failed_write_leaves_nothing_under_the_final_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device")

    store = BlobStore(tmp_path)
    with monkeypatch.context() as patch:
        if step == "fsync":
            patch.setattr(os, "fsync", fail)
        else:
            patch.setattr(Path, "replace", fail)
        with pytest.raises(UnavailableError, match="No space left"):
            store.put(DATA)
    assert files(tmp_path) == []
    assert store.put(DATA) == DIGEST
    assert store.get(DIGEST) == DATA


def test_a_crash_before_the_rename_leaves_only_a_stray_file(tmp_path: Path) -> None:
    # The process dies where the power would fail: after the bytes, before the name.
    script = (
        "import os, sys; from pathlib import Path; from traceai.images.blobs import BlobStore;"
        "Path.replace = lambda *_: os._exit(9); BlobStore(sys.argv[1]).put(sys.argv[2].encode())"
    )
    assert subprocess.run([sys.executable, "-c", script, tmp_path, DATA.decode()], check=False).returncode == 9
    store = BlobStore(tmp_path)
    (stray,) = files(tmp_path)
    assert stray.name.startswith(".put-")
    assert not store.exists(DIGEST)
    store.put(DATA)
    assert store.get(DIGEST) == DATA


def test_concurrent_puts_of_the_same_bytes(tmp_path: Path) -> None:
    blobs = [bytes([value]) * 1000 for value in range(8)] * 8
    with ThreadPoolExecutor(8) as pool:
        digests = list(pool.map(BlobStore(tmp_path).put, blobs))
    assert len(files(tmp_path)) == 8
    assert all(BlobStore(tmp_path).get(digest) == data for digest, data in zip(digests, blobs, strict=True))


def test_a_store_that_cannot_be_written_says_so(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(UnavailableError, match="cannot be written"):
        BlobStore(tmp_path / "file").put(DATA)


def test_a_folder_under_a_blobs_name_is_not_a_blob(tmp_path: Path) -> None:
    store = BlobStore(tmp_path)
    (tmp_path / store.path(DIGEST)).mkdir(parents=True)
    with pytest.raises(UnavailableError, match="cannot be read"):
        store.get(DIGEST)


def test_unknown_schemes_are_refused() -> None:
    with pytest.raises(SettingsError, match="nosuch://"):
        BlobStore("nosuch://bucket")
