"""The log asks its witnesses over real HTTP, out of a real PostgreSQL: honest ones, absent ones, liars; and a rewritten log."""

import json
import shutil
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from sqlalchemy import select

from tests.conftest import cloned
from tests.ledger.answering import Answer, answering
from tests.ledger.logs import serving, witness
from tests.ledger.rewriting import rewrite
from tests.ledger.test_log import refusal
from traceai.db.connection import Database
from traceai.db.tables import Checkpoint
from traceai.errors import InputError, PolicyError
from traceai.images.blobs import BlobStore
from traceai.ledger import log, merkle
from traceai.ledger.note import COSIGNATURE, SigningKey, open_note, sign_note, split_note
from traceai.ledger.posting import LONGEST_ANSWER
from traceai.ledger.signing.checkpoints import Stored
from traceai.ledger.signing.signer import Signer
from traceai.ledger.tlog.checkpoint import open_checkpoint
from traceai.ledger.witnesses.policy import Policy, PolicyWitness
from traceai.ledger.witnesses.witness import SIZE, Witness
from traceai.ledger.witnesses.witnessing import Collected, CosignedSizes, collect, read_policy, record_policy
from traceai.sdk import Trace
from traceai.settings import Settings

TIMEOUT = 20.0


@dataclass
class Plant:
    """A plant: a ledger that grows, and what it remembers of its witnesses."""

    trace: Trace
    url: str

    @classmethod
    def open(cls, url: str, folder: Path, origin: str) -> "Plant":
        settings = Settings(home=folder, database_url=url)
        settings.ensure_home()
        plant = cls(Trace(settings, Database.open(settings), BlobStore(settings.blobs_url)), url)
        plant.signer.open("ada", "A new line.", origin)
        return plant

    @property
    def home(self) -> Path:
        return self.trace.settings.absolute_home

    @property
    def signer(self) -> Signer:
        return self.trace.signer

    @property
    def sizes(self) -> CosignedSizes:
        return CosignedSizes(self.home / "witnesses.json")

    def append(self, count: int) -> None:
        with self.trace.database.session() as session:
            log.append(session, [refusal(number) for number in range(count)])

    def ask(self, timeout: float = TIMEOUT) -> Collected:
        found = collect(self.signer, self.signer.sign(), self.sizes, timeout)
        assert found is not None
        return found

    def policy(self, threshold: int, witnesses: dict[str, tuple[SigningKey, str]]) -> Policy:
        listed = tuple(PolicyWitness(name, key.verifier, url) for name, (key, url) in witnesses.items())
        policy = Policy(self.signer.state().origin or "", threshold, listed)
        record_policy(self.signer, policy, actor="ada", reason="Two neighbours.")
        return policy

    def served(self) -> str:
        """The note that the API serves: the newest row of the greatest size."""
        with self.trace.database.session() as session:
            query = select(Checkpoint).order_by(Checkpoint.size.desc(), Checkpoint.created_at.desc()).limit(1)
            return session.execute(query).scalar_one().note

    def rows(self) -> int:
        with self.trace.database.session() as session:
            return len(session.execute(select(Checkpoint)).scalars().all())


@pytest.fixture
def plant(clone: str, tmp_path: Path) -> Iterator[Plant]:
    made = Plant.open(clone, tmp_path / "plant-a", "plant-a.example/line")
    made.append(4)
    yield made
    made.trace.close()


KEYS = {
    name: SigningKey(f"witness.example/{name}", COSIGNATURE, name.encode() * 8) for name in ("anna", "bert", "cleo")
}
NAMES = list(KEYS)


@pytest.fixture
def watch(plant: Plant, tmp_path: Path) -> Iterator[Callable[[str], tuple[SigningKey, str]]]:
    """Starts a witness of the plant; gives its key and its URL."""
    with ExitStack() as servers:

        def start(name: str) -> tuple[SigningKey, str]:
            return KEYS[name], servers.enter_context(serving(known(plant, tmp_path, name)))

        yield start


