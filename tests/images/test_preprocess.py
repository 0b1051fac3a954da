import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from pydantic import ValidationError

from tests.images.files import scene
from traceai.images.preprocess import Box, Preprocessing

GREY = Preprocessing(height=8, width=8, channels=1, mean=("0",), std=("1",))
IMAGENET = Preprocessing(
    height=32, width=48, channels=3, mean=("0.485", "0.456", "0.406"), std=("0.229", "0.224", "0.225")
)


def test_declaration_survives_json_exactly() -> None:
    for declared in (GREY, IMAGENET.model_copy(update={"fit": "letterbox", "interpolation": "box"})):
        text = declared.model_dump_json()
        assert Preprocessing.model_validate_json(text) == declared
        assert Preprocessing.model_validate(json.loads(text)) == declared
        assert Preprocessing.model_validate_json(text).model_dump_json() == text


@pytest.mark.parametrize(
    "change",
    [
        {"mean": (0.5,)},
        {"mean": ("1e-3",)},
        {"mean": ("0,5",)},
        {"mean": ("nan",)},
        {"mean": ("0", "0")},
        {"std": ("0",)},
        {"std": ("-1",)},
        {"std": ()},
        {"height": 0},
        {"width": "8"},
        {"width": 1 << 20},
        {"channels": 2},
        {"interpolation": "nearest"},
        {"fit": "crop"},
        {"rotate": 1},
    ],
)
def test_declarations_that_make_no_sense_are_refused(change: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        Preprocessing.model_validate(GREY.model_dump() | change)


def test_declaration_is_frozen() -> None:
    with pytest.raises(ValidationError):
        GREY.height = 9  # type: ignore[misc]  # the point of the test


def test_identity_size_only_normalises() -> None:
    pixels = scene(32, 48)
    out = IMAGENET.apply(pixels)
    mean, std = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])
    assert out.shape == (3, 32, 48)
    assert out.dtype == np.float32
    np.testing.assert_array_equal(out, ((pixels / 255 - mean) / std).astype(np.float32).transpose(2, 0, 1))


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic", "box"])
def test_resizing_is_pillows(interpolation: str) -> None:
    pixels = scene(40, 30, channels=1)
    declared = Preprocessing.model_validate(GREY.model_dump() | {"interpolation": interpolation})
    expected = Image.fromarray(pixels).resize((8, 8), Image.Resampling[interpolation.upper()])
    np.testing.assert_array_equal(declared.apply(pixels)[0], (np.asarray(expected) / 255.0).astype(np.float32))


def test_channels_are_matched_both_ways() -> None:
    grey = scene(32, 48, channels=1)
    np.testing.assert_array_equal(IMAGENET.apply(grey), IMAGENET.apply(np.dstack([grey] * 3)))
    red = np.zeros((8, 8, 3), np.uint8)
    red[..., 0] = 255
    np.testing.assert_allclose(GREY.apply(red), 0.299, atol=0.002)


@pytest.mark.parametrize("fit", ["stretch", "letterbox"])
@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic", "box"])
def test_a_grey_picture_is_seen_as_its_three_equal_channels_would_be(interpolation: str, fit: str) -> None:
    declared = IMAGENET.model_copy(update={"interpolation": interpolation, "fit": fit})
    grey = np.random.default_rng(7).integers(0, 256, (57, 91), np.uint8)
    assert np.array_equal(declared.apply(grey), declared.apply(np.stack([grey] * 3, axis=-1)))


def test_read_only_pixels_are_left_alone() -> None:
    pixels = scene(8, 8, channels=1)
    pixels.flags.writeable = False
    out = GREY.apply(pixels)
    out += 1
    np.testing.assert_array_equal(pixels, scene(8, 8, channels=1))


def test_letterbox_keeps_the_aspect_ratio_and_fills_with_the_mean() -> None:
    declared = Preprocessing(height=8, width=8, channels=1, mean=("0.5",), std=("0.25",), fit="letterbox")
    out = declared.apply(np.full((10, 20), 255, np.uint8))[0]
    assert (out[2:6] == 2.0).all()
    assert (out[:2] == 0).all()
    assert (out[6:] == 0).all()
    assert declared.grid_to_image_box(20, 10) == Box(0, 0.25, 1, 0.75)
    assert declared.grid_to_image_box(10, 20) == Box(0.25, 0, 0.75, 1)


def test_stretch_shows_the_picture_everywhere() -> None:
    assert GREY.grid_to_image_box(1000, 3) == Box(0, 0, 1, 1)


@given(st.integers(1, 4000), st.integers(1, 4000), st.integers(1, 300), st.integers(1, 300))
@settings(deadline=None, max_examples=150)
def test_letterbox_box_lies_inside_and_fills_one_side(width: int, height: int, wide: int, high: int) -> None:
    declared = Preprocessing(height=high, width=wide, channels=1, mean=("0",), std=("1",), fit="letterbox")
    box = declared.grid_to_image_box(width, height)
    assert 0 <= box.left < box.right <= 1
    assert 0 <= box.top < box.bottom <= 1
    assert (box.left, box.right) == (0, 1) or (box.top, box.bottom) == (0, 1)


@given(st.integers(1, 40), st.integers(1, 40), st.sampled_from([1, 3]), st.sampled_from(["stretch", "letterbox"]))
@settings(deadline=None, max_examples=60)
def test_the_box_is_where_the_picture_lies(width: int, height: int, channels: int, fit: str) -> None:
    declared = Preprocessing.model_validate(GREY.model_dump() | {"fit": fit, "height": 12, "width": 10})
    white = np.full((height, width) if channels == 1 else (height, width, 3), 255, np.uint8)
    left, top, right, bottom = declared.grid_to_image_box(width, height)
    expected = np.zeros((12, 10), np.float32)
    expected[round(top * 12) : round(bottom * 12), round(left * 10) : round(right * 10)] = 1
    np.testing.assert_array_equal(declared.apply(white)[0], expected)
