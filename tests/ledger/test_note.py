"""signed-note and tlog-cosignature: what others signed verifies, what the specifications refuse is refused."""

import base64
import contextlib
import re
import time
from collections.abc import Callable
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from traceai.errors import NoteError, VerificationError
from traceai.ledger.note import (
    COSIGNATURE,
    ED25519,
    MOST_SIGNATURES,
    Signature,
    SigningKey,
    VerifierKey,
    cosign_note,
    join_note,
    open_note,
    parse_signatures,
    sign_note,
    split_note,
)

# The example of c2sp.org/signed-note@v1.1.0.
EXAMPLE_KEY = "example.com/foo+530d903a+AekyeRrm56hApGFkyQR4ZCbV54Id2LKaANYcrnKv3U2k"
EXAMPLE_NOTE = (
    "This is an example message.\n\n"
    "— example.com/foo Uw2QOkn8srV1yJGh2VYRlL1Tnagv1YEq6TfXppzi2ONncAlTgK7Ztg1ERYNZXsYjOBH3mFXmRKuwHjG1Yu72IneyaQM=\n"
)

# The documentation and the tests of golang.org/x/mod/sumdb/note.
TEXT = "If you think cryptography is the answer to your problem,\nthen you don't know what your problem is.\n"
PETER_SECRET = "PRIVATE+KEY+PeterNeumann+c74f20a3+AYEKFALVFGyNhPJEMzD1QIDr+Y7hfZx09iUvxdXHKDFz"
PETER = "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW"
ENOCH = "EnochRoot+af0cfe78+ATtqJ7zOtqQtYqOo0CpvDXNlMhV3HeJDpjrASKGLWdop"
PETER_LINE = (
    "— PeterNeumann x08go/ZJkuBS9UG/SffcvIAQxVBtiFupLLr8pAcElZInNIuGUgYN1FFYC2pZSNXgKvqfqdngotpRZb6KE6RyyBwJnAM=\n"
)
ENOCH_LINE = (
    "— EnochRoot rwz+eBzmZa0SO3NbfRGzPCpDckykFXSdeX+MNtCOXm2/5n2tiOHp+vAF1aGrQ5ovTG01oOTGwnWLox33WWd1RvMc+QQ=\n"
)
BOTH = f"{TEXT}\n{PETER_LINE}{ENOCH_LINE}"

# A checkpoint of a public log of May 2026, with its own two signatures (types 0x05 and 0x01) and those of four witnesses.
ARCHE = "arche2025h1.staging.ct.transparency.dev+ba2f06c0+AU0vHmlGCS/PdN8b2OaGmKprLI8HKM+dJ472xgFYh15f"
WITNESSES = [
    "transparency.dev/DEV:witness-little-garden+d8042a87+BCtusOxINQNUTN5Oj8HObRkh2yHf/MwYaGX4CPdiVEPM",
    "witness1.smartit.nu/witness1+a48c820f+BPSFWg9G6KPiO7QPryYO5Xq4oYJJ+kAvLKLSimDhoxMO",
    "remora.n621.de+da77ade7+BOvN63jn/bLvkieywe8R6UYAtVtNbZpXh34x7onlmtw2",
    "witness.stagemole.eu+67f7aea0+BEqSG3yu9YrmcM3BHvQYTxwFj3uSWakQepafafpUqklv",
]
ARCHE_NOTE = """\
arche2025h1.staging.ct.transparency.dev
1432088532
U7WM79jrzyhGZ5/GUBTpM7NzwdyfFx61t3RovgcC4Ro=

— arche2025h1.staging.ct.transparency.dev zTM8sQAAAZ5W0WdjBAMARjBEAiBjW5IQf9pvsYLfQFX6hoGREPMHbdQ3urbllzalApkptQIgIpwtEroeW2BXaHAI4kJXFbon5Ch9MNL5zRNZ55lvGt0=
— arche2025h1.staging.ct.transparency.dev ui8GwCF1+kWqZrxGdhj4aX3gcw7XUlXQQabg/27lefwhUkzbC3NygNI75MdhL1bfTW9g8Ei59RA23oHP7Ry1k3ZFWwQ=
— transparency.dev/DEV:witness-little-garden 2AQqhwAAAABqEiEgzgFIqqhbUoDwjMWE6UP8nd8/KYTzwZ2rhIgcqoXHAwVkjZr4AscylP3v7sEodkRAErumC2q44vdgJY096st5BQ==
— witness1.smartit.nu/witness1 pIyCDwAAAABqEiEghIp82KWebrw7/oHQwlTAm3g2RKS4+eebl8eO0WH+/iEcxZ75W3u5hNI7TOQtmJbqmNWVuE0tgh0XwzdZsDsUAQ==
— remora.n621.de 2net5wAAAABqEiEgPlfF3V06o0Y+fHM+J5J9s27wgxxcOVSpZ/2g/KSiXCg9DEZI+aVCIobWX9sXTynk5XeU/zZ0WBxtqB0DrAWfBw==
— witness.stagemole.eu Z/euoAAAAABqEiEgw0i+7g2ENfDAWHmtRzCfKTHSDwYDJA2NmKeGi9Y8FtEyOUvVr+AJmIY/2TUFucgKi7lI7cUiOvKFYe/TmN9DAg==
"""  # noqa: E501  # a signature line is one line

