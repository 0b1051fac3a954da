import csv
import hashlib
import shutil
from pathlib import Path

import pytest

from tests.data.folders import image, manifest, real, tree
from traceai.data.layouts import Item, scan
from traceai.errors import DatasetChangedError, DatasetEmptyError, DatasetError, DatasetMissingError


def sha256(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()


def labels(folder: Path, good: str | None = None) -> dict[str, str]:
    """Path to defect type, with `good` for good parts."""
    return {item.path: item.defect_type or item.label for item in scan(folder, good=good).items}


# --- a folder per class ----------------------------------------------------------------------------------------------


def test_class_folders(tmp_path: Path) -> None:
    tree(tmp_path, "good/b.png", "scratch/a.jpg", "dent/deep/c.BMP")
    layout = scan(tmp_path)
    assert layout.kind == "classes"
    assert labels(tmp_path) == {"dent/deep/c.BMP": "dent", "good/b.png": "good", "scratch/a.jpg": "scratch"}
    digest = sha256(tmp_path / "good/b.png")
    assert layout.items[1] == Item("good/b.png", "good", "", None, None, digest, "", "")


@pytest.mark.parametrize("name", ["good", "OK", "Normal", "non_defective", "FREE", "pass"])
def test_exact_names_mean_good(tmp_path: Path, name: str) -> None:
    assert labels(tree(tmp_path, f"{name}/a.png")) == {f"{name}/a.png": "good"}


@pytest.mark.parametrize("name", ["MT_Free", "goods", "not ok", "no_good", "passivation"])
def test_similar_names_do_not(tmp_path: Path, name: str) -> None:
    assert labels(tree(tmp_path, f"{name}/a.png")) == {f"{name}/a.png": name}


def test_the_good_class_can_be_named(tmp_path: Path) -> None:
    tree(tmp_path, "MT_Free/a.png", "ok/b.png")
    assert labels(tmp_path, good="mt_free") == {"MT_Free/a.png": "good", "ok/b.png": "ok"}
    with pytest.raises(DatasetError, match="'fine'"):
        scan(tmp_path, good="fine")


def test_split_folders(tmp_path: Path) -> None:
    tree(tmp_path, "train/good/a.png", "train/dent/b.png", "val/dent/c.png", "test/good/d.png")
    found = {item.path: (item.split, item.defect_type) for item in scan(tmp_path).items}
    assert found == {
        "train/good/a.png": ("train", ""),
        "train/dent/b.png": ("train", "dent"),
        "val/dent/c.png": ("val", "dent"),
        "test/good/d.png": ("test", ""),
    }


def test_misnamed_split_folder(tmp_path: Path) -> None:
    tree(tmp_path, "train/good/a.png", "valid/good/b.png")
    with pytest.raises(DatasetError, match="valid"):
        scan(tmp_path)


def test_clutter_is_ignored(tmp_path: Path) -> None:
    tree(tmp_path, "good/a.png")
    for name in ("good/Thumbs.db", "good/.hidden.png", "good/notes.txt", ".git/x.png", "README.md"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        shutil.copy(tmp_path / "good/a.png", tmp_path / name)
    assert labels(tmp_path) == {"good/a.png": "good"}


@pytest.mark.parametrize("stray", ["a.png", "train/a.png"])
def test_images_outside_a_class_are_refused(tmp_path: Path, stray: str) -> None:
    tree(tmp_path, "train/good/b.png", "train/dent/b.png", stray)
    with pytest.raises(DatasetError, match="outside any class folder"):
        scan(tmp_path)


def test_mask_folders_are_no_classes(tmp_path: Path) -> None:
    tree(tmp_path, "good/a.png", "Masks/a.png")
    with pytest.raises(DatasetError, match=r"manifest\.csv"):
        scan(tmp_path)


def test_copies_share_a_group(tmp_path: Path) -> None:
    tree(tmp_path, "good/a.png", "good/b.png")
    shutil.copy(tmp_path / "good/a.png", tmp_path / "good/c.png")
    a, b, c = scan(tmp_path).items
    assert a.group_id == c.group_id != b.group_id


# --- MVTec AD --------------------------------------------------------------------------------------------------------


def test_mvtec(tmp_path: Path) -> None:
    tree(tmp_path, "train/good/000.png", "test/good/000.png", "test/hole/000.png", "test/hole/001.png")
    image(tmp_path / "ground_truth/hole/000_mask.png")
    layout = scan(tmp_path)
    assert layout.kind == "mvtec"
    assert {item.path: (item.defect_type, item.mask_path) for item in layout.items} == {
        "train/good/000.png": ("", None),
        "test/good/000.png": ("", None),
        "test/hole/000.png": ("hole", "ground_truth/hole/000_mask.png"),
        "test/hole/001.png": ("hole", None),
    }
    # Its own split has no defects to learn from.
    assert {item.split for item in layout.items} == {None}


def test_several_mvtec_categories_are_refused(tmp_path: Path) -> None:
    tree(tmp_path, *(f"{name}/{part}/good/0.png" for name in ("bottle", "cable") for part in ("train", "test")))
    with pytest.raises(DatasetError, match="bottle, cable"):
        scan(tmp_path)


# --- manifest.csv ----------------------------------------------------------------------------------------------------


def test_manifest_with_every_column(tmp_path: Path) -> None:
    tree(tmp_path, "x/a.png", "x/b.png", "m.png")
    manifest(
        tmp_path,
        "path,label,defect_type,mask_path,split,group_id,condition,label_note,sha256,camera",
        f'x/b.png,defect,dent,m.png,val,g1,dim,"doubtful, see b",{sha256(tmp_path / "x/b.png")},3',
        "./x//a.png,good,,,,,,,,",
    )
    layout = scan(tmp_path)
    assert layout.kind == "manifest"
    assert layout.items == (
        Item("x/a.png", "good", "", None, None, sha256(tmp_path / "x/a.png"), "", ""),
        Item("x/b.png", "defect", "dent", "m.png", "val", "g1", "dim", "doubtful, see b"),
    )


@pytest.mark.parametrize(
    ("header", "cells", "expected"),
    [
        ("path,label", "good", ("good", "")),
        ("path,label", "defect", ("defect", "defect")),
        ("path,defect_type", "dent", ("defect", "dent")),
        ("path,defect_type", "OK", ("good", "")),
        ("path,label,defect_type", "good,good", ("good", "")),
        ("path,label,defect_type", ",dent", ("defect", "dent")),
    ],
)
def test_label_and_defect_type(tmp_path: Path, header: str, cells: str, expected: tuple[str, str]) -> None:
    manifest(tree(tmp_path, "a.png"), header, f"a.png,{cells}")
    (item,) = scan(tmp_path).items
    assert (item.label, item.defect_type) == expected


def test_byte_order_mark_blank_lines_and_crlf(tmp_path: Path) -> None:
    tree(tmp_path, "a.png")
    (tmp_path / "manifest.csv").write_bytes("\ufeffpath, label\r\n\r\na.png, good\r\n".encode())
    assert labels(tmp_path) == {"a.png": "good"}


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (["path,label", "b.png,good"], "row 2: there is no file b.png"),
        (["path,label", "a.png,good", "../a.png,good"], r"row 3: ../a.png leaves the folder"),
        (["path,label", "/etc/passwd,good"], "row 2: /etc/passwd leaves the folder"),
        (["path,label,mask_path", "a.png,good,../m.png"], r"row 2: ../m.png leaves the folder"),
        (["path,label,mask_path", "a.png,defect,m.png"], "row 2: there is no file m.png"),
        (["path,label", "a.png,bad"], "row 2: the label 'bad' is neither"),
        (["path,label", "a.png,"], "row 2 has neither"),
        (["path,label", ",good"], "row 2 names no file"),
        (["path,label", "folder,good"], "row 2: there is no file folder"),
        (["path,label,defect_type", "a.png,good,dent"], "row 2: the label good contradicts"),
        (["path,label,defect_type", "a.png,defect,good"], "row 2: the label defect contradicts"),
        (["path,label", "", "a.png,good", "./a.png,good"], "row 4 names a.png again, after row 3"),
        (["path,label,split", "a.png,good,validation"], "row 2: the split 'validation'"),
        (["path,label", "a.png,good,extra"], "row 2 has 3 cells for 2 columns"),
        (["path,label", 'a.png,"good" x'], "row 2 is not CSV"),
        (["path;label", "a.png;good"], "needs the columns path and label"),
        (["path,label,label", "a.png,good,good"], "names a column twice"),
        ([""], "needs the columns"),
    ],
)
def test_manifest_mistakes_name_the_row(tmp_path: Path, rows: list[str], message: str) -> None:
    tree(tmp_path, "a.png", "folder/b.txt.png")
    manifest(tmp_path, *rows)
    with pytest.raises(DatasetError, match=message):
        scan(tmp_path)


