"""Drafts into the ledger: numbers, places and rows for a group of them in one transaction, each at most once."""

import uuid
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, NamedTuple

import psycopg
from sqlalchemy import Connection
from sqlmodel import Session

from traceai.clock import now
from traceai.db.connection import Database, create_engine, translated
from traceai.db.tables import HeatMap
from traceai.errors import (
    DatabaseUnavailableError,
    IdTakenError,
    InputError,
    ModelStateError,
    RecordError,
    RecordRefusedError,
    StationNotFoundError,
    TraceaiError,
    UnavailableError,
    VerificationError,
)
from traceai.inspection.recording.draft import Draft, Recorded
from traceai.ledger import log, records
from traceai.ledger.copying import Placed, Tail, together
from traceai.ledger.log import Receipt, Sealed, StoredHead
from traceai.models import registry

Outcome = Recorded | TraceaiError
# How often a group is begun anew because somebody else recorded the same id or environment at the same moment.
_ATTEMPTS = 5

_ON_RECORD = """
    SELECT i.id, i.journal_index, j.leaf_hash, i.recorded_at, i.station_seq, i.salt, i.station, i.image_sha256,
        i.product, i.serial, i.lot, i.view
    FROM inspection i JOIN journal j ON j."index" = i.journal_index
    WHERE i.id = ANY(%(ids)s) AND i.journal_index >= %(since)s AND j."index" >= %(since)s
    UNION ALL SELECT g.id, g.journal_index, j.leaf_hash, g.recorded_at, NULL, g.salt, g.station, NULL,
        NULL, NULL, NULL, NULL
    FROM gap g JOIN journal j ON j."index" = g.journal_index
    WHERE g.id = ANY(%(ids)s) AND g.journal_index >= %(since)s AND j."index" >= %(since)s
"""


class _RacedError(Exception):
    """Somebody else recorded one of these while they were prepared."""


class _Group(NamedTuple):
    """Drafts with their entries, made before the lock for which others wait.

    numbers: their numbers, where they have one. maps: the heat maps with the place of their draft. last: the last number of every
    station behind them. environments: those that they name, by digest.
    """

    numbers: list[int | None]
    sealed: list[Sealed]
    maps: list[tuple[int, Tail]]
    last: dict[str, int]
    environments: dict[str, Mapping[str, Any]]


