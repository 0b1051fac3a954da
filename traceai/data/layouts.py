"""What a folder of images means: which are good, which show what defect, and what belongs together.

Three layouts are recognised, in this order:

- **manifest**: a `manifest.csv` in the folder, UTF-8, with the columns `path` and `label` (good or defect) or
  `defect_type`, and optionally `mask_path`, `split` (train, val or test), `group_id`, `condition`, `label_note` and
  `sha256`. Paths are relative to the folder. Other columns are ignored.
- **mvtec**: one category of MVTec AD: `train/good`, `test/good`, `test/<type>` and their masks,
  `ground_truth/<type>/<stem>_mask.png`. Its training images show no defects at all, for it was made for one-class
  methods; a classifier could not learn from it. The given split is therefore dropped, and the snapshot draws a new one.
- **classes**: a folder per class, optionally below `train`, `val` and `test`. The folders named `good`, `ok`, `normal`,
  `non_defective`, `free` or `pass` (in any case; exactly, no prefixes) hold good parts, unless the caller names the
  good one; all others are defect types.

Hidden files and files without an image's suffix are ignored. A file that says nothing of its group is a group of its
own, named by its SHA-256, so that copies of a file share one.
"""

import csv
import hashlib
import io
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Literal

from traceai.errors import DatasetChangedError, DatasetEmptyError, DatasetError, DatasetMissingError

Label = Literal["good", "defect"]
Split = Literal["train", "val", "test"]

SPLITS: tuple[Split, ...] = ("train", "val", "test")
GOOD_NAMES = frozenset({"good", "ok", "normal", "non_defective", "free", "pass"})
IMAGE_SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp", ".webp", ".pgm", ".ppm"})

# Folders that hold something about the images. As classes they would be learnt as defect types.
_NOT_CLASSES = frozenset({"mask", "masks", "ground_truth", "annotations", "labels", "images"})


@dataclass(frozen=True)
class Item:
    """One image of a data set. Paths are POSIX and relative to its folder.

    `defect_type` is empty for good parts, and `defect` for defects of no stated type. `split` is None where the layout
    gives none; `group_id` never is: images of one group (one part, one strip) must not straddle a split.
    """

    path: str
    label: Label
    defect_type: str
    mask_path: str | None
    split: Split | None
    group_id: str
    condition: str
    label_note: str


@dataclass(frozen=True)
class Layout:
    """A recognised folder; `items` are sorted by path."""

    kind: Literal["manifest", "mvtec", "classes"]
    root: Path
    items: tuple[Item, ...]


def scan(folder: str | Path, *, good: str | None = None) -> Layout:
    """Reads the layout of `folder`. Every image is hashed, none is decoded.

    Args:
        good: the one class folder, or `defect_type` of a manifest, that means a good part, in place of the usual names.

    Raises:
        DatasetMissingError: there is no such folder.
        DatasetEmptyError: it holds no images.
        DatasetChangedError: a file does not have the SHA-256 its manifest gives.
        DatasetError: the layout is not recognised, contradicts itself or leaves the folder.
    """
    given = Path(folder)
    if not given.exists():
        raise DatasetMissingError(f"There is no folder {given}; check the path.")
    if not given.is_dir():
        raise DatasetError(f"{given} is not a folder; give the folder that holds the images.")
    root = given.resolve()
    try:
        return _recognised(root, good)
    except OSError as error:
        raise DatasetError(f"{error.filename or root} cannot be read ({error.strerror}); check permissions.") from error


def file_sha256(file: Path) -> str:
    """SHA-256 of a file, in hex."""
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _recognised(root: Path, good: str | None) -> Layout:
    good_names = GOOD_NAMES if good is None else frozenset({good.lower()})
    if (root / "manifest.csv").is_file():
        kind: Literal["manifest", "mvtec", "classes"] = "manifest"
        items = list(_manifest(root, good_names))
    elif _is_mvtec(root):
        kind, items = "mvtec", list(_mvtec(root))
    else:
        kind, items = "classes", list(_classes(root, good_names))
        if good is not None and not any(item.label == "good" for item in items):
            raise DatasetError(f"No class folder in {root} is named {good!r}; name the one that holds the good parts.")
    if not items:
        raise DatasetEmptyError(f"No images were found in {root}; accepted are {', '.join(sorted(IMAGE_SUFFIXES))}.")
    return Layout(kind, root, tuple(sorted(items, key=lambda item: item.path)))


