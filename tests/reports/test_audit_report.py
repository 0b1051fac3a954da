import time
from collections import Counter
from dataclasses import replace
from datetime import datetime

import pytest

from tests.reports import reading, samples
from traceai.errors import InputError
from traceai.stats import Cell, describe, estimate_rates
from traceai_reports import audit_report
from traceai_reports.content import Counts, FailedInspection, Failure, Scope, Unreadable, VerifiedError
from traceai_reports.document import MARGIN


@pytest.fixture
def out(tmp_path):
    return tmp_path / "audit.pdf"


def written(content, out):
    audit_report(content, out)
    return reading.text(out)


def cell(verdict, decisions, good, defective, probability=0.1):
    return Cell(
        verdict=verdict,
        probability=probability,
        decisions=decisions,
        verified_good=good,
        verified_defective=defective,
    )


def with_rates(*cells):
    rates = estimate_rates(cells)
    counts = Counts(
        passed=rates.passed.decisions, rejected=rates.rejected.decisions, undecided=rates.undecided.decisions
    )
    return samples.audit(20, rates=rates, counts=counts, periods=())


def test_the_first_page_gives_scope_counts_and_rates(out):
    content = samples.audit()
    audit_report(content, out)
    first = reading.pages(out)[0]
    for fact in (
        content.title, "From 2026-03-02 06:00:00 UTC until 2026-03-10 06:00:00 UTC (exclusive)", "castings",
        "Notified body 0123", "m.ferrer",
    ):  # fmt: skip
        assert fact in first, fact
    counts = content.counts
    assert f"{counts.total} inspections {counts.passed} passed {counts.undecided} undecided" in first
    assert f"{counts.rejected} rejected {counts.failed} failed" in first
    rates = content.rates
    for rate in (
        rates.false_negative_rate, rates.false_positive_rate, rates.escape_rate, rates.overkill_rate,
        rates.defect_prevalence, rates.undecided_share,
    ):  # fmt: skip
        assert describe(rate) in first


def test_model_versions_ledger_and_failures_are_on_record(out):
    content = samples.audit()
    text = written(content, out)
    for fact in (
        "castings@2 – 60 inspections in scope", content.models[0].digest, content.models[1].weights_digest,
        "Replaced by version 3.", content.models[0].snapshot.digest, content.ledger.root,
        f"from index {content.first_index:,} to index {content.last_index:,}",
        "every station's decisions are numbered without a gap", "image-truncated: The image ends before its last row.",
        "What this report does not show",
    ):  # fmt: skip
        assert fact in text, fact


def test_without_a_verified_pass_the_miss_rate_is_not_estimable(out):
    text = written(with_rates(cell("pass", 900, 0, 0), cell("reject", 50, 5, 45, 1)), out)
    assert "False-negative rate not estimable: none of the 900 passed parts was verified" in text
    assert "Escape rate not estimable: none of the 900 passed parts was verified" in text
    assert "False-negative rate 0" not in text
    assert "It does not mean zero." in text


def test_no_verified_escape_is_not_a_bare_zero(out):
    text = written(with_rates(cell("pass", 900, 90, 0), cell("reject", 50, 5, 45, 1)), out)
    assert "False-negative rate 0 % (95 % interval 0 % to " in text


def test_a_census_is_described_as_one(out):
    text = written(with_rates(cell("pass", 90, 88, 2, 1), cell("reject", 10, 1, 9, 1)), out)
    assert "Every passed and every rejected part in scope was verified." in text
    assert "drawn at random" not in text


def test_caveats_stand_beside_the_rates(out):
    content = with_rates(cell("pass", 1000, 19, 1), cell("reject", 50, 5, 45, 1))
    text = written(content, out)
    assert "To bear in mind" in text
    assert content.rates.caveats[0] in text


def test_the_confusion_table_shows_what_was_verified_and_what_was_not(out):
    text = written(
        with_rates(cell("pass", 1000, 90, 3), cell("reject", 50, 5, 45, 1), cell("undecided", 7, 4, 2, 1)), out
    )
    assert "Drawn and verified: good 90 4 5 99" in text
    assert "Drawn and verified: defective 3 2 45 50" in text
    assert "Not reviewed 907 1 0 908" in text
    assert "All decisions 1,000 7 50 1,057" in text


