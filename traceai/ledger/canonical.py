"""Canonical bytes: RFC 8785 (JCS), and the one way a float enters a record, as a decimal string."""

import json
from typing import Any

import numpy as np
import rfc8785

from traceai.errors import RecordError

JSON_TYPES = (dict, list, str, int, bool, type(None))


def dumps(value: Any) -> bytes:
    """The RFC 8785 bytes of a JSON value of objects, arrays, strings, integers, booleans and null.

    Raises:
        RecordError: a float (records hold decimal strings), an integer beyond 2**53, a lone surrogate, or a type
            that JSON does not have.
    """
    _refuse_floats(value)
    try:
        return rfc8785.dumps(value)
    except (rfc8785.CanonicalizationError, UnicodeEncodeError) as error:
        raise RecordError(f"This value has no canonical form: {error}.") from error


def loads(data: bytes) -> Any:
    """The inverse of `dumps`, for canonical bytes only: `dumps(loads(b)) == b`.

    Raises:
        RecordError: `data` is not JSON, or is JSON in another than its canonical form.
    """
    try:
        value = json.loads(data.decode("utf-8"))
    except (ValueError, RecursionError) as error:
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


def _refuse_floats(value: Any) -> None:
    if isinstance(value, float) or not isinstance(value, JSON_TYPES):
        raise RecordError(f"A record holds no {type(value).__name__}; write numbers with a point as decimal strings.")
    if isinstance(value, dict):
        for key, item in value.items():
            if not isinstance(key, str):
                raise RecordError("The names in a record are strings.")
            _refuse_floats(item)
    elif isinstance(value, list):
        for item in value:
            _refuse_floats(item)
