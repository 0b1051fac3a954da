"""tlog-tiles: paths, bundles, and proofs out of tiles that are those of the definition."""

from collections import Counter
from collections.abc import Sequence

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tests.ledger.trees import ListTree, leaves
from traceai.errors import InputError, LedgerGapError, TileError
from traceai.ledger import merkle
from traceai.ledger.tlog import tiles
from traceai.ledger.tlog.tiles import Tile

INDEXES = st.integers(0, 2**63 - 1) | st.integers(0, 2000)
TILES = st.builds(Tile, st.none() | st.integers(0, 63), INDEXES, st.integers(1, 256))


@pytest.fixture(scope="module")
def tree() -> ListTree:
    return ListTree(leaves(100_000))


@pytest.mark.parametrize(
    ("tile", "path"),
    [
        (Tile(0, 1234067), "0/x001/x234/067"),  # the specification's own example
        (Tile(0, 0), "0/000"),
        (Tile(0, 273, 112), "0/273.p/112"),
        (Tile(2, 0, 1), "2/000.p/1"),
        (Tile(63, 999, 255), "63/999.p/255"),
        (Tile(None, 0), "entries/000"),
        (Tile(None, 1000, 8), "entries/x001/000.p/8"),
        (Tile(0, 2**63 - 1), "0/x009/x223/x372/x036/x854/x775/807"),
    ],
)
def test_paths_are_those_of_the_specification(tile: Tile, path: str) -> None:
    assert tile.path == path
    assert Tile.parse(path) == tile


@settings(deadline=None)
@given(TILES)
def test_a_tile_and_its_path_are_the_same(tile: Tile) -> None:
    assert Tile.parse(tile.path) == tile


@pytest.mark.parametrize(
    "path",
    [
        "", "0", "0/", "/000", "0/0", "0/00", "0/0000", "0/1000", "0/x000/001", "0/x001/x234/67", "0/001/067",
        "0/x001", "0/x001/x067", "0/X001/067", "00/000", "01/000", "64/000", "-1/000", "+1/000", "0/-01", "0/000.p/0",
        "0/000.p/256", "0/000.p/01", "0/000.p/", "0/000.p", "0/000.p/1/", "0/000/", " 0/000", "0/000\n", "0/000.p/1\n",
        "data/000", "entries", "entries/", "entries/0", "entries/x000/000", "tile/0/000", "0/٠٠٠", "٠/000", "0/000.p/٣",
        "0/../000", "0//000", "0/x009/x223/x372/x036/x854/x775/808", "0/x001/x000/x000/x000/x000/x000/x000/000",
        "0/" + "x001/" * 4000 + "000", "9" * 5000 + "/000",
    ],
)  # fmt: skip
def test_other_spellings_and_tiles_that_cannot_be_are_refused(path: str) -> None:
    with pytest.raises(TileError) as error:
        Tile.parse(path)
    assert error.value.code == "tile-invalid"


@settings(deadline=None)
@given(st.text("0123456789x/.pentris", max_size=16))
def test_whatever_parses_has_one_spelling(path: str) -> None:
    try:
        tile = Tile.parse(path)
    except TileError:
        return
    assert tile.path == path


@pytest.mark.parametrize("arguments", [(64, 0), (-1, 0), (0, -1), (0, 2**63), (0, 0, 0), (0, 0, 257)])
def test_tiles_that_cannot_be_are_refused(arguments: tuple[int, int]) -> None:
    with pytest.raises(TileError):
        Tile(*arguments)


def test_a_tree_of_seventy_thousand_has_the_tiles_of_the_specification() -> None:
    found = list(tiles.tiles_of(70_000))
    assert found == [*(Tile(0, n) for n in range(273)), Tile(0, 273, 112), Tile(1, 0), Tile(1, 1, 17), Tile(2, 0, 1)]
    assert list(tiles.tiles_of(256)) == [Tile(0, 0), Tile(1, 0, 1)]
    assert list(tiles.tiles_of(1)) == [Tile(0, 0, 1)]
    assert list(tiles.tiles_of(0)) == []


@settings(deadline=None)
@given(st.integers(0, 200_000))
def test_the_tiles_of_a_tree_are_within_it_and_the_next_are_not(size: int) -> None:
    widest: dict[tuple[int | None, int], int] = {}
    for tile in tiles.tiles_of(size):
        assert tile.is_within(size)
        assert tile.width == 256 or not Tile(tile.level, tile.index, tile.width + 1).is_within(size)
        assert not Tile(tile.level, tile.index + 1, 256).is_within(size) or tile.width == 256
        widest[tile.level, tile.index] = tile.width
    counts = Counter(level for level, _ in widest)
    for level in range(4):
        assert sum(width for (other, _), width in widest.items() if other == level) == size >> 8 * level
        assert not Tile(level, counts[level], 1).is_within(size)


def test_what_a_tile_spans_decides_when_it_may_be_pruned() -> None:
    assert (Tile(1, 2, 3).start_index, Tile(1, 2, 3).end_index) == (2 * 65536, 3 * 65536)
    assert (Tile(None, 2).start_index, Tile(None, 2).end_index) == (512, 768)
    assert Tile(0, 2).is_pruned(768)
    assert not Tile(0, 2).is_pruned(767)
    assert not Tile(1, 0).is_pruned(65535)
    assert not any(tile.is_pruned(0) for tile in tiles.tiles_of(70_000))


