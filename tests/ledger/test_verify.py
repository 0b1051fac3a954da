"""The offline verifier against an auditor's enemies: every file that was changed, exchanged or made up."""

import hashlib
import json
import random
import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.ledger import evidence_samples as samples
from tests.ledger.evidence_samples import (
    DECISION,
    FAILURE,
    HEAT_MAP,
    IMAGE,
    LOG,
    ORIGIN,
    WITNESSES,
    Log,
    plant,
    rotated,
    sealed,
)
from tests.ledger.signing.test_timestamping import OPENSSL, Authority
from traceai.errors import InputError
from traceai.ledger import canonical, merkle, records, verify
from traceai.ledger.evidence import strict_json
from traceai.ledger.evidence.file import EvidenceFile, Timestamp
from traceai.ledger.evidence.proofs import Trust
from traceai.ledger.note import COSIGNATURE, join_note, split_note
from traceai.ledger.verify import Outcome

TRUST = Trust(keys=(LOG.verifier,))
GOLDEN = Path(__file__).parent / "golden"
GOOD = plant()
FILE = GOOD.file(DECISION)
ROTATED = rotated()


def facts(data: bytes, trust: Trust = TRUST, **files: bytes) -> dict[str, bool | None]:
    return {fact.name: fact.holds for fact in verify.verify(data, trust, **files).facts}


def failing(data: bytes, trust: Trust = TRUST, **files: bytes) -> dict[str, str]:
    outcome = verify.verify(data, trust, **files)
    assert not outcome.holds
    return {fact.name: fact.sentence for fact in outcome.facts if fact.holds is False}


# --- what an honest file shows ----------------------------------------------------------------------------------------


def test_an_honest_file_with_everything_at_hand_holds_in_every_fact() -> None:
    trust = replace(TRUST, witnesses=(WITNESSES[0].verifier, WITNESSES[1].verifier))
    outcome = verify.verify(FILE, trust, image=IMAGE, heat_map=HEAT_MAP)
    assert {fact.name: fact.holds for fact in outcome.facts} == {
        "format": True, "entry": True, "included": True, "related": True, "signed": True, "handovers": None, "signer trusted": True,
        "witnessed": True, "witnesses trusted": True, "timestamps": None, "verdict": True, "model": True, "approval": True,
        "environment": True, "training data": True, "reviews": True, "image": True, "heat map": True,
    }  # fmt: skip
    assert outcome.holds
    assert outcome.trusted
    told = {fact.name: fact.sentence for fact in outcome.facts}
    assert "SN-8" in told["entry"]
    assert "REJECT" in told["entry"]
    assert str(LOG.verifier) in told["signed"]
    assert "witness-2.example at 2027-01-15 08:00:00 UTC" in told["witnessed"]
    assert "ada approved tiles@1" in told["approval"]
    assert "ruth" in told["reviews"]


def test_without_a_key_nothing_is_contradicted_and_trust_is_not_established() -> None:
    outcome = verify.verify(FILE)
    assert outcome.holds
    assert not outcome.trusted
    assert facts(FILE, Trust())["signer trusted"] is None
    assert "TRUST IS NOT ESTABLISHED" in outcome.conclusion


def test_a_failed_attempt_has_its_place_and_no_verdict() -> None:
    found = facts(GOOD.file(FAILURE))
    assert found["included"] is True
    assert {name for name, holds in found.items() if holds is None} >= {"verdict", "environment", "image", "heat map"}
    assert False not in found.values()
    assert set(failing(GOOD.file(FAILURE), image=IMAGE, heat_map=HEAT_MAP)) == {"image", "heat map"}


def test_a_failed_attempt_is_not_said_to_have_decided_anything() -> None:
    outcome = verify.verify(GOOD.file(FAILURE), TRUST)
    told = {fact.name: fact.sentence for fact in outcome.facts}
    assert told["model"].startswith("tiles@1 was to decide, and decided nothing. Entry 3, by erin, registers it")
    assert "before the attempt" in told["approval"]
    assert told["entry"].startswith("Attempt ")
    assert told["included"].startswith(f"The attempt is entry {FAILURE} of ")
    assert "this attempt is in the log" in outcome.conclusion
    everything = " ".join([*told.values(), outcome.conclusion])
    assert not re.search(r"(?<!was to )(?<!and )\bdecide[sd]?\b|decision", everything, re.IGNORECASE), everything


