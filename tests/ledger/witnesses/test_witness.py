"""C2SP tlog-witness, answer by answer, and that no order of requests makes a witness vouch for two histories."""

import base64
import sqlite3
import tempfile
import threading
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from http import HTTPStatus
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.ledger.logs import LOG_KEY, ORIGIN, WITNESS_KEY, Log, witness
from traceai.errors import HomeError, InputError, UnavailableError, VerificationError
from traceai.ledger import merkle
from traceai.ledger.note import ED25519, SigningKey, cosign_note, open_note, sign_note, split_note
from traceai.ledger.signing.checkpoints import Stored
from traceai.ledger.tlog.checkpoint import Checkpoint, open_checkpoint
from traceai.ledger.witnesses.misbehaviour import MisbehaviourFile, roots
from traceai.ledger.witnesses.witness import FRESH_SECONDS, LONGEST_REQUEST, PLAIN, SIZE, Answer, Submission, Witness


@pytest.fixture
def asked(tmp_path: Path) -> Witness:
    return witness(tmp_path / "witness")


def cosigned_sizes(one: Witness) -> list[int]:
    return [stored.size for stored in one.store.history(ORIGIN)]


def kept(one: Witness) -> list[str]:
    assert one.misbehaviour is not None
    return [found.kind for found in one.misbehaviour.all()]


# --- 200 -------------------------------------------------------------------------------------------------------------


def test_a_first_checkpoint_is_cosigned_and_stored_whole(asked: Witness) -> None:
    log = Log.of(5)
    before = int(datetime.now(UTC).timestamp())
    answer = asked.add_checkpoint(log.request(0, 5))
    assert (answer.status, answer.content_type) == (200, PLAIN)
    text = log.checkpoint(5).text()
    note = open_note(f"{text}\n{answer.body.decode()}", [WITNESS_KEY.verifier])
    assert note.verified[0][1].timestamp >= before
    stored = asked.store.latest(ORIGIN)
    checkpoint, whole = open_checkpoint(stored.note, [LOG_KEY.verifier, WITNESS_KEY.verifier])
    assert checkpoint == log.checkpoint(5)
    assert {key.name for key, _ in whole.verified} == {ORIGIN, WITNESS_KEY.name}
    assert str(whole.verified[1][1]) == answer.body.decode()


@pytest.mark.parametrize("sizes", [(0, 1, 2), (1, 2, 3, 4), (5, 9, 130), (64, 65, 128), (7, 7, 8)])
def test_a_growing_log_is_cosigned_at_every_step(asked: Witness, sizes: tuple[int, ...]) -> None:
    log = Log.of(130)
    old = 0
    for size in sizes:
        assert asked.add_checkpoint(log.request(old, size)).status == 200
        old = size
    assert asked.store.latest(ORIGIN).size == sizes[-1]
    assert kept(asked) == []


def test_the_same_checkpoint_is_cosigned_again(asked: Witness) -> None:
    log = Log.of(5)
    asked.add_checkpoint(log.request(0, 5))
    answer = asked.add_checkpoint(log.request(5, 5))
    assert answer.status == 200
    assert open_note(f"{log.checkpoint(5).text()}\n{answer.body.decode()}", [WITNESS_KEY.verifier])


def test_who_repeats_a_checkpoint_gets_the_same_answer_and_fills_no_disk(asked: Witness) -> None:
    log, start = Log.of(5), datetime.now(UTC)
    asked.now = lambda: start
    first = asked.add_checkpoint(log.request(0, 5))
    for seconds in (0, 1, FRESH_SECONDS - 1):
        asked.now = lambda later=seconds: start + timedelta(seconds=later)
        assert asked.add_checkpoint(log.request(5, 5)) == first
    assert len(asked.store.history(ORIGIN)) == 1
    asked.now = lambda: start + timedelta(seconds=FRESH_SECONDS + 1)
    again = asked.add_checkpoint(log.request(5, 5))
    signature = open_note(f"{log.checkpoint(5).text()}\n{again.body.decode()}", [WITNESS_KEY.verifier]).verified[0][1]
    assert signature.timestamp == int(asked.now().timestamp())
    assert str(signature) in asked.store.latest(ORIGIN).note


