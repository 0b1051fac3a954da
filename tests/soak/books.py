"""What was acknowledged against what is on record. Nothing may be under way."""

from collections.abc import Callable
from dataclasses import dataclass, field

from sqlalchemy import Connection

from tests.inspection.recording.line import acknowledged, part_id
from tests.soak.lines import posted_id
from tests.soak.plant import Plant
from traceai.inspection.recording.spool import Spool
from traceai.ledger.verification import verifier


@dataclass
class Books:
    """Counts of decisions, and in `wrong` a sentence for each thing that may not be.

    acknowledged: what callers were told of. recorded: what is in the ledger. spooled: what was told to wait on the disk. late: what
    was delivered from there. gaps: entries that tell of outages, by cause.
    """

    acknowledged: int = 0
    recorded: int = 0
    spooled: int = 0
    late: int = 0
    gaps: dict[str, int] = field(default_factory=dict)
    entries: int = 0
    wrong: list[str] = field(default_factory=list)


def balance(plant: Plant) -> Books:
    books = Books()
    with plant.trace.database.engine.connect() as connection:
        for line in plant.lines:
            told = acknowledged(line.home)
            _compare(books, connection, line.station, [(n, how == "Spooled", index) for n, how, index in told], part_id)
        answers = [(number, status == 202, index) for number, status, index in plant.service.answers]
        _compare(books, connection, plant.service.station, answers, posted_id)
        for code, count, lost in connection.exec_driver_sql(
            "SELECT cause_code, count(*), sum(lost) FROM gap GROUP BY 1 ORDER BY 1"
        ):
            books.gaps[code] = count
            if lost:
                books.wrong.append(f"gaps of cause {code} tell of {lost} decisions that were lost")
    for home in (plant.home, *(line.home for line in plant.lines)):
        spool = Spool(home)
        status = spool.status()
        spool.close()
        books.late += status.delivered
        if status.waiting or status.rejected or status.damaged:
            books.wrong.append(f"the spool of {home.name} is not empty and whole: {status}")
    books.wrong += plant.service.refused
    outcome = verifier.verify(plant.trace.database.engine, workers=verifier.processes(plant.trace.database.engine))
    books.entries = outcome.size
    books.wrong += [
        f"ledger verify, {fact.name}: {finding}"
        for fact in outcome.facts
        if not fact.holds
        for finding in fact.findings
    ]
    return books


def _compare(
    books: Books,
    connection: Connection,
    station: str,
    told: list[tuple[int, bool, int]],
    named: Callable[[str, int], str],
) -> None:
    """A station's parts: acknowledged in the order of their numbers, so recorded in that order, once each, where it was said."""
    stored = connection.exec_driver_sql(
        "SELECT id::text, station_seq, journal_index FROM inspection WHERE station = %s ORDER BY journal_index",
        (station,),
    ).all()
    books.acknowledged += len(told)
    books.recorded += len(stored)
    books.spooled += sum(spooled for _, spooled, _ in told)
    if [number for number, *_ in told] != list(range(1, len(told) + 1)):
        books.wrong.append(f"{station}: parts were acknowledged out of their order")
    # One part may have been recorded whose sender was killed before it was told.
    if len(stored) - len(told) not in {0, 1}:
        books.wrong.append(f"{station}: {len(told)} parts were acknowledged, {len(stored)} are on record")
    expected = [named(station, number) for number in range(1, len(stored) + 1)]
    for place, ((reference, number, index), wanted) in enumerate(zip(stored, expected, strict=True), start=1):
        if reference != wanted:
            books.wrong.append(
                f"{station}: entry {index} is another part than number {place}; lost, twice or out of order"
            )
            break
        if number != place:
            books.wrong.append(f"{station}: part {place} has the number {number}")
            break
    for (number, spooled, index), row in zip(told, stored, strict=False):
        if not spooled and row.journal_index != index:
            books.wrong.append(f"{station}: part {number} was said to be entry {index} and is {row.journal_index}")
            break
