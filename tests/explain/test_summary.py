"""The recorded numbers follow from the stored bytes, and from nothing else."""

import hashlib
import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from traceai.errors import ModelError, VerificationError
from traceai.explain import decode_grid, encode_grid, summarise

GRIDS = arrays(np.float32, array_shapes(min_dims=2, max_dims=2, max_side=8), elements=st.floats(-1e5, 1e5, width=32))


def _summary(grid: object, **more: float) -> object:
    array = np.asarray(grid, np.float32)
    return summarise(encode_grid(array), array.shape, layer="body", target="crack", **more)


def test_bytes_are_little_endian_half_precision_row_by_row() -> None:
    assert encode_grid([[1.0, -2.0], [0.5, 65504.0]]) == bytes.fromhex("003c 00c0 0038 ff7b")


@given(grid=GRIDS)
@settings(deadline=None, max_examples=60)
def test_encoding_what_was_decoded_changes_nothing(grid: np.ndarray) -> None:
    stored = encode_grid(grid)
    assert encode_grid(decode_grid(stored, grid.shape)) == stored


@given(grid=GRIDS)
@settings(deadline=None, max_examples=60)
def test_every_number_is_recomputed_from_the_stored_bytes(grid: np.ndarray) -> None:
    stored = encode_grid(grid)
    found = summarise(stored, grid.shape, layer="body", target="crack", bias=0.25, logit=1.5)
    exact = np.frombuffer(stored, "<f2").astype(np.float64).reshape(grid.shape)
    finite = exact[np.isfinite(exact)]
    assert found.sha256 == hashlib.sha256(stored).hexdigest()
    assert found.total == math.fsum(finite)
    assert found.residual == found.total + 0.25 - 1.5
    assert found.positive_fraction == (finite > 0).sum() / grid.size
    if finite.size:
        assert (found.minimum, found.maximum) == (finite.min(), finite.max())
        assert exact[found.peak] == finite.max()
    found.verify(stored)


@given(grid=GRIDS, data=st.data())
@settings(deadline=None, max_examples=60)
def test_any_flipped_bit_is_found(grid: np.ndarray, data: st.DataObject) -> None:
    stored = bytearray(encode_grid(grid))
    found = summarise(bytes(stored), grid.shape, layer="body", target="crack")
    stored[data.draw(st.integers(0, len(stored) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    with pytest.raises(VerificationError, match="digest"):
        found.verify(bytes(stored))


@pytest.mark.parametrize(
    ("name", "value"),
    [("minimum", -9.0), ("maximum", 9.0), ("total", 0.1), ("peak", (0, 0)), ("degenerate", "constant")],
)
def test_a_number_that_does_not_follow_from_the_grid_is_found(name: str, value: object) -> None:
    grid = np.array([[-1.0, 0.5], [2.0, 0.0]])
    forged = replace(_summary(grid), **{name: value})
    with pytest.raises(VerificationError, match=name):
        forged.verify(encode_grid(grid))


@pytest.mark.parametrize(
    ("grid", "reason"),
    [
        ([[1.0, -1.0]], None),
        ([[0.0, 0.0]], "all-zero"),
        ([[1e-9, 0.0]], "all-zero"),
        ([[2.0, 2.0]], "constant"),
        ([[-1.0, 0.0]], "nothing-positive"),
        ([[-1.0, -2.0]], "nothing-positive"),
        ([[1.0, math.nan]], "non-finite"),
        ([[1.0, 1e5]], "non-finite"),
        ([[math.nan, math.nan]], "non-finite"),
    ],
)
def test_degenerate_grids_are_named(grid: list[list[float]], reason: str | None) -> None:
    found = _summary(grid)
    assert found.degenerate == reason
    assert all(math.isfinite(value) for value in (found.minimum, found.maximum, found.total))


def test_the_peak_is_the_first_maximum() -> None:
    assert _summary([[0.0, 3.0], [3.0, 1.0]]).peak == (0, 1)


def test_a_record_holds_floats_as_exact_decimal_strings() -> None:
    record = _summary([[0.1, -0.2]], bias=0.25, logit=0.1).to_record()
    assert float(record["min"]) == float(np.float16(-0.2))
    assert not any(isinstance(value, float) for value in record.values())
    assert record["shape"] == [1, 2]


def test_the_residual_needs_a_linear_head() -> None:
    assert _summary([[1.0, 2.0]]).residual is None


@pytest.mark.parametrize("grid", [np.zeros(4), np.zeros((0, 3)), np.zeros((1, 2, 2))])
def test_only_a_plane_of_cells_is_a_grid(grid: np.ndarray) -> None:
    with pytest.raises(ModelError):
        encode_grid(grid)


@pytest.mark.parametrize("shape", [(2, 2), (1, 1), (0, 0), (-1, -3)])
def test_bytes_of_another_size_are_refused(shape: tuple[int, int]) -> None:
    with pytest.raises(VerificationError):
        decode_grid(bytes(6), shape)