def test_extension_lines_are_cosigned_and_change_nothing_of_the_tree(asked: Witness) -> None:
    log = Log.of(5)
    asked.add_checkpoint(log.request(0, 5))
    answer = asked.add_checkpoint(bytes(Submission(5, (), log.note(5, ["extension"]))))
    assert answer.status == 200
    assert open_note(f"{log.checkpoint(5, ['extension']).text()}\n{answer.body.decode()}", [WITNESS_KEY.verifier])


def test_signatures_of_strangers_are_ignored_and_not_stored(asked: Witness) -> None:
    log = Log.of(5)
    stranger, namesake = SigningKey.generate("stranger.example"), SigningKey.generate(ORIGIN)
    note = cosign_note(log.note(5), [stranger, namesake])
    assert asked.add_checkpoint(bytes(Submission(0, (), note))).status == 200
    assert {signature.name for signature in split_note(asked.store.latest(ORIGIN).note)[1]} == {
        ORIGIN,
        WITNESS_KEY.name,
    }
    assert len(split_note(asked.store.latest(ORIGIN).note)[1]) == 2


def test_a_log_that_changed_its_key_is_known_by_either(tmp_path: Path) -> None:
    new = SigningKey.generate(ORIGIN)
    one = witness(tmp_path / "w")
    one.logs = {ORIGIN: [LOG_KEY.verifier, new.verifier]}
    log = Log.of(5)
    assert one.add_checkpoint(log.request(0, 3)).status == 200
    log.key = new
    assert one.add_checkpoint(log.request(3, 5)).status == 200


def test_logs_do_not_touch_each_other(tmp_path: Path) -> None:
    other = SigningKey.generate("plant-b.example/line")
    one = witness(tmp_path / "w", WITNESS_KEY, LOG_KEY, other)
    assert one.add_checkpoint(Log.of(5).request(0, 5)).status == 200
    assert one.add_checkpoint(Log(Log.of(3, "b").leaves, other).request(0, 3)).status == 200
    assert one.store.latest(ORIGIN).size == 5
    assert kept(one) == []


# --- 400 -------------------------------------------------------------------------------------------------------------

NOTE = Log.of(5).note(5)
HASH = base64.b64encode(bytes(32)).decode()


@pytest.mark.parametrize(
    "body",
    [
        "",
        "old 0",
        "old 0\n",
        "old 0\n\n",
        f"old 0\n{NOTE}",
        f"old\n\n{NOTE}",
        f"old \n\n{NOTE}",
        f"old 00\n\n{NOTE}",
        f"old 01\n\n{NOTE}",
        f"old +1\n\n{NOTE}",
        f"old -1\n\n{NOTE}",
        f"old 1.0\n\n{NOTE}",
        f"old  0\n\n{NOTE}",
        f"old 0 \n\n{NOTE}",
        f"Old 0\n\n{NOTE}",
        f" old 0\n\n{NOTE}",
        f"old 0\r\n\r\n{NOTE}",
        f"old ٣\n\n{NOTE}",
        f"old {2**63}\n\n{NOTE}",
        f"old {10**400}\n\n{NOTE}",
        f"\nold 0\n\n{NOTE}",
        f"old 0\n\n\n{NOTE}",
        f"old 0\n{HASH}{HASH}\n\n{NOTE}",
        f"old 0\n{HASH[:-1]}\n\n{NOTE}",
        f"old 0\n{HASH}=\n\n{NOTE}",
        f"old 0\n {HASH}\n\n{NOTE}",
        f"old 0\n{HASH[:-2]}B=\n\n{NOTE}",
        f"old 0\n{HASH.replace('A', '-')}\n\n{NOTE}",
        f"old 0\n{'AAAA' * 3}\n\n{NOTE}",
        f"old 0\n{HASH}\n" + f"{HASH}\n" * 63 + f"\n{NOTE}",
        f"old 0\n\n{NOTE[:-1]}",
        f"old 0\n\n{NOTE}\n",
        f"old 0\n\n{NOTE}x",
        f"old 0\n\n{ORIGIN}\n5\n{HASH}\n",
        f"old 0\n\n{NOTE.replace(chr(10) + '5' + chr(10), chr(10) + '05' + chr(10))}",
        f"old 0\n\n{NOTE.replace(chr(0x2014), '-')}",
    ],
)
def test_a_malformed_request_is_a_400(asked: Witness, body: str) -> None:
    answer = asked.add_checkpoint(body.encode())
    assert (answer.status, answer.content_type) == (400, PLAIN)
    assert answer.body.endswith(b".\n")
    assert cosigned_sizes(asked) == []


