"""What every command shares: how it speaks, how it fails, and how it finds its ledger."""

import json
import sys
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.text import Text

from traceai.cli.screen import Listing, Screen, fact_lines
from traceai.errors import InputError

if TYPE_CHECKING:
    from traceai.sdk import Trace

# No markup: a serial number may hold any bracket, and nothing recorded may style or break what a terminal shows.
console = Screen(highlight=False, markup=False)
errors = Screen(stderr=True, highlight=False, markup=False)

JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")]
ActorOption = Annotated[str | None, typer.Option("--as", help="Who does this. Default: your system user name.")]

# Blue and orange differ for every kind of colour vision; the word always stands beside the colour.
VERDICT_STYLE = {"pass": "blue", "reject": "bold orange3", "undecided": "yellow", "failed": "bold red"}


@contextmanager
def opened() -> Iterator["Trace"]:
    """The ledger that the environment names."""
    from traceai.sdk import connect  # noqa: PLC0415  # `traceai --help` needs no database driver

    with connect() as trace:
        yield trace


def actor_or_operator(actor: str | None) -> str:
    from traceai.sdk import operator  # noqa: PLC0415

    return actor or operator()


def print_json(value: Any) -> None:
    text = json.dumps(value, indent=2, ensure_ascii=False, default=json_default)
    try:
        text.encode(sys.stdout.encoding or "ascii")
    except UnicodeEncodeError:  # JSON has escapes of its own, which are no others'
        text = json.dumps(value, indent=2, default=json_default)
    sys.stdout.write(text + "\n")


def json_default(value: Any) -> Any:
    """What JSON has no form of, as text: bytes in hex, times in ISO 8601."""
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, datetime):
        return value.isoformat()
    return str(value)


def table(*columns: str, title: str | None = None, spare: Collection[str] = ()) -> Listing:
    """A `Listing`; add rows, then print it."""
    return Listing(columns, title, spare)


def print_facts(facts: Mapping[str, Any], title: str | None = None) -> None:
    """Label and value, one a line. Values are data, never markup."""
    if title is not None:
        console.print(Text(title, style="bold"))
    shown = {
        label: value if isinstance(value, Text) else Text("-" if value is None else str(value))
        for label, value in facts.items()
    }
    for line in fact_lines(console, shown):
        console.print(line, soft_wrap=True)


def verdict_text(verdict: str | None) -> Text:
    shown = verdict or "failed"
    return Text(shown.upper(), style=VERDICT_STYLE[shown])


def moment(value: datetime) -> str:
    return value.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S")


def parse_moment(text: str | None, option: str) -> datetime | None:
    """A date or a time of the command line; without a zone it is UTC.

    Raises:
        InputError: neither.
    """
    if text is None:
        return None
    try:
        parsed = datetime.fromisoformat(text)
    except ValueError as error:
        raise InputError(f"{option} {text!r} is no date; write it as 2026-01-31 or 2026-01-31T06:00:00Z.") from error
    return parsed if parsed.tzinfo else parsed.replace(tzinfo=UTC)


@contextmanager
def progress(label: str, *, unit: str = "") -> Iterator[Any]:
    """A progress bar on stderr; yields `advance(done, total, note="")`."""
    bar = Progress(
        TextColumn(f"{label:<12}"),
        BarColumn(bar_width=32),
        MofNCompleteColumn(),
        TextColumn(unit),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}"),
        console=errors,
        transient=not errors.is_terminal,
    )
    with bar:
        task = bar.add_task(label, total=None, note="")

        def advance(done: int, total: int, note: str = "") -> None:
            bar.update(task, completed=done, total=total, note=note)

        yield advance