def known(plant: Plant, tmp_path: Path, name: str) -> Witness:
    """The witness of this name, which trusts the plant's keys of today."""
    one = witness(tmp_path / name, KEYS[name])
    origin = plant.signer.state().origin
    one.logs = {origin: plant.signer.verifier_keys(origin)}
    return one


def outcomes(found: Collected) -> dict[str, str]:
    return {asked.witness: asked.outcome for asked in found.asked}


# --- k of n ----------------------------------------------------------------------------------------------------------


def test_two_witnesses_cosign_and_the_checkpoint_is_served_with_both(plant: Plant, watch: Callable) -> None:
    policy = plant.policy(2, {name: watch(name) for name in NAMES[:2]})
    found = plant.ask()
    assert outcomes(found) == dict.fromkeys(NAMES[:2], "cosigned")
    assert found.fact.witnessed
    assert all(cosigned.at is not None for cosigned in found.fact.by)
    origin = policy.origin
    keys = [*plant.signer.verifier_keys(origin), *(w.key for w in policy.witnesses)]
    checkpoint, note = open_checkpoint(plant.served(), keys)
    assert checkpoint.size == 6
    assert len(note.verified) == 3
    assert plant.signer.store.latest(origin).note == plant.served() == found.note


def test_with_one_witness_down_k_of_n_is_still_a_fact(plant: Plant, watch: Callable) -> None:
    witnesses = {NAMES[0]: watch(NAMES[0]), NAMES[1]: (KEYS[NAMES[1]], "http://127.0.0.1:1")}
    plant.policy(1, witnesses)
    found = plant.ask()
    assert outcomes(found) == {NAMES[0]: "cosigned", NAMES[1]: "unreachable"}
    assert found.fact.witnessed
    assert not found.contradicted
    plant.policy(2, witnesses)
    found = plant.ask()
    assert not found.fact.witnessed
    assert (len(found.fact.by), found.fact.needed) == (1, 2)


def test_a_witness_that_was_down_catches_up(plant: Plant, watch: Callable, tmp_path: Path) -> None:
    with serving(known(plant, tmp_path, NAMES[1])) as url:
        plant.policy(2, {NAMES[0]: watch(NAMES[0]), NAMES[1]: (KEYS[NAMES[1]], url)})
        assert plant.ask().fact.witnessed
    for _ in range(3):
        plant.append(3)
        assert outcomes(plant.ask())[NAMES[1]] == "unreachable"
    with serving(known(plant, tmp_path, NAMES[1]), int(url.rpartition(":")[2])):
        assert plant.ask().fact.witnessed


def test_without_a_policy_nobody_is_asked(plant: Plant) -> None:
    assert collect(plant.signer, plant.signer.sign(), plant.sizes) is None


def test_an_empty_policy_asks_nobody_and_is_never_witnessed(plant: Plant) -> None:
    plant.policy(0, {})
    found = plant.ask()
    assert (found.asked, found.fact.witnessed) == ((), False)


def test_the_last_policy_of_the_origin_is_the_one_in_force(plant: Plant, watch: Callable) -> None:
    plant.policy(1, {NAMES[0]: watch(NAMES[0])})
    last = plant.policy(1, {NAMES[1]: watch(NAMES[1])})
    with plant.trace.database.session() as session:
        assert read_policy(session, last.origin) == last
        assert read_policy(session, "elsewhere.example") is None
    assert list(outcomes(plant.ask())) == [NAMES[1]]


def test_a_policy_row_that_points_elsewhere_is_found(plant: Plant, sql: Callable) -> None:
    policy = plant.policy(0, {})
    sql("UPDATE witness_policy SET journal_index = 1")
    with plant.trace.database.session() as session, pytest.raises(PolicyError, match="is no witness policy"):
        read_policy(session, policy.origin)


