"""The picture says what the grid says: in the right place, in the right colour, in the same bytes every time."""

import io
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from traceai.errors import ModelError
from traceai.explain import panel, render, to_png
from traceai.explain.catalogue import METHODS, Legend
from traceai.explain.overlay import _colours

GREY = np.full((40, 60), 120, np.uint8)


def _pixels(image: Image.Image) -> np.ndarray:
    return np.asarray(image).astype(int)


def test_no_evidence_leaves_the_image_as_it_is() -> None:
    assert (_pixels(render(GREY, np.zeros((4, 6)), contour=None)) == 120).all()


def test_evidence_for_is_warm_and_against_is_cool_where_it_lies() -> None:
    grid = np.zeros((4, 6))
    grid[0, 0], grid[3, 5] = 1.0, -1.0
    picture = _pixels(render(GREY, grid, contour=None))
    warm, cool, clear = picture[3, 3], picture[36, 56], picture[20, 30]
    assert warm[0] > 120 > warm[2]
    assert cool[2] > 120 > cool[0]
    assert (clear == 120).all()


def test_strength_is_relative_to_the_limit() -> None:
    grid = np.full((2, 2), 0.5)
    full = _pixels(render(GREY, grid, limit=0.5, contour=None))
    half = _pixels(render(GREY, grid, limit=1.0, contour=None))
    assert abs(full[0, 0] - 120).sum() > abs(half[0, 0] - 120).sum() > 0
    assert (_pixels(render(GREY, grid, limit=0.1, contour=None)) == full).all()


def test_equal_steps_of_evidence_look_equal() -> None:
    """Steps between neighbours in OKLab, along each half of the table, vary by less than a third."""
    encoded = _colours()[:, :3] / 255
    linear = np.where(encoded <= 0.04045, encoded / 12.92, ((encoded + 0.055) / 1.055) ** 2.4)
    to_lms = np.array([[0.4122214708, 0.5363325363, 0.0514459929], [0.2119034982, 0.6806995451, 0.1073969566],
                       [0.0883024619, 0.2817188376, 0.6299787005]])  # fmt: skip
    to_lab = np.array([[0.2104542553, 0.7936177850, -0.0040720468], [1.9779984951, -2.4285922050, 0.4505937099],
                       [0.0259040371, 0.7827717662, -0.8086757660]])  # fmt: skip
    lab = np.cbrt(linear @ to_lms.T) @ to_lab.T
    for half in (lab[:255], lab[256:]):
        steps = np.linalg.norm(np.diff(half, axis=0), axis=1)
        assert steps.max() / steps.min() < 4 / 3


def test_the_contour_encloses_what_reaches_the_level() -> None:
    grid = np.zeros((8, 12))
    grid[4, 6] = 1.0
    outlined = _pixels(render(GREY, grid, contour=0.5))
    plain = _pixels(render(GREY, grid, contour=None))
    rows, columns = np.nonzero((outlined != plain).any(axis=2))
    assert 19 <= rows.min() <= rows.max() <= 25
    assert 29 <= columns.min() <= columns.max() <= 35
    assert (outlined[22, 32] == plain[22, 32]).all()


def test_a_letterboxed_grid_is_cut_to_the_image() -> None:
    grid = np.zeros((4, 4))
    grid[0, :], grid[1, :] = -1.0, 1.0
    picture = _pixels(render(GREY, grid, box=(0.0, 0.25, 1.0, 0.75), contour=None))
    assert picture[8, 30, 0] > picture[8, 30, 2]
    assert (picture[39, 30] >= 119).all()


def test_enlarging_is_bilinear_between_cell_centres() -> None:
    strong = _pixels(render(np.full((4, 8), 120, np.uint8), np.array([[0.0, 1.0]]), contour=None))
    reds = strong[0, :, 0]
    assert (reds[:2] == 120).all()
    assert (np.diff(reds[1:7]) > 0).all()
    assert reds[6] == reds[7]


