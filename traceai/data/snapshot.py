"""A data set as it was on one day: every image by its hash, with its label, its group and its split.

A model version refers to its data by the snapshot's digest. The digest covers what training depends on and nothing
else: it is the same in another folder, in another order and under another name.

## The digest (normative)

SHA-256, in hex, of the canonical JSON (RFC 8785) of

    {"schema": "traceai-snapshot/1",
     "items": [{"path", "sha256", "label", "defect_type", "split", "group_id", "mask_sha256"}, ...]}

where the items are sorted by path, code point by code point, all values are strings, and `mask_sha256` is null where
there is no mask. Conditions and notes are remarks; sizes and pixel hashes follow from the bytes. Unreadable images
are no part of it, for they are no part of the training either.
"""

import hashlib
import os
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol

import rfc8785

from traceai.data.layouts import SPLITS, Item, Label, Split, scan
from traceai.data.splits import Member, assign, merged_groups, straddling
from traceai.errors import DatasetChangedError, DatasetEmptyError, DatasetError, ImageError
from traceai.images.decode import DEFAULT_LIMITS, DecodedImage, Limits, decode, identify, read_file

NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")


@dataclass(frozen=True)
class SnapshotItem:
    """One readable image: the fields of `Item`, the hashes of its bytes, pixels and mask, and its upright size.

    `split` is always set. `group_id` may be another than the layout's: groups that share a picture are one.
    """

    path: str
    label: Label
    defect_type: str
    mask_path: str | None
    split: Split
    group_id: str
    condition: str
    label_note: str
    sha256: str
    pixel_sha256: str
    width: int
    height: int
    mask_sha256: str | None

    @property
    def class_name(self) -> str:
        """`good` or the defect type."""
        return self.defect_type or "good"


@dataclass(frozen=True)
class Unreadable:
    """An image or mask that was left out, and why; an image whose mask was left out stays."""

    path: str
    code: str
    message: str


@dataclass(frozen=True)
class Leak:
    """Something the data set came with that makes its rates too good, or its labels doubtful.

    - `group`: one group in several splits.
    - `pixels`: one picture in several splits.
    - `labels`: one picture under several labels or defect types.
    """

    kind: Literal["group", "pixels", "labels"]
    splits: tuple[Split, ...]
    paths: tuple[str, ...]


class Files(Protocol):
    """Where the bytes of a snapshot's files come from."""

    def read(self, path: str, sha256: str) -> bytes:
        """The bytes of `path` as they were when the snapshot was taken.

        Raises:
            DatasetChangedError: it is gone, or its digest is no longer `sha256`.
        """


@dataclass(frozen=True)
class Folder:
    """Files below a folder."""

    root: Path

    def read(self, path: str, sha256: str) -> bytes:
        try:
            data = read_file(self.root / path)
        except ImageError as error:
            raise DatasetChangedError(
                f"{path} can no longer be read in {self.root}; restore it or take a new snapshot.", path=path
            ) from error
        if identify(data) != sha256:
            raise DatasetChangedError(
                f"{path} is no longer the file of the snapshot; restore it or take a new snapshot.", path=path
            )
        return data


@dataclass(frozen=True)
class Snapshot:
    """A data set and its digest; `items` are sorted by path. `files`, where their bytes are, is no part of the digest."""

    name: str
    files: Files
    items: tuple[SnapshotItem, ...]
    digest: str
    unreadable: tuple[Unreadable, ...]
    leaks: tuple[Leak, ...]

    def classes(self) -> tuple[str, ...]:
        """`good`, if there are good parts, then the defect types in order."""
        types = sorted({item.defect_type for item in self.items if item.label == "defect"})
        return ("good", *types) if any(item.label == "good" for item in self.items) else tuple(types)

    def counts(self) -> dict[Split, dict[str, int]]:
        """Images by split and class; every class occurs in every split, with 0 where it has none."""
        found = Counter((item.split, item.class_name) for item in self.items)
        return {split: {name: found[split, name] for name in self.classes()} for split in SPLITS}


