"""How an entry's bytes lie in the journal: as they are, or compressed against a dictionary that never changes.

Records resemble each other, so a dictionary of typical records saves three quarters of the bytes, entry by entry: the journal
stays insert-only, and every entry can be read alone. The stored form is no part of the evidence. Hashes are over the entry.

    {...                 the entry itself, which begins with a brace
    0x02 frame           a Zstandard frame (RFC 8878) with its content size, compressed with dictionary 2
    0x01 frame           the same with dictionary 1: read, and no longer written

Law: `unpack(pack(entry)) == entry`. Dictionary 1 (`dictionary-1.txt`) is typical records. Dictionary 2 (`dictionary-2.zstd`) is the
same text behind the entropy tables of what it leaves to be coded, which a frame then need not bring: the tables of Zstandard's
ZDICT_finalizeDictionary, from decisions that differ in everything that decisions differ in. Another dictionary will be another
first byte.
"""

import threading
from importlib.resources import files
from typing import Any

import zstandard

from traceai.errors import RecordError

# The entry bundles of tlog-tiles state an entry's length in 16 bits.
LONGEST_ENTRY = 2**16 - 1
_BESIDE = files("traceai.ledger")
DICTIONARY_1 = _BESIDE.joinpath("dictionary-1.txt").read_bytes()
DICTIONARY_2 = _BESIDE.joinpath("dictionary-2.zstd").read_bytes()
_PACKED_1, _PACKED_2 = b"\x01", b"\x02"
_FRAME: dict[str, Any] = {"write_content_size": True, "write_checksum": False, "write_dict_id": False}
# What a decision takes at most. For so little, level 1 but for matches of 7 bytes and more, since what repeats there is longer,
# and with tables no larger than the dictionary asks for, which stay in the nearest cache: faster, and a decision is shorter.
_SHORT = 4096
_FOR_SHORT = zstandard.ZstdCompressionParameters.from_level(
    1, source_size=_SHORT, dict_size=len(DICTIONARY_2), min_match=7, hash_log=11, **_FRAME
)


class _Codec(threading.local):
    """Compression contexts are not for two threads at once."""

    def __init__(self) -> None:
        first = zstandard.ZstdCompressionDict(DICTIONARY_1, dict_type=zstandard.DICT_TYPE_RAWCONTENT)
        second = zstandard.ZstdCompressionDict(DICTIONARY_2, dict_type=zstandard.DICT_TYPE_FULLDICT)
        self.compress = zstandard.ZstdCompressor(level=1, dict_data=second, **_FRAME).compress
        self.compress_short = zstandard.ZstdCompressor(dict_data=second, compression_params=_FOR_SHORT).compress
        self.decompress = {
            _PACKED_1: zstandard.ZstdDecompressor(dict_data=first).decompress,
            _PACKED_2: zstandard.ZstdDecompressor(dict_data=second).decompress,
        }


_codec = _Codec()


def pack(entry: bytes) -> bytes:
    """The stored form of an entry's bytes.

    Raises:
        RecordError: longer than `LONGEST_ENTRY` bytes, or nothing that begins like a record.
    """
    if len(entry) > LONGEST_ENTRY:
        raise RecordError(f"An entry has at most {LONGEST_ENTRY} bytes and this one has {len(entry)}.")
    if not entry.startswith(b"{"):
        raise RecordError("A journal entry is a JSON object.")
    packed = _PACKED_2 + (_codec.compress_short if len(entry) <= _SHORT else _codec.compress)(entry)
    return packed if len(packed) < len(entry) else entry


def unpack(stored: bytes) -> bytes:
    """The entry behind its stored form.

    Raises:
        RecordError: not a stored form, or one of more than `LONGEST_ENTRY` bytes. Nothing larger is ever allocated.
    """
    decompress = _codec.decompress.get(stored[:1])
    if decompress is None:
        if stored[:1] != b"{" or len(stored) > LONGEST_ENTRY:
            raise RecordError("These bytes are no stored journal entry.")
        return stored
    frame = stored[1:]
    try:
        if not 0 <= zstandard.frame_content_size(frame) <= LONGEST_ENTRY:
            raise RecordError("This stored journal entry states no length, or one that no entry has.")
        return bytes(decompress(frame, allow_extra_data=False))
    except zstandard.ZstdError as error:
        raise RecordError(f"This stored journal entry cannot be decompressed: {error}.") from error
