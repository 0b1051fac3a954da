"""docs/evidence-file.md says what the code does: every field, every fact, every option and exit code."""

import json
import re
from pathlib import Path

import pytest

from tests.docs.markdown import printed, programs, read, sections
from tests.ledger import evidence_samples as samples
from traceai.ledger import verify
from traceai.ledger.evidence import file
from traceai.ledger.evidence.file import EvidenceFile

TEXT = read("evidence-file.md")
SECTIONS = sections(TEXT)
GOLDEN = Path(__file__).parents[1] / "ledger" / "golden" / "0.0.1"
FILE = (GOLDEN / "decision.evidence.json").read_bytes()


def first_column(title: str, table: int = 0) -> list[str]:
    return [row[0].strip("`") for row in SECTIONS[title].rows(table)]


def test_the_fields_are_those_of_a_file() -> None:
    value = json.loads(FILE)
    assert set(first_column("Fields")) == set(value)
    assert set(first_column("related")) == set(value["related"][0])
    assert set(first_column("timestamp")) == set(value["timestamps"][0])
    assert f"`{file.SCHEMA}`" in SECTIONS["Fields"].rows()[0][1]


def test_the_facts_are_those_that_are_reported_in_their_order() -> None:
    assert first_column("Facts") == [fact.name for fact in verify.verify(FILE).facts]
    assert first_column("Facts")[:1] == [fact.name for fact in verify.verify(b"").facts]


def test_a_fact_that_the_page_lets_go_unchecked_is_one_that_can() -> None:
    """What always holds or fails has an empty last column."""
    bare = samples.plant().evidence(samples.FAILURE, [])
    found = {fact.name: fact.holds for fact in verify.verify(bytes(bare)).facts}
    unchecked = {row[0].strip("`") for row in SECTIONS["Facts"].rows() if row[2]}
    assert {name for name, holds in found.items() if holds is None} == unchecked


def test_what_the_page_says_is_related_is_all_that_the_maker_puts_in() -> None:
    body = SECTIONS["Fields"].body
    for included in EvidenceFile.parse(FILE).related:
        assert f"`{json.loads(included.entry)['schema']}`" in body


def test_the_options_are_those_of_the_program(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        verify.main(["--help"])
    offered = set(re.findall(r"^  (--[a-z-]+)", capsys.readouterr().out, re.MULTILINE))
    assert set(first_column("For the auditor")) == offered


def test_the_exit_codes_are_all_there() -> None:
    assert first_column("For the auditor", table=1) == ["0", "1", "2", "3"]


def test_size_and_media_type() -> None:
    assert f"{file.LARGEST:,} bytes" in SECTIONS["Form"].body
    assert f"`{file.MEDIA_TYPE}`" in TEXT
    assert verify.NOT_ESTABLISHED.startswith("TRUST IS NOT ESTABLISHED")
    assert "TRUST IS NOT ESTABLISHED" in TEXT


def test_the_program_prints_what_the_page_says_it_prints() -> None:
    ((program, prints),) = programs(TEXT)
    assert printed(program, path=GOLDEN / "decision.evidence.json", key=json.loads(FILE)["keys"][0]) == prints
