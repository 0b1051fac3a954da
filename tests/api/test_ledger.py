"""The ledger over HTTP is a tiled log: a client that trusts nothing but the log's key follows it from tile to tile."""

import gzip
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient

from tests.api.conftest import Client
from tests.ledger.test_log import refusal
from traceai import access
from traceai.inspection.decision import Decision
from traceai.ledger import log, merkle, records
from traceai.ledger.entry import Entry
from traceai.ledger.note import SigningKey, VerifierKey, sign_note
from traceai.ledger.packing import pack
from traceai.ledger.tlog import tiles
from traceai.ledger.tlog.checkpoint import Checkpoint, open_checkpoint
from traceai.ledger.tlog.tiles import Tile, parse_entry_bundle
from traceai.sdk import Trace
from traceai_api.app import create_app

Sql = Callable[..., list[tuple]]


def grow(trace: Trace, more: int) -> None:
    with trace.database.session() as session:
        log.append(session, [refusal(number) for number in range(more)])
    trace.checkpoint()


def key_of(trace: Trace) -> VerifierKey:
    key = trace.signer.state().key
    assert key is not None
    return key


class Follower:
    """Reads what is served, and verifies it."""

    def __init__(self, client: TestClient, key: VerifierKey) -> None:
        self.client, self.key = client, key

    def checkpoint(self) -> Checkpoint:
        answer = self.client.get("/v1/ledger/checkpoint")
        assert answer.headers["content-type"] == "text/plain; charset=utf-8"
        assert "no-cache" in answer.headers["cache-control"]
        return open_checkpoint(answer.content, [self.key])[0]

    def tile(self, tile: Tile) -> bytes:
        answer = self.client.get(f"/v1/ledger/tile/{tile.path}")
        assert answer.status_code == 200, answer.text
        assert answer.headers["content-type"] == "application/octet-stream"
        assert "immutable" in answer.headers["cache-control"]
        return answer.content

    def leaves(self, size: int) -> list[bytes]:
        """The leaf hashes, read as entries and compared with the tiles of level 0."""
        found = []
        for tile in tiles.tiles_of(size):
            if tile.level != 0:
                continue
            bundle = parse_entry_bundle(self.tile(Tile(None, tile.index, tile.width)), tile.width)
            hashes = [merkle.leaf_hash(entry) for entry in bundle]
            assert b"".join(hashes) == self.tile(tile)
            found += hashes
        return found

    def hashes(self, runs: Sequence[tiles.Run]) -> list[list[bytes]]:
        """A `tiles.TreeReader` over HTTP."""
        return [self._run(*run) for run in runs]

    def _run(self, level: int, start: int, stop: int) -> list[bytes]:
        number = start // 256
        width = min(256, (self.size >> 8 * level) - number * 256)
        data = self.tile(Tile(level, number, width))
        return [data[32 * n : 32 * (n + 1)] for n in range(start - number * 256, stop - number * 256)]

    size = 0


def test_a_client_follows_the_log(trace: Trace, recorded: list[Decision], client: Client) -> None:
    grow(trace, 560)
    follower = Follower(client("auditor"), key_of(trace))
    first = follower.checkpoint()
    follower.size = first.size
    assert first.size > 512
    leaves = follower.leaves(first.size)
    assert merkle.root(leaves) == first.root == tiles.root(follower, first.size)
    decision = recorded[0]
    proof = tiles.inclusion_proof(follower, decision.receipt.index, first.size)
    merkle.verify_inclusion(decision.receipt.leaf_hash, decision.receipt.index, first.size, proof, first.root)
    grow(trace, 300)
    second = follower.checkpoint()
    follower.size = second.size
    path = tiles.consistency_proof(follower, first.size, second.size)
    merkle.verify_consistency(first.size, second.size, path, first.root, second.root)


def test_every_tile_of_a_served_tree_is_there_and_no_other(trace: Trace, client: Client) -> None:
    grow(trace, 600)
    auditor = client("auditor")
    size = Follower(auditor, key_of(trace)).checkpoint().size
    for tile in tiles.tiles_of(size):
        assert len(auditor.get(f"/v1/ledger/tile/{tile.path}").content) == 32 * tile.width
    for path in (
        "0/003",
        "0/002.p/255",
        "1/000",
        "1/000.p/3",
        "2/000.p/1",
        "7/000",
        "entries/002.p/254",
        "entries/003.p/1",
    ):
        answer = auditor.get(f"/v1/ledger/tile/{path}")
        assert (answer.status_code, answer.json()["code"]) == (404, "tile-not-found"), path


