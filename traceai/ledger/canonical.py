"""Canonical bytes: RFC 8785 (JCS), and the one way a float enters a record, as a decimal string."""

from collections.abc import Mapping
from functools import lru_cache
from typing import Any

import numpy as np
import orjson
import rfc8785
from pydantic import BaseModel

from traceai.errors import RecordError

LARGEST_INTEGER = 2**53 - 1
_CHANGEABLE = frozenset({dict, list})
_OPTIONS = orjson.OPT_SORT_KEYS | orjson.OPT_STRICT_INTEGER
_TEXTS = frozenset({str})
_REFUSED = (rfc8785.CanonicalizationError, orjson.JSONEncodeError, UnicodeEncodeError, RecursionError)


def dumps(value: Any, *, exact: bool = False) -> bytes:
    """The RFC 8785 bytes of a JSON value.

    Without floats, canonical JSON is sorted compact JSON with the shortest escapes, which orjson writes many times faster than
    a JCS library. It sorts names by code point and JCS by UTF-16 code unit: the same for names that end before the surrogates. The
    rest goes to `rfc8785`.

    Args:
        exact: refuse floats as well: a record holds decimal strings.

    Raises:
        RecordError: a float that is not finite, an integer beyond 2**53 - 1, a lone surrogate, a type that JSON does not have, or
            nesting without end.
    """
    try:
        if _plain(value, exact):
            try:
                return _compact(value)
            except orjson.JSONEncodeError:
                pass  # the library goes deeper, and says better what is wrong
        return rfc8785.dumps(value)
    except _REFUSED as error:
        raise RecordError(f"This value has no canonical form: {error}.") from error


def part(value: dict[str, Any] | list[Any]) -> bytes:
    """The canonical bytes of what a record holds now in a dict or a list, which anybody can change, even meanwhile.

    Raises:
        RecordError: as `dumps`, exact.
    """
    if type(value) is dict:
        copied = value.copy()
        for item in copied.values():
            if type(item) is not str:
                break
        else:  # classes and their numbers, in every decision
            if _are_ascii(tuple(copied)):
                try:
                    return _compact(copied)
                except orjson.JSONEncodeError:
                    pass  # the longer way says better what is wrong
    return dumps(_copied(value), exact=True)


def dumps_fields(fields: Mapping[str, Any]) -> bytes:
    """The same bytes as `dumps`, of an object whose names are ASCII and whose scalars are validated; what is neither is a `part`.

    Raises:
        RecordError: as `dumps`.
    """
    try:
        return _compact(fields)
    except _REFUSED as error:
        raise RecordError(f"This value has no canonical form: {error}.") from error


def loads(data: bytes) -> Any:
    """The inverse of `dumps`, for canonical bytes only: `dumps(loads(b)) == b`.

    Raises:
        RecordError: `data` is not JSON, or is JSON in another than its canonical form.
    """
    try:
        value = orjson.loads(data)
    except orjson.JSONDecodeError as error:
        raise RecordError(f"These bytes are not JSON: {error}.") from error
    if dumps(value) != data:
        raise RecordError("These bytes are JSON, but not in canonical form.")
    return value


def decimal(value: float) -> str:
    """The shortest decimal string, without exponent, that reads back as the same float32.

    Raises:
        RecordError: `value` is not finite.
    """
    single = np.float32(value)
    if not np.isfinite(single):
        raise RecordError(f"{value} is not finite and cannot be recorded.")
    text = np.format_float_positional(single, unique=True, trim="-")
    return "0" if text == "-0" else text


def _compact(value: Any) -> bytes:
    return orjson.dumps(value, default=_inner, option=_OPTIONS)


def _inner(value: Any) -> Any:
    return orjson.Fragment(value) if type(value) is bytes else vars(value)


@lru_cache(maxsize=256)
def _are_ascii(names: tuple[Any, ...]) -> bool:
    """Whether all of them are strings, and ASCII. A model has the same classes in every decision."""
    return _TEXTS.issuperset(map(type, names)) and "".join(names).isascii()


def _copied(value: Any) -> Any:
    if type(value) is dict:
        return {name: _copied(item) if type(item) in _CHANGEABLE else item for name, item in tuple(value.items())}
    if type(value) is list:
        return [_copied(item) if type(item) in _CHANGEABLE else item for item in tuple(value)]
    return value


def _plain(value: Any, exact: bool) -> bool:
    """Refuse what has no canonical form; say whether there is no float in it and every name ends before the surrogates."""
    if type(value) is dict:
        try:
            names = "".join(value)
        except TypeError as error:
            raise RecordError("The names in a record are strings.") from error
        plain = names.isascii() or max(names) < "\ud800"
        for item in value.values():
            # Nearly everything in a record is one of these: no call for that.
            kind = type(item)
            if kind is str or item is None or (kind is int and 0 <= item <= LARGEST_INTEGER) or kind is bool:
                continue
            plain = _plain(item, exact) and plain
        return plain
    if type(value) is list:
        plain = True
        for item in value:
            plain = _plain(item, exact) and plain
        return plain
    return _plain_scalar(value, exact)


def _plain_scalar(value: Any, exact: bool) -> bool:
    kind = type(value)
    if kind is str or kind is bool or value is None:
        return True
    if kind is int:
        if not -LARGEST_INTEGER <= value <= LARGEST_INTEGER:
            raise RecordError(f"A record holds integers of at most 53 bits, and {value} is larger.")
        return True
    if kind is float and not exact:
        return False
    if isinstance(value, BaseModel):
        return _plain(vars(value), exact)
    raise RecordError(f"A record holds no {kind.__name__}; write numbers with a point as decimal strings.")