@pytest.mark.parametrize(("index", "related"), [(FAILURE, [0, 1]), (FAILURE, [0, 1, 13]), (DECISION, [0, 1, 6, 13])])
def test_what_is_wrong_with_a_model_is_said_of_the_attempt_or_of_the_decision(index: int, related: list[int]) -> None:
    late = replace(GOOD, entries=[*GOOD.entries, sealed(samples.model(13), 13)])
    sentence = failing(late.file(index, related))["model"]
    said, other = ("attempt", "decision") if index == FAILURE else ("decision", "attempt")
    assert other not in sentence
    assert said in sentence or "the version that was to decide" in sentence


def test_every_entry_of_the_log_can_be_proved() -> None:
    for index in (7, 8, 9, FAILURE):
        assert verify.verify(GOOD.file(index), TRUST).holds


@pytest.mark.parametrize("folder", sorted(path for path in GOLDEN.iterdir() if (path / "expected.json").exists()))
def test_what_an_earlier_release_wrote_verifies_for_ever(folder: Path) -> None:
    expected = json.loads((folder / "expected.json").read_text())
    trust = verify.trust_of([expected["key"]], expected["witnesses"], authorities=[folder / "tsa.pem"])
    data, image, heat_map = ((folder / n).read_bytes() for n in ("decision.evidence.json", "image.png", "heat-map"))
    found = facts(data, trust, image=image, heat_map=heat_map)
    assert {name: found[name] for name in expected["facts"]} == expected["facts"]
    assert verify.verify(data, trust, image=image, heat_map=heat_map).trusted


# --- changed -----------------------------------------------------------------------------------------------------------


def same_or_false(original: Outcome, changed: bytes, trust: Trust = TRUST) -> None:
    outcome = verify.verify(changed, trust, image=IMAGE, heat_map=HEAT_MAP)
    assert not outcome.holds or outcome == original, changed


@pytest.fixture(scope="module")
def original() -> Outcome:
    return verify.verify(FILE, TRUST, image=IMAGE, heat_map=HEAT_MAP)


def test_every_changed_byte_fails(original: Outcome) -> None:
    draw = random.Random(7)
    for position in range(len(FILE)):
        for mask in (1 << draw.randrange(8), draw.randrange(1, 256)):
            changed = bytearray(FILE)
            changed[position] ^= mask
            same_or_false(original, bytes(changed))


def test_every_change_of_a_byte_in_the_last_entry_fails(original: Outcome) -> None:
    last = json.loads(FILE)["related"][-1]["entry"]
    start = FILE.index(json.dumps(last[:100])[1:-1].encode())
    for position in range(start, start + 15):
        for mask in range(1, 256):
            changed = bytearray(FILE)
            changed[position] ^= mask
            same_or_false(original, bytes(changed))


def test_deleted_bytes_and_cuts_fail(original: Outcome) -> None:
    for position in range(0, len(FILE), 3):
        same_or_false(original, FILE[:position] + FILE[position + 1 :])
        assert not verify.verify(FILE[:position], TRUST).holds


def test_inserted_bytes_fail(original: Outcome) -> None:
    draw = random.Random(8)
    for position in range(0, len(FILE) + 1, 6):
        extra = bytes([draw.choice(b'0123456789abcdef"\\,:{}[] \n+/=-\x00\xff')])
        assert not verify.verify(FILE[:position] + extra + FILE[position:], TRUST).holds
        same_or_false(original, FILE[:position] + FILE[position : position + 1] + FILE[position:])