def test_what_was_recorded_after_the_checkpoint_is_not_served_yet(trace: Trace, client: Client) -> None:
    grow(trace, 3)
    size = Follower(client("auditor"), key_of(trace)).checkpoint().size
    with trace.database.session() as session:
        log.append(session, [refusal()])
    answer = client("auditor").get(f"/v1/ledger/tile/0/000.p/{size + 1}")
    assert answer.json()["code"] == "tile-not-found"


def enter(sql: Sql, size: int, note: str) -> None:
    sql(
        "INSERT INTO checkpoint (id, origin, size, root, note, created_at) SELECT"
        " gen_random_uuid(), origin, %s, %s, %s, now() + interval '1 day' FROM ledger_opened LIMIT 1",
        size, bytes(32), note,
    )  # fmt: skip


def test_a_row_that_the_log_did_not_sign_is_not_served(trace: Trace, client: Client, sql: Sql) -> None:
    grow(trace, 3)
    retired = trace.signer.keys.load(key_of(trace))
    trace.signer.rotate("ada", "It was copied.")
    grow(trace, 3)
    genuine = Follower(client("auditor"), key_of(trace)).checkpoint()
    stranger = SigningKey.generate(genuine.origin)
    with trace.database.session() as session:
        log.append(
            session,
            [
                records.LedgerKey(
                    origin=genuine.origin,
                    key=str(stranger.verifier),
                    replaces=str(retired.verifier),
                    actor="x",
                    reason="x",
                )
            ],
        )
    ahead = Checkpoint(genuine.origin, genuine.size + 1, bytes(32))
    enter(sql, ahead.size, sign_note(ahead.text(), stranger))
    enter(sql, ahead.size, sign_note(ahead.text(), retired))
    enter(sql, ahead.size, "no note")
    enter(sql, genuine.size, sign_note(ahead.text(), trace.signer.keys.load(key_of(trace))))
    assert Follower(client("auditor"), key_of(trace)).checkpoint() == genuine
    answer = client("auditor").get(f"/v1/ledger/tile/0/000.p/{ahead.size}")
    assert answer.json()["code"] == "tile-not-found"


OPENED = (
    "INSERT INTO ledger_opened (id, journal_index, occurred_at, recorded_at, salt, origin, key, previous_origin, actor, reason)"
    " SELECT gen_random_uuid(), {at}, occurred_at, recorded_at, salt, %s, %s, NULL, actor, reason FROM ledger_opened LIMIT 1"
)
CHANGED = (
    "INSERT INTO ledger_key (id, journal_index, occurred_at, recorded_at, salt, origin, key, replaces, actor, reason)"
    " SELECT gen_random_uuid(), {at}, occurred_at, recorded_at, salt, origin, %s, key, actor, reason FROM ledger_opened LIMIT 1"
)
NOWHERE, ELSEWHERE = "100", "(SELECT max(journal_index) FROM model_refused)"


@pytest.mark.parametrize("at", [NOWHERE, ELSEWHERE])
@pytest.mark.parametrize("what", ["changed", "moved"])
def test_a_row_about_keys_that_the_journal_does_not_bear_out_lets_nobody_sign(
    trace: Trace, client: Client, sql: Sql, what: str, at: str
) -> None:
    """Whoever may insert may say in the tables who signs; what counts is the entry, and that the tree has it."""
    grow(trace, 3)
    genuine = Follower(client("auditor"), key_of(trace)).checkpoint()
    thief = SigningKey.generate("thief.example" if what == "moved" else genuine.origin)
    if what == "changed":
        sql(CHANGED.format(at=at), str(thief.verifier))
    else:
        sql(OPENED.format(at=at), thief.name, str(thief.verifier))
    note = sign_note(Checkpoint(thief.name, 200, bytes(32)).text(), thief)
    sql("INSERT INTO checkpoint (id, origin, size, root, note, created_at) VALUES (gen_random_uuid(), %s, 200, %s, %s, now())",
        thief.name, bytes(32), note)  # fmt: skip
    assert Follower(client("auditor"), key_of(trace)).checkpoint() == genuine


