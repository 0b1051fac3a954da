import dataclasses
import hashlib
import json
import os
import shutil
from pathlib import Path

import pytest

from tests.data.folders import image, manifest, real, tree
from traceai.data.snapshot import Folder, Leak, Snapshot, digest, take
from traceai.errors import DatasetChangedError, DatasetEmptyError, DatasetError
from traceai.images.decode import Limits, decode


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    root = tree(tmp_path / "parts", *(f"good/{number}.png" for number in range(12)))
    for number in range(4):
        image(root / f"dent/{number}.png", 100 + number)
    return root


def splits(snapshot: Snapshot) -> dict[str, str]:
    return {item.path: item.split for item in snapshot.items}


# --- what is recorded ------------------------------------------------------------------------------------------------


def test_items_carry_hashes_sizes_and_a_split(folder: Path) -> None:
    snapshot = take(folder, "parts")
    assert [item.path for item in snapshot.items] == sorted(splits(snapshot))
    for item in snapshot.items:
        decoded = decode((folder / item.path).read_bytes())
        assert (item.sha256, item.pixel_sha256) == (decoded.sha256, decoded.pixel_sha256)
        assert (item.width, item.height) == (6, 4)
        assert item.split in ("train", "val", "test")
    assert (snapshot.name, snapshot.files, snapshot.unreadable, snapshot.leaks) == (
        "parts",
        Folder(folder.resolve()),
        (),
        (),
    )


def test_classes_and_counts(folder: Path) -> None:
    snapshot = take(folder, "parts")
    assert snapshot.classes() == ("good", "dent")
    counts = snapshot.counts()
    assert list(counts) == ["train", "val", "test"]
    assert {name: sum(part[name] for part in counts.values()) for name in ("good", "dent")} == {"good": 12, "dent": 4}
    assert all(part["dent"] >= 1 for part in counts.values())


def test_classes_without_good_parts(tmp_path: Path) -> None:
    assert take(tree(tmp_path, "scratch/a.png", "dent/b.png"), "x").classes() == ("dent", "scratch")


def test_progress_counts_up_to_the_total(folder: Path) -> None:
    seen: list[tuple[int, int]] = []
    take(folder, "parts", progress=lambda done, total: seen.append((done, total)))
    assert seen == [(done, 16) for done in range(1, 17)]


@pytest.mark.parametrize("name", ["a", "magnetic-tile_2.1", "0" * 64])
def test_names(folder: Path, name: str) -> None:
    assert take(folder, name).name == name


@pytest.mark.parametrize("name", ["", "A", "a b", "../x", ".x", "-x", "ä", "a\n", "0" * 65])
def test_names_that_are_refused(folder: Path, name: str) -> None:
    with pytest.raises(DatasetError, match="no name for a snapshot"):
        take(folder, name)


# --- the digest ------------------------------------------------------------------------------------------------------


def test_digest_is_the_documented_one(tmp_path: Path) -> None:
    tree(tmp_path, "b.png", "ä.png", "m.png")
    rows = [
        "path,label,defect_type,mask_path,split,group_id",
        "ä.png,good,,,val,g2",
        "b.png,defect,dent,m.png,train,g1",
    ]
    snapshot = take(manifest(tmp_path, *rows), "x")

    def sha256(name: str) -> str:
        return hashlib.sha256((tmp_path / name).read_bytes()).hexdigest()

    fields = ("defect_type", "group_id", "label", "mask_sha256", "path", "sha256", "split")
    one = ("dent", "g1", "defect", sha256("m.png"), "b.png", sha256("b.png"), "train")
    two = ("", "g2", "good", None, "ä.png", sha256("ä.png"), "val")
    items = [dict(zip(fields, values, strict=True)) for values in (one, two)]
    text = json.dumps(
        {"items": items, "schema": "traceai-snapshot/1"}, ensure_ascii=False, separators=(",", ":"), sort_keys=True
    )
    assert snapshot.digest == hashlib.sha256(text.encode()).hexdigest()
    assert digest(reversed(snapshot.items)) == snapshot.digest


