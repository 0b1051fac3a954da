"""What a file claims to be, checked before any decoder sees it.

A decoder that meets a damaged or hostile file may allocate first and complain later, or guess what is missing and
return other pixels. So the parts of each container that can be checked without decoding are checked here: signature,
declared size, frame count, and that every byte the headers point at is present. What passes may still be damaged inside
its compressed data; JPEG, which carries no checksum, cannot say.
"""

import re
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar, Literal

from traceai.errors import (
    ImageAnimatedError,
    ImageEmptyError,
    ImageError,
    ImageFormatError,
    ImageTooLargeError,
    ImageTruncatedError,
)

Format = Literal["JPEG", "PNG", "TIFF", "BMP", "WEBP", "PPM"]

# Pillow allocates a TIFF tile whole, whatever the picture it belongs to, and above this warns through global state.
_MAX_TIFF_PIXELS = 89_478_485


@dataclass(frozen=True)
class Limits:
    """The largest file, in bytes, and the largest picture, in pixels, that will be decoded."""

    max_bytes: int = 64 * 1024 * 1024
    max_pixels: int = 100_000_000

    def check_bytes(self, size: int) -> None:
        """Raises ImageTooLargeError when `size` is more than `max_bytes`."""
        if size > self.max_bytes:
            raise ImageTooLargeError(
                f"The image file has {size:,} bytes and at most {self.max_bytes:,} are accepted; "
                "crop it, compress it losslessly or raise the limit."
            )

    def check_pixels(self, width: int, height: int) -> None:
        """Raises ImageTooLargeError when `width * height` is more than `max_pixels`."""
        if width * height > self.max_pixels:
            raise ImageTooLargeError(
                f"The image declares {width} x {height} pixels and at most {self.max_pixels:,} are accepted; "
                "crop it or raise the limit."
            )


DEFAULT_LIMITS = Limits()


@dataclass(frozen=True)
class Container:
    """A file whose container holds together. `bits` is the depth of one sample where the container says so (TIFF)."""

    format: Format
    media_type: str
    bits: int | None = None


def recognise(data: bytes, limits: Limits = DEFAULT_LIMITS) -> Container:
    """The container of an image file, from its content alone; names and suffixes play no part.

    Raises:
        ImageEmptyError: no bytes at all.
        ImageTooLargeError: more bytes than `limits` allow or, where the header can be read here, more pixels.
        ImageTruncatedError: the headers point past the end of the file.
        ImageAnimatedError: several frames or pages (GIF, APNG, animated WebP, multi-page TIFF).
        ImageFormatError: none of the accepted formats, or a damaged or unsupported container.
    """
    if not data:
        raise ImageEmptyError("The image file is empty; check that the camera finished writing it.")
    limits.check_bytes(len(data))
    if data.startswith(b"\x89PNG\r\n\x1a\n"):
        return _png(data, limits)
    if data.startswith(b"\xff\xd8\xff"):
        return Container("JPEG", "image/jpeg")
    if data[:4] in Directory.ORDERS:
        return _tiff(data, limits)
    if data.startswith(b"BM"):
        return Container("BMP", "image/bmp")
    if data.startswith(b"RIFF") and data[8:12] == b"WEBP":
        return _webp(data, limits)
    if data[:2] in (b"P5", b"P6") and data[2:3].isspace():
        return _netpbm(data, limits)
    if data[:6] in (b"GIF87a", b"GIF89a"):
        raise ImageAnimatedError("GIF is a format for animations and is not accepted; export the picture as PNG.")
    raise ImageFormatError("The file is not an image in an accepted format (JPEG, PNG, TIFF, BMP, WebP, PGM, PPM).")


def truncated(format_name: str) -> ImageTruncatedError:
    return ImageTruncatedError(
        f"The {format_name} file ends too early; check that it was copied or written completely."
    )


# --- PNG (ISO/IEC 15948) ---------------------------------------------------------------------------------------------