def test_manifest_that_is_not_utf8(tmp_path: Path) -> None:
    tree(tmp_path, "a.png")
    (tmp_path / "manifest.csv").write_bytes(b"path,label,condition\na.png,good,dim\nb.png,good,tr\xfcb\n")
    with pytest.raises(DatasetError, match="row 3 is not UTF-8"):
        scan(tmp_path)


def test_changed_file_is_found_by_the_manifest(tmp_path: Path) -> None:
    tree(tmp_path, "a.png")
    manifest(tmp_path, "path,label,sha256", f"a.png,good,{sha256(tmp_path / 'a.png').upper()}")
    scan(tmp_path)
    image(tmp_path / "a.png", seed=99)
    with pytest.raises(DatasetChangedError, match=r"row 2: a.png") as caught:
        scan(tmp_path)
    assert caught.value.details == {"path": "a.png"}


def test_manifest_without_rows(tmp_path: Path) -> None:
    with pytest.raises(DatasetEmptyError):
        scan(manifest(tmp_path, "path,label"))


# --- folders that cannot be read -------------------------------------------------------------------------------------


def test_missing_empty_and_not_a_folder(tmp_path: Path) -> None:
    with pytest.raises(DatasetMissingError):
        scan(tmp_path / "absent")
    with pytest.raises(DatasetEmptyError):
        scan(tmp_path)
    with pytest.raises(DatasetError, match="not a folder"):
        scan(image(tmp_path / "a.png"))


