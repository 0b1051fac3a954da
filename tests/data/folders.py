"""Small data sets on disk, written by the tests that read them."""

import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

REAL = Path(os.environ.get("TRACEAI_TEST_DATA", Path(__file__).parents[3] / "shared" / "datasets"))


def real(name: str) -> Path:
    """The folder of a real data set; the test is skipped where it is absent."""
    if not (REAL / name / "manifest.csv").is_file():
        pytest.skip(f"the data set {name} is not in {REAL}; set TRACEAI_TEST_DATA")
    return REAL / name


def image(path: Path, seed: int = 0, size: tuple[int, int] = (6, 4)) -> Path:
    """Writes noise that depends on `seed` alone; `size` is width and height."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (size[1], size[0]), dtype=np.uint8)
    Image.fromarray(pixels).save(path)
    return path


def tree(root: Path, *paths: str) -> Path:
    """Different images at `paths`."""
    for seed, path in enumerate(paths, start=1):
        image(root / path, seed)
    return root


def manifest(root: Path, *rows: str) -> Path:
    (root / "manifest.csv").write_text("\n".join(rows) + "\n", encoding="utf-8")
    return root