def test_what_cannot_be_a_witness_is_not_recorded(plant: Plant) -> None:
    own = plant.signer.keys.load(plant.signer.state().key)
    itself = SigningKey("another.example/name", COSIGNATURE, own.seed)
    for witnesses, said in (
        ({"itself": (itself, "https://w.example")}, "cannot witness itself"),
        ({"anna": (KEYS[NAMES[0]], "ftp://w.example")}, "no address to ask"),
        ({"a\nb": (KEYS[NAMES[0]], "https://w.example")}, "cannot be recorded"),
    ):
        with pytest.raises(InputError, match=said):
            plant.policy(1, witnesses)
    with plant.trace.database.session() as session:
        assert read_policy(session, plant.signer.state().origin) is None


# --- what is remembered ------------------------------------------------------------------------------------------------


def counting(url: str, counts: list[int]) -> Answer:
    """Passes requests on to a witness, and counts them."""
    from traceai.ledger.posting import post

    def answer(body: bytes) -> tuple[int, str, bytes]:
        counts.append(int(body.split(b"\n", 1)[0].removeprefix(b"old ")))
        reply = post(f"{url}/add-checkpoint", body, "text/plain", TIMEOUT)
        return reply.status, reply.content_type, reply.body

    return answer


def test_the_size_cosigned_last_is_remembered_and_a_lost_memory_is_corrected(plant: Plant, watch: Callable) -> None:
    key, url = watch(NAMES[0])
    asked: list[int] = []
    with answering(counting(url, asked)) as between:
        plant.policy(1, {NAMES[0]: (key, between)})
        plant.ask()
        plant.append(3)
        plant.ask()
        assert asked == [0, 6]
        for damage in ("", "junk", "[]", '{"x": 1}', json.dumps({str(key.verifier): {"plant-a.example/line": -3}})):
            plant.append(1)
            (plant.home / "witnesses.json").write_text(damage)
            before = plant.signer.state().last.size
            asked.clear()
            assert plant.ask().fact.witnessed
            assert asked == [0, before]
        plant.append(1)
        (plant.home / "witnesses.json").write_text(json.dumps({str(key.verifier): {"plant-a.example/line": 10**6}}))
        assert plant.ask().fact.witnessed


def test_asking_again_about_the_same_checkpoint_adds_nothing(plant: Plant, watch: Callable, tmp_path: Path) -> None:
    plant.policy(1, {NAMES[0]: watch(NAMES[0])})
    plant.ask()
    rows, note = plant.rows(), plant.served()
    for _ in range(3):
        assert outcomes(plant.ask()) == {NAMES[0]: "cosigned"}
    assert (plant.rows(), plant.served()) == (rows, note)
    assert len(known(plant, tmp_path, NAMES[0]).store.history("plant-a.example/line")) == 1


def test_a_home_that_cannot_remember_still_collects(plant: Plant, watch: Callable) -> None:
    (plant.home / "witnesses.json").mkdir()
    plant.policy(1, {NAMES[0]: watch(NAMES[0])})
    assert plant.ask().fact.witnessed


# --- refusals that accuse nobody -----------------------------------------------------------------------------------------


def test_a_witness_that_does_not_know_the_log_or_its_key_says_so(plant: Plant, tmp_path: Path) -> None:
    stranger = SigningKey.generate("elsewhere.example")
    namesake = SigningKey.generate("plant-a.example/line")
    with (
        serving(witness(tmp_path / "x", KEYS[NAMES[0]], stranger)) as unknown,
        serving(witness(tmp_path / "y", KEYS[NAMES[1]], namesake)) as untrusting,
    ):
        plant.policy(1, {NAMES[0]: (KEYS[NAMES[0]], unknown), NAMES[1]: (KEYS[NAMES[1]], untrusting)})
        found = plant.ask()
    assert outcomes(found) == dict.fromkeys(NAMES[:2], "refused")
    assert "does not watch plant-a.example/line" in found.asked[0].said
    assert "does not trust the key" in found.asked[1].said
    assert not found.contradicted