def test_equal_input_gives_equal_bytes_in_another_process() -> None:
    code = (
        "import sys, numpy as np; from traceai.explain import panel, to_png; "
        "grid = np.sin(np.arange(49.0)).reshape(7, 7); "
        "sys.stdout.buffer.write(to_png(panel(np.arange(2400, dtype=np.uint8).reshape(40, 60), grid, target='crack')))"
    )
    made = [subprocess.run([sys.executable, "-c", code], check=True, capture_output=True).stdout for _ in range(2)]
    grid = np.sin(np.arange(49.0)).reshape(7, 7)
    here = to_png(panel(np.arange(2400, dtype=np.uint8).reshape(40, 60), grid, target="crack"))
    assert made == [here, here]


def test_png_is_the_picture_without_metadata() -> None:
    picture = render(np.dstack([GREY, GREY // 2, GREY]), np.eye(3))
    again = Image.open(io.BytesIO(to_png(picture)))
    assert again.size == (60, 40)
    assert again.info == {}
    assert (np.asarray(again) == np.asarray(picture)).all()


def test_a_panel_shows_image_and_overlay_side_by_side() -> None:
    sheet = _pixels(panel(GREY, np.eye(4), target="crack", contour=None))
    width = (sheet.shape[1] - 48) // 2
    assert width >= 320
    assert (sheet[20 : 20 + width // 2, 20:100] == 120).all()
    assert (sheet[20, 2 * 16 + width + 4] != 120).any()


def test_a_long_name_is_cut_and_not_drawn_over_the_scale() -> None:
    short = _pixels(panel(GREY, np.eye(4), target="crack"))
    long = _pixels(panel(GREY, np.eye(4), target="crack" * 40))
    start = short.shape[1] // 2 + 8
    assert long.shape == short.shape
    assert (long[-70:-54, start:] == short[-70:-54, start:]).all()


@pytest.mark.parametrize("grid", [np.zeros(4), np.array([[np.nan, 1.0]]), np.zeros((0, 2)), np.array([[np.inf]])])
def test_what_cannot_be_drawn_is_refused(grid: np.ndarray) -> None:
    with pytest.raises(ModelError):
        render(GREY, grid)


@pytest.mark.parametrize("pixels", [GREY.astype(float), GREY[None], np.zeros((4, 4, 4), np.uint8)])
def test_pixels_of_another_form_are_refused(pixels: np.ndarray) -> None:
    with pytest.raises(ModelError):
        render(pixels, np.eye(2))


def test_drawing_needs_no_torch() -> None:
    code = "import sys; from traceai.explain import render, summarise; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_a_notice_stands_above_everything_and_moves_the_rest_down() -> None:
    plain, marked = (
        _pixels(panel(GREY, np.eye(4), target="crack", notice=notice)) for notice in ("", "MADE AFTERWARDS")
    )
    assert np.array_equal(plain, marked[30:])
    assert (marked[0] == (28, 28, 30)).all()
    assert (marked[:30] == (255, 255, 255)).all(axis=2).any()


def test_every_line_of_a_caption_has_its_place() -> None:
    heights = [
        panel(GREY, np.eye(4), target="crack", caption=caption).height for caption in ("", "a", "a\nb", "a\nb\nc")
    ]
    assert np.diff(heights).tolist() == [22, 18, 18]


def test_what_is_not_signed_is_drawn_from_its_least_to_its_largest() -> None:
    legend = Legend("value", "of no class", ("least", "most"), signed=False)
    grid = np.full((4, 4), 5.0)
    grid[0, 0] = 6.0
    sheet = _pixels(panel(GREY, grid, target="crack", legend=legend, contour=None))
    moved = _pixels(panel(GREY, grid - 5.0, target="crack", legend=legend, contour=None))
    height, width = (round(side * max(1, 320 / min(GREY.shape))) for side in GREY.shape)
    shown, image = sheet[16 : 16 + height, 32 + width : 32 + 2 * width], sheet[16 : 16 + height, 16 : 16 + width]
    # Clear where it is least, warm where it is most; the numbers of the scale alone tell the two grids apart.
    assert np.array_equal(shown[-10:], image[-10:])
    assert int(shown[5, 5, 0]) - int(shown[5, 5, 2]) > 60
    assert np.array_equal(sheet[: 32 + height], moved[: 32 + height])
    assert not np.array_equal(sheet, moved)


def test_a_class_name_is_data_in_every_legend() -> None:
    for method in METHODS.values():
        panel(GREY, np.eye(4), target="{0} %s {", legend=method.legend)
