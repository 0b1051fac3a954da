"""A record on its way into the ledger, and what its sender is told: where it lies, or that it is kept until it can be written."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from pydantic import ValidationError

from traceai.errors import RecordError
from traceai.ledger import canonical
from traceai.ledger.log import Receipt
from traceai.ledger.records import Gap, Inspection, InspectionFailed

Attempt = Inspection | InspectionFailed
_TYPES: dict[str, type[Attempt | Gap]] = {kind.schema_name: kind for kind in (Inspection, InspectionFailed, Gap)}


@dataclass(frozen=True)
class Draft:
    """A decision, a failed attempt or a gap that lacks nothing but its place, and its number at the station (`station_seq` 0).

    grid: the stored heat map of a decision. environment: what its `runtime` is the digest of.
    named: the caller chose its id, so it may have been recorded before.
    """

    record: Attempt | Gap
    grid: bytes | None = None
    environment: Mapping[str, Any] | None = None
    named: bool = False

    def to_bytes(self) -> bytes:
        """All but the grid: `Draft.from_bytes(d.to_bytes(), d.grid) == replace(d, named=True)`."""
        return canonical.dumps(
            {
                "schema": self.record.schema_name,
                "record": self.record.model_dump(mode="json"),
                "environment": None if self.environment is None else dict(self.environment),
            },
            exact=True,
        )

    @classmethod
    def from_bytes(cls, data: bytes, grid: bytes | None) -> "Draft":
        """Raises:
        RecordError: not the bytes of a draft of this release.
        """
        fields = canonical.loads(data)
        try:
            record = _TYPES[fields["schema"]].model_validate(fields["record"])
            return cls(record, grid, fields["environment"], named=True)
        except (KeyError, TypeError, ValidationError) as error:
            raise RecordError(f"These bytes are no draft of a record: {error}.") from error

    @property
    def station(self) -> str:
        return self.record.station

    @property
    def image(self) -> str | None:
        """SHA-256 of what arrived, in hex, where that is known."""
        return None if isinstance(self.record, Gap) else self.record.image.sha256

    @property
    def subject(self) -> tuple[object, ...]:
        """What an id names: the same inspection has the same station, image and part."""
        return (self.station, self.image, *_part(self.record))

    @property
    def model(self) -> tuple[str, int] | None:
        """Name and version of the model that decided, or was to."""
        return None if isinstance(self.record, Gap) else (self.record.model.name, self.record.model.version)

    @property
    def decided(self) -> Attempt:
        """The record of a draft that is no gap."""
        assert not isinstance(self.record, Gap)  # noqa: S101  # the caller's own
        return self.record

    @property
    def is_numbered(self) -> bool:
        return not isinstance(self.record, Gap)


def _part(record: Attempt | Gap) -> tuple[str | None, ...]:
    return () if isinstance(record, Gap) else tuple(record.part.model_dump().values())


@dataclass(frozen=True, slots=True)
class Recorded:
    """It is in the ledger. Held by the caller, it is true: it exists only after the commit.

    earlier: another record stands under the id that the caller chose; what is there is what counts.
    """

    receipt: Receipt
    station_seq: int | None
    earlier: bool = False

    @property
    def index(self) -> int:
        return self.receipt.index


@dataclass(frozen=True)
class Spooled:
    """It is on the disk of this machine, and will be written into the ledger when the database takes it. It has no place yet.

    earlier: what waited already under the id that the caller chose; that is what counts.
    """

    id: str
    spooled_at: datetime
    earlier: Draft | None = None

    index: None = None
    leaf_hash: None = None
    recorded_at: None = None
