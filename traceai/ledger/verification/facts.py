"""What verification says: separate facts, each with every place where it does not hold. Never one boolean."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from traceai.ledger.printing import shown
from traceai.ledger.records import Gap

# Findings beyond this many of a fact are counted, not listed: an emptied table would otherwise fill the screen.
LISTED = 100


@dataclass
class Fact:
    """One thing that was checked, how often, and every place where it does not hold."""

    name: str
    meaning: str
    checked: int = 0
    failures: int = 0
    findings: list[str] = field(default_factory=list)

    @property
    def holds(self) -> bool:
        return self.failures == 0

    def fail(self, finding: str) -> None:
        self.failures += 1
        if len(self.findings) < LISTED:
            # What is found stands in the database of whoever put it there: it may not move the reader's cursor.
            self.findings.append(shown(finding))

    def add(self, other: "Fact") -> None:
        """Take over what was found of the same fact elsewhere."""
        self.checked += other.checked
        self.failures += other.failures
        self.findings += other.findings[: LISTED - len(self.findings)]


@dataclass(frozen=True)
class KnownHead:
    """A tree that is known from outside the database: `size` entries under `root` (32 bytes). `label`: from where."""

    size: int
    root: bytes
    label: str


@dataclass(frozen=True)
class Verified:
    """How far a verification came: where the next one may go on. What lies before is then not looked at again.

    size, frontier: the tree so far. numbers: the last `station_seq` of every station. triggers: the state of the counter of every
    station that has one (`triggers.Counter.state`).
    """

    size: int = 0
    frontier: bytes = b""
    numbers: Mapping[str, int] = field(default_factory=dict)
    triggers: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)


@dataclass(frozen=True)
class Outages:
    """The `gap/1` entries on record: `count` of them, and the newest (index, record), newest first. None is a failure."""

    count: int = 0
    newest: tuple[tuple[int, Gap], ...] = ()


@dataclass(frozen=True)
class Outcome:
    """The facts, and the tree they were established for. `reached` is worth keeping only where everything holds."""

    size: int
    root: bytes
    facts: tuple[Fact, ...]
    reached: Verified = Verified()
    outages: Outages = Outages()

    @property
    def holds(self) -> bool:
        return all(fact.holds for fact in self.facts)
