import hashlib
import struct
import threading
import warnings
import zlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageFile

from tests.images.files import chunk, encoded, exif, one_of_each_format, png, scene, tiff
from traceai.errors import (
    ImageAnimatedError,
    ImageEmptyError,
    ImageError,
    ImageFormatError,
    ImageMissingError,
    ImageTooLargeError,
    ImageTruncatedError,
)
from traceai.images.decode import Limits, decode, from_array, identify, pixel_hash, read_file

FILES = one_of_each_format()
GREY = scene(channels=1)
COLOUR = scene()
WIDE = scene(channels=1, dtype="uint16")


# --- identity --------------------------------------------------------------------------------------------------------


def test_identity_of_a_known_file() -> None:
    image = decode(FILES["png"])
    assert image.sha256 == identify(FILES["png"]) == hashlib.sha256(FILES["png"]).hexdigest()
    assert (image.bytes, image.width, image.height) == (len(FILES["png"]), 14, 9)
    assert (image.media_type, image.source_mode) == ("image/png", "RGB")


def test_pixel_hash_is_the_documented_one() -> None:
    header = b"traceai-pixels/1\n"
    assert pixel_hash(GREY) == hashlib.sha256(header + b"L 14 9\n" + GREY.tobytes()).hexdigest()
    assert pixel_hash(COLOUR) == hashlib.sha256(header + b"RGB 14 9\n" + COLOUR.tobytes()).hexdigest()
    assert pixel_hash(WIDE) == hashlib.sha256(header + b"I;16 14 9\n" + WIDE.astype("<u2").tobytes()).hexdigest()
    # Bytes that outlive us: a 2 x 1 grey picture of the levels 1 and 2.
    expected = "17fa715768d42e1587b640fa9b154be6aae4c238a25b88c1f2fe238fa80ec00d"
    assert pixel_hash(np.array([[1, 2]], np.uint8)) == expected


def test_same_pixels_in_every_lossless_format_have_one_pixel_hash() -> None:
    picture = Image.fromarray(COLOUR)
    files = [
        encoded(picture, "PNG"),
        encoded(picture, "TIFF"),
        encoded(picture, "TIFF", compression="tiff_lzw"),
        encoded(picture, "BMP"),
        encoded(picture, "PPM"),
        encoded(picture, "WEBP", lossless=True, exact=True),
    ]
    images = [decode(data) for data in files]
    assert {image.pixel_sha256 for image in images} == {pixel_hash(COLOUR)}
    assert len({image.sha256 for image in images}) == len(files)
    for image in images:
        np.testing.assert_array_equal(image.pixels, COLOUR)


def test_pixels_cannot_drift_from_their_hash() -> None:
    image = decode(FILES["png"])
    with pytest.raises(ValueError, match="read-only"):
        image.pixels[0, 0] = 0
    assert image.pixels.flags.c_contiguous


# --- what files hold -------------------------------------------------------------------------------------------------


def test_one_bit_becomes_black_and_white() -> None:
    bits = GREY > 127
    for format_name in ("PNG", "TIFF", "BMP"):
        image = decode(encoded(Image.fromarray(bits), format_name))
        np.testing.assert_array_equal(image.pixels, bits.astype(np.uint8) * 255)
        assert image.source_mode == "1"


@pytest.mark.parametrize("format_name", ["PNG", "TIFF", "BMP", "PPM"])
def test_greyscale_stays_greyscale(format_name: str) -> None:
    np.testing.assert_array_equal(decode(encoded(Image.fromarray(GREY), format_name)).pixels, GREY)


def test_palette_becomes_rgb() -> None:
    picture = Image.fromarray(COLOUR).quantize(8)
    image = decode(encoded(picture, "PNG"))
    np.testing.assert_array_equal(image.pixels, np.asarray(picture.convert("RGB")))
    assert image.source_mode == "P"


def test_transparent_palette_entry_lies_over_mid_grey() -> None:
    picture = Image.fromarray(COLOUR).quantize(8)
    indices = np.asarray(picture)
    for transparency in (3, bytes([255, 255, 255, 0])):
        pixels = decode(encoded(picture, "PNG", transparency=transparency)).pixels
        assert (pixels[indices == 3] == 128).all()
        opaque = indices != 3
        np.testing.assert_array_equal(pixels[opaque], np.asarray(picture.convert("RGB"))[opaque])