NAMES = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=20).filter(
    lambda name: "+" not in name and not any(c.isspace() or c < " " for c in name)
)
KEYS = st.builds(SigningKey, NAMES, st.sampled_from([ED25519, COSIGNATURE]), st.binary(min_size=32, max_size=32))
CONTROLS = "".join(chr(c) for c in range(32) if c != 10)
TEXTS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters=CONTROLS))
# Two public keys, as numbers, whose key IDs collide under this name.
COLLISION = (27114, 45887)
LOG = SigningKey("example.com/log", ED25519, bytes(32))
WITNESS = SigningKey("witness.example/w1", COSIGNATURE, bytes(range(32)))


def refused(text: str | bytes, *keys: str) -> NoteError:
    with pytest.raises(NoteError) as error:
        open_note(text, keys or [PETER])
    assert isinstance(error.value, VerificationError)
    assert error.value.code == "note-invalid"
    return error.value


# --- what others signed -----------------------------------------------------------------------------------------------


def test_the_example_of_the_specification_verifies() -> None:
    note = open_note(EXAMPLE_NOTE, [EXAMPLE_KEY])
    assert note.text == "This is an example message.\n"
    assert str(note) == EXAMPLE_NOTE
    assert [key for key, _ in note.verified] == [VerifierKey.parse(EXAMPLE_KEY)]


def test_the_example_of_go_verifies_and_is_what_we_sign() -> None:
    assert sign_note(TEXT, PETER_SECRET) == f"{TEXT}\n{PETER_LINE}"
    assert str(SigningKey.parse(PETER_SECRET).verifier) == PETER
    note = open_note(BOTH, [PETER, ENOCH])
    assert [(key.name, str(signature)) for key, signature in note.verified] == [
        ("PeterNeumann", PETER_LINE),
        ("EnochRoot", ENOCH_LINE),
    ]
    assert note.others == ()


def test_a_real_checkpoint_verifies_with_its_cosignatures_and_not_one_byte_changed() -> None:
    note = open_note(ARCHE_NOTE, [ARCHE, *WITNESSES])
    assert [signature.timestamp for _, signature in note.verified] == [None, *[1779573024] * 4]
    assert [signature.key_id.hex() for signature in note.others] == ["cd333cb1"]
    assert str(note) == ARCHE_NOTE
    changed = ARCHE_NOTE.replace("1432088532", "1432088533")
    for key in (ARCHE, *WITNESSES):
        open_note(ARCHE_NOTE, [key])
        refused(changed, key)


def test_text_and_signatures_of_the_poem_split_at_the_last_empty_line() -> None:
    poem = "Ognuno sta solo sul cuor della terra\ntrafitto da un raggio di sole:\n\ned è subito sera.\n"
    line = "— quasimodo.example/salvatore NnugSzTjtVAewIS+Z/iJhUPeFDkO/5QQ2i5ddnGITLlC+EhfLW9oJKONrMouFSQU0xMcXxj99ihAQwaqP3ZekRwNtIc=\n"  # noqa: E501  # likewise
    text, signatures = split_note(f"{poem}\n{line}")
    assert text == poem
    assert list(map(str, signatures)) == [line]
    assert join_note(text, signatures) == f"{poem}\n{line}"


