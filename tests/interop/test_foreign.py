"""Go's own packages for signed notes and tiled logs, golang.org/x/mod/sumdb, agree with ours."""

import base64
import hashlib
import itertools
import json
import os
import random
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.ledger.trees import ListTree, leaves
from traceai.errors import NoteError
from traceai.ledger import merkle
from traceai.ledger.note import (
    COSIGNATURE,
    ED25519,
    Note,
    SigningKey,
    VerifierKey,
    cosign_note,
    open_note,
    sign_note,
    split_note,
)
from traceai.ledger.tlog import tiles
from traceai.ledger.tlog.checkpoint import Checkpoint, open_checkpoint
from traceai.ledger.tlog.tiles import Tile

GOPATH = Path("/usr/share/gocode")
TEXT = "example.com/log\n0\n47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=\n"

Ask = Callable[[list[dict[str, object]]], list[dict[str, Any]]]


def encode(data: bytes) -> str:
    return base64.b64encode(data).decode()


def encoded(proof: list[bytes]) -> list[str]:
    return [encode(h) for h in proof]


@pytest.fixture(scope="module")
def ask(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ask]:
    """Puts requests to the Go program and gives its answers."""
    go = shutil.which("go")
    if go is None:
        pytest.skip("go is not installed (Debian: golang-go)")
    if not (GOPATH / "src/golang.org/x/mod/sumdb/tlog").exists():
        pytest.skip("golang.org/x/mod is not installed (Debian: golang-golang-x-mod-dev)")
    folder = tmp_path_factory.mktemp("go")
    program = folder / "foreign"
    environment = {
        "PATH": os.environ["PATH"], "HOME": str(folder), "GOCACHE": str(folder / "cache"), "GOTMPDIR": str(folder),
        "GOPATH": str(GOPATH), "GO111MODULE": "off", "GOFLAGS": "", "CGO_ENABLED": "0",
    }  # fmt: skip
    source = Path(__file__).with_name("foreign.go")
    built = subprocess.run(
        [go, "build", "-o", program, source], check=False, env=environment, cwd=folder, capture_output=True, text=True
    )
    assert built.returncode == 0, built.stderr

    def put(requests: list[dict[str, object]]) -> list[dict[str, Any]]:
        done = subprocess.run([program], input=json.dumps(requests), capture_output=True, text=True, check=True)
        answers = json.loads(done.stdout)
        assert len(answers) == len(requests)
        return answers

    yield put
    shutil.rmtree(folder)


# --- notes ------------------------------------------------------------------------------------------------------------


def test_a_note_of_ours_opens_in_go(ask: Ask) -> None:
    keys = [SigningKey.generate(name) for name in ("example.com/log", "grüße.example/ключ", "a/b:c-d_e?f#g")]
    note = sign_note(TEXT, keys)
    answers = ask([{"Do": "open", "Text": encode(note.encode()), "Keys": [str(key.verifier)]} for key in keys])
    for key, answer in zip(keys, answers, strict=True):
        assert answer["Error"] == ""
        assert base64.b64decode(answer["Text"]).decode() == TEXT
        opened = open_note(note, [key.verifier])
        assert answer["Verified"] == [str(signature) for _, signature in opened.verified]
        assert answer["Unverified"] == [str(signature) for signature in opened.others]


def test_a_note_of_go_opens_here_with_the_key_it_generated(ask: Ask) -> None:
    generated = ask([{"Do": "generate", "Name": "example.com/go"}] * 3)
    for answer in generated:
        assert str(SigningKey.parse(answer["Key"])) == answer["Key"]
        assert str(SigningKey.parse(answer["Key"]).verifier) == answer["Keys"][0]
        assert str(VerifierKey.parse(answer["Keys"][0])) == answer["Keys"][0]
    signed = ask([{"Do": "sign", "Text": encode(TEXT.encode()), "Key": answer["Key"]} for answer in generated])
    for key, answer in zip(generated, signed, strict=True):
        note = base64.b64decode(answer["Text"])
        checkpoint, opened = open_checkpoint(note, key["Keys"])
        assert checkpoint == Checkpoint("example.com/log", 0, merkle.EMPTY_ROOT)
        assert str(opened).encode() == note
        # Ed25519 is deterministic: the same key signs the same bytes on either side.
        assert sign_note(TEXT.encode(), key["Key"]) == note


def test_both_sides_add_signatures_to_one_note(ask: Ask) -> None:
    ours, theirs = SigningKey.generate("ours"), SigningKey.generate("theirs")
    first = sign_note(TEXT, ours)
    request: dict[str, object] = {
        "Do": "sign", "Text": encode(first.encode()), "Key": str(theirs), "Keys": [str(ours.verifier)]
    }  # fmt: skip
    assert base64.b64decode(ask([request])[0]["Text"]).decode() == cosign_note(first, theirs)