def _png_chunks(data: bytes) -> Iterator[tuple[bytes, memoryview]]:
    """Every chunk up to and including IEND, its CRC verified."""
    view, position, kind = memoryview(data), 8, b""
    while kind != b"IEND":
        if position + 12 > len(data):
            raise truncated("PNG")
        length, kind = struct.unpack_from(">I4s", data, position)
        end = position + 12 + length
        if end > len(data):
            raise truncated("PNG")
        (crc,) = struct.unpack_from(">I", data, end - 4)
        if zlib.crc32(view[position + 4 : end - 4]) != crc:
            raise ImageFormatError(
                "The PNG file is damaged (a checksum does not match); copy it again from its source."
            )
        yield kind, view[position + 8 : end - 4]
        position = end


def _png(data: bytes, limits: Limits) -> Container:
    for index, (kind, body) in enumerate(_png_chunks(data)):
        if index == 0:
            if kind != b"IHDR" or len(body) != 13:
                raise ImageFormatError("The PNG file is damaged (it has no header); copy it again from its source.")
            limits.check_pixels(*struct.unpack_from(">II", body))
        elif kind == b"acTL" and len(body) >= 4 and int.from_bytes(body[:4], "big") > 1:
            raise ImageAnimatedError("The PNG file is an animation; save the one frame to be inspected.")
    return Container("PNG", "image/png")


# --- Netpbm (the manual pages pgm(5) and ppm(5)) ---------------------------------------------------------------------

_GAP = rb"(?:\s|#[^\n]*\n)+"
_NETPBM_HEADER = re.compile(rb"P[56]" + _GAP + rb"(\d+)" + _GAP + rb"(\d+)" + _GAP + rb"(\d+)\s")
_NETPBM_HEADER_SO_FAR = re.compile(rb"P[56](?:\s|\d|#[^\n]*(?:\n|\Z))*")


def _netpbm(data: bytes, limits: Limits) -> Container:
    header = _NETPBM_HEADER.match(data[:1024])
    if header is None:
        if len(data) < 1024 and _NETPBM_HEADER_SO_FAR.fullmatch(data):
            raise truncated("PPM")
        raise ImageFormatError("The PGM or PPM file is damaged (its header does not parse); export it again.")
    width, height, maximum = (int(number) for number in header.groups())
    limits.check_pixels(width, height)
    if data.startswith(b"P5"):
        return Container("PPM", "image/x-portable-graymap")
    if maximum > 255:
        raise ImageFormatError("The PPM file has 16 bits a sample; save it with 8 bits, or as PNG.")
    return Container("PPM", "image/x-portable-pixmap")


# --- WebP (RFC 9649) -------------------------------------------------------------------------------------------------


def _webp(data: bytes, limits: Limits) -> Container:
    size = int.from_bytes(data[4:8], "little")
    kind = data[12:16]
    if len(data) < max(size + 8, 25 if kind == b"VP8L" else 30):
        raise truncated("WebP")
    if kind == b"VP8X":
        if data[20] & 0x02:
            raise ImageAnimatedError("The WebP file is an animation; save the one frame to be inspected.")
        width = 1 + int.from_bytes(data[24:27], "little")
        height = 1 + int.from_bytes(data[27:30], "little")
    elif kind == b"VP8L":
        packed = int.from_bytes(data[21:25], "little")
        width, height = 1 + (packed & 0x3FFF), 1 + (packed >> 14 & 0x3FFF)
    elif kind == b"VP8 ":
        width, height = (side & 0x3FFF for side in struct.unpack_from("<HH", data, 26))
    else:
        raise ImageFormatError("The WebP file is damaged (it begins with an unknown chunk); copy it again.")
    limits.check_pixels(width, height)
    return Container("WEBP", "image/webp")


# --- TIFF 6.0, BigTIFF and the EXIF block, which is a small TIFF -----------------------------------------------------