def test_bytes_that_are_not_utf_8_are_a_400(asked: Witness) -> None:
    assert asked.add_checkpoint(b"old 0\n\n\xff\xfe\n").status == 400
    assert asked.add_checkpoint(b"old 0\n\xff\n\n" + NOTE.encode()).status == 400


def test_a_signed_text_that_is_no_checkpoint_is_a_400(asked: Witness) -> None:
    for text in (f"{ORIGIN}\n5\n", f"{ORIGIN}\n5\nAAAA\n", f"{ORIGIN}\n-5\n{HASH}\n", f"{ORIGIN}\n0\n{HASH}\n"):
        answer = asked.add_checkpoint(bytes(Submission(0, (), sign_note(text, LOG_KEY))))
        assert answer.status == 400


def test_an_old_size_above_the_checkpoint_is_a_400(asked: Witness) -> None:
    log = Log.of(5)
    asked.add_checkpoint(log.request(0, 5))
    assert asked.add_checkpoint(log.request(5, 4)).status == 400


def test_sixty_three_proof_lines_are_read_and_sixty_four_are_not(asked: Witness) -> None:
    log = Log.of(5)
    asked.add_checkpoint(log.request(0, 3))
    assert asked.add_checkpoint(bytes(Submission(3, (bytes(32),) * 63, log.note(5)))).status == 422
    assert asked.add_checkpoint(bytes(Submission(3, (bytes(32),) * 64, log.note(5)))).status == 400


def test_a_request_longer_than_any_is_a_413(asked: Witness) -> None:
    assert asked.add_checkpoint(b"x" * (LONGEST_REQUEST + 1)).status == 413


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Witness:
    return witness(tmp_path_factory.mktemp("shared") / "w")


@given(st.binary(max_size=300) | st.text(max_size=300).map(str.encode))
def test_no_request_is_answered_with_a_crash(shared: Witness, body: bytes) -> None:
    assert shared.add_checkpoint(body).status == 400


def test_every_altered_byte_of_a_request_costs_the_cosignature(asked: Witness) -> None:
    log = Log.of(9)
    asked.add_checkpoint(log.request(0, 3))
    request = log.request(3, 9)
    for position in range(len(request)):
        body = bytearray(request)
        body[position] ^= 0x01
        assert asked.add_checkpoint(bytes(body)).status in (400, 403, 404, 409, 422)
    assert cosigned_sizes(asked) == [3]
    assert asked.add_checkpoint(request).status == 200


@given(
    st.integers(0, 2**63 - 1),
    st.lists(st.binary(min_size=32, max_size=32), max_size=63),
    st.text(st.characters(codec="utf-8")),
)
def test_a_request_has_one_spelling(old: int, proof: list[bytes], note: str) -> None:
    submission = Submission(old, tuple(proof), note)
    assert Submission.parse(bytes(submission)) == submission


# --- 403, 404 --------------------------------------------------------------------------------------------------------


def test_an_unknown_origin_is_a_404(asked: Witness) -> None:
    stranger = Log(Log.of(5).leaves, SigningKey.generate("elsewhere.example/line"))
    assert asked.add_checkpoint(stranger.request(0, 5)).status == 404


def test_no_trusted_signature_is_a_403(asked: Witness) -> None:
    stranger = SigningKey.generate("stranger.example")
    namesake = SigningKey.generate(ORIGIN)
    for key in (stranger, namesake):
        note = sign_note(Log.of(5).checkpoint(5).text(), key)
        assert asked.add_checkpoint(bytes(Submission(0, (), note))).status == 403
    assert cosigned_sizes(asked) == []


def test_a_trusted_key_whose_signature_does_not_verify_is_a_403(asked: Witness) -> None:
    forged = Log.of(5).note(5).replace("\n5\n", "\n6\n")
    assert asked.add_checkpoint(bytes(Submission(0, (), forged))).status == 403
    assert kept(asked) == []


def test_the_witness_own_signature_makes_no_checkpoint_of_a_log(asked: Witness) -> None:
    note = sign_note(Log.of(5).checkpoint(5).text(), WITNESS_KEY)
    assert asked.add_checkpoint(bytes(Submission(0, (), note))).status == 403


