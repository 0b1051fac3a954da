"""Time and time-ordered identifiers, in one place so that both can be reasoned about."""

import secrets
import time
import uuid
from datetime import UTC, datetime


def now() -> datetime:
    """The current time in UTC, microsecond resolution."""
    return datetime.now(UTC)


def timestamp(moment: datetime) -> str:
    """RFC 3339 in UTC with microseconds and a `Z`: the only form of a time in a record.

    Raises:
        ValueError: `moment` has no time zone.
    """
    if moment.tzinfo is None:
        raise ValueError("a time without a zone cannot be recorded")
    if moment.tzinfo is not UTC:
        moment = moment.astimezone(UTC)
    return moment.isoformat(timespec="microseconds").removesuffix("+00:00") + "Z"


def parse_timestamp(text: str) -> datetime:
    """The inverse of `timestamp`: `parse_timestamp(timestamp(t)) == t`.

    Raises:
        ValueError: `text` is no time in that form.
    """
    moment = datetime.fromisoformat(text)
    if moment.tzinfo is None or timestamp(moment) != text:
        raise ValueError(f"{text!r} is no canonical time")
    return moment


def uuid7() -> uuid.UUID:
    """A UUID version 7 (RFC 9562, section 5.7): 48 bits of Unix milliseconds, 74 random bits."""
    millis = time.time_ns() // 1_000_000
    random = secrets.randbits(74)
    value = (millis & (1 << 48) - 1) << 80 | 0x7 << 76 | (random >> 62) << 64 | 0b10 << 62 | random & (1 << 62) - 1
    return uuid.UUID(int=value)
