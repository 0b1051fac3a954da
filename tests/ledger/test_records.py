import itertools
import json
import math
import struct
import sys
import threading
from datetime import datetime
from decimal import Decimal
from typing import Any

import numpy as np
import orjson
import pytest
import rfc8785
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from tests.ledger.generated import fields
from tests.ledger.recording import gap
from traceai.clock import parse_timestamp
from traceai.errors import RecordError
from traceai.ledger import canonical, lines, log, projection, records
from traceai.ledger.copying import Tail
from traceai.ledger.entry import Entry, fields_of
from traceai.ledger.packing import unpack
from traceai.ledger.records import SCHEMAS

JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53) + 1, 2**53 - 1) | st.text(st.characters(codec="utf-8")),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text(st.characters(codec="utf-8")), inner, max_size=4)
    ),
    max_leaves=12,
)
AT = "2026-01-31T06:00:00.000000Z"


class Odd(str):
    __slots__ = ()


def review(**changes: object) -> records.Review:
    return records.Review.model_validate(
        {
            "inspection_id": "01a20998-f540-74bc-8717-dcec9f9e6fee",
            "inspection_leaf": "0" * 64,
            "truth": "good",
            "defect_type": None,
            "reviewer": "ruth",
            "source": "human",
            "note": "",
            **changes,
        }
    )


@settings(deadline=None, max_examples=200)
@given(JSON)
def test_canonical_bytes_read_back_as_the_value(value: object) -> None:
    assert canonical.loads(canonical.dumps(value)) == value


@settings(deadline=None, max_examples=300)
@given(JSON.filter(lambda value: isinstance(value, dict | list)))
def test_what_a_record_holds_has_its_canonical_form_in_parts(value: dict[str, object] | list[object]) -> None:
    assert canonical.part(value) == rfc8785.dumps(value)
    texts = {str(name): repr(item) for name, item in value.items()} if isinstance(value, dict) else {}
    assert canonical.part(texts) == rfc8785.dumps(texts)


@pytest.mark.parametrize("names", ["ab", "äß", "\ud7ff\ue000", "\ue000\U0001f600", "z\U0001f600\ufb33", ""])
def test_names_beyond_ascii_are_sorted_as_the_reference_library_does(names: str) -> None:
    value = dict.fromkeys(names, "1") | {"": "2", names: "3"}
    assert canonical.dumps(value) == canonical.part(value) == rfc8785.dumps(value)


def test_names_are_sorted_by_utf16_code_units() -> None:
    assert canonical.dumps({"\U0001f600": 1, "\ufb33": 2, "a": 3}) == '{"a":3,"\U0001f600":1,"\ufb33":2}'.encode()


@pytest.mark.parametrize("value", [math.nan, [math.inf], b"x", {1: 2}, 2**60, "\ud800", {"\ud800": 1}])
def test_what_has_no_canonical_form_is_refused(value: object) -> None:
    with pytest.raises(RecordError):
        canonical.dumps(value)


@settings(deadline=None, max_examples=500)
@given(st.recursive(JSON | st.floats(allow_nan=False, allow_infinity=False), st.lists))
def test_canonical_bytes_are_those_of_the_reference_library(value: object) -> None:
    assert canonical.dumps(value) == rfc8785.dumps(value)


def test_numbers_are_written_as_in_the_appendix_of_the_standard() -> None:
    bits = {
        0x0000000000000000: b"0", 0x8000000000000000: b"0",
        0x0000000000000001: b"5e-324", 0x7FEFFFFFFFFFFFFF: b"1.7976931348623157e+308",
        0x4340000000000000: b"9007199254740992", 0x4430000000000000: b"295147905179352830000",
        0x44B52D02C7E14AF5: b"9.999999999999997e+22", 0x44B52D02C7E14AF6: b"1e+23",
        0x444B1AE4D6E2EF4F: b"999999999999999900000", 0x444B1AE4D6E2EF50: b"1e+21",
        0x3EB0C6F7A0B5ED8D: b"0.000001", 0x3EB0C6F7A0B5ED8C: b"9.999999999999997e-7",
        0x41B3DE4355555555: b"333333333.3333333", 0xBECBF647612F3696: b"-0.0000033333333333333333",
        0x43143FF3C1CB0959: b"1424953923781206.2",
    }  # fmt: skip
    for pattern, text in bits.items():
        assert canonical.dumps(struct.unpack(">d", pattern.to_bytes(8, "big"))[0]) == text


