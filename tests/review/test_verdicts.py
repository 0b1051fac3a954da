from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from tests.conftest import register_tiny
from traceai.errors import ConflictError, InputError, RecordError
from traceai.inspection import history
from traceai.inspection.decision import Decision
from traceai.inspection.history import Filter
from traceai.review import rates, verdicts
from traceai.sdk import Trace


@pytest.fixture
def decisions(trace: Trace, tiny: str, images: Sequence[Path], tmp_path: Path) -> list[Decision]:
    """Twelve decisions, all drawn for audit, and a failed inspection."""
    trace.add_station("press-4", audit_pass_probability=1.0)
    broken = tmp_path / "broken.png"
    broken.write_bytes(b"x")
    return list(trace.inspector(tiny, "press-4").inspect_many([*images, broken]))


def review(trace: Trace, decision: Decision, truth: str, **more: object) -> None:
    with trace.database.session() as session:
        verdicts.add(session, history.find(session, decision.id), truth=truth, reviewer="ruth", **more)


def one_report(trace: Trace, **wanted: object) -> rates.RatesReport:
    with trace.database.session() as session:
        return rates.rates(session, Filter(**wanted))[0]


def test_the_queue_holds_what_was_drawn_and_not_yet_reviewed_oldest_first(
    trace: Trace, decisions: list[Decision]
) -> None:
    review(trace, decisions[1], "good")
    with trace.database.session() as session:
        waiting = [str(row.id) for row in verdicts.queue(session)]
        assert [str(row.id) for row in verdicts.queue(session, limit=2)] == waiting[:2]
        assert verdicts.queue(session, station="press-5") == []
    assert waiting == [decision.id for decision in decisions[:12] if decision is not decisions[1]]


def test_a_review_is_appended_and_the_last_one_counts(trace: Trace, decisions: list[Decision]) -> None:
    review(trace, decisions[0], "good")
    review(trace, decisions[0], "defective", defect_type="dent", note="seen under the microscope")
    with trace.database.session() as session:
        found = history.dossier(session, history.find(session, decisions[0].id)).reviews
    assert [r.truth for r in found] == ["good", "defective"]
    assert found[1].inspection_leaf == decisions[0].receipt.leaf_hash
    report = one_report(trace)
    assert report.reviewed == 1
    tallies = (report.rates.passed, report.rates.rejected, report.rates.undecided)
    assert sum(tally.verified_defective for tally in tallies) == 1
    assert sum(tally.verified_good for tally in tallies) == 0


@pytest.mark.parametrize(
    ("truth", "more", "error"),
    [
        ("fine", {}, InputError),
        ("good", {"defect_type": "dent"}, InputError),
        ("good", {"note": "nul\x00"}, InputError),
        ("defective", {"defect_type": "x" * 201}, InputError),
    ],
)
def test_a_review_that_makes_no_sense_leaves_nothing(
    trace: Trace, decisions: list[Decision], truth: str, more: dict, error: type[Exception]
) -> None:
    with pytest.raises(error):
        review(trace, decisions[0], truth, **more)
    assert one_report(trace).reviewed == 0


def test_a_failed_inspection_has_no_decision_to_review(trace: Trace, decisions: list[Decision]) -> None:
    with pytest.raises(ConflictError, match="decided nothing"):
        review(trace, decisions[12], "good")


def test_without_a_verified_pass_the_miss_rate_is_not_estimable(trace: Trace, decisions: list[Decision]) -> None:
    for decision in decisions[:12]:
        if decision.verdict == "reject":
            review(trace, decision, "defective")
    report = one_report(trace)
    assert report.rates.passed.decisions > 0
    assert report.rates.false_negative_rate.estimate is None
    assert "verified" in report.rates.false_negative_rate.reason