def test_false_negatives_come_before_false_positives(out):
    content = samples.audit()
    text = written(replace(content, errors=tuple(reversed(content.errors))), out)
    shown = text[text.index("Verified errors") : text.index("Failed inspections")]
    assert shown.index("False negatives: defective parts that were passed (2)") < shown.index("False positives")
    positions = [
        shown.index(f"Index {error.row.ledger_index},") for error in content.errors if error.row.verdict == "pass"
    ]
    assert positions == sorted(positions)
    assert max(positions) < shown.index("False positives")


def test_errors_beyond_those_shown_are_counted(out):
    content = samples.audit()
    shown = [error for error in content.errors if error.row.error == "false negative"]
    found = Counter({"false negative": 1200, "false positive": 3})
    text = written(replace(content, errors=tuple(shown), errors_found=found), out)
    assert "2 of 1,203 verified errors are shown." in text
    assert "False negatives: defective parts that were passed (2 of 1,200)" in text
    assert "False positives: good parts that were rejected (0 of 3)" in text


def test_without_verified_errors_none_is_claimed_absent(out):
    assert "depends on how many parts were verified" in written(replace(samples.audit(), errors=()), out)


def test_simulated_reviews_are_labelled_everywhere(out):
    content = samples.audit(120, simulated=True)
    audit_report(content, out)
    pages = reading.pages(out)
    assert f"{content.simulated} of the {content.reviewed} reviews in this report are SIMULATED" in pages[0]
    text = " ".join(pages)
    assert text.count("found by s.marin SIMULATED") == len(content.errors)
    reviewed = sum(row.truth is not None for row in content.decisions)
    assert text.count("SIMULATED") >= reviewed + len(content.errors) + 2


def test_an_unapproved_version_is_on_the_first_page(out):
    content = replace(samples.audit(), models=(samples.model(4, approved=None),))
    audit_report(content, out)
    assert "No approval of castings@4 was on record while it was in use." in reading.pages(out)[0]


def test_a_failing_ledger_is_on_the_first_page(out):
    facts = (replace(samples.FACTS[0], failures=1, findings=("journal index 7: the entry is missing",)),)
    audit_report(samples.audit(ledger=samples.ledger(facts=facts)), out)
    pages = reading.pages(out)
    assert "Ledger verification failed" in pages[0]
    assert "journal index 7: the entry is missing" in " ".join(pages)


def test_a_scope_without_any_inspection_is_reported(out):
    empty = samples.audit(
        60,
        scope=Scope(),
        counts=Counts(),
        rates=estimate_rates([]),
        periods=(),
        decisions=(),
        models=(),
        errors=(),
        failed=(),
        reviewed=0,
        first_index=None,
        last_index=None,
    )
    text = written(empty, out)
    assert "All inspections on record" in text
    assert "not estimable: no part was passed or rejected" in text
    assert "Entries in scope none" in text


def test_five_hundred_decisions_take_seconds_and_repeat_their_head(out):
    content = samples.audit(500)
    start = time.perf_counter()
    audit_report(content, out)
    assert time.perf_counter() - start < 10
    assert out.stat().st_size < 5_000_000
    pages = reading.pages(out)
    for row in content.decisions:
        line = f"{row.ledger_index} {row.occurred_at:%Y-%m-%d %H:%M:%S} {row.station}, {row.station_seq}"
        holding = [page for page in pages if line in page]
        assert len(holding) == 1
        assert "Index Occurred Station, no." in holding[0]
        assert row.id[-8:] in holding[0]
    for number, page in enumerate(pages, start=1):
        assert f"Page {number} of {len(pages)}" in page
    assert reading.outside(out, MARGIN) == []


def test_a_thousand_entries_of_which_none_can_be_read_take_seconds(out):
    lost = tuple(Unreadable(ledger_index=k) for k in range(1000))
    start = time.perf_counter()
    text = written(samples.audit(20, decisions=lost, failed=lost[:3]), out)
    assert time.perf_counter() - start < 10
    assert text.count("This entry is gone, was altered, or is no inspection") == 1003
    assert reading.outside(out, MARGIN) == []