def test_after_a_rotation_the_witness_has_to_be_told_the_new_key(plant: Plant, tmp_path: Path) -> None:
    one = known(plant, tmp_path, NAMES[0])
    with serving(one) as url:
        plant.policy(1, {NAMES[0]: (KEYS[NAMES[0]], url)})
        assert plant.ask().fact.witnessed
        plant.signer.rotate("ada", "Once a year.")
        assert plant.ask().fact.witnessed  # signed by both keys
        plant.append(1)
        assert "does not trust the key" in plant.ask().asked[0].said
        one.logs = {"plant-a.example/line": plant.signer.verifier_keys("plant-a.example/line")}
        assert plant.ask().fact.witnessed


def test_a_checkpoint_that_was_overtaken_accuses_nobody(plant: Plant, watch: Callable) -> None:
    plant.policy(1, {NAMES[0]: watch(NAMES[0])})
    earlier = plant.signer.sign()
    plant.append(3)
    assert plant.ask().fact.witnessed
    found = collect(plant.signer, earlier, plant.sizes, TIMEOUT)
    assert "signed here meanwhile" in found.asked[0].said
    assert not found.contradicted


Liar = Callable[[Stored], tuple[int, str, bytes]]


def cosigned_by(key: SigningKey, size: int | None = None) -> Liar:
    def answer(stored: Stored) -> tuple[int, str, bytes]:
        text = split_note(stored.note)[0]
        signed = text if size is None else text.replace(f"\n{stored.size}\n", f"\n{size}\n")
        return 200, "text/plain", sign_note(signed, key).partition("\n\n")[2].encode()

    return answer


def constant(status: int, content_type: str, body: bytes) -> Liar:
    return lambda _: (status, content_type, body)


@pytest.mark.parametrize(
    ("liar", "said"),
    [
        (constant(200, "text/plain", b""), "other than signatures"),
        (constant(200, "text/plain", b"OK\n"), "other than signatures"),
        (constant(200, "text/html", "— <b>hello</b>\n".encode()), "other than signatures"),
        (constant(200, "text/plain", b"\xff\n"), "other than signatures"),
        (cosigned_by(SigningKey.generate(KEYS["anna"].name, COSIGNATURE)), "no cosignature of its key"),
        (cosigned_by(SigningKey("witness.example/anna", 1, b"anna" * 8)), "no cosignature of its key"),
        (cosigned_by(KEYS["anna"], size=7), "no cosignature of its key"),
        (constant(409, SIZE, b"junk\n"), "corrected the size"),
        (constant(409, SIZE, b"06\n"), "corrected the size"),
        (constant(409, SIZE, b"0\n"), "corrected the size"),
        (constant(409, SIZE, b"1"), "corrected the size"),
        (constant(409, SIZE, b"9" * 400 + b"\n"), "corrected the size"),
        (constant(409, "text/plain", b"1\n"), "corrected the size"),
        (constant(400, "text/plain", b"What?\n"), 'could not read the request. In its words: "What?"'),
        (constant(404, "text/plain", b"\x1b[31mred\n"), "does not watch"),
        (constant(422, "text/plain", b"no\n"), "status 422"),
        (constant(500, "text/plain", b""), "status 500"),
        (constant(302, "text/plain", b""), "status 302"),
        (constant(200, "text/plain", b"x" * (LONGEST_ANSWER + 1)), "answered with more than"),
    ],
)  # fmt: skip
def test_nothing_that_a_witness_says_is_believed_without_its_signature(plant: Plant, liar: Liar, said: str) -> None:
    latest: list[Stored] = []
    with answering(lambda _: liar(latest[0])) as url:
        plant.policy(1, {"anna": (KEYS["anna"], url)})
        latest.append(plant.signer.sign())
        before = plant.served()
        found = plant.ask()
    assert said in found.asked[0].said
    assert "\x1b" not in found.asked[0].said
    assert found.asked[0].outcome in ("refused", "unreachable")
    assert not found.contradicted
    assert not found.fact.witnessed
    assert plant.served() == plant.signer.store.latest("plant-a.example/line").note == before