@pytest.mark.parametrize("value", [1.0, [0.5], {"a": 1.5}])
def test_a_record_holds_no_float(value: object) -> None:
    with pytest.raises(RecordError, match="decimal strings"):
        canonical.dumps(value, exact=True)
    with pytest.raises(RecordError, match="decimal strings"):
        Entry.seal(records.ReportIssued(kind="audit", sha256="2" * 64, scope={"share": value}, issued_by="erin"), AT)


@pytest.mark.parametrize("schema", SCHEMAS)
def test_an_entry_is_the_canonical_form_of_its_record(schema: str) -> None:
    record_type = SCHEMAS[schema]

    @settings(deadline=None, max_examples=50)
    @given(fields(record_type))
    def law(values: dict[str, Any]) -> None:
        record = record_type.model_validate(values)
        value = record.model_dump(mode="json") | {"schema": schema, "recorded_at": AT}
        assert Entry.seal(record, AT).data == rfc8785.dumps(value)

    law()


@pytest.mark.parametrize("schema", SCHEMAS)
def test_a_line_says_what_the_row_of_the_entry_holds(schema: str) -> None:
    record_type = SCHEMAS[schema]

    @settings(deadline=None, max_examples=50)
    @given(fields(record_type), st.sampled_from(["", "None", "\\N", "a\tb", "\\x", "c:\\new\\temp", "\r\n"]))
    def law(values: dict[str, Any], odd: str) -> None:
        free = [name for name, kind in record_type.__annotations__.items() if kind is records.Text]
        record = record_type.model_validate(values | dict.fromkeys(free, odd))
        entry = Entry.seal(record, AT)
        said = lines.line(record_type, fields_of(record, AT)).values()
        held = projection.values(record_type, entry.fields)
        for text, value in zip(said, held, strict=True):
            match value:
                case bytes():
                    assert text == f"\\x{value.hex()}"
                case datetime():
                    assert parse_timestamp(str(text)) == value
                case Decimal():
                    assert Decimal(str(text)) == value
                case dict() | list():
                    assert orjson.loads(str(text)) == value
                case None | str():
                    assert text == value
                case _:
                    assert text == str(value)

    law()


@given(st.lists(st.binary(max_size=300), max_size=4))
def test_the_end_of_a_row_says_what_it_was_made_of(values: list[bytes]) -> None:
    assert Tail.of(*values).values() == values


def test_a_copy_of_a_record_is_held_to_its_types_too() -> None:
    for change in ({"note": 1.5}, {"inspection_id": "x"}, {"nothing": "x"}):
        with pytest.raises(ValidationError):
            review().model_copy(update=change)
    part = records.Part(product="tile")
    with pytest.raises(ValidationError):
        part.model_copy(update={"serial": 7})
    assert part.model_copy(update={"serial": "7"}) == records.Part(product="tile", serial="7")
    assert part.model_copy() == part


@pytest.mark.parametrize("name", ["a", "é"])
def test_an_entry_as_deep_as_a_record_may_be_is_sealed_and_read(name: str) -> None:
    value: object = 1
    for _ in range(250):
        value = [value]
    record = records.ReportIssued(kind="audit", sha256="2" * 64, scope={name: value}, issued_by="erin")
    sealed = Entry.seal(record, AT)
    assert Entry.parse(sealed.data) == sealed


