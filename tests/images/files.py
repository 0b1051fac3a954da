"""Small image files made on purpose: what Pillow can write, and what it cannot."""

import io
import struct
import zlib
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from PIL import Image


def encoded(image: Image.Image, format_name: str, **options: Any) -> bytes:
    stream = io.BytesIO()
    image.save(stream, format_name, **options)
    return stream.getvalue()


def scene(height: int = 9, width: int = 14, channels: int = 3, dtype: str = "uint8") -> npt.NDArray[Any]:
    """Reproducible noise in which no two orientations look alike."""
    shape = (height, width, channels) if channels > 1 else (height, width)
    return np.random.default_rng(7).integers(0, np.iinfo(dtype).max, shape, dtype=dtype, endpoint=True)


def chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def png(width: int, height: int, bits: int, colour_type: int, *, rows: bytes, extra: bytes = b"") -> bytes:
    """A PNG file; `rows` hold a filter byte each, and their number is not checked against the header."""
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, bits, colour_type, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + extra + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


def tiff(samples: npt.NDArray[Any], order: Literal["<", ">"] = "<", **tags: int) -> bytes:
    """An uncompressed greyscale TIFF file with any sample type and any further short tags (`t274=6`)."""
    height, width = samples.shape
    data = samples.astype(samples.dtype.newbyteorder(order)).tobytes()
    kind = {"u": 1, "i": 2, "f": 3}[samples.dtype.kind]
    values = {256: width, 257: height, 258: samples.dtype.itemsize * 8, 259: 1, 262: 1, 273: 0, 277: 1, 278: height}
    values |= {279: len(data), 339: kind} | {int(name[1:]): value for name, value in tags.items()}
    values[273] = 8 + 2 + 12 * len(values) + 4
    entries = b"".join(struct.pack(order + "HHII", tag, 4, 1, values[tag]) for tag in sorted(values))
    magic = b"II*\0" if order == "<" else b"MM\0*"
    return magic + struct.pack(order + "IH", 8, len(values)) + entries + struct.pack(order + "I", 0) + data


def exif(orientation: int) -> bytes:
    block = Image.Exif()
    block[274] = orientation
    return block.tobytes()


def one_of_each_format() -> dict[str, bytes]:
    """A small valid file of every accepted format and of the compressions whose decoders differ."""
    colour, grey = Image.fromarray(scene()), Image.fromarray(scene(channels=1))
    wide = Image.fromarray(scene(channels=1, dtype="uint16"))
    return {
        "jpeg": encoded(colour, "JPEG", exif=exif(6)),
        "jpeg-progressive": encoded(colour, "JPEG", progressive=True),
        "jpeg-cmyk": encoded(colour.convert("CMYK"), "JPEG"),
        "png": encoded(colour, "PNG", exif=exif(3)),
        "png-palette": encoded(colour.quantize(16), "PNG"),
        "png-16": encoded(wide, "PNG"),
        "tiff": encoded(colour, "TIFF"),
        "tiff-lzw": encoded(colour, "TIFF", compression="tiff_lzw"),
        "tiff-deflate": encoded(grey, "TIFF", compression="tiff_adobe_deflate"),
        "tiff-big": encoded(grey, "TIFF", big_tiff=True),
        "tiff-16": tiff(scene(channels=1, dtype="uint16"), ">", t274=8),
        "bmp": encoded(colour, "BMP"),
        "bmp-grey": encoded(grey, "BMP"),
        "webp": encoded(colour, "WEBP", lossless=True),
        "webp-lossy": encoded(colour.convert("RGBA"), "WEBP", exif=exif(5)),
        "pgm": encoded(grey, "PPM"),
        "pgm-16": encoded(wide, "PPM"),
        "pgm-100": b"P5\n# made by hand\n14 9\n100\n" + (scene(channels=1) % 101).tobytes(),
        "ppm": encoded(colour, "PPM"),
    }