def test_a_cosignature_is_an_unknown_signature_to_go(ask: Ask) -> None:
    log, witness = SigningKey.generate("log"), SigningKey.generate("witness", COSIGNATURE)
    note = sign_note(TEXT, [witness, log], at=1679315147)
    opened, refused = ask(
        [
            {"Do": "open", "Text": encode(note.encode()), "Keys": [str(log.verifier)]},
            {"Do": "open", "Text": encode(note.encode()), "Keys": [str(witness.verifier)]},
        ]
    )
    assert opened["Unverified"] == [str(split_note(note)[1][0])]
    assert refused["Error"] == "unknown verifier algorithm"


def test_the_same_names_are_allowed(ask: Ask) -> None:
    refused_by_us = []
    for point in [*range(0xD800), *range(0xE000, 0x10000)]:
        try:
            SigningKey(f"a{chr(point)}b", ED25519, bytes(32))
        except NoteError:
            refused_by_us.append(point)
    # Go lets a key be called after a control character, and then refuses the notes that it signs.
    assert set(refused_by_us) - set(range(32)) == set(ask([{"Do": "names"}])[0]["Runes"]) - set(range(32))
    assert set(range(32)) <= set(refused_by_us)


def test_of_two_thousand_damaged_notes_go_accepts_what_we_accept(ask: Ask) -> None:
    """All that we refuse and Go accepts are other spellings of the same base64."""
    source = random.Random(1)
    log, other = SigningKey("example.com/log", ED25519, bytes(32)), SigningKey("other", ED25519, bytes(range(32)))
    note = sign_note(f"{TEXT}\nan empty line before\n", [log, other]).encode()
    damaged = [damage(note, source) for _ in range(2000)]
    answers = ask([{"Do": "open", "Text": encode(text), "Keys": [str(log.verifier)]} for text in damaged])
    accepted = 0
    for text, answer in zip(damaged, answers, strict=True):
        opened = opened_here(text, log.verifier)
        if opened is None:
            assert answer["Error"] != "" or spelled_otherwise(answer, text)
        else:
            accepted += 1
            assert answer["Error"] == ""
            assert base64.b64decode(answer["Text"]).decode() == opened.text
            assert answer["Verified"] == [str(signature) for _, signature in opened.verified]
            assert answer["Unverified"] == [str(signature) for signature in opened.others]
    assert 100 < accepted < 1900


def damage(note: bytes, source: random.Random) -> bytes:
    at = source.randrange(len(note))
    lines = note.splitlines(keepends=True)
    return source.choice(
        [
            note[:at] + bytes([source.randrange(256)]) + note[at + 1 :],
            note[:at] + bytes([source.choice(b"\n =+/Aa\x00\t\r")]) + note[at + 1 :],
            note[:at] + source.choice([b"\n", b"\n\n", b" ", b"=", "— ".encode(), b"\xff"]) + note[at:],
            note[:at] + note[at + source.randrange(1, 4) :],
            note[:at] + note[at : at + 30] + note[at:],
            b"".join(lines[:5] + source.choices(lines[5:], k=source.randrange(1, 6))),
            note + source.choice(lines),
            note + lines[-1] * source.choice([97, 98, 99, 100, 200]),
        ]
    )


def opened_here(text: bytes, key: VerifierKey) -> Note | None:
    try:
        return open_note(text, [key])
    except NoteError:
        return None


def spelled_otherwise(answer: dict[str, Any], text: bytes) -> bool:
    """Whether a line that Go read is not what its bytes are written as."""
    spellings = [line.rsplit(" ", 1)[1].rstrip("\n") for line in answer["Verified"] + answer["Unverified"]]
    return any(encode(base64.b64decode(spelling)) != spelling for spelling in spellings)


# --- trees ------------------------------------------------------------------------------------------------------------


def test_roots_and_every_proof_are_those_of_go(ask: Ask) -> None:
    sizes = [*range(1, 35), 63, 64, 65, 127, 128, 129, 255, 256, 257, 300]
    data = [number.to_bytes(4, "big") for number in range(max(sizes))]
    answers = ask([{"Do": "tree", "Leaves": encoded(data[:size])} for size in sizes])
    for size, answer in zip(sizes, answers, strict=True):
        hashes = leaves(size)
        tree = ListTree(hashes)
        assert answer["Root"] == encode(merkle.root(hashes)) == encode(tiles.root(tree, size))
        for index in range(size):
            proof = encoded(merkle.inclusion_proof(hashes, index))
            assert answer["Proofs"][index] == proof == encoded(tiles.inclusion_proof(tree, index, size))
        for old in range(1, size + 1):
            proof = encoded(merkle.consistency_proof(hashes, old, size))
            assert answer["Proofs"][size + old - 1] == proof == encoded(tiles.consistency_proof(tree, old, size))