class Directory:
    """The first image file directory of a TIFF stream.

    Entries are kept as (type, count, position of the value), and resolved on demand: an EXIF block with a dangling
    pointer somewhere still tells its orientation.
    """

    ORDERS: ClassVar = {b"II*\0": "<", b"MM\0*": ">", b"II+\0": "<", b"MM\0+": ">"}
    _SIZES: ClassVar = {3: 2, 4: 4, 5: 8, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4, 16: 8, 17: 8, 18: 8}  # all others: 1
    _INTEGERS: ClassVar = {1: "B", 3: "H", 4: "I", 13: "I", 16: "Q", 18: "Q"}

    def __init__(self, data: bytes) -> None:
        """Raises ImageTruncatedError where the directory lies past the end, ImageFormatError where it is none."""
        order = self.ORDERS.get(data[:4])
        if order is None:
            raise ImageFormatError("The data is no TIFF stream.")
        self._data, self._order = data, order
        big = b"+" in data[:4]
        pointer, counter, entry_size = ("Q", "Q", 20) if big else ("I", "H", 12)
        start = self._unpack(pointer, 8 if big else 4)
        count = self._unpack(counter, start)
        first = start + struct.calcsize(counter)
        after = first + count * entry_size
        self.next = self._unpack(pointer, after)
        self.entries: dict[int, tuple[int, int, int]] = {}
        for position in range(first, after, entry_size):
            tag, kind = self._unpack("H", position), self._unpack("H", position + 2)
            length = self._unpack(pointer, position + 4)
            inline = position + 4 + struct.calcsize(pointer)
            fits = length * self._SIZES.get(kind, 1) <= struct.calcsize(pointer)
            self.entries.setdefault(tag, (kind, length, inline if fits else self._unpack(pointer, inline)))

    def _unpack(self, code: str, position: int) -> int:
        if position + struct.calcsize(code) > len(self._data):
            raise truncated("TIFF")
        value: int = struct.unpack_from(self._order + code, self._data, position)[0]
        return value

    def check(self, tag: int) -> None:
        """Raises ImageTruncatedError when the values of `tag` lie past the end of the stream."""
        kind, count, position = self.entries[tag]
        if position + count * self._SIZES.get(kind, 1) > len(self._data):
            raise truncated("TIFF")

    def values(self, tag: int) -> tuple[int, ...]:
        """The unsigned integers of `tag`; none where it is absent or of another type."""
        if tag not in self.entries:
            return ()
        self.check(tag)
        kind, count, position = self.entries[tag]
        if kind not in self._INTEGERS:
            return ()
        return struct.unpack_from(f"{self._order}{count}{self._INTEGERS[kind]}", self._data, position)


def _tiff(data: bytes, limits: Limits) -> Container:
    directory = Directory(data)
    for tag in directory.entries:
        directory.check(tag)
    if directory.next:
        if directory.next >= len(data):
            raise truncated("TIFF")
        raise ImageAnimatedError("The TIFF file holds several pages; save the one to be inspected.")
    for across, down in ((256, 257), (322, 323)):  # the picture, and one tile of it
        width, height = ((*directory.values(tag), 0)[0] for tag in (across, down))
        limits.check_pixels(width, height)
        if width * height > _MAX_TIFF_PIXELS:
            raise ImageTooLargeError(
                f"The TIFF file declares {width} x {height} pixels and TIFF is accepted up to {_MAX_TIFF_PIXELS:,}; "
                "save it as PNG."
            )
    for offsets, counts in ((273, 279), (324, 325)):
        for offset, count in zip(directory.values(offsets), directory.values(counts), strict=False):
            if offset + count > len(data):
                raise truncated("TIFF")
    bits = max(directory.values(258), default=1)
    if any(sample_format not in (1, 4) for sample_format in directory.values(339)):
        raise ImageFormatError(
            "The TIFF file holds signed or floating-point samples; save it with 8 or 16 unsigned bits."
        )
    if bits > 8 and directory.values(262)[:1] == (0,):
        raise ImageFormatError("The TIFF file stores white as zero in more than 8 bits; save it with black as zero.")
    return Container("TIFF", "image/tiff", bits)


def orientation(exif: bytes) -> int:
    """The EXIF orientation, 1 to 8 (CIPA DC-008, tag 274), of an EXIF block; 1, upright, where it tells none."""
    try:
        found = Directory(exif.removeprefix(b"Exif\0\0")).values(274)
    except ImageError:
        return 1
    return found[0] if found and 1 <= found[0] <= 8 else 1