def test_a_record_that_was_never_validated_is_not_sealed() -> None:
    given = review().model_dump()
    image = records.Image.model_construct(**records.Image().model_dump() | {"width": 1.0})
    failed = {
        "station": "press-4", "station_seq": 1, "part": records.Part(), "image": image, "source": "x",
        "model": records.ModelRef(name="tiles", version=1, digest="0" * 64), "failure_code": "x", "failure": "x",
    }  # fmt: skip
    unchecked = [
        records.Review.model_construct(**given | change)
        for change in ({"note": 1.5}, {"note": b"x"}, {"inspection_id": 7}, {"inspection_leaf": 7}, {"truth": 1})
    ]
    unchecked += [
        records.InspectionFailed.model_construct(**failed | {"image": records.Image()} | change)
        for change in ({"part": {"product": "x"}}, {"part": "x"}, {"image": 7}, {"trigger": "9"})
    ]
    for record in (*unchecked, records.InspectionFailed.model_validate(failed)):
        with pytest.raises(RecordError):
            log.seal([record])


def test_a_record_that_is_changed_meanwhile_has_one_form() -> None:
    record = records.ReportIssued(kind="audit", sha256="2" * 64, scope={str(n): n for n in range(99)}, issued_by="erin")
    ended = threading.Event()

    def change() -> None:
        for number in itertools.count():
            if ended.is_set():
                return
            record.scope["now"] = number

    changing = threading.Thread(target=change)
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    changing.start()
    try:
        for _ in range(300):
            (sealed,) = log.seal([record])
            said = orjson.dumps(orjson.loads(unpack(sealed.journal.values()[0]))["scope"]).decode()
            assert said in sealed.line.values()
    finally:
        ended.set()
        sys.setswitchinterval(interval)
        changing.join()


def test_what_was_put_into_a_record_later_is_looked_at_too() -> None:
    record = records.ReportIssued(kind="audit", sha256="2" * 64, scope={}, issued_by="erin")
    for value in (0.5, b"x", 2**60, {"a": [1.5]}, "\ud800", Odd("x")):
        record.scope["late"] = value
        with pytest.raises(RecordError):
            Entry.seal(record, AT)


@pytest.mark.parametrize(
    "data", [b'{"b":1,"a":2}', b'{"a": 1}', b'{"a":1}\n', b'{"a":1,"a":1}', b"\xff", b"{", b'{"a":1.0}']
)
def test_bytes_that_are_not_canonical_are_refused(data: bytes) -> None:
    with pytest.raises(RecordError):
        canonical.loads(data)


@given(st.floats(width=32, allow_nan=False, allow_infinity=False))
def test_a_decimal_string_reads_back_as_the_same_float32(value: float) -> None:
    text = canonical.decimal(value)
    assert "e" not in text
    assert struct.pack("f", float(text)) == struct.pack("f", value + 0.0 if value else 0.0)
    assert not text.startswith("-0") or text.startswith("-0.")


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, 1e39])
def test_a_number_that_is_not_finite_is_refused(value: float) -> None:
    with np.errstate(over="ignore"), pytest.raises(RecordError):
        canonical.decimal(value)


def test_an_entry_reads_back_from_its_bytes() -> None:
    entry = Entry.seal(review(note="ünïcode <&>"), AT)
    assert Entry.parse(entry.data) == entry


@pytest.mark.parametrize(
    "moment", ["2026-02-30T06:00:00.000000Z", "0000-01-31T06:00:00.000000Z", "2026-01-31T24:00:00.000000Z"]
)
def test_no_record_is_made_of_a_time_that_no_calendar_has(moment: str) -> None:
    with pytest.raises(ValidationError):
        review(occurred_at=moment)


@pytest.mark.parametrize("moment", ["0001-01-01T00:00:00.000000Z", "0999-12-31T23:59:59.999999Z"])
def test_a_year_has_four_digits(moment: str) -> None:
    assert Entry.parse(Entry.seal(review(occurred_at=moment), moment).data).recorded_at == moment