def test_the_cosignature_of_the_specification_states_its_time() -> None:
    line = "— witness.example.com/w1 jWbPPwAAAABkGFDLEZMHwSRaJNiIDoe9DYn/zXcrtPHeolMI5OWXEhZCB9dlrDJsX3b2oyin1nPZqhf5nNo0xUe+mbIUBkBIfZ+qnA==\n"  # noqa: E501  # likewise
    signature = Signature.parse(line)
    assert (signature.name, signature.timestamp) == ("witness.example.com/w1", 1679315147)
    assert str(signature) == line


# --- keys that are known, unknown, repeated ---------------------------------------------------------------------------


def test_signatures_of_unknown_keys_are_kept_and_count_for_nothing() -> None:
    note = open_note(BOTH, [PETER])
    assert [key.name for key, _ in note.verified] == ["PeterNeumann"]
    assert list(map(str, note.others)) == [ENOCH_LINE]
    assert str(note) == BOTH
    assert "PeterNeumann+c74f20a3, EnochRoot+af0cfe78" in str(refused(BOTH, EXAMPLE_KEY))
    with pytest.raises(NoteError, match="None of the known keys"):
        open_note(BOTH, [])


def test_a_key_that_shares_only_its_name_or_only_its_id_is_another_key() -> None:
    namesake = SigningKey("PeterNeumann", ED25519, bytes(32))
    assert len(open_note(cosign_note(f"{TEXT}\n{PETER_LINE}", namesake), [PETER]).others) == 1
    renamed = replace(Signature.parse(PETER_LINE), name="CarmenSandiego")
    refused(join_note(TEXT, [renamed]))
    assert len(open_note(join_note(TEXT, [renamed, Signature.parse(PETER_LINE)]), [PETER]).others) == 1


def test_one_key_under_two_types_signs_twice() -> None:
    both = [SigningKey(LOG.name, type, LOG.seed) for type in (ED25519, COSIGNATURE)]
    note = sign_note(TEXT, both, at=7)
    assert [s.timestamp for _, s in open_note(note, [key.verifier for key in both]).verified] == [None, 7]
    for key in both:
        assert len(open_note(note, [key.verifier]).others) == 1


@pytest.mark.parametrize("type", [0x00, 0x02, 0x03, 0x05, 0x06, 0xFE, 0xFF])
def test_other_types_are_ignored_in_notes_and_refused_as_keys(type: int) -> None:
    public = bytes(1312) if type == 0x06 else bytes(32)
    unknown = Signature("pq.example", b"\x01\x02\x03\x04", bytes(8 + 2420) if type == 0x06 else bytes(70))
    note = open_note(join_note(TEXT, [unknown, Signature.parse(PETER_LINE)]), [PETER])
    assert note.others == (unknown,)
    data = base64.b64encode(bytes([type]) + public).decode()
    for parse, text in (
        (VerifierKey.parse, f"a+00000000+{data}"),
        (SigningKey.parse, f"PRIVATE+KEY+a+00000000+{data}"),
    ):
        with pytest.raises(NoteError, match=f"type 0x{type:02x} are not supported"):
            parse(text)


def test_a_known_key_whose_signature_does_not_verify_condemns_the_note() -> None:
    forged = replace(Signature.parse(ENOCH_LINE), signature=bytes(64))
    note = join_note(TEXT, [Signature.parse(PETER_LINE), forged])
    assert "EnochRoot+af0cfe78" in str(refused(note, PETER, ENOCH))
    open_note(note, [PETER])


@pytest.mark.parametrize("length", [1, 63, 65, 71, 72, 73, 2420])
def test_signatures_of_another_length_do_not_verify(length: int) -> None:
    for key in (LOG.verifier, WITNESS.verifier):
        with pytest.raises(NoteError, match="does not verify"):
            open_note(join_note(TEXT, [Signature(key.name, key.key_id, bytes(length))]), [key])