# --- 409 -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("old", "size"), [(0, 9), (4, 9), (6, 9), (0, 5), (3, 4), (0, 0)])
def test_another_size_than_the_last_is_a_409_with_the_last(asked: Witness, old: int, size: int) -> None:
    log = Log.of(9)
    asked.add_checkpoint(log.request(0, 5))
    assert asked.add_checkpoint(log.request(old, size)) == Answer(409, SIZE, b"5\n")
    assert cosigned_sizes(asked) == [5]


def test_a_log_that_was_never_seen_begins_at_0(asked: Witness) -> None:
    assert asked.add_checkpoint(Log.of(9).request(4, 9)) == Answer(409, SIZE, b"0\n")


def test_another_root_of_the_same_size_is_a_409(asked: Witness) -> None:
    log = Log.of(5)
    asked.add_checkpoint(log.request(0, 5))
    answer = asked.add_checkpoint(log.rewritten(2).request(5, 5))
    assert (answer.status, answer.content_type) == (409, PLAIN)
    assert base64.b64encode(log.checkpoint(5).root) in answer.body
    assert asked.store.latest(ORIGIN).root == log.checkpoint(5).root


# --- 422 -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [5, 6, 7, 8, 9])
def test_a_rewritten_log_is_a_422(asked: Witness, size: int) -> None:
    log = Log.of(20)
    asked.add_checkpoint(log.request(0, size))
    answer = asked.add_checkpoint(log.rewritten(2).request(size, 20))
    assert answer.status == 422
    assert cosigned_sizes(asked) == [size]


def test_a_proof_that_is_missing_too_long_or_another_is_a_422(asked: Witness) -> None:
    log = Log.of(9)
    asked.add_checkpoint(log.request(0, 5))
    proof = log.proof(5, 9)
    for wrong in ((), proof[:-1], (*proof, bytes(32)), proof[::-1], log.proof(4, 9), (bytes(32),) * len(proof)):
        assert asked.add_checkpoint(bytes(Submission(5, wrong, log.note(9)))).status == 422
    assert asked.add_checkpoint(log.request(5, 9)).status == 200


def test_a_proof_from_nothing_or_to_the_same_size_has_to_be_empty(asked: Witness) -> None:
    log = Log.of(5)
    assert asked.add_checkpoint(bytes(Submission(0, (bytes(32),), log.note(5)))).status == 422
    asked.add_checkpoint(log.request(0, 5))
    assert asked.add_checkpoint(bytes(Submission(5, (bytes(32),), log.note(5)))).status == 422


# --- persisted before answered, and by one of two --------------------------------------------------------------------


def between(one: Witness, monkeypatch: pytest.MonkeyPatch, happens: Callable[[], None]) -> None:
    """Let something happen once, after the next request has read the latest checkpoint and before it is persisted."""
    latest = one.store.latest
    waiting = [happens]

    def read(origin: str) -> Stored | None:
        found = latest(origin)
        if waiting:
            waiting.pop()()
        return found

    monkeypatch.setattr(one.store, "latest", read)


def test_the_race_of_the_specification_rolls_nothing_back(asked: Witness, monkeypatch: pytest.MonkeyPatch) -> None:
    log = Log.of(9)
    asked.add_checkpoint(log.request(0, 3))
    answers: list[Answer] = []
    between(asked, monkeypatch, lambda: answers.append(asked.add_checkpoint(log.request(3, 9))))
    late = asked.add_checkpoint(log.request(3, 5))
    assert answers[0].status == 200
    assert late == Answer(409, SIZE, b"9\n")
    assert cosigned_sizes(asked) == [3, 9]


def test_a_fork_that_races_the_honest_log_is_refused(asked: Witness, monkeypatch: pytest.MonkeyPatch) -> None:
    log = Log.of(9)
    asked.add_checkpoint(log.request(0, 3))
    fork = log.rewritten(5)
    between(asked, monkeypatch, lambda: asked.add_checkpoint(log.request(3, 9)) and None)
    assert asked.add_checkpoint(fork.request(3, 9)) == Answer(409, SIZE, b"9\n")
    assert asked.store.latest(ORIGIN).root == log.checkpoint(9).root
    assert kept(asked) == ["other-root"]


