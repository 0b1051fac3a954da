"""Images in, recorded decisions out: read, judge, draw, record, in that order, and nothing acknowledged that is not durable.

A crash before the commit leaves image bytes in the content-addressed store that no record names; nothing else.
"""

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from threading import Event
from typing import Any

from traceai.db.connection import Database
from traceai.db.tables import HeatMap, Journal
from traceai.errors import ImageError, ModelError
from traceai.images import decode as images
from traceai.images.blobs import BlobStore
from traceai.images.decode import DEFAULT_LIMITS, Limits
from traceai.inspection import policy
from traceai.inspection.batching import Batcher
from traceai.inspection.decision import Decision
from traceai.inspection.flow import Flow
from traceai.inspection.judging import Judge, Judgement
from traceai.inspection.known import Line
from traceai.inspection.reading import Attempt, Item, Source, read
from traceai.inspection.recording.answers import Answer
from traceai.inspection.recording.draft import Draft, Spooled
from traceai.inspection.recording.recorder import Recorder
from traceai.inspection.stages import Stages
from traceai.ledger import canonical, records
from traceai.ledger.entry import Entry
from traceai.ledger.log import Receipt

BATCH = 32


class Inspector:
    """One model version at one station. Threads may share it; their decisions are ordered by the commit."""

    def __init__(
        self,
        database: Database,
        blobs: BlobStore,
        recorder: Recorder,
        batcher: Batcher,
        line: Line,
        stages: Stages,
        limits: Limits = DEFAULT_LIMITS,
    ) -> None:
        self.database, self.blobs, self.recorder, self.model, self.station = (
            database, blobs, recorder, line.model, line.station,
        )  # fmt: skip
        self.batcher, self.engine, self.stages, self.limits = batcher, batcher.engine, stages, limits
        self._environment = cache(_described(self.engine))
        self._audit = line.audit

    def inspect(self, source: Source, **fields: Any) -> Decision:
        """Inspect one image. Keyword arguments are the other fields of `Item`. Callers in other threads share forward passes.

        Raises:
            ImageError, ModelError: nothing could be decided. The attempt is recorded all the same, and the error's
                `details["decision"]` holds its receipt.
            ModelStateError: the version was retired; nothing is recorded.
            IdTakenError: the id is on record for another image or station.
            SpoolError: neither the database nor this machine's disk took the record. The part is not on record.
        """
        attempt = self._read(Item(source, **fields))
        if attempt.prepared is not None:
            found, batch, attempt.judging_ns = self.batcher.judge(attempt.prepared)
            self._judged(attempt, found, batch)
        decision = self._submit(attempt).result()
        if decision.failure is not None:
            decision.failure.details["decision"] = decision
            raise decision.failure
        return decision

    def inspect_many(
        self, items: Iterable[Item | Source], batch: int = BATCH, until: Event | None = None
    ) -> Iterator[Decision]:
        """Inspect in batches, one forward pass a batch; decisions come in the order of `items`, each once it is recorded.

        An image that cannot be inspected comes back as a decision without verdict; the rest go on. Up to four batches are under
        way ahead of the caller: of those, what was judged is recorded even where the caller asks for no more.

        until: set from outside, the batch at hand is the last one.

        Raises:
            ModelStateError, IdTakenError, SpoolError: see `inspect`; of what came before it every decision was yielded.
        """
        return self._flow(items, batch, until, eager=False)

    def stream(
        self, items: Iterable[Item | Source], batch: int = BATCH, until: Event | None = None
    ) -> Iterator[Decision]:
        """As `inspect_many`, for a live source: what has arrived is judged at once, alone or with what arrived beside it.

        items: may wait for the next image as long as it likes, as a camera does. What it gave is inspected, whatever `until` says.
        """
        return self._flow(items, batch, until, eager=True)

    def _flow(
        self, items: Iterable[Item | Source], batch: int, until: Event | None, *, eager: bool
    ) -> Iterator[Decision]:
        return iter(Flow(items, self._read, self._judge, self._submit, batch=batch, eager=eager, until=until))

    def _read(self, item: Item | Source) -> Attempt:
        return read(item if isinstance(item, Item) else Item(item), self.blobs, self.limits, self.engine.prepare)

    # --- judge ----------------------------------------------------------------------------------------------------

    def _judge(self, attempts: Sequence[Attempt]) -> None:
        visible = [attempt for attempt in attempts if attempt.prepared is not None]
        if visible:
            began = time.monotonic_ns()
            judged = self.engine.judge([attempt.prepared for attempt in visible if attempt.prepared is not None])
            for attempt, found in zip(visible, judged, strict=True):
                attempt.judging_ns = began
                self._judged(attempt, found, len(visible))

    def _judged(self, attempt: Attempt, found: Judgement | ModelError, batch: int) -> None:
        attempt.prepared = None  # pixels are no longer needed
        attempt.judged_ns, attempt.batch = time.monotonic_ns(), batch
        if isinstance(found, ModelError):
            attempt.failure = found
        else:
            attempt.judgement = found

    # --- record ---------------------------------------------------------------------------------------------------

    def _submit(self, attempt: Attempt) -> "Pending":
        draft = self._draft(attempt)
        answer = self.recorder.submit(draft)
        answer.add_done_callback(lambda _: self.stages.note(self.station, attempt))
        return Pending(self, attempt, draft, answer)

    def _draft(self, attempt: Attempt) -> Draft:
        common: dict[str, Any] = {
            "occurred_at": attempt.occurred_at,
            "station": self.station,
            "station_seq": 0,  # given when it is written
            "trigger": attempt.item.trigger,
            "part": attempt.item.part,
            "image": attempt.image,
            "model": self.model,
        }
        if named := attempt.item.id is not None:
            common["id"] = attempt.item.id
        found = attempt.judgement
        if found is None:
            failure = attempt.failure or ImageError("The image could not be inspected.")
            failed = records.InspectionFailed(
                **common,
                source=_printable(attempt.name),
                failure_code=failure.code,
                failure=_printable(failure.message),
            )
            return Draft(failed, named=named)
        runtime, environment = self._environment(attempt.batch)
        point = self.engine.manifest.operating_point
        decided = records.Inspection(
            **common,
            logits=found.logits,
            scores=found.scores,
            defect_score=found.defect_score,
            operating_point=records.OperatingPoint(**point.model_dump()) if point else None,
            verdict=found.verdict,
            predicted=found.predicted,
            explanation=found.explanation(),
            audit=policy.draw(found.verdict, self.recorder.audit.get(self.station, self._audit)),
            runtime=runtime,
            latency_us=attempt.latency_us,
        )
        return Draft(decided, found.grid, environment, named)

    def recall(self, receipt: Receipt, source: str) -> Decision:
        """The decision that is on record under `receipt`."""
        with self.database.session() as session:
            entry = Entry.parse(session.get_one(Journal, receipt.index).entry)
            stored = session.get(HeatMap, receipt.index)
        assert isinstance(entry.record, records.Inspection | records.InspectionFailed)  # noqa: S101  # as it was looked up
        return Decision.of(
            entry.record, stored.grid if stored else None, receipt, entry.record.station_seq, source, earlier=True
        )


