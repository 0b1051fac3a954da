"""A report says what the journal says, whatever an administrator wrote into the tables, and says what it cannot read."""

import re
import uuid
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from sqlalchemy import event

from tests.conftest import register_tiny
from tests.reports import reading
from traceai.db.connection import Database
from traceai.errors import RecordError
from traceai.inspection import history
from traceai.inspection.decision import Decision
from traceai.inspection.history import Filter
from traceai.inspection.reading import Item
from traceai.ledger import log, records
from traceai.ledger.note import ED25519, SigningKey, sign_note
from traceai.ledger.tlog.checkpoint import Checkpoint, open_checkpoint
from traceai.ledger.verification.auditing import audit as verification
from traceai.review import verdicts
from traceai.sdk import Trace
from traceai.settings import Settings
from traceai_reports import audit_report, content, decision_report, evidence, lineage, rows
from traceai_reports.content import DecisionRow, Signature, Unreadable
from traceai_reports.document import MARGIN
from traceai_reports.quotes import Quotes

Sql = Callable[..., list[tuple]]
ABOUT = evidence.issue("m.ferrer")
# Between the scores that the small network gives these images: three pass, three are undecided, six rejected.
POINT = ("0.6015", "0.6075")


@pytest.fixture
def recorded(trace: Trace, images: Sequence[Path], tmp_path: Path) -> list[Decision]:
    """Twelve decisions of every verdict, of which a pass and a reject were found wrong, and a failed inspection."""
    tiny = register_tiny(trace, point=POINT)
    trace.add_station("press-4", audit_pass_probability=1.0)
    broken = tmp_path / "broken.png"
    broken.write_bytes(images[0].read_bytes()[:70])
    items = [Item(path, serial=f"SN-{n}", lot="L7") for n, path in enumerate([*images, broken])]
    found = list(trace.inspector(tiny, "press-4").inspect_many(items))
    with trace.database.session() as session:
        for verdict, truth in (("pass", "defective"), ("reject", "good")):
            row = history.find(session, of(found, verdict).id)
            verdicts.add(session, row, truth=truth, reviewer="s.marin", note="Seen under raking light.")
    return found


def of(decisions: Sequence[Decision], verdict: str | None) -> Decision:
    return next(decision for decision in decisions if decision.verdict == verdict)


def audit(trace: Trace) -> content.AuditReport:
    return evidence.audit(trace, Filter(station="press-4"), ABOUT, "Audit")


def text_of(found: content.AuditReport | content.DecisionReport, folder: Path) -> str:
    """The text of the report, without what the verification found: that names what stands in the tables."""
    write = audit_report if isinstance(found, content.AuditReport) else decision_report
    write(found, folder / "report.pdf")  # type: ignore[arg-type]  # the one that belongs to it
    text = reading.text(folder / "report.pdf")
    before, _, found_by_verification = text.partition("Verification, fact by fact")
    return before + re.split("The listed decisions|Runtime environment", found_by_verification)[1]


def lines(found: content.AuditReport) -> dict[int, DecisionRow | Unreadable]:
    return {line.ledger_index: line for line in found.decisions}


def index_of(sql: Sql, table: str, where: str = "true") -> int:
    return sql(f"SELECT journal_index FROM {table} WHERE {where} ORDER BY journal_index LIMIT 1")[0][0]


# --- falsified tables ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "change",
    [
        "serial = 'FORGED'",
        "lot = 'FORGED'",
        "defect_score = 0.123456, model_name = 'FORGED'",
        "occurred_at = '2001-02-03'",
        "occurred_at = 'infinity'",
        "station_seq = station_seq + 1000",
        "image_sha256 = sha256('x'), explanation_height = 1, explanation_target = 'FORGED'",
        "verdict = CASE verdict WHEN 'pass' THEN 'reject' WHEN 'reject' THEN 'pass' ELSE verdict END",
    ],
)
def test_a_falsified_inspection_is_printed_as_it_was_recorded(
    trace: Trace, recorded: list[Decision], sql: Sql, tmp_path: Path, change: str
) -> None:
    before = audit(trace)
    sql(f"UPDATE inspection SET {change} WHERE failure_code IS NULL")
    after = audit(trace)
    assert after.decisions == before.decisions
    assert after.errors == before.errors
    assert after.unreadable == ()
    assert after.ledger.failures >= 1
    shown = text_of(after, tmp_path)
    assert "SN-3, L7" in shown
    assert "FORGED" not in shown[shown.index("In ledger order") :]


