import os
import re
import stat
from pathlib import Path

import pytest

from traceai.errors import KeyFileError, NoteError
from traceai.ledger.note import COSIGNATURE, SigningKey
from traceai.ledger.signing.keys import KeyFolder

NAME = "press.example/line-4"


@pytest.fixture
def folder(tmp_path: Path) -> KeyFolder:
    return KeyFolder(tmp_path / "home" / "keys")


def file_of(folder: KeyFolder) -> Path:
    (path,) = folder.path.iterdir()
    return path


def test_a_key_comes_back_as_it_was_made(folder: KeyFolder) -> None:
    key = folder.create(NAME)
    assert folder.load(key.verifier) == key
    assert folder.load(str(key.verifier)) == key
    assert folder.has(key.verifier)
    assert file_of(folder).read_text() == f"{key}\n"


def test_nobody_else_may_read_a_key_or_see_the_folder(folder: KeyFolder) -> None:
    before = os.umask(0)
    try:
        folder.create(NAME)
    finally:
        os.umask(before)
    assert stat.S_IMODE(folder.path.stat().st_mode) == 0o700
    assert stat.S_IMODE(file_of(folder).stat().st_mode) == 0o600


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o601])
def test_a_key_that_others_can_get_at_is_refused_with_the_command_to_run(folder: KeyFolder, mode: int) -> None:
    key = folder.create(NAME)
    file_of(folder).chmod(mode)
    with pytest.raises(KeyFileError, match=re.escape(f"chmod 600 {file_of(folder)}")) as refused:
        folder.load(key.verifier)
    assert refused.value.code == "key-unusable"
    assert "PRIVATE" not in refused.value.message
    file_of(folder).chmod(0o600)
    assert folder.load(key.verifier) == key


def test_a_folder_that_others_can_enter_is_refused(folder: KeyFolder) -> None:
    key = folder.create(NAME)
    folder.path.chmod(0o750)
    for use in (lambda: folder.load(key.verifier), folder.list, lambda: folder.create(NAME)):
        with pytest.raises(KeyFileError, match=re.escape(f"chmod 700 {folder.path}")):
            use()


def test_keys_of_one_name_lie_side_by_side(folder: KeyFolder) -> None:
    keys = [folder.create(NAME), folder.create(NAME), folder.create("plant/b"), folder.create("w", COSIGNATURE)]
    assert {str(key) for key in folder.list()} == {str(key.verifier) for key in keys}
    assert [folder.load(key.verifier) for key in keys] == keys


def test_a_key_that_is_not_here_is_named(folder: KeyFolder) -> None:
    missing = SigningKey.generate(NAME).verifier
    assert not folder.has(missing)
    assert folder.list() == []
    with pytest.raises(KeyFileError, match=r"restore the file press\.example%2Fline-4"):
        folder.load(missing)
    with pytest.raises(NoteError):
        folder.load("no key")


def test_another_key_under_the_same_file_name_is_refused(folder: KeyFolder) -> None:
    key = folder.create(NAME)
    file_of(folder).write_text(f"{SigningKey.generate(NAME)}\n")
    with pytest.raises(KeyFileError, match="holds another key"):
        folder.load(key.verifier)


@pytest.mark.parametrize("content", [b"", b"PRIVATE+KEY+", b"\xff\xfe", b"PRIVATE+KEY+a+00000000+AAAA\n"])
def test_a_damaged_file_is_no_key_and_its_content_is_not_told(folder: KeyFolder, content: bytes) -> None:
    key = folder.create(NAME)
    file_of(folder).write_bytes(content)
    for use in (lambda: folder.load(key.verifier), folder.list):
        with pytest.raises(KeyFileError, match="holds no private key") as refused:
            use()
        assert "PRIVATE" not in refused.value.message


def test_no_byte_of_a_key_file_can_be_changed_unnoticed(folder: KeyFolder) -> None:
    key = folder.create(NAME)
    path = file_of(folder)
    good = path.read_bytes()
    for position in range(len(good)):
        path.write_bytes(good[:position] + bytes([good[position] ^ 1]) + good[position + 1 :])
        with pytest.raises(KeyFileError):
            folder.load(key.verifier)
    path.write_bytes(good)
    assert folder.load(key.verifier) == key


@pytest.mark.parametrize("step", ["fsync", "rename"])
def test_a_crash_while_writing_leaves_no_key_and_no_half_of_one(
    folder: KeyFolder, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(*((os, "fsync", fail) if step == "fsync" else (Path, "rename", fail)))
        with pytest.raises(KeyFileError, match="No space left"):
            folder.create(NAME)
    assert list(folder.path.iterdir()) == []
    key = folder.create(NAME)
    assert folder.list() == [key.verifier]


def test_a_half_written_file_of_a_crash_is_not_a_key(folder: KeyFolder) -> None:
    key = folder.create(NAME)
    (folder.path / ".tmpabcd").write_text("PRIV")
    assert folder.list() == [key.verifier]


def test_a_folder_that_cannot_be_made_is_said_so(tmp_path: Path) -> None:
    (tmp_path / "home").write_text("a file")
    folder = KeyFolder(tmp_path / "home" / "keys")
    with pytest.raises(KeyFileError, match="No key can be written"):
        folder.create(NAME)


def test_a_long_name_fits_a_file_system(folder: KeyFolder) -> None:
    key = folder.create("a.example/" + "é/" * 90)
    assert folder.load(key.verifier) == key
