"""A folder of synthetic parts with masks, splits and a manifest, the same bytes for the same seed."""

import csv
import hashlib
import math
import multiprocessing
import shutil
import tempfile
from collections.abc import Callable, Generator, Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Final

import numpy as np
import numpy.typing as npt
from PIL import Image

from traceai.data.synth.defects import DEFECTS
from traceai.data.synth.draw import PRODUCTS, draw_part
from traceai.data.synth.scene import Scene
from traceai.errors import AlreadyExistsError, InputError, UnavailableError

COLUMNS: Final = (
    "path", "label", "defect_type", "mask_path", "split", "group_id", "condition", "label_note", "sha256",
)  # fmt: skip
SPLITS: Final[Mapping[str, float]] = MappingProxyType({"train": 0.6, "val": 0.2, "test": 0.2})

_LIGHTING_LEVELS: Final = 5
_FAINT: Final = 0.08  # severity below which a reviewer may well call the part good
_POOL_FROM: Final = 48  # parts; fewer are drawn sooner than worker processes start


@dataclass(frozen=True)
class _Order:
    """One part to be made."""

    index: int
    seed: np.random.SeedSequence
    product: str
    defect: str | None
    split: str
    scene: Scene

    @property
    def name(self) -> str:
        return f"part-{self.index:06d}.png"


def write_dataset(
    folder: Path,
    *,
    count: int,
    seed: int,
    defect_rate: float = 0.3,
    scene: Scene | None = None,
    lighting_spread: float = 0.0,
    camera_jitter: float = 0.0,
    splits: Mapping[str, float] | None = SPLITS,
    workers: int = 2,
    progress: Callable[[int, int], None] | None = None,
) -> Path:
    """Write `count` parts, one image each, as `images/*.png`, `masks/*.png` and `manifest.csv`.

    The same arguments give the same bytes, whatever the number of workers. Each split holds every kind of defect in
    the same proportions. The folder appears complete or not at all: it is made beside its final place and renamed.

    Args:
        folder: Where to; must not exist, or be empty.
        count: Number of parts, at least 1.
        seed: Not negative.
        defect_rate: Share of defective parts, 0 to 1; the kinds are equally frequent.
        scene: The camera station; `Scene()` when None.
        lighting_spread: Each part's lighting is one of five levels evenly spaced over `lighting * (1 ± spread)`;
            the level is the manifest's `condition`, such as `lighting_1.00`.
        camera_jitter: Each part's camera angle is uniform within this many degrees of the scene's.
        splits: Share of each split, summing to 1; None leaves the column empty.
        workers: Processes to draw with. More than one needs a guarded main module (`if __name__ == "__main__"`),
            as the standard library's spawned processes do.
        progress: Called after each part with (parts done, count).

    Returns:
        The folder.

    Raises:
        InputError: An argument outside its limits, or too few parts for every split to hold every kind of defect.
        AlreadyExistsError: The folder exists and is not empty.
        UnavailableError: Worker processes could not be started.
    """
    _check("count", count, 1, 1_000_000)
    _check("seed", seed, 0, 2**63)
    _check("defect_rate", defect_rate, 0, 1)
    _check("lighting_spread", lighting_spread, 0, 0.9)
    _check("camera_jitter", camera_jitter, 0, 45)
    _check("workers", workers, 1, 64)
    shares = _check_splits(splits)
    planning, *seeds = np.random.SeedSequence(seed).spawn(count + 1)
    rng = np.random.default_rng(planning)
    orders = []
    for index, (product, defect, split) in enumerate(_assign(rng, count, defect_rate, shares)):
        own = _vary(rng, scene or Scene(), lighting_spread, camera_jitter)
        orders.append(_Order(index, seeds[index], product, defect, split, own))
    with _made_aside(Path(folder)) as aside:
        (aside / "images").mkdir()
        (aside / "masks").mkdir()
        with (
            (aside / "manifest.csv").open("w", encoding="utf-8", newline="") as file,
            closing(_produce(orders, aside, workers)) as rows,  # workers have stopped before `aside` is removed
        ):
            manifest = csv.writer(file, lineterminator="\n")
            manifest.writerow(COLUMNS)
            for done, row in enumerate(rows, start=1):
                manifest.writerow(row)
                if progress is not None:
                    progress(done, count)
    return Path(folder)


def _check(name: str, value: float, low: float, high: float) -> None:
    if not low <= value <= high:
        raise InputError(f"{name} must lie between {low:g} and {high:g}, not {value!r}.")


def _check_splits(splits: Mapping[str, float] | None) -> dict[str, float]:
    if splits is None:
        return {"": 1.0}
    shares = dict(splits)
    if not shares or not all(name and share > 0 for name, share in shares.items()):
        raise InputError("splits must name at least one split, each with a share above 0.")
    if not math.isclose(sum(shares.values()), 1, abs_tol=1e-6):
        raise InputError(f"The shares in splits must sum to 1, not {sum(shares.values()):g}.")
    return shares


