"""Evidence files of a real ledger: decided, recorded, signed, witnessed, and verified by the offline program."""

import json
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from sqlmodel import Session

from tests.conftest import register_tiny
from tests.ledger import evidence_samples as samples
from traceai.db import tables
from traceai.errors import EvidenceError, UnavailableError, VerificationError
from traceai.inspection import history
from traceai.inspection.decision import Decision
from traceai.ledger import log, records, verify
from traceai.ledger.evidence import proving
from traceai.ledger.evidence.file import EvidenceFile, Timestamp
from traceai.ledger.evidence.proofs import Trust
from traceai.ledger.note import COSIGNATURE, SigningKey, VerifierKey, cosign_note, sign_note
from traceai.ledger.signing.signer import Signer
from traceai.ledger.tlog.checkpoint import Checkpoint
from traceai.review import verdicts
from traceai.sdk import Trace

Sql = Callable[..., list[tuple]]
WITNESSES = [SigningKey(f"witness-{n}.example", COSIGNATURE, bytes([n]) * 32) for n in (1, 2, 3)]


@dataclass
class Plant:
    """A ledger with a dozen decisions, and what an auditor holds."""

    trace: Trace
    decisions: list[Decision]

    @property
    def key(self) -> VerifierKey:
        key = self.trace.signer.state().key
        assert key is not None
        return key

    @property
    def trust(self) -> Trust:
        return Trust(keys=(self.key,))

    def prove(self, number: int = 0) -> bytes:
        return proving.prove(self.trace.signer, self.decisions[number].id).data

    def build(self, note: str, number: int = 0, timestamps: Sequence[Timestamp] = ()) -> bytes:
        with self.trace.database.session() as session:
            return proving.build(session, self.row(session, number), note, timestamps)

    def row(self, session: Session, number: int) -> tables.Inspection:
        return history.find(session, self.decisions[number].id)

    def review(self, number: int, truth: str = "good") -> None:
        with self.trace.database.session() as session:
            verdicts.add(session, self.row(session, number), truth=truth, reviewer="ruth")

    def policy(self, threshold: int = 2) -> None:
        with self.trace.database.session() as session:
            state = self.trace.signer.state()
            log.append(
                session,
                [
                    records.WitnessPolicy(
                        origin=state.origin, threshold=threshold, actor="ada", reason="",
                        witnesses=[
                            records.Witness(name=w.name, key=str(w.verifier), url=f"https://{w.name}") for w in WITNESSES
                        ],
                    )
                ],
            )  # fmt: skip

    def cosign(self, *witnesses: SigningKey, at: int = 1_800_000_000) -> None:
        stored = self.trace.signer.sign()
        self.trace.signer.store.add_signatures(stored.origin, stored.size, cosign_note(stored.note, witnesses, at=at))


@pytest.fixture
def plant(trace: Trace, tiny: str, images: list[Path], tmp_path: Path) -> Plant:
    trace.signer.begin()
    trace.add_station("press-4", audit_pass_probability=1.0)
    broken = tmp_path / "broken.png"
    broken.write_bytes(images[0].read_bytes()[:60])
    return Plant(trace, list(trace.inspector(tiny, "press-4").inspect_many([*images[:6], broken])))


def facts(data: bytes, trust: Trust, **files: bytes) -> dict[str, bool | None]:
    return {fact.name: fact.holds for fact in verify.verify(data, trust, **files).facts}


def schemas(data: bytes) -> list[str]:
    return [json.loads(included.entry)["schema"] for included in EvidenceFile.parse(data).related]


# --- what is in a file -------------------------------------------------------------------------------------------------


def test_a_file_proves_its_decision_with_image_and_heat_map(plant: Plant, images: list[Path]) -> None:
    plant.review(0)
    with plant.trace.database.session() as session:
        grid = history.dossier(session, plant.row(session, 0)).grid
    found = facts(plant.prove(0), plant.trust, image=images[0].read_bytes(), heat_map=grid)
    assert {name for name, holds in found.items() if holds is not True} == {
        "handovers", "witnessed", "witnesses trusted", "timestamps", "training data",
    }  # fmt: skip
    assert False not in found.values()


def test_the_entry_is_that_of_the_journal_byte_for_byte(plant: Plant) -> None:
    file = EvidenceFile.parse(plant.prove(3))
    with plant.trace.database.session() as session:
        stored = session.get_one(tables.Journal, plant.decisions[3].receipt.index)
    assert file.entry == stored.entry
    assert file.proof.index == plant.decisions[3].receipt.index


def test_every_decision_and_failed_attempt_can_be_proved(plant: Plant) -> None:
    for number, decision in enumerate(plant.decisions):
        outcome = verify.verify(plant.prove(number), plant.trust)
        assert outcome.holds, outcome
        assert outcome.decision is not None
        assert outcome.decision["id"] == decision.id