def test_an_entry_beyond_the_tree_lets_nobody_sign(trace: Trace, client: Client, sql: Sql) -> None:
    grow(trace, 3)
    genuine = Follower(client("auditor"), key_of(trace)).checkpoint()
    thief = SigningKey.generate("thief.example")
    record = records.LedgerOpened(origin=thief.name, key=str(thief.verifier), previous=None, actor="x", reason="x")
    entry = Entry.seal(record, "2026-01-31T06:00:00.000000Z").data
    sql("INSERT INTO journal VALUES (100, %s, %s)", pack(entry), merkle.leaf_hash(entry))
    sql(OPENED.format(at=NOWHERE), thief.name, str(thief.verifier))
    note = sign_note(Checkpoint(thief.name, 200, bytes(32)).text(), thief)
    sql("INSERT INTO checkpoint (id, origin, size, root, note, created_at) VALUES (gen_random_uuid(), %s, 200, %s, %s, now())",
        thief.name, bytes(32), note)  # fmt: skip
    assert Follower(client("auditor"), key_of(trace)).checkpoint() == genuine


def test_where_no_checkpoint_is_the_log_s_own_none_is_served(trace: Trace, client: Client, sql: Sql) -> None:
    grow(trace, 3)
    sql(
        "UPDATE checkpoint SET note = %s",
        sign_note(Checkpoint("thief", 9, bytes(32)).text(), SigningKey.generate("thief")),
    )
    answer = client("auditor").get("/v1/ledger/checkpoint")
    assert (answer.status_code, answer.json()["code"]) == (404, "checkpoint-not-found")
    assert "in the database is signed by its key" in answer.json()["detail"]


def test_what_the_log_signed_is_served_though_the_journal_became_shorter(
    trace: Trace, client: Client, sql: Sql
) -> None:
    grow(trace, 3)
    ahead = Checkpoint(key_of(trace).name, 100, bytes(32))
    enter(sql, ahead.size, sign_note(ahead.text(), trace.signer.keys.load(key_of(trace))))
    assert Follower(client("auditor"), key_of(trace)).checkpoint() == ahead
    answer = client("auditor").get("/v1/ledger/tile/0/000.p/100")
    assert answer.json()["code"] == "ledger-gap"


@pytest.mark.parametrize(
    "path", ["0/0", "00/000", "0/x000/000", "64/000", "0/000.p/0", "0/000.p/256", "0/000.p/01", "entries/1", "x"]
)
def test_a_path_that_is_no_tile_is_refused(trace: Trace, client: Client, path: str) -> None:
    grow(trace, 3)
    answer = client("auditor").get(f"/v1/ledger/tile/{path}")
    assert (answer.status_code, answer.json()["code"]) == (400, "tile-invalid")


def test_a_ledger_that_was_never_signed_has_no_checkpoint(trace: Trace, client: Client) -> None:
    for path in ("checkpoint", "tile/0/000.p/1"):
        answer = client("auditor").get(f"/v1/ledger/{path}")
        assert (answer.status_code, answer.json()["code"]) == (404, "checkpoint-not-found")


def test_bundles_are_compressed_for_who_can_read_that(trace: Trace, client: Client) -> None:
    grow(trace, 300)
    auditor = client("auditor")
    plain = auditor.get("/v1/ledger/tile/entries/000", headers={"Accept-Encoding": "identity"})
    packed = auditor.get("/v1/ledger/tile/entries/000", headers={"Accept-Encoding": "gzip"})
    assert "content-encoding" not in plain.headers
    assert packed.headers["content-encoding"] == "gzip"
    assert packed.content == plain.content
    assert int(packed.headers["content-length"]) < len(gzip.compress(plain.content, 1))


def test_what_a_pruned_service_no_longer_publishes_is_said_to_be_gone(trace: Trace, tmp_path: Path) -> None:
    grow(trace, 800)
    with trace.database.session() as session:
        access.add_user(session, "ada", "auditor")
        token = access.create_token(session, "ada")
    headers: dict[str, Any] = {"Authorization": f"Bearer {token}"}
    with TestClient(create_app(trace, minimum_index=512), headers=headers) as auditor:
        for path in ("0/000", "0/001", "entries/000", "entries/001"):
            answer = auditor.get(f"/v1/ledger/tile/{path}")
            assert (answer.status_code, answer.json()["code"]) == (410, "tile-pruned")
        for path in ("0/002", "1/000.p/3", "entries/002"):
            assert auditor.get(f"/v1/ledger/tile/{path}").status_code == 200


@pytest.mark.parametrize("role", ["", "station", "reviewer", "admin"])
def test_the_log_is_not_for_everybody(trace: Trace, client: Client, role: str) -> None:
    grow(trace, 3)
    for path in ("checkpoint", "tile/0/000.p/1", "tile/entries/000.p/1"):
        assert client(role).get(f"/v1/ledger/{path}").status_code == (403 if role else 401)
