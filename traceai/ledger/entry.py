"""A record as it stands in the journal: its fields with `schema` and `recorded_at`, in canonical bytes."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

from pydantic import ValidationError

from traceai.errors import RecordError
from traceai.ledger import canonical
from traceai.ledger.packing import LONGEST_ENTRY
from traceai.ledger.records import SCHEMAS, Record, of_the_calendar


@dataclass(frozen=True)
class Entry:
    """A record as it stands in the journal: `Entry.parse(e.data) == e`. `fields`: its JSON value."""

    record: Record
    recorded_at: str
    data: bytes
    fields: dict[str, Any] = field(compare=False, repr=False)

    @classmethod
    def seal(cls, record: Record, recorded_at: str) -> "Entry":
        """Raises:
        RecordError: it has no canonical form, or one that is longer than an entry may be; or there is no such time.
        """
        try:
            of_the_calendar(recorded_at)
        except ValueError as error:
            raise RecordError(f"Nothing can be recorded at {recorded_at!r}: {error}.") from error
        data = entry_bytes(fields_of(record, recorded_at))
        return cls(record, recorded_at, data, canonical.loads(data))

    @classmethod
    def parse(cls, data: bytes) -> "Entry":
        """Read an entry's bytes.

        Raises:
            RecordError: not canonical, of a schema this release does not know, or not a valid record of it.
        """
        fields = canonical.loads(data)
        if not isinstance(fields, dict):
            raise RecordError("A journal entry is a JSON object.")
        content = dict(fields)
        schema, recorded_at = content.pop("schema", None), content.pop("recorded_at", None)
        record_type = SCHEMAS.get(schema) if isinstance(schema, str) else None
        if record_type is None:
            raise RecordError(f"The record schema {schema!r} is not known to this release; verify with a newer one.")
        try:
            record = record_type.model_validate(content)
            of_the_calendar(recorded_at)
        except (ValueError, TypeError) as error:  # pydantic's ValidationError is a ValueError
            raise RecordError(f"Not a valid {record_type.schema_name} record: {_first(error)}.") from error
        # Nothing may be left out: a field that a default filled in was never recorded.
        if entry_bytes(fields_of(record, recorded_at)) != data:
            raise RecordError(f"Not a complete {record_type.schema_name} record: a field is missing.")
        return cls(record, recorded_at, data, fields)


def fields_of(record: Record, recorded_at: str, placed: Mapping[str, Any] = MappingProxyType({})) -> dict[str, Any]:
    """The members of the entry that holds `record`: objects as what they hold, and dicts and lists in their canonical form.

    placed: what only now is known of its fields.

    Raises:
        RecordError: a dict or a list that has none.
    """
    fields = {**vars(record), **placed, "schema": record.schema_name, "recorded_at": recorded_at}
    for name, value in fields.items():
        kind = type(value)
        if kind is str or kind is int or value is None:
            continue
        if kind is dict or kind is list:
            fields[name] = canonical.part(value)
        else:  # asking pydantic whether this is a model takes longer than all the rest
            fields[name] = getattr(value, "__dict__", value)
    return fields


def entry_bytes(fields: dict[str, Any]) -> bytes:
    """The bytes of the entry with the members `fields`.

    Raises:
        RecordError: it has no canonical form, or one that is longer than an entry may be.
    """
    data = canonical.dumps_fields(fields)
    if len(data) > LONGEST_ENTRY:
        raise RecordError(
            f"A {fields['schema']} record of {len(data)} bytes does not fit into an entry, which has at most "
            f"{LONGEST_ENTRY}; record less in it."
        )
    return data


def _first(error: Exception) -> str:
    if isinstance(error, ValidationError):
        found = error.errors()[0]
        return ": ".join(part for part in (".".join(map(str, found["loc"])), found["msg"]) if part)
    return str(error)