def test_digest_depends_on_neither_place_nor_time_nor_name(folder: Path, tmp_path: Path) -> None:
    first = take(folder, "parts")
    moved = tmp_path / "elsewhere"
    for item in reversed(first.items):
        (moved / item.path).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(folder / item.path, moved / item.path)
        os.utime(moved / item.path, (0, 0))
    second = take(moved, "other")
    assert second.digest == first.digest
    assert second.items == first.items


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("path", "good/other.png"),
        ("sha256", "0" * 64),
        ("label", "defect"),
        ("defect_type", "x"),
        ("split", "unused"),
        ("group_id", "g"),
        ("mask_sha256", "0" * 64),
    ],
)
def test_digest_covers_what_training_depends_on(folder: Path, field: str, value: str) -> None:
    snapshot = take(folder, "parts")
    *others, good_part = snapshot.items
    changed = dataclasses.replace(good_part, **{field: value})  # type: ignore[arg-type]  # any field, on purpose
    assert digest([changed, *others]) != snapshot.digest


def test_digest_leaves_out_remarks(folder: Path) -> None:
    snapshot = take(folder, "parts")
    remarked = [dataclasses.replace(item, condition="dim", label_note="doubtful") for item in snapshot.items]
    assert digest(remarked) == snapshot.digest


# --- unreadable files ------------------------------------------------------------------------------------------------


def test_unreadable_images_are_listed_and_left_out(folder: Path) -> None:
    whole = take(folder, "parts")
    (folder / "good/broken.png").write_bytes((folder / "good/0.png").read_bytes()[:-20])
    (folder / "good/empty.png").touch()
    (folder / "dent/text.jpg").write_text("no image")
    snapshot = take(folder, "parts")
    assert [(one.path, one.code) for one in snapshot.unreadable] == [
        ("dent/text.jpg", "image-format"),
        ("good/broken.png", "image-truncated"),
        ("good/empty.png", "image-empty"),
    ]
    assert snapshot.items == whole.items
    assert snapshot.digest == whole.digest


def test_a_folder_of_unreadable_images_is_empty(tmp_path: Path) -> None:
    (tmp_path / "good").mkdir()
    (tmp_path / "good" / "a.png").touch()
    with pytest.raises(DatasetEmptyError, match=r"good/a\.png"):
        take(tmp_path, "x")


def test_limits_apply(folder: Path) -> None:
    image(folder / "good/large.png", 5, size=(50, 50))
    (one,) = take(folder, "parts", limits=Limits(max_pixels=100)).unreadable
    assert (one.path, one.code) == ("good/large.png", "image-too-large")