def test_transparent_colour_lies_over_mid_grey() -> None:
    grey = np.array([[10, 20], [30, 40]], np.uint8)
    pixels = decode(encoded(Image.fromarray(grey), "PNG", transparency=20)).pixels
    np.testing.assert_array_equal(pixels, [[10, 128], [30, 40]])
    colour = np.array([[[1, 2, 3], [4, 5, 6]]], np.uint8)
    pixels = decode(encoded(Image.fromarray(colour), "PNG", transparency=(4, 5, 6))).pixels
    np.testing.assert_array_equal(pixels, [[[1, 2, 3], [128, 128, 128]]])


@pytest.mark.parametrize("format_name", ["PNG", "TIFF", "WEBP"])
def test_opaque_alpha_is_dropped_exactly(format_name: str) -> None:
    opaque = np.dstack([COLOUR, np.full(COLOUR.shape[:2], 255, np.uint8)])
    options: dict[str, Any] = {"lossless": True} if format_name == "WEBP" else {}
    image = decode(encoded(Image.fromarray(opaque), format_name, **options))
    np.testing.assert_array_equal(image.pixels, COLOUR)
    assert image.pixel_sha256 == pixel_hash(COLOUR)


def test_alpha_is_composited_over_mid_grey() -> None:
    stored = np.array([[[0, 0, 0, 0], [255, 255, 255, 0], [255, 0, 100, 128], [7, 8, 9, 255]]], np.uint8)
    pixels = decode(encoded(Image.fromarray(stored), "PNG")).pixels
    np.testing.assert_array_equal(pixels, [[[128, 128, 128], [128, 128, 128], [192, 64, 114], [7, 8, 9]]])
    grey_alpha = np.array([[[0, 0], [200, 255], [0, 128]]], np.uint8)
    image = decode(encoded(Image.fromarray(grey_alpha, "LA"), "PNG"))
    np.testing.assert_array_equal(image.pixels, [[128, 200, 64]])
    assert image.source_mode == "LA"


def test_cmyk_becomes_rgb_the_right_way_round() -> None:
    white = Image.new("CMYK", (16, 16), (0, 0, 0, 0))
    cyan = Image.new("CMYK", (16, 16), (255, 0, 0, 0))
    for format_name in ("JPEG", "TIFF"):
        assert decode(encoded(white, format_name)).pixels.min() >= 254
        red, green, blue = decode(encoded(cyan, format_name)).pixels[8, 8].tolist()
        assert (red < 5, green > 250, blue > 250) == (True, True, True)


def test_ycbcr_becomes_rgb() -> None:
    picture = Image.new("RGB", (16, 16), (200, 30, 60)).convert("YCbCr")
    for format_name in ("JPEG", "TIFF"):
        assert np.abs(decode(encoded(picture, format_name)).pixels[8, 8].astype(int) - [200, 30, 60]).max() <= 3


@pytest.mark.parametrize(
    "data",
    [
        encoded(Image.fromarray(WIDE), "PNG"),
        encoded(Image.fromarray(WIDE), "TIFF"),
        encoded(Image.fromarray(WIDE), "TIFF", compression="tiff_lzw"),
        encoded(Image.fromarray(WIDE), "PPM"),
        tiff(WIDE, "<"),
        tiff(WIDE, ">"),
    ],
    ids=["png", "tiff", "tiff-lzw", "pgm", "tiff-little", "tiff-big"],
)
def test_sixteen_bits_are_hashed_whole_and_reduced_by_a_fixed_rule(data: bytes) -> None:
    image = decode(data)
    np.testing.assert_array_equal(image.pixels, WIDE >> 8)
    assert image.pixel_sha256 == pixel_hash(WIDE)
    assert image.source_mode in ("I;16", "I;16B", "I")