@dataclass(frozen=True)
class Pending:
    """A decision that is on its way into the ledger."""

    inspector: Inspector
    attempt: Attempt
    draft: Draft
    answer: Answer

    def result(self) -> Decision:
        """Wait until it is durable. Of an id that is on record already, what is on record."""
        kept, source = self.answer.result(), self.attempt.name
        if isinstance(kept, Spooled):
            draft = kept.earlier or self.draft
            failure = None if kept.earlier else self.attempt.failure
            return Decision.of(draft.decided, draft.grid, kept, None, source, failure, earlier=kept.earlier is not None)
        if kept.earlier:
            return self.inspector.recall(kept.receipt, source)
        return Decision.of(
            self.draft.decided, self.draft.grid, kept.receipt, kept.station_seq, source, self.attempt.failure
        )


def _described(engine: Judge) -> Callable[[int], tuple[str, dict[str, Any]]]:
    """From the size of a batch to the digest of the environment that it is judged in, and the environment."""

    def described(batch: int) -> tuple[str, dict[str, Any]]:
        environment = engine.environment(batch)
        return images.identify(canonical.dumps(environment)), environment

    return described


def _printable(text: str) -> str:
    """`text` as a record can hold it: a file name may contain anything."""
    return "".join(c if c.isprintable() else "�" for c in text.encode("utf-8", "replace").decode())[:2000]