def test_a_falsified_failure_is_printed_as_it_was_recorded(
    trace: Trace, recorded: list[Decision], sql: Sql, tmp_path: Path
) -> None:
    before = audit(trace)
    sql("UPDATE inspection SET failure = 'FORGED', failure_code = 'FORGED', serial = 'FORGED' WHERE verdict IS NULL")
    after = audit(trace)
    assert after.failed == before.failed
    assert "FORGED" not in text_of(after, tmp_path)


def test_a_failed_inspection_that_the_table_calls_a_pass_is_listed_as_failed(
    trace: Trace, recorded: list[Decision], sql: Sql
) -> None:
    before = audit(trace)
    for row in sql("SELECT conname FROM pg_constraint WHERE conrelid = 'inspection'::regclass AND contype = 'c'"):
        sql(f'ALTER TABLE inspection DROP CONSTRAINT "{row[0]}"')
    sql(
        "UPDATE inspection SET failure_code = NULL, failure = NULL, verdict = 'pass', audit_probability = 1, "
        "audit_drawn = false WHERE verdict IS NULL"
    )
    after = audit(trace)
    assert after.failed == before.failed
    assert after.decisions == before.decisions


def test_a_falsified_review_is_printed_as_it_was_recorded(
    trace: Trace, recorded: list[Decision], sql: Sql, tmp_path: Path
) -> None:
    before = audit(trace)
    sql(
        "UPDATE review SET truth = CASE truth WHEN 'good' THEN 'defective' ELSE 'good' END, reviewer = 'FORGED', "
        "note = 'FORGED', source = 'simulated', occurred_at = 'infinity'"
    )
    after = audit(trace)
    assert [error.row.error for error in after.errors] == ["false negative", "false positive"]
    assert (after.decisions, after.errors) == (before.decisions, before.errors)
    assert "FORGED" not in text_of(after, tmp_path)


def test_a_review_moved_to_another_decision_is_not_that_ones(trace: Trace, recorded: list[Decision], sql: Sql) -> None:
    other = next(d for d in recorded if d.verdict == "pass" and d.id != of(recorded, "pass").id)
    sql("UPDATE review SET inspection_id = %s WHERE truth = 'defective'", uuid.UUID(other.id))
    line = lines(audit(trace))[other.receipt.index]
    assert isinstance(line, DecisionRow)
    assert line.truth is None


def test_a_falsified_lineage_is_printed_as_it_was_recorded(
    trace: Trace, recorded: list[Decision], sql: Sql, tmp_path: Path
) -> None:
    before = audit(trace)
    sql(
        "UPDATE model_version SET architecture = 'FORGED', made_by = 'FORGED', pass_below = 0.1, parameters = 1, "
        "classes = '[\"FORGED\"]', evaluation = '{\"auroc\": \"FORGED\"}', occurred_at = 'infinity'"
    )
    sql("UPDATE model_event SET actor = 'FORGED', reason = 'FORGED', occurred_at = 'infinity'")
    after = audit(trace)
    assert after.models == before.models
    point = after.models[0].operating_point
    assert point is not None
    assert (point.pass_below, point.reject_at) == POINT
    assert "FORGED" not in text_of(after, tmp_path)


