"""A small data set of parts with masks, written by the tests that read it, and settings to learn it in seconds."""

from pathlib import Path

import numpy as np
from PIL import Image

from traceai.data import snapshot
from traceai.data.augment import Augmentation
from traceai.models.training_settings import TrainingSettings

SIDE = 48
HEADER = "path,label,defect_type,mask_path,split,group_id"


def write(
    root: Path,
    *,
    train: int = 36,
    val: int = 24,
    test: int = 0,
    good: bool = True,
    masks: bool = True,
    colour: bool = False,
) -> Path:
    """Noise with nothing ("good"), a dark square ("dent") or a bright bar ("scratch"), two images a group."""
    rng = np.random.default_rng(5)
    kinds = ("good", "dent", "scratch") if good else ("dent", "scratch")
    rows = [HEADER]
    for split, count in (("train", train), ("val", val), ("test", test)):
        for number in range(count):
            kind = kinds[number // 2 % len(kinds)]
            pixels = rng.normal(120, 12, (SIDE, SIDE))
            mask = np.zeros((SIDE, SIDE), np.uint8)
            row, column = rng.integers(2, SIDE - 14, 2)
            if kind == "dent":
                mask[row : row + 9, column : column + 9] = 255
            elif kind == "scratch":
                mask[row : row + 3, column : column + 12] = 255
            pixels += (mask > 0) * (-80 if kind == "dent" else 100)
            name = f"{split}{number:03d}"
            image = pixels.clip(0, 255).astype(np.uint8)
            Image.fromarray(np.dstack([image, image // 2, image]) if colour else image).save(_file(root, "img", name))
            masked = masks and kind != "good"
            if masked:
                Image.fromarray(mask).save(_file(root, "mask", name))
            label, defect_type = ("good", "") if kind == "good" else ("defect", kind)
            mask_path = f"mask/{name}.png" if masked else ""
            rows.append(f"img/{name}.png,{label},{defect_type},{mask_path},{split},{split}{number // 2}")
    (root / "manifest.csv").write_text("\n".join(rows) + "\n", encoding="utf-8")
    return root


def take(root: Path, **options: object) -> snapshot.Snapshot:
    return snapshot.take(write(root, **options), "parts")  # type: ignore[arg-type]  # passed on as they are


def settings(**changes: object) -> TrainingSettings:
    """A tiny network and few steps; deterministic, and good enough to tell the kinds apart."""
    small = {
        "steps": 60,
        "height": SIDE,
        "width": SIDE,
        "embedding_size": 8,
        "hidden_sizes": (8, 16),
        "depths": (1, 1),
        "batch_size": 12,
        "crop_batch_size": 12,
        "crop_side": 32,
        "crop_smallest": 0.6,
        "learning_rate": 1e-2,
        "averaging": 0.8,
        "augmentation": Augmentation(rotation=0.0),
        "threads": 1,
    }
    return TrainingSettings.model_validate({**small, **changes})


def _file(root: Path, folder: str, name: str) -> Path:
    (root / folder).mkdir(parents=True, exist_ok=True)
    return root / folder / f"{name}.png"
