"""From the bytes of a file to its identity and its pixels, or to one error that says why not.

| what the file holds                 | what is decoded                                                            |
|-------------------------------------|----------------------------------------------------------------------------|
| 8-bit greyscale, RGB                | as it is                                                                   |
| 1-bit                               | greyscale, 0 and 255                                                       |
| palette                             | RGB, also where every colour of the palette is grey                        |
| YCbCr                               | RGB (ITU-R BT.601, full range), by the decoder                             |
| CMYK                                | RGB without a colour profile; Adobe's inverted JPEGs are turned right      |
| alpha, a transparent colour         | composited over mid-grey, see below; opaque alpha is thereby dropped exactly |
| 16-bit greyscale (PNG, TIFF, PGM)   | hashed at 16 bits, then `v >> 8`, see below                                |
| 12-bit greyscale TIFF               | `v << 4`, then as 16-bit                                                   |
| PGM, PPM with another maxval        | scaled to 255 (PGM above 255: to 65535) and rounded, as Netpbm defines     |
| 16-bit PPM                          | refused: its decoder would round where all others take the high byte       |
| 16-bit colour or alpha (PNG, TIFF)  | the high byte of every sample, the same `v >> 8`; the low one is not hashed |
| 16-bit greyscale with alpha         | as above, and RGB: its decoder knows no other mode                         |
| 32-bit, signed, float, CIE Lab      | refused, even where the values happen to fit                               |
| EXIF orientation 1 to 8             | applied (JPEG, PNG `eXIf`, WebP, TIFF); damaged EXIF counts as upright     |
| colour profile, gamma, XMP          | ignored; so is a transparent level in 16-bit greyscale                     |
| further pictures behind a JPEG      | ignored: the thumbnails, depth and gain maps of MPO are no frames          |

- 16 bits are never stretched to the image's own range, for then a picture would depend on its brightest pixel. Cameras
  with 10 or 12 bits must store them left-aligned.
- Transparent pixels lie over the level 128, `(a*c + (255-a)*128 + 127) // 255`: over black a dark flaw would vanish
  into the ground, over white a bright one.
- What is refused is refused by the type of its samples, never by their values: of one series of images, all or none.

Decoding is thread-safe and touches no global state of Pillow. The plugins are called by name rather than through
`PIL.Image.open`, so that no other format's parser can be reached and no size warning of Pillow's own is triggered.

## The pixel hash (normative)

`pixel_sha256` is the SHA-256 of the ASCII header `traceai-pixels/1\\n<mode> <width> <height>\\n` followed by the
samples of the upright picture, row by row from the top left, without padding. `mode` is `L` (one byte a pixel), `RGB`
(three bytes, in this order) or `I;16` (two bytes, little-endian, before the reduction to 8 bits). The same pixels as
PNG and as TIFF have the same pixel hash.
"""

import hashlib
import io
import struct
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import (
    BmpImagePlugin,
    Image,
    ImageFile,
    JpegImagePlugin,
    PngImagePlugin,
    PpmImagePlugin,
    TiffImagePlugin,
    WebPImagePlugin,
)

from traceai.errors import (
    ImageEmptyError,
    ImageError,
    ImageFormatError,
    ImageMissingError,
    ImageTooLargeError,
)
from traceai.images.containers import DEFAULT_LIMITS, Container, Format, Limits, orientation, recognise, truncated

__all__ = ["DEFAULT_LIMITS", "DecodedImage", "Limits", "decode", "from_array", "identify", "pixel_hash", "read_file"]

_PLUGINS: dict[Format, Callable[[io.BytesIO], ImageFile.ImageFile]] = {
    "JPEG": JpegImagePlugin.JpegImageFile,
    "PNG": PngImagePlugin.PngImageFile,
    "TIFF": TiffImagePlugin.TiffImageFile,
    "BMP": BmpImagePlugin.BmpImageFile,
    "WEBP": WebPImagePlugin.WebPImageFile,
    "PPM": PpmImagePlugin.PpmImageFile,
}

# What Pillow's plugins raise, or let through, on damaged files: there is no base class for it.
_PILLOW_RAISES = (
    OSError,  # most decoder failures; UnidentifiedImageError is one
    SyntaxError,  # headers that do not parse
    ValueError,  # sizes, offsets and text out of range; UnicodeDecodeError is one
    TypeError,  # a TIFF tag of an unexpected type
    LookupError,  # a missing tag, an unknown mode, an index past the data
    AttributeError,  # chunks in an order that leaves a plugin half initialised
    AssertionError,  # the plugins' own invariants
    ArithmeticError,  # OverflowError and ZeroDivisionError from declared sizes and resolutions
    EOFError,  # WebP, and frames that are not there
    RuntimeError,  # NotImplementedError for header variants; RecursionError is one
    struct.error,
    zlib.error,
    Image.DecompressionBombError,
    Warning,  # only where the process turns warnings into errors
)