def test_verified_completely_the_rates_are_the_plain_counts(trace: Trace, decisions: list[Decision]) -> None:
    from traceai.stats import wilson

    counts = {("pass", "good"): 0, ("pass", "defective"): 0, ("reject", "good"): 0, ("reject", "defective"): 0}
    for number, decision in enumerate(decisions[:12]):
        truth = "defective" if number % 3 else "good"
        review(trace, decision, truth, simulated=number == 0)
        if decision.verdict != "undecided":
            counts[str(decision.verdict), truth] += 1
    report = one_report(trace)
    assert (report.decisions, report.failed, report.reviewed, report.simulated) == (12, 1, 12, 1)
    defective = counts["pass", "defective"] + counts["reject", "defective"]
    good = counts["pass", "good"] + counts["reject", "good"]
    expected = wilson(counts["pass", "defective"], defective)
    found = report.rates.false_negative_rate
    assert (found.estimate, found.low, found.high) == (expected.estimate, expected.low, expected.high)
    expected = wilson(counts["reject", "good"], good)
    found = report.rates.false_positive_rate
    assert (found.estimate, found.low, found.high) == (expected.estimate, expected.low, expected.high)


def test_rates_by_group_and_by_filter(
    trace: Trace, decisions: list[Decision], tiny: str, images: Sequence[Path]
) -> None:
    trace.add_station("press-5", audit_pass_probability=1.0)
    list(trace.inspector(tiny, "press-5").inspect_many(images[:4]))
    with trace.database.session() as session:
        by_station = rates.rates(session, Filter(), by="station")
        with pytest.raises(InputError, match="choose one of"):
            rates.rates(session, Filter(), by="weather")
        with pytest.raises(InputError, match="leave the verdict out"):
            rates.rates(session, Filter(verdict="pass"))
    assert [(report.group, report.decisions) for report in by_station] == [("press-4", 12), ("press-5", 4)]
    assert one_report(trace, station="press-5").decisions == 4
    assert one_report(trace, station="nowhere").decisions == 0


def test_rates_by_version_keep_the_models_apart(
    trace: Trace, decisions: list[Decision], images: Sequence[Path]
) -> None:
    for name in ("tiles", "other"):
        list(trace.inspector(register_tiny(trace, seed=1, name=name), "press-4").inspect_many(images[:4]))
    for decision in decisions[:12]:
        review(trace, decision, "defective", defect_type="dent")
    with trace.database.session() as session:
        found = {report.group: report for report in rates.rates(session, Filter(), by="version")}
    assert {name: report.decisions for name, report in found.items()} == {"other@1": 4, "tiles@1": 12, "tiles@2": 4}
    assert {name: bool(report.types) for name, report in found.items()} == {
        "other@1": False,
        "tiles@1": True,
        "tiles@2": False,
    }
    for name, report in found.items():
        model, version = str(name).split("@")
        assert one_report(trace, model=model, version=int(version)).rates == report.rates


@pytest.mark.parametrize("by", rates.GROUPS)
def test_every_group_holds_all_decisions(trace: Trace, decisions: list[Decision], by: str) -> None:
    with trace.database.session() as session:
        assert sum(report.decisions for report in rates.rates(session, Filter(), by=by)) == 12


def test_reviews_of_parts_that_were_not_drawn_enter_no_estimate(
    trace: Trace, tiny: str, images: Sequence[Path]
) -> None:
    trace.add_station("press-6", audit_pass_probability=1e-9)
    found = list(trace.inspector(tiny, "press-6").inspect_many(images))
    passed = [decision for decision in found if decision.verdict == "pass"]
    assert passed
    for decision in passed:
        review(trace, decision, "defective")
    report = one_report(trace, station="press-6")
    assert report.rates.passed.targeted_defective == len(passed)
    assert report.rates.false_negative_rate.estimate is None


@pytest.mark.parametrize("probability", [None, 0])
def test_an_audit_draw_that_no_decision_can_have_recorded_gives_no_rate(
    trace: Trace, decisions: list[Decision], sql: Callable[..., list[tuple]], probability: int | None
) -> None:
    review(trace, decisions[0], "good")
    sql("UPDATE inspection SET audit_probability = %s WHERE id = %s", probability, decisions[0].id)
    with pytest.raises(RecordError, match=r"^1 decisions with the verdict .* run `traceai ledger verify`\.$"):
        one_report(trace)