def leaves_of(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    for name, item in value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ():
        yield (*path, name)
        yield from leaves_of(item, (*path, name))


@pytest.mark.parametrize("data", [FILE, ROTATED.file(DECISION)], ids=["plain", "rotated"])
def test_every_value_that_is_exchanged_in_canonical_form_fails(data: bytes) -> None:
    """Unlike changed bytes, these get past the check of the form."""
    assert verify.verify(data, TRUST).trusted
    value = json.loads(data)
    for path in leaves_of(value):
        for other in (None, "", "x", 0, 8, -1, [], {}, True, "0" * 64, str(LOG.verifier), ORIGIN):
            changed = json.loads(data)
            at = changed
            for name in path[:-1]:
                at = at[name]
            at[path[-1]] = other
            outcome = verify.verify(strict_json.dumps(changed) + b"\n", TRUST)
            assert not outcome.holds or changed == value, (path, other)


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=400))
def test_any_bytes_end_in_facts(data: bytes) -> None:
    assert not verify.verify(data, TRUST).holds


FRAGMENTS = st.lists(
    st.sampled_from([
        b"{", b"}", b'"schema"', b'"traceai-evidence/1"', b":", b",", b'"entry"', b'"proof"', b'"keys"', b"[", b"]", b'"x"',
        b'"c2sp.org/tlog-proof@v1\\nindex 0\\n\\n"', b"1", b"\n", b"\\u0000", b"9" * 30, b"1e9", b"null",
        str(LOG.verifier).encode(),
    ]),
    max_size=40,
)  # fmt: skip


@settings(max_examples=300, deadline=None)
@given(FRAGMENTS)
def test_any_pieces_of_a_file_end_in_facts(pieces: list[bytes]) -> None:
    assert not verify.verify(b"".join(pieces), TRUST).holds


ANY = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53) + 1, 2**53 - 1)
    | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text("abc"), inner, max_size=3),
    max_leaves=6,
)


@settings(max_examples=300, deadline=None)
@given(st.sampled_from(list(leaves_of(json.loads(ROTATED.file(DECISION))))), ANY)
def test_any_value_anywhere_ends_in_facts(path: tuple[Any, ...], other: Any) -> None:
    changed = json.loads(ROTATED.file(DECISION))
    at = changed
    for name in path[:-1]:
        at = at[name]
    at[path[-1]] = other
    verify.verify(strict_json.dumps(changed) + b"\n", TRUST)


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_any_entry_of_any_content_ends_in_facts(data: st.DataObject) -> None:
    """A log that its owner bent: whatever stands in its entries was signed, and is read all the same."""
    number = data.draw(st.sampled_from([0, 1, 2, 3, 4, 6, 8, 12, 13]))
    fields = dict(ROTATED.entries[number].fields)
    values = ANY | st.sampled_from(
        ["", "pass", "0", "1" * 400, "9" * 5000 + ".5", str(WITNESSES[0].verifier), "x+00+", [{}]]
    )
    for name in data.draw(st.lists(st.sampled_from(sorted(fields)), min_size=1, max_size=3)):
        fields[name] = data.draw(values)
    entry = replace(ROTATED.entries[number], data=strict_json.dumps(fields), fields=fields)
    log = replace(ROTATED, entries=[*ROTATED.entries[:number], entry, *ROTATED.entries[number + 1 :]])
    related = [n for n in range(14) if n not in (7, 8, 9, 10, 11)]
    verify.verify(log.file(8, related), TRUST, image=IMAGE, heat_map=HEAT_MAP)


# --- exchanged ----------------------------------------------------------------------------------------------------------


def test_the_proof_of_another_decision_does_not_fit() -> None:
    one, other = GOOD.evidence(DECISION), GOOD.evidence(9)
    assert "included" in failing(bytes(replace(one, proof=other.proof)))
    assert "included" in failing(bytes(replace(other, proof=one.proof)))


def test_the_proofs_of_two_related_entries_do_not_fit_each_other() -> None:
    file = GOOD.evidence(DECISION)
    first, second, *rest = file.related
    swapped = (replace(first, hashes=second.hashes), replace(second, hashes=first.hashes), *rest)
    assert set(failing(bytes(replace(file, related=swapped)))) >= {"related"}
    swapped = (replace(first, entry=second.entry), replace(second, entry=first.entry), *rest)
    assert set(failing(bytes(replace(file, related=swapped)))) >= {"related"}


