"""tlog-checkpoint: a tree head has one spelling, and everything else is refused."""

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from traceai.errors import CheckpointError, NoteError, VerificationError
from traceai.ledger import merkle
from traceai.ledger.note import COSIGNATURE, ED25519, SigningKey, sign_note
from traceai.ledger.tlog.checkpoint import Checkpoint, open_checkpoint

SOFA = "example.com/behind-the-sofa\n20852163\nCsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=\n"
LINES = st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1, max_size=30)
CHECKPOINTS = st.builds(
    Checkpoint,
    LINES,
    st.integers(1, 2**63 - 1),
    st.binary(min_size=32, max_size=32),
    st.lists(LINES, max_size=3).map(tuple),
)
LOG = SigningKey("example.com/behind-the-sofa", ED25519, bytes(32))
WITNESS = SigningKey("witness.example/w1", COSIGNATURE, bytes(range(32)))


def refused(text: str) -> None:
    with pytest.raises(CheckpointError) as error:
        Checkpoint.parse(text)
    assert isinstance(error.value, VerificationError)
    assert error.value.code == "checkpoint-invalid"


def test_the_example_of_the_specification() -> None:
    checkpoint = Checkpoint.parse(SOFA)
    assert checkpoint.origin == "example.com/behind-the-sofa"
    assert checkpoint.size == 20852163
    assert checkpoint.root.hex() == "0ac5186a91863e8e1d90c808014aa89bf5da8e3ee1d9f07630f0378f68f1ab62"
    assert checkpoint.extensions == ()
    assert checkpoint.text() == SOFA


@settings(deadline=None)
@given(CHECKPOINTS)
def test_a_checkpoint_and_its_text_are_the_same(checkpoint: Checkpoint) -> None:
    assert Checkpoint.parse(checkpoint.text()) == checkpoint


def test_the_empty_tree_has_size_0_and_the_root_of_nothing() -> None:
    empty = Checkpoint("example.com/log", 0, merkle.EMPTY_ROOT)
    assert empty.text() == "example.com/log\n0\n47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=\n"
    assert Checkpoint.parse(empty.text()) == empty
    refused(SOFA.replace("20852163", "0"))


def test_size_1_and_the_largest_size() -> None:
    for size in (1, 2**63 - 1):
        assert Checkpoint.parse(SOFA.replace("20852163", str(size))).size == size


@pytest.mark.parametrize(
    "size",
    [
        "", "00", "01", "+1", "-1", "-0", "1 ", " 1", "1.0", "1e3", "0x10", "1_000", "1,000", "٣", "１", "²", "1\u0660", "a",
        "9223372036854775808", "18446744073709551616", "9" * 19, "9" * 5000, "1\t", "1\r",
    ],
)  # fmt: skip
def test_sizes_that_are_no_plain_number_of_63_bits_are_refused(size: str) -> None:
    refused(SOFA.replace("20852163", size))


@pytest.mark.parametrize(
    "root",
    [
        "", "CsUY", "CsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I", "CsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I==",
        "CsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2J=",  # unused bits
        "CsUYapGGPo4dkMgIAUqom_Xajj7h2fB2MPA3j2jxq2I=",  # the URL alphabet
        "CsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxqw==",  # 31 bytes
        "CsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2IA",  # 33 bytes
        "CsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I= ", " CsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=",
        "CsUYapGGPo4dkMgIAUqom Xajj7h2fB2MPA3j2jxq2I=", "0ac5186a91863e8e1d90c808014aa89bf5da8e3ee1d9f07630f0378f68f1ab62",
        "\u0421sUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=", "CsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=\r",
    ],
)  # fmt: skip
def test_roots_that_are_not_32_bytes_in_canonical_base64_are_refused(root: str) -> None:
    refused(SOFA.replace("CsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=", root))


@pytest.mark.parametrize(
    "text",
    [
        "", "\n", "\n\n\n", SOFA[:-1], SOFA + "\n", SOFA + "x", SOFA + "x\n\n", SOFA + "\nx\n", "\n" + SOFA,
        SOFA.replace("\n", "\r\n"),
        SOFA[len("example.com/behind-the-sofa"):], "example.com/behind-the-sofa\n20852163\n", "a\n1\n",
        SOFA.replace("\n20852163", "\n\n20852163"), SOFA + "\x00\n", SOFA + "a\tb\n", SOFA.replace("example", "exam\x1fple"),
        SOFA.replace("example", "exam\ud800ple"), SOFA + "\ud800\n",
    ],
)  # fmt: skip
def test_lines_that_are_missing_empty_or_no_lines_are_refused(text: str) -> None:
    refused(text)


def test_extension_lines_are_kept_and_signed_over() -> None:
    checkpoint = Checkpoint.parse(SOFA + "first\nsecond line, with spaces\n")
    assert checkpoint.extensions == ("first", "second line, with spaces")
    assert checkpoint.text() == SOFA + "first\nsecond line, with spaces\n"
    note = sign_note(checkpoint.text(), [LOG, WITNESS], at=5)
    for key in (LOG, WITNESS):
        with pytest.raises(NoteError):
            open_checkpoint(note.replace("first", "furst"), [key.verifier])


def test_an_origin_may_be_any_line() -> None:
    for origin in ("Go sum+database tree", "rekor.sigstore.dev - 2605736670972794746", "é\u2028", "— a AAAAAAA=", " "):
        assert Checkpoint.parse(replace(Checkpoint.parse(SOFA), origin=origin).text()).origin == origin


@pytest.mark.parametrize(
    "change",
    [
        {"origin": ""}, {"origin": "a\nb"}, {"origin": "a\x00"}, {"size": -1}, {"size": 2**63}, {"size": 0}, {"root": b""},
        {"root": bytes(31)}, {"root": bytes(33)}, {"extensions": ("",)}, {"extensions": ("a", "b\n")},
    ],
)  # fmt: skip
def test_a_checkpoint_that_could_not_be_read_cannot_be_made(change: dict[str, object]) -> None:
    with pytest.raises(CheckpointError):
        replace(Checkpoint.parse(SOFA), **change)  # type: ignore[arg-type]


@settings(deadline=None)
@given(st.text("0123456789+ \nab=/", max_size=80) | st.text(max_size=80))
def test_whatever_parses_has_one_spelling(text: str) -> None:
    for candidate in (text, f"a\n{text}\n{SOFA[-45:]}", SOFA + text):
        try:
            checkpoint = Checkpoint.parse(candidate)
        except CheckpointError:
            continue
        assert checkpoint.text() == candidate


def test_a_signed_checkpoint_opens() -> None:
    signed = sign_note(SOFA, LOG)
    checkpoint, note = open_checkpoint(signed, [LOG.verifier])
    assert checkpoint == Checkpoint.parse(SOFA)
    assert str(note) == signed
    assert open_checkpoint(signed.encode(), [str(LOG.verifier)]) == (checkpoint, note)


def test_a_checkpoint_is_verified_before_it_is_read() -> None:
    with pytest.raises(NoteError):
        open_checkpoint(sign_note("no checkpoint\n", LOG), [WITNESS.verifier])
    with pytest.raises(CheckpointError):
        open_checkpoint(sign_note("no checkpoint\n", LOG), [LOG.verifier])