# --- folders ---------------------------------------------------------------------------------------------------------


def _folders(folder: Path) -> list[Path]:
    return sorted(entry for entry in folder.iterdir() if entry.is_dir() and not entry.name.startswith("."))


def _images(root: Path, folder: Path, *, deep: bool = True) -> Iterator[str]:
    """Paths, relative to `root`, of the images in `folder`.

    Links to files inside the root are files; links to folders are refused, for they can repeat images or never end.
    """
    for entry in sorted(folder.iterdir()):
        if entry.name.startswith("."):
            continue
        if entry.is_dir():
            if entry.is_symlink():
                raise DatasetError(f"{entry} is a link to another folder; copy the images in its place.")
            if deep:
                yield from _images(root, entry)
        elif entry.suffix.lower() in IMAGE_SUFFIXES:
            path = entry.relative_to(root).as_posix()
            _refuse_outside(root, path)
            try:
                path.encode()
            except UnicodeEncodeError as error:
                raise DatasetError(f"The file name {path!r} is not UTF-8; rename the file.") from error
            yield path


def _refuse_outside(root: Path, path: str) -> None:
    if not (root / path).resolve().is_relative_to(root):
        raise DatasetError(f"{path} is a link that leaves {root}; copy the file in its place.")


def _item(root: Path, path: str, defect_type: str, *, mask_path: str | None = None, split: Split | None = None) -> Item:
    label: Label = "defect" if defect_type else "good"
    return Item(path, label, defect_type, mask_path, split, file_sha256(root / path), "", "")


def _is_mvtec(root: Path) -> bool:
    names = {folder.name for folder in _folders(root)}
    if not {"train", "test"} <= names or "val" in names:
        return False
    return [folder.name for folder in _folders(root / "train")] == ["good"]


def _mvtec(root: Path) -> Iterator[Item]:
    for path in _images(root, root / "train" / "good"):
        yield _item(root, path, "")
    for folder in _folders(root / "test"):
        for path in _images(root, folder):
            mask = f"ground_truth/{folder.name}/{PurePosixPath(path).stem}_mask.png"
            _refuse_outside(root, mask)
            defect_type = "" if folder.name == "good" else folder.name
            yield _item(root, path, defect_type, mask_path=mask if (root / mask).is_file() else None)


def _classes(root: Path, good_names: frozenset[str]) -> Iterator[Item]:
    folders = _folders(root)
    categories = [folder.name for folder in folders if _is_mvtec(folder)]
    if categories:
        raise DatasetError(
            f"{root} holds categories of MVTec AD ({', '.join(categories)}), each a product of its own; "
            f"import one, such as {root / categories[0]}."
        )
    names = {folder.name for folder in folders}
    if "train" not in names:
        yield from _class_folders(root, root, good_names, None)
        return
    if not names <= set(SPLITS):
        raise DatasetError(
            f"Beside train, {root} holds {', '.join(sorted(names - set(SPLITS)))}; "
            "split folders are named train, val and test, and class folders lie within them."
        )
    _refuse_stray_images(root, root)
    for split in SPLITS:
        if split in names:
            yield from _class_folders(root, root / split, good_names, split)


def _class_folders(root: Path, folder: Path, good_names: frozenset[str], split: Split | None) -> Iterator[Item]:
    _refuse_stray_images(root, folder)
    for inner in _folders(folder):
        if inner.is_symlink():
            raise DatasetError(f"{inner} is a link to another folder; copy the images in its place.")
        is_good = inner.name.lower() in good_names
        for path in _images(root, inner):
            if inner.name.lower() in _NOT_CLASSES:
                raise DatasetError(
                    f"{inner} looks like a folder of images or masks rather than a class; "
                    "describe the images in a manifest.csv."
                )
            yield _item(root, path, "" if is_good else inner.name, split=split)


def _refuse_stray_images(root: Path, folder: Path) -> None:
    for path in _images(root, folder, deep=False):
        raise DatasetError(
            f"{path} lies outside any class folder; move it into one, or describe the images in a manifest.csv."
        )


# --- manifest.csv ----------------------------------------------------------------------------------------------------