def test_a_decision_that_was_rewritten_is_not_in_the_signed_tree() -> None:
    forged = GOOD.replaced(DECISION, samples.inspection(DECISION, verdict="pass", defect_score="0.1"))
    file = replace(GOOD.evidence(DECISION), entry=forged.entries[DECISION].data)
    assert set(failing(bytes(file))) == {"included", "reviews"}


def test_a_tree_that_was_rewritten_and_signed_by_another_key_is_not_trusted() -> None:
    thief = samples.key(ORIGIN, 1)
    forged = replace(GOOD.replaced(DECISION, samples.inspection(DECISION, verdict="pass", defect_score="0.1")))
    forged = replace(forged.replaced(0, samples.opened(log=thief)), signers=(thief,), cosigners=())
    data = forged.file(DECISION, [0, 1, 2, 3, 4, 5, 6])
    assert failing(data).keys() == {"signer trusted", "witnessed"}
    assert "2 of 3 witnesses, and 0 cosigned" in failing(data)["witnessed"]


def test_a_checkpoint_of_another_origin_is_not_of_this_log() -> None:
    other = samples.key("example.com/plant-2")
    file = replace(GOOD, origin="example.com/plant-2", signers=(other,)).evidence(DECISION)
    assert failing(bytes(file)).keys() == {"signed", "signer trusted"}
    assert "no entry in this file says" in failing(bytes(file))["signed"]
    in_its_name = replace(GOOD, origin="example.com/plant-2", signers=(LOG,)).evidence(DECISION)
    assert failing(bytes(in_its_name)).keys() == {"signed", "signer trusted"}


def test_a_key_that_the_log_never_stated_does_not_count_even_if_it_is_trusted() -> None:
    other = samples.key(ORIGIN, 1)
    data = replace(GOOD, signers=(other,)).file(DECISION)
    assert failing(data, Trust(keys=(other.verifier,))).keys() == {"signed"}
    assert failing(data).keys() == {"signed", "signer trusted"}


def test_a_checkpoint_that_only_witnesses_signed_is_signed_by_no_log() -> None:
    data = replace(GOOD, signers=()).evidence(DECISION)
    assert failing(bytes(data)).keys() == {"signed", "signer trusted"}


def test_the_registration_of_another_version_does_not_show_the_model() -> None:
    log = GOOD.replaced(3, samples.model(digest="0" * 64))
    assert "0" * 64 in failing(log.file(DECISION))["model"]
    log = GOOD.replaced(3, samples.model(model=records.ModelRef(name="tiles", version=2, digest=samples.DIGEST)))
    assert "does not hold the registration of tiles@1" in failing(log.file(DECISION))["model"]
    assert failing(GOOD.file(DECISION, [0, 1, 2, 4, 5, 6, 12])).keys() == {"model"}


def test_a_registration_after_the_decision_does_not_show_the_model() -> None:
    entries = [*GOOD.entries, sealed(samples.model(13))]
    assert "only after the decision" in failing(replace(GOOD, entries=entries).file(DECISION, [0, 1, 6, 13]))["model"]


def test_thresholds_and_classes_are_those_that_were_registered() -> None:
    point = records.OperatingPoint(pass_below="0.90", reject_at="0.95")
    log = GOOD.replaced(DECISION, samples.inspection(DECISION, operating_point=point, verdict="pass"))
    assert failing(log.file(DECISION, [0, 1, 3, 4, 6])).keys() == {"model"}
    log = GOOD.replaced(DECISION, samples.inspection(DECISION, scores={"good": "0.2", "crack": "0.8"}))
    assert failing(log.file(DECISION, [0, 1, 3, 4, 6])).keys() == {"model"}
    same = records.OperatingPoint(pass_below="0.660", reject_at="0.67")
    log = GOOD.replaced(DECISION, samples.inspection(DECISION, operating_point=same))
    assert verify.verify(log.file(DECISION, [0, 1, 3, 4, 6]), TRUST).holds


