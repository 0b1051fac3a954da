"""`traceai station gaps` and `traceai station explain-gap`: what is missing of the record, and why."""

import re
from collections.abc import Iterable
from typing import Annotated, Any

import typer
from rich.text import Text

from traceai.cli.filters import FromOption, StationOption, ToOption
from traceai.cli.terminal import (
    JsonOption,
    actor_or_operator,
    console,
    moment,
    opened,
    parse_moment,
    print_facts,
    print_json,
)
from traceai.clock import parse_timestamp
from traceai.errors import InputError, StationNotFoundError
from traceai.inspection import completeness as record
from traceai.inspection.completeness import Completeness, Period
from traceai.inspection.explaining import declare
from traceai.ledger.printing import shown
from traceai.ledger.records import Gap
from traceai.ledger.verification.facts import Outages

_TRIGGERS = re.compile(r"([0-9]{1,16})(?:-([0-9]{1,16}))?", re.ASCII)


def gaps(
    station: StationOption = None, since: FromOption = None, until: ToOption = None, json: JsonOption = False
) -> None:
    """Show what is missing of each station's record: numbers, triggers of the camera, outages."""
    period = Period(parse_moment(since, "--from"), parse_moment(until, "--to"))
    with opened() as trace, trace.database.moment() as session:
        names = record.stations(session)
        if station is not None:
            if station not in names:
                raise StationNotFoundError(
                    f"There is no station {station}; `traceai station list` shows those there are."
                )
            names = [station]
        found = [record.completeness(session, name, period) for name in names]
        told = {one.station: [(j.index, gap) for j, gap in record.entries(session, one.outages)] for one in found}
    if json:
        print_json([described(one, told[one.station]) for one in found])
        return
    if not found:
        console.print("Nothing found: there is no station.")
    for one in found:
        _print(one, told[one.station])
        console.print()


def explain_gap(
    station: str,
    cause: Annotated[str, typer.Option(help="Why, in a sentence; an auditor will read it.")],
    triggers: Annotated[
        str | None, typer.Option(metavar="FIRST[-LAST]", help="The counts that have no decision, such as 1041-1043.")
    ] = None,
    since: Annotated[
        str | None, typer.Option("--from", help="When it began. Default: the decision before the triggers.")
    ] = None,
    until: Annotated[str | None, typer.Option(help="When it ended. Default: the decision after them.")] = None,
    lost: Annotated[
        int, typer.Option(min=0, max=2**53 - 1, help="Parts that came and of which nothing is recorded.")
    ] = 0,
    actor: Annotated[
        str | None, typer.Option("--actor", "--as", help="Who says so. Default: your system user name.")
    ] = None,
) -> None:
    """Enter in the ledger why triggers have no decision. It cannot be taken back."""
    counts = None if triggers is None else parse_triggers(triggers)
    began_at, ended_at = parse_moment(since, "--from"), parse_moment(until, "--until")
    with opened() as trace, trace.database.session() as session:
        receipt = declare(
            session,
            station,
            counts,
            cause=cause,
            actor=actor_or_operator(actor),
            began_at=began_at,
            ended_at=ended_at,
            lost=lost,
        )
    console.print(f"Entered in the ledger at index {receipt.index}.")


def parse_triggers(text: str) -> tuple[int, int]:
    """Raises:
    InputError: no range of counts.
    """
    match = _TRIGGERS.fullmatch(text)
    first, last = (int(match[1]), int(match[2] or match[1])) if match else (1, 0)
    if not first <= last < 2**53:
        raise InputError(
            f"The triggers {text!r:.60} are no range of counts; write them as 1041-1043, or one alone as 1041."
        )
    return first, last


def told_outage(gap: Gap) -> str:
    """One outage as a sentence, safe to print."""
    what = []
    if gap.delayed:
        what.append(f"{gap.delayed} {'decision was' if gap.delayed == 1 else 'decisions were'} recorded late")
    if gap.lost:
        what.append(f"of {gap.lost} {'attempt' if gap.lost == 1 else 'attempts'} nothing was recorded")
    if gap.first_trigger is not None and gap.last_trigger is not None:
        what.append(f"{_counts(gap.first_trigger, gap.last_trigger)} no decision")
    began_at, ended_at = (moment(parse_timestamp(at)) for at in (gap.began_at, gap.ended_at))
    told = ", ".join(what) or "nothing is known to be missing"
    cause = gap.cause.strip().rstrip(".") or "no cause was given"
    return shown(f"{gap.station}, from {began_at} to {ended_at} UTC: {told}. {cause} ({gap.cause_code}).")


