"""RFC 6962: its test vectors, and the laws that proofs obey."""

import hashlib
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.ledger.trees import leaves
from traceai.errors import VerificationError
from traceai.ledger import merkle

# The inputs and tree heads of certificate-transparency's reference tests.
INPUTS = [
    bytes.fromhex(text)
    for text in ("", "00", "10", "2021", "3031", "40414243", "5051525354555657", "606162636465666768696a6b6c6d6e6f")
]
ROOTS = [
    "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
    "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
    "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
    "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
    "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
    "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
    "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
]


def naive_root(hashes: list[bytes]) -> bytes:
    """MTH as RFC 6962 writes it down."""
    if not hashes:
        return hashlib.sha256(b"").digest()
    if len(hashes) == 1:
        return hashes[0]
    k = 1
    while k * 2 < len(hashes):
        k *= 2
    return merkle.node_hash(naive_root(hashes[:k]), naive_root(hashes[k:]))


@pytest.mark.parametrize("size", range(1, 9))
def test_reference_tree_heads(size: int) -> None:
    assert merkle.root([merkle.leaf_hash(data) for data in INPUTS[:size]]).hex() == ROOTS[size - 1]


def test_the_root_of_nothing_is_the_hash_of_nothing() -> None:
    assert merkle.root([]) == hashlib.sha256(b"").digest()


@pytest.mark.parametrize("size", range(130))
def test_the_frontier_gives_the_root_of_the_definition_and_survives_storage(size: int) -> None:
    frontier = merkle.Frontier()
    for leaf in leaves(size):
        frontier.append(leaf)
    again = merkle.Frontier(frontier.size, bytes(frontier))
    assert frontier.root() == again.root() == naive_root(leaves(size))
    again.append(leaves(size + 1)[-1])
    assert again.root() == naive_root(leaves(size + 1))


def naive_path(index: int, hashes: list[bytes]) -> list[bytes]:
    """PATH as RFC 6962, section 2.1.1, writes it down, over roots of its own."""
    if len(hashes) == 1:
        return []
    k = 1
    while k * 2 < len(hashes):
        k *= 2
    if index < k:
        return [*naive_path(index, hashes[:k]), naive_root(hashes[k:])]
    return [*naive_path(index - k, hashes[k:]), naive_root(hashes[:k])]


@pytest.mark.parametrize("size", range(1, 131))
def test_every_inclusion_proof_holds_and_for_no_other_leaf(size: int) -> None:
    hashes = leaves(size)
    root = merkle.root(hashes)
    for index, leaf in enumerate(hashes):
        proof = merkle.inclusion_proof(hashes, index)
        merkle.verify_inclusion(leaf, index, size, proof, root)
        with pytest.raises(VerificationError):
            merkle.verify_inclusion(merkle.leaf_hash(b"other"), index, size, proof, root)
        for other in {0, size - 1, index ^ 1, size} - {index}:
            with pytest.raises(VerificationError):
                merkle.verify_inclusion(leaf, other, size, proof, root)


@pytest.mark.parametrize("size", [1, 2, 3, 7, 8, 13, 64, 65, 130])
def test_inclusion_proofs_are_those_of_the_definition(size: int) -> None:
    hashes = leaves(size)
    for index in range(size):
        assert merkle.inclusion_proof(hashes, index) == naive_path(index, hashes)


@pytest.mark.parametrize("size2", range(131))
def test_every_consistency_proof_holds_and_no_other_old_root(size2: int) -> None:
    hashes = leaves(size2)
    roots = [merkle.root(hashes[:size1]) for size1 in range(size2 + 1)]
    for size1 in range(size2 + 1):
        proof = merkle.consistency_proof(hashes, size1, size2)
        merkle.verify_consistency(size1, size2, proof, roots[size1], roots[size2])
        for other in {size1 - 1, size1 + 1} & set(range(1, size2)):
            with pytest.raises(VerificationError):
                merkle.verify_consistency(other, size2, proof, roots[size1], roots[size2])
            if size1:
                with pytest.raises(VerificationError):
                    merkle.verify_consistency(size1, size2, proof, roots[other], roots[size2])


@pytest.mark.parametrize("size", [999_999, *random.Random(6962).sample(range(130, 10**6), 1), 2**17])
def test_proofs_of_large_trees_hold(size: int) -> None:
    hashes = [number.to_bytes(32, "big") for number in range(size)]
    root = merkle.root(hashes)
    index, size1 = (random.Random(size).randrange(size) for _ in range(2))
    proof = merkle.inclusion_proof(hashes, index)
    merkle.verify_inclusion(hashes[index], index, size, proof, root)
    with pytest.raises(VerificationError):
        merkle.verify_inclusion(hashes[index - 1], index, size, proof, root)
    proof = merkle.consistency_proof(hashes, size1, size)
    merkle.verify_consistency(size1, size, proof, merkle.root(hashes[:size1]), root)
    with pytest.raises(VerificationError):
        merkle.verify_consistency(size1, size, proof, merkle.root([*hashes[: size1 - 1], bytes(32)]), root)


@settings(deadline=None, max_examples=60)
@given(st.integers(1, 300), st.data())
def test_consistency_proofs_hold_and_for_no_other_tree(size2: int, data: st.DataObject) -> None:
    size1 = data.draw(st.integers(0, size2))
    hashes = leaves(size2)
    root1, root2 = merkle.root(hashes[:size1]), merkle.root(hashes)
    proof = merkle.consistency_proof(hashes, size1, size2)
    merkle.verify_consistency(size1, size2, proof, root1, root2)
    if 0 < size1 < size2:
        wrong = hashlib.sha256(b"wrong").digest()
        for arguments in (
            (size1, size2, proof, wrong, root2),
            (size1, size2, proof, root1, wrong),
            (size1, size2, [*proof, wrong], root1, root2),
            (size1, size2, proof[:-1], root1, root2),
            (size1, size2, [wrong, *proof[1:]], root1, root2),
        ):
            with pytest.raises(VerificationError):
                merkle.verify_consistency(*arguments)


@pytest.mark.parametrize("position", range(3))
def test_a_lengthened_shortened_or_altered_inclusion_proof_fails(position: int) -> None:
    hashes = leaves(7)
    proof = merkle.inclusion_proof(hashes, 2)
    altered = [*proof[:position], bytes(32), *proof[position + 1 :]]
    for wrong in (altered, [*proof, bytes(32)], proof[:-1], []):
        with pytest.raises(VerificationError):
            merkle.verify_inclusion(hashes[2], 2, 7, wrong, merkle.root(hashes))


def test_hashes_of_another_length_are_refused() -> None:
    with pytest.raises(VerificationError, match="32 bytes"):
        merkle.verify_inclusion(b"short", 0, 1, [], b"short")
