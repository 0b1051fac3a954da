"""`traceai rates`: how often the inspection is wrong, with intervals and the counts behind them."""

from dataclasses import asdict
from typing import Annotated, Any

import typer
from rich.text import Text

from traceai.cli.filters import FromOption, LotOption, ModelOption, ProductOption, StationOption, ToOption, filter_of
from traceai.cli.terminal import JsonOption, console, opened, print_json, table
from traceai.review import rates as review_rates
from traceai.review.rates import RatesReport
from traceai.stats.proportions import Proportion, describe

NAMES = {
    "false_negative_rate": ("false negatives", "defective parts that were passed"),
    "false_positive_rate": ("false positives", "good parts that were rejected"),
    "escape_rate": ("escapes", "passed parts that are defective"),
    "overkill_rate": ("overkill", "rejected parts that are good"),
    "defect_prevalence": ("defective", "defective parts among those decided"),
    "undecided_share": ("undecided", "decisions left to a person"),
}


def rates(
    since: FromOption = None,
    until: ToOption = None,
    model: ModelOption = None,
    station: StationOption = None,
    lot: LotOption = None,
    product: ProductOption = None,
    by: Annotated[str | None, typer.Option(help=f"One table each: {', '.join(review_rates.GROUPS)}.")] = None,
    confidence: Annotated[float, typer.Option(help="Coverage of the intervals.")] = 0.95,
    json: JsonOption = False,
) -> None:
    """Estimate false-positive and false-negative rates from the parts that were verified blind."""
    wanted = filter_of(None, lot, product, station, model, None, since, until)
    with opened() as trace, trace.database.session() as session:
        reports = review_rates.rates(session, wanted, by=by, confidence=confidence)
    if json:
        print_json([as_json(report) for report in reports])
        return
    for report in reports:
        print_report(report)


def as_json(report: RatesReport) -> dict[str, Any]:
    return {**asdict(report), "rates": {name: asdict(getattr(report.rates, name)) for name in NAMES} | {
        "passed": asdict(report.rates.passed),
        "rejected": asdict(report.rates.rejected),
        "undecided": asdict(report.rates.undecided),
        "caveats": list(report.rates.caveats),
        "confidence": report.rates.confidence,
    }}  # fmt: skip


def print_report(report: RatesReport) -> None:
    """The counts, then each rate with its interval, then what has to be said beside them."""
    if report.group is not None:
        console.print(Text(report.group, style="bold"))
    counts = table("verdict", ">decisions", ">verified", ">found good", ">found defective")
    for tally in (report.rates.passed, report.rates.rejected, report.rates.undecided):
        counts.add_row(
            tally.verdict,
            str(tally.decisions),
            str(tally.verified),
            str(tally.verified_good),
            str(tally.verified_defective),
        )
    if report.failed:
        counts.add_row("failed", str(report.failed), "", "", "")
    console.print(counts)
    console.print()
    shown = table("rate", "~meaning", "~estimate", spare=("meaning",))
    for name, (label, meaning) in NAMES.items():
        value: Proportion = getattr(report.rates, name)
        shown.add_row(
            label, Text(meaning, style="dim"), Text(describe(value), style="" if value.estimable else "yellow")
        )
    console.print(shown)
    for agreement in report.types:
        console.print(
            f"type {agreement.defect_type}: named by the model for {agreement.agreed} of {agreement.reviewed} reviewed parts",
            markup=False,
        )
    for caveat in report.rates.caveats:
        console.print(f"Note: {caveat}", style="yellow", markup=False)
    if report.simulated:
        console.print(
            f"SIMULATED: {report.simulated} of {report.reviewed} reviews come from a simulated reviewer, not from a person.",
            style="bold",
        )
    console.print()
