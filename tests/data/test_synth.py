import csv
import hashlib
import math
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from scipy import ndimage

from traceai.data.synth import COLUMNS, DEFECTS, PRODUCTS, SPLITS, Part, Scene, draw_part, write_dataset
from traceai.errors import AlreadyExistsError, InputError

FIELD_OF_VIEW = 86.0  # mm, at camera angle 0
SMALL = Scene(size=96, camera_angle=0.0)


def draw(seed: int, product: str, defect: str | None, scene: Scene = SMALL, severity: float | None = None) -> Part:
    return draw_part(np.random.default_rng(seed), product=product, defect=defect, scene=scene, severity=severity)


def change(one: Part, other: Part) -> npt.NDArray[np.int64]:
    difference: npt.NDArray[np.int64] = np.abs(one.pixels.astype(np.int64) - other.pixels).max(axis=2)
    return difference


# --- one part --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("product", PRODUCTS)
def test_the_same_generator_state_draws_the_same_part(product: str) -> None:
    one, two, other = draw(3, product, "dent"), draw(3, product, "dent"), draw(4, product, "dent")
    assert np.array_equal(one.pixels, two.pixels)
    assert np.array_equal(one.mask, two.mask)
    assert one.severity == two.severity
    assert not np.array_equal(one.pixels, other.pixels)


def test_a_generator_moves_on_from_part_to_part() -> None:
    rng = np.random.default_rng(0)
    first, second = (draw_part(rng, product=PRODUCTS[0], defect=None, scene=SMALL) for _ in range(2))
    assert not np.array_equal(first.pixels, second.pixels)


@pytest.mark.parametrize("product", PRODUCTS)
def test_a_good_part_has_an_empty_mask_and_no_severity(product: str) -> None:
    part = draw(1, product, None)
    assert part.pixels.shape == (96, 96, 3)
    assert part.pixels.dtype == part.mask.dtype == np.uint8
    assert not part.mask.any()
    assert part.defect is None
    assert part.severity is None


@settings(deadline=None, max_examples=25)
@given(
    seed=st.integers(0, 2**32),
    product=st.sampled_from(PRODUCTS),
    defect=st.sampled_from(DEFECTS),
    severity=st.floats(0, 1),
    camera_angle=st.floats(0, 45),
)
def test_a_defect_changes_its_mask_and_nothing_else(
    seed: int, product: str, defect: str, severity: float, camera_angle: float
) -> None:
    scene = Scene(size=160, camera_angle=camera_angle, noise=float(seed % 2))
    part, twin = draw(seed, product, defect, scene, severity), draw(seed, product, None, scene)
    assert set(np.unique(part.mask)) == {0, 255}
    optics = ndimage.binary_dilation(part.mask > 0, np.ones((3, 3), dtype=bool), iterations=3)
    assert not change(part, twin)[~optics].any()


@pytest.mark.parametrize("product", PRODUCTS)
@pytest.mark.parametrize("defect", DEFECTS)
@pytest.mark.parametrize("severity", [0.1, 0.9])
def test_every_kind_can_be_seen_inside_its_mask(product: str, defect: str, severity: float) -> None:
    scene = Scene(size=224, noise=0)
    for seed in range(2):
        part, twin = draw(seed, product, defect, scene, severity), draw(seed, product, None, scene)
        inside = change(part, twin)[part.mask > 0]
        assert inside.size >= 8
        assert np.percentile(inside, 85) >= 8


@pytest.mark.parametrize("defect", [kind for kind in DEFECTS if kind != "missing_component"])
def test_severity_enlarges_a_defect(defect: str) -> None:
    area = {
        severity: sum(np.count_nonzero(draw(seed, "plate-b", defect, SMALL, severity).mask) for seed in range(6))
        for severity in (0.0, 1.0)
    }
    assert area[1.0] > 1.5 * area[0.0]


def test_the_mask_of_a_missing_screw_is_its_counterbore() -> None:
    scene = Scene(size=256, camera_angle=0.0)
    mask = draw(5, "flange-a", "missing_component", scene, 1.0).mask > 0
    pixel = FIELD_OF_VIEW / scene.size
    assert np.count_nonzero(mask) * pixel**2 == pytest.approx(math.pi * 4.35**2, rel=0.05)
    rows, columns = np.nonzero(mask)
    assert np.ptp(rows) + 1 == pytest.approx(2 * 4.35 / pixel, abs=2)
    assert np.ptp(columns) + 1 == pytest.approx(2 * 4.35 / pixel, abs=2)


