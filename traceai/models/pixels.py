"""Images and masks of a snapshot in memory, resized once: what training and evaluation read from."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import PurePosixPath

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from traceai.data.snapshot import Files, SnapshotItem
from traceai.images.decode import decode
from traceai.images.preprocess import Preprocessing

_THREADS = 2
_MASK_THRESHOLD = 127


@dataclass(frozen=True, slots=True)
class Pixels:
    """Resized images with what is known about them.

    Attributes:
        images: uint8 (N, C, H, W).
        masks: uint8 (N, 1, H, W), 0 or 255 with soft edges; zero where there is no mask.
        labels: int64 (N,), class numbers.
        located: bool (N,): every defect in the image is in its mask; true of good parts, false of defects without one.
    """

    images: Tensor
    masks: Tensor
    labels: Tensor
    located: Tensor

    def __len__(self) -> int:
        return len(self.labels)


def read(items: Sequence[SnapshotItem], files: Files, preprocessing: Preprocessing, classes: Sequence[str]) -> Pixels:
    """Decode and resize as `preprocessing` declares; masks are resized by area.

    Raises:
        DatasetChangedError: a file has other bytes than when the snapshot was taken.
        ImageError: a file cannot be decoded.
    """
    raw = preprocessing.model_copy(
        update={"mean": ("0",) * preprocessing.channels, "std": ("1",) * preprocessing.channels}
    )
    for_masks = preprocessing.model_copy(update={"channels": 1, "interpolation": "box", "mean": ("0",), "std": ("1",)})

    def one(item: SnapshotItem) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint8]]:
        image = _bytes(raw.apply(decode(files.read(item.path, item.sha256)).pixels))
        if item.mask_path is None or item.mask_sha256 is None:
            return image, np.zeros((1, *image.shape[1:]), np.uint8)
        mask = decode(files.read(item.mask_path, item.mask_sha256)).pixels
        mask = mask if mask.ndim == 2 else mask.max(axis=2)
        return image, _bytes(for_masks.apply(np.where(mask > _MASK_THRESHOLD, 255, 0).astype(np.uint8)))

    with ThreadPoolExecutor(_THREADS) as pool:
        pairs = list(pool.map(one, items))
    images = torch.from_numpy(np.stack([image for image, _ in pairs]))
    masks = torch.from_numpy(np.stack([mask for _, mask in pairs]))
    good = torch.tensor([item.label == "good" for item in items])
    return Pixels(
        images=images,
        masks=masks,
        labels=torch.tensor([classes.index(item.class_name) for item in items]),
        located=good | (masks > _MASK_THRESHOLD).flatten(1).any(dim=1),
    )


def is_grey(items: Sequence[SnapshotItem], files: Files) -> bool:
    """Whether the images are greyscale files: the first of each folder decides for the folder."""
    first = {PurePosixPath(item.path).parent: item for item in reversed(items)}
    return all(decode(files.read(item.path, item.sha256)).pixels.ndim == 2 for item in first.values())


def statistics(images: Tensor) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Mean and standard deviation per channel of uint8 (N, C, H, W), on the scale 0..1, as four-digit decimals."""
    histograms = [torch.bincount(images[:, c].flatten().int(), minlength=256).double() for c in range(images.shape[1])]
    levels = torch.arange(256, dtype=torch.float64) / 255
    means = [float((h * levels).sum() / h.sum()) for h in histograms]
    spreads = [
        float(((h * (levels - mean) ** 2).sum() / h.sum()).sqrt()) for h, mean in zip(histograms, means, strict=True)
    ]
    # An image of one level only has no spread; it must still be possible to divide by it.
    return tuple(f"{mean:.4f}" for mean in means), tuple(f"{max(spread, 0.01):.4f}" for spread in spreads)


def _bytes(unit: npt.NDArray[np.float32]) -> npt.NDArray[np.uint8]:
    """The inverse of division by 255: exact, because there are only 256 values."""
    return np.rint(unit * 255).astype(np.uint8)