def take(
    folder: str | Path,
    name: str,
    *,
    good: str | None = None,
    progress: Callable[[int, int], None] | None = None,
    limits: Limits = DEFAULT_LIMITS,
) -> Snapshot:
    """Reads, hashes and decodes every image of a folder in one of the recognised layouts (see `layouts`).

    Images that cannot be decoded do not stop the import: they are listed in `unreadable` and left out. Where the layout
    gives no split, one is drawn (see `splits`). Where it does, it is kept, and what it leaks is listed in `leaks`.

    Args:
        name: of the snapshot: lower-case letters, digits, `.`, `_` and `-`, 1 to 64 of them, a letter or digit first.
        good: the one class name that means a good part, in place of the usual names.
        progress: called in this thread with the number of images done and their total.

    Raises:
        DatasetMissingError, DatasetEmptyError, DatasetChangedError, DatasetError: as `layouts.scan`; empty also means
            that no image is readable.
    """
    if not NAME.fullmatch(name):
        raise DatasetError(
            f"{name!r} is no name for a snapshot; use 1 to 64 lower-case letters, digits, '.', '_' and '-', "
            "beginning with a letter or digit."
        )
    layout = scan(folder, good=good)
    readable: list[_Decoded] = []
    unreadable: list[Unreadable] = []
    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
        results = pool.map(lambda item: _decoded(layout.root, item, limits), layout.items)
        for done, (decoded, problems) in enumerate(results, start=1):
            unreadable.extend(problems)
            if decoded is not None:
                readable.append(decoded)
            if progress is not None:
                progress(done, len(layout.items))
    if not readable:
        first = unreadable[0]
        raise DatasetEmptyError(
            f"None of the {len(layout.items)} images in {layout.root} can be read; {first.path}: {first.message}"
        )
    items = _with_splits(readable)
    return Snapshot(name, Folder(layout.root), items, digest(items), tuple(unreadable), tuple(_leaks(readable, items)))


def digest(items: Iterable[SnapshotItem]) -> str:
    """The digest of a snapshot, in hex, as this module's docstring defines it; the order of `items` does not matter."""
    rows: list[dict[str, str | None]] = [
        {
            "path": item.path,
            "sha256": item.sha256,
            "label": item.label,
            "defect_type": item.defect_type,
            "split": item.split,
            "group_id": item.group_id,
            "mask_sha256": item.mask_sha256,
        }
        for item in sorted(items, key=lambda item: item.path)
    ]
    return hashlib.sha256(rfc8785.dumps({"schema": "traceai-snapshot/1", "items": rows})).hexdigest()


@dataclass(frozen=True)
class _Decoded:
    item: Item
    mask_path: str | None
    mask_sha256: str | None
    sha256: str
    pixel_sha256: str
    width: int
    height: int


def _decoded(root: Path, item: Item, limits: Limits) -> tuple[_Decoded | None, list[Unreadable]]:
    try:
        image = decode(read_file(root / item.path, limits), limits)
    except ImageError as error:
        return None, [Unreadable(item.path, error.code, error.message)]
    problems: list[Unreadable] = []
    mask_path = mask_sha256 = None
    if item.mask_path is not None:
        problem, mask_sha256 = _mask(root, item.mask_path, image, limits)
        if problem is None:
            mask_path = item.mask_path
        else:
            problems.append(problem)
    decoded = _Decoded(item, mask_path, mask_sha256, image.sha256, image.pixel_sha256, image.width, image.height)
    return decoded, problems


def _mask(root: Path, path: str, image: DecodedImage, limits: Limits) -> tuple[Unreadable | None, str | None]:
    try:
        data = read_file(root / path, limits)
        mask = decode(data, limits)
    except ImageError as error:
        return Unreadable(path, error.code, error.message), None
    if (mask.width, mask.height) != (image.width, image.height):
        message = (
            f"The mask has {mask.width} x {mask.height} pixels and its image {image.width} x {image.height}; "
            "export it again."
        )
        return Unreadable(path, "mask-size", message), None
    return None, identify(data)


def _with_splits(readable: list[_Decoded]) -> tuple[SnapshotItem, ...]:
    groups = merged_groups([one.item.group_id for one in readable], [one.pixel_sha256 for one in readable])
    drawn = assign(
        Member(group, one.item.defect_type, one.item.split) for group, one in zip(groups, readable, strict=True)
    )
    return tuple(
        SnapshotItem(
            path=one.item.path,
            label=one.item.label,
            defect_type=one.item.defect_type,
            mask_path=one.mask_path,
            split=one.item.split or drawn[group],
            group_id=group,
            condition=one.item.condition,
            label_note=one.item.label_note,
            sha256=one.sha256,
            pixel_sha256=one.pixel_sha256,
            width=one.width,
            height=one.height,
            mask_sha256=one.mask_sha256,
        )
        for group, one in zip(groups, readable, strict=True)
    )


def _leaks(readable: list[_Decoded], items: tuple[SnapshotItem, ...]) -> Iterator[Leak]:
    """Groups are judged by the layout's own ids: one that was merged is reported by the picture that joined it."""
    splits = [item.split for item in items]
    kinds: tuple[tuple[Literal["group", "pixels"], list[str]], ...] = (
        ("group", [one.item.group_id for one in readable]),
        ("pixels", [item.pixel_sha256 for item in items]),
    )
    for kind, keys in kinds:
        for key, found in straddling(keys, splits).items():
            yield Leak(kind, found, tuple(item.path for item, own in zip(items, keys, strict=True) if own == key))
    pictures: defaultdict[str, list[SnapshotItem]] = defaultdict(list)
    for item in items:
        pictures[item.pixel_sha256].append(item)
    for same in pictures.values():
        if len({item.class_name for item in same}) > 1:
            present = {item.split for item in same}
            yield Leak("labels", tuple(s for s in SPLITS if s in present), tuple(item.path for item in same))