@pytest.mark.parametrize("moment", ["0000-01-31T06:00:00.000000Z", "2026-02-30T06:00:00.000000Z", "yesterday", ""])
def test_no_entry_is_made_at_a_time_that_no_calendar_has(moment: str) -> None:
    with pytest.raises(RecordError, match="Nothing can be recorded at"):
        Entry.seal(review(), moment)


@pytest.mark.parametrize("number", ["0", "0.0", "-0.01", "-0.10", "-1.0", "10", "-100.5"])
def test_a_number_is_recorded_as_it_is_written(number: str) -> None:
    assert records.Audit(stratum="all", probability=number, drawn=True).probability == number


@pytest.mark.parametrize("number", ["-0", "-0.0", "-0.000", "00", "01", "-01", ".5", "1.", "+1", "1e3", "-", "-0.", ""])
def test_a_number_has_one_spelling_of_its_sign(number: str) -> None:
    with pytest.raises(ValidationError):
        records.Audit(stratum="all", probability=number, drawn=True)


def test_two_records_of_the_same_content_have_different_bytes() -> None:
    assert Entry.seal(review(), AT).data != Entry.seal(review(), AT).data


@pytest.mark.parametrize(
    "change",
    [
        {"schema": "review/2"},
        {"schema": None},
        {"recorded_at": None},
        {"truth": "fine"},
        {"note": 3},
        {"extra": "field"},
        {"inspection_leaf": "0" * 63},
        {"inspection_leaf": "A" * 64},
        {"id": "not-an-id"},
        {"occurred_at": "2026-01-31T06:00:00Z"},
        {"occurred_at": "2026-02-30T06:00:00.000000Z"},
        {"occurred_at": "0000-01-31T06:00:00.000000Z"},
        {"recorded_at": "2026-02-30T06:00:00.000000Z"},
        {"reviewer": "line\nbreak"},
        {"note": "nul\x00"},
        {"salt": "short"},
        {"salt": None},
        {"id": None},
        {"occurred_at": None},
    ],
)
def test_an_entry_that_is_no_valid_record_of_a_known_schema_is_refused(change: dict[str, object]) -> None:
    fields = json.loads(Entry.seal(review(), AT).data)
    for name, value in change.items():
        fields[name] = value
    fields = {name: value for name, value in fields.items() if not (name in change and value is None)}
    with pytest.raises(RecordError):
        Entry.parse(canonical.dumps(fields))


def test_every_schema_name_is_distinct_and_versioned() -> None:
    assert len(records.SCHEMAS) == 16
    assert all(name.rpartition("/")[2].isdigit() for name in records.SCHEMAS)


@pytest.mark.parametrize(
    "change",
    [
        {"ended_at": "2026-01-31T05:59:59.999999Z"},
        {"first_trigger": 7},
        {"last_trigger": 7},
        {"first_trigger": 8, "last_trigger": 7},
        {"first_trigger": -1, "last_trigger": 7},
        {"lost": -1},
    ],
)
def test_a_gap_that_contradicts_itself_is_no_record(change: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        gap(**change)


def test_a_gap_may_last_no_time_and_miss_one_trigger() -> None:
    made = gap(ended_at="2026-01-31T06:00:00.000000Z", first_trigger=0, last_trigger=0)
    assert Entry.parse(Entry.seal(made, AT).data).record == made


def test_an_entry_of_a_gap_that_contradicts_itself_is_refused_in_words() -> None:
    fields = json.loads(Entry.seal(gap(first_trigger=7, last_trigger=8), AT).data) | {"last_trigger": 6}
    with pytest.raises(RecordError, match=r"Not a valid gap/1 record: .*the last trigger is below the first"):
        Entry.parse(canonical.dumps(fields))