def test_of_a_known_key_that_signs_twice_the_first_signature_counts_as_in_go() -> None:
    forged = replace(Signature.parse(PETER_LINE), signature=bytes(64))
    genuine = Signature.parse(PETER_LINE)
    note = open_note(join_note(TEXT, [genuine, forged]), [PETER])
    assert [signature for _, signature in note.verified] == [genuine]
    assert note.others == ()
    assert note.signatures == (genuine, forged)
    refused(join_note(TEXT, [forged, genuine]))


def test_unknown_lines_that_repeat_are_listed_once_as_in_go() -> None:
    enoch = Signature.parse(ENOCH_LINE)
    changed = replace(enoch, signature=bytes(64))
    note = open_note(f"{TEXT}\n{PETER_LINE}{ENOCH_LINE}{ENOCH_LINE}{changed}", [PETER])
    assert note.others == (enoch, changed)


def test_two_keys_of_one_name_and_id_are_ambiguous_and_the_same_key_twice_is_not() -> None:
    first, second = (VerifierKey("example.com/log", ED25519, number.to_bytes(32, "big")) for number in COLLISION)
    assert first.key_id == second.key_id
    with pytest.raises(NoteError, match="Two different keys"):
        open_note(BOTH, [PETER, first, second])
    assert len(open_note(BOTH, [PETER, PETER, VerifierKey.parse(PETER)]).verified) == 1


def test_one_key_may_be_given_alone() -> None:
    assert open_note(BOTH, PETER) == open_note(BOTH.encode(), VerifierKey.parse(PETER))


# --- what is malformed ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "note",
    [
        "",
        "\n",
        "\n\n",
        TEXT,
        f"{TEXT}\n",
        f"{TEXT}{PETER_LINE}",
        f"{TEXT}\n{PETER_LINE}"[:-1],
        f"{TEXT[:-1]}\n{PETER_LINE}",
        PETER_LINE,
        f"\n{PETER_LINE}",
        f"{TEXT}\n{PETER_LINE}\n",
        f"{TEXT}\n{PETER_LINE} ",
        f"{TEXT}\n{PETER_LINE}x",
        f"{TEXT}\n{PETER_LINE}Unexpected line.\n",
        f"{TEXT}\n{PETER_LINE}\n\n",
        f"{TEXT}\n\n{PETER_LINE}"[:-1] + "\r\n",
        f"{TEXT}\n{PETER_LINE}".replace("\n", "\r\n"),
        f"\ufeff{TEXT}\n{PETER_LINE}",
        f"{TEXT}\n{PETER_LINE.replace('— ', '- ')}",
        f"{TEXT}\n{PETER_LINE.replace('— ', '—')}",
        f"{TEXT}\n{PETER_LINE.replace('— ', '—  ')}",
        f"{TEXT}\n\u2014\u00a0{PETER_LINE[2:]}",
        f"{TEXT}\n {PETER_LINE}",
        f"{TEXT}\n{PETER_LINE.replace('PeterNeumann ', 'PeterNeumann  ')}",
        f"{TEXT}\n{PETER_LINE.replace('PeterNeumann ', ' ')}",
        f"{TEXT}\n{PETER_LINE.replace('PeterNeumann ', '')}",
        f"{TEXT}\n{PETER_LINE}— Bad Name {PETER_LINE.split()[2]}\n",
        f"{TEXT}\n{PETER_LINE}— Bad+Name {PETER_LINE.split()[2]}\n",
        f"{TEXT}\n{PETER_LINE}— Bad\u00a0Name {PETER_LINE.split()[2]}\n",
        f"{TEXT}\n{PETER_LINE}— Bad\u3000Name {PETER_LINE.split()[2]}\n",
        f"{TEXT}\n{PETER_LINE}— Bad\u2028Name {PETER_LINE.split()[2]}\n",
        f"{TEXT}\n{PETER_LINE}— Bad\u0085Name {PETER_LINE.split()[2]}\n",
        f"{TEXT}\n{PETER_LINE}— name\n",
        f"{TEXT}\n{PETER_LINE}— name \n",
        f"{TEXT}\n{PETER_LINE}— name AAAAAA==\n",
        f"{TEXT}\n{PETER_LINE}— name AAAA\n",
    ],
)
def test_malformed_notes_are_refused(note: str) -> None:
    refused(note)
    refused(note.encode())


