"""The Merkle tree of RFC 6962, section 2.1 (the same tree as RFC 9162). Pure: bytes in, bytes out.

A hash is 32 bytes of SHA-256. Leaves are hashed with the prefix 0x00 and nodes with 0x01, so that neither can pass for
the other.
"""

import hashlib
from collections.abc import Sequence

from traceai.errors import VerificationError

EMPTY_ROOT = hashlib.sha256(b"").digest()


def leaf_hash(data: bytes) -> bytes:
    """MTH({d}) = SHA-256(0x00 || d)."""
    return hashlib.sha256(b"\x00" + data).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    """SHA-256(0x01 || left || right)."""
    return hashlib.sha256(b"\x01" + left + right).digest()


def root(leaf_hashes: Sequence[bytes]) -> bytes:
    """MTH of a list of leaf hashes; of the empty list SHA-256 of the empty string."""
    frontier = Frontier()
    for leaf in leaf_hashes:
        frontier.append(leaf)
    return frontier.root()


class Frontier:
    """The right edge of a growing tree: the roots of its complete subtrees, largest first.

    As many hashes as `size` has one bits, so appending costs O(1) on average and the root O(log n). It holds all
    that a writer has to remember, and `bytes` is its stored form: `Frontier(f.size, bytes(f)).root() == f.root()`.
    """

    def __init__(self, size: int = 0, stored: bytes = b"") -> None:
        if len(stored) != 32 * size.bit_count():
            raise VerificationError(
                f"A tree of {size} leaves has {size.bit_count()} edge hashes, not {len(stored) / 32:g}."
            )
        self.size = size
        self._subtrees = [stored[i : i + 32] for i in range(0, len(stored), 32)]

    def append(self, node: bytes, height: int = 0) -> list[tuple[int, int, bytes]]:
        """Add one leaf hash (32 bytes), or the root of the next 2**height leaves at once.

        Returns:
            (level, index, hash) of every full subtree of 256**level leaves, level 1 and above, that came about by joining.

        Raises:
            VerificationError: the next subtree of that height does not begin here.
        """
        if self.size % (1 << height):
            raise VerificationError(f"No subtree of {1 << height} leaves begins at leaf {self.size}.")
        completed: list[tuple[int, int, bytes]] = []
        start, rest = self.size, self.size >> height
        self.size += 1 << height
        while rest & 1:
            node = node_hash(self._subtrees.pop(), node)
            rest >>= 1
            height += 1
            if height % 8 == 0:
                completed.append((height // 8, start >> height, node))
        self._subtrees.append(node)
        return completed

    def subtrees(self) -> list[tuple[int, bytes]]:
        """(height, root) of the complete subtrees, left to right: appended in this order they make this tree."""
        heights = [height for height in range(self.size.bit_length() - 1, -1, -1) if self.size >> height & 1]
        return list(zip(heights, self._subtrees, strict=True))

    def copy(self) -> "Frontier":
        return Frontier(self.size, bytes(self))

    def root(self) -> bytes:
        if not self._subtrees:
            return EMPTY_ROOT
        node = self._subtrees[-1]
        for subtree in reversed(self._subtrees[:-1]):
            node = node_hash(subtree, node)
        return node

    def __bytes__(self) -> bytes:
        return b"".join(self._subtrees)


def inclusion_proof(leaf_hashes: Sequence[bytes], index: int) -> list[bytes]:
    """PATH(m, D[n]) of RFC 6962, section 2.1.1: the hashes from leaf `index` to the root, lowest first.

    Raises:
        ValueError: `index` is not a leaf of this tree.
    """
    if not 0 <= index < len(leaf_hashes):
        raise ValueError(f"leaf {index} is not in a tree of {len(leaf_hashes)}")
    if len(leaf_hashes) == 1:
        return []
    k = _split(len(leaf_hashes))
    if index < k:
        return [*inclusion_proof(leaf_hashes[:k], index), root(leaf_hashes[k:])]
    return [*inclusion_proof(leaf_hashes[k:], index - k), root(leaf_hashes[:k])]


def consistency_proof(leaf_hashes: Sequence[bytes], size1: int, size2: int) -> list[bytes]:
    """PROOF(m, D[n]) of RFC 6962, section 2.1.2, between the first `size1` and the first `size2` leaves.

    Raises:
        ValueError: not 0 <= size1 <= size2 <= len(leaf_hashes).
    """
    if not 0 <= size1 <= size2 <= len(leaf_hashes):
        raise ValueError(f"no consistency proof from {size1} to {size2} in a tree of {len(leaf_hashes)}")
    if size1 in (0, size2):
        return []
    return _subproof(size1, leaf_hashes[:size2], complete=True)


def _subproof(m: int, leaves: Sequence[bytes], *, complete: bool) -> list[bytes]:
    if m == len(leaves):
        return [] if complete else [root(leaves)]
    k = _split(len(leaves))
    if m <= k:
        return [*_subproof(m, leaves[:k], complete=complete), root(leaves[k:])]
    return [*_subproof(m - k, leaves[k:], complete=False), root(leaves[:k])]


def verify_inclusion(leaf_hash: bytes, index: int, size: int, proof: Sequence[bytes], root: bytes) -> None:
    """Check that `leaf_hash` is leaf `index` of the tree of `size` leaves with this `root` (RFC 9162, 2.1.3.2).

    Raises:
        VerificationError: it is not, or the proof is malformed.
    """
    if not 0 <= index < size:
        raise VerificationError(f"Leaf {index} cannot be in a tree of {size} leaves.")
    _check_hashes(leaf_hash, root, *proof)
    fn, sn, node = index, size - 1, leaf_hash
    for sibling in proof:
        if sn == 0:
            raise VerificationError("The inclusion proof is longer than its tree is high.")
        if fn & 1 or fn == sn:
            node = node_hash(sibling, node)
            while not fn & 1 and fn:
                fn, sn = fn >> 1, sn >> 1
        else:
            node = node_hash(node, sibling)
        fn, sn = fn >> 1, sn >> 1
    if sn != 0:
        raise VerificationError("The inclusion proof is shorter than its tree is high.")
    if node != root:
        raise VerificationError(f"The inclusion proof of leaf {index} does not lead to the stated root.")


def verify_consistency(  # noqa: PLR0912  # the RFC's own steps, in its order
    size1: int, size2: int, proof: Sequence[bytes], root1: bytes, root2: bytes
) -> None:
    """Check that the tree (`size1`, `root1`) is a prefix of the tree (`size2`, `root2`) (RFC 9162, 2.1.4.2).

    Raises:
        VerificationError: it is not, or the proof is malformed.
    """
    if not 0 <= size1 <= size2:
        raise VerificationError(f"A tree of {size1} leaves cannot come before one of {size2}.")
    _check_hashes(root1, root2, *proof)
    if size1 in (0, size2):
        if proof:
            raise VerificationError("This consistency proof has to be empty.")
        if size1 == 0 and root1 != EMPTY_ROOT:
            raise VerificationError("The root of the empty tree is the hash of nothing.")
        if size1 == size2 and root1 != root2:
            raise VerificationError("Two trees of the same size have different roots.")
        return
    path = list(proof)
    if size1.bit_count() == 1:
        path.insert(0, root1)
    if not path:
        raise VerificationError("The consistency proof is empty.")
    fn, sn = size1 - 1, size2 - 1
    while fn & 1:
        fn, sn = fn >> 1, sn >> 1
    old = new = path[0]
    for sibling in path[1:]:
        if sn == 0:
            raise VerificationError("The consistency proof is longer than its tree is high.")
        if fn & 1 or fn == sn:
            old, new = node_hash(sibling, old), node_hash(sibling, new)
            while not fn & 1 and fn:
                fn, sn = fn >> 1, sn >> 1
        else:
            new = node_hash(new, sibling)
        fn, sn = fn >> 1, sn >> 1
    if sn != 0:
        raise VerificationError("The consistency proof is shorter than its tree is high.")
    if old != root1 or new != root2:
        raise VerificationError("The later tree does not contain the earlier one unchanged.")


def _split(n: int) -> int:
    """The largest power of two smaller than `n`."""
    return 1 << (n - 1).bit_length() - 1


def _check_hashes(*hashes: bytes) -> None:
    if any(len(h) != 32 for h in hashes):
        raise VerificationError("A hash of this tree has 32 bytes.")
