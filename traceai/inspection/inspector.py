"""Images in, recorded decisions out: read, judge, draw, record, in that order and nothing acknowledged before the commit.

A crash before the commit leaves image bytes in the content-addressed store that no record names; nothing else.
"""

import time
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import datetime
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from pydantic import ValidationError
from sqlalchemy import insert, select
from sqlmodel import Session

from traceai.clock import now, parse_timestamp, timestamp
from traceai.db.connection import Database
from traceai.db.tables import HeatMap, Runtime, Station
from traceai.errors import ImageError, InputError, ModelError, StationNotFoundError, TraceaiError
from traceai.images import decode as images
from traceai.images.blobs import BlobStore
from traceai.images.decode import DEFAULT_LIMITS, DecodedImage, Limits
from traceai.inspection import policy
from traceai.inspection.decision import Decision, DecisionExplanation, Verdict
from traceai.ledger import canonical, log, records
from traceai.ledger.log import Receipt
from traceai.ledger.records import ModelRef, Part, Record
from traceai.models import registry

if TYPE_CHECKING:  # torch takes seconds to import, and whoever only reads the history needs none
    from traceai.inspection.engine import Engine, Judgement

BATCH = 32
Source = str | Path | bytes | npt.NDArray[Any]


@dataclass(frozen=True, eq=False)
class Item:
    """One image to inspect. source: a path, the bytes of an image file, or an array (see `images.decode.from_array`).

    Raises:
        InputError: a field that no record can hold: empty, longer than 200 characters, with control characters.
    """

    source: Source
    name: str | None = None
    product: str | None = None
    serial: str | None = None
    lot: str | None = None
    view: str | None = None
    trigger: int | None = None
    occurred_at: datetime | None = None
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


@dataclass(eq=False)
class _Attempt:
    """One image on its way: what is known of it so far. `failure` set means that it goes no further."""

    item: Item
    name: str
    occurred_at: str
    started_ns: int
    image: records.Image = field(default_factory=records.Image)
    decoded: DecodedImage | None = None
    judgement: "Judgement | None" = None
    failure: TraceaiError | None = None
    latency_us: int = 0
    passed_through: bool = False  # whether the network saw it


