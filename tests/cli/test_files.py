import os
import threading
from pathlib import Path

import pytest

from traceai.cli.files import published, write_file
from traceai.errors import InputError


def test_a_file_is_written_whole_or_not_at_all(tmp_path: Path) -> None:
    out = tmp_path / "out.json"
    write_file(out, b"first")
    with pytest.raises(RuntimeError), published(out) as unfinished:
        unfinished.write_bytes(b"half")
        raise RuntimeError
    assert out.read_bytes() == b"first"
    assert [path.name for path in tmp_path.iterdir()] == ["out.json"]


def test_a_link_stays_and_what_it_leads_to_is_replaced(tmp_path: Path) -> None:
    (tmp_path / "kept").mkdir()
    target, link = tmp_path / "kept" / "it", tmp_path / "link"
    target.write_bytes(b"before")
    link.symlink_to(target)
    write_file(link, b"after")
    assert link.is_symlink()
    assert target.read_bytes() == b"after"


def test_a_pipe_is_written_to_and_stays(tmp_path: Path) -> None:
    pipe, got = tmp_path / "pipe", []
    os.mkfifo(pipe)
    reader = threading.Thread(target=lambda: got.append(pipe.read_bytes()))
    reader.start()
    write_file(pipe, b"through")
    reader.join(10)
    assert got == [b"through"]
    assert pipe.is_fifo()


def test_the_standard_output_by_its_name(tmp_path: Path) -> None:
    read, write = os.pipe()
    write_file(Path(f"/dev/fd/{write}"), b"through")
    os.close(write)
    with os.fdopen(read, "rb") as pipe:
        assert pipe.read() == b"through"


def test_a_device_that_is_full_is_told_and_stays() -> None:
    with pytest.raises(InputError, match="No space left"):
        write_file(Path("/dev/full"), b"lost")
    assert Path("/dev/full").is_char_device()


def test_a_folder_is_no_file(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="is a folder"):
        write_file(tmp_path, b"")
