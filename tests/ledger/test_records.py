import json
import math
import struct

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from traceai.errors import RecordError
from traceai.ledger import canonical, records
from traceai.ledger.records import Entry

JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53) + 1, 2**53 - 1) | st.text(st.characters(codec="utf-8")),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text(st.characters(codec="utf-8")), inner, max_size=4)
    ),
    max_leaves=12,
)
AT = "2026-01-31T06:00:00.000000Z"


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


def test_names_are_sorted_by_utf16_code_units() -> None:
    assert canonical.dumps({"\U0001f600": 1, "\ufb33": 2, "a": 3}) == '{"a":3,"\U0001f600":1,"\ufb33":2}'.encode()


@pytest.mark.parametrize("value", [1.0, [0.5], {"a": 1.5}, b"x", {1: 2}, 2**60, "\ud800", {"\ud800": 1}])
def test_what_has_no_canonical_form_is_refused(value: object) -> None:
    with pytest.raises(RecordError):
        canonical.dumps(value)


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
    assert len(records.SCHEMAS) == 12
    assert all(name.rpartition("/")[2].isdigit() for name in records.SCHEMAS)
