"""The auditor's reader and the writer's records, written twice, accept the same entries."""

import json
from collections.abc import Iterator
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.ledger import evidence_samples as samples
from traceai.errors import RecordError
from traceai.ledger import canonical, records
from traceai.ledger.entry import Entry
from traceai.ledger.evidence import schemas, strict_json

REFUSED = records.ModelRefused(
    **samples.shared(20), model=records.ModelRef(name="tiles", version=1, digest="0" * 64), file="weights",
    expected="1" * 64, found="2" * 64, actor="erin",
)  # fmt: skip
EXPORT = records.ModelExport(
    **samples.shared(27), model=records.ModelRef(name="tiles", version=1, digest="0" * 64), format="onnx", sha256="3" * 64,
    size=1200, tools={"torch": "2.13.0"}, images=8, logit_difference="0.000002", grid_difference="0", made_by="erin",
)  # fmt: skip
REPORT = records.ReportIssued(
    **samples.shared(21),
    kind="audit",
    sha256="2" * 64,
    scope={"lot": "L1", "deep": [{"a": None}, True]},
    issued_by="erin",
)
KEY = records.LedgerKey(
    **samples.shared(22), origin=samples.ORIGIN, key=str(samples.key(samples.ORIGIN, 1).verifier),
    replaces=str(samples.LOG.verifier), actor="ada", reason="Every year.",
)  # fmt: skip
CONTINUED = records.LedgerOpened(
    **samples.shared(23), origin="example.com/plant-2", key=str(samples.LOG.verifier), actor="ada", reason="Restored.",
    previous=records.LogHead(origin=samples.ORIGIN, size=12, root="3" * 64),
)  # fmt: skip
REBUILT = records.TablesRebuilt(
    **samples.shared(24), mended={"review": {"changed": 1}}, actor="ada", reason="A row was altered."
)
GAP = records.Gap(
    **samples.shared(26), station="press-4", began_at="2026-11-23T19:20:00.000000Z", ended_at="2026-11-23T19:25:00.000000Z",
    cause_code="declared", cause="The cable was pulled.", delayed=0, lost=3, first_trigger=1041, last_trigger=1043, actor="ada",
)  # fmt: skip
QUALITY = records.ExplanationQuality(
    **samples.shared(27), model=REFUSED.model, method="grad-cam/1", layer="resnet.encoder.stages.2", snapshot_name="tiles",
    snapshot_digest="5" * 64, images="all val images of tiles", randomisation="gone", measures={"defects": 3}, actor="erin",
)  # fmt: skip
ENTRIES = [
    *samples.plant().entries,
    *(
        samples.sealed(record)
        for record in (
            REFUSED,
            EXPORT,
            REPORT,
            KEY,
            CONTINUED,
            REBUILT,
            GAP,
            QUALITY,
            samples.inspection(25, trigger=2**53 - 1),
        )
    ),
]
ODD = (
    None, True, False, 0, 1, -1, 2**53 - 1, "", " ", "x", "-0", "0", "00", "1.", ".5", "1e3", "-1.50", "１", "pass", "good",
    "approve", "human", "audit", "a" * 64, "A" * 64, "a" * 32, "a" * 63, "n" * 200, "n" * 201, "n" * 2000, "n" * 2001, "tab\t",
    "line\n", "nul\x00", "bell\x07", "del\x7f", "\x85", "\u2028", "🎉" * 200, "2026-11-23T19:51:45.142918Z",
    "2026-02-30T19:51:45.142918Z", "2026-11-23T24:00:00.000000Z", "2026-11-23T19:51:60.000000Z", "2026-11-23T19:51:45Z",
    "0000-01-01T00:00:00.000000Z", "01a209f6-0000-7000-8000-000000000000", "01A209F6-0000-7000-8000-000000000000",
    [], ["x"], [1], {}, {"x": 1}, {"": "1"}, {"x": "1"}, {"n" * 201: "1"}, {"tab\t": "1"}, {"x": None},
)  # fmt: skip


def test_every_schema_is_known_to_both_and_has_a_sample() -> None:
    assert set(schemas.SCHEMAS) == set(records.SCHEMAS) == {entry.record.schema_name for entry in ENTRIES}


