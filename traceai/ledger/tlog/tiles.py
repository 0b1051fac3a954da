"""The tiles in which a log serves its tree and its entries, and proofs out of them (https://c2sp.org/tlog-tiles).

A tile of level l holds up to 256 consecutive hashes of full subtrees of 256**l leaves. Together with the tree's size, tiles are
all that a root or a proof needs: at most three reads a level, each within one tile.
"""

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol, Self

from traceai.errors import InputError, LedgerGapError, TileError
from traceai.ledger import merkle

HEIGHT = 8
WIDTH = 256
HIGHEST_LEVEL = 63
LARGEST_INDEX = 2**63 - 1
LONGEST_ENTRY = 2**16 - 1


# (level, start, stop): the full subtrees number `start` to `stop` - 1 of 256**level leaves; 1 to 256 of them, all of one tile.
Run = tuple[int, int, int]


class TreeReader(Protocol):
    """What stores a tree."""

    def hashes(self, runs: Sequence[Run]) -> Sequence[Sequence[bytes]]:
        """The MTH (32 bytes each) of the subtrees of each run, left to right. All that a proof needs is asked for at once."""
        ...


@dataclass(frozen=True)
class Tile:
    """One tile or entry bundle ("Merkle Tree", "Log entries").

    Attributes:
        level: 0 to 63; None for a bundle of entries.
        index: from 0 within the level, below 2**63.
        width: hashes or entries: 256, or 1 to 255 in a partial tile.

    Law: `Tile.parse(t.path) == t`, and `Tile.parse(p).path == p`.

    Raises:
        TileError: anything else.
    """

    level: int | None
    index: int
    width: int = WIDTH

    def __post_init__(self) -> None:
        if self.level is not None and not 0 <= self.level <= HIGHEST_LEVEL:
            raise TileError(f"The level of a tile is between 0 and {HIGHEST_LEVEL} and not {self.level}.")
        if not 0 <= self.index <= LARGEST_INDEX or not 1 <= self.width <= WIDTH:
            raise TileError(f"There is no tile number {self.index} of width {self.width}.")

    @property
    def path(self) -> str:
        """What follows <prefix>/tile/: "0/x001/x234/067", "1/000.p/8", "entries/000"."""
        rest, last = divmod(self.index, 1000)
        number = f"{last:03}"
        while rest:
            rest, group = divmod(rest, 1000)
            number = f"x{group:03}/{number}"
        level = "entries" if self.level is None else self.level
        return f"{level}/{number}" if self.width == WIDTH else f"{level}/{number}.p/{self.width}"

    @classmethod
    def parse(cls, path: str) -> Self:
        """The inverse of `path`.

        Raises:
            TileError: not a tile's path, or not its one spelling.
        """
        # Seven groups of digits hold 2^63 - 1; no longer text is ever made a number.
        found = re.fullmatch(r"(entries|[0-9]{1,2})/((?:x[0-9]{3}/){0,6}[0-9]{3})(?:\.p/([0-9]{1,3}))?", path)
        if not found:
            raise TileError(
                "This is no tile: its path is <level>/<number>[.p/<width>], with the number as in x001/x234/067."
            )
        level, number, width = found.groups()
        index = int(re.sub("[x/]", "", number))
        tile = cls(None if level == "entries" else int(level), index, WIDTH if width is None else int(width))
        if tile.path != path:
            raise TileError(f"The path of this tile is {tile.path}.")
        return tile

    @property
    def start_index(self) -> int:
        """The first entry that the tile spans."""
        return self.index << HEIGHT * ((self.level or 0) + 1)

    @property
    def end_index(self) -> int:
        """The entry after the last that the tile, once full, spans."""
        return self.index + 1 << HEIGHT * ((self.level or 0) + 1)

    def is_within(self, size: int) -> bool:
        """Whether a tree of `size` leaves has every hash or entry of this tile ("Partial Tiles")."""
        return self.index * WIDTH + self.width <= size >> HEIGHT * (self.level or 0)

    def is_pruned(self, minimum_index: int) -> bool:
        """Whether a log that publishes entries from `minimum_index` on may refuse this tile ("Pruning")."""
        return self.end_index <= minimum_index