def test_of_two_threads_from_one_size_one_wins(tmp_path: Path) -> None:
    """Two witnesses over one store, as two processes would be. Both read the same latest checkpoint before either writes."""
    log = Log.of(9)
    witness(tmp_path / "w").add_checkpoint(log.request(0, 3))
    both_read = threading.Barrier(2)
    answers: dict[int, Answer] = {}

    def race(size: int) -> None:
        one = witness(tmp_path / "w")
        latest, first = one.store.latest, [True]

        def read(origin: str) -> Stored | None:
            found = latest(origin)
            if first.pop() if first else False:
                both_read.wait(30)
            return found

        one.store.latest = read  # type: ignore[method-assign]
        answers[size] = one.add_checkpoint(log.request(3, size))

    threads = [threading.Thread(target=race, args=(size,)) for size in (5, 9)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    won = next(size for size, answer in answers.items() if answer.status == 200)
    assert answers[14 - won] == Answer(409, SIZE, b"%d\n" % won)
    assert cosigned_sizes(witness(tmp_path / "w")) == [3, won]


def test_many_threads_never_get_two_roots_of_one_size(tmp_path: Path) -> None:
    honest = Log.of(40)
    logs = [honest, honest.rewritten(0), honest.rewritten(20)]
    one = witness(tmp_path / "w")
    cosigned: list[Checkpoint] = []

    def push(log: Log, step: int) -> None:
        old = 0
        for size in range(step, 41, step):
            answer = one.add_checkpoint(log.request(old, size))
            if answer.status == 200:
                cosigned.append(log.checkpoint(size))
                old = size
            elif answer.content_type == SIZE:
                old = min(int(answer.body), size)

    threads = [threading.Thread(target=push, args=(log, step)) for log in logs for step in (1, 2, 3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    last = one.store.latest(ORIGIN)
    winner = next(log for log in logs if merkle.root(log.leaves[: last.size]) == last.root)
    assert cosigned
    assert all(found.root == winner.checkpoint(found.size).root for found in cosigned)


def test_what_cannot_be_persisted_is_not_answered(asked: Witness, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise HomeError("The disk is full.")

    log = Log.of(5)
    monkeypatch.setattr(asked.store, "advance", full)
    with pytest.raises(HomeError):
        asked.add_checkpoint(log.request(0, 5))
    monkeypatch.undo()
    assert asked.store.latest(ORIGIN) is None
    assert asked.add_checkpoint(log.request(0, 5)).status == 200


def test_a_log_that_missed_the_answer_goes_on_from_what_was_persisted(tmp_path: Path) -> None:
    log = Log.of(9)
    witness(tmp_path / "w").add_checkpoint(log.request(0, 5))
    restarted = witness(tmp_path / "w")
    assert restarted.add_checkpoint(log.request(0, 5)) == Answer(409, SIZE, b"5\n")
    assert restarted.add_checkpoint(log.request(5, 5)).status == 200
    assert restarted.add_checkpoint(log.request(5, 9)).status == 200


def test_a_witness_whose_clock_went_back_signs_nothing(asked: Witness) -> None:
    log = Log.of(9)
    asked.add_checkpoint(log.request(0, 5))
    asked.now = lambda: datetime.now(UTC) - timedelta(hours=1)
    with pytest.raises(UnavailableError, match="before its last cosignature"):
        asked.add_checkpoint(log.request(5, 9))
    assert cosigned_sizes(asked) == [5]


# --- misbehaviour ----------------------------------------------------------------------------------------------------


def test_two_roots_of_one_size_are_kept_whole(asked: Witness) -> None:
    log, fork = Log.of(5), Log.of(5).rewritten(2)
    asked.add_checkpoint(log.request(0, 5))
    asked.add_checkpoint(fork.request(5, 5))
    found = asked.misbehaviour.all()[0]
    assert (found.kind, found.convicts, found.size, found.known_size) == ("other-root", True, 5, 5)
    one, _ = open_checkpoint(found.known_note, [LOG_KEY.verifier])
    other, _ = open_checkpoint(found.note, [LOG_KEY.verifier])
    assert (one.size, other.size) == (5, 5)
    assert one.root != other.root
    assert "two different histories of 5 entries" in found.meaning


def test_a_smaller_checkpoint_that_contradicts_the_past_is_kept_too(asked: Witness) -> None:
    log = Log.of(9)
    asked.add_checkpoint(log.request(0, 5))
    asked.add_checkpoint(log.request(5, 9))
    assert asked.add_checkpoint(log.rewritten(2).request(0, 5)) == Answer(409, SIZE, b"9\n")
    found = asked.misbehaviour.all()[0]
    assert (found.kind, found.size, found.known_size) == ("other-root", 5, 5)


def test_an_old_checkpoint_of_the_same_history_is_no_misbehaviour(asked: Witness) -> None:
    log = Log.of(9)
    asked.add_checkpoint(log.request(0, 5))
    asked.add_checkpoint(log.request(5, 9))
    asked.add_checkpoint(log.request(0, 5))
    asked.add_checkpoint(log.request(5, 7))
    assert kept(asked) == []


@pytest.mark.parametrize("size", [5, 6, 7, 9, 12])
def test_a_proof_of_another_prefix_convicts(asked: Witness, size: int) -> None:
    """The rewritten log proves, truthfully, what its first entries are. They are others than those it had signed."""
    log = Log.of(20)
    asked.add_checkpoint(log.request(0, size))
    asked.add_checkpoint(log.rewritten(2).request(size, 20))
    found = asked.misbehaviour.all()[0]
    assert (found.kind, found.convicts, found.known_size, found.size) == ("other-prefix", True, size, 20)
    later, _ = open_checkpoint(found.note, [LOG_KEY.verifier])
    known, _ = open_checkpoint(found.known_note, [LOG_KEY.verifier])
    old, new = roots(size, 20, found.proof, known.root)
    assert new == later.root
    assert old != known.root
    merkle.verify_consistency(size, 20, found.proof, old, later.root)


@pytest.mark.parametrize("size", [1, 2, 4, 8, 16])
def test_a_proof_from_a_complete_subtree_convicts_nobody(asked: Witness, size: int) -> None:
    """Its verifier has to bring the old root itself, so such a proof says nothing of the prefix it was made for."""
    log = Log.of(20)
    asked.add_checkpoint(log.request(0, size))
    assert asked.add_checkpoint(log.rewritten(0).request(size, 20)).status == 422
    found = asked.misbehaviour.all()[0]
    assert (found.kind, found.convicts) == ("unproven", False)


def test_a_damaged_request_convicts_nobody(asked: Witness) -> None:
    log = Log.of(20)
    asked.add_checkpoint(log.request(0, 7))
    proof = log.proof(7, 20)
    for wrong in ((), proof[:-1], (bytes(32), *proof[1:]), (*proof[:-1], bytes(32)), (*proof, bytes(32))):
        asked.add_checkpoint(bytes(Submission(7, wrong, log.note(20))))
    assert set(kept(asked)) == {"unproven"}


def test_a_contradiction_is_kept_once_however_often_it_is_sent(asked: Witness) -> None:
    log = Log.of(20)
    asked.add_checkpoint(log.request(0, 7))
    for _ in range(3):
        asked.add_checkpoint(log.rewritten(2).request(7, 20))
        asked.add_checkpoint(bytes(Submission(7, (), log.rewritten(2).note(20))))
    assert sorted(kept(asked)) == ["other-prefix", "unproven"]


def test_what_is_kept_cannot_be_changed_by_accident(asked: Witness, tmp_path: Path) -> None:
    log = Log.of(5)
    asked.add_checkpoint(log.request(0, 5))
    asked.add_checkpoint(log.rewritten(2).request(5, 5))
    path = tmp_path / "witness" / "misbehaviour.db"
    for statement in ("DELETE FROM misbehaviour", "UPDATE misbehaviour SET kind = 'unproven'"):
        with sqlite3.connect(path) as connection, pytest.raises(sqlite3.IntegrityError, match="append-only"):
            connection.execute(statement)
        connection.close()
    with sqlite3.connect(path) as connection:
        columns = "id, digest, seen_at, origin, size, known_size, known_note, note, proof"
        connection.execute(
            f"INSERT OR REPLACE INTO misbehaviour ({columns}, kind) SELECT {columns}, 'unproven' FROM misbehaviour"
        )
    connection.close()
    assert kept(asked) == ["other-root"]
    assert path.stat().st_mode & 0o077 == 0


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    with pytest.raises(HomeError, match="cannot write"):
        MisbehaviourFile(tmp_path / "nowhere" / "misbehaviour.db")
    (tmp_path / "junk.db").write_bytes(b"no database at all, and long enough to be looked at" * 20)
    with pytest.raises(HomeError, match="cannot use"):
        MisbehaviourFile(tmp_path / "junk.db")


@pytest.mark.parametrize("size2", range(2, 40))
def test_the_roots_of_a_proof_are_those_of_its_trees(size2: int) -> None:
    log = Log.of(size2)
    for size1 in range(1, size2):
        expected = log.checkpoint(size1).root, log.checkpoint(size2).root
        assert roots(size1, size2, log.proof(size1, size2), log.checkpoint(size1).root) == expected
        with pytest.raises(VerificationError):
            roots(size1, size2, (*log.proof(size1, size2), bytes(32)), log.checkpoint(size1).root)


# --- a witness that cannot be one ------------------------------------------------------------------------------------


def test_a_witness_needs_keys_that_are_for_it(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="none for cosignatures"):
        witness(tmp_path / "w", SigningKey("w", ED25519, bytes(32)))
    with pytest.raises(InputError, match="cannot witness itself"):
        witness(tmp_path / "w", WITNESS_KEY, SigningKey(ORIGIN, ED25519, WITNESS_KEY.seed))
    one = witness(tmp_path / "w")
    with pytest.raises(InputError, match="needs the verifier key"):
        Witness(one.store, one.key, {})


# --- the one promise ---------------------------------------------------------------------------------------------------

SIZES = st.integers(0, 12)
REQUESTS = st.tuples(
    st.integers(0, 3),  # which history the checkpoint is of
    st.integers(0, 3),  # which history the proof is of
    st.one_of(st.none(), SIZES),  # the size the proof is from; None: what the witness cosigned last
    SIZES,
    st.booleans(),  # whether the honest key signs
)


@settings(max_examples=150, deadline=None)
@given(st.lists(st.integers(0, 11), min_size=3, max_size=3), st.lists(REQUESTS, min_size=1, max_size=25))
def test_a_witness_never_cosigns_two_histories(rewritten: list[int], requests: list[tuple]) -> None:
    """Whatever four histories of one log send, in whatever order: all that was cosigned is one history that grew."""
    honest = Log.of(12)
    histories = [honest, *(honest.rewritten(index) for index in rewritten)]
    stranger = SigningKey.generate(ORIGIN)
    cosigned: list[Checkpoint] = []
    with tempfile.TemporaryDirectory() as folder:
        one = witness(Path(folder) / "w")
        for of, proved, old, size, trusted in requests:
            latest = one.store.latest(ORIGIN)
            start = (latest.size if latest else 0) if old is None else old
            proof = histories[proved].proof(start, size) if start <= size else ()
            checkpoint = histories[of].checkpoint(size)
            note = sign_note(checkpoint.text(), LOG_KEY if trusted else stranger)
            answer = one.add_checkpoint(bytes(Submission(start, proof, note)))
            continues = not cosigned or (
                cosigned[-1].size <= size and histories[of].checkpoint(cosigned[-1].size).root == cosigned[-1].root
            )
            if answer.status == HTTPStatus.OK:
                assert trusted
                assert continues
                cosigned.append(checkpoint)
            elif trusted and of == proved and continues and start == (latest.size if latest else 0):
                pytest.fail(f"a checkpoint that continues was refused: {answer}")
        assert {(c.size, c.root) for c in cosigned} == {(s.size, s.root) for s in one.store.history(ORIGIN)}
    sizes = [found.size for found in cosigned]
    assert sizes == sorted(sizes)


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(st.integers(1, 30), st.integers(1, 30)), min_size=1, max_size=8),
    st.randoms(use_true_random=False),
)
def test_an_honest_log_is_never_convicted(steps: list[tuple[int, int]], random: object) -> None:
    """Stale, repeated and damaged requests of a log with one history leave nothing that convicts it."""
    log = Log.of(30)
    with tempfile.TemporaryDirectory() as folder:
        one = witness(Path(folder) / "w")
        for a, b in steps:
            old, size = sorted((a, b))
            latest = one.store.latest(ORIGIN)
            one.add_checkpoint(log.request(latest.size if latest else 0, max(size, latest.size if latest else 0)))
            one.add_checkpoint(log.request(old, size))
            proof = list(log.proof(old, size))
            random.shuffle(proof)  # type: ignore[attr-defined]
            one.add_checkpoint(bytes(Submission(old, tuple(proof), log.note(size))))
        assert not any(found.convicts for found in one.misbehaviour.all())