def test_what_belongs_to_the_decision_is_in_it_and_nothing_else(plant: Plant) -> None:
    plant.policy()
    plant.policy()
    plant.review(0)
    plant.review(0)
    plant.review(1)
    assert schemas(plant.prove(0)) == [
        "model-version/1", "model-event/1", "model-event/1", "ledger-opened/1", "runtime/1", "witness-policy/1", "review/1",
        "review/1",
    ]  # fmt: skip


def test_events_after_the_decision_do_not_speak_of_it(plant: Plant) -> None:
    from traceai.models import registry

    with plant.trace.database.session() as session:
        registry.retire(session, registry.find(session, "tiles@1"), actor="ada", reason="Too old.")
    assert schemas(plant.prove(0)).count("model-event/1") == 2
    assert facts(plant.prove(0), plant.trust)["approval"] is True


def test_the_model_is_the_version_that_decided(plant: Plant, images: list[Path]) -> None:
    other = register_tiny(plant.trace, seed=1)
    decided = plant.trace.inspector(other, "press-4").inspect(images[0])
    plant.decisions.append(decided)
    assert other == "tiles@2"
    for number, version in ((0, 1), (-1, 2)):
        told = {fact.name: fact.sentence for fact in verify.verify(plant.prove(number), plant.trust).facts}
        assert f"tiles@{version} decided" in told["model"]
    mixed = EvidenceFile.parse(plant.prove(0))
    foreign = EvidenceFile.parse(plant.prove(-1))
    swapped = replace(mixed, related=tuple(sorted({*foreign.related}, key=lambda entry: entry.index)))
    assert facts(bytes(swapped), plant.trust)["model"] is False


def test_the_data_set_that_a_version_was_trained_on_goes_with_it(plant: Plant) -> None:
    assert facts(plant.prove(0), plant.trust)["training data"] is None
    made = [
        samples.snapshot(), samples.model(), samples.event(4, "approve"), samples.event(5, "activate"), samples.runtime(),
        samples.inspection(7),
    ]  # fmt: skip
    version = records.ModelRef(name="plates", version=1, digest=samples.DIGEST)
    named = [
        record.model_copy(update={"model": version}) if hasattr(record, "model") else record for record in made
    ]  # fmt: skip
    with plant.trace.database.session() as session:
        log.append(session, named)
    data = proving.prove(plant.trace.signer, made[-1].id).data
    assert "dataset-snapshot/1" in schemas(data)
    found = facts(data, plant.trust, image=samples.IMAGE, heat_map=samples.HEAT_MAP)
    assert found["training data"] is found["model"] is found["approval"] is found["heat map"] is True


# --- which checkpoint ---------------------------------------------------------------------------------------------------


def test_what_no_checkpoint_covers_is_signed_first_and_what_one_covers_is_not(plant: Plant) -> None:
    assert plant.trace.signer.store.newest().size < plant.decisions[-1].receipt.index
    size = verify.verify(plant.prove(0), plant.trust).checkpoint.size
    assert size == plant.decisions[-1].receipt.index + 1
    with plant.trace.database.session() as session:
        log.append(session, [records.ReportIssued(kind="audit", sha256="2" * 64, scope={}, issued_by="erin")])
    assert verify.verify(plant.prove(0), plant.trust).checkpoint.size == size
    plant.review(0)
    assert verify.verify(plant.prove(0), plant.trust).checkpoint.size == size + 2


def test_a_witnessed_checkpoint_is_preferred_to_a_newer_one(plant: Plant) -> None:
    plant.policy(threshold=2)
    plant.cosign(*WITNESSES[:2])
    size = plant.trace.signer.sign().size
    plant.trace.signer.sign()
    with plant.trace.database.session() as session:
        log.append(session, [records.ReportIssued(kind="audit", sha256="2" * 64, scope={}, issued_by="erin")])
    plant.trace.signer.sign()
    outcome = verify.verify(plant.prove(0), plant.trust)
    assert outcome.checkpoint.size == size
    assert {fact.name: fact.holds for fact in outcome.facts}["witnessed"] is True


def test_what_was_recorded_after_the_last_witnessed_checkpoint_is_not_left_out(plant: Plant) -> None:
    plant.policy(threshold=2)
    plant.cosign(*WITNESSES[:2])
    plant.trace.signer.sign()
    plant.review(0)
    outcome = verify.verify(plant.prove(0), plant.trust)
    told = {fact.name: fact for fact in outcome.facts}
    assert told["witnessed"].holds is False  # and said, where a review left out would not be
    assert "1 in this file" in told["reviews"].sentence