def test_low_bits_change_the_hash_and_not_the_pixels() -> None:
    dim = (WIDE >> 8) << 8
    one, other = from_array(dim)[1], from_array(dim | 1)[1]
    np.testing.assert_array_equal(one.pixels, other.pixels)
    assert one.pixel_sha256 != other.pixel_sha256


def test_dark_sixteen_bit_pictures_are_not_stretched() -> None:
    assert decode(encoded(Image.fromarray(np.full((4, 4), 1000, np.uint16)), "PNG")).pixels.max() == 1000 >> 8


def test_twelve_bit_tiff_is_left_aligned() -> None:
    # Two samples in three bytes: 0xABC and 0x123.
    data = tiff(np.zeros((1, 3), np.uint8), t256=2, t258=12)[:-3] + b"\xab\xc1\x23"
    image = decode(data)
    np.testing.assert_array_equal(image.pixels, [[0xAB, 0x12]])
    assert image.pixel_sha256 == pixel_hash(np.array([[0xABC0, 0x1230]], np.uint16))


def test_sixteen_bit_colour_png_keeps_its_high_bytes() -> None:
    samples = scene(dtype="uint16")
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in samples)
    np.testing.assert_array_equal(decode(png(14, 9, 16, 2, rows=rows)).pixels, samples >> 8)


def test_sixteen_bit_colour_tiff_keeps_its_high_bytes() -> None:
    samples = scene(dtype="uint16")
    for order in ("<", ">"):
        # An uncompressed greyscale file with three times the width, declared anew as RGB.
        wide = samples.reshape(9, 42)
        data = tiff(wide, order, t256=14, t258=16, t262=2, t277=3)
        np.testing.assert_array_equal(decode(data).pixels, samples >> 8)


@pytest.mark.parametrize(("colour_type", "channels"), [(4, 2), (6, 4)])
def test_sixteen_bit_alpha_png_keeps_its_high_bytes(colour_type: int, channels: int) -> None:
    samples = scene(channels=channels, dtype="uint16")
    samples[..., -1] = 65535
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in samples)
    expected = np.broadcast_to(samples[..., :-1] >> 8, (9, 14, 3))
    np.testing.assert_array_equal(decode(png(14, 9, 16, colour_type, rows=rows)).pixels, expected)


def test_the_smallest_webp() -> None:
    data = encoded(Image.new("RGB", (1, 1), (9, 8, 7)), "WEBP", lossless=True)
    np.testing.assert_array_equal(decode(data).pixels, [[[9, 8, 7]]])


def test_pgm_with_another_maxval_is_scaled() -> None:
    np.testing.assert_array_equal(decode(b"P5 3 1 15\n\x00\x07\x0f").pixels, [[0, 119, 255]])
    wide = decode(b"P5 2 1 1023\n\x00\x00\x03\xff")
    assert wide.pixel_sha256 == pixel_hash(np.array([[0, 65535]], np.uint16))


@pytest.mark.parametrize(
    "data",
    [
        tiff(GREY.astype(np.uint32)),
        tiff(GREY.astype(np.int16)),
        tiff(GREY.astype(np.int8)),
        tiff(GREY.astype(np.float32)),
        tiff(WIDE, t262=0),
        encoded(Image.new("LAB", (4, 4)), "TIFF"),
        b"P6 1 1 65535\n\0\0\0\0\0\0",
        b"Pf\n1 1\n-1.0\n\0\0\0\0",
    ],
    ids=["uint32", "int16", "int8", "float32", "white-is-zero-16", "lab", "ppm-16", "pfm"],
)
def test_samples_that_cannot_be_represented_are_refused(data: bytes) -> None:
    with pytest.raises(ImageFormatError):
        decode(data)


def test_white_is_zero_is_turned_for_eight_bits() -> None:
    np.testing.assert_array_equal(decode(tiff(GREY, t262=0)).pixels, 255 - GREY)


# --- orientation -----------------------------------------------------------------------------------------------------

# Where each stored corner belongs, by CIPA DC-008: stored row by row 1 2 / 3 4, the upright picture is this.
UPRIGHT = {
    1: [[1, 2], [3, 4]],
    2: [[2, 1], [4, 3]],
    3: [[4, 3], [2, 1]],
    4: [[3, 4], [1, 2]],
    5: [[1, 3], [2, 4]],
    6: [[3, 1], [4, 2]],
    7: [[4, 2], [3, 1]],
    8: [[2, 4], [1, 3]],
}


