"""`traceai review`: ground truth."""

from typing import Annotated

import typer

from traceai.cli.filters import StationOption
from traceai.cli.terminal import (
    ActorOption,
    JsonOption,
    actor_or_operator,
    console,
    moment,
    opened,
    print_json,
    table,
    verdict_text,
)  # fmt: skip
from traceai.inspection import history
from traceai.review import verdicts

app = typer.Typer(no_args_is_help=True)


@app.command()
def queue(
    station: StationOption = None,
    limit: Annotated[int, typer.Option(min=1, max=history.LARGEST_PAGE, help="How many, oldest first.")] = 20,
    json: JsonOption = False,
) -> None:
    """Show the decisions that were drawn for verification and still wait for it."""
    with opened() as trace, trace.database.session() as session:
        rows = verdicts.queue(session, station=station, limit=limit)
    if json:
        # The verdict is left out on purpose: who verifies blind must not see it.
        print_json(
            [
                {
                    "id": str(row.id),
                    "index": row.journal_index,
                    "station": row.station,
                    "occurred_at": row.occurred_at,
                    "serial": row.serial,
                    "lot": row.lot,
                }
                for row in rows
            ]
        )
        return
    if not rows:
        console.print("Nothing found: no decision waits for verification.")
        return
    shown = table(
        ">index", "id", "when (UTC)", "station", "serial", "lot", spare=("lot", "station", "when (UTC)", "serial")
    )
    for row in rows:
        shown.add_row(
            str(row.journal_index), str(row.id), moment(row.occurred_at), row.station, row.serial or "", row.lot or ""
        )
    console.print(shown)
    console.print("Next: traceai review add ID --truth good|defective [--type T]", style="dim", markup=False)


@app.command()
def add(
    reference: Annotated[str, typer.Argument(metavar="ID", help="The decision's id, or its ledger index.")],
    truth: Annotated[str, typer.Option(help="good or defective.")],
    defect_type: Annotated[str | None, typer.Option("--type", help="What kind of defect.")] = None,
    note: Annotated[str, typer.Option(help="Anything that an auditor should read.")] = "",
    actor: ActorOption = None,
) -> None:
    """Say what a part was found to be. Reviews are never edited: add another to correct one."""
    with opened() as trace, trace.database.session() as session:
        row = history.find(session, reference)
        receipt = verdicts.add(
            session, row, truth=truth, reviewer=actor_or_operator(actor), defect_type=defect_type, note=note
        )
    console.print("The part was found ", truth, ", the model said ", verdict_text(row.verdict), ".", sep="")
    console.print(f"Recorded at ledger index {receipt.index}.")