def test_a_falsified_decision_is_reported_as_it_was_recorded(
    trace: Trace, recorded: list[Decision], sql: Sql, tmp_path: Path
) -> None:
    decision = of(recorded, "pass")
    sql(
        "UPDATE inspection SET model_name = 'FORGED', image_sha256 = sha256('x'), explanation_height = 1, lot = 'FORGED'"
    )
    sql("UPDATE review SET reviewer = 'FORGED', note = 'FORGED', truth = 'good'")
    sql("UPDATE model_event SET actor = 'FORGED'")
    sql('UPDATE runtime SET environment = \'{"FORGED": "FORGED"}\'')
    found = evidence.decision(trace, decision.id, ABOUT)
    assert isinstance(found.model.approved, Signature)
    assert found.model.approved.by == "ada"
    assert [r.truth for r in found.reviews if isinstance(r, content.Review)] == ["defective"]
    assert found.explanation is not None
    assert found.explanation.overlay is not None
    assert found.environment
    assert "FORGED" not in text_of(found, tmp_path)


def test_a_heat_map_that_is_not_the_recorded_one_is_not_drawn(trace: Trace, recorded: list[Decision], sql: Sql) -> None:
    sql("UPDATE heat_map SET grid = decode(repeat('00', octet_length(grid)), 'hex')")
    assert {error.overlay for error in audit(trace).errors} == {None}
    explained = evidence.decision(trace, of(recorded, "pass").id, ABOUT).explanation
    assert explained is not None
    assert explained.overlay is None


def test_a_row_that_points_at_another_decisions_entry_is_not_reported(
    trace: Trace, recorded: list[Decision], sql: Sql
) -> None:
    first, second = recorded[0], recorded[1]
    for decision, index in ((second, 500), (first, second.receipt.index)):
        sql("UPDATE inspection SET journal_index = %s WHERE id = %s", index, uuid.UUID(decision.id))
    with pytest.raises(RecordError, match="is not that of decision"):
        evidence.decision(trace, first.id, ABOUT)


# --- entries that are gone or unreadable -----------------------------------------------------------------------------

GONE = 'DELETE FROM journal WHERE "index" = %s'
GARBAGE = "UPDATE journal SET entry = '\\x00' WHERE \"index\" = %s"
ALTERED = 'UPDATE journal SET entry = (SELECT entry FROM journal WHERE "index" = 0) WHERE "index" = %s'  # a record, not this one


@pytest.mark.parametrize("damage", [GONE, GARBAGE, ALTERED])
def test_a_decision_whose_entry_cannot_be_read_keeps_its_place_and_says_so(
    trace: Trace, recorded: list[Decision], sql: Sql, tmp_path: Path, damage: str
) -> None:
    before = lines(audit(trace))
    index = of(recorded, "undecided").receipt.index
    sql(damage, index)
    after = audit(trace)
    assert lines(after) == before | {index: Unreadable(ledger_index=index)}
    assert after.unreadable == (index,)
    shown = text_of(after, tmp_path)
    assert f"should quote are gone, were altered, or are not what they should be: index {index}." in shown
    assert f"{index} This entry is gone, was altered, or is no inspection" in shown
    assert reading.outside(tmp_path / "report.pdf", MARGIN) == []


def test_an_entry_that_has_not_its_leaf_hash_is_not_quoted(trace: Trace, recorded: list[Decision], sql: Sql) -> None:
    first, second = recorded[0].receipt.index, recorded[1].receipt.index
    sql('UPDATE journal SET entry = (SELECT entry FROM journal WHERE "index" = %s) WHERE "index" = %s', first, second)
    assert lines(audit(trace))[second] == Unreadable(ledger_index=second)


@pytest.mark.parametrize("damage", [GONE, GARBAGE, ALTERED])
def test_a_failed_inspection_whose_entry_cannot_be_read_keeps_its_place(
    trace: Trace, recorded: list[Decision], sql: Sql, tmp_path: Path, damage: str
) -> None:
    index = of(recorded, None).receipt.index
    sql(damage, index)
    found = audit(trace)
    assert found.failed == (Unreadable(ledger_index=index),)
    assert text_of(found, tmp_path).count(f"{index} This entry is gone") == 2
    with pytest.raises(RecordError):
        evidence.decision(trace, of(recorded, None).id, ABOUT)


