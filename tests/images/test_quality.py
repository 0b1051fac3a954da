import numpy as np
import pytest

from tests.images.files import scene
from traceai.images.quality import Quality, measure


def test_a_flat_picture_has_a_mean_and_nothing_else() -> None:
    assert measure(np.full((5, 7), 100, np.uint8)) == Quality(mean=100, std=0, sharpness=0, saturated=0, dark=0)


def test_clipping_is_counted_from_both_ends() -> None:
    quality = measure(np.array([[0, 5, 6, 249], [250, 255, 100, 100]], np.uint8))
    assert (quality.dark, quality.saturated) == (0.25, 0.25)


def test_sharpness_is_the_variance_of_the_laplacian() -> None:
    pixels = np.zeros((4, 3), np.uint8)
    pixels[1, 1] = 10
    # The two inner pixels answer -40 and +10.
    assert measure(pixels).sharpness == 625


def test_blurring_lowers_sharpness() -> None:
    pixels = scene(40, 40, channels=1)
    rows = pixels.astype(int)
    blurred = ((rows + np.roll(rows, 1, 0) + np.roll(rows, 1, 1)) // 3).astype(np.uint8)
    assert measure(blurred).sharpness < measure(pixels).sharpness / 2


def test_colour_is_judged_by_its_luma() -> None:
    green = np.zeros((3, 3, 3), np.uint8)
    green[..., 1] = 200
    assert measure(green).mean == pytest.approx(117.4)


@pytest.mark.parametrize("shape", [(1, 1), (2, 9), (9, 2), (1, 1, 3)])
def test_tiny_pictures_have_no_sharpness(shape: tuple[int, ...]) -> None:
    assert measure(np.full(shape, 9, np.uint8)).sharpness == 0