@pytest.mark.parametrize(
    ("changed", "follows"),
    [
        ({"verdict": "pass"}, "had to be reject"),
        ({"verdict": "undecided"}, "had to be reject"),
        ({"defect_score": "0.669999"}, "had to be undecided"),
        ({"defect_score": "0.659999"}, "had to be pass"),
        ({"defect_score": None}, "had to be undecided"),
    ],
)
def test_a_verdict_that_does_not_follow_from_its_own_record(changed: dict[str, Any], follows: str) -> None:
    log = GOOD.replaced(DECISION, samples.inspection(DECISION, **changed))
    found = failing(log.file(DECISION, [0, 1, 3, 4, 6]))
    assert found.keys() == {"verdict"}
    assert follows in found["verdict"]


def test_approval_is_shown_refuted_or_missing() -> None:
    without = [0, 1, 2, 3, 5, 6, 12]
    assert facts(GOOD.file(DECISION, without))["approval"] is None
    entries = [*GOOD.entries, sealed(samples.event(13, "approve"))]
    assert facts(replace(GOOD, entries=entries).file(DECISION, [*without, 13]))["approval"] is None
    for event in (
        samples.event(4, "approve", digest="0" * 64),
        samples.event(4, "approve", actor="erin"),
        samples.event(4, "retire"),
    ):
        assert failing(GOOD.replaced(4, event).file(DECISION)).keys() == {"approval"}


def test_the_environment_has_its_digest() -> None:
    assert failing(GOOD.file(DECISION, [0, 1, 3, 4])).keys() == {"environment"}
    bent = samples.runtime().model_copy(update={"environment": samples.ENVIRONMENT | {"torch": "2.12.0"}})
    assert failing(GOOD.replaced(6, bent).file(DECISION)).keys() == {"environment"}


def test_a_file_that_decided_was_registered_for_the_version_before() -> None:
    environment = samples.ENVIRONMENT | {"export": "4" * 64}
    digest = hashlib.sha256(canonical.dumps(environment)).hexdigest()
    related = [0, 1, 3, 4, 5, 6]

    def log(number: int = 5, **changed: Any) -> Log:
        fields: dict[str, Any] = {
            "model": records.ModelRef(name="tiles", version=1, digest=samples.DIGEST), "format": "onnx", "size": 9, "tools": {},
            "sha256": "4" * 64, "images": 22, "logit_difference": "0", "grid_difference": "0", "made_by": "erin",
        }  # fmt: skip
        made = records.ModelExport(**samples.shared(number), **fields | changed)
        ran = records.Runtime(**samples.shared(6), digest=digest, environment=environment)
        decided = samples.inspection(DECISION, runtime=digest)
        return GOOD.replaced(6, ran).replaced(DECISION, decided).replaced(number, made)

    (fact,) = (f for f in verify.verify(log().file(DECISION, related), TRUST).facts if f.name == "environment")
    assert fact.holds
    assert "agreed with it on 22 pictures" in fact.sentence
    for wrong, among in (
        (log(), [0, 1, 3, 4, 6]),
        (log(sha256="5" * 64), related),
        (log(model=records.ModelRef(name="tiles", version=1, digest="0" * 64)), related),
        (log(model=records.ModelRef(name="tiles", version=2, digest=samples.DIGEST)), related),
        (log(9), [0, 1, 3, 4, 6, 9]),
    ):
        assert "no registration of it" in failing(wrong.file(DECISION, among))["environment"]


def test_a_review_is_of_this_decision_and_of_these_bytes() -> None:
    assert "of another decision" in failing(GOOD.file(DECISION, [0, 1, 3, 4, 6, 11]))["reviews"]
    bent = samples.review(12, GOOD.entries[8], inspection_leaf="0" * 64)
    assert "with other bytes" in failing(GOOD.replaced(12, bent).file(DECISION))["reviews"]
    simulated = samples.review(12, GOOD.entries[8], source="simulated")
    told = verify.verify(GOOD.replaced(12, simulated).file(DECISION), TRUST).facts
    assert any("SIMULATED" in fact.sentence for fact in told if fact.name == "reviews")


