"""docs/trust.md promises what the code prints, and its limits are real."""

import ast
import re
from collections.abc import Callable
from pathlib import Path

import pytest
from sqlalchemy import select

import traceai
from tests.docs.markdown import code, printed, read, sections
from traceai.access import GRANTS
from traceai.db.tables import Journal
from traceai.errors import NoteError
from traceai.ledger import log, records
from traceai.ledger.entry import Entry
from traceai.ledger.merkle import Frontier, leaf_hash
from traceai.ledger.note import COSIGNATURE, ED25519, SigningKey
from traceai.ledger.verification import verifier
from traceai.ledger.verification.auditing import audit
from traceai.ledger.witnesses.policy import Policy, PolicyWitness
from traceai.ledger.witnesses.witnessing import record_policy
from traceai.sdk import Trace

TEXT = read("trust.md")
SECTIONS = sections(TEXT)
ATTACKS = SECTIONS["What verification sees"].rows()
ROOT = Path(traceai.__file__).parent
WITNESS = SigningKey.generate("witness.example", COSIGNATURE)
OPEN = r"(?:…|\w+)"
# Shorter templates, such as "{}: {}", would match anything.
TELLING = 10


def sentences(path: Path) -> list[re.Pattern[str]]:
    """Every sentence that a module can print, with its values left open to `…` or one word."""
    found = []
    tree = ast.parse(path.read_text("utf-8"))
    pieces = {part for node in ast.walk(tree) if isinstance(node, ast.JoinedStr) for part in node.values}
    for node in ast.walk(tree):
        if node in pieces:
            continue
        if isinstance(node, ast.JoinedStr):
            parts = [str(part.value) if isinstance(part, ast.Constant) else None for part in node.values]
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            parts = [piece for text in node.value.split("{}") for piece in (None, text)][1:]
        else:
            continue
        if sum(len(part) for part in parts if part) >= TELLING:
            found.append(re.compile("".join(OPEN if part is None else re.escape(part) for part in parts) + "$", re.I))
    return found


PRINTED = [
    sentence
    for module in (
        "ledger/verification/verifier.py", "ledger/verification/spans.py", "ledger/verification/counting.py",
        "ledger/verification/comparison.py",
        "ledger/verification/datasets.py",
        "ledger/verification/server.py", "ledger/verification/auditing.py", "ledger/entry.py", "ledger/signing/known.py",
        "ledger/signing/standing.py", "ledger/signing/keys.py", "ledger/witnesses/witnessing.py",
        "images/blobs.py", "models/artifact.py", "edge/inspector.py", "cli/database.py", "db/strangers.py",
    )
    for sentence in sentences(ROOT / module)
]  # fmt: skip
MESSAGES = [(row[0], re.findall(r"`([^`]+)`", row[2])[0]) for row in ATTACKS if "`" in row[2]]


@pytest.mark.parametrize(("attack", "message"), MESSAGES)
def test_the_code_can_print_what_the_page_says_it_prints(attack: str, message: str) -> None:
    assert any(sentence.search(message) for sentence in PRINTED), attack


def test_the_findings_are_those_of_the_facts_that_are_checked(trace: Trace) -> None:
    trace.signer.begin()
    policy = Policy(trace.signer.state().origin or "", 1, (PolicyWitness("w", WITNESS.verifier, "https://w.example"),))
    record_policy(trace.signer, policy, actor="ada", reason="Agreed.")
    facts = {fact.name for fact in audit(trace.signer, trace.blobs).facts}
    told = {row[2].strip("`").partition(": ")[0] for row in ATTACKS if row[1] == "`ledger verify`"}
    assert told == facts


def test_the_roles_are_those_of_the_one_table() -> None:
    rows = {row[0].strip("`"): set(re.findall(r"`([^`]+)`", row[1])) for row in SECTIONS["API tokens"].rows()}
    assert rows == {str(role): {str(permission) for permission in granted} for role, granted in GRANTS.items()}


# --- the limit that the page admits -----------------------------------------------------------------------------------


@pytest.fixture
def rewritten(
    trace: Trace, sql: Callable[..., list[tuple]], clone: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> tuple[log.Head, log.Receipt]:
    """A ledger of which an administrator rewrote one entry and all that depends on it; root and receipt from before."""
    monkeypatch.setenv("TRACEAI_DATABASE_URL", clone)
    monkeypatch.setenv("TRACEAI_HOME", str(tmp_path / "home"))
    with trace.database.session() as session:
        receipts = log.append(session, [report("erin"), report("erin"), report("erin")])
        before = log.read_head(session)
    with trace.database.session() as session:
        entries = [entry.entry for entry in session.execute(select(Journal).order_by(Journal.index)).scalars()]
    entries[1] = entries[1].replace(b'"issued_by":"erin"', b'"issued_by":"eve"')
    assert isinstance(Entry.parse(entries[1]).record, records.ReportIssued)
    frontier = Frontier()
    for entry in entries:
        frontier.append(leaf_hash(entry))
    sql('UPDATE journal SET entry = %s, leaf_hash = %s WHERE "index" = 1', entries[1], leaf_hash(entries[1]))
    sql("UPDATE report_issued SET issued_by = 'eve' WHERE journal_index = 1")
    sql("UPDATE ledger_head SET root = %s, frontier = %s", frontier.root(), bytes(frontier))
    return before, receipts[1]


def report(issued_by: str) -> records.ReportIssued:
    return records.ReportIssued(kind="audit", sha256="2" * 64, scope={}, issued_by=issued_by)


def test_a_consistent_rewrite_is_not_seen_by_verification(
    trace: Trace, rewritten: tuple[log.Head, log.Receipt]
) -> None:
    assert verifier.verify(trace.database.engine, trace.blobs).holds


def test_a_consistent_rewrite_is_seen_by_whoever_noted_the_root(rewritten: tuple[log.Head, log.Receipt]) -> None:
    before, _ = rewritten
    size, _, root = printed(code(TEXT, "python")[0], size=before.size).strip().partition(" ")
    assert int(size) == before.size
    assert root != before.root.hex()


def test_the_program_reads_a_checkpoint_out_of_a_file_and_believes_no_other_key(trace: Trace, tmp_path: Path) -> None:
    stored = trace.checkpoint()
    path, (key,) = tmp_path / "checkpoint.txt", trace.signer.verifier_keys(stored.origin)
    path.write_text(stored.note, "utf-8")
    said = printed(code(TEXT, "python")[1], path=path, key=str(key))
    assert said == f"{stored.origin} {stored.size} {stored.root.hex()}\n"
    with pytest.raises(NoteError):
        printed(code(TEXT, "python")[1], path=path, key=str(SigningKey.generate(stored.origin, ED25519).verifier))


def test_a_consistent_rewrite_is_seen_by_whoever_holds_the_receipt(
    trace: Trace, rewritten: tuple[log.Head, log.Receipt]
) -> None:
    _, receipt = rewritten
    with trace.database.session() as session:
        assert session.get_one(Journal, receipt.index).leaf_hash != receipt.leaf_hash


def test_the_program_finds_the_noted_root_in_an_honest_ledger_that_has_grown(
    trace: Trace, clone: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("TRACEAI_DATABASE_URL", clone)
    monkeypatch.setenv("TRACEAI_HOME", str(tmp_path / "home"))
    with trace.database.session() as session:
        log.append(session, [report("erin"), report("erin"), report("erin")])
        noted = log.read_head(session)
        log.append(session, [report("ada")])
    assert printed(code(TEXT, "python")[0], size=noted.size) == f"{noted.size} {noted.root.hex()}\n"
