"""A tree in memory, for what reads trees."""

from collections.abc import Sequence

from traceai.ledger import merkle
from traceai.ledger.tlog import tiles


def leaves(count: int) -> list[bytes]:
    return [merkle.leaf_hash(number.to_bytes(4, "big")) for number in range(count)]


class ListTree:
    """A `tiles.TreeReader` that counts what it is asked for, and answers only for the full subtrees of its first `size` leaves."""

    def __init__(self, leaf_hashes: Sequence[bytes]) -> None:
        self.levels = [list(leaf_hashes)]
        while len(below := self.levels[-1]) >= tiles.WIDTH:
            full = len(below) // tiles.WIDTH * tiles.WIDTH
            self.levels.append(
                [merkle.root(below[start : start + tiles.WIDTH]) for start in range(0, full, tiles.WIDTH)]
            )
        self.size = len(leaf_hashes)
        self.reads: list[tiles.Run] = []

    def hashes(self, runs: Sequence[tiles.Run]) -> list[list[bytes]]:
        assert all(0 <= start < stop <= self.size >> 8 * level for level, start, stop in runs)
        self.reads += runs
        return [self.levels[level][start:stop] for level, start, stop in runs]