def test_an_entry_that_is_no_record_is_named_even_where_the_log_signed_it() -> None:
    data = GOOD.entries[3].data.replace(b'"parameters":4711', b'"parameters":-711')
    entries = [*GOOD.entries[:3], replace(GOOD.entries[3], data=data), *GOOD.entries[4:]]
    found = failing(replace(GOOD, entries=entries).file(DECISION))
    assert "Entry 3: model-version/1.parameters is no count." in found["related"]
    data = GOOD.entries[8].data.replace(b'"station_seq":8', b'"station_seq":8.0')
    entries = [*GOOD.entries[:8], replace(GOOD.entries[8], data=data), *GOOD.entries[9:]]
    assert failing(replace(GOOD, entries=entries).file(DECISION)).keys() == {"entry"}
    others = [n for n in range(13) if n not in (3, 7, 8, 9, 10)]
    assert failing(GOOD.file(3, others)).keys() == {"entry"}


@pytest.mark.parametrize(
    "files", [{"image": IMAGE + b"x"}, {"image": b""}, {"heat_map": HEAT_MAP[::-1]}, {"heat_map": b""}]
)
def test_another_picture_or_heat_map_is_told(files: dict[str, bytes]) -> None:
    assert failing(FILE, **files).keys() == {name.replace("_", " ") for name in files}


# --- witnesses ------------------------------------------------------------------------------------------------------------


def test_the_policy_asks_for_enough_of_its_own_witnesses() -> None:
    assert facts(replace(GOOD, cosigners=tuple(WITNESSES)).file(DECISION))["witnessed"] is True
    alone = replace(GOOD, cosigners=(WITNESSES[0],)).file(DECISION)
    assert "witnesses, and 1 cosigned" in failing(alone)["witnessed"]
    strangers = [samples.key(f"stranger-{n}.example", kind=COSIGNATURE) for n in (1, 2)]
    assert (
        "2 of 3 witnesses, and 0 cosigned"
        in failing(replace(GOOD, cosigners=tuple(strangers)).file(DECISION))["witnessed"]
    )


def test_one_witness_under_two_names_counts_once() -> None:
    twin = replace(WITNESSES[0], name="twin.example")
    policy = records.WitnessPolicy(
        **samples.shared(1), origin=ORIGIN, threshold=2, actor="ada", reason="",
        witnesses=[records.Witness(name=w.name, key=str(w.verifier), url="https://x") for w in (WITNESSES[0], twin)],
    )  # fmt: skip
    log = replace(GOOD.replaced(1, policy), cosigners=(WITNESSES[0], twin))
    assert "witnesses, and 1 cosigned" in failing(log.file(DECISION))["witnessed"]
    trust = replace(TRUST, witnesses=(WITNESSES[0].verifier, twin.verifier))
    assert "1 of the witnesses that you named cosigned, and you asked for 1" in told(log, trust, "witnesses trusted")
    with pytest.raises(InputError):
        replace(trust, threshold=2)


def test_without_a_policy_nobody_was_asked_for() -> None:
    related = [0, 2, 3, 4, 5, 6, 12]
    assert facts(GOOD.file(DECISION, related))["witnessed"] is None
    assert facts(GOOD.replaced(1, samples.policy(threshold=0)).file(DECISION))["witnessed"] is None
    assert facts(GOOD.replaced(1, samples.policy(origin="example.com/other")).file(DECISION))["witnessed"] is None


def test_the_auditor_names_witnesses_of_his_own() -> None:
    first, second, third = (witness.verifier for witness in WITNESSES)
    for witnesses, threshold, holds in [
        ((first,), None, True),
        ((first, second), None, True),
        ((first, second, third), None, False),
        ((first, second, third), 2, True),
        ((third,), None, False),
    ]:
        found = facts(FILE, replace(TRUST, witnesses=witnesses, threshold=threshold))
        assert found["witnesses trusted"] is holds
        assert found["witnessed"] is True