@pytest.mark.parametrize("turn", range(1, 9))
@pytest.mark.parametrize("format_name", ["PNG", "WEBP", "TIFF", "TIFF-16", "JPEG"])
def test_orientation_is_applied(format_name: str, turn: int) -> None:
    stored = np.kron(np.array([[1, 2], [3, 4]]), np.ones((8, 16), int)).astype(np.uint8) * 50
    if format_name == "TIFF-16":
        image = decode(tiff(stored.astype(np.uint16) << 8, t274=turn))
    elif format_name == "TIFF":
        image = decode(tiff(stored, t274=turn))
    else:
        options: dict[str, Any] = {"lossless": True} if format_name == "WEBP" else {}
        picture = Image.fromarray(stored).convert("RGB")
        image = decode(encoded(picture, format_name, exif=exif(turn), **options))
    pixels = image.pixels if image.pixels.ndim == 2 else image.pixels[..., 0]
    assert pixels.shape == ((16, 32) if turn <= 4 else (32, 16)) == (image.height, image.width)
    height, width = pixels.shape
    corners = pixels[height // 4 :: height // 2, width // 4 :: width // 2]
    np.testing.assert_allclose(corners, np.array(UPRIGHT[turn]) * 50, atol=2)


@pytest.mark.parametrize("block", [b"", b"garbage", exif(9), exif(6)[:-12], b"MM\0*\xff\xff\xff\xff"])
def test_damaged_exif_counts_as_upright(block: bytes) -> None:
    data = png(14, 9, 8, 0, rows=b"".join(b"\0" + row.tobytes() for row in GREY), extra=chunk(b"eXIf", block))
    np.testing.assert_array_equal(decode(data).pixels, GREY)


def test_orientation_in_xmp_is_ignored() -> None:
    packet = b'<x:xmpmeta><rdf:Description tiff:Orientation="3"/></x:xmpmeta>'
    for data in (
        encoded(Image.fromarray(GREY), "TIFF", tiffinfo={700: packet}),
        encoded(Image.fromarray(np.dstack([GREY] * 3)), "WEBP", lossless=True, xmp=packet),
    ):
        pixels = decode(data).pixels
        np.testing.assert_array_equal(pixels if pixels.ndim == 2 else pixels[..., 0], GREY)


def test_orientation_after_the_pixel_data_counts_too() -> None:
    plain = png(14, 9, 8, 0, rows=b"".join(b"\0" + row.tobytes() for row in GREY))
    data = plain[:-12] + chunk(b"eXIf", exif(3).removeprefix(b"Exif\0\0")) + plain[-12:]
    np.testing.assert_array_equal(decode(data).pixels, GREY[::-1, ::-1])


# --- limits ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "bomb",
    [
        png(60000, 60000, 8, 0, rows=b""),
        b"P5 60000 60000 255\n",
        b"BM" + struct.pack("<IIIIiiHHIIiiII", 60, 0, 54, 40, 60000, 60000, 1, 24, 0, 0, 0, 0, 0, 0),
        tiff(np.zeros((1, 1), np.uint8), t256=60000, t257=60000),
        tiff(np.zeros((1, 1), np.uint8), t322=60000, t323=60000),
        tiff(np.zeros((1, 1), np.uint8), t322=9500, t323=9500),
        b"RIFF\x1a\0\0\0WEBPVP8X\x0a\0\0\0\0\0\0\0" + b"\xff\xff\x00" * 2 + b"\0" * 4,
        b"\xff\xd8\xff\xc0\x00\x0b\x08"
        + struct.pack(">HH", 60000, 60000)
        + b"\x01\x01\x11\x00\xff\xda\x00\x02"
        + b"\0" * 9,
        png(1, 1, 8, 0, rows=b"\0\0", extra=chunk(b"zTXt", b"k\0\0" + zlib.compress(bytes(1 << 21)))),
    ],
    ids=["png", "pgm", "bmp", "tiff", "tiff-tile", "tiff-large-tile", "webp", "jpeg", "png-text"],
)
def test_bombs_are_refused_before_decoding(bomb: bytes) -> None:
    assert len(bomb) < 5000
    with pytest.raises(ImageTooLargeError):
        decode(bomb)