@pytest.mark.parametrize("damage", [GONE, GARBAGE, ALTERED])
def test_a_review_whose_entry_cannot_be_read_is_no_truth_and_not_left_out(
    trace: Trace, recorded: list[Decision], sql: Sql, tmp_path: Path, damage: str
) -> None:
    decision = of(recorded, "pass")
    index = index_of(sql, "review", "truth = 'defective'")
    sql(damage, index)
    found = audit(trace)
    line = lines(found)[decision.receipt.index]
    assert isinstance(line, DecisionRow)
    assert (line.truth, line.unread) == (None, Unreadable(ledger_index=index))
    assert [error.row.error for error in found.errors] == ["false positive"]
    assert found.unreadable == (index,)
    assert f"entry {index} unreadable" in text_of(found, tmp_path)
    single = evidence.decision(trace, decision.id, ABOUT)
    assert single.reviews == (Unreadable(ledger_index=index),)
    assert f"ledger entry {index} cannot be read" in text_of(single, tmp_path)


@pytest.mark.parametrize("damage", [GONE, GARBAGE, ALTERED])
def test_an_approval_whose_entry_cannot_be_read_is_no_approval(
    trace: Trace, recorded: list[Decision], sql: Sql, tmp_path: Path, damage: str
) -> None:
    index = index_of(sql, "model_event", "action = 'approve'")
    sql(damage, index)
    found = audit(trace)
    assert found.models[0].approved == Unreadable(ledger_index=index)
    assert isinstance(found.models[0].activated, Signature)
    shown = text_of(found, tmp_path)
    assert f"The tables name ledger entry {index} as the approval of tiles@1, and it cannot be read." in shown
    assert f"Approved ledger entry {index} cannot be read" in shown


@pytest.mark.parametrize("damage", [GONE, GARBAGE])
def test_a_registration_whose_entry_cannot_be_read_leaves_what_the_decision_says_of_it(
    trace: Trace, recorded: list[Decision], sql: Sql, tmp_path: Path, damage: str
) -> None:
    index = index_of(sql, "model_version")
    sql(damage, index)
    found = evidence.decision(trace, recorded[0].id, ABOUT)
    assert found.model.unread == Unreadable(ledger_index=index)
    assert found.model.digest == recorded[0].model.digest
    assert found.model.architecture == ""
    assert isinstance(found.model.approved, Signature)
    assert f"Registration ledger entry {index} cannot be read" in text_of(found, tmp_path)


def test_an_environment_whose_entry_is_gone_is_not_left_out(
    trace: Trace, recorded: list[Decision], sql: Sql, tmp_path: Path
) -> None:
    index = index_of(sql, "runtime")
    sql(GONE, index)
    found = evidence.decision(trace, recorded[0].id, ABOUT)
    assert found.environment == Unreadable(ledger_index=index)
    assert f"Environment ledger entry {index} cannot be read" in text_of(found, tmp_path)


# --- the snapshot that a version was trained on ----------------------------------------------------------------------

SNAPSHOT, MODEL = "5" * 64, records.ModelRef(name="castings", version=1, digest="a" * 64)


@pytest.fixture
def trained(trace: Trace) -> int:
    """A version that was trained on a snapshot; the snapshot's index."""
    snapshot = records.DatasetSnapshot(
        name="parts",
        digest=SNAPSHOT,
        listing="1" * 64,
        images=3,
        counts={"train": {"good": 2, "dent": 1}},
        made_by="erin",
    )
    version = records.ModelVersion(
        model=MODEL, weights_sha256="b" * 64, architecture="resnet", parameters=5, layer="l", classes=["good", "dent"],
        operating_point=None, snapshot_name="parts", snapshot_digest=SNAPSHOT, training={}, evaluation={}, made_by="erin",
    )  # fmt: skip
    with trace.database.session() as session:
        return log.append(session, [snapshot, version])[0].index


