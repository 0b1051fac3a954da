"""What is recognised from its bytes is what a parser would take; what is not is only slower."""

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.ledger import evidence_samples
from tests.ledger.generated import fields
from traceai.errors import RecordError
from traceai.ledger.entry import Entry
from traceai.ledger.records import SCHEMAS
from traceai.ledger.verification.grammar import Grammar, grammars, recognise

AT = "2026-01-31T06:00:00.000000Z"
REGULAR = sorted(grammar.schema for grammar in grammars())
TIME = re.compile(rb"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9:]{8}\.[0-9]{6}Z")


def test_the_common_entries_are_regular() -> None:
    assert {"inspection/1", "inspection-failed/1", "review/1"} <= set(REGULAR)


def accepted(entry: bytes, schema: str) -> bool:
    try:
        return Entry.parse(entry).record.schema_name == schema
    except RecordError:
        return False


def agrees(entry: bytes) -> None:
    """Times aside, whose calendar is left to the table."""
    schema = recognise(entry)
    assert schema is None or accepted(TIME.sub(AT.encode(), entry), schema)


@pytest.mark.parametrize("schema", SCHEMAS)
def test_what_is_recognised_is_a_record(schema: str) -> None:
    @settings(deadline=None, max_examples=60)
    @given(fields(SCHEMAS[schema]), st.data())
    def law(values: dict[str, object], data: st.DataObject) -> None:
        entry = Entry.seal(SCHEMAS[schema].model_validate(values), AT).data
        assert recognise(entry) in (schema, None)
        agrees(entry)
        at = data.draw(st.integers(0, len(entry) - 1))
        byte = data.draw(st.sampled_from(b'"\\{}[],:01e-.+ \n\x7f\x00ZA\xc3') | st.integers(0, 255))
        for cut in (0, 1):
            agrees(entry[:at] + bytes([byte]) + entry[at + cut :])
        agrees(entry[:at] + entry[at + 1 :])

    law()


@pytest.mark.parametrize("number", ["-0", "-0.0", "-0.000", "00", "-01", "-", "1."])
def test_a_number_that_no_record_holds_is_not_recognised(number: str) -> None:
    entry = evidence_samples.sealed(evidence_samples.inspection(3)).data
    assert recognise(entry) == "inspection/1"
    assert recognise(entry.replace(b'"0.830000"', f'"{number}"'.encode())) is None


@pytest.mark.parametrize("schema", REGULAR)
def test_what_is_plain_is_recognised(schema: str) -> None:
    @settings(deadline=None, max_examples=60)
    @given(fields(SCHEMAS[schema]))
    def law(values: dict[str, object]) -> None:
        entry = Entry.seal(SCHEMAS[schema].model_validate(values), AT).data
        if entry.isascii() and b"\\" not in entry and b"\x7f" not in entry:
            assert recognise(entry) == schema

    law()


@pytest.mark.parametrize("names", [["b", "a"], ["a", "a"], ["a", "b", "a"]])
def test_names_out_of_order_are_not_recognised_whatever_was_recognised_before(names: list[str]) -> None:
    grammar = Grammar(SCHEMAS["inspection/1"])
    good = scored({"a": "1", "b": "2"})
    wrong = good.replace(b'"a":"1","b":"2"', ",".join(f'"{name}":"1"' for name in names).encode())
    assert wrong != good
    for before in (good, scored({}), scored({"a": "7"}), scored({"a.": "0.5", "b": "-1"})):
        assert grammar.matches(before)
        assert not grammar.matches(wrong)
        assert not grammar.matches(before + b" ")
        assert grammar.matches(before)


def scored(scores: dict[str, str]) -> bytes:
    return Entry.seal(evidence_samples.inspection(7, scores=scores), AT).data