def test_a_review_that_nobody_signed_yet_is_waited_for(plant: Plant, tmp_path: Path) -> None:
    elsewhere = Signer(plant.trace.database, tmp_path / "elsewhere")
    plant.trace.signer.sign()
    plant.review(0)
    with pytest.raises(UnavailableError):
        proving.prove(elsewhere, plant.decisions[0].id)


def test_one_timestamp_serves_every_decision_before_it(plant: Plant) -> None:
    signer = plant.trace.signer
    sizes = []
    for _ in range(2):
        stored = signer.sign()
        signer.store.add_timestamp(stored.origin, stored.size, "https://tsa.example", f"{stored.size}".encode())
        sizes.append(stored.size)
        plant.review(-2)
        signer.sign()
    assert EvidenceFile.parse(plant.prove(0)).timestamps == (Timestamp("https://tsa.example", f"{sizes[0]}".encode()),)


def test_too_few_witnesses_are_told_and_the_file_is_made_all_the_same(plant: Plant) -> None:
    plant.policy(threshold=2)
    plant.cosign(WITNESSES[0])
    outcome = verify.verify(plant.prove(0), plant.trust)
    assert {fact.name for fact in outcome.facts if fact.holds is False} == {"witnessed"}


def test_signatures_of_strangers_and_second_signatures_are_left_out(plant: Plant) -> None:
    plant.policy(threshold=1)
    stranger = SigningKey("stranger.example", COSIGNATURE, bytes(32))
    plant.cosign(WITNESSES[0], stranger)
    file = EvidenceFile.parse(plant.prove(0))
    assert [key.name for key in file.keys] == [plant.key.name, WITNESSES[0].name]
    assert facts(bytes(file), plant.trust)["witnessed"] is True


def test_timestamps_of_the_checkpoint_go_with_it(plant: Plant) -> None:
    stored = plant.trace.signer.sign()
    plant.trace.signer.store.add_timestamp(stored.origin, stored.size, "https://tsa.example", b"a token")
    assert EvidenceFile.parse(plant.prove(0)).timestamps == (Timestamp("https://tsa.example", b"a token"),)


def test_a_home_without_the_key_hands_out_what_was_signed_elsewhere(plant: Plant, tmp_path: Path) -> None:
    elsewhere = Signer(plant.trace.database, tmp_path / "elsewhere")
    with pytest.raises(UnavailableError):
        proving.prove(elsewhere, plant.decisions[0].id)
    plant.trace.signer.sign()
    data = proving.prove(elsewhere, plant.decisions[0].id).data
    assert verify.verify(data, plant.trust).trusted


# --- a new key -------------------------------------------------------------------------------------------------------------


@pytest.fixture
def rotated(plant: Plant) -> tuple[Plant, VerifierKey, VerifierKey, VerifierKey]:
    first = plant.key
    plant.trace.signer.rotate("ada", "Every year.")
    second = plant.key
    with plant.trace.database.session() as session:
        log.append(session, [records.ReportIssued(kind="audit", sha256="2" * 64, scope={}, issued_by="erin")])
    plant.trace.signer.sign()
    plant.trace.signer.rotate("ada", "Every year.")
    with plant.trace.database.session() as session:
        log.append(session, [records.ReportIssued(kind="audit", sha256="2" * 64, scope={}, issued_by="erin")])
    plant.trace.signer.sign()
    plant.review(0)  # so that the newest checkpoint, which only the last key signs, is used
    return plant, first, second, plant.key


def test_who_knows_an_old_key_follows_it_to_the_new_one(
    rotated: tuple[Plant, VerifierKey, VerifierKey, VerifierKey],
) -> None:
    plant, *keys = rotated
    data = plant.prove(0)
    assert list(EvidenceFile.parse(data).keys) == [keys[2]]
    for key in keys:
        outcome = verify.verify(data, Trust(keys=(key,)))
        assert outcome.holds, outcome
        assert outcome.trusted
    told = {fact.name: fact.sentence for fact in verify.verify(data, Trust(keys=(keys[0],))).facts}
    assert f"{keys[0]}, which handed over to {keys[1]} and that to {keys[2]}" in told["signer trusted"]
    assert facts(data, plant.trust)["handovers"] is True


def test_an_old_key_is_not_followed_over_a_missing_or_a_forged_handover(
    rotated: tuple[Plant, VerifierKey, VerifierKey, VerifierKey],
) -> None:
    plant, first, second, third = rotated
    file = EvidenceFile.parse(plant.prove(0))
    one, other = file.handovers
    for handovers in ((other,), (), (one,)):
        found = facts(bytes(replace(file, handovers=handovers)), Trust(keys=(first,)))
        assert found["signer trusted"] is False
        assert found["handovers"] is None
    assert facts(bytes(replace(file, handovers=(other,))), Trust(keys=(second,)))["signer trusted"] is True
    assert facts(bytes(replace(file, handovers=(other,))), Trust(keys=(third,)))["signer trusted"] is True
    forged = replace(one, checkpoint=other.checkpoint)
    found = facts(bytes(replace(file, handovers=(forged, other))), Trust(keys=(first,)))
    assert found["handovers"] is False
    assert found["signer trusted"] is False


