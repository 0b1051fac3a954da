"""The camera's counter against the record of one station: which counts have no decision, and which entry says why.

Decisions are taken in ledger order, as runs of consecutive counts, and so are the declarations of `gap/1`. What is kept are
ranges, never numbers: memory is in proportion to the holes, whatever the counter has come to. `docs/record-format.md`, "Triggers",
is normative.

A lap is what the counter counts from one beginning to the next: it begins anew after a power cycle, and where it wraps around.
"""

from array import array
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

# A counter that is so far behind did not see the same part again: it was switched off.
RESTART = 256
# The last counts of counters that wrap around: unsigned of 8, 16 and 32 bits, and signed of 32.
LAST_COUNTS = (2**8 - 1, 2**16 - 1, 2**31 - 1, 2**32 - 1)


class Step(NamedTuple):
    """What the ledger says of the counts `first` to `last`, beginning with its entry at the index `entry`.

    They have decisions, one after the other; or, `declared`, a `gap/1` says that they have none.
    """

    entry: int
    first: int
    last: int
    declared: bool = False


class Hole(NamedTuple):
    """The counts `first` to `last` of a lap have no decision. `entry`: the index of what revealed it, or explains it."""

    lap: int
    first: int
    last: int
    entry: int


class Restart(NamedTuple):
    """The counter began anew: the decision at the index `entry` has the count `to`, and the one before it had `came_from`."""

    entry: int
    came_from: int
    to: int


Range = tuple[int, int, int]


def decided(steps: list[Step], index: int, count: int) -> None:
    """Add the decision at `index`, of this count, to what is known of its station: a run goes on with the count that follows it,
    and with the same once more, for a part that several cameras saw."""
    if steps and not steps[-1].declared and 0 <= count - steps[-1].last <= 1:
        steps[-1] = Step(steps[-1].entry, steps[-1].first, count)
    else:
        steps.append(Step(index, count, count))


class Ranges:
    """Ranges of counts (first, last, journal index) in ascending order, none of which touches the same number as another."""

    def __init__(self, ranges: Sequence[Sequence[int]] = ()) -> None:
        self._first, self._last, self._index = array("q"), array("q"), array("q")
        for first, last, index in ranges:
            self.add(first, last, index)

    def __len__(self) -> int:
        return len(self._first)

    def __iter__(self) -> Iterator[Range]:
        return zip(self._first, self._last, self._index, strict=True)

    def copy(self) -> "Ranges":
        made = Ranges()
        made._first, made._last, made._index = self._first[:], self._last[:], self._index[:]
        return made

    def add(self, first: int, last: int, index: int) -> None:
        """Enter what of `first` to `last` is not there."""
        if not self._last or first > self._last[-1]:
            self._first.append(first)
            self._last.append(last)
            self._index.append(index)
            return
        at = self._at(first)
        while first <= last:
            taken = at < len(self) and self._first[at] <= last
            end = self._first[at] - 1 if taken else last
            if first <= end:
                self._insert(at, (first, end, index))
                at += 1
            if not taken:
                return
            first = self._last[at] + 1
            at += 1

    def cut(self, first: int, last: int) -> list[Range]:
        """Take out what of `first` to `last` is there, and return it."""
        taken: list[Range] = []
        at = self._at(first)
        while at < len(self) and self._first[at] <= last:
            begin, end, index = self._first[at], self._last[at], self._index[at]
            del self._first[at], self._last[at], self._index[at]
            taken.append((max(begin, first), min(end, last), index))
            for piece in ((begin, first - 1, index), (last + 1, end, index)):
                if piece[0] <= piece[1]:
                    self._insert(at, piece)
                    at += 1
        return taken

    def meeting(self, first: int, last: int) -> list[Range]:
        """What of `first` to `last` is there."""
        found = []
        at = self._at(first)
        while at < len(self) and self._first[at] <= last:
            found.append((max(self._first[at], first), min(self._last[at], last), self._index[at]))
            at += 1
        return found

    def _at(self, count: int) -> int:
        """The first range that ends at `count` or above."""
        low, high = 0, len(self)
        while low < high:
            middle = (low + high) // 2
            low, high = (middle + 1, high) if self._last[middle] < count else (low, middle)
        return low

    def _insert(self, at: int, new: Range) -> None:
        for column, value in zip((self._first, self._last, self._index), new, strict=True):
            column.insert(at, value)