@settings(deadline=None)
@given(st.lists(st.binary(max_size=40), min_size=1, max_size=256))
def test_entry_bundles_give_their_entries_back(entries: list[bytes]) -> None:
    data = tiles.entry_bundle(entries)
    assert tiles.parse_entry_bundle(data, len(entries)) == entries
    for wrong in (data + b"\x00", data[:-1], data + b"\x00\x00"):
        with pytest.raises(TileError):
            tiles.parse_entry_bundle(wrong, len(entries))
    for width in (len(entries) - 1, len(entries) + 1):
        with pytest.raises(TileError):
            tiles.parse_entry_bundle(data, width)


def test_entry_bundles_are_written_as_the_specification_says() -> None:
    assert tiles.entry_bundle([b"ab", b"", b"c" * 258]) == b"\x00\x02ab" + b"\x00\x00" + b"\x01\x02" + b"c" * 258


def test_entries_that_no_bundle_can_hold_are_refused() -> None:
    tiles.entry_bundle([bytes(65535)] * 256)
    for entries in ([], [b""] * 257, [bytes(65536)]):
        with pytest.raises(TileError):
            tiles.entry_bundle(entries)
    for data, width in ((b"", 0), (b"", 1), (b"\x00", 1), (b"\x00\x05abcd", 1), (b"\x00\x00" * 257, 257), (b"", -1)):
        with pytest.raises(TileError):
            tiles.parse_entry_bundle(data, width)


@pytest.mark.parametrize("size", range(131))
def test_roots_and_proofs_are_those_of_the_definition(size: int) -> None:
    hashes = leaves(size)
    tree = ListTree(hashes)
    assert tiles.root(tree, size) == merkle.root(hashes)
    for index in range(size):
        assert tiles.inclusion_proof(tree, index, size) == merkle.inclusion_proof(hashes, index)
    for smaller in range(size + 1):
        assert tiles.consistency_proof(tree, smaller, size) == merkle.consistency_proof(hashes, smaller, size)


SIZES = st.integers(1, 100_000) | st.sampled_from(
    [255, 256, 257, 511, 512, 65535, 65536, 65537, 65792, 99_999, 100_000]
)


@settings(deadline=None, max_examples=40)
@given(SIZES, st.data())
def test_of_large_trees_too_in_few_reads_that_verify(tree: ListTree, size: int, data: st.DataObject) -> None:
    hashes = tree.levels[0][:size]
    index = data.draw(st.integers(0, size - 1) | st.sampled_from([0, size - 1, size // 2, max(size - 256, 0)]))
    smaller = data.draw(st.integers(0, size) | st.sampled_from([1, size - 1, size // 256 * 256]))
    tree.size = size  # a reader that knows no more than this tree has

    tree.reads = []
    root = tiles.root(tree, size)
    assert root == merkle.root(hashes)
    few_small_reads(tree, calls=1)

    tree.reads = []
    proof = tiles.inclusion_proof(tree, index, size)
    assert proof == merkle.inclusion_proof(hashes, index)
    merkle.verify_inclusion(hashes[index], index, size, proof, root)
    few_small_reads(tree, calls=3)

    tree.reads = []
    proof = tiles.consistency_proof(tree, smaller, size)
    assert proof == merkle.consistency_proof(hashes, smaller, size)
    few_small_reads(tree, calls=3)
    merkle.verify_consistency(smaller, size, proof, tiles.root(tree, smaller), root)


def few_small_reads(tree: ListTree, calls: int) -> None:
    """At most `calls` reads a level, each of one tile."""
    assert all(count <= calls for count in Counter(level for level, _, _ in tree.reads).values())
    assert all(start // 256 == (stop - 1) // 256 for _, start, stop in tree.reads)


@settings(deadline=None, max_examples=20)
@given(st.integers(1, 100_000))
@example(65536)
def test_a_tile_holds_the_hashes_of_full_tiles_below(tree: ListTree, size: int) -> None:
    tree.size = size
    for tile in tiles.tiles_of(size):
        if tile.level:
            first = tiles.tile_data(tree, tile)[:32]
            below = tiles.tile_data(tree, Tile(tile.level - 1, tile.index * 256))
            assert first == merkle.root([below[i : i + 32] for i in range(0, len(below), 32)])


def test_what_is_not_in_the_tree_is_refused() -> None:
    tree = ListTree(leaves(5))
    for index, size in ((5, 5), (-1, 5), (0, 0)):
        with pytest.raises(InputError):
            tiles.inclusion_proof(tree, index, size)
    for size1, size2 in ((-1, 5), (6, 5)):
        with pytest.raises(InputError):
            tiles.consistency_proof(tree, size1, size2)
    with pytest.raises(TileError):
        tiles.tile_data(tree, Tile(None, 0, 5))


def test_a_reader_that_has_less_than_it_should_is_a_gap() -> None:
    class Short(ListTree):
        def hashes(self, runs: Sequence[tiles.Run]) -> list[list[bytes]]:
            return [hashes[:-1] for hashes in super().hashes(runs)]

    with pytest.raises(LedgerGapError, match="4 of the 5"):
        tiles.root(Short(leaves(5)), 5)