def test_limits_are_inclusive() -> None:
    data = encoded(Image.fromarray(GREY), "PNG")
    assert decode(data, Limits(max_bytes=len(data), max_pixels=14 * 9)).width == 14
    with pytest.raises(ImageTooLargeError, match="bytes"):
        decode(data, Limits(max_bytes=len(data) - 1))
    with pytest.raises(ImageTooLargeError, match="14 x 9 pixels"):
        decode(data, Limits(max_pixels=14 * 9 - 1))


@pytest.mark.parametrize("kind", sorted(FILES))
def test_pixel_limit_holds_for_every_format(kind: str) -> None:
    with pytest.raises(ImageTooLargeError):
        decode(FILES[kind], Limits(max_pixels=100))


def test_pillows_own_size_warning_is_not_triggered(monkeypatch: pytest.MonkeyPatch) -> None:
    # 126 pixels lie between the limit that warns and the doubled one that refuses.
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    for kind, data in FILES.items():
        if not kind.startswith("tiff"):
            decode(data)


def test_tiff_stays_below_pillows_own_limit() -> None:
    data = tiff(np.zeros((1, 1), np.uint8), t256=9500, t257=9500)
    with pytest.raises(ImageTooLargeError, match="TIFF is accepted up to"):
        decode(data)


def outcome(data: bytes) -> str | type[ImageError]:
    """The pixel hash, or the class of the refusal. Any other exception escapes, and fails the test."""
    try:
        return decode(data, Limits(max_pixels=1_000_000)).pixel_sha256
    except ImageError as error:
        return type(error)


# --- what cannot be decoded ------------------------------------------------------------------------------------------


def test_empty_and_foreign_data() -> None:
    with pytest.raises(ImageEmptyError):
        decode(b"")
    for data in (b"x", b"%PDF-1.7", b"<svg/>", bytes(1000), b"\x89PNG", encoded(Image.fromarray(GREY), "ICO")):
        with pytest.raises(ImageFormatError):
            decode(data)


def test_animations_are_refused() -> None:
    frames = [Image.fromarray(GREY), Image.fromarray(255 - GREY)]
    for format_name in ("GIF", "PNG", "WEBP", "TIFF"):
        data = encoded(frames[0], format_name, save_all=True, append_images=frames[1:])
        with pytest.raises(ImageAnimatedError):
            decode(data)


@pytest.mark.parametrize("kind", sorted(FILES))
def test_truncation_at_every_offset_is_an_error_or_changes_nothing(kind: str) -> None:
    data = FILES[kind]
    whole = decode(data).pixel_sha256
    outcomes = [outcome(data[:end]) for end in range(len(data))]
    assert outcomes[0] is ImageEmptyError
    # Fewer bytes than the longest signature are no image of any kind.
    assert set(outcomes[1:12]) <= {ImageFormatError, ImageTruncatedError}
    assert set(outcomes[12:]) <= {ImageTruncatedError, whole}
    # A JPEG without its end marker, or a BMP without its last padding, has all its pixels.
    assert outcomes.count(whole) <= (8 if kind.startswith(("jpeg", "bmp")) else 0)


def test_damaged_png_is_never_decoded_to_other_pixels() -> None:
    data = FILES["png"]
    for position in range(8, len(data)):
        damaged = bytearray(data)
        damaged[position] ^= 0x10
        with pytest.raises(ImageError):
            decode(bytes(damaged))


@given(
    kind=st.sampled_from(sorted(FILES)),
    edits=st.lists(st.tuples(st.integers(0, 10_000), st.integers(0, 255)), min_size=1, max_size=6),
    cut=st.integers(0, 30),
    front=st.booleans(),
)
@settings(deadline=None, max_examples=400)
def test_no_other_error_escapes_for_damaged_files(
    kind: str, edits: list[tuple[int, int]], cut: int, front: bool
) -> None:
    data = bytearray(FILES[kind])
    for position, value in edits:
        data[position % (min(len(data), 200) if front else len(data))] = value
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        outcome(bytes(data[: len(data) - cut]))