def test_go_checks_our_proofs_of_large_trees_and_refuses_them_changed(ask: Ask) -> None:
    source = random.Random(2)
    tree = ListTree(leaves(70_001))
    requests: list[dict[str, object]] = []
    for size in [2, 256, 65_536, 65_537, 70_000, *source.sample(range(3, 70_001), 15)]:
        index, old = source.randrange(size), source.randrange(1, size)
        root, before = tiles.root(tree, size), tiles.root(tree, old)
        record = tiles.inclusion_proof(tree, index, size)
        consistency = tiles.consistency_proof(tree, old, size)
        merkle.verify_inclusion(tree.levels[0][index], index, size, record, root)
        merkle.verify_consistency(old, size, consistency, before, root)
        check = {"Size": size, "Root": encode(root)}
        leaf = encode(tree.levels[0][index])
        requests += [
            {"Do": "check record", **check, "Index": index, "Leaf": leaf, "Proof": encoded(record)},
            {"Do": "check tree", **check, "Old": old, "Before": encode(before), "Proof": encoded(consistency)},
            {"Do": "check record", **check, "Index": index, "Leaf": leaf, "Proof": encoded([*record[:-1], bytes(32)])},
            {"Do": "check tree", **check, "Old": old, "Before": encode(bytes(32)), "Proof": encoded(consistency)},
        ]
    answers = ask(requests)
    assert all(answer["Error"] == "" for number, answer in enumerate(answers) if number % 4 < 2)
    assert all(answer["Error"] != "" for number, answer in enumerate(answers) if number % 4 >= 2)


# --- tiles ------------------------------------------------------------------------------------------------------------

GROWTH = [1, 2, 255, 256, 257, 511, 512, 600, 65_535, 65_536, 65_537, 65_792, 66_000]


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> tuple[ListTree, Path]:
    """A log's tiles, as files, after each of the sizes in `GROWTH`."""
    tree = ListTree(leaves(GROWTH[-1]))
    folder = tmp_path_factory.mktemp("tile")
    for size in GROWTH:
        for tile in tiles.tiles_of(size):
            path = folder / tile.path
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(tiles.tile_data(tree, tile))
    return tree, folder


def test_gos_client_follows_our_log_as_it_grows(ask: Ask, served: tuple[ListTree, Path]) -> None:
    tree, folder = served
    source = random.Random(3)
    requests = [step(tree, folder, old, size, source.randrange(size)) for old, size in itertools.pairwise(GROWTH)]
    requests += [step(tree, folder, 1, GROWTH[-1], index) for index in (0, 255, 256, 65_535, 65_536, GROWTH[-1] - 1)]
    for request, answer in zip(requests, ask(requests), strict=True):
        assert answer["Error"] == ""
        assert answer["Root"] == request["Root"]


def test_gos_client_refuses_our_log_with_one_byte_changed(
    ask: Ask, served: tuple[ListTree, Path], tmp_path: Path
) -> None:
    tree, folder = served
    source = random.Random(4)
    size, index = GROWTH[-1], 40_000
    # The tiles on the way from the leaf to the root, and the right edge of the tree.
    read = [
        Tile(0, index // 256),
        Tile(0, size // 256, size % 256),
        Tile(1, 0),
        Tile(1, 1, size // 256 - 256),
        Tile(2, 0, 1),
    ]
    requests = []
    for number, tile in enumerate(read):
        copy = tmp_path / str(number)
        shutil.copytree(folder, copy)
        path = copy / tile.path
        data = bytearray(path.read_bytes())
        data[source.randrange(len(data))] ^= 1 << source.randrange(8)
        path.write_bytes(data)
        requests.append(step(tree, copy, 512, size, index))
    for tile, answer in zip(read, ask(requests), strict=True):
        # x/mod 0.7 passes over the first full tiles where several subtrees of the root lie in one tile, and finds the change when
        # it checks the proof made of them.
        assert answer["Error"] in {"downloaded inconsistent tile", "invalid transparency proof"}, tile.path
    assert ask([step(tree, folder, 512, size, index)])[0]["Error"] == ""


def test_gos_client_refuses_another_root_and_another_past(ask: Ask, served: tuple[ListTree, Path]) -> None:
    tree, folder = served
    wrong = encode(hashlib.sha256(b"wrong").digest())
    answers = ask([{**step(tree, folder, 256, 600, 7), name: wrong} for name in ("Root", "Before", "Leaf")])
    assert [answer["Error"] != "" for answer in answers] == [True] * 3


def step(tree: ListTree, folder: Path, old: int, size: int, index: int) -> dict[str, object]:
    return {
        "Do": "follow", "Folder": str(folder), "Size": size, "Root": encode(tiles.root(tree, size)), "Old": old,
        "Before": encode(tiles.root(tree, old)), "Index": index, "Leaf": encode(tree.levels[0][index]),
    }  # fmt: skip