def test_a_cosignature_among_those_of_strangers_is_found(plant: Plant) -> None:
    latest: list[Stored] = []
    stranger = SigningKey.generate("stranger.example", COSIGNATURE)

    def answer(_: bytes) -> tuple[int, str, bytes]:
        lines = cosigned_by(stranger)(latest[0])[2] + cosigned_by(KEYS["anna"])(latest[0])[2]
        return 200, "text/plain", lines

    with answering(answer) as url:
        plant.policy(1, {"anna": (KEYS["anna"], url)})
        latest.append(plant.signer.sign())
        assert plant.ask().fact.witnessed
    names = {signature.name for signature in split_note(plant.served())[1]}
    assert names == {"plant-a.example/line", "witness.example/anna"}


def test_a_witness_that_never_answers_is_left_behind(plant: Plant, watch: Callable) -> None:
    never = threading.Event()

    def hang(_: bytes) -> tuple[int, str, bytes]:
        never.wait(60)
        return 500, "text/plain", b""

    try:
        with answering(hang) as url:
            plant.policy(1, {NAMES[0]: watch(NAMES[0]), NAMES[1]: (KEYS[NAMES[1]], url)})
            found = plant.ask(timeout=3.0)
            never.set()
    finally:
        never.set()
    assert outcomes(found) == {NAMES[0]: "cosigned", NAMES[1]: "unreachable"}
    assert "did not answer within" in found.asked[1].said


# --- refusals that accuse ------------------------------------------------------------------------------------------------


def altered(record):
    return record.model_copy(update={"found": "f" * 64})


@pytest.fixture
def rewritten(plant: Plant, watch: Callable, tmp_path: Path) -> Plant:
    """A ledger of six entries, cosigned; then a superuser altered entry 4, everywhere, and put the home's memory back to before."""
    key, url = watch(NAMES[0])
    memory = plant.home / "checkpoints.db"
    plant.signer.sign()
    before = plant.signer.state().last.size
    plant.policy(1, {NAMES[0]: (key, url)})
    shutil.copy(memory, tmp_path / "yesterday.db")
    plant.append(3)
    assert plant.ask().fact.witnessed
    size = plant.signer.state().last.size
    rewrite(plant.url, before + 2, altered)
    shutil.copy(tmp_path / "yesterday.db", memory)
    plant.trace.close()
    again = Plant(Trace(plant.trace.settings, Database.open(plant.trace.settings), plant.trace.blobs), plant.url)
    assert again.signer.sign().size == size
    return again


def test_a_rewritten_log_of_the_same_size_is_refused(rewritten: Plant, tmp_path: Path) -> None:
    """The rewritten ledger agrees with itself, its own home and its own signature. Only the witness knows better."""
    from traceai.ledger.verification import verifier

    assert verifier.verify(rewritten.trace.database.engine).holds
    found = rewritten.ask()
    assert outcomes(found) == {NAMES[0]: "refused"}
    assert found.contradicted
    assert not found.fact.witnessed
    size = rewritten.signer.state().last.size
    assert (
        f"It has cosigned {size} entries of this log before, and they are not the {size} that are presented"
        in found.asked[0].said
    )
    kept = known(rewritten, tmp_path, NAMES[0]).misbehaviour.all()
    assert [one.kind for one in kept] == ["other-root"]
    keys = rewritten.signer.verifier_keys("plant-a.example/line")
    notes = [open_checkpoint(note, keys)[0] for note in (kept[0].known_note, kept[0].note)]
    assert notes[0].size == notes[1].size == size
    assert notes[0].root != notes[1].root