def test_masks_are_foreshortened_with_the_picture() -> None:
    upright, tilted = (
        draw(5, "flange-a", "missing_component", Scene(size=256, camera_angle=angle), 1.0).mask for angle in (0.0, 40.0)
    )
    height = [np.ptp(np.nonzero(mask)[0]) + 1 for mask in (upright, tilted)]
    width = [np.ptp(np.nonzero(mask)[1]) + 1 for mask in (upright, tilted)]
    assert height[1] / height[0] == pytest.approx(math.cos(math.radians(40)), abs=0.12)
    assert width[1] / width[0] == pytest.approx(1, abs=0.12)


# --- the scene -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("product", PRODUCTS)
def test_more_light_makes_a_brighter_picture(product: str) -> None:
    means = [draw(2, product, None, replace(SMALL, lighting=level)).pixels.mean() for level in (0.5, 1.0, 1.6)]
    assert means[0] + 10 < means[1] < means[2] - 10


def test_more_noise_leaves_a_larger_residual() -> None:
    clean = draw(2, "plate-b", None, replace(SMALL, noise=0))
    residuals = [change(draw(2, "plate-b", None, replace(SMALL, noise=level)), clean).mean() for level in (0, 1, 3)]
    assert residuals[0] == 0
    assert residuals[0] + 1 < residuals[1]
    assert 2 * residuals[1] < residuals[2]


def test_the_shadow_falls_away_from_the_light() -> None:
    for angle, side in ((0.0, 1), (180.0, -1)):
        picture = draw(2, "plate-b", None, replace(SMALL, light_angle=angle, noise=0)).pixels.mean(axis=2)
        right, left = picture[40:56, -8:].mean(), picture[40:56, :8].mean()
        assert side * (right - left) > 3


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("size", 32),
        ("size", 4096),
        ("size", 100.5),
        ("lighting", 0.0),
        ("lighting", math.nan),
        ("light_angle", 400.0),
        ("camera_angle", -1.0),
        ("camera_angle", 60.0),
        ("noise", -0.1),
    ],
)
def test_a_scene_beyond_its_limits_is_refused_by_name(field: str, value: float) -> None:
    with pytest.raises(InputError, match=field):
        Scene(**{field: value})  # type: ignore[arg-type]  # wrong values are the point


@pytest.mark.parametrize(
    ("product", "defect", "severity", "message"),
    [
        ("gear-c", None, None, "gear-c.*flange-a"),
        ("flange-a", "smudge", None, "smudge.*scratch"),
        ("flange-a", "dent", 1.5, "between 0 and 1"),
        ("flange-a", "dent", math.nan, "between 0 and 1"),
        ("flange-a", None, 0.5, "good part"),
    ],
)
def test_an_impossible_part_is_refused(product: str, defect: str | None, severity: float | None, message: str) -> None:
    with pytest.raises(InputError, match=message):
        draw(0, product, defect, SMALL, severity)


# --- a data set ------------------------------------------------------------------------------------------------------

TINY = Scene(size=64)
COUNT, RATE = 75, 0.4


def rows(folder: Path) -> list[dict[str, str]]:
    with (folder / "manifest.csv").open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def contents(folder: Path) -> dict[str, str]:
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("synth") / "parts"
    return write_dataset(folder, count=COUNT, seed=11, defect_rate=RATE, scene=TINY, workers=1)


def test_the_manifest_describes_the_files(dataset: Path) -> None:
    header = (dataset / "manifest.csv").read_text(encoding="utf-8").splitlines()[0]
    assert header == "path,label,defect_type,mask_path,split,group_id,condition,label_note,sha256"
    assert header.split(",") == list(COLUMNS)
    table = rows(dataset)
    assert len(table) == COUNT
    assert len({row["path"] for row in table}) == len({row["group_id"] for row in table}) == COUNT
    for row in table:
        assert hashlib.sha256((dataset / row["path"]).read_bytes()).hexdigest() == row["sha256"]
        with Image.open(dataset / row["path"]) as image:
            assert (image.size, image.mode) == ((64, 64), "RGB")
        assert row["condition"] == "lighting_1.00"
        assert row["group_id"].startswith(PRODUCTS)
    named = {row["path"] for row in table} | {row["mask_path"] for row in table if row["mask_path"]} | {"manifest.csv"}
    assert named == set(contents(dataset))


