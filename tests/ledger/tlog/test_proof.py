"""tlog-proof: a proof has one spelling, and everything else is refused."""

import base64
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.ledger.trees import leaves
from traceai.errors import ProofError, VerificationError
from traceai.ledger import merkle
from traceai.ledger.note import ED25519, SigningKey, sign_note
from traceai.ledger.tlog.checkpoint import Checkpoint, open_checkpoint
from traceai.ledger.tlog.proof import TlogProof

LOG = SigningKey("example.com/log", ED25519, bytes(32))
HASHES = leaves(21)
NOTE = sign_note(Checkpoint("example.com/log", 21, merkle.root(HASHES)).text(), LOG)
PROOF = TlogProof(9, tuple(merkle.inclusion_proof(HASHES, 9)), NOTE, b"inspection 7")
TEXT = str(PROOF)
HASH = base64.b64encode(HASHES[0]).decode()


def refused(text: str | bytes) -> None:
    with pytest.raises(ProofError) as error:
        TlogProof.parse(text)
    assert isinstance(error.value, VerificationError)
    assert error.value.code == "proof-invalid"


def test_the_format_is_that_of_the_specification() -> None:
    assert TEXT.split("\n")[:3] == ["c2sp.org/tlog-proof@v1", "extra aW5zcGVjdGlvbiA3", "index 9"]
    assert TEXT.split("\n")[3:8] == [base64.b64encode(h).decode() for h in PROOF.hashes]
    assert TEXT.endswith(f"=\n\n{NOTE}")
    assert str(replace(PROOF, extra=None)).split("\n")[1] == "index 9"


def test_a_proof_verifies_with_the_checkpoint_it_carries() -> None:
    proof = TlogProof.parse(TEXT.encode())
    checkpoint, _ = open_checkpoint(proof.checkpoint, [LOG.verifier])
    merkle.verify_inclusion(HASHES[9], proof.index, checkpoint.size, proof.hashes, checkpoint.root)


@settings(deadline=None)
@given(
    st.integers(1, 2**63 - 1).flatmap(lambda size: st.tuples(st.just(size), st.integers(0, size - 1))),
    st.lists(st.binary(min_size=32, max_size=32), max_size=63).map(tuple),
    st.none() | st.binary(min_size=1, max_size=50),
)
def test_a_proof_and_its_text_are_the_same(
    place: tuple[int, int], hashes: tuple[bytes, ...], extra: bytes | None
) -> None:
    size, index = place
    note = sign_note(Checkpoint("example.com/log", size, bytes(32), ("an extension",)).text(), LOG)
    proof = TlogProof(index, hashes, note, extra)
    assert TlogProof.parse(str(proof)) == proof


def test_the_only_leaf_of_a_tree_has_a_proof_without_hashes() -> None:
    note = sign_note(Checkpoint("example.com/log", 1, HASHES[0]).text(), LOG)
    assert str(TlogProof(0, (), note)) == f"c2sp.org/tlog-proof@v1\nindex 0\n\n{note}"
    assert TlogProof.parse(f"c2sp.org/tlog-proof@v1\nindex 0\n\n{note}").hashes == ()


def test_a_tree_of_size_0_has_no_leaf() -> None:
    note = sign_note(Checkpoint("example.com/log", 0, merkle.EMPTY_ROOT).text(), LOG)
    refused(f"c2sp.org/tlog-proof@v1\nindex 0\n\n{note}")


@pytest.mark.parametrize(
    "index",
    [
        "",
        "01",
        "00",
        "-1",
        "-0",
        "+9",
        " 9",
        "9 ",
        "٩",
        "９",
        "9.0",
        "0x9",
        "1_0",
        "21",
        "9223372036854775808",
        "9" * 5000,
        "9\r",
    ],
)
def test_indexes_that_are_no_plain_number_within_the_tree_are_refused(index: str) -> None:
    refused(TEXT.replace("index 9", f"index {index}"))


@pytest.mark.parametrize(
    "extra",
    [
        "extra", "extra ", "extra  aW5zcGVjdGlvbiA3", "extra aW5zcGVjdGlvbiA3 ", "extra aW5zcGVjdGlvbiA3=", "extra aW5zcGVjdGlvbiA",
        "extra YQ", "extra YR==", "extra YQ==YQ==", "extra _-8=", "extra a\u00a0==", "Extra YQ==", "extra YQ==\nextra YQ==",
        "extra: YQ==", " extra YQ==", "extra\tYQ==", "extra YQ==\r", "extra \u0410AAA",
    ],
)  # fmt: skip
def test_extra_data_that_is_empty_or_no_canonical_base64_is_refused(extra: str) -> None:
    refused(TEXT.replace("extra aW5zcGVjdGlvbiA3", extra))
    TlogProof.parse(TEXT.replace("extra aW5zcGVjdGlvbiA3", "extra YQ=="))


