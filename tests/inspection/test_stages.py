"""Where the time goes: quantiles that hold, memory that does not grow, and what is shown of it."""

import statistics
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import select

from traceai.db.tables import StageLatency
from traceai.inspection import stages
from traceai.inspection.stages import STAGES, Histogram
from traceai.sdk import Trace


@given(st.lists(st.integers(0, 10**9), min_size=1, max_size=300), st.sampled_from([0.5, 0.95, 0.99]))
def test_a_quantile_is_that_of_the_durations_to_five_per_cent(durations: list[int], share: float) -> None:
    histogram = Histogram()
    for duration in durations:
        histogram.add(duration)
    exact = sorted(durations)[max(0, -(-len(durations) * int(share * 100) // 100) - 1)]
    assert exact * 0.99 - 1 <= histogram.quantile(share) <= exact * 1.06 + 1
    assert histogram.quantile(1) == max(durations)
    assert histogram.count == len(durations)


def test_nothing_noted_has_no_quantile() -> None:
    assert Histogram().quantile(0.5) == 0


def test_a_million_durations_take_no_more_memory_than_a_thousand() -> None:
    histogram = Histogram()
    for number in range(100_000):
        histogram.add(number % 5000)
    assert len(histogram._buckets) < 200
    assert histogram.quantile(0.5) == pytest.approx(statistics.median(range(5000)), rel=0.06)


def test_every_inspection_is_in_every_stage_and_a_failed_one_was_never_judged(
    trace: Trace, tiny: str, images: list[Path], tmp_path: Path
) -> None:
    trace.add_station("press-4")
    trace.add_station("press-5")
    broken = tmp_path / "broken.png"
    broken.write_bytes(b"nothing")
    list(trace.inspector(tiny, "press-4").inspect_many([*images, broken]))
    trace.inspector(tiny, "press-5").inspect(images[0])
    trace.recorder.close()
    with trace.database.session() as session:
        rows = session.execute(select(StageLatency).where(StageLatency.station == "press-4")).scalars().all()
        found = stages.budgets(session)
        only = stages.budgets(session, "press-5")
    assert {row.stage: row.count for row in rows} == {"read": 13, "wait": 12, "judge": 12, "record": 13, "total": 13}
    assert all(0 < row.p50_us <= row.p95_us <= row.p99_us <= row.max_us for row in rows if row.stage != "wait")
    assert [(budget.station, budget.stage) for budget in found] == [
        (station, stage) for station in ("press-4", "press-5") for stage in STAGES
    ]
    assert {budget.station for budget in only} == {"press-5"}
    by_stage = {budget.stage: budget for budget in found if budget.station == "press-4"}
    assert by_stage["total"].share == 1
    assert by_stage["judge"].p50_us <= by_stage["total"].p50_us
