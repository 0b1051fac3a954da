"""The fields of every record schema, for a reader who has the standard library alone.

Written a second time on purpose: `ledger.records` says what may be written, this says what an auditor accepts, and a test
compares the two value by value. `docs/record-format.md` is normative for both. A schema is never changed and never removed.
"""

import re
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any

from traceai.errors import RecordError
from traceai.ledger.evidence import strict_json

Check = Callable[[Any, str], None]
"""Takes a value and the place it stands at; raises RecordError."""


def read(entry: bytes) -> dict[str, Any]:
    """The fields of an entry, `schema` and `recorded_at` among them.

    Raises:
        RecordError: not canonical, of a schema that is not known here, or not a record of it: a field missing, unknown, or of
            another type.
    """
    fields = strict_json.loads(entry)
    if not isinstance(fields, dict):
        raise RecordError("An entry is a JSON object.")
    schema = fields.get("schema")
    if not isinstance(schema, str) or schema not in SCHEMAS:
        raise RecordError("The record schema is not known to this release; verify with a newer one.")
    SCHEMAS[schema](fields, schema)
    return fields


def _refused(place: str, what: str) -> RecordError:
    return RecordError(f"{place} is no {what}.")


def _string(what: str, pattern: str, longest: int | None = None) -> Check:
    compiled = re.compile(pattern)

    def check(value: Any, place: str) -> None:
        if type(value) is not str or not compiled.fullmatch(value) or (longest is not None and len(value) > longest):
            raise _refused(place, what)

    return check


def _integer(what: str, least: int) -> Check:
    def check(value: Any, place: str) -> None:
        if type(value) is not int or value < least:
            raise _refused(place, what)

    return check


def _one_of(*values: str) -> Check:
    def check(value: Any, place: str) -> None:
        if type(value) is not str or value not in values:
            raise _refused(place, " or ".join(values))

    return check


def _nullable(inner: Check) -> Check:
    def check(value: Any, place: str) -> None:
        if value is not None:
            inner(value, place)

    return check


def _list_of(inner: Check) -> Check:
    def check(value: Any, place: str) -> None:
        if type(value) is not list:
            raise _refused(place, "list")
        for number, item in enumerate(value):
            inner(item, f"{place}.{number}")

    return check


def _names_to(inner: Check) -> Check:
    def check(value: Any, place: str) -> None:
        if type(value) is not dict:
            raise _refused(place, "object")
        for name, item in value.items():
            _NAME(name, f"a name in {place}")
            inner(item, f"a value in {place}")

    return check


def _object(fields: Mapping[str, Check]) -> Check:
    def check(value: Any, place: str) -> None:
        if type(value) is not dict:
            raise _refused(place, "object")
        if value.keys() != fields.keys():
            raise RecordError(f"{place} has not the fields of its schema, all of them and no other.")
        for name, inner in fields.items():
            inner(value[name], f"{place}.{name}")

    return check


def _anything(value: Any, place: str) -> None:
    pass


def _boolean(value: Any, place: str) -> None:
    if type(value) is not bool:
        raise _refused(place, "true or false")


def _time(value: Any, place: str) -> None:
    _TIME_FORM(value, place)
    year, month, day, hour, minute, second, microsecond = (int(part) for part in re.findall("[0-9]+", value))
    try:
        datetime(year, month, day, hour, minute, second, microsecond, UTC)
    except ValueError as error:
        raise _refused(place, "moment of the calendar") from error


