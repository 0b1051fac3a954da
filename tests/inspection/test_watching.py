"""A folder as a source: complete files only, each as it was when it was looked at, whatever the folder does meanwhile."""

import os
import shutil
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from traceai.errors import InputError
from traceai.inspection import watching
from traceai.inspection.reading import Item


@pytest.fixture(autouse=True)
def _in_a_hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watching, "PAUSE", 0.01)


def start(folder: Path, known: set[str] = frozenset(), **options: object) -> tuple[Iterator[Item], threading.Event]:
    until = threading.Event()

    def make(path: Path, reference: str, data: Path | bytes) -> Item:
        return watching.item(path, {"lot": "L7"}, lambda _: {}, data, id=reference)

    return watching.watch(folder, "press-4", make, lambda asked: known & set(asked), until, **options), until


def test_an_image_is_given_once_with_its_bytes_and_an_id_that_stays(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"one")
    (tmp_path / "notes.txt").write_bytes(b"x")
    images, _ = start(tmp_path)
    first = next(images)
    assert (first.source, first.name, first.part.lot) == (b"one", str(tmp_path / "a.png"), "L7")
    (tmp_path / "b.png").write_bytes(b"two")
    assert next(images).source == b"two"
    again, _ = start(tmp_path, {first.id})
    assert next(again).source == b"two"


def test_a_file_that_is_written_anew_is_another_image(tmp_path: Path) -> None:
    file = tmp_path / "a.png"
    file.write_bytes(b"one")
    images, _ = start(tmp_path)
    first = next(images)
    file.write_bytes(b"another")
    second = next(images)
    assert second.source == b"another"
    assert second.id != first.id


def test_a_file_that_changes_between_the_look_and_the_reading_waits_for_the_next_look(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "a.png"
    file.write_bytes(b"one!")
    content, calls = watching._content, []

    def overtaken(state: tuple, largest: int) -> object:
        calls.append(state)
        if len(calls) == 1:
            file.write_bytes(b"two!")
            os.utime(file, ns=(1, 1))
        return content(state, largest)

    monkeypatch.setattr(watching, "_content", overtaken)
    images, until = start(tmp_path)
    found = next(images)
    assert found.source == b"two!"
    until.set()
    assert list(images) == []


def test_a_folder_that_goes_away_and_comes_back_is_watched_on(tmp_path: Path) -> None:
    folder, told = tmp_path / "share", []
    folder.mkdir()
    images, _ = start(
        folder, told=lambda what: (told.append(what), folder.mkdir(), (folder / "a.png").write_bytes(b"x"))
    )
    shutil.rmtree(folder)
    assert next(images).source == b"x"
    assert len(told) == 1


def test_a_file_beyond_the_limit_is_left_to_who_reads_it(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"12345")
    images, _ = start(tmp_path, largest=4)
    assert next(images).source == tmp_path / "a.png"


@pytest.mark.parametrize("trigger", ["x", "²", "20260131123456789012"])
def test_a_name_that_says_what_no_record_can_hold_is_refused(tmp_path: Path, trigger: str) -> None:
    read = watching.named("cam_(?P<trigger>.+)\\.png")
    with pytest.raises(InputError, match="trigger"):
        watching.item(tmp_path / f"cam_{trigger}.png", {}, read)