def test_signatures_alone_are_no_note() -> None:
    for note in (PETER_LINE, f"{TEXT}{PETER_LINE}", ""):
        with pytest.raises(NoteError):
            split_note(note)


@pytest.mark.parametrize("control", [c for c in range(32) if c != 10])
def test_control_characters_are_refused(control: int) -> None:
    signed = f"a{chr(control)}b\n"
    for note in (f"{signed}\n{PETER_LINE}", f"{TEXT}\n{PETER_LINE}— a{chr(control)}b {PETER_LINE.split()[2]}\n"):
        refused(note)
        refused(note.encode())
    with pytest.raises(NoteError):
        sign_note(signed, LOG)
    with pytest.raises(NoteError):
        LOG.sign(signed.encode())
    with pytest.raises(NoteError):
        SigningKey.generate(f"a{chr(control)}b")


@pytest.mark.parametrize("wrong", [b"\xff", b"\xc0\x80", b"\xed\xa0\x80", b"\xf5\x80\x80\x80", b"\xe2\x80"])
def test_what_is_not_utf8_is_refused(wrong: bytes) -> None:
    refused(wrong + BOTH.encode())
    refused(f"{TEXT}\n{PETER_LINE}— ".encode() + wrong + b" AAAAAAA=\n")
    with pytest.raises(NoteError):
        sign_note(wrong + b"\n", LOG)


def test_a_lone_surrogate_is_not_utf8() -> None:
    refused(f"\ud800{BOTH}")
    with pytest.raises(NoteError):
        sign_note("\udfff\n", LOG)
    with pytest.raises(NoteError):
        SigningKey.generate("a\ud800")


@pytest.mark.parametrize(
    "encoded",
    [
        "AAAAAAA", "AAAAAAA==", "AAAAAAAA=", "AAAAAAA=\u00a0", "AAAA AAA=", " AAAAAAA=", "AAAAAAA= ", "AAAAAAB=", "AAAAAA/=",
        "_AAAAAA=", "-AAAAAA=", "A=AAAAAA", "AAAAAAA=AAAAAAAA", "====", "=AAAAAAA", "AAAAAAA=\u0661", "\u0410AAAAAA=", "AAAAA", "A",
        "AAAAAAA=!", "AAAAAAA%3D",
    ],
)  # fmt: skip
def test_base64_has_one_spelling(encoded: str) -> None:
    open_note(f"{TEXT}\n{PETER_LINE}— n AAAAAAA=\n", [PETER])
    refused(f"{TEXT}\n{PETER_LINE}— n {encoded}\n")


def test_too_many_signatures_are_refused_and_as_many_as_promised_are_not() -> None:
    others = [Signature(f"n{number}", bytes(4), b"x") for number in range(MOST_SIGNATURES)]
    peter = Signature.parse(PETER_LINE)
    assert MOST_SIGNATURES >= 16
    assert len(open_note(join_note(TEXT, [*others[1:], peter]), [PETER]).others) == MOST_SIGNATURES - 1
    refused(f"{TEXT}\n{''.join(map(str, others))}{PETER_LINE}")
    refused(f"{TEXT}\n{PETER_LINE * (MOST_SIGNATURES + 1)}")
    for signatures in ([*others, peter], []):
        with pytest.raises(NoteError):
            join_note(TEXT, signatures)
    with pytest.raises(NoteError):
        cosign_note(join_note(TEXT, others), LOG)


# --- keys -------------------------------------------------------------------------------------------------------------


@settings(deadline=None)
@given(KEYS)
def test_keys_are_their_text(key: SigningKey) -> None:
    assert SigningKey.parse(str(key)) == key
    assert str(SigningKey.parse(str(key))) == str(key)
    assert VerifierKey.parse(str(key.verifier)) == key.verifier
    assert str(VerifierKey.parse(str(key.verifier))) == str(key.verifier)


