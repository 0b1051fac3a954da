"""The section on completeness: whether all that happened is on record, in words and three tables."""

from collections.abc import Sequence
from datetime import UTC, datetime

from reportlab.lib.styles import ParagraphStyle
from reportlab.platypus import CondPageBreak, Flowable, KeepTogether, Paragraph, Spacer

from traceai_reports.blocks import bullets, callout, grid, prose
from traceai_reports.document import CONTENT_WIDTH, Heading, moment, section
from traceai_reports.provenance import alert
from traceai_reports.station import Completeness, Outage, StationRecord, Unquoted
from traceai_reports.typography import ALERT_PANEL, CELL, NOTE, SMALL, SMALL_RIGHT, markup

_FEW = 15
_NO_COUNTER = (
    "the camera's counter was not recorded, so a part that was never inspected cannot be told from one that never came"
)


def missing_at_a_glance(found: Completeness) -> list[Flowable]:
    """What of the record is missing, for the first page; nothing where nothing is."""
    lines = []
    for station in found.stations:
        name = markup(station.station)
        if station.missing_found:
            have = "trigger of the camera has" if station.missing_triggers == 1 else "triggers of the camera have"
            lines.append(f"{name}: {station.missing_triggers:,} {have} no decision, and no entry says why.")
        if station.breaks_found:
            lines.append(f"{name}: the numbers of its decisions have a gap.")
    if not lines:
        return []
    shown, more = lines[:5], len(lines) - 5
    if more > 0:
        shown.append(f"And {more:,} more.")
    body = " ".join([*shown, "The section on completeness says where."])
    return [callout("Decisions are missing", body, alert=True)]


def completeness(found: Completeness) -> list[Flowable]:
    if not found.stations:
        return [*section("Completeness"), prose(_lead(found))]
    opening: list[Flowable] = [
        Heading("Completeness"),
        prose(_lead(found)),
        prose(" ".join(_verdicts(found.stations))),
        _overview(found.stations),
        Spacer(0, 4),
        prose(*_reading(found.stations), style=NOTE),
    ]
    # A table of a few lines is not torn apart; one of many breaks where the page ends.
    few = len(found.stations) <= _FEW
    return [
        *([KeepTogether(opening)] if few else [CondPageBreak(150), *opening]),
        *_breaks(found.stations),
        *_missing(found.stations),
        *_outages(found.stations),
    ]


def _lead(found: Completeness) -> str:
    if not found.stations:
        return "No station is in scope."
    ends = ""
    if found.since:
        ends += f" from {moment(found.since)}"
    if found.until:
        ends += f" until {moment(found.until)}"
    lead = "Whether everything that happened is on record, station by station."
    if found.narrowed:
        lead += (
            f" This section covers all that these stations recorded{ends}, whatever the part: a trigger or an outage "
            "belongs to no lot."
        )
    return lead


def _verdicts(stations: Sequence[StationRecord]) -> list[str]:
    """What the tables come to."""
    outages = sum(station.outages_found for station in stations)
    counted = [station for station in stations if station.with_trigger or station.missing_found or station.explained]
    uncounted = [station for station in stations if station not in counted and station.decisions]
    missing = sum(station.missing_triggers for station in stations)
    said = []
    if missing:
        said.append(
            alert(f"{missing:,} {'trigger has' if missing == 1 else 'triggers have'} no decision and no explanation.")
        )
    if not outages:
        said.append(
            "No outage is on record and no trigger is missing."
            if counted and not missing
            else "No outage is on record."
        )
    else:
        late, lost = sum(station.delayed for station in stations), sum(station.lost for station in stations)
        said.append(
            f"{outages:,} {'outage or gap is' if outages == 1 else 'outages or gaps are'} on record: "
            f"{_late(late)}, and {_lost(lost)}."
        )
        if counted and not missing:
            said.append("No trigger is missing without an explanation.")
    if uncounted:
        names = ", ".join(markup(station.station) for station in uncounted[:5]) + (
            " and others" if len(uncounted) > 5 else ""
        )
        said.append(f"At {names} {_NO_COUNTER}.")
    return said