@dataclass(frozen=True)
class Reconciled:
    """What was found of one station, in the order of its laps and counts.

    unexplained: no decision, and no entry that says why; `entry` is the decision that revealed it.
    explained: no decision, and the `gap/1` at `entry` says why.
    """

    unexplained: tuple[Hole, ...]
    explained: tuple[Hole, ...]
    restarts: tuple[Restart, ...]


class Counter:
    """The counter of one station, as far as its record was taken. `Counter.load(c.state())` goes on as `c` would.

    highest, last: the highest count of this lap, and the last one that came; None before the first.
    wrapped: the last count of the lap before, where the counter wrapped around to this one.
    """

    def __init__(self) -> None:
        self.lap = 0
        self.highest: int | None = None
        self.last: int | None = None
        self.wrapped: int | None = None
        self.missing: dict[int, Ranges] = {}
        # Declared before anything was known to be missing: numbers above the highest, and numbers of a lap to come.
        self._ahead, self._below = Ranges(), Ranges()
        self._explained: list[Hole] = []
        self._restarts: list[Restart] = []

    def take(self, step: Step) -> None:
        """Go on with what the ledger says next of this station."""
        if step.declared:
            self._declare(step)
            return
        index, first, last = step.entry, step.first, step.last
        while first <= last:
            first = self._decide(index, first, last) + 1

    def result(self) -> Reconciled:
        holes = [Hole(lap, *found) for lap in sorted(self.missing) for found in self.missing[lap]]
        return Reconciled(tuple(holes), tuple(sorted(self._explained)), tuple(self._restarts))

    def lacking(self, first: int, last: int) -> list[Hole]:
        """What is missing of the counts `first` to `last`, in the lap in which a `gap/1` would explain them that came next."""
        lap = self._lap_of(first, last)
        holes = self.missing.get(lap) if lap is not None else None
        return [Hole(lap, *found) for found in holes.meeting(first, last)] if lap is not None and holes else []

    # --- decisions ---------------------------------------------------------------------------------------------------

    def _decide(self, index: int, first: int, last: int) -> int:  # noqa: PLR0911  # one exit a kind of count
        """Take the decisions from the count `first` on, as far as they are of one kind, at most to `last`. Returns how far."""
        if self.highest is None:
            self._explained += [Hole(self.lap, *found) for found in self._ahead.cut(0, first - 1)]
            return self._rise(last)
        if self._wraps(first):
            self._begin_lap(first, wrapped=self.highest)
            return self._rise(first)
        if first > self.highest:
            if self.wrapped is not None and self._of_the_lap_before(first, self.wrapped):
                last = min(last, self.wrapped)
                self._fill(self.lap - 1, first, last)
                return last
            if first > self.highest + 1:
                self._miss(self.highest + 1, first - 1, index, self._ahead)
            return self._rise(last)
        if (found := self._filled(first, last)) is not None:
            self.last = found
            return found
        assert self.last is not None  # noqa: S101  # set with the highest
        if (first <= 1 < self.last) or self.last - first >= RESTART:
            self._restarts.append(Restart(index, self.last, first))
            below = self._below
            self._begin_lap(first, wrapped=None)
            self._miss(1, first - 1, index, below)
            return self._rise(first)
        self.last = self._seen_until(first, min(last, self.highest))
        return self.last

    def _wraps(self, count: int) -> bool:
        return count <= 1 and self.highest in LAST_COUNTS

    def _of_the_lap_before(self, count: int, end: int) -> bool:
        """Whether a count above the highest is a late one from before the wrap-around, and none that was jumped to."""
        return count <= end and self._highest - count + end + 1 < min(RESTART, (end + 1) // 8)

    def _rise(self, count: int) -> int:
        self.highest = self.last = count
        self._ahead.cut(0, count)
        return count

    def _miss(self, first: int, last: int, index: int, declared: Ranges) -> None:
        """The counts `first` to `last` of this lap have no decision. `declared`: of these it was said before."""
        if first > last:
            return
        holes = Ranges([(first, last, index)])
        for begin, end, entry in declared.cut(first, last):
            holes.cut(begin, end)
            self._explained.append(Hole(self.lap, begin, end, entry))
        for hole in holes:
            self.missing.setdefault(self.lap, Ranges()).add(*hole)

    def _begin_lap(self, count: int, wrapped: int | None) -> None:
        self.lap += 1
        self.highest, self.wrapped = count, wrapped
        self._ahead, self._below = Ranges(), Ranges()

    def _filled(self, first: int, last: int) -> int | None:
        """Where `first` is missing: it and what follows of its hole are not, up to the count returned."""
        holes = self.missing.get(self.lap)
        found = holes.meeting(first, last) if holes else []
        if not found or found[0][0] != first:
            return None
        self._fill(self.lap, first, found[0][1])
        return found[0][1]

    def _fill(self, lap: int, first: int, last: int) -> None:
        if (holes := self.missing.get(lap)) is not None:
            holes.cut(first, last)
            if not holes:
                del self.missing[lap]

    def _seen_until(self, first: int, last: int) -> int:
        """The last of these counts that comes before the next missing one."""
        holes = self.missing.get(self.lap)
        found = holes.meeting(first, last) if holes else []
        return found[0][0] - 1 if found else last

    # --- declarations ------------------------------------------------------------------------------------------------

    def _declare(self, step: Step) -> None:
        """A `gap/1` names its counts: what is missing of them is explained, or will be as soon as it is revealed."""
        index, first, last, _ = step
        if (lap := self._lap_of(first, last)) is not None:
            self._explained += [Hole(lap, begin, end, index) for _, begin, end, _ in self.lacking(first, last)]
            self._fill(lap, first, last)
            if lap == self.lap and self._directly_above(first, last):
                self._explained.append(Hole(lap, self._highest + 1, last, index))
                self._rise(last)
        elif self.highest is None or first > self.highest:
            self._ahead.add(first, last, index)
        else:
            self._below.add(first, last, index)

    def _lap_of(self, first: int, last: int) -> int | None:
        """The newest lap in which these counts are missing or come next; None where there is none."""
        if self._directly_above(first, last):
            return self.lap
        return next((lap for lap in sorted(self.missing, reverse=True) if self.missing[lap].meeting(first, last)), None)

    def _directly_above(self, first: int, last: int) -> bool:
        return self.highest is not None and first <= self.highest + 1 <= last

    @property
    def _highest(self) -> int:
        assert self.highest is not None  # noqa: S101
        return self.highest

    # --- kept from one verification to the next ------------------------------------------------------------------------

    def state(self) -> dict[str, Any]:
        """All that what follows depends on, as JSON. What is explained by now, and the restarts, are none of it."""
        return {
            "lap": self.lap,
            "highest": self.highest,
            "last": self.last,
            "wrapped": self.wrapped,
            "missing": [[lap, list(map(list, holes))] for lap, holes in self.missing.items()],
            "ahead": list(map(list, self._ahead)),
            "below": list(map(list, self._below)),
        }

    @classmethod
    def load(cls, state: Mapping[str, Any]) -> "Counter":
        """Raises:
        KeyError, TypeError, ValueError, OverflowError: this is no state of a counter.
        """
        made = cls()
        made.lap, made.highest, made.last = state["lap"], state["highest"], state["last"]
        made.wrapped = state["wrapped"]
        made.missing = {int(lap): Ranges(holes) for lap, holes in state["missing"]}
        made._ahead, made._below = Ranges(state["ahead"]), Ranges(state["below"])
        return made