_ID = _string("id", r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")
_DIGEST = _string("digest", r"[0-9a-f]{64}")
_TIME_FORM = _string("time", r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}\.[0-9]{6}Z")
_DECIMAL = _string("decimal", r"(0|-?[1-9][0-9]*)(\.[0-9]+)?|-0\.[0-9]*[1-9][0-9]*")
_SALT = _string("salt", r"[0-9a-f]{32}")
_NAME = _string("name", r"[^\x00-\x1f\x7f]+", 200)
_TEXT = _string("text", r"[^\x00-\x08\x0b\x0c\x0e-\x1f\x7f]*", 2000)
_COUNT = _integer("count", 0)


def _gap(value: Any, place: str) -> None:
    """What the fields of a `gap/1` say of each other; one form of time, so text sorts as time does."""
    if value["ended_at"] < value["began_at"]:
        raise _refused(f"{place}.ended_at", "time after its beginning")
    first, last = value["first_trigger"], value["last_trigger"]
    if (first is None) != (last is None) or (first is not None and last < first):
        raise _refused(f"{place}.last_trigger", "last of a range of triggers")


_PART = _object({name: _nullable(_NAME) for name in ("product", "serial", "lot", "view")})
_IMAGE = _object(
    {
        "sha256": _nullable(_DIGEST),
        "bytes": _nullable(_COUNT),
        "pixel_sha256": _nullable(_DIGEST),
        "width": _nullable(_COUNT),
        "height": _nullable(_COUNT),
        "media_type": _nullable(_NAME),
    }
)
_MODEL = _object({"name": _NAME, "version": _integer("integer from 1", 1), "digest": _DIGEST})
_OPERATING_POINT = _object({"pass_below": _DECIMAL, "reject_at": _DECIMAL})
_EXPLANATION = _object(
    {
        "method": _NAME,
        "layer": _NAME,
        "target": _NAME,
        "height": _COUNT,
        "width": _COUNT,
        "sha256": _DIGEST,
        "min": _DECIMAL,
        "max": _DECIMAL,
        "sum": _DECIMAL,
        "positive_fraction": _DECIMAL,
        "peak_row": _COUNT,
        "peak_column": _COUNT,
        "bias": _nullable(_DECIMAL),
        "residual": _nullable(_DECIMAL),
        "degenerate": _boolean,
    }
)
_AUDIT = _object({"stratum": _NAME, "probability": _DECIMAL, "drawn": _boolean})
_LOG_HEAD = _object({"origin": _NAME, "size": _COUNT, "root": _DIGEST})
_WITNESS = _object({"name": _NAME, "key": _TEXT, "url": _TEXT})


def _schema(schema: str, /, *rules: Check, **fields: Check) -> tuple[str, Check]:
    """rules: what the fields have to say of each other, once each of them is what it has to be."""
    shared = {"id": _ID, "occurred_at": _time, "salt": _SALT, "schema": _one_of(schema), "recorded_at": _time}
    whole = _object({**shared, **fields})

    def check(value: Any, place: str) -> None:
        whole(value, place)
        for rule in rules:
            rule(value, place)

    return schema, check


SCHEMAS: dict[str, Check] = dict(
    (
        _schema(
            "inspection/1",
            station=_NAME,
            station_seq=_COUNT,
            trigger=_nullable(_COUNT),
            part=_PART,
            image=_IMAGE,
            model=_MODEL,
            logits=_names_to(_DECIMAL),
            scores=_names_to(_DECIMAL),
            defect_score=_nullable(_DECIMAL),
            operating_point=_nullable(_OPERATING_POINT),
            verdict=_one_of("pass", "reject", "undecided"),
            predicted=_NAME,
            explanation=_EXPLANATION,
            audit=_AUDIT,
            runtime=_DIGEST,
            latency_us=_COUNT,
        ),
        _schema(
            "inspection-failed/1",
            station=_NAME,
            station_seq=_COUNT,
            trigger=_nullable(_COUNT),
            part=_PART,
            image=_IMAGE,
            source=_TEXT,
            model=_MODEL,
            failure_code=_NAME,
            failure=_TEXT,
        ),
        _schema("runtime/1", digest=_DIGEST, environment=_names_to(_anything)),
        _schema(
            "dataset-snapshot/1",
            name=_NAME,
            digest=_DIGEST,
            listing=_DIGEST,
            images=_COUNT,
            counts=_names_to(_anything),
            made_by=_NAME,
        ),
        _schema(
            "model-version/1",
            model=_MODEL,
            weights_sha256=_DIGEST,
            architecture=_TEXT,
            parameters=_COUNT,
            layer=_NAME,
            classes=_list_of(_NAME),
            operating_point=_nullable(_OPERATING_POINT),
            snapshot_name=_nullable(_NAME),
            snapshot_digest=_nullable(_DIGEST),
            training=_names_to(_anything),
            evaluation=_names_to(_anything),
            made_by=_NAME,
        ),
        _schema(
            "model-event/1",
            model=_MODEL,
            action=_one_of("waive", "approve", "activate", "retire"),
            actor=_NAME,
            reason=_TEXT,
        ),
        _schema("model-refused/1", model=_MODEL, file=_NAME, expected=_DIGEST, found=_DIGEST, actor=_NAME),
        _schema(
            "model-export/1",
            model=_MODEL,
            format=_one_of("onnx"),
            sha256=_DIGEST,
            size=_COUNT,
            tools=_names_to(_anything),
            images=_COUNT,
            logit_difference=_DECIMAL,
            grid_difference=_DECIMAL,
            made_by=_NAME,
        ),
        _schema(
            "explanation-quality/1",
            model=_MODEL,
            method=_NAME,
            layer=_NAME,
            snapshot_name=_NAME,
            snapshot_digest=_DIGEST,
            images=_TEXT,
            randomisation=_one_of("gone", "survive", "not-judged"),
            measures=_names_to(_anything),
            actor=_NAME,
        ),
        _schema(
            "review/1",
            inspection_id=_ID,
            inspection_leaf=_DIGEST,
            truth=_one_of("good", "defective"),
            defect_type=_nullable(_NAME),
            reviewer=_NAME,
            source=_one_of("human", "simulated"),
            note=_TEXT,
        ),
        _schema(
            "report/1", kind=_one_of("audit", "decision"), sha256=_DIGEST, scope=_names_to(_anything), issued_by=_NAME
        ),
        _schema("ledger-opened/1", origin=_NAME, key=_TEXT, previous=_nullable(_LOG_HEAD), actor=_NAME, reason=_TEXT),
        _schema("ledger-key/1", origin=_NAME, key=_TEXT, replaces=_TEXT, actor=_NAME, reason=_TEXT),
        _schema(
            "witness-policy/1", origin=_NAME, threshold=_COUNT, witnesses=_list_of(_WITNESS), actor=_NAME, reason=_TEXT
        ),
        _schema("tables-rebuilt/1", mended=_names_to(_anything), actor=_NAME, reason=_TEXT),
        _schema(
            "gap/1",
            _gap,
            station=_NAME,
            began_at=_time,
            ended_at=_time,
            cause_code=_NAME,
            cause=_TEXT,
            delayed=_COUNT,
            lost=_COUNT,
            first_trigger=_nullable(_COUNT),
            last_trigger=_nullable(_COUNT),
            actor=_NAME,
        ),
    )
)
