"""Canonical JSON, read with the standard library alone: the offline verifier's own RFC 8785, not the writer's.

A ledger's JSON has objects, arrays, strings, integers, booleans and null. There is one way to write each value, and all
others are refused: this is what makes every byte of an entry and of an evidence file count.
"""

import json
from typing import Any, NoReturn

from traceai.errors import RecordError

_DIGITS = 16  # 2**53 has so many
_LARGEST_INTEGER = 2**53 - 1


def loads(data: bytes) -> Any:
    """The value of canonical bytes: `dumps(loads(b)) == b`.

    Raises:
        RecordError: not JSON, or not in RFC 8785 form, or with a number that no record holds. Nothing else is ever raised.
    """
    try:
        value = _decoder.decode(data.decode("utf-8"))
    except UnicodeDecodeError as error:
        raise RecordError("These bytes are not UTF-8.") from error
    except RecursionError as error:
        raise RecordError("This JSON is nested deeper than any record.") from error
    except ValueError as error:  # json.JSONDecodeError is one
        raise RecordError("These bytes are not JSON.") from error
    if dumps(value) != data:
        raise RecordError("These bytes are JSON, but not in canonical form.")
    return value


def dumps(value: Any) -> bytes:
    """The RFC 8785 bytes of a value that `loads` can return.

    Raises:
        RecordError: a lone surrogate, or nesting that is too deep.
    """
    # Sections 3.2.2.2 and 3.2.3: the escapes are those of `json`, and names go by UTF-16 code units.
    try:
        return json.dumps(_sorted(value), ensure_ascii=False, separators=(",", ":")).encode("utf-8")
    except UnicodeEncodeError as error:
        raise RecordError("A string holds half of a surrogate pair.") from error
    except RecursionError as error:
        raise RecordError("This JSON is nested deeper than any record.") from error


def _sorted(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _sorted(value[name]) for name in sorted(value, key=_code_units)}
    if isinstance(value, list):
        return [_sorted(item) for item in value]
    return value


def _code_units(name: str) -> bytes:
    return name.encode("utf-16-be", "surrogatepass")


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise RecordError("An object has a name twice.")
    return found


def _integer(digits: str) -> int:
    # The length first: Python refuses to convert thousands of digits, with an error of its own.
    if len(digits.lstrip("-")) > _DIGITS or abs(int(digits)) > _LARGEST_INTEGER:
        raise RecordError("An integer has more than 53 bits.")
    return int(digits)


def _refuse(literal: str) -> NoReturn:
    raise RecordError("A number has a fraction or an exponent, or is none.")


_decoder = json.JSONDecoder(
    object_pairs_hook=_object, parse_int=_integer, parse_float=_refuse, parse_constant=_refuse, strict=True
)