def _manifest(root: Path, good_names: frozenset[str]) -> Iterator[Item]:
    seen: dict[str, int] = {}
    for number, row in _rows(root / "manifest.csv"):
        item = _manifest_item(root, number, row, good_names)
        if item.path in seen:
            raise DatasetError(f"manifest.csv row {number} names {item.path} again, after row {seen[item.path]}.")
        seen[item.path] = number
        yield item


def _rows(file: Path) -> Iterator[tuple[int, dict[str, str]]]:
    """Every row with its line number; the header is row 1."""
    data = file.read_bytes()
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        number = data[: error.start].count(b"\n") + 1
        raise DatasetError(f"manifest.csv row {number} is not UTF-8; save the file as UTF-8.") from error
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    try:
        columns = [name.strip() for name in next(reader, [])]
        _check_columns(columns)
        for cells in reader:
            if not cells:
                continue
            if len(cells) != len(columns):
                raise DatasetError(
                    f"manifest.csv row {reader.line_num} has {len(cells)} cells for {len(columns)} columns; "
                    "put quotes around cells that contain commas."
                )
            yield reader.line_num, {name: cell.strip() for name, cell in zip(columns, cells, strict=True)}
    except csv.Error as error:
        raise DatasetError(f"manifest.csv row {reader.line_num} is not CSV ({error}); export it again.") from error


def _check_columns(columns: list[str]) -> None:
    if "path" not in columns or not {"label", "defect_type"} & set(columns):
        raise DatasetError(
            "manifest.csv needs the columns path and label or defect_type, separated by commas; "
            f"its first row reads {', '.join(columns) or 'nothing'!r}."
        )
    if len(set(columns)) != len(columns):
        raise DatasetError("manifest.csv names a column twice; rename or remove one of them.")


def _manifest_item(root: Path, number: int, row: dict[str, str], good_names: frozenset[str]) -> Item:
    path = _inside(root, number, row["path"])
    mask = row.get("mask_path", "")
    split = row.get("split", "")
    if split and split not in SPLITS:
        raise DatasetError(f"manifest.csv row {number}: the split {split!r} is not train, val or test.")
    label, defect_type = _label(number, row.get("label", ""), row.get("defect_type", ""), good_names)
    expected, group = row.get("sha256", "").lower(), row.get("group_id", "")
    if expected or not group:
        actual = file_sha256(root / path)
        if expected and actual != expected:
            raise DatasetChangedError(
                f"manifest.csv row {number}: {path} does not have the SHA-256 given; "
                "the file or the manifest was changed, restore the one that is wrong.",
                path=path,
            )
        group = group or actual
    return Item(
        path=path,
        label=label,
        defect_type=defect_type,
        mask_path=_inside(root, number, mask) if mask else None,
        split=split or None,
        group_id=group,
        condition=row.get("condition", ""),
        label_note=row.get("label_note", ""),
    )


def _label(number: int, label: str, defect_type: str, good_names: Iterable[str]) -> tuple[Label, str]:
    named_good = defect_type.lower() in good_names
    if not label:
        if not defect_type:
            raise DatasetError(f"manifest.csv row {number} has neither a label nor a defect_type; give one.")
        label = "good" if named_good else "defect"
    if label not in ("good", "defect"):
        raise DatasetError(f"manifest.csv row {number}: the label {label!r} is neither good nor defect.")
    if defect_type and named_good != (label == "good"):
        raise DatasetError(
            f"manifest.csv row {number}: the label {label} contradicts the defect_type {defect_type!r}; correct one."
        )
    return ("good", "") if label == "good" else ("defect", defect_type or "defect")


def _inside(root: Path, number: int, path: str) -> str:
    """`path` in its normal form, if it names a file within `root`."""
    relative = PurePosixPath(path)
    if not path or "\0" in path:
        raise DatasetError(f"manifest.csv row {number} names no file; fill in its path.")
    if relative.is_absolute() or ".." in relative.parts or not (root / relative).resolve().is_relative_to(root):
        raise DatasetError(
            f"manifest.csv row {number}: {path} leaves the folder of the data set; "
            "paths are relative to it and stay within it."
        )
    if not (root / relative).is_file():
        raise DatasetError(f"manifest.csv row {number}: there is no file {path} in {root}; restore it or drop the row.")
    return relative.as_posix()
