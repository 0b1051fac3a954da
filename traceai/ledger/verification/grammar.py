"""Recognise an entry from its bytes alone: a regular expression for each record type whose shape is fixed.

Canonical JSON has one order of names, one spelling of each value and no white space, so the entries of such a type are a regular
language. What is recognised is a valid, complete, canonical record: `Entry.parse` would take it. The reverse does not hold:
long texts, escapes, very large integers and names beyond ASCII go the long way. A property test holds the two together.
"""

import re
from collections.abc import Iterator
from functools import cache, lru_cache
from itertools import pairwise
from typing import Any, Literal, get_args, get_origin

from pydantic.types import StringConstraints

from traceai.ledger import records
from traceai.ledger.projection import Branch, Leaf, shape
from traceai.ledger.records import SCHEMAS, Record

# Possessive throughout: what a class of characters has taken is never given back, so matching is one pass over the bytes.
_NAME = rb'"[^"\\\x00-\x1f\x7f]{1,200}+"'
_TEXT = rb'"[^"\\\x00-\x1f\x7f]{0,2000}+"'
_DECIMAL = rb'"(?!-0(?:\.0++)?+")-?+(?>0|[1-9][0-9]*+)(?:\.[0-9]++)?+"'
_PAIR = b"%s:%s" % (_NAME, _DECIMAL)
_MAP = b"((?:%s(?:,%s)*+)?+)" % (_PAIR, _PAIR)

# The names of a map, in order.
_Names = tuple[bytes, ...]


class _NotRegularError(Exception):
    """A record type whose entries no expression here describes."""


class Grammar:
    """The entries of one record type."""

    def __init__(self, record_type: type[Record]) -> None:
        """Raises _NotRegularError."""
        if record_type.__pydantic_decorators__.model_validators:
            raise _NotRegularError  # one field says what another may be
        self.schema = record_type.schema_name
        self._source = self._object(shape(record_type), record_type)
        self._any = self._usual = re.compile(self._source)
        # One model's decisions have the same names in every map: what expects them need not look for them.
        self._expecting = lru_cache(maxsize=100)(self._compile)

    def matches(self, entry: bytes) -> bool:
        if self._usual is self._any or self._usual.fullmatch(entry) is None:
            match = self._any.fullmatch(entry)
            if match is None:
                return False
            # A map is "name":"decimal",... and neither holds a quote, so every fourth piece between quotes is a name.
            maps = tuple(tuple(members.split(b'"')[1::4]) for members in match.groups())
            if not all(map(_ascending, maps)):
                return False
            if maps:
                self._usual = self._expecting(maps)
        if not entry.isascii():
            try:
                entry.decode("utf-8")
            except UnicodeDecodeError:
                return False
        return True

    def _compile(self, maps: tuple[_Names, ...]) -> re.Pattern[bytes]:
        """The same expression for entries whose maps have these names."""
        first, *others = self._source.split(_MAP)
        expected = (b",".join(b'"%s":%s' % (re.escape(name), _DECIMAL) for name in names) for names in maps)
        return re.compile(first + b"".join(names + piece for names, piece in zip(expected, others, strict=True)))

    def _object(self, branch: Branch, record_type: type[Record] | None = None) -> bytes:
        members = dict(self._members(branch, record_type))
        return b"\\{" + b",".join(b'"%s":%s' % (name.encode(), members[name]) for name in sorted(members)) + b"\\}"

    def _members(self, branch: Branch, record_type: type[Record] | None) -> Iterator[tuple[str, bytes]]:
        for part in branch.parts:
            name = part.path[-1] if isinstance(part, Leaf) else part.name
            pattern = self._value(part.hint) if isinstance(part, Leaf) else self._object(part)
            yield name, b"(?:null|%s)" % pattern if part.nullable else pattern
        if record_type is not None:
            yield "schema", re.escape(b'"%s"' % record_type.schema_name.encode())
            yield "recorded_at", self._value(records.Timestamp)

    def _value(self, hint: Any) -> bytes:  # noqa: PLR0911  # one exit a type of value
        if hint == records.Name:
            return _NAME
        if hint == records.Text:
            return _TEXT
        if hint == records.DecimalString:
            return _DECIMAL
        if hint is bool:
            return b"(?:true|false)"
        if get_origin(hint) is Literal:
            return b"(?:%s)" % b"|".join(re.escape(b'"%s"' % value.encode()) for value in get_args(hint))
        if hint == dict[records.Name, records.DecimalString]:
            return b"\\{%s\\}" % _MAP
        metadata = getattr(hint, "__metadata__", ())
        for constraint in metadata:
            if isinstance(constraint, StringConstraints) and isinstance(constraint.pattern, str):
                return b'"%s"' % constraint.pattern.removeprefix("^").removesuffix("$").encode()
        if metadata and get_args(hint)[0] is int:
            # At most 15 digits, all of them below 2**53.
            from_one = any(getattr(limit, "ge", None) == 1 for limit in metadata[0].metadata)
            return b"[1-9][0-9]{0,14}+" if from_one else b"(?:0|[1-9][0-9]{0,14}+)"
        raise _NotRegularError


@lru_cache(maxsize=1000)
def _ascending(names: _Names) -> bool:
    """Sorted, none twice, and ASCII, where UTF-16 code units sort like bytes."""
    return all(name.isascii() for name in names) and all(a < b for a, b in pairwise(names))


@cache
def grammars() -> tuple[Grammar, ...]:
    """The grammars there are, the commonest entries first."""
    found = []
    for record_type in SCHEMAS.values():
        try:
            found.append(Grammar(record_type))
        except _NotRegularError:
            continue
    return tuple(found)


def recognise(entry: bytes) -> str | None:
    """The schema of an entry that is certainly a valid record; None where that takes a closer look.

    The calendar is left to whoever compares the row: a time that a `timestamptz` column gives back is a real one.
    """
    for grammar in grammars():
        if grammar.matches(entry):
            return grammar.schema
    return None