MALFORMED: list[Callable[[str], str]] = [
    lambda key: "",
    lambda key: "+",
    lambda key: "++",
    lambda key: key.replace("+", " ", 1),
    lambda key: " " + key,
    lambda key: key + " ",
    lambda key: key + "\n",
    lambda key: key + "=",
    lambda key: key + "A",
    lambda key: key + "AAAA",
    lambda key: key[:-1],
    lambda key: key[:-4],
    lambda key: key + "+" + key,
    lambda key: re.sub(r"\+[0-9a-f]{8}\+", lambda m: m[0].upper(), key),
    lambda key: re.sub(r"\+[0-9a-f]{8}\+", "+00000000+", key),
    lambda key: re.sub(r"\+[0-9a-f]{8}\+", "++", key),
    lambda key: re.sub(r"\+([0-9a-f]{8})\+", r"+\g<1>0+", key),
    lambda key: re.sub(r"\+([0-9a-f]{2}) ?([0-9a-f]{6})\+", r"+\1 \2+", key),
    lambda key: re.sub(r"\+[0-9a-f]{8}\+", "+0x000000+", key),
    lambda key: re.sub(r"(\+[0-9a-f]{8}\+).*", r"\1", key),
    lambda key: re.sub(r"(\+[0-9a-f]{8}\+).*", r"\1AQ==", key),
    lambda key: key.replace("Peter", "Pete r"),
    lambda key: key.replace("Peter", "Pieter"),
    lambda key: key.replace("PeterNeumann", ""),
    lambda key: key.replace("PeterNeumann", "Peter\u2003Neumann"),
    lambda key: key.replace("PeterNeumann", "Peter\ud800"),
    lambda key: key.replace("+AR", "+BB").replace("+AY", "+BI"),
]


@pytest.mark.parametrize("malform", MALFORMED)
def test_malformed_keys_are_refused(malform: Callable[[str], str]) -> None:
    for parse, key in ((VerifierKey.parse, PETER), (SigningKey.parse, PETER_SECRET)):
        text = malform(key)
        assert text != key
        with pytest.raises(NoteError):
            parse(text)
    with pytest.raises(NoteError):
        open_note(BOTH, [malform(PETER)])


def test_a_signing_key_is_no_verifier_key_and_does_not_show_itself() -> None:
    key = SigningKey.parse(PETER_SECRET)
    for parse, text in (
        (VerifierKey.parse, PETER_SECRET),
        (SigningKey.parse, PETER),
        (SigningKey.parse, PETER_SECRET[12:]),
    ):
        with pytest.raises(NoteError) as error:
            parse(text)
        assert PETER_SECRET[-44:] not in str(error.value)
    assert str(key.seed) not in repr(key)
    assert PETER_SECRET[-44:] not in repr(key)


@pytest.mark.parametrize("name", ["", "a b", "a+b", "a\tb", "a\nb", "a\u00a0b", "a\u2009b", "a\u3000b", "a\u0085b"])
def test_names_that_no_key_may_have_are_refused(name: str) -> None:
    for make in (
        lambda: SigningKey.generate(name),
        lambda: VerifierKey(name, ED25519, bytes(32)),
        lambda: Signature(name, bytes(4), b"x"),
    ):
        with pytest.raises(NoteError):
            make()


def test_parts_of_another_length_are_refused() -> None:
    for make in (
        lambda: SigningKey("a", ED25519, bytes(31)),
        lambda: SigningKey("a", 0x06, bytes(32)),
        lambda: VerifierKey("a", ED25519, bytes(33)),
        lambda: Signature("a", bytes(3), b"x"),
        lambda: Signature("a", bytes(4), b""),
    ):
        with pytest.raises(NoteError):
            make()


def test_a_generated_key_is_new() -> None:
    assert SigningKey.generate("a").seed != SigningKey.generate("a").seed
    assert SigningKey.generate("a", COSIGNATURE).verifier.type == COSIGNATURE


@settings(deadline=None)
@given(st.binary(min_size=32, max_size=32))
def test_any_32_bytes_are_a_public_key_that_verifies_nothing_by_chance(public: bytes) -> None:
    assert not VerifierKey("a", ED25519, public).verify(b"text\n", b"\x11" * 64)


# --- signing ----------------------------------------------------------------------------------------------------------