@given(
    st.sampled_from([b"", b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"II*\0\x08\0\0\0", b"MM\0+", b"BM", b"P5 ", b"P6 "]),
    st.binary(max_size=200),
)
@settings(deadline=None, max_examples=300)
def test_no_other_error_escapes_for_arbitrary_bytes(signature: bytes, data: bytes) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        outcome(signature + data)


def test_decoding_in_threads_shares_nothing() -> None:
    before = (Image.MAX_IMAGE_PIXELS, ImageFile.LOAD_TRUNCATED_IMAGES)
    expected = {kind: decode(data).pixel_sha256 for kind, data in FILES.items()}
    start = threading.Barrier(4)

    def work(_: int) -> bool:
        start.wait()
        return all(decode(data).pixel_sha256 == expected[kind] for kind, data in FILES.items())

    with ThreadPoolExecutor(4) as pool:
        assert all(pool.map(work, range(4)))
    assert before == (Image.MAX_IMAGE_PIXELS, ImageFile.LOAD_TRUNCATED_IMAGES)


# --- arrays and files ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "array",
    [
        GREY,
        GREY[..., np.newaxis],
        COLOUR,
        WIDE,
        WIDE.astype(">u2"),
        np.asfortranarray(COLOUR),
        COLOUR[::-1, ::2],
    ],
    ids=["grey", "grey-channel", "colour", "wide", "wide-big-endian", "fortran", "strided"],
)
def test_arrays_are_encoded_losslessly(array: np.ndarray[Any, Any]) -> None:
    data, image = from_array(array)
    again = decode(data)
    samples = array[..., 0] if array.shape[-1] == 1 else array
    np.testing.assert_array_equal(image.pixels, samples >> 8 if array.dtype.itemsize == 2 else samples)
    np.testing.assert_array_equal(again.pixels, image.pixels)
    for field in ("sha256", "pixel_sha256", "bytes", "width", "height", "media_type", "source_mode"):
        assert getattr(again, field) == getattr(image, field)


def test_the_callers_buffer_may_be_reused() -> None:
    buffer = GREY.copy()
    image = from_array(buffer)[1]
    buffer[:] = 0
    np.testing.assert_array_equal(image.pixels, GREY)


@pytest.mark.parametrize(
    "array",
    [
        GREY.astype(float),
        GREY > 9,
        GREY[0],
        np.dstack([COLOUR, GREY]),
        scene(dtype="uint16"),
        np.uint8(3),
        GREY[..., None, None],
    ],
)
def test_other_arrays_are_refused(array: np.ndarray[Any, Any]) -> None:
    with pytest.raises(ImageFormatError):
        from_array(array)


def test_empty_and_huge_arrays_are_refused() -> None:
    for shape in ((0, 4), (4, 0), (0, 0, 3)):
        with pytest.raises(ImageEmptyError):
            from_array(np.zeros(shape, np.uint8))
    with pytest.raises(ImageTooLargeError):
        from_array(GREY, Limits(max_pixels=9))


def test_files_are_read_whole(tmp_path: Path) -> None:
    file = tmp_path / "part.png"
    file.write_bytes(FILES["png"])
    assert read_file(file) == FILES["png"]
    assert read_file(str(file), Limits(max_bytes=len(FILES["png"]))) == FILES["png"]


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    (tmp_path / "empty.png").touch()
    (tmp_path / "large.png").write_bytes(bytes(101))
    with pytest.raises(ImageMissingError, match="absent"):
        read_file(tmp_path / "absent.png")
    with pytest.raises(ImageMissingError):
        read_file(tmp_path)
    with pytest.raises(ImageEmptyError):
        read_file(tmp_path / "empty.png")
    with pytest.raises(ImageTooLargeError):
        read_file(tmp_path / "large.png", Limits(max_bytes=100))
    with pytest.raises(ImageError):
        read_file("part\0.png")