def test_a_rewritten_log_that_grew_is_refused(rewritten: Plant, tmp_path: Path) -> None:
    size = rewritten.signer.state().last.size
    rewritten.append(4)
    found = rewritten.ask()
    assert outcomes(found) == {NAMES[0]: "refused"}
    assert found.contradicted
    assert f"do not begin with those {size}" in found.asked[0].said
    kept = known(rewritten, tmp_path, NAMES[0]).misbehaviour.all()[0]
    assert kept.kind == ("unproven" if size.bit_count() == 1 else "other-prefix")


def test_a_ledger_put_back_whole_is_refused(plant: Plant, watch: Callable, tmp_path: Path, server: str) -> None:
    """Yesterday's database with yesterday's home: nothing here remembers today."""
    plant.policy(1, {NAMES[0]: watch(NAMES[0])})
    plant.ask()
    plant.trace.close()
    shutil.copytree(plant.home, tmp_path / "yesterday")
    with contextmanager(cloned)(server, urlsplit(plant.url).path[1:]) as url:
        today = Plant(Trace(plant.trace.settings, Database.open(plant.trace.settings), plant.trace.blobs), plant.url)
        today.append(3)
        assert today.ask().fact.witnessed
        today.trace.close()
        settings = Settings(home=tmp_path / "yesterday", database_url=url)
        old = Plant(Trace(settings, Database.open(settings), plant.trace.blobs), url)
        for more in (0, 1):
            old.append(more)
            found = old.ask()
            assert found.contradicted
            assert "entries are missing here, or an older copy was put back" in found.asked[0].said
        old.append(10)
        found = old.ask()
        assert found.contradicted
        assert "do not begin with those" in found.asked[0].said
        old.trace.close()


def test_a_database_that_is_not_what_was_signed_is_shown_to_nobody(plant: Plant, sql: Callable) -> None:
    asked: list[bytes] = []

    def answer(body: bytes) -> tuple[int, str, bytes]:
        asked.append(body)
        return 500, "text/plain", b""

    with answering(answer) as url:
        plant.policy(1, {"anna": (KEYS["anna"], url)})
        stored = plant.signer.sign()
        sql('UPDATE journal SET leaf_hash = %s WHERE "index" = 1', merkle.leaf_hash(b"altered"))
        found = collect(plant.signer, stored, plant.sizes, TIMEOUT)
        assert outcomes(found) == {"anna": "not asked"}
        assert "are not those that were signed" in found.asked[0].said
        assert found.contradicted
        sql('DELETE FROM journal WHERE "index" = 1')
        found = collect(plant.signer, stored, plant.sizes, TIMEOUT)
        assert outcomes(found) == {"anna": "not asked"}
    assert asked == []


# --- two plants ----------------------------------------------------------------------------------------------------------


def test_two_plants_witness_each_other(plant: Plant, server: str, tmp_path: Path) -> None:
    with contextmanager(cloned)(server) as url:
        other = Plant.open(url, tmp_path / "plant-b", "plant-b.example/line")
        plants = {"plant-a": plant, "plant-b": other}
        neighbour = {"plant-a": other, "plant-b": plant}
        keys = {name: SigningKey.generate(f"{name}.example/witness", COSIGNATURE) for name in plants}
        with ExitStack() as servers:
            urls = {}
            for name in plants:
                one = witness(tmp_path / f"{name}-witness", keys[name])
                origin = neighbour[name].signer.state().origin
                one.logs = {origin: neighbour[name].signer.verifier_keys(origin)}
                urls[name] = servers.enter_context(serving(one))
            for name, at in plants.items():
                by = next(found for found in plants if found != name)
                at.policy(1, {by: (keys[by], urls[by])})
            for _ in range(3):
                for name, at in plants.items():
                    at.append(2)
                    found = at.ask()
                    assert found.fact.witnessed
                    assert found.fact.by[0].witness != name
                    by = found.fact.by[0].witness
                    assert open_note(at.served(), [keys[by].verifier])
        other.trace.close()