@settings(deadline=None)
@given(TEXTS, KEYS, st.booleans())
def test_what_is_signed_opens(text: str, key: SigningKey, as_bytes: bool) -> None:
    text = f"{text}\n"
    if as_bytes:
        signed_bytes = sign_note(text.encode(), key)
        assert isinstance(signed_bytes, bytes)
        signed = signed_bytes.decode()
    else:
        signed = sign_note(text, str(key))
    note = open_note(signed, [key.verifier])
    assert note.text == text
    assert [k for k, _ in note.verified] == [key.verifier]
    assert str(note) == signed
    assert split_note(signed) == (text, note.signatures)
    assert tuple(map(Signature.parse, map(str, note.signatures))) == note.signatures


def test_another_signature_is_added_to_a_note_and_its_text_is_what_is_signed() -> None:
    once = sign_note(TEXT, LOG)
    twice = cosign_note(once, WITNESS, at=1679315147)
    assert twice.startswith(once)
    assert twice == sign_note(TEXT, [LOG, str(WITNESS)], at=1679315147)
    note = open_note(twice, [LOG.verifier, WITNESS.verifier])
    assert [signature.timestamp for _, signature in note.verified] == [None, 1679315147]


def test_signing_again_replaces_the_signature_as_in_go() -> None:
    old = sign_note(TEXT, [WITNESS, LOG], at=1)
    new = cosign_note(old, [WITNESS, WITNESS], at=2)
    assert new == cosign_note(sign_note(TEXT, LOG), WITNESS, at=2)


def test_a_malformed_note_is_not_cosigned() -> None:
    for text in (
        f"{TEXT}\n— PeterNeumann x08g\n",
        f"{TEXT}\n— said she.\n",
        f"{TEXT}\n{PETER_LINE}x\n",
        f"{TEXT}\n{PETER_LINE}"[:-1],
    ):
        with pytest.raises(NoteError):
            cosign_note(text, LOG)


@pytest.mark.parametrize("text", [BOTH, f"{TEXT}\n— PeterNeumann x08g\n", f"{TEXT}\n— said she.\n"])
def test_a_text_that_looks_like_a_note_is_signed_as_the_text_that_it_is(text: str) -> None:
    note = open_note(sign_note(text, LOG), [LOG.verifier])
    assert note.text == text
    assert len(note.signatures) == 1


def test_text_without_a_last_newline_and_text_without_a_key_is_refused() -> None:
    for text in ("", "a", "a\nb"):
        with pytest.raises(NoteError):
            sign_note(text, LOG)
        with pytest.raises(NoteError):
            LOG.sign(text.encode())
    with pytest.raises(NoteError):
        sign_note(TEXT, [])
    with pytest.raises(NoteError):
        cosign_note(BOTH, [])


@settings(deadline=None)
@given(st.sampled_from(["\n", "\n\n", "a\n\n", "\n\na\n", "a\n\n\n\n", "—\n\n", "\n—\n", "é\u2028\x7f\n"]))
def test_empty_lines_belong_to_the_text(text: str) -> None:
    assert open_note(sign_note(text, LOG), [LOG.verifier]).text == text


def test_a_cosignature_is_over_the_message_of_the_specification() -> None:
    text = "example.com/behind-the-sofa\n20852163\nCsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=\n"
    signature = WITNESS.sign(text.encode(), at=1679315147)
    plain = SigningKey(WITNESS.name, ED25519, WITNESS.seed)
    assert signature.signature[:8] == bytes.fromhex("00000000641850cb")
    assert signature.signature[8:] == plain.sign(f"cosignature/v1\ntime 1679315147\n{text}".encode()).signature
    assert signature.key_id != plain.verifier.key_id
    moved = replace(signature, signature=(1679315148).to_bytes(8, "big") + signature.signature[8:])
    with pytest.raises(NoteError):
        open_note(join_note(text, [moved]), [WITNESS.verifier])


def test_times_beyond_63_bits_are_neither_signed_nor_believed() -> None:
    latest = 2**63 - 1
    assert open_note(sign_note(TEXT, WITNESS, at=latest), [WITNESS.verifier]).verified[0][1].timestamp == latest
    assert open_note(sign_note(TEXT, WITNESS, at=0), [WITNESS.verifier]).verified[0][1].timestamp == 0
    for at in (-1, 2**63, 2**64):
        with pytest.raises(NoteError):
            sign_note(TEXT, WITNESS, at=at)
    plain = SigningKey(WITNESS.name, ED25519, WITNESS.seed).sign(f"cosignature/v1\ntime {2**63}\n{TEXT}".encode())
    late = Signature(WITNESS.name, WITNESS.verifier.key_id, (2**63).to_bytes(8, "big") + plain.signature)
    with pytest.raises(NoteError, match="does not verify"):
        open_note(join_note(TEXT, [late]), [WITNESS.verifier])


