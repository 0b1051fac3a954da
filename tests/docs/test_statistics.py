"""docs/statistics.md says what traceai.stats does: its example, its formulas, its reasons."""

import math
import re

import pytest

from tests.docs.markdown import code, printed, programs, read, sections
from traceai.review.rates import RatesReport
from traceai.stats import Cell, Rates, describe, estimate_rates, zero_failure_n
from traceai.stats.proportions import two_sided_z, wilson_limits
from traceai.stats.rates import MAX_UNREPRESENTED

TEXT = read("statistics.md")
# Without line breaks, for sentences that may be wrapped anywhere.
FLAT = " ".join(TEXT.split())
SECTIONS = sections(TEXT)
EXAMPLE = SECTIONS["Worked example"]
SHARES = ("false_negative_rate", "false_positive_rate", "escape_rate", "overkill_rate", "defect_prevalence")


def cell(verdict: str, decisions: int, good: int, defective: int, probability: float = 0.1) -> Cell:
    return Cell(
        verdict=verdict,
        probability=probability,
        decisions=decisions,
        verified_good=good,
        verified_defective=defective,
    )


def test_the_program_prints_what_stands_below_it() -> None:
    ((program, output),) = programs(TEXT)
    assert printed(program) == output


def test_the_table_and_the_sentences_are_those_of_the_program() -> None:
    rows = [(row[0], *(int(value) for value in row[1:])) for row in EXAMPLE.rows()]
    program = code(TEXT, "python")[0]
    for verdict, decisions, verified, good, defective in rows:
        assert verified == good + defective
        assert f'"{verdict}", ' in program
        assert f"decisions={decisions}, verified_good={good}, verified_defective={defective}" in program
    (_, decisions, verified, _, missed), (_, _, _, _, caught), _ = rows
    expanded = decisions * missed / verified
    assert f"{decisions} * {missed} / {verified} = {expanded:.0f}" in FLAT
    share = expanded / (expanded + caught)
    assert f"{expanded:.0f} / ({expanded:.0f} + {caught}), or {100 * share:.1f} %" in FLAT
    naive = missed / (missed + caught)
    assert f"{missed} / {missed + caught}, or {100 * naive:.1f} %" in FLAT
    assert f"gives {100 * naive:.1f} %, and the estimate is {100 * share:.1f} %" in FLAT
    assert f"{zero_failure_n(0.01)} verified passes" in FLAT


def test_every_rate_is_defined_and_no_other() -> None:
    assert [row[0].strip("`") for row in SECTIONS["Definitions"].rows()] == [
        name for name, kind in Rates.__annotations__.items() if kind.__name__ == "Proportion"
    ]
    assert "simulated" in RatesReport.__dataclass_fields__


def test_the_reasons_are_those_that_are_given() -> None:
    shown = {re.findall(r"`([^`]+)`", row[0])[0] for row in SECTIONS["Not estimable"].rows()}
    cases = [
        ([cell("reject", 10, 3, 7)], "escape_rate"),
        ([], "defect_prevalence"),
        ([cell("pass", 90, 0, 0), cell("reject", 10, 3, 7)], "false_negative_rate"),
        ([cell("pass", 20, 18, 2, 1), cell("pass", 980, 0, 0, 0.5), cell("reject", 10, 3, 7)], "escape_rate"),
        ([cell("pass", 90, 9, 0), cell("reject", 10, 3, 0)], "false_negative_rate"),
        ([], "undecided_share"),
    ]
    given = {getattr(estimate_rates(cells), name).reason for cells, name in cases}
    assert {re.sub(r"\b[NK]\b", "0", reason) for reason in shown} == {re.sub(r"\d+", "0", reason) for reason in given}
    assert f"more than {100 * MAX_UNREPRESENTED:.0f} % of a verdict's" in FLAT


# --- the formulas, written once more from the page -------------------------------------------------------------------------

STRATA = {"pass": [(3000, 150, 3), (500, 400, 20)], "reject": [(300, 120, 90), (100, 100, 95)]}
CELLS = [
    cell(verdict, size, n - x, x, probability=0.1 + number / 2)
    for verdict, strata in STRATA.items()
    for number, (size, n, x) in enumerate(strata)
]


def wilson(p: float, n: float) -> tuple[float, float]:
    z = two_sided_z(0.95)
    centre = (p + z**2 / (2 * n)) / (1 + z**2 / n)
    half = z * math.sqrt(p * (1 - p) / n + z**2 / (4 * n**2)) / (1 + z**2 / n)
    return centre - half, centre + half


def stratified(strata: list[tuple[int, int, int]]) -> tuple[float, float, float]:
    total = sum(size for size, _, _ in strata)
    p = sum(size * x / n for size, n, x in strata) / total
    down = math.sqrt(sum((size * (x / n - wilson(x / n, n)[0])) ** 2 for size, n, x in strata)) / total
    up = math.sqrt(sum((size * (wilson(x / n, n)[1] - x / n)) ** 2 for size, n, x in strata)) / total
    return p, p - down, p + up


def logit(p: float) -> float:
    return math.log(p / (1 - p))


def test_wilson_is_the_formula_of_the_page() -> None:
    assert wilson(4 / 250, 250) == pytest.approx(wilson_limits(4 / 250, 250, 0.95))


def test_a_stratified_share_is_the_formula_of_the_page() -> None:
    found = estimate_rates(CELLS).escape_rate
    assert (found.estimate, found.low, found.high) == pytest.approx(stratified(STRATA["pass"]))