def snapshot_of(trace: Trace) -> content.Snapshot | None:
    with trace.database.moment() as session:
        return lineage.at_decision(session, Quotes(session), MODEL, 100).snapshot


def test_a_falsified_snapshot_is_printed_as_it_was_recorded(trace: Trace, trained: int, sql: Sql) -> None:
    sql('UPDATE dataset_snapshot SET images = 999, counts = \'{"train": {"good": 999}}\'')
    sql("UPDATE model_version SET snapshot_name = 'FORGED', snapshot_digest = NULL")
    assert snapshot_of(trace) == content.Snapshot(
        name="parts", digest=SNAPSHOT, images=3, counts=(("train, good", 2), ("train, dent", 1))
    )


def test_a_snapshot_whose_entry_is_gone_is_still_named(trace: Trace, trained: int, sql: Sql) -> None:
    sql(GONE, trained)
    assert snapshot_of(trace) == content.Snapshot(
        name="parts", digest=SNAPSHOT, unread=Unreadable(ledger_index=trained)
    )


# --- who signs the ledger --------------------------------------------------------------------------------------------


def single(trace: Trace, recorded: list[Decision]) -> content.DecisionReport:
    return evidence.decision(trace, recorded[0].id, ABOUT)


def test_a_ledger_that_nobody_signed_is_reported_as_such(trace: Trace, recorded: list[Decision]) -> None:
    found = single(trace, recorded).ledger
    assert (found.origin, found.key, found.checkpoint, found.unread) == ("", None, None, "")


def test_origin_key_and_newest_checkpoint_are_those_of_the_ledger(trace: Trace, recorded: list[Decision]) -> None:
    first = trace.checkpoint()
    for found in (single(trace, recorded).ledger, audit(trace).ledger):
        assert found.checkpoint is not None
        assert (found.origin, found.key) == (first.origin, found.checkpoint.keys[0])
        assert (found.checkpoint.note, found.checkpoint.size) == (first.note, found.size)
        assert found.root == first.root.hex()
        point, _ = open_checkpoint(found.checkpoint.note, found.checkpoint.keys)
        assert (point.size, point.root.hex(), found.checkpoint.leads) == (found.size, found.root, True)
    evidence.record_issue(trace, "audit", "2" * 64, {}, ABOUT)
    found = single(trace, recorded).ledger
    assert found.checkpoint is not None
    assert (found.checkpoint.note, found.size) == (first.note, first.size + 1)
    second = trace.checkpoint()
    assert (again := single(trace, recorded).ledger.checkpoint) is not None
    assert again.note == second.note


def test_after_a_rotation_both_keys_stand_beside_the_checkpoint(trace: Trace, recorded: list[Decision]) -> None:
    trace.checkpoint()
    old = single(trace, recorded).ledger.key
    trace.signer.rotate("ada", "Every year.")
    found = single(trace, recorded).ledger
    assert found.key != old
    assert found.checkpoint is not None
    assert found.checkpoint.keys == (old, found.key)


def test_where_another_home_signs_the_served_checkpoint_is_printed(
    trace: Trace, recorded: list[Decision], clone: str, tmp_path: Path
) -> None:
    signed = trace.checkpoint()
    settings = Settings(home=tmp_path / "elsewhere", database_url=clone, blobs=trace.settings.blobs_url)
    settings.ensure_home()
    with Trace(settings, Database.open(settings), trace.blobs) as elsewhere:
        found = single(elsewhere, recorded).ledger
    assert found.checkpoint is not None
    assert (found.origin, found.checkpoint.note, found.checkpoint.leads) == (signed.origin, signed.note, True)