def _late(count: int) -> str:
    if count == 1:
        return "1 decision was recorded late and is in the ledger"
    return (
        f"{count:,} decisions were recorded late and are all in the ledger"
        if count
        else "no decision was recorded late"
    )


def _lost(count: int) -> str:
    if count == 1:
        return "1 attempt was lost"
    return f"{count:,} attempts were lost" if count else "no attempt was lost"


def _reading(stations: Sequence[StationRecord]) -> list[str]:
    said = [
        "Each station numbers its decisions; a number that is left out would show here. Where a camera counts its triggers, "
        "each count needs a decision, or an entry in the ledger that says why there is none."
    ]
    restarted = [f"{markup(s.station)} ({s.restarts:,})" for s in stations if s.restarts]
    if restarted:
        said.append(
            f"A camera's counter began anew at {', '.join(restarted)}: it does so when it is switched off. Parts lost "
            "right before that leave no trace in the counts."
        )
    return said


def _overview(stations: Sequence[StationRecord]) -> Flowable:
    widths = (92.0, 56.0, 104.0, 160.0, CONTENT_WIDTH - 412)
    rows = [
        [
            _cell(station.station, SMALL),
            Paragraph(f"{station.decisions:,}", SMALL_RIGHT),
            Paragraph(_numbering(station), SMALL),
            Paragraph(_triggers(station), SMALL),
            Paragraph(f"{station.outages_found:,}" if station.outages_found else "none", SMALL),
        ]
        for station in stations
    ]
    return grid(
        ("Station", "Decisions", "Numbered", "Triggers", "Outages, gaps"),
        rows,
        widths,
        ("LEFTPADDING", (2, 0), (2, -1), 12),
        right=(1,),
    )


def _numbering(station: StationRecord) -> str:
    if station.first_number is None or station.last_number is None:
        return "\u2013"
    numbers = f"{station.first_number:,} to {station.last_number:,}"
    return f"{numbers}, {alert('with gaps')}" if station.breaks_found else f"{numbers}, no gap"


def _triggers(station: StationRecord) -> str:
    if station.missing_triggers:
        return alert(f"{station.missing_triggers:,} without a decision or a reason")
    if not station.with_trigger:
        return "not recorded" if station.decisions else "\u2013"
    said = "each has its decision"
    if station.with_trigger < station.decisions:
        said = f"recorded with {station.with_trigger:,} decisions; {said}"
    return f"{said}, or an entry says why not" if station.explained else said


def _breaks(stations: Sequence[StationRecord]) -> list[Flowable]:
    items = [
        f"{markup(station.station)}: after number {gap.before:,} comes {gap.number:,}, at ledger index {gap.ledger_index:,}."
        for station in stations
        for gap in station.breaks
    ]
    if not items:
        return []
    found = sum(station.breaks_found for station in stations)
    lead = "These do not follow each other. Decisions were removed, or their rows were altered; the verification says which."
    return [*section("Numbers left out", 1), prose(lead, *_of(len(items), found)), *bullets(items)]


def _missing(stations: Sequence[StationRecord]) -> list[Flowable]:
    listed = [(station.station, hole) for station in stations for hole in station.missing]
    if not listed:
        return []
    lead = (
        "The camera counted these, and the ledger holds neither a decision nor a reason. Parts may have gone on without being "
        "inspected. Whoever runs the line has to say what happened to them; that is then entered in the ledger."
    )
    widths = (92.0, 106.0, 50.0, 108.0, 102.0, CONTENT_WIDTH - 458)
    rows: list[list[Flowable | str]] = [
        [
            _cell(station, SMALL),
            f"{hole.first} to {hole.last}" if hole.first != hole.last else f"{hole.first}",
            f"{hole.last - hole.first + 1:,}",
            _when(hole.before),
            _when(hole.after),
            f"{hole.noticed}",
        ]
        for station, hole in listed
    ]
    table = grid(
        ("Station", "Triggers", "How many", "After the decision of", "Before the decision of", "Ledger index"),
        rows,
        widths,
        ("BACKGROUND", (0, 1), (-1, -1), ALERT_PANEL),
        ("LEFTPADDING", (3, 0), (3, -1), 12),
        right=(2, 5),
    )
    found = sum(station.missing_found for station in stations)
    return [*section("Triggers without a decision", 1), prose(lead, *_of(len(listed), found)), table]