def test_links_that_leave_the_folder_are_refused(tmp_path: Path) -> None:
    outside = image(tmp_path / "outside" / "secret.png")
    root = tree(tmp_path / "set", "good/a.png")
    link = root / "good" / "link.png"
    link.symlink_to(outside)
    with pytest.raises(DatasetError, match="leaves"):
        scan(root)
    manifest(root, "path,label", "good/link.png,good")
    with pytest.raises(DatasetError, match=r"row 2: good/link\.png leaves"):
        scan(root)


def test_links_to_folders_are_refused(tmp_path: Path) -> None:
    root = tree(tmp_path, "good/a.png")
    (root / "good" / "again").symlink_to(root / "good")
    with pytest.raises(DatasetError, match="link to another folder"):
        scan(root)


def test_mvtec_masks_may_not_leave_the_folder(tmp_path: Path) -> None:
    outside = image(tmp_path / "outside.png")
    root = tree(tmp_path / "set", "train/good/0.png", "test/hole/0.png")
    (root / "ground_truth" / "hole").mkdir(parents=True)
    (root / "ground_truth" / "hole" / "0_mask.png").symlink_to(outside)
    with pytest.raises(DatasetError, match="leaves"):
        scan(root)


# --- real data -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "count", "good"), [("magnetic_tile", 1065, 754), ("xsdd_steel", 1087, 0)])
def test_real_manifests(name: str, count: int, good: int) -> None:
    folder = real(name)
    items = scan(folder).items
    assert len(items) == count
    assert sum(item.label == "good" for item in items) == good
    with (folder / "manifest.csv").open(encoding="utf-8", newline="") as stream:
        rows = {row["path"]: row for row in csv.DictReader(stream)}
    for item in items:
        row = rows[item.path]
        assert (item.label, item.defect_type, item.split, item.group_id, item.condition, item.label_note) == tuple(
            row[name] for name in ("label", "defect_type", "split", "group_id", "condition", "label_note")
        )
        assert (item.mask_path or "") == row["mask_path"]