def test_a_served_checkpoint_that_no_key_on_record_signed_is_none(
    trace: Trace, recorded: list[Decision], clone: str, tmp_path: Path, sql: Sql
) -> None:
    signed = trace.checkpoint()
    forger = SigningKey.generate(signed.origin, ED25519)
    sql(
        "UPDATE checkpoint SET note = %s", sign_note(Checkpoint(signed.origin, signed.size, bytes(32)).text(), [forger])
    )
    settings = Settings(home=tmp_path / "elsewhere", database_url=clone, blobs=trace.settings.blobs_url)
    settings.ensure_home()
    with Trace(settings, Database.open(settings), trace.blobs) as elsewhere:
        found = single(elsewhere, recorded).ledger
    assert (found.origin, found.checkpoint) == (signed.origin, None)


def test_a_ledger_that_does_not_lead_to_what_was_signed_says_so(
    trace: Trace, recorded: list[Decision], tmp_path: Path
) -> None:
    signed = trace.checkpoint()
    key = trace.signer.keys.load(trace.signer.verifier_keys(signed.origin)[0])
    other = sign_note(Checkpoint(signed.origin, signed.size + 100, bytes(32)).text(), [key])
    trace.signer.store.advance(signed.origin, signed.size, other)
    found = single(trace, recorded)
    assert found.ledger.checkpoint is not None
    assert (found.ledger.checkpoint.note, found.ledger.checkpoint.leads) == (other, False)
    assert found.ledger.failures
    assert "The ledger does not lead to its own checkpoint" in text_of(found, tmp_path)


def test_an_opening_that_cannot_be_read_leaves_the_report_its_place(
    trace: Trace, recorded: list[Decision], sql: Sql, tmp_path: Path
) -> None:
    trace.checkpoint()
    sql(GONE, index_of(sql, "ledger_opened"))
    found = single(trace, recorded)
    assert (found.ledger.origin, found.ledger.checkpoint) == ("", None)
    assert found.ledger.unread
    assert "Who signs this ledger cannot be read" in text_of(found, tmp_path)


def test_every_fact_of_a_verification_has_its_row(trace: Trace, recorded: list[Decision]) -> None:
    trace.checkpoint()
    reported = {fact.name: fact.checked for fact in audit(trace).ledger.facts}
    assert set(reported) == {fact.name for fact in verification(trace.signer, trace.blobs).facts}
    assert [name for name, checked in reported.items() if checked is None] == ["blobs"]


# --- how much is read ------------------------------------------------------------------------------------------------


def test_of_the_decisions_only_the_listed_and_the_wrong_ones_are_read(
    trace: Trace, recorded: list[Decision], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rows, "LISTED_DECISIONS", 3)
    read: set[int] = set()
    stored = Quotes._stored

    def noted(quotes: Quotes, indices: Sequence[int]) -> list[tuple[int, bytes | None, bytes | None]]:
        read.update(indices)
        return stored(quotes, indices)

    monkeypatch.setattr(Quotes, "_stored", noted)
    with trace.database.moment() as session:
        found = rows.rows(session, Quotes(session), Filter())
    newest = [decision.receipt.index for decision in recorded[-3:]]
    wrong = [of(recorded, verdict).receipt.index for verdict in ("pass", "reject")]
    assert [line.ledger_index for line in found.decisions] == newest
    assert [error.row.ledger_index for error in found.errors] == wrong
    assert read & {decision.receipt.index for decision in recorded} == {*newest, *wrong}


def test_the_database_is_asked_as_often_for_many_rows_as_for_few(
    trace: Trace, recorded: list[Decision], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[int] = []

    def count(*_: object) -> None:
        asked[-1] += 1

    event.listen(trace.database.engine, "before_cursor_execute", count)
    for limit in (13, 2):
        monkeypatch.setattr(rows, "LISTED_DECISIONS", limit)
        asked.append(0)
        with trace.database.moment() as session:
            rows.rows(session, Quotes(session), Filter())
    event.remove(trace.database.engine, "before_cursor_execute", count)
    assert asked[0] == asked[1]