@pytest.mark.parametrize("entry", ENTRIES, ids=lambda entry: entry.record.schema_name)
def test_what_was_written_is_read(entry: Entry) -> None:
    assert schemas.read(entry.data) == entry.fields


@pytest.mark.parametrize("entry", ENTRIES, ids=lambda entry: entry.record.schema_name)
def test_what_one_refuses_the_other_refuses(entry: Entry) -> None:
    verdicts = []
    for path in places(entry.fields):
        for value in (*ODD, DELETED, ADDED):
            changed = canonical.dumps(exchanged(entry.fields, path, value))
            accepted = accepts(Entry.parse, changed)
            assert accepts(schemas.read, changed) == accepted, (path, value)
            verdicts.append(accepted)
    assert True in verdicts
    assert False in verdicts


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"{}",
        b"[]",
        b"null",
        b'"x"',
        b'{"schema":null}',
        b'{"schema":[]}',
        b'{"schema":"inspection/2"}',
        b"\xff",
        b"{",
    ],
)
def test_what_is_no_entry_is_refused_and_nothing_else_happens(data: bytes) -> None:
    with pytest.raises(RecordError):
        schemas.read(data)


# --- canonical form ------------------------------------------------------------------------------------------------------

TEXT = st.text(st.characters(exclude_categories=["Cs"]))
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53) + 1, 2**53 - 1) | TEXT,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXT, inner, max_size=4),
    max_leaves=12,
)


@given(JSON)
def test_the_auditors_canonical_form_is_the_writers(value: Any) -> None:
    data = canonical.dumps(value)
    assert strict_json.dumps(value) == data
    assert strict_json.loads(data) == value


@given(JSON, st.sampled_from(["indent", "ascii", "space"]))
def test_another_spelling_of_the_same_value_is_refused(value: Any, how: str) -> None:
    data = canonical.dumps(value)
    other = {
        "indent": json.dumps(value, indent=1, ensure_ascii=False).encode(),
        "ascii": json.dumps(value, ensure_ascii=True, separators=(",", ":")).encode(),
        "space": data + b" ",
    }[how]
    if other != data:
        with pytest.raises(RecordError):
            strict_json.loads(other)


@pytest.mark.parametrize(
    "data",
    [
        b'{"a":1,"a":1}', b'{"b":1,"a":1}', b"1.0", b"1e3", b"-0", b"01", b"NaN", b"Infinity", b"-Infinity", b"9007199254740992",
        b"-9007199254740992", b"9" * 20, b"9" * 5000, b'"\\ud800"', b'"\\u0041"', b'"\\/"', b'"\t"', b"\xef\xbb\xbf1",
        b"\xff", b"", b"[1,]", b"[1] ", b"nul", b"[" * 100_000, b'{"a":' * 100_000, b"[" * 100_000 + b"]" * 100_000,
        '{"\ue000":1,"\U0001f600":1}'.encode(),  # by code point, where UTF-16 has it the other way round
    ],
)  # fmt: skip
def test_json_that_has_another_form_or_none_is_refused(data: bytes) -> None:
    with pytest.raises(RecordError):
        strict_json.loads(data)


def test_names_are_sorted_by_utf_16_code_units() -> None:
    data = '{"\U0001f600":1,"\ue000":1}'.encode()
    assert strict_json.dumps(strict_json.loads(data)) == data


@given(st.binary())
def test_bytes_are_read_or_refused(data: bytes) -> None:
    try:
        value = strict_json.loads(data)
    except RecordError:
        return
    assert orjson.loads(data) == value


# --- helpers -------------------------------------------------------------------------------------------------------------

DELETED, ADDED = object(), object()


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Every value in a record, by its way from the top; of lists and objects themselves, too."""
    if path:
        yield path
    for name, item in value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ():
        yield from places(item, (*path, name))


def exchanged(fields: dict[str, Any], path: tuple[Any, ...], value: Any) -> dict[str, Any]:
    copy = orjson.loads(orjson.dumps(fields))
    at = copy
    for name in path[:-1]:
        at = at[name]
    if value is DELETED:
        del at[path[-1]]
    elif value is ADDED:
        at.update(more="x") if isinstance(at, dict) else at.append("x")
    else:
        at[path[-1]] = value
    return copy


def accepts(read: Any, data: bytes) -> bool:
    try:
        read(data)
    except RecordError:
        return False
    return True