def test_masks_accompany_defects_and_only_defects(dataset: Path) -> None:
    for row in rows(dataset):
        assert (row["label"] == "defect") == bool(row["defect_type"]) == bool(row["mask_path"])
        if row["mask_path"]:
            with Image.open(dataset / row["mask_path"]) as image:
                mask = np.asarray(image)
            assert mask.dtype == np.uint8
            assert set(np.unique(mask)) == {0, 255}


def test_every_split_holds_every_kind_in_proportion(dataset: Path) -> None:
    table = rows(dataset)
    kinds = Counter(row["defect_type"] for row in table)
    assert {kind: kinds[kind] for kind in DEFECTS} == dict.fromkeys(DEFECTS, round(COUNT * RATE) // len(DEFECTS))
    cells = Counter((row["split"], row["defect_type"]) for row in table)
    for split, share in SPLITS.items():
        for kind, total in kinds.items():
            assert cells[split, kind] >= 1
            assert abs(cells[split, kind] - share * total) < 1


def test_the_same_seed_gives_the_same_bytes_however_many_workers(tmp_path: Path) -> None:
    same = {"count": 50, "scene": TINY, "lighting_spread": 0.4, "camera_jitter": 10.0}
    alone = write_dataset(tmp_path / "alone", seed=5, workers=1, **same)  # type: ignore[arg-type]  # heterogeneous
    together = write_dataset(tmp_path / "together", seed=5, workers=2, **same)  # type: ignore[arg-type]
    assert contents(alone) == contents(together)
    assert len({row["condition"] for row in rows(alone)}) == 5


def test_another_seed_gives_other_parts(tmp_path: Path) -> None:
    one, two = (
        write_dataset(tmp_path / str(seed), count=2, seed=seed, defect_rate=0, scene=TINY, splits=None)
        for seed in (0, 1)
    )
    assert not {row["sha256"] for row in rows(one)} & {row["sha256"] for row in rows(two)}
    assert {row["split"] for row in rows(one)} == {""}


def test_progress_counts_every_part(tmp_path: Path) -> None:
    heard: list[tuple[int, int]] = []
    write_dataset(
        tmp_path / "d", count=3, seed=0, defect_rate=0, scene=TINY, progress=lambda n, of: heard.append((n, of))
    )
    assert heard == [(1, 3), (2, 3), (3, 3)]


def test_a_folder_that_holds_something_is_refused_untouched(tmp_path: Path) -> None:
    (tmp_path / "keep.txt").write_text("mine")
    with pytest.raises(AlreadyExistsError, match="empty"):
        write_dataset(tmp_path, count=1, seed=0, defect_rate=0, scene=TINY)
    assert [path.name for path in tmp_path.iterdir()] == ["keep.txt"]


def test_an_empty_folder_is_filled(tmp_path: Path) -> None:
    folder = tmp_path / "empty"
    folder.mkdir()
    assert write_dataset(folder, count=1, seed=0, defect_rate=0, scene=TINY) == folder
    assert len(rows(folder)) == 1


@pytest.mark.parametrize(("count", "workers"), [(4, 1), (60, 2)])
def test_an_interrupted_run_leaves_nothing(tmp_path: Path, count: int, workers: int) -> None:
    def interrupt(done: int, _count: int) -> None:
        if done == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_dataset(
            tmp_path / "d", count=count, seed=0, defect_rate=0, scene=TINY, workers=workers, progress=interrupt
        )
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"count": 0}, "count"),
        ({"seed": -1}, "seed"),
        ({"defect_rate": 1.2}, "defect_rate"),
        ({"lighting_spread": 1.0}, "lighting_spread"),
        ({"camera_jitter": -2.0}, "camera_jitter"),
        ({"workers": 0}, "workers"),
        ({"splits": {"train": 0.5}}, "sum to 1"),
        ({"splits": {"train": 1.5, "test": -0.5}}, "above 0"),
        ({"splits": {}}, "at least one"),
        ({"count": 20}, "at least 50 parts"),
    ],
)
def test_a_wrong_argument_is_refused_before_anything_is_written(
    tmp_path: Path, wrong: dict[str, object], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        write_dataset(tmp_path / "d", **{"count": 50, "seed": 0, "scene": TINY, **wrong})  # type: ignore[arg-type]
    assert list(tmp_path.iterdir()) == []