class Inspector:
    """One model version at one station. Threads may share it; their decisions are ordered by the commit."""

    def __init__(
        self,
        database: Database,
        blobs: BlobStore,
        engine: "Engine",
        model: ModelRef,
        station: str,
        limits: Limits = DEFAULT_LIMITS,
    ) -> None:
        """Raises:
        StationNotFoundError: no such station.
        """
        self.database, self.blobs, self.engine, self.model, self.station = database, blobs, engine, model, station
        self.limits = limits
        self._runtimes: set[str] = set()
        with database.session() as session:
            row = session.get(Station, station)
        if row is None:
            raise StationNotFoundError(f"There is no station {station}; add it with `traceai station add {station}`.")

    def inspect(self, source: Source, **fields: Any) -> Decision:
        """Inspect one image. Keyword arguments are the other fields of `Item`.

        Raises:
            ImageError, ModelError: nothing could be decided. The attempt is recorded all the same, and the error's
                `details["decision"]` holds its receipt.
        """
        decision = next(iter(self.inspect_many([Item(source, **fields)])))
        if decision.failure is not None:
            decision.failure.details["decision"] = decision
            raise decision.failure
        return decision

    def inspect_many(self, items: Iterable[Item | Source], batch: int = BATCH) -> Iterator[Decision]:
        """Inspect in batches: one forward pass and one commit a batch, decisions in the order of `items`.

        An image that cannot be inspected comes back as a decision without verdict; the rest go on.

        Raises:
            UnavailableError: the database or the blob store failed; the batch it happened in is not recorded.
        """
        with ThreadPoolExecutor(thread_name_prefix="traceai-read") as pool:
            wrapped = (item if isinstance(item, Item) else Item(item) for item in items)
            while group := list(islice(wrapped, batch)):
                attempts = list(pool.map(self._read, group))
                self._judge([attempt for attempt in attempts if attempt.failure is None])
                yield from self._record(attempts)

    # --- read -----------------------------------------------------------------------------------------------------

    def _read(self, item: Item) -> _Attempt:
        attempt = _Attempt(
            item,
            name=item.name or (str(item.source) if isinstance(item.source, str | Path) else "memory"),
            occurred_at=timestamp(item.occurred_at or now()),
            started_ns=time.monotonic_ns(),
        )
        try:
            data, decoded = self._bytes(item.source)
            if data is not None:
                # What was read is evidence even where it cannot be decoded.
                attempt.image = records.Image(sha256=self.blobs.put(data), bytes=len(data))
            attempt.decoded = decoded or images.decode(data or b"", self.limits)
            attempt.image = records.Image(
                sha256=attempt.decoded.sha256,
                bytes=attempt.decoded.bytes,
                pixel_sha256=attempt.decoded.pixel_sha256,
                width=attempt.decoded.width,
                height=attempt.decoded.height,
                media_type=attempt.decoded.media_type,
            )
        except ImageError as error:
            attempt.failure = error
        return attempt

    def _bytes(self, source: Source) -> tuple[bytes | None, DecodedImage | None]:
        if isinstance(source, np.ndarray):
            return images.from_array(source, self.limits)
        if isinstance(source, bytes):
            # Before the bytes are stored: a caller that stopped reading at the limit holds only the beginning.
            self.limits.check_bytes(len(source))
            return source, None
        return images.read_file(source, self.limits), None

    # --- judge ----------------------------------------------------------------------------------------------------

    def _judge(self, attempts: Sequence[_Attempt]) -> None:
        decoded = [attempt.decoded for attempt in attempts if attempt.decoded is not None]
        if not decoded:
            return
        for attempt, found in zip(attempts, self.engine.judge(decoded), strict=True):
            attempt.decoded = None  # pixels are no longer needed
            attempt.passed_through = True
            attempt.latency_us = (time.monotonic_ns() - attempt.started_ns) // 1000
            if isinstance(found, ModelError):
                attempt.failure = found
            else:
                attempt.judgement = found

    # --- record ---------------------------------------------------------------------------------------------------

    def _record(self, attempts: Sequence[_Attempt]) -> list[Decision]:
        judged = sum(attempt.passed_through for attempt in attempts)
        described = self.engine.environment(judged)
        runtime = images.identify(canonical.dumps(described))
        with self.database.session() as session:
            registry.require_usable(session, self.model.name, self.model.version)
            station = session.execute(
                select(Station).where(Station.name == self.station).with_for_update()  # type: ignore[arg-type]
            ).scalar_one()
            numbers = range(station.last_seq + 1, station.last_seq + 1 + len(attempts))
            found = [
                self._evidence(attempt, number, runtime, station.audit_pass_probability)
                for attempt, number in zip(attempts, numbers, strict=True)
            ]
            before: list[Record] = []
            if judged and self._is_new(session, runtime):
                before = [records.Runtime(digest=runtime, environment=described)]
            receipts = log.append(session, [*before, *found])[len(before) :]
            maps = [
                {"journal_index": receipt.index, "grid": attempt.judgement.grid}
                for attempt, receipt in zip(attempts, receipts, strict=True)
                if attempt.judgement is not None
            ]
            if maps:
                session.execute(insert(HeatMap), maps)
            station.last_seq = numbers[-1]
        if judged:
            self._runtimes.add(runtime)
        return [
            self._decision(attempt, record, receipt)
            for attempt, record, receipt in zip(attempts, found, receipts, strict=True)
        ]

    def _is_new(self, session: Session, runtime: str) -> bool:
        """Under the ledger's lock, so that two stations do not both find it new."""
        if runtime in self._runtimes:
            return False
        log.lock(session)
        known = select(Runtime).where(Runtime.digest == bytes.fromhex(runtime))  # type: ignore[arg-type]
        return session.execute(known).scalar_one_or_none() is None

    def _evidence(
        self, attempt: _Attempt, number: int, runtime: str, probability: float
    ) -> records.Inspection | records.InspectionFailed:
        common: dict[str, Any] = {
            "occurred_at": attempt.occurred_at,
            "station": self.station,
            "station_seq": number,
            "trigger": attempt.item.trigger,
            "part": attempt.item.part,
            "image": attempt.image,
            "model": self.model,
        }
        found = attempt.judgement
        if found is None:
            failure = attempt.failure or ImageError("The image could not be inspected.")
            return records.InspectionFailed(
                **common,
                source=_printable(attempt.name),
                failure_code=failure.code,
                failure=_printable(failure.message),
            )
        point = self.engine.model.manifest.operating_point
        return records.Inspection(
            **common,
            logits=found.logits,
            scores=found.scores,
            defect_score=found.defect_score,
            operating_point=records.OperatingPoint(**point.model_dump()) if point else None,
            verdict=found.verdict,
            predicted=found.predicted,
            explanation=found.explanation(),
            audit=policy.draw(found.verdict, probability),
            runtime=runtime,
            latency_us=attempt.latency_us,
        )

    def _decision(
        self, attempt: _Attempt, record: records.Inspection | records.InspectionFailed, receipt: Receipt
    ) -> Decision:
        common: dict[str, Any] = {
            "id": record.id,
            "receipt": receipt,
            "station": self.station,
            "station_seq": record.station_seq,
            "occurred_at": parse_timestamp(record.occurred_at),
            "source": attempt.name,
            "part": attempt.item.part,
            "model": self.model,
        }
        found = attempt.judgement
        if found is None or isinstance(record, records.InspectionFailed):
            return Decision(**common, verdict=None, failure=attempt.failure)
        return Decision(
            **common,
            verdict=Verdict(found.verdict),
            predicted=found.predicted,
            scores={name: float(score) for name, score in found.scores.items()},
            defect_score=None if found.defect_score is None else float(found.defect_score),
            explanation=DecisionExplanation(
                grid=found.heat_map,
                method=found.summary.method,
                layer=found.summary.layer,
                target=found.summary.target,
                sha256=found.summary.sha256,
                degenerate=found.summary.degenerate is not None,
            ),
            audit=record.audit,
            latency_us=attempt.latency_us,
        )


def _printable(text: str) -> str:
    """`text` as a record can hold it: a file name may contain anything."""
    return "".join(c if c.isprintable() else "�" for c in text.encode("utf-8", "replace").decode())[:2000]