class Writer:
    """One connection to the ledger, for one thread. What it can foresee is prepared, and checked under the lock.

    Attributes:
        audit: the probability with which passes are drawn for blind verification, by station, as last seen.
        open: whether what was written since the caller last set it to False may be on record although `write` raised.
    """

    def __init__(self, database: Database, patience: float) -> None:
        """patience: seconds after which a database that does not answer counts as away."""
        self.audit: dict[str, float] = {}
        self._database = database
        self._engine = create_engine(database.url, patience)
        self._connection: Connection | None = None
        self.open = False
        # As of our last commit, and perhaps no longer: the numbers handed out by station, the environments on record, and whether
        # a model version is retired as of the last event in the life of any.
        self._numbers: dict[str, int] = {}
        self._environments: set[str] = set()
        self._events: int | None = None
        self._retired: dict[tuple[str, int], bool] = {}

    def write(self, drafts: Sequence[Draft], *, again: bool = False, decided: bool = False) -> list[Outcome]:
        """Record `drafts` in order, and say of each where it lies or why the ledger can never take it.

        One that cannot be taken is left out; the rest are recorded. One that is on record already gets the receipt it had.

        Args:
            again: any of them may be on record already; otherwise only those whose id the caller chose.
            decided: parts were already let go on the strength of these, so a model that is retired since is no reason to refuse.

        Raises:
            UnavailableError, VerificationError: nothing can be recorded now. Whether part of `drafts` was, is open: write them
                again, with `again`.
        """
        try:
            for _ in range(_ATTEMPTS):
                try:
                    return self._write(drafts, again, decided)
                except _RacedError:
                    again = True
        except RecordRefusedError as error:
            if len(drafts) == 1:
                return [error]
            half = len(drafts) // 2
            return [
                *self.write(drafts[:half], again=again, decided=decided),
                *self.write(drafts[half:], again=again, decided=decided),
            ]
        raise DatabaseUnavailableError("Others kept recording the same decisions meanwhile; try again.")

    def close(self) -> None:
        """Hang up, and forget what was foreseen; the next `write` connects anew."""
        connection, self._connection = self._connection, None
        self._numbers, self._environments, self._events = {}, set(), None
        if connection is not None:
            connection.invalidate()
            connection.close()

    # --- one transaction ------------------------------------------------------------------------------------------

    def _write(self, drafts: Sequence[Draft], again: bool, decided: bool) -> list[Outcome]:
        outcomes: dict[str, Outcome] = {}
        first = {draft.record.id: draft for draft in reversed(drafts)}
        asked = [draft.record.id for draft in drafts if again or draft.named]
        with self._transaction() as session:
            connection = log.driver(session)
            since = self._look_up(connection, asked, first, outcomes)
            fresh = [draft for reference, draft in reversed(first.items()) if reference not in outcomes]
            group = _seal(fresh, self._numbers, outcomes)
            stations = {draft.station for draft in fresh}
            models = {model for draft in fresh if (model := draft.model) is not None}
            sealed = len(outcomes)
            head, last, newest = self._lock(connection, stations)
            if head.size != since and asked and self._found(connection, asked, since):
                raise _RacedError
            retired = set() if decided else self._retired_of(session, models, newest)
            if retired or not stations <= last.keys():
                _refuse(fresh, last.keys(), retired, outcomes)
            if len(outcomes) > sealed or any(last[name] != self._numbers.get(name, 0) for name in last):
                group = _seal([draft for draft in fresh if draft.record.id not in outcomes], last, outcomes)
            environments = self._environments_of(connection, group)
            entries = [*log.seal(environments), *group.sealed]
            start = log.write(session, head, entries) + len(environments) if entries else 0
            moved = {name: number for name in sorted(last) if (number := group.last.get(name, 0)) > last[name]}
            with together(connection, len(group.sealed)):
                if group.maps:
                    maps = [(start + place, grid) for place, grid in group.maps]
                    Placed.of(HeatMap, ("journal_index", "grid"), maps).send(connection)
                connection.cursor().executemany(
                    "UPDATE station SET last_seq = %s WHERE name = %s",
                    [(number, name) for name, number in moved.items()],
                )
        self._numbers |= last | moved
        self._environments |= {record.digest for record in environments}
        for index, (entry, station_seq) in enumerate(zip(group.sealed, group.numbers, strict=True), start):
            outcomes[entry.id] = Recorded(entry.receipt(index), station_seq)
        return [
            outcomes[draft.record.id] if (one := first[draft.record.id]) is draft else _told(draft, one, outcomes)
            for draft in drafts
        ]

    @contextmanager
    def _transaction(self) -> Iterator[Session]:
        try:
            with translated():
                if self._connection is None:
                    self._connection = self._engine.connect()
                # The guard is among the options, and may have been installed since.
                guarded = self._connection.execution_options(**self._database.engine.get_execution_options())
                with Session(guarded) as session, session.begin():
                    yield session
                    self.open = True  # from here on the server may commit, whatever we hear of it
                self.open = False
        except BaseException as error:
            self.close()
            if isinstance(error, _RacedError | RecordRefusedError | UnavailableError | VerificationError):
                raise
            cause = error.__cause__
            driver = getattr(cause, "orig", cause)
            if isinstance(driver, psycopg.errors.UniqueViolation):
                raise _RacedError from error
            if isinstance(error, InputError) and _of_a_value(driver):
                raise RecordRefusedError(
                    f"PostgreSQL does not take this record ({_said(driver)}); it is kept aside, as it is."
                ) from error
            if isinstance(error, TraceaiError) or isinstance(driver or error, psycopg.Error):
                raise DatabaseUnavailableError(
                    f"PostgreSQL could not record ({_said(driver or error)}); run `traceai db check`."
                ) from error
            raise

    # --- what is on record ----------------------------------------------------------------------------------------

    def _look_up(
        self,
        connection: psycopg.Connection[Any],
        asked: Sequence[str],
        first: Mapping[str, Draft],
        outcomes: dict[str, Outcome],
    ) -> int:
        """Settle the drafts that are on record already; return a size of the ledger that had been looked at."""
        if not asked:
            return 0
        ((size,),) = connection.execute("SELECT size FROM ledger_head").fetchall()
        for reference, index, leaf, recorded_at, number, salt, station, image, *part in self._found(
            connection, asked, 0
        ):
            draft = first[str(reference)]
            there = (station, image and image.hex(), *(part if draft.is_numbered else ()))
            if there == draft.subject:
                receipt = Receipt(str(reference), index, leaf, recorded_at)
                outcomes[receipt.id] = Recorded(receipt, number, earlier=salt.hex() != draft.record.salt)
            else:
                outcomes[str(reference)] = _taken(str(reference))
        return int(size)

    @staticmethod
    def _found(connection: psycopg.Connection[Any], asked: Iterable[str], since: int) -> list[tuple[Any, ...]]:
        parameters = {"ids": [uuid.UUID(reference) for reference in asked], "since": since}
        return connection.execute(_ON_RECORD, parameters).fetchall()

    def _lock(
        self, connection: psycopg.Connection[Any], stations: Iterable[str]
    ) -> tuple[StoredHead, dict[str, int], int]:
        """Take the lock, without which no number is handed out and no version retired.

        Returns:
            The head, the last number of each station that there is, and where the last event in the life of any version stands.
        """
        with connection.pipeline():
            answer = log.ask_for_lock(connection)
            found = connection.execute(
                "SELECT name, last_seq, audit_pass_probability FROM station WHERE name = ANY(%s)", [list(stations)]
            )
            events = connection.execute("SELECT coalesce(max(journal_index), -1) FROM model_event")
            head, rows, ((newest,),) = log.locked(answer), found.fetchall(), events.fetchall()
        self.audit |= {name: probability for name, _, probability in rows}
        return head, {name: last for name, last, _ in rows}, newest

    def _retired_of(self, session: Session, models: set[tuple[str, int]], newest: int) -> set[tuple[str, int]]:
        """newest: where the last event in the life of any version stands."""
        if newest != self._events:
            self._events, self._retired = newest, {}
        for model in models - self._retired.keys():
            self._retired[model] = registry.state(session, *model) == "retired"
        return {model for model in models if self._retired[model]}

    def _environments_of(self, connection: psycopg.Connection[Any], group: _Group) -> list[records.Runtime]:
        """The environments that these decisions name and nobody recorded yet."""
        named = group.environments
        unknown = named.keys() - self._environments
        if not unknown:
            return []
        query = "SELECT digest FROM runtime WHERE digest = ANY(%s)"
        rows = connection.execute(query, [[bytes.fromhex(digest) for digest in unknown]]).fetchall()
        on_record = {digest.hex() for (digest,) in rows}
        self._environments |= on_record
        return [records.Runtime(digest=digest, environment=dict(named[digest])) for digest in unknown - on_record]


