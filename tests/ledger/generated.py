"""Records of every type with anything in them that they may hold."""

from datetime import UTC, datetime, timedelta
from typing import Any

from hypothesis import strategies as st

from traceai.clock import timestamp
from traceai.ledger import records
from traceai.ledger.projection import Branch, Kind, Leaf, shape
from traceai.ledger.records import Record

# Text as people write it, and as they should not: quotes, backslashes, tabs, umlauts, astral characters, line separators.
CHARACTERS = st.sampled_from(' aN."\\/\t\r\nä\u2028\U0001f600é<&>%{}\x85')
NAME = st.text(CHARACTERS.filter(lambda c: c not in "\t\r\n"), min_size=1, max_size=20)
TEXT = st.text(CHARACTERS, max_size=30)
DECIMAL = st.sampled_from(
    ["0", "1", "0.5", "-0.25", "0.0001", "0.00009", "0.000074392556", "-0.00000000000000000000000000000000000001", "123456790000",
     "340282350000000000000000000000000000000", "16777216", "0.1", "0.597460", "1.0"]
)  # fmt: skip
DIGEST = st.binary(min_size=32, max_size=32).map(bytes.hex)
COUNT = st.integers(0, 2**31 - 2)
TIME = st.integers(-(2**31), 2**32).map(
    lambda seconds: timestamp(datetime(1970, 1, 1, tzinfo=UTC) + timedelta(seconds=seconds))
)
JSON = st.dictionaries(
    NAME,
    st.recursive(st.none() | st.booleans() | COUNT | TEXT, lambda i: st.lists(i, max_size=3), max_leaves=4),
    max_size=3,
)


def fields(record_type: type[Record]) -> st.SearchStrategy[dict[str, Any]]:
    """Values for every field of a record, nulls included."""

    def of(part: Leaf | Branch) -> st.SearchStrategy[Any]:
        if isinstance(part, Branch):
            made = st.fixed_dictionaries({name(p): of(p) for p in part.parts})
        elif part.kind is Kind.TEXT:
            literals = getattr(part.hint, "__args__", ())
            fixed = [value for value in literals if isinstance(value, str)]
            made = st.sampled_from(fixed) if fixed else TEXT if part.hint == records.Text else NAME
        elif part.hint == dict[records.Name, records.DecimalString]:
            made = st.dictionaries(NAME, DECIMAL, max_size=3)
        elif part.hint == list[records.Name]:
            made = st.lists(NAME, max_size=3)
        elif part.kind is Kind.JSON:
            witness = st.fixed_dictionaries({"name": NAME, "key": TEXT, "url": TEXT})
            made = st.lists(witness, max_size=2) if part.hint == list[records.Witness] else JSON
        else:
            made = {
                Kind.INTEGER: COUNT.map(lambda n: n + 1),
                Kind.BOOLEAN: st.booleans(),
                Kind.NUMBER: DECIMAL,
                Kind.BYTES: DIGEST,
                Kind.UUID: st.uuids(version=4).map(str),
                Kind.TIME: TIME,
            }[part.kind]
        return st.none() | made if part.nullable else made

    def name(part: Leaf | Branch) -> str:
        return part.path[-1] if isinstance(part, Leaf) else part.name

    made = st.fixed_dictionaries(
        {name(p): of(p) for p in shape(record_type).parts if name(p) not in ("id", "salt", "occurred_at")}
    )
    return made.map(_in_order) if record_type is records.Gap else made


def _in_order(gap: dict[str, Any]) -> dict[str, Any]:
    """The same, with what a gap's fields have to say of each other."""
    began_at, ended_at = sorted((gap["began_at"], gap["ended_at"]))
    triggers = (gap["first_trigger"], gap["last_trigger"])
    first, last = (None, None) if None in triggers else sorted(triggers)
    return gap | {"began_at": began_at, "ended_at": ended_at, "first_trigger": first, "last_trigger": last}
