"""A table row written back by PostgreSQL as the entry it stands for: an SQL expression for each record type.

The expression and `projection.project` are two readings of one declaration, the record's own. A row that gives the entry's
bytes says what the entry says in every column, at the cost of one comparison; a row that does not is looked at column by column.

Every name is qualified, so that no function of another schema can stand in for the server's own.
"""

from collections.abc import Iterator

from traceai.ledger.projection import Branch, Kind, Leaf, shape
from traceai.ledger.records import Record

_TIME = 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"'


def readback(record_type: type[Record], alias: str) -> str:
    """SQL for the canonical text of the entry behind a row of `alias`. NULL where a column that must be set is not."""
    return _object(shape(record_type), alias, record_type)


def _object(branch: Branch, alias: str, record_type: type[Record] | None = None) -> str:
    members = dict(_members(branch, alias, record_type))
    arguments = [members[name] for name in sorted(members)]
    # `||` gives NULL for NULL, where format() would leave a gap; pairs of halves keep the copying short.
    return _joined(
        [part for name, value in zip(sorted(members), arguments, strict=True) for part in (_key(name, members), value)]
        + ["'}'"]
    )


def _key(name: str, members: dict[str, str]) -> str:
    opening = "{" if name == min(members) else ","
    return f"'{opening}\"{name}\":'"


def _joined(parts: list[str]) -> str:
    if len(parts) == 1:
        return parts[0]
    half = len(parts) // 2
    return f"({_joined(parts[:half])} || {_joined(parts[half:])})"


def _members(branch: Branch, alias: str, record_type: type[Record] | None) -> Iterator[tuple[str, str]]:
    for part in branch.parts:
        if isinstance(part, Leaf):
            sql = _value(part.kind, f'{alias}."{part.column}"')
            yield part.path[-1], f"coalesce({sql}, 'null')" if part.nullable else sql
            continue
        sql = _object(part, alias)
        if part.nullable:
            columns = [f'{alias}."{leaf.column}"' for leaf in part.parts if isinstance(leaf, Leaf)]
            empty = " AND ".join(f"{column} IS NULL" for column in columns)
            sql = f"CASE WHEN {empty} THEN 'null' ELSE {sql} END"
        yield part.name, sql
    if record_type is not None:
        yield "schema", f"'\"{record_type.schema_name}\"'"
        yield "recorded_at", _value(Kind.TIME, f"{alias}.recorded_at")


def _value(kind: Kind, column: str) -> str:
    match kind:
        case Kind.TEXT:
            return f"pg_catalog.to_json({column}::text)::text"
        case Kind.BYTES:
            return f"('\"' || pg_catalog.encode({column}, 'hex') || '\"')"
        case Kind.UUID | Kind.NUMBER:
            return f"('\"' || {column}::text || '\"')"
        case Kind.TIME:
            # to_char leaves out the era: a year before ours must not pass for one of ours.
            return (
                f"('\"' || CASE WHEN {column} >= '0001-01-01 00:00:00+00' THEN"
                f" pg_catalog.to_char(pg_catalog.timezone('UTC', {column}), '{_TIME}') ELSE {column}::text END || '\"')"
            )
        case Kind.INTEGER | Kind.BOOLEAN | Kind.JSON:
            return f"{column}::text"