def tiles_of(size: int) -> Iterator[Tile]:
    """Every tile of a tree of `size` leaves, each as wide as it is there, by level and number. None is empty.

    The entry bundles are those of level 0 with the level None.
    """
    level = 0
    while size > 0:
        for index in range(size // WIDTH):
            yield Tile(level, index)
        if size % WIDTH:
            yield Tile(level, size // WIDTH, size % WIDTH)
        size >>= HEIGHT
        level += 1


def tile_data(reader: TreeReader, tile: Tile) -> bytes:
    """The bytes of a tile of hashes: 32 for each. The reader's tree has to have them (`Tile.is_within`).

    Raises:
        LedgerGapError: the reader does not have them.
    """
    if tile.level is None:
        raise TileError("The tree's hashes are in numbered levels; this tile holds entries.")
    start = tile.index * WIDTH
    return b"".join(*_read(reader, [(tile.level, start, start + tile.width)]))


def entry_bundle(entries: Sequence[bytes]) -> bytes:
    """1 to 256 entries, each after its length as a big-endian uint16 ("Log entries").

    Raises:
        TileError: no entry, too many, or one of more than 65535 bytes.
    """
    if not 1 <= len(entries) <= WIDTH or any(len(entry) > LONGEST_ENTRY for entry in entries):
        raise TileError(f"An entry bundle has 1 to {WIDTH} entries of at most {LONGEST_ENTRY} bytes.")
    return b"".join(len(entry).to_bytes(2, "big") + entry for entry in entries)


def parse_entry_bundle(data: bytes, width: int) -> list[bytes]:
    """The inverse of `entry_bundle`.

    Raises:
        TileError: `data` is not exactly `width` entries.
    """
    entries: list[bytes] = []
    position = 0
    while position < len(data) and len(entries) < width:
        start = position + 2
        position = start + int.from_bytes(data[position:start], "big")
        entries.append(data[start:position])
    if position != len(data) or len(entries) != width or not 1 <= width <= WIDTH:
        raise TileError(f"These bytes are no bundle of {width} entries.")
    return entries


def root(reader: TreeReader, size: int) -> bytes:
    """MTH(D[size]) (RFC 6962, section 2.1): `merkle.root` of the leaves.

    Raises:
        LedgerGapError: the reader does not have them.
    """
    return _subtrees(reader, [(0, size)])[0] if size else merkle.EMPTY_ROOT


def inclusion_proof(reader: TreeReader, index: int, size: int) -> list[bytes]:
    """PATH(index, D[size]) (RFC 6962, section 2.1.1): `merkle.inclusion_proof` of the leaves.

    Raises:
        InputError: `index` is not a leaf of this tree.
        LedgerGapError: the reader does not have all of it.
    """
    if not 0 <= index < size:
        raise InputError(f"There is no leaf {index} in a tree of {size}.")
    siblings = []
    start, stop = 0, size
    while stop - start > 1:
        middle = start + _split(stop - start)
        if index < middle:
            siblings.append((middle, stop))
            stop = middle
        else:
            siblings.append((start, middle))
            start = middle
    return _subtrees(reader, siblings[::-1])


def consistency_proof(reader: TreeReader, size1: int, size2: int) -> list[bytes]:
    """PROOF(size1, D[size2]) (RFC 6962, section 2.1.2): `merkle.consistency_proof` of the leaves.

    Raises:
        InputError: not 0 <= size1 <= size2.
        LedgerGapError: the reader does not have all of it.
    """
    if not 0 <= size1 <= size2:
        raise InputError(f"There is no consistency proof from a tree of {size1} to one of {size2}.")
    if size1 in (0, size2):
        return []
    siblings = []
    start, stop = 0, size2
    while stop != size1:
        middle = start + _split(stop - start)
        if size1 <= middle:
            siblings.append((middle, stop))
            stop = middle
        else:
            siblings.append((start, middle))
            start = middle
    # The verifier has the old root itself where that is a subtree of the new tree.
    if start != 0:
        siblings.append((start, stop))
    return _subtrees(reader, siblings[::-1])


def _subtrees(reader: TreeReader, ranges: Sequence[tuple[int, int]]) -> list[bytes]:
    """MTH(D[start:stop]) of each range, all of which are nodes of one tree: `start` is a multiple of the range's own height."""
    runs = [list(_runs(start, stop)) for start, stop in ranges]
    reads = _merged(run for of_range in runs for run in of_range)
    tiles = {
        (level, start // WIDTH): (start, hashes)
        for (level, start, _), hashes in zip(reads, _read(reader, reads), strict=True)
    }

    def known(level: int, start: int, stop: int) -> Sequence[bytes]:
        first, hashes = tiles[level, start // WIDTH]
        return hashes[start - first : stop - first]

    return [_fold([known(*run) for run in of_range]) for of_range in runs]


def _runs(start: int, stop: int) -> Iterator[Run]:
    """The stored hashes that make up D[start:stop], left to right: (level, first, last + 1), at most 255 a level."""
    for level in range(((stop - start).bit_length() - 1) // HEIGHT, -1, -1):
        shift = HEIGHT * level
        end = stop >> shift
        if start >> shift < end:
            yield level, start >> shift, end
        start = end << shift


def _merged(runs: Iterable[Run]) -> list[Run]:
    """All these hashes in one run a tile. A hash that lies between two of them costs less than another run."""
    merged: list[Run] = []
    for level, start, stop in sorted(runs):
        if merged and merged[-1][0] == level and merged[-1][1] // WIDTH == start // WIDTH:
            merged[-1] = (level, merged[-1][1], stop)
        else:
            merged.append((level, start, stop))
    return merged


def _fold(runs: Iterable[Sequence[bytes]]) -> bytes:
    """The root over the hashes of `_runs`, one list a level, the highest first."""
    peaks: list[bytes] = []
    for hashes in runs:
        start = 0
        for height in range(HEIGHT - 1, -1, -1):
            if len(hashes) >> height & 1:
                nodes = hashes[start : start + (1 << height)]
                start += len(nodes)
                while len(nodes) > 1:
                    nodes = list(map(merkle.node_hash, nodes[::2], nodes[1::2]))
                peaks += nodes
    node = peaks.pop()
    while peaks:
        node = merkle.node_hash(peaks.pop(), node)
    return node


def _read(reader: TreeReader, runs: Sequence[Run]) -> Sequence[Sequence[bytes]]:
    found = reader.hashes(runs)
    for (level, start, stop), hashes in zip(runs, found, strict=True):
        if len(hashes) != stop - start:
            raise LedgerGapError(
                f"The tree has {len(hashes)} of the {stop - start} hashes from {start} at level {level}; run "
                "`traceai ledger verify`."
            )
    return found


def _split(n: int) -> int:
    """The largest power of two smaller than `n`."""
    return 1 << (n - 1).bit_length() - 1