def test_a_cosignature_of_another_checkpoint_or_time_does_not_count() -> None:
    file = GOOD.evidence(DECISION)
    text, (log, first, second) = split_note(file.proof.checkpoint)
    later = replace(first, signature=(samples.COSIGNED_AT + 1).to_bytes(8, "big") + first.signature[8:])
    note = join_note(text, [log, later, second])
    assert "is not of this checkpoint" in failing(resigned(file, note))["witnessed"]
    of_another = split_note(replace(GOOD, entries=GOOD.entries[:12]).note)[1][1]
    assert failing(resigned(file, join_note(text, [log, of_another, second]))).keys() == {"witnessed"}
    log_of_another = split_note(replace(GOOD, entries=GOOD.entries[:12]).note)[1][0]
    found = failing(resigned(file, join_note(text, [log_of_another, first, second])))
    assert found.keys() == {"signed", "signer trusted"}


def test_a_time_beyond_the_calendar_is_told_in_seconds() -> None:
    log = replace(GOOD, cosigners=())
    signatures = [w.sign(log.checkpoint.text().encode(), at=2**63 - 1) for w in WITNESSES[:2]]
    text, (mine,) = split_note(log.note)
    file = replace(log.evidence(DECISION), keys=(LOG.verifier, WITNESSES[0].verifier, WITNESSES[1].verifier))
    data = resigned(file, join_note(text, [mine, *signatures]))
    assert "9223372036854775807 s after 1970" in str(verify.verify(data, TRUST).facts)
    assert facts(data)["witnessed"] is True


def test_a_signature_without_its_key_and_a_key_without_its_signature_are_refused() -> None:
    file = GOOD.evidence(DECISION)
    for keys in (
        file.keys[:2],
        (*file.keys, WITNESSES[2].verifier),
        file.keys[::-1],
        (),
        (*file.keys[:2], WITNESSES[2].verifier),
    ):
        assert failing(bytes(replace(file, keys=keys))).keys() == {"format"}
    text, signatures = split_note(file.proof.checkpoint)
    twice = replace(file, keys=(*file.keys, file.keys[2]))
    assert failing(resigned(twice, join_note(text, [*signatures, signatures[2]]))).keys() == {"format"}


@pytest.mark.parametrize(
    ("keys", "witnesses", "threshold"),
    [
        ((WITNESSES[0].verifier,), (), None),
        ((), (LOG.verifier,), None),
        ((), (), 1),
        ((), (WITNESSES[0].verifier,), 2),
        ((), (WITNESSES[0].verifier,), 0),
    ],
)
def test_trust_that_makes_no_sense_is_bad_usage(keys: Any, witnesses: Any, threshold: int | None) -> None:
    with pytest.raises(InputError):
        Trust(keys=keys, witnesses=witnesses, threshold=threshold)


# --- form -----------------------------------------------------------------------------------------------------------------


def test_a_file_is_read_into_the_same_bytes() -> None:
    for index in (7, 8, 9, FAILURE):
        data = GOOD.file(index)
        assert bytes(EvidenceFile.parse(data)) == data


@pytest.mark.parametrize(
    "change",
    [
        lambda file: replace(file, related=file.related[::-1]),
        lambda file: replace(file, related=(*file.related, file.related[-1])),
        lambda file: replace(
            file, related=(*file.related[:5], replace(file.related[0], index=DECISION), *file.related[5:])
        ),
        lambda file: replace(file, proof=replace(file.proof, extra=b"anything")),
    ],
)
def test_a_file_in_another_than_its_one_form_is_refused(change: Callable[[EvidenceFile], EvidenceFile]) -> None:
    assert failing(bytes(change(GOOD.evidence(DECISION)))).keys() == {"format"}


def test_a_newer_schema_is_named_as_such() -> None:
    assert "newer" in failing(FILE.replace(b"traceai-evidence/1", b"traceai-evidence/2"))["format"]


def test_what_is_recorded_cannot_move_the_cursor_or_turn_the_writing() -> None:
    part = records.Part(serial="\u202egnp.\x9b2J", lot="L7")
    log = GOOD.replaced(DECISION, samples.inspection(DECISION, part=part))
    told = str([fact.sentence for fact in verify.verify(log.file(DECISION, [0, 1, 3, 4, 6]), TRUST).facts])
    assert "gnp." in told
    assert not re.search("[\u202e\x9b]", told)


# --- another key ------------------------------------------------------------------------------------------------------------