@dataclass(frozen=True, eq=False)
class DecodedImage:
    """One image, decoded.

    Attributes:
        pixels: uint8, (H, W) greyscale or (H, W, 3) RGB, upright, C-contiguous and read-only.
        sha256: of the bytes of the file, in hex.
        pixel_sha256: of the samples, in hex, as this module's docstring defines it.
        bytes: the size of the file.
        width, height: in pixels, upright.
        media_type: of the file, such as `image/png`.
        source_mode: the samples as the decoder found them, in Pillow's terms, such as `I;16` or `CMYK`.
    """

    pixels: npt.NDArray[np.uint8]
    sha256: str
    pixel_sha256: str
    bytes: int
    width: int
    height: int
    media_type: str
    source_mode: str


class _Source(io.BytesIO):
    """Remembers whether a decoder asked for more than there is."""

    ran_out = False

    def read(self, size: int | None = -1, /) -> bytes:
        chunk = super().read(size)
        self.ran_out |= size is not None and len(chunk) < size
        return chunk


def identify(data: bytes) -> str:
    """SHA-256 of the bytes of a file, in hex."""
    return hashlib.sha256(data).hexdigest()


def pixel_hash(samples: npt.NDArray[Any]) -> str:
    """The normative pixel hash of uint8 (H, W) or (H, W, 3), or uint16 (H, W) samples, in hex."""
    mode = "I;16" if samples.dtype.itemsize == 2 else "RGB" if samples.ndim == 3 else "L"
    height, width = samples.shape[:2]
    digest = hashlib.sha256(f"traceai-pixels/1\n{mode} {width} {height}\n".encode())
    digest.update(np.ascontiguousarray(samples, dtype="<u2" if mode == "I;16" else "u1").data)
    return digest.hexdigest()


def decode(data: bytes, limits: Limits = DEFAULT_LIMITS) -> DecodedImage:
    """Decodes the bytes of one image file.

    Raises:
        ImageEmptyError: no bytes at all.
        ImageTooLargeError: more bytes or pixels than `limits` allow, found before decoding; or no memory left.
        ImageTruncatedError: the file ends too early.
        ImageAnimatedError: several frames or pages.
        ImageFormatError: not an accepted format or pixel mode, or damaged.
    """
    container = recognise(data, limits)
    source = _Source(data)
    opened = False
    try:
        image = _PLUGINS[container.format](source)
        limits.check_pixels(*image.size)
        image.info.pop("xmp", None)  # Pillow would turn a TIFF by its XMP, which no other format's pixels depend on
        # A JPEG whose markers end before the scan opens with nothing to load; WebP never has tiles.
        opened = bool(image.tile) or container.format == "WEBP"
        image.load()
        source_mode, samples = image.mode, _samples(image, container)
    except _PILLOW_RAISES as error:
        raise _translated(error, container, header_ran_out=not opened and source.ran_out) from error
    except MemoryError as error:
        raise ImageTooLargeError("The image needs more memory than this machine has free; crop it.") from error
    return _described(samples, data, container.media_type, source_mode)


def from_array(array: npt.NDArray[Any], limits: Limits = DEFAULT_LIMITS) -> tuple[bytes, DecodedImage]:
    """Encodes an array losslessly as PNG, so that there are bytes to hash and to keep: `decode(data)` equals the image.

    Args:
        array: uint8 (H, W), (H, W, 1) or (H, W, 3) RGB, or uint16 (H, W). It is copied: a camera may reuse its buffer.

    Raises:
        ImageFormatError: another dtype or shape.
        ImageEmptyError: a side of length zero.
        ImageTooLargeError: more pixels or, encoded, more bytes than `limits` allow.
    """
    samples = array[..., 0] if array.ndim == 3 and array.shape[2] == 1 else array
    grey, colour = samples.ndim == 2, samples.ndim == 3 and samples.shape[2] == 3
    depth = samples.dtype.itemsize if samples.dtype.kind == "u" else 0
    if not (depth == 1 and (grey or colour)) and not (depth == 2 and grey):
        raise ImageFormatError(
            f"An array of {array.dtype} with shape {array.shape} is not an image; "
            "pass uint8 (H, W), (H, W, 1) or (H, W, 3), or uint16 (H, W)."
        )
    height, width = samples.shape[:2]
    if not samples.size:
        raise ImageEmptyError(f"The array has no pixels ({width} x {height}); check the camera.")
    limits.check_pixels(width, height)
    samples = np.array(samples, dtype=samples.dtype.newbyteorder("="), order="C")
    encoded = io.BytesIO()
    picture = Image.fromarray(samples)
    picture.save(encoded, "PNG", compress_level=1)
    data = encoded.getvalue()
    limits.check_bytes(len(data))
    return data, _described(samples, data, "image/png", picture.mode)