def _seal(drafts: Sequence[Draft], last: Mapping[str, int], outcomes: dict[str, Outcome]) -> _Group:
    """Number the drafts from the last number of their station on, and make their entries. What has no entry is settled."""
    group, moment = _Group([], [], [], dict(last), {}), now()
    for draft in drafts:
        record = draft.record
        number = None if isinstance(record, records.Gap) else group.last.get(record.station, 0) + 1
        try:
            sealed = log.seal_at(record, moment, {} if number is None else {"station_seq": number})
        except RecordError as error:
            outcomes[record.id] = error
            continue
        if number is not None:
            group.last[record.station] = number
        if isinstance(record, records.Inspection):
            group.environments[record.runtime] = draft.environment or {}
        if draft.grid is not None:
            group.maps.append((len(group.sealed), Tail.of(draft.grid)))
        group.numbers.append(number)
        group.sealed.append(sealed)
    return group


def _refuse(
    drafts: Sequence[Draft],
    stations: Collection[str],
    retired: Collection[tuple[str, int]],
    outcomes: dict[str, Outcome],
) -> None:
    """Settle the drafts of stations that there are not, and those of models that were retired."""
    for draft in drafts:
        if draft.station not in stations:
            outcomes[draft.record.id] = StationNotFoundError(
                f"There is no station {draft.station}; add it with `traceai station add {draft.station}`."
            )
        elif draft.model in retired and draft.model is not None:
            name, version = draft.model
            outcomes[draft.record.id] = ModelStateError(f"{name}@{version} is retired; choose another version.")


def _told(draft: Draft, first: Draft, outcomes: Mapping[str, Outcome]) -> Outcome:
    """What became of a draft that is not the first of its id in the group."""
    outcome = outcomes[draft.record.id]
    if draft.subject != first.subject:
        return _taken(draft.record.id)
    return replace(outcome, earlier=True) if isinstance(outcome, Recorded) else outcome


def _taken(reference: str) -> IdTakenError:
    return IdTakenError(
        f"The id {reference} is on record for another image or station; an id names one inspection, so choose another."
    )


def _of_a_value(error: BaseException | None) -> bool:
    """Whether PostgreSQL minds a value of a record; a row that has no partition is no fault of the row."""
    if isinstance(error, psycopg.errors.CheckViolation | psycopg.errors.NotNullViolation):
        return error.diag.constraint_name is not None or error.diag.column_name is not None
    return isinstance(error, psycopg.DataError | UnicodeEncodeError)


def _said(error: BaseException | None) -> str:
    return str(error).strip().splitlines()[0].rstrip(".")