def test_a_shortened_table_says_so(out):
    content = samples.audit()
    assert "100 of 120 inspections are listed." in written(replace(content, decisions=content.decisions[:100]), out)


def test_the_model_has_a_column_only_where_there_are_several(out):
    content = samples.audit(60)
    assert "Serial, lot Model Verdict" in written(content, out)
    single = tuple(replace(row, model="castings@3") for row in content.decisions)
    assert "Serial, lot Verdict" in written(replace(content, decisions=single), out)


@pytest.mark.parametrize("character", ["W", "件", "&"])
def test_the_longest_texts_stay_inside_the_page(character, out):
    name, note = character * 200, character * 2000
    row = replace(samples.audit().errors[0].row, serial=name, lot=name, station=name, model=name, defect_type=name)
    content = samples.audit(
        20,
        title=name,
        scope=Scope(station=name, model=name, product=name, lot=name),
        decisions=(row, *samples.rows(5)),
        errors=(VerifiedError(row=row, image=None, overlay=None, reviewer=name, note=note),),
        failed=(
            FailedInspection(
                id=row.id,
                ledger_index=7,
                occurred_at=row.occurred_at,
                station=name,
                serial=name,
                failure=Failure(code=name, sentence=note),
            ),
        ),
        models=(samples.model(name=name, architecture=note, approved=None),),
        issue=samples.issue(produced_for=name, generated_by=name),
    )
    audit_report(content, out)
    assert reading.outside(out, MARGIN) == []


def test_foreign_text_is_never_markup(out):
    hostile = "<b>&amp;</b> a<&>b"
    row = replace(samples.audit().errors[0].row, serial=hostile, lot=hostile, station=hostile, defect_type=hostile)
    content = samples.audit(
        20,
        title=hostile,
        scope=Scope(station=hostile, lot=hostile),
        decisions=(row,),
        errors=(VerifiedError(row=row, image=None, overlay=None, reviewer=hostile, note=hostile),),
        models=(samples.model(name=hostile, approved=None),),
    )
    assert written(content, out).count("a<&>b") >= 10
    assert reading.metadata(out)["Title"] == hostile


def test_many_periods_keep_the_chart_on_the_page(out):
    content = samples.audit(60)
    empty = [Counts(label=f"lot {k}") for k in range(199)]
    periods = (*empty, replace(content.counts, label="lot 199"))
    text = written(replace(content, periods=periods, period_name="lot"), out)
    assert "Inspections by lot" in text
    assert reading.outside(out, MARGIN) == []


def test_equal_content_gives_equal_bytes(out, tmp_path):
    assert audit_report(samples.audit(40), out) == audit_report(samples.audit(40), tmp_path / "again.pdf")


def test_the_outline_leads_to_every_section(out):
    audit_report(samples.audit(), out)
    pages = reading.pages(out)
    entries = reading.outline(out)
    assert [title for level, title, _ in entries if level == 0] == [
        "Scope",
        "Error rates",
        "Verdicts against verified truth",
        "Inspections by day",
        "Completeness",
        "Model versions in use",
        "Verified errors",
        "Failed inspections",
        "Decisions",
        "Ledger",
        "What this report does not show",
    ]
    assert all(title in pages[page] for _, title, page in entries)


def test_content_that_contradicts_itself_is_refused():
    content = samples.audit(40)
    with pytest.raises(InputError, match="the counts say"):
        replace(content, counts=replace(content.counts, passed=content.counts.passed + 1))
    with pytest.raises(InputError, match="do not add up"):
        replace(content, periods=(*content.periods[:-1], Counts(label="x", passed=10_000)))
    with pytest.raises(InputError, match="simulated"):
        replace(content, simulated=content.reviewed + 1)
    right = next(row for row in content.decisions if row.error is None)
    with pytest.raises(InputError, match="no verified error"):
        VerifiedError(row=right, image=None, overlay=None, reviewer="r")
    with pytest.raises(InputError, match="time zone"):
        samples.issue(generated_at=datetime(2026, 1, 1))  # noqa: DTZ001 - the very mistake
