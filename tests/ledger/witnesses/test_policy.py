from datetime import UTC, datetime

import pytest

from traceai.errors import NoteError, PolicyError
from traceai.ledger import merkle
from traceai.ledger.note import COSIGNATURE, ED25519, SigningKey, cosign_note, sign_note
from traceai.ledger.tlog.checkpoint import Checkpoint
from traceai.ledger.witnesses.policy import Cosigned, Policy, PolicyWitness, policy_fact

ORIGIN = "plant-a.example/line"
LOG = SigningKey(ORIGIN, ED25519, b"l" * 32)
KEYS = [SigningKey(f"witness.example/{name}", COSIGNATURE, name.encode() * 32) for name in "abc"]
TEXT = Checkpoint(ORIGIN, 3, merkle.leaf_hash(b"root")).text()
AT = 1_700_000_000


def policy(threshold: int, *keys: SigningKey) -> Policy:
    witnesses = tuple(PolicyWitness(key.name[-1], key.verifier, "https://w.example") for key in keys or KEYS)
    return Policy(ORIGIN, threshold, witnesses)


def note(*keys: SigningKey, at: int = AT) -> str:
    return cosign_note(sign_note(TEXT, LOG), list(keys), at=at) if keys else sign_note(TEXT, LOG)


@pytest.mark.parametrize(
    ("signers", "threshold", "witnessed"),
    [
        ("", 1, False),
        ("a", 1, True),
        ("a", 2, False),
        ("ac", 2, True),
        ("abc", 2, True),
        ("ab", 3, False),
        ("cba", 3, True),
    ],
)
def test_k_of_n_is_a_fact(signers: str, threshold: int, witnessed: bool) -> None:
    fact = policy_fact(note(*(key for key in KEYS if key.name[-1] in signers)), policy(threshold))
    assert fact.witnessed is witnessed
    assert fact.needed == threshold
    assert fact.by == tuple(Cosigned(name, datetime.fromtimestamp(AT, UTC)) for name in "abc" if name in signers)


def test_witnesses_outside_the_policy_count_for_nothing() -> None:
    assert policy_fact(note(KEYS[0], KEYS[1]), policy(1, KEYS[2])) == (False, (), 1)


def test_a_cosignature_of_another_text_counts_for_nothing_and_hinders_none() -> None:
    other = sign_note(Checkpoint(ORIGIN, 4, merkle.leaf_hash(b"root")).text(), KEYS[0], at=AT)
    line = other.partition("\n\n")[2]
    fact = policy_fact(note(KEYS[1]) + line, policy(1))
    assert [found.witness for found in fact.by] == ["b"]


def test_a_plain_signature_under_the_name_of_a_witness_is_no_cosignature() -> None:
    plain = SigningKey(KEYS[0].name, ED25519, KEYS[0].seed)
    assert policy_fact(sign_note(TEXT, plain), policy(1)).by == ()


def test_of_a_witness_that_cosigned_twice_the_earliest_time_counts_once() -> None:
    later = note(KEYS[0], at=AT + 60)
    both = later + note(KEYS[0], at=AT).partition("\n\n")[2].splitlines(keepends=True)[-1]
    fact = policy_fact(both, policy(2))
    assert fact.by == (Cosigned("a", datetime.fromtimestamp(AT, UTC)),)
    assert not fact.witnessed


@pytest.mark.parametrize("at", [0, 253402300799, 253402300800, 2**63 - 1])
def test_any_time_that_can_be_signed_can_be_read(at: int) -> None:
    (found,) = policy_fact(note(KEYS[0], at=at), policy(1)).by
    assert (found.at is None) == (at > 253402300799)


def test_without_witnesses_nothing_is_witnessed() -> None:
    assert policy_fact(note(*KEYS), Policy(ORIGIN, 0, ())) == (False, (), 0)


def test_what_is_no_note_is_said_to_be_none() -> None:
    with pytest.raises(NoteError):
        policy_fact(TEXT, policy(1))


def fields(**changed: object) -> dict[str, object]:
    listed = [{"name": key.name[-1], "key": str(key.verifier), "url": "https://w.example"} for key in KEYS]
    return {"origin": ORIGIN, "threshold": 2, "witnesses": listed, "actor": "ada", "reason": "."} | changed


def test_a_record_is_read() -> None:
    assert Policy.parse(fields()) == policy(2)


LISTED = fields()["witnesses"]


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"threshold": 0}, "1 to 3"),
        ({"threshold": 4}, "1 to 3"),
        ({"threshold": -1}, "1 to 3"),
        ({"threshold": True}, "another type"),
        ({"threshold": "2"}, "another type"),
        ({"threshold": 1, "witnesses": []}, "0 to 0"),
        ({"witnesses": None}, "another type"),
        ({"witnesses": [1, 2]}, "another type"),
        ({"witnesses": [{"name": "a", "url": "https://w.example"}]}, "lacks a field"),
        ({"witnesses": [{**LISTED[0], "key": "junk"}]}, "has a key that is none"),
        ({"threshold": 1, "witnesses": [{**LISTED[0], "key": str(LOG.verifier)}]}, "none for cosignatures"),
        ({"witnesses": [LISTED[0], LISTED[0]]}, "one public key twice"),
        ({"witnesses": [LISTED[0], {**LISTED[1], "name": "a"}]}, "two witnesses alike"),
        (
            {"witnesses": [LISTED[0], {**LISTED[1], "key": str(SigningKey("alias", COSIGNATURE, KEYS[0].seed).verifier)}]},
            "one public key twice",
        ),
    ],
)  # fmt: skip
def test_a_policy_that_cannot_be_evaluated_is_refused(changed: dict[str, object], said: str) -> None:
    with pytest.raises(PolicyError, match=said):
        Policy.parse(fields(**changed))


@pytest.mark.parametrize("missing", ["origin", "threshold", "witnesses"])
def test_a_field_that_is_missing_is_told(missing: str) -> None:
    with pytest.raises(PolicyError, match="lacks a field"):
        Policy.parse({name: value for name, value in fields().items() if name != missing})