def test_masks_that_do_not_fit_are_left_out(tmp_path: Path) -> None:
    tree(tmp_path, "a.png", "b.png", "c.png", "ma.png")
    image(tmp_path / "mb.png", size=(3, 3))
    (tmp_path / "mc.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    rows = ["path,label,mask_path", "a.png,defect,ma.png", "b.png,defect,mb.png", "c.png,defect,mc.png"]
    snapshot = take(manifest(tmp_path, *rows), "x")
    assert [(one.path, one.code) for one in snapshot.unreadable] == [
        ("mb.png", "mask-size"),
        ("mc.png", "image-truncated"),
    ]
    assert [item.mask_path for item in snapshot.items] == ["ma.png", None, None]
    assert [item.mask_sha256 is not None for item in snapshot.items] == [True, False, False]


# --- groups, splits and leaks ----------------------------------------------------------------------------------------


def test_same_pixels_in_other_bytes_stay_together(tmp_path: Path) -> None:
    tree(tmp_path, *(f"good/{number}.png" for number in range(20)))
    for number in range(20):
        shutil.copyfile(image(tmp_path / "t.bmp", number + 1), tmp_path / f"good/copy{number}.bmp")
    (tmp_path / "t.bmp").unlink()
    snapshot = take(tmp_path, "x")
    found = {item.path: (item.group_id, item.split) for item in snapshot.items}
    for number in range(20):
        assert found[f"good/{number}.png"] == found[f"good/copy{number}.bmp"]
    assert len({item.group_id for item in snapshot.items}) == 20
    assert snapshot.leaks == ()


def test_mvtec_gets_defects_to_train_on(tmp_path: Path) -> None:
    paths = [f"train/good/{number}.png" for number in range(10)] + [f"test/hole/{number}.png" for number in range(10)]
    assert take(tree(tmp_path, *paths), "x").counts()["train"]["hole"] >= 6


def test_given_splits_are_kept_and_their_leaks_reported(tmp_path: Path) -> None:
    tree(tmp_path, "a.png", "b.png", "c.png", "d.png", "e.png")
    shutil.copyfile(tmp_path / "c.png", tmp_path / "f.png")
    rows = [
        "path,label,defect_type,split,group_id",
        "a.png,good,,train,g1",
        "b.png,good,,test,g1",
        "c.png,good,,train,g2",
        "d.png,good,,val,g3",
        "e.png,good,,train,g4",
        "f.png,defect,dent,val,g5",
    ]
    snapshot = take(manifest(tmp_path, *rows), "x")
    assert [item.split for item in snapshot.items] == ["train", "test", "train", "val", "train", "val"]
    assert snapshot.leaks == (
        Leak("group", ("train", "test"), ("a.png", "b.png")),
        Leak("pixels", ("train", "val"), ("c.png", "f.png")),
        Leak("labels", ("train", "val"), ("c.png", "f.png")),
    )


def test_contradictory_labels_within_one_split_are_reported(tmp_path: Path) -> None:
    tree(tmp_path, "good/a.png")
    (tmp_path / "dent").mkdir()
    shutil.copyfile(tmp_path / "good/a.png", tmp_path / "dent/b.png")
    snapshot = take(tmp_path, "x")
    assert snapshot.leaks == (Leak("labels", ("train",), ("dent/b.png", "good/a.png")),)


def test_images_without_a_split_join_their_group(tmp_path: Path) -> None:
    tree(tmp_path, "a.png", "b.png", "c.png")
    rows = ["path,label,split,group_id", "a.png,good,test,g", "b.png,good,,g", "c.png,good,,g"]
    assert set(splits(take(manifest(tmp_path, *rows), "x")).values()) == {"test"}


# --- files -----------------------------------------------------------------------------------------------------------


def test_files_read_back_as_they_were_taken(folder: Path) -> None:
    snapshot = take(folder, "parts")
    for item in snapshot.items:
        assert snapshot.files.read(item.path, item.sha256) == (folder / item.path).read_bytes()


def test_a_changed_file_is_named(folder: Path) -> None:
    snapshot = take(folder, "parts")
    image(folder / "good/3.png", 77)
    changed = next(item for item in snapshot.items if item.path == "good/3.png")
    with pytest.raises(DatasetChangedError, match=r"good/3\.png is no longer the file") as caught:
        snapshot.files.read(changed.path, changed.sha256)
    assert caught.value.details == {"path": "good/3.png"}


def test_a_missing_file_is_a_changed_one(folder: Path) -> None:
    snapshot = take(folder, "parts")
    (folder / "good/5.png").unlink()
    with pytest.raises(DatasetChangedError, match=r"good/5\.png can no longer be read"):
        snapshot.files.read("good/5.png", snapshot.items[0].sha256)


# --- real data -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "count", "classes"), [("magnetic_tile", 1065, 6), ("xsdd_steel", 1087, 7)])
def test_real_data_sets_import_whole_and_without_leaks(name: str, count: int, classes: int) -> None:
    snapshot = take(real(name), name)
    assert len(snapshot.items) == count
    assert len(snapshot.classes()) == classes
    assert snapshot.unreadable == ()
    assert snapshot.leaks == ()
    by_group: dict[str, set[str]] = {}
    for item in snapshot.items:
        by_group.setdefault(item.group_id, set()).add(item.split)
    assert {len(found) for found in by_group.values()} == {1}