def test_a_thief_of_the_old_key_cannot_sign_past_its_replacement(
    rotated: tuple[Plant, VerifierKey, VerifierKey, VerifierKey],
) -> None:
    plant, first, _, _ = rotated
    file = EvidenceFile.parse(plant.prove(0))
    thief = plant.trace.signer.keys.load(first)
    text = file.proof.checkpoint.rpartition("\n\n")[0] + "\n"
    note = sign_note(text, thief)
    forged = replace(file, keys=(first,), proof=replace(file.proof, checkpoint=note))
    outcome = verify.verify(bytes(forged), Trust(keys=(first,)))
    assert {fact.name for fact in outcome.facts if fact.holds is False} == {"signed"}


def test_every_changed_byte_of_a_file_with_handovers_fails_or_changes_nothing(
    rotated: tuple[Plant, VerifierKey, VerifierKey, VerifierKey],
) -> None:
    plant, first, _, _ = rotated
    data, trust = plant.prove(0), Trust(keys=(first,))
    before = verify.verify(data, trust)
    assert before.holds
    draw = random.Random(7)
    for position in range(len(data)):
        changed = bytearray(data)
        changed[position] ^= draw.randrange(1, 256)
        after = verify.verify(bytes(changed), trust)
        assert not after.holds or after == before, position


# --- a bent database --------------------------------------------------------------------------------------------------------


def test_a_database_that_does_not_lead_to_its_checkpoint_hands_out_nothing(plant: Plant, sql: Sql) -> None:
    plant.trace.signer.sign()
    index = plant.decisions[0].receipt.index
    sql('UPDATE journal SET leaf_hash = %s WHERE "index" = %s', b"x" * 32, index + 1)
    with pytest.raises(VerificationError, match="run `traceai ledger verify`"):
        plant.prove(0)


def test_a_rewritten_entry_is_not_handed_out(plant: Plant, sql: Sql) -> None:
    plant.trace.signer.sign()
    index = plant.decisions[0].receipt.index
    with plant.trace.database.session() as session:
        entry = session.get_one(tables.Journal, index).entry
    assert b'"station":"press-4"' in entry
    sql('UPDATE journal SET entry = %s WHERE "index" = %s', entry.replace(b"press-4", b"press-5"), index)
    with pytest.raises(EvidenceError, match="included"):
        plant.prove(0)


def test_a_checkpoint_that_does_not_cover_the_decision_proves_nothing(plant: Plant) -> None:
    with pytest.raises(EvidenceError, match="is not among them"):
        plant.build(plant.trace.signer.store.newest().note)


def test_a_checkpoint_that_nobody_on_record_signed_proves_nothing(plant: Plant) -> None:
    stored = plant.trace.signer.sign()
    text = stored.note.rpartition("\n\n")[0] + "\n"
    with pytest.raises(EvidenceError, match="No key that the log has on record"):
        plant.build(sign_note(text, SigningKey(stored.origin, 1, bytes(32))))


def test_a_ledger_that_was_put_back_hands_out_nothing(plant: Plant, sql: Sql) -> None:
    plant.prove(0)
    last = plant.decisions[-1].receipt.index
    sql('DELETE FROM journal WHERE "index" >= %s', last)
    sql("DELETE FROM inspection WHERE journal_index >= %s", last)
    with pytest.raises(VerificationError):
        plant.prove(0)


@pytest.mark.parametrize("note", ["no note", "foreign", "ahead"])
def test_a_checkpoint_that_somebody_put_into_the_database_is_passed_over(
    plant: Plant, sql: Callable, note: str
) -> None:
    """Newer and larger than the log's own, in every place where one is looked for."""
    plant.trace.signer.rotate("ada", "Yearly.")
    before = facts(plant.prove(0), plant.trust)
    stored = plant.trace.signer.sign()
    key = plant.trace.signer.keys.load(plant.trace.signer.verifier_keys(stored.origin)[-1])
    text = Checkpoint(stored.origin, 10_000, bytes(32)).text()
    if note != "no note":
        note = sign_note(text, SigningKey.generate(stored.origin) if note == "foreign" else key)
    for size in {stored.size, 10_000}:
        sql("INSERT INTO checkpoint (id, origin, size, root, note, created_at) VALUES"
            " (gen_random_uuid(), %s, %s, %s, %s, now() + interval '1 day')", stored.origin, size, bytes(32), note)  # fmt: skip
    assert before["handovers"] is True
    assert facts(plant.prove(0), plant.trust) == before
