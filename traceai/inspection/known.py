"""What this home knows of the lines it inspected at, so that one can start while the database is away.

A file of its own in the home, as it was when the database last answered. Model files are checked against the digests in it, and
verification holds every decision against the versions and exported files on record: whoever can write here can have a file of their
own run while the database is away, and every decision that it makes is named afterwards.
"""

import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from traceai.errors import UnavailableError
from traceai.ledger.records import ModelRef


@dataclass(frozen=True)
class Line:
    """One model version at one station. `audit`: the probability with which passes are drawn for verification there."""

    name: str
    version: int
    digest: str
    station: str
    audit: float

    @property
    def model(self) -> ModelRef:
        return ModelRef(name=self.name, version=self.version, digest=self.digest)


class KnownLines:
    """The lines of a home, by what was asked for: `NAME` or `NAME@V`, and the station."""

    def __init__(self, home: Path) -> None:
        self._path = home / "lines.json"

    def remember(self, reference: str, line: Line) -> None:
        """Keep what `reference` stands for at a station. A home that cannot be written to remembers nothing."""
        lines = self._read()
        if lines.get(key := _key(reference, line.station)) == asdict(line):
            return
        lines[key] = asdict(line)
        fresh = self._path.with_suffix(f".{os.getpid()}")
        try:
            fresh.write_text(json.dumps(lines, indent=1))
            fresh.replace(self._path)
        except OSError:
            return

    def recall(self, reference: str, station: str, away: UnavailableError) -> Line:
        """What `reference` stood for at `station`.

        Raises:
            UnavailableError: `away`, where that was never asked for here.
        """
        found = self._read().get(_key(reference, station))
        if found is None:
            raise away
        try:
            return Line(**found)
        except TypeError:
            raise away from None

    def _read(self) -> dict[str, dict[str, Any]]:
        try:
            found = json.loads(self._path.read_text())
        except (OSError, ValueError):
            return {}
        return found if isinstance(found, dict) else {}


def _key(reference: str, station: str) -> str:
    return f"{reference} at {station}"