def _outages(stations: Sequence[StationRecord]) -> list[Flowable]:
    listed = [outage for station in stations for outage in station.outages]
    if not listed:
        return []
    listed.sort(key=lambda outage: outage.ledger_index)
    lead = (
        "Times in which a station could not record at once, and holes that somebody accounts for. What was recorded late was kept "
        "beside the line meanwhile and is in the ledger in full; of what was lost nothing is, and whoever asked for the decision "
        "was told so."
    )
    head = ("Index", "Station", "From", "Until", "How long", "What happened", "Recorded late", "Lost")
    widths = (34.0, 62.0, 56.0, 56.0, 50.0, CONTENT_WIDTH - 338, 48.0, 32.0)
    cells: list[list[Flowable | str]] = []
    spans: list[tuple[object, ...]] = []
    for line, outage in enumerate(listed, start=1):
        if isinstance(outage, Unquoted):
            words = alert("This entry is gone, was altered, or is no outage; what it said is not known.")
            cells.append([f"{outage.ledger_index}", _cell(outage.station), Paragraph(words, CELL), *[""] * 5])
            spans += [("SPAN", (2, line), (-1, line)), ("BACKGROUND", (0, line), (-1, line), ALERT_PANEL)]
            continue
        cells.append(_row(outage))
    found = sum(station.outages_found for station in stations)
    table = grid(
        head, cells, widths, ("FONTSIZE", (0, 1), (-1, -1), CELL.fontSize), *spans, right=(0, 6, 7), padding=2.6
    )
    return [*section("Outages and gaps", 1, room=130), prose(lead, *_of(len(listed), found)), table]


def _row(outage: Outage) -> list[Flowable | str]:
    said = [markup(outage.cause.strip()) or "No cause was given."]
    if outage.triggers is not None:
        first, last = outage.triggers
        said.append(
            f"Trigger {first} has no decision." if first == last else f"Triggers {first} to {last} have no decision."
        )
    by = f"declared by {markup(outage.by)}" if outage.code == "declared" else markup(outage.code)
    return [
        f"{outage.ledger_index}",
        _cell(outage.station),
        _stamp(outage.began_at),
        _stamp(outage.ended_at),
        lasting((outage.ended_at - outage.began_at).total_seconds()),
        Paragraph(f"{' '.join(said)} ({by})", CELL),
        f"{outage.delayed:,}" if outage.delayed else "\u2013",
        f"{outage.lost:,}" if outage.lost else "\u2013",
    ]


def lasting(seconds: float) -> str:
    """How long something took, in the two largest units."""
    if seconds < 1:
        return "under 1 s"
    left, parts = int(seconds), list[str]()
    for unit, size in (("d", 86400), ("h", 3600), ("min", 60), ("s", 1)):
        count, left = divmod(left, size)
        if count or parts:
            parts.append(f"{count:,} {unit}" if count else "")
    return " ".join(part for part in parts[:2] if part)


def _of(listed: int, found: int) -> list[str]:
    return [f"The newest {listed:,} of {found:,} are listed."] if listed < found else []


def _cell(value: str, style: ParagraphStyle = CELL) -> Paragraph:
    return Paragraph(markup(value), style)


def _stamp(when: datetime) -> Paragraph:
    day, time = when.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S").split()
    return Paragraph(f"{day}<br/>{time}", CELL)


def _when(when: datetime | None) -> str:
    return "unreadable" if when is None else when.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S")