def test_the_false_negative_rate_is_the_formula_of_the_page() -> None:
    (a, a_low, a_high), (b, b_low, b_high) = stratified(STRATA["pass"]), stratified(STRATA["reject"])
    size_a, size_b = (sum(size for size, _, _ in STRATA[verdict]) for verdict in ("pass", "reject"))
    s = size_a / (size_a + size_b)
    s_low, s_high = wilson(s, size_a + size_b)
    odds = math.log(size_a * a / (size_b * b))
    down = math.hypot(logit(s) - logit(s_low), math.log(a / a_low), math.log(b_high / b))
    up = math.hypot(logit(s_high) - logit(s), math.log(a_high / a), math.log(b / b_low))
    expected = [1 / (1 + math.exp(-value)) for value in (odds, odds - down, odds + up)]
    found = estimate_rates(CELLS).false_negative_rate
    assert [found.estimate, found.low, found.high] == pytest.approx(expected)


def test_without_a_miss_the_upper_limit_is_the_formula_of_the_page() -> None:
    found = estimate_rates([cell("pass", 5000, 100, 0), cell("reject", 50, 10, 40, 1)]).false_negative_rate
    b, b_low = 0.8, wilson(0.8, 50)[0]
    a_high = wilson(0, 100)[1]
    odds = 5000 / 50 * a_high / (1 - a_high) / math.sqrt(b_low * (2 * b - b_low))
    assert (found.estimate, found.low, found.high) == pytest.approx((0, 0, odds / (1 + odds)))


@pytest.mark.parametrize("unverified", [0, 150])
def test_the_prevalence_is_the_formula_of_the_page(unverified: int) -> None:
    """Also with passed parts in a stratum without a verified part: they count in N_pass and not in p_pass."""
    (p, p_low, p_high), (r, r_low, r_high) = stratified(STRATA["pass"]), stratified(STRATA["reject"])
    passed, rejected = 3500 + unverified, 400
    s = passed / (passed + rejected)
    s_low, s_high = wilson(s, passed + rejected)
    prevalence = (passed * p + rejected * r) / (passed + rejected)
    down = math.sqrt((s * (p - p_low)) ** 2 + ((1 - s) * (r - r_low)) ** 2 + ((r - p) * (s_high - s)) ** 2)
    up = math.sqrt((s * (p_high - p)) ** 2 + ((1 - s) * (r_high - r)) ** 2 + ((r - p) * (s - s_low)) ** 2)
    found = estimate_rates([*CELLS, cell("pass", unverified, 0, 0, 0.01)]).defect_prevalence
    assert (found.estimate, found.low, found.high) == pytest.approx((prevalence, prevalence - down, prevalence + up))


def test_no_rate_is_a_bare_number() -> None:
    rates = estimate_rates([cell("pass", 5000, 100, 0), cell("reject", 50, 0, 40, 1)])
    for name in SHARES:
        assert "interval" in describe(getattr(rates, name))
        assert getattr(rates, name).low < getattr(rates, name).high


def test_the_simulated_configurations_are_those_described() -> None:
    from tests.stats.test_rates import CONFIGURATIONS, LOPSIDED

    lines = [configuration.values[0] for configuration in CONFIGURATIONS]
    assert len(lines) == 6
    sizes, rejected, escapes, _, *audits = zip(*lines, strict=True)
    described = FLAT
    assert f"{min(sizes)} to {max(sizes):,} decisions" in described
    assert f"{100 * min(rejected):.0f} to {100 * max(rejected):.0f} % of them rejected" in described
    assert f"{100 * min(escapes):.0f} to {100 * max(escapes):.0f} % of the passed parts defective" in described
    assert f"audit probabilities from {min(map(min, audits)):g} to {max(map(max, audits)):g}." in described
    lines = [configuration.values[0] for configuration in LOPSIDED]
    assert len(lines) == 5
    rarer = [size * min(rejected, 1 - rejected) for size, rejected, *_ in lines]
    sizes = [size for size, *_ in lines]
    assert f"{min(sizes)} to {max(sizes):,} decisions, of which {min(rarer):.0f} to {max(rarer):.0f} are" in described


def test_the_coverage_of_a_surprise_is_that_of_wilsons_interval() -> None:
    """Just below the lower limit of one event in n parts, the truth is covered as often as no event is found."""
    many, one = wilson(1 / 10**6, 10**6)[0], wilson(1, 1)[0]
    assert f"at {10**6 * many:.2f} expected events" in FLAT
    assert f"covered in {100 * (1 - many) ** 10**6:.0f} % of the cases, and in {100 * (1 - one):.0f} % where" in FLAT
    from tests.stats.test_rates import SURPRISE

    size, rejected, _, hit, _, audit = SURPRISE
    assert (
        f"at which {size * rejected * (1 - hit) * audit:.2f} good parts are expected among the verified rejected"
        in FLAT
    )


def test_the_example_of_a_zero_is_what_is_estimated() -> None:
    """One part rejected, rightly, and 299 passed: half of these verified, and all."""
    half, census = (
        estimate_rates([cell("pass", 299, n, 0), cell("reject", 1, 0, 1, 1)]).false_positive_rate for n in (150, 299)
    )
    assert f"upper limit of the false-positive rate is {100 * census.high:.3f} %" in FLAT
    assert f"and {100 * half.high:.3f} % with 150 of the passes verified" in FLAT