def read_file(path: str | Path, limits: Limits = DEFAULT_LIMITS) -> bytes:
    """The bytes of an image file.

    Raises:
        ImageMissingError: there is no such file.
        ImageEmptyError: it has no bytes.
        ImageTooLargeError: it has more than `limits.max_bytes`; found before reading.
        ImageError: it cannot be read.
    """
    file = Path(path)
    try:
        if not file.is_file():
            raise ImageMissingError(f"There is no image file {file}; check the path.")
        size = file.stat().st_size
        limits.check_bytes(size)
        with file.open("rb") as stream:
            data = stream.read(limits.max_bytes + 1)
    except (OSError, ValueError) as error:  # ValueError: a NUL character in the path
        raise ImageError(f"The image file {file} cannot be read ({error}); check its permissions.") from error
    if not data:
        raise ImageEmptyError(f"The image file {file} is empty; check that the camera finished writing it.")
    limits.check_bytes(len(data))
    return data


def _samples(image: Image.Image, container: Container) -> npt.NDArray[Any]:
    """The upright samples at full depth: uint8 (H, W) or (H, W, 3), or uint16 (H, W)."""
    mode, transparent = image.mode, "transparency" in image.info
    if mode.startswith("I;16") or (mode == "I" and container.format in ("PNG", "PPM")):
        wide = np.asarray(image).astype(np.uint16)
        samples: npt.NDArray[Any] = wide << 4 if container.bits == 12 else wide
    elif mode in ("1", "L", "LA", "La"):
        samples = _flattened(image, "LA") if transparent or mode in ("LA", "La") else np.asarray(image.convert("L"))
    elif mode in ("P", "PA", "RGB", "RGBX", "RGBA", "RGBa", "CMYK", "YCbCr"):
        alpha = transparent or mode in ("PA", "RGBA", "RGBa")
        samples = _flattened(image, "RGBA") if alpha else np.asarray(image.convert("RGB"))
    else:
        raise ImageFormatError(f"Samples of type {mode} are not accepted; save the image with 8 or 16 bits a sample.")
    exif = image.info.get("exif")
    # Pillow turns TIFF by itself while loading.
    turn = orientation(exif) if isinstance(exif, bytes) and container.format != "TIFF" else 1
    return _upright(samples, turn)


def _flattened(image: Image.Image, mode: str) -> npt.NDArray[np.uint8]:
    """`image` over mid-grey, in integers: the rule is exact and the same everywhere."""
    stored = np.asarray(image.convert(mode)).astype(np.uint16)
    alpha = stored[..., -1:]
    flat = ((alpha * stored[..., :-1] + (255 - alpha) * 128 + 127) // 255).astype(np.uint8)
    return flat[..., 0] if mode == "LA" else flat


def _upright(samples: npt.NDArray[Any], turn: int) -> npt.NDArray[Any]:
    """Undoes EXIF orientation `turn` (1 to 8). From 5 on, rows and columns change places."""
    if turn >= 5:
        samples = samples.swapaxes(0, 1)
    if turn in (3, 4, 7, 8):
        samples = samples[::-1]
    if turn in (2, 3, 6, 7):
        samples = samples[:, ::-1]
    return samples


def _described(samples: npt.NDArray[Any], data: bytes, media_type: str, source_mode: str) -> DecodedImage:
    reduced = samples >> 8 if samples.dtype == np.uint16 else samples
    pixels = np.ascontiguousarray(reduced, dtype=np.uint8)
    pixels.flags.writeable = False
    height, width = pixels.shape[:2]
    return DecodedImage(
        pixels=pixels,
        sha256=identify(data),
        pixel_sha256=pixel_hash(samples),
        bytes=len(data),
        width=width,
        height=height,
        media_type=media_type,
        source_mode=source_mode,
    )


def _translated(error: BaseException, container: Container, *, header_ran_out: bool) -> ImageError:
    reason = str(error)
    name = "WebP" if container.format == "WEBP" else container.format
    if isinstance(error, Image.DecompressionBombError) or "too large" in reason or "Too much memory" in reason:
        return ImageTooLargeError(
            f"The {name} file unpacks to more than is accepted ({reason}); save it without metadata."
        )
    if header_ran_out or isinstance(error, EOFError) or "truncated" in reason or "not enough image data" in reason:
        return truncated(name)
    return ImageFormatError(
        f"The {name} file cannot be decoded ({reason or type(error).__name__}); copy or export it again."
    )