@pytest.mark.parametrize(
    "line",
    [
        "", "YQ==", "x", HASH[:-1], HASH + "=", HASH + " ", " " + HASH, HASH[:-2] + "/=", HASH.replace(HASH[5], "_"), "=" * 44,
        HASH[:-4], HASH + HASH, "\u0410" + HASH[1:], HASH + "\r", "index 9", "extra YQ==",
    ],
)  # fmt: skip
def test_hashes_that_are_no_32_bytes_in_canonical_base64_are_refused(line: str) -> None:
    first = base64.b64encode(PROOF.hashes[0]).decode()
    refused(TEXT.replace(first, line))
    TlogProof.parse(TEXT.replace(first, HASH))


def test_more_hashes_than_any_tree_is_high_are_refused() -> None:
    first = base64.b64encode(PROOF.hashes[0]).decode() + "\n"
    assert len(TlogProof.parse(TEXT.replace(first, first * 59)).hashes) == 63
    refused(TEXT.replace(first, first * 60))


@pytest.mark.parametrize(
    "text",
    [
        "", "\n\n", "c2sp.org/tlog-proof@v1", "c2sp.org/tlog-proof@v1\n", f"c2sp.org/tlog-proof@v1\n\n{NOTE}", NOTE,
        TEXT.replace("@v1", "@v2"), TEXT.replace("c2sp", "C2SP"), " " + TEXT, "\n" + TEXT, "\ufeff" + TEXT,
        TEXT.replace("index 9\n", ""), TEXT.replace("index 9", "Index 9"), TEXT.replace("index 9", "index\t9"),
        TEXT.replace("index 9\n", "index 9\nindex 9\n"), TEXT.replace("\n\n", "\n", 1), TEXT.replace("\n\n", "\n\n\n", 1),
        TEXT + "\n", TEXT + "x", TEXT + " ", TEXT[:-1], TEXT + TEXT, TEXT.replace("\n", "\r\n"), TEXT.replace("\n21\n", "\n021\n"),
        TEXT.replace("\n21\n", "\n9\n"), TEXT.replace("example.com/log\n21", "\n21"), TEXT.replace("\n\n—", "\n—"),
        TEXT[: TEXT.index("—")], TEXT.replace("index 9", "index 9\nextra YQ=="), "\ud800" + TEXT,
        TEXT.replace("log\n21", "l\ud800g\n21"),
    ],
)  # fmt: skip
def test_other_texts_are_refused(text: str) -> None:
    refused(text)


def test_what_is_not_utf8_is_refused() -> None:
    refused(TEXT.encode() + b"\xff")
    refused(b"\xff" + TEXT.encode())


def test_a_proof_that_could_not_be_read_cannot_be_made() -> None:
    for change in (
        {"index": -1},
        {"index": 21},
        {"hashes": (bytes(31),)},
        {"hashes": (bytes(32),) * 64},
        {"extra": b""},
        {"checkpoint": "no note"},
        {"checkpoint": sign_note("no checkpoint\n", LOG)},
    ):
        with pytest.raises(ProofError):
            replace(PROOF, **change)  # type: ignore[arg-type]


@settings(deadline=None, max_examples=300)
@given(st.integers(0, len(TEXT.encode()) - 1), st.integers(0, 255))
def test_one_changed_byte_fails_or_is_only_extra_data(position: int, byte: int) -> None:
    changed = bytearray(TEXT.encode())
    changed[position] = byte
    try:
        proof = TlogProof.parse(bytes(changed))
        checkpoint, _ = open_checkpoint(proof.checkpoint, [LOG.verifier])
        merkle.verify_inclusion(HASHES[9], proof.index, checkpoint.size, proof.hashes, checkpoint.root)
    except VerificationError:
        return
    assert replace(proof, extra=PROOF.extra) == PROOF
    assert str(proof).encode() == bytes(changed)


@settings(deadline=None)
@given(st.text(max_size=60) | st.text("index 0123\n=extraAQ", max_size=60))
def test_whatever_parses_has_one_spelling(text: str) -> None:
    for candidate in (
        text,
        f"c2sp.org/tlog-proof@v1\n{text}\n\n{NOTE}",
        TEXT + text,
        TEXT.replace("index 9", f"index {text}"),
    ):
        try:
            proof = TlogProof.parse(candidate)
        except ProofError:
            continue
        assert str(proof) == candidate
