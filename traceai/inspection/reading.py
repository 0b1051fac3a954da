"""From what a camera gave to decoded pixels, with everything about the image that is recorded. What was read is kept first."""

import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from pydantic import ValidationError

from traceai.clock import now, timestamp
from traceai.errors import ImageError, InputError, TraceaiError
from traceai.images import decode as images
from traceai.images.blobs import BlobStore
from traceai.images.decode import DecodedImage, Limits
from traceai.inspection.judging import Array, Judgement
from traceai.ledger import records
from traceai.ledger.records import Part

Source = str | Path | bytes | npt.NDArray[Any]


@dataclass(frozen=True, eq=False)
class Item:
    """One image to inspect.

    Attributes:
        source: a path, the bytes of an image file, or an array (see `images.decode.from_array`).
        id: a UUID of the caller's own. Whatever happens, and however often it is asked for, one inspection is recorded under it.

    Raises:
        InputError: a field that no record can hold: empty, longer than 200 characters, with control characters; no UUID.
    """

    source: Source
    name: str | None = None
    product: str | None = None
    serial: str | None = None
    lot: str | None = None
    view: str | None = None
    trigger: int | None = None
    occurred_at: datetime | None = None
    id: str | uuid.UUID | None = None
    part: Part = field(init=False)

    def __post_init__(self) -> None:
        names = {name: getattr(self, name) for name in ("product", "serial", "lot", "view")}
        try:
            object.__setattr__(self, "part", Part.model_validate(names))
        except ValidationError as error:
            name = error.errors()[0]["loc"][0]
            raise InputError(
                f"The {name} {names[str(name)]!r:.60} cannot be recorded; give 1 to 200 characters without control characters."
            ) from error
        if self.occurred_at is not None and self.occurred_at.tzinfo is None:
            raise InputError(f"The time {self.occurred_at.isoformat()} has no zone; give one, such as UTC.")
        if self.trigger is not None and not 0 <= self.trigger < 2**53:
            raise InputError(f"The trigger {self.trigger} cannot be recorded; give a counter from 0 upwards.")
        if self.id is not None:
            try:
                object.__setattr__(self, "id", str(uuid.UUID(str(self.id))))
            except ValueError as error:
                raise InputError(
                    f"The id {str(self.id)!r:.60} is no UUID; make one for each part, and keep it."
                ) from error


@dataclass(eq=False)
class Attempt:
    """One image on its way: what is known of it so far. `failure` set means that it goes no further.

    prepared: what the judge is given of the image, until it has.
    batch: how many images the forward pass had that saw it; 0 where none did.
    read_ns, judging_ns, judged_ns: when it was read, and when judging it began and ended; monotonic, as `started_ns`.
    """

    item: Item
    name: str
    occurred_at: str
    started_ns: int
    image: records.Image = field(default_factory=records.Image)
    prepared: Array | None = None
    judgement: Judgement | None = None
    failure: TraceaiError | None = None
    batch: int = 0
    read_ns: int = 0
    judging_ns: int = 0
    judged_ns: int = 0

    @property
    def latency_us(self) -> int:
        """Microseconds from the begin of reading the image to the end of judging its batch."""
        return (self.judged_ns - self.started_ns) // 1000


def read(item: Item, blobs: BlobStore, limits: Limits, prepare: Callable[[DecodedImage], Array]) -> Attempt:
    """Read an image within `limits`, store its bytes, decode it and prepare it for the network.

    What is wrong with the image becomes the attempt's `failure`.

    Raises:
        UnavailableError, BlobTamperedError: the store does not take the image, so that there would be no evidence of it.
    """
    attempt = Attempt(
        item,
        name=item.name or (str(item.source) if isinstance(item.source, str | Path) else "memory"),
        occurred_at=timestamp(item.occurred_at or now()),
        started_ns=time.monotonic_ns(),
    )
    try:
        data, decoded = _bytes(item.source, limits)
        if data is not None:
            # What was read is evidence even where it cannot be decoded.
            attempt.image = records.Image(sha256=blobs.put(data), bytes=len(data))
        decoded = decoded or images.decode(data or b"", limits)
        attempt.image = records.Image(
            sha256=decoded.sha256,
            bytes=decoded.bytes,
            pixel_sha256=decoded.pixel_sha256,
            width=decoded.width,
            height=decoded.height,
            media_type=decoded.media_type,
        )
        attempt.prepared = prepare(decoded)
    except ImageError as error:
        attempt.failure = error
    attempt.read_ns = time.monotonic_ns()
    return attempt


def _bytes(source: Source, limits: Limits) -> tuple[bytes | None, DecodedImage | None]:
    if isinstance(source, np.ndarray):
        return images.from_array(source, limits)
    if isinstance(source, bytes):
        # Before the bytes are stored: a caller that stopped reading at the limit holds only the beginning.
        limits.check_bytes(len(source))
        return source, None
    return images.read_file(source, limits), None