def print_outages(outages: Outages) -> None:
    """The newest outages on record, which are no failure, and how many there are besides."""
    for _, gap in outages.newest:
        console.print(told_outage(gap), soft_wrap=True)
    if outages.count > len(outages.newest):
        more = outages.count - len(outages.newest)
        console.print(
            f"And {more} earlier {'outage' if more == 1 else 'outages'}; see `traceai station gaps`.", style="dim"
        )


def outage(index: int, gap: Gap) -> dict[str, Any]:
    """One outage as JSON: the record, and where the ledger holds it."""
    return {"index": index, **gap.model_dump(mode="json", exclude={"salt"})}


def described(found: Completeness, outages: Iterable[tuple[int, Gap]]) -> dict[str, Any]:
    """The completeness of a station as JSON."""
    return {
        "station": found.station,
        "complete": found.holds,
        "decisions": found.decisions,
        "first_number": found.first_number,
        "last_number": found.last_number,
        "with_trigger": found.counted,
        "breaks": {"found": found.breaks_found, "newest": [vars(one) for one in found.breaks]},
        "missing_triggers": {
            "found": found.missing_found,
            "triggers": found.missing_triggers,
            "newest": [vars(one) for one in found.missing],
        },
        "explained_triggers": {
            "found": found.explained_found,
            "newest": [{"first": one.first, "last": one.last, "index": one.entry} for one in found.explained],
        },
        "restarts": {
            "found": found.restarts_found,
            "newest": [{"index": one.entry, "came_from": one.came_from, "to": one.to} for one in found.restarts],
        },
        "outages": {
            "found": found.outages_found,
            "delayed": found.delayed,
            "lost": found.lost,
            "newest": [outage(*one) for one in outages],
        },
    }


def _counts(first: int, last: int) -> str:
    return f"trigger {first} has" if first == last else f"triggers {first} to {last} have"


def _print(found: Completeness, outages: list[tuple[int, Gap]]) -> None:
    print_facts({"decisions": _numbers(found), "triggers": _triggers(found), "outages": _outages(found)}, found.station)
    for broken in found.breaks:
        console.print(
            f"After number {broken.before} comes {broken.number}, at ledger index {broken.index}.", style="red"
        )
    for hole in found.missing:
        before, after = (moment(at) if at else "a time that cannot be read" for at in (hole.before, hole.after))
        where = f"between {before} and {after} UTC, noticed at ledger index {hole.noticed}"
        console.print(
            f"{_counts(hole.first, hole.last).capitalize()} no decision: {where}.", style="red", soft_wrap=True
        )
    for one in found.explained:
        console.print(
            f"{_counts(one.first, one.last).capitalize()} no decision; entry {one.entry} says why.", soft_wrap=True
        )
    for restart in found.restarts:
        console.print(
            f"The camera's counter began anew: from {restart.came_from} to {restart.to}, at ledger index {restart.entry}.",
            soft_wrap=True,
        )
    for _, gap in outages:
        console.print(told_outage(gap), soft_wrap=True)
    for kind, listed, all_of in (
        ("breaks of the numbering", found.breaks, found.breaks_found),
        ("ranges of missing triggers", found.missing, found.missing_found),
        ("ranges of explained triggers", found.explained, found.explained_found),
        ("restarts of the counter", found.restarts, found.restarts_found),
        ("outages", outages, found.outages_found),
    ):
        if all_of > len(listed):
            console.print(f"Shown are the newest {len(listed)} of {all_of} {kind}.", style="dim")


def _numbers(found: Completeness) -> str | Text:
    if not found.decisions:
        return "none"
    numbered = f"{found.decisions}, numbered from {found.first_number} to {found.last_number}"
    if found.breaks_found:
        return Text(f"{numbered}, NOT without a gap", style="bold red")
    return f"{numbered} without a gap"


def _triggers(found: Completeness) -> str | Text:
    if found.missing_found:
        return Text(f"{found.missing_triggers} MISSING, with no entry that says why", style="bold red")
    if not found.counted:
        return "not recorded: a part that was never inspected cannot be told from one that never came"
    return "every one has its decision" + (", or an entry that says why not" if found.explained_found else "")


def _outages(found: Completeness) -> str:
    if not found.outages_found:
        return "none on record"
    told = f"{found.delayed} decisions recorded late, {found.lost} attempts lost"
    return f"{found.outages_found}, or gaps that somebody accounts for; {told}"
