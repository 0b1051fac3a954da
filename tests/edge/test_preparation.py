"""What the graph does to an image is bit for bit what `Preprocessing.apply` does, whatever sizes meet."""

import numpy as np
import numpy.typing as npt
import onnxruntime
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from traceai.edge.writing import preparation
from traceai.images.preprocess import Preprocessing

SIDES = st.one_of(st.integers(1, 12), st.integers(1, 90))
LARGE = st.one_of(st.integers(1, 12), st.integers(1, 300))


def prepared(how: Preprocessing, pixels: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(preparation(how), options, providers=["CPUExecutionProvider"])
    return session.run(None, {"image": pixels.reshape(1, *pixels.shape[:2], -1)})[0][0]


def declared(
    height: int, width: int, channels: int, interpolation: str = "bilinear", fit: str = "stretch"
) -> Preprocessing:
    return Preprocessing.model_validate(
        {
            "height": height, "width": width, "channels": channels, "interpolation": interpolation, "fit": fit,
            "mean": ("0.485", "0.456", "0.406")[:channels], "std": ("0.229", "0.224", "0.225")[:channels],
        }
    )  # fmt: skip


@settings(max_examples=120, deadline=None)
@given(
    st.data(),
    st.sampled_from(["bilinear", "bicubic", "box"]),
    st.sampled_from(["stretch", "letterbox"]),
    st.sampled_from([1, 3]),
    st.sampled_from([1, 3]),
)
def test_every_size_is_resampled_as_pillow_does(
    data: st.DataObject, interpolation: str, fit: str, channels: int, depth: int
) -> None:
    how = declared(data.draw(SIDES), data.draw(SIDES), channels, interpolation, fit)
    noise = np.random.default_rng(data.draw(st.integers(0, 2**32)))
    shape = (data.draw(LARGE), data.draw(LARGE))
    pixels = noise.integers(0, 256, shape if depth == 1 else (*shape, 3), np.uint8)
    if data.draw(st.booleans()):  # the largest overshoot of a bicubic filter is beside black and white
        pixels = np.where(pixels > 127, np.uint8(255), np.uint8(0))
    np.testing.assert_array_equal(prepared(how, pixels), how.apply(pixels))


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic", "box"])
@pytest.mark.parametrize("size", [(1536, 2048), (2048, 1536), (4, 4000), (4000, 4), (224, 224), (448, 672)])
def test_sizes_of_cameras(interpolation: str, size: tuple[int, int]) -> None:
    how = declared(224, 224, 1, interpolation)
    pixels = np.random.default_rng(1).integers(0, 256, size, np.uint8)
    np.testing.assert_array_equal(prepared(how, pixels), how.apply(pixels))


def test_the_picture_of_one_value_keeps_it() -> None:
    """Weights add up to one also where thousands of samples are averaged, and nothing leaves 32 bits."""
    for value in (0, 1, 254, 255):
        for interpolation in ("bilinear", "bicubic", "box"):
            how = declared(3, 2, 1, interpolation)
            pixels = np.full((3000, 5000), value, np.uint8)
            np.testing.assert_array_equal(prepared(how, pixels), how.apply(pixels))