def test_the_key_that_was_replaced_vouches_for_the_new_one() -> None:
    data = ROTATED.file(DECISION)
    assert facts(data)["handovers"] is True
    assert facts(data)["signer trusted"] is True
    new = samples.key(ORIGIN, 1).verifier
    assert facts(data, Trust(keys=(new,)))["signer trusted"] is True
    assert failing(data, Trust(keys=(samples.key(ORIGIN, 2).verifier,))).keys() == {"signer trusted"}
    both = replace(ROTATED, signers=(LOG, *ROTATED.signers))
    assert verify.verify(both.file(DECISION), TRUST).holds


def test_a_handover_that_the_old_key_did_not_sign_is_none() -> None:
    file = ROTATED.evidence(DECISION)
    (handover,) = file.handovers
    text, (signature,) = split_note(handover.checkpoint)
    stranger = samples.key(ORIGIN, 2).sign(text.encode())
    renamed = replace(signature, name="example.com/plant-2")
    for note in (
        join_note(text, [stranger]),
        join_note(text, [renamed]),
        join_note(text.replace("plant-1", "plant-2"), [signature]),
    ):
        found = failing(bytes(replace(file, handovers=(replace(handover, checkpoint=note),))))
        assert found.keys() == {"handovers", "signer trusted"}
    assert failing(bytes(replace(file, handovers=(replace(handover, index=12),)))).keys() == {
        "handovers",
        "signer trusted",
    }
    two = join_note(text, [signature, stranger])
    assert failing(bytes(replace(file, handovers=(replace(handover, checkpoint=two),)))).keys() == {"format"}
    assert failing(bytes(replace(file, handovers=(handover, handover)))).keys() == {"format"}


def test_an_old_key_does_not_sign_past_its_replacement() -> None:
    data = replace(ROTATED, signers=(LOG,)).file(DECISION)
    assert failing(data).keys() == {"signed"}
    assert "the new one did not sign" in failing(data)["signed"]


# --- timestamps -----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def tsa(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    if OPENSSL is None:
        pytest.skip("openssl is not installed")
    return Authority.create(tmp_path_factory.mktemp("tsa") / "authority")


def test_a_timestamp_is_verified_where_its_authority_is_named(tsa: Authority) -> None:
    stamped = replace(
        GOOD, timestamps=(Timestamp("https://tsa.example", tsa.respond(GOOD.checkpoint.text().encode())),)
    )
    data = stamped.file(DECISION)
    trust = replace(TRUST, authorities=tuple(tsa.certificates))
    assert facts(data)["timestamps"] is None
    assert facts(data, trust)["timestamps"] is True
    assert "says an authority that you named" in told(stamped, trust, "timestamps")
    of_another = replace(GOOD, timestamps=(Timestamp("https://tsa.example", tsa.respond(b"example.com/plant-1\n1\n")),))
    assert failing(of_another.file(DECISION), trust).keys() == {"timestamps"}


def test_every_changed_byte_of_a_timestamp_fails_or_changes_nothing(tsa: Authority) -> None:
    token = tsa.respond(GOOD.checkpoint.text().encode())
    trust = replace(TRUST, authorities=tuple(tsa.certificates))
    before = verify.verify(replace(GOOD, timestamps=(Timestamp("a", token),)).file(DECISION), trust)
    assert before.holds
    draw = random.Random(9)
    for position in range(len(token)):
        changed = bytearray(token)
        changed[position] ^= draw.randrange(1, 256)
        after = verify.verify(replace(GOOD, timestamps=(Timestamp("b", bytes(changed)),)).file(DECISION), trust)
        assert not after.holds or after == before


# --- helpers --------------------------------------------------------------------------------------------------------------


def told(log: Log, trust: Trust, name: str) -> str:
    return next(fact.sentence for fact in verify.verify(log.file(DECISION), trust).facts if fact.name == name)


def resigned(file: EvidenceFile, note: str) -> bytes:
    return bytes(replace(file, proof=replace(file.proof, checkpoint=note)))


def test_the_sample_is_a_tree_of_its_entries() -> None:
    assert GOOD.checkpoint.root == merkle.root([merkle.leaf_hash(entry.data) for entry in GOOD.entries])