def test_a_cosignature_states_the_present_unless_told_and_a_signature_states_no_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(time, "time", lambda: 1234567890.9)
    assert WITNESS.sign(b"a\n").timestamp == 1234567890
    assert open_note(sign_note(TEXT, WITNESS), [WITNESS.verifier]).verified[0][1].timestamp == 1234567890
    with pytest.raises(NoteError):
        LOG.sign(b"a\n", at=5)


def test_the_lines_of_a_witness_are_signatures() -> None:
    assert parse_signatures(PETER_LINE + ENOCH_LINE) == parse_signatures((PETER_LINE + ENOCH_LINE).encode())
    for lines in (
        "",
        "\n",
        PETER_LINE[:-1],
        f"\n{PETER_LINE}",
        f"{PETER_LINE}\n",
        f"{PETER_LINE}\n{ENOCH_LINE}",
        "x\n",
    ):
        with pytest.raises(NoteError):
            parse_signatures(lines)


@pytest.mark.parametrize(
    "line", ["", "\n", "— ", "— \n", "— a\n", "— a AAAAAAA=", "— a AAAAAAA=x", f"{PETER_LINE}{ENOCH_LINE}"]
)
def test_what_is_no_signature_line_is_refused(line: str) -> None:
    with pytest.raises(NoteError):
        Signature.parse(line)


# --- one byte ---------------------------------------------------------------------------------------------------------

SIGNED = sign_note(
    "example.com/log\n7\nU7WM79jrzyhGZ5/GUBTpM7NzwdyfFx61t3RovgcC4Ro=\n", [LOG, WITNESS], at=1679315147
).encode()


@pytest.mark.parametrize("key", [LOG, WITNESS], ids=["signature", "cosignature"])
def test_one_changed_bit_fails_or_leaves_the_text_unchanged(key: SigningKey) -> None:
    original = open_note(SIGNED, [key.verifier])
    survived = 0
    for position in range(len(SIGNED)):
        for bit in range(8):
            changed = bytearray(SIGNED)
            changed[position] ^= 1 << bit
            try:
                note = open_note(bytes(changed), [key.verifier])
            except NoteError:
                continue
            assert note.text == original.text
            assert note.verified == original.verified
            assert str(note).encode() == bytes(changed)
            survived += 1
    # Only the other key's line may change.
    assert 0 < survived < 8 * max(map(len, map(str.encode, map(str, original.signatures))))


@settings(deadline=None, max_examples=400)
@given(st.data())
def test_bytes_put_in_taken_out_or_doubled_fail_or_leave_the_text_unchanged(data: st.DataObject) -> None:
    start = data.draw(st.integers(0, len(SIGNED)))
    stop = data.draw(st.integers(start, min(start + 120, len(SIGNED))))
    piece = data.draw(
        st.binary(max_size=8) | st.sampled_from([SIGNED[start:stop] * 2, b"\n", b"\n\n", "— ".encode(), b"="])
    )
    changed = SIGNED[:start] + piece + SIGNED[stop:]
    original = open_note(SIGNED, [LOG.verifier])
    try:
        note = open_note(changed, [LOG.verifier])
    except NoteError:
        return
    assert note.text == original.text
    assert note.verified == original.verified
    assert str(note).encode() == changed


@settings(deadline=None, max_examples=300)
@given(st.text() | st.binary() | st.text("a \n—+=").map(lambda text: f"{text}\n\n— a {text}"))
def test_nothing_but_a_note_error_ever_comes_out(text: str | bytes) -> None:
    for act in (
        lambda: open_note(text, [PETER]),
        lambda: sign_note(text, LOG),
        lambda: cosign_note(text, LOG),
        lambda: parse_signatures(text),
        lambda: VerifierKey.parse(str(text)),
        lambda: SigningKey.parse(f"PRIVATE+KEY+{text!s}"),
    ):
        with contextlib.suppress(NoteError):
            act()
