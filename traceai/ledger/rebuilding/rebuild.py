"""Make the tables again what the journal says, on the record.

Order of events, in one transaction that keeps every writer out: verify the journal, refuse one that was altered, lift the
protection of the tables that differ, take away what differs and enter what was recorded, protect them again, verify everything
once more, append `tables-rebuilt/1`, commit. Whatever goes wrong before the commit leaves all as it was.

Nothing is ever rebuilt from a journal that contradicts the root in the database or a checkpoint outside it: a rebuild must not make
a forgery consistent. The first verification holds the journal against the checkpoints as the tables let them be found; the second
does so again after the tables that say who signs are what the journal says.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import islice

from psycopg import sql
from sqlalchemy import delete, insert, update
from sqlmodel import Session

from traceai.db import lifting, protection, tables
from traceai.db.connection import translated
from traceai.db.protection import names
from traceai.errors import JournalAlteredError, SchemaError
from traceai.ledger import log, records
from traceai.ledger.log import Receipt, StoredHead, driver
from traceai.ledger.projection import Columns, project
from traceai.ledger.rebuilding.plan import BY_NAME, NODE, Action, Change, Plan, read
from traceai.ledger.signing.known import Known
from traceai.ledger.signing.signer import Signer
from traceai.ledger.verification import comparison, verifier
from traceai.ledger.verification.facts import Fact, Outcome
from traceai.ledger.verification.spans import SPAN

# Takes (done, in all, what is being done).
Progress = Callable[[int, int, str], None]


@dataclass(frozen=True)
class Rebuilt:
    """What was changed, or would be.

    Attributes:
        size, root: of the journal that the tables were made after.
        checkpoints: how many tree heads outside the database it was held against.
        counts: by table, how many rows were changed, inserted, deleted; empty where nothing differed.
        listed: the first `facts.LISTED` of those rows.
        partitions: table and first ledger index of each partition that was missing and made.
        unprotected: tables and partitions whose append-only triggers were found missing or switched off.
        left: facts that do not hold all the same, since the journal cannot tell what is missing.
        receipt: of the `tables-rebuilt/1` entry; None where nothing was changed.
    """

    size: int
    root: bytes
    checkpoints: int
    counts: Mapping[str, Mapping[Action, int]]
    listed: tuple[Change, ...]
    partitions: tuple[tuple[str, int], ...]
    unprotected: tuple[str, ...]
    left: tuple[Fact, ...]
    receipt: Receipt | None


def preview(signer: Signer, progress: Progress | None = None) -> Rebuilt:
    """What `rebuild` would change. Reads one moment of the database, and locks nothing.

    Raises:
        JournalAlteredError, SchemaError: as `rebuild`.
    """
    known = signer.known_heads()
    with signer.database.moment() as session:
        head = log.stored_head(session)
        plan, outcome = _look(session, head, known, progress)
        return _rebuilt(plan, outcome, known, _foreseen(plan, outcome))


def rebuild(signer: Signer, actor: str, reason: str, progress: Progress | None = None) -> Rebuilt:
    """Make every evidence row, the stored tree and the stations' counters what the journal says. What agrees is not touched.

    Heat maps, the images of data sets and stored files are known to the journal by digest alone: they stay as they are.

    Args:
        signer: of the ledger; the journal is held against every checkpoint that its home keeps.
        actor, reason: for the record.

    Raises:
        InputError: `actor` or `reason` cannot be recorded.
        JournalAlteredError: the journal does not hold, or contradicts `ledger_head` or a checkpoint.
        DatabaseRefusedError: whoever is connected may not lift the protection of the tables.
        ConflictError: the tables are in use, or do not take a row that was recorded.
        SchemaError: the tables are not those of this release, or do not keep what is written into them.
        LedgerRolledBackError, LedgerForkedError, KeyFileError, CheckpointStoreError: as `Signer.require_writable`.
    """
    records.validated(records.TablesRebuilt, {"mended": {}, "actor": actor, "reason": reason})
    with translated():
        rights = lifting.require(signer.database.engine)
        with (
            lifting.refusals(),
            signer.database.engine.connect().execution_options(isolation_level="REPEATABLE READ") as connection,
            connection.begin(),
            Session(connection, expire_on_commit=False) as session,
        ):
            catalog = lifting.enter(driver(session), rights)
            head = log.lock(session)
            known = signer.known_heads(session=session)
            plan, outcome = _look(session, head, known, progress)
            if not plan:
                return _rebuilt(plan, outcome, known, _failing(outcome))
            unprotected = protection.unprotected(catalog)
            partitions = lifting.extend(catalog, names((tables.Inspection,))) if plan.lacking else []
            with lifting.lifted(catalog, plan.counts):
                _mend(session, plan, outcome.size, head, progress)
            known = signer.known_heads(session=session)
            again = verifier.verify_within(connection, None, _told(progress, "verifying again"), known.heads)
            _require_journal(again, head, known.findings)
            for fact in again.facts:
                if fact.name in {"tree", "tables"} and not fact.holds:
                    raise SchemaError(
                        f"The tables do not keep what is written into them ({fact.findings[0]}); look for triggers "
                        "and rules that are not traceai's. Nothing was changed."
                    )
            mended = {table: {str(action): n for action, n in count.items()} for table, count in plan.counts.items()}
            fields = {"mended": mended, "actor": actor, "reason": reason}
            (receipt,) = log.append(session, [records.validated(records.TablesRebuilt, fields)])
            return _rebuilt(plan, again, known, _failing(again), partitions, unprotected, receipt)


# --- looking ------------------------------------------------------------------------------------------------------------


def _look(session: Session, head: StoredHead, known: Known, progress: Progress | None) -> tuple[Plan, Outcome]:
    """Verify the journal, and find what differs from it."""
    columns = Fact("columns", "")
    comparison.compare_types(driver(session), columns)
    if not columns.holds:
        raise SchemaError(
            f"The tables are not those of this release ({columns.findings[0]}); give the column its type back."
        )
    connection = session.connection()
    plan = Plan(connection)
    outcome = verifier.verify_within(connection, None, _told(progress, "verifying"), known.heads, plan.look)
    signing = {str(table.__tablename__) for table in (tables.LedgerOpened, tables.LedgerKey)}
    tree = next(fact for fact in outcome.facts if fact.name == "tree")
    # What the home cannot vouch for may be for want of those rows, or of the hashes that prove their entries; then it is asked
    # again when they are there.
    _require_journal(outcome, head, () if signing & plan.counts.keys() or not tree.holds else known.findings)
    plan.complete(outcome.size, head, tree_holds=tree.holds)
    return plan, outcome


def _require_journal(outcome: Outcome, head: StoredHead, findings: tuple[str, ...]) -> None:
    """
    Raises:
        JournalAlteredError: an entry, the head or a checkpoint contradicts another.
    """
    told = [
        fact.findings[0]
        for fact in outcome.facts
        if not fact.holds and fact.name in {"entries", "leaf hashes", "checkpoints"}
    ]
    if (head.size, head.root) != (outcome.size, outcome.root):
        told.append(
            f"ledger_head has {head.size} entries under the root {head.root.hex()}, the journal has {outcome.size} that lead to "
            f"{outcome.root.hex()}"
        )
    if told := [*told, *findings]:
        raise JournalAlteredError(
            f"Nothing was rebuilt, for the journal itself does not hold ({told[0].rstrip('.')}); run `traceai ledger verify` "
            "and restore the right backup."
        )


def _failing(outcome: Outcome) -> list[Fact]:
    return [fact for fact in outcome.facts if not fact.holds]


def _foreseen(plan: Plan, outcome: Outcome) -> list[Fact]:
    """What will not hold, as far as it can be told before: most facts are read from rows, and those may be the ones to mend."""
    if not plan:
        return _failing(outcome)
    certain = {"heat maps"} if "dataset_snapshot" in plan.counts else {"heat maps", "datasets"}
    return [fact for fact in _failing(outcome) if fact.name in certain]


# --- mending ------------------------------------------------------------------------------------------------------------


def _mend(session: Session, plan: Plan, end: int, head: StoredHead, progress: Progress | None) -> None:
    """First everything goes that differs, then everything comes that was recorded: no row stands in another's way."""
    run, done, total = session.connection().execute, 0, sum(count.total() for count in plan.counts.values())

    def step(rows: int) -> None:
        nonlocal done
        done = min(done + rows, total)
        if progress:
            progress(done, total, "mending")

    step(0)
    for table, indices in plan.altered.items():
        query = sql.SQL("DELETE FROM {} WHERE journal_index = ANY(%s)").format(sql.Identifier(table))
        for chunk in _chunks(indices):
            driver(session).execute(query, [chunk])
    for table in plan.stray:
        c = tables.table_of(BY_NAME[table]).c
        run(delete(BY_NAME[table]).where(comparison.outside(c.journal_index, end)))
    for chunk in _chunks(plan.lacking):
        rows: dict[type[tables.Evidence], list[Columns]] = {}
        for index, entry in read(driver(session), chunk):
            table_of, row = project(index, entry)
            rows.setdefault(table_of, []).append(row)
        log.enter(session, rows)
        step(len(chunk))
    for (level, node), value in plan.nodes.items():
        run(delete(NODE).where(NODE.c.level == level, NODE.c.index == node))
        if value is not None:
            run(insert(NODE), {"level": level, "index": node, "hash": value})
        step(1)
    if plan.frontier is not None:
        run(update(tables.LedgerHead).values(frontier=plan.frontier))
    for station, last in plan.counters.items():
        run(update(tables.Station).where(tables.Station.name == station).values(last_seq=last))  # type: ignore[arg-type]
    step(total)


def _chunks(indices: Iterable[int]) -> Iterator[list[int]]:
    rest = iter(indices)
    while chunk := list(islice(rest, SPAN)):
        yield chunk


# --- what was done --------------------------------------------------------------------------------------------------------


def _rebuilt(
    plan: Plan,
    outcome: Outcome,
    known: Known,
    left: list[Fact],
    partitions: list[tuple[str, int]] | None = None,
    unprotected: list[str] | None = None,
    receipt: Receipt | None = None,
) -> Rebuilt:
    return Rebuilt(
        size=outcome.size,
        root=outcome.root,
        checkpoints=len(known.heads),
        counts=plan.counts,
        listed=tuple(plan.listed),
        partitions=tuple(partitions or ()),
        unprotected=tuple(unprotected or ()),
        left=tuple(left),
        receipt=receipt,
    )


def _told(progress: Progress | None, what: str) -> verifier.Progress | None:
    return (lambda done, total: progress(done, total, what)) if progress else None
