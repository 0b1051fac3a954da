"""What could not be kept at all: nobody was told that it was recorded, and the ledger is told that something is missing."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from traceai.clock import uuid7
from traceai.errors import TraceaiError
from traceai.inspection.recording.draft import Draft
from traceai.ledger.records import Gap

# Runs of attempts at a station that are told one by one.
_RUNS = 100


@dataclass
class _Loss:
    """Attempts at one station: with no trigger, or with the consecutive triggers `first` to `last`."""

    began_at: str
    ended_at: str
    error: TraceaiError
    first: int | None
    last: int | None
    count: int = 1
    # An entry that may be on record already says what it says.
    frozen: bool = False
    id: str = field(default_factory=lambda: str(uuid7()))

    def takes(self, trigger: int | None) -> bool:
        if self.frozen:
            return False
        return trigger == self.last if trigger is None or self.last is None else trigger == self.last + 1


@dataclass
class Losses:
    """Attempts that were refused since the ledger was last told. For one thread."""

    _by_station: dict[str, list[_Loss]] = field(default_factory=dict)

    def add(self, drafts: Sequence[Draft], error: TraceaiError) -> None:
        for draft in drafts:
            if isinstance(draft.record, Gap):
                continue
            losses = self._by_station.setdefault(draft.station, [])
            moment, trigger = draft.record.occurred_at, draft.record.trigger
            if losses and losses[-1].takes(trigger):
                loss = losses[-1]
                loss.count, loss.last, loss.ended_at = loss.count + 1, trigger, max(loss.ended_at, moment)
            elif len(losses) >= _RUNS and not losses[-1].frozen:
                # Which ones they were, the camera's counter tells.
                loss = losses[-1]
                loss.count, loss.first, loss.last, loss.ended_at = (
                    loss.count + 1,
                    None,
                    None,
                    max(loss.ended_at, moment),
                )
            else:
                losses.append(_Loss(moment, moment, error, trigger, trigger))

    def drafts(self, actor: str) -> list[Draft]:
        """A gap for each run of attempts, to be written before whatever comes next."""
        return [
            Draft(
                Gap(
                    id=loss.id,
                    station=station,
                    began_at=loss.began_at,
                    ended_at=max(loss.began_at, loss.ended_at),
                    cause_code=loss.error.code,
                    cause=loss.error.cause[:2000],
                    delayed=0,
                    lost=loss.count,
                    first_trigger=loss.first,
                    last_trigger=loss.last,
                    actor=actor,
                ),
                named=True,
            )
            for station, losses in self._by_station.items()
            for loss in losses
        ]

    def freeze(self) -> None:
        """What was to be told may have been: what comes now is told apart."""
        for losses in self._by_station.values():
            for loss in losses:
                loss.frozen = True

    def clear(self) -> None:
        self._by_station.clear()
