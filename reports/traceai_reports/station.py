"""What a report says of the completeness of the record: frozen values, as in `content`."""

from dataclasses import dataclass
from datetime import datetime


@dataclass(frozen=True, kw_only=True)
class Unquoted:
    """Stands where the entry of an outage should be quoted. It is gone, was altered, or is another's."""

    ledger_index: int
    station: str


@dataclass(frozen=True, kw_only=True)
class Outage:
    """A time in which a station recorded late, or not everything. `triggers`: the first and last count that have no decision."""

    ledger_index: int
    station: str
    began_at: datetime
    ended_at: datetime
    code: str
    cause: str
    delayed: int
    lost: int
    by: str
    triggers: tuple[int, int] | None = None


@dataclass(frozen=True, kw_only=True)
class MissingTriggers:
    """Counts of the camera without a decision or a reason; `before` and `after` are of the decisions on both sides."""

    first: int
    last: int
    noticed: int
    before: datetime | None = None
    after: datetime | None = None


@dataclass(frozen=True, kw_only=True)
class NumberBreak:
    """The decision at `ledger_index` has `number`, the one before it `before`."""

    ledger_index: int
    before: int
    number: int


@dataclass(frozen=True, kw_only=True)
class StationRecord:
    """The record of one station. Of breaks, missing triggers and outages the newest are listed and all are counted.

    Attributes:
        decisions: Attempts, failed ones included, numbered from `first_number` to `last_number`.
        with_trigger: How many of them have the camera's count.
        missing_triggers: How many counts have neither a decision nor a reason, in `missing_found` ranges.
        explained: How many ranges of counts have no decision, and an entry that says why.
        restarts: How often the counter began anew.
        delayed, lost: What all outages add up to.
    """

    station: str
    decisions: int = 0
    first_number: int | None = None
    last_number: int | None = None
    with_trigger: int = 0
    breaks: tuple[NumberBreak, ...] = ()
    breaks_found: int = 0
    missing: tuple[MissingTriggers, ...] = ()
    missing_found: int = 0
    missing_triggers: int = 0
    explained: int = 0
    restarts: int = 0
    outages: tuple[Outage | Unquoted, ...] = ()
    outages_found: int = 0
    delayed: int = 0
    lost: int = 0


@dataclass(frozen=True, kw_only=True)
class Completeness:
    """The records of the stations in scope, from `since` (inclusive) to `until` (exclusive); None leaves an end open.

    narrowed: Whether the report covers less than all that these stations recorded in that time.
    """

    stations: tuple[StationRecord, ...] = ()
    since: datetime | None = None
    until: datetime | None = None
    narrowed: bool = False