def _assign(
    rng: np.random.Generator, count: int, defect_rate: float, shares: dict[str, float]
) -> list[tuple[str, str | None, str]]:
    """Every part's product, defect and split, in random order; stratified by kind, products alternating."""
    defective = round(count * defect_rate)
    fewest = defective // len(DEFECTS)
    if defective and fewest < len(shares):
        needed = math.ceil(len(DEFECTS) * len(shares) / defect_rate)
        raise InputError(
            f"{count} parts at a defect rate of {defect_rate:g} cannot put each of {len(DEFECTS)} kinds of defect into "
            f"each of {len(shares)} splits; ask for at least {needed} parts."
        )
    extra = set(rng.permutation(len(DEFECTS))[: defective % len(DEFECTS)].tolist())
    strata: list[tuple[str | None, int]] = [(kind, fewest + (k in extra)) for k, kind in enumerate(DEFECTS)]
    strata.append((None, count - defective))
    made: list[tuple[str, str | None, str]] = []
    for defect, size in strata:
        first = int(rng.integers(len(PRODUCTS)))
        names = [name for name, quota in _quotas(size, shares).items() for _ in range(quota)]
        for k, place in enumerate(rng.permutation(size).tolist()):
            made.append((PRODUCTS[(first + k) % len(PRODUCTS)], defect, names[place]))
    return [made[place] for place in rng.permutation(count).tolist()]


def _vary(rng: np.random.Generator, scene: Scene, lighting_spread: float, camera_jitter: float) -> Scene:
    """One part's scene."""
    level = 2 * int(rng.integers(_LIGHTING_LEVELS)) / (_LIGHTING_LEVELS - 1) - 1
    tilt = scene.camera_angle + rng.uniform(-camera_jitter, camera_jitter)
    return replace(
        scene, lighting=scene.lighting * (1 + lighting_spread * level), camera_angle=min(max(tilt, 0.0), 45.0)
    )


def _quotas(size: int, shares: dict[str, float]) -> dict[str, int]:
    """Largest-remainder apportionment of `size`, at least one to each split where `size` allows."""
    quotas = {name: int(size * share + 1e-9) for name, share in shares.items()}
    by_remainder = sorted(shares, key=lambda name: quotas[name] - size * shares[name])
    for name in by_remainder[: size - sum(quotas.values())]:
        quotas[name] += 1
    for name in shares:
        if not quotas[name] and size >= len(shares):
            quotas[max(quotas, key=lambda other: quotas[other])] -= 1
            quotas[name] += 1
    return quotas


def _produce(orders: list[_Order], folder: Path, workers: int) -> Generator[tuple[str, ...], None, None]:
    """Draw and save every part; manifest rows in the order given."""
    make = partial(_make, folder=folder)
    if workers == 1 or len(orders) < _POOL_FROM:
        yield from map(make, orders)
        return
    with ProcessPoolExecutor(workers, mp_context=multiprocessing.get_context("spawn")) as pool:
        try:
            yield from pool.map(make, orders, chunksize=4)
        except BrokenProcessPool as error:
            raise UnavailableError(
                'Drawing processes could not be kept running; guard the main module with if __name__ == "__main__", '
                "or pass workers=1."
            ) from error
        finally:
            pool.shutdown(cancel_futures=True)


def _make(order: _Order, folder: Path) -> tuple[str, ...]:
    """Draw one part, save its image and mask, and return its manifest row."""
    part = draw_part(np.random.default_rng(order.seed), product=order.product, defect=order.defect, scene=order.scene)
    image = Path("images") / order.name
    mask = Path("masks") / order.name
    digest = _save(part.pixels, folder / image)
    note = ""
    if part.defect is not None:
        _save(part.mask, folder / mask)
        note = f"faint: severity {part.severity:.2f}" if part.severity is not None and part.severity < _FAINT else ""
    return (
        image.as_posix(),
        "good" if part.defect is None else "defect",
        part.defect or "",
        "" if part.defect is None else mask.as_posix(),
        order.split,
        f"{order.product}-{order.index:06d}",
        f"lighting_{order.scene.lighting:.2f}",
        note,
        digest,
    )


def _save(pixels: npt.NDArray[np.uint8], path: Path) -> str:
    """Write a PNG and return the SHA-256 of its bytes in hexadecimal."""
    Image.fromarray(pixels).save(path, format="PNG", compress_level=1)
    return hashlib.sha256(path.read_bytes()).hexdigest()


@contextmanager
def _made_aside(folder: Path) -> Iterator[Path]:
    """A new directory that becomes `folder` when the block succeeds and vanishes when it does not."""
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise AlreadyExistsError(f"{folder} already holds something; name a new or empty folder.")
    folder.parent.mkdir(parents=True, exist_ok=True)
    scratch = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
    try:
        aside = scratch / folder.name
        aside.mkdir()
        yield aside
        if folder.is_dir():
            folder.rmdir()
        aside.rename(folder)
    finally:
        shutil.rmtree(scratch)
