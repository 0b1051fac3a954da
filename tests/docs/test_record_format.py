"""docs/record-format.md says what the code does: every schema, every field, every digest, and nothing else."""

import dataclasses
import hashlib
import re
import types
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

import pytest
import zstandard
from pydantic import BaseModel, JsonValue

from tests.docs.markdown import Section, code, printed, programs, read, sections
from traceai.clock import parse_timestamp
from traceai.db.tables import DatasetImage
from traceai.inspection.history import Filter
from traceai.ledger import merkle, packing, records
from traceai.ledger.entry import Entry
from traceai.ledger.records import SCHEMAS, Record

TEXT = read("record-format.md")
SECTIONS = sections(TEXT)
SCHEMA_SECTIONS = {title for title, section in SECTIONS.items() if section.level == 3 and re.search(r"/\d+$", title)}
SHARED = set(Record.model_fields)
# A record's type by the name that the document gives it.
NAMED: dict[str, Any] = {
    "id": records.Id,
    "digest": records.Digest,
    "time": records.Timestamp,
    "decimal": records.DecimalString,
    "count": records.Count,
    "text": records.Text,
    "name": records.Name,
    "true or false": bool,
    "integer from 1": get_type_hints(records.ModelRef, include_extras=True)["version"],
    "salt": get_type_hints(Record, include_extras=True)["salt"],
    "name → decimal": dict[records.Name, records.DecimalString],
    "name → JSON": dict[records.Name, JsonValue],
    "list of name": list[records.Name],
}
OBJECTS: dict[type[BaseModel], str] = {
    records.Part: "part",
    records.Image: "image",
    records.ModelRef: "model",
    records.OperatingPoint: "operating-point",
    records.Explanation: "explanation",
    records.Audit: "audit",
    records.LogHead: "log-head",
    records.Witness: "witness",
}


def test_every_schema_has_its_section_and_there_is_no_other() -> None:
    assert set(SCHEMAS) == SCHEMA_SECTIONS


@pytest.mark.parametrize("schema", SCHEMAS)
def test_a_schema_is_documented_field_by_field(schema: str) -> None:
    documented(SECTIONS[schema], SCHEMAS[schema], without=SHARED)


@pytest.mark.parametrize("part", OBJECTS, ids=lambda part: part.__name__)
def test_an_object_is_documented_field_by_field(part: type[BaseModel]) -> None:
    documented(SECTIONS[OBJECTS[part]], part)


def test_the_fields_of_every_record_are_documented() -> None:
    section = SECTIONS["Fields of every record"]
    documented(section, Record)
    assert [row[0] for row in section.rows(1)] == ["`schema`", "`recorded_at`"]


def test_every_object_that_a_record_holds_has_its_section() -> None:
    assert {part for schema in SCHEMAS.values() for part in parts_of(schema)} == set(OBJECTS)
    inside = TEXT[TEXT.index("\n## Objects\n") : TEXT.index("\n## Hashing\n")]
    assert {s.title for s in sections(inside).values() if s.level == 3} == set(OBJECTS.values())


def test_the_types_have_the_patterns_that_are_enforced() -> None:
    patterns = dict(line.split(maxsplit=1) for line in code(SECTIONS["Types"].body, "text")[0].splitlines())
    enforced = {
        name: constraint.pattern
        for name, annotation in NAMED.items()
        if get_origin(annotation) is Annotated
        for constraint in annotation.__metadata__
        if getattr(constraint, "pattern", None)
    }
    assert patterns == enforced
    assert records.Name.__metadata__[0].max_length == 200
    assert records.Text.__metadata__[0].max_length == 2000


def documented(section: Section, model: type[BaseModel], without: Collection[str] = ()) -> None:
    """The table of `section` lists the fields of `model`, in order, each with its type and whether it may be null."""
    rows = section.rows()
    hints = {name: hint for name, hint in get_type_hints(model, include_extras=True).items() if name not in without}
    assert [row[0].strip("`") for row in rows] == [name for name in model.model_fields if name not in without]
    for name, shown, null, meaning in rows:
        kind, optional = without_null(hints[name.strip("`")])
        assert null == ("yes" if optional else "no"), name
        assert meaning, name
        if get_origin(kind) is Literal:
            assert shown == ", ".join(f"`{value}`" for value in get_args(kind)), name
        elif isinstance(kind, type) and issubclass(kind, BaseModel):
            assert shown == f"[{OBJECTS[kind]}](#{OBJECTS[kind]})", name
        elif kind == list[records.Witness]:
            assert shown == "list of [witness](#witness)", name
        else:
            assert NAMED[shown] == kind, name


def without_null(hint: Any) -> tuple[Any, bool]:
    if get_origin(hint) in (Union, types.UnionType) and type(None) in get_args(hint):
        (kind,) = (part for part in get_args(hint) if part is not type(None))
        return kind, True
    return hint, False


def parts_of(model: type[BaseModel]) -> Iterator[type[BaseModel]]:
    for hint in get_type_hints(model, include_extras=True).values():
        kind, _ = without_null(hint)
        if get_origin(kind) is list:
            (kind,) = get_args(kind)
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            yield kind
            yield from parts_of(kind)


# --- the worked examples ------------------------------------------------------------------------------------------------


def test_a_stored_entry_is_read_as_the_page_says(tmp_path: Path) -> None:
    section = SECTIONS["Storage"].body
    dictionaries = {"dictionary-1.txt": packing.DICTIONARY_1, "dictionary-2.zstd": packing.DICTIONARY_2}
    assert code(section, "text")[0] == "".join(
        f"{hashlib.sha256(content).hexdigest()}  {name}\n" for name, content in dictionaries.items()
    )
    assert all(f"{len(content):,} bytes" in section for content in dictionaries.values())
    entry = code(SECTIONS["Worked example"].body, "json")[0].removesuffix("\n").encode()
    for name, content in dictionaries.items():
        (tmp_path / name).write_bytes(content)
    first = zstandard.ZstdCompressionDict(packing.DICTIONARY_1, dict_type=zstandard.DICT_TYPE_RAWCONTENT)
    of_before = b"\x01" + zstandard.ZstdCompressor(level=3, dict_data=first).compress(entry)
    for stored in (packing.pack(entry), of_before, entry):
        names: dict[str, object] = {"folder": tmp_path, "stored": stored}
        exec(code(section, "py")[0], names)
        assert names["entry"] == entry == packing.unpack(stored)
    assert packing.pack(entry)[0] == 2


def test_the_example_is_an_entry_and_has_the_stated_length_and_leaf_hash() -> None:
    section = SECTIONS["Worked example"].body
    data = code(section, "json")[0].removesuffix("\n").encode()
    entry = Entry.parse(data)
    assert isinstance(entry.record, records.Inspection)
    assert Entry.seal(entry.record, entry.recorded_at).data == data
    assert f"This entry has {len(data):,} bytes" in " ".join(section.split())
    assert code(section, "text")[0] == merkle.leaf_hash(data).hex() + "\n"
    parse_timestamp(entry.recorded_at)


def test_the_review_of_the_example_names_its_leaf_hash_and_the_root_is_that_of_the_two() -> None:
    section = SECTIONS["Worked example"].body
    leaf = bytes.fromhex(code(section, "text")[0])
    program = code(section, "python")[0]
    names: dict[str, Any] = {}
    exec(program[: program.index("assert")], names)
    entry = Entry.parse(names["entry"])
    assert isinstance(entry.record, records.Review)
    assert entry.record.inspection_leaf == leaf.hex()
    review = merkle.leaf_hash(entry.data)
    assert code(section, "text")[1] == f"{review.hex()}\n{merkle.root([leaf, review]).hex()}\n"


@pytest.mark.parametrize(("program", "output"), list(programs(TEXT)))
def test_a_program_prints_what_stands_below_it(program: str, output: str) -> None:
    assert len(output) >= 65
    assert printed(program) == output


def test_every_program_has_its_output_and_needs_no_traceai() -> None:
    assert len(list(programs(TEXT))) == len(code(TEXT, "python")) == 4
    assert "traceai import" not in "".join(code(TEXT, "python"))


def test_the_digests_of_the_examples_are_those_of_the_code() -> None:
    import numpy as np

    from traceai.data.snapshot import SnapshotItem, digest
    from traceai.explain.summary import encode_grid
    from traceai.images.decode import identify, pixel_hash

    item = SnapshotItem(
        path="good/a.png", label="good", defect_type="", mask_path=None, split="train", group_id="a", condition="x",
        label_note="y", sha256=64 * "0", pixel_sha256=64 * "1", width=1, height=1, mask_sha256=None,
    )  # fmt: skip
    assert code(SECTIONS["Pixels"].body, "text") == [pixel_hash(np.array([[0, 128, 255]], np.uint8)) + "\n"]
    grid = encode_grid(np.array([[0.5, -0.25], [0.0, 1.5]]))
    assert code(SECTIONS["Heat maps"].body, "text") == [identify(grid) + "\n"]
    assert code(SECTIONS["Datasets"].body, "text") == [digest([item]) + "\n"]


# --- what the digests are digests of --------------------------------------------------------------------------------------


def fields_of(title: str) -> list[str]:
    return [row[0].strip("`") for row in SECTIONS[title].rows()]


def test_the_manifest_is_documented_field_by_field() -> None:
    from traceai.images.preprocess import Preprocessing
    from traceai.models.architectures import ResidualNetwork, VisionTransformer
    from traceai.models.artifact import ExternalArchitecture, Manifest, TrainingProvenance

    assert fields_of("manifest") == [field.alias or name for name, field in Manifest.model_fields.items()]
    for title, model in {
        "resnet": ResidualNetwork,
        "vit": VisionTransformer,
        "external": ExternalArchitecture,
        "preprocessing": Preprocessing,
        "training": TrainingProvenance,
    }.items():
        assert fields_of(title) == list(model.model_fields)


def test_the_evaluation_is_documented_field_by_field() -> None:
    from traceai.models.evaluation import Evaluation

    assert fields_of("Evaluation") == [
        "evaluated_on",
        "operating_point",
        *(field.name for field in dataclasses.fields(Evaluation)),
    ]


def test_the_measures_are_documented_field_by_field() -> None:
    from traceai.explain.quality import Curve, ExplanationQuality
    from traceai.explain.randomising import Randomisation

    nothing = ExplanationQuality(
        0, 0, 0, Randomisation((), None, 0.0, "not-judged"), None, None, Curve(0, 0, 0), Curve(0, 0, 0), 0, None, None, None,
        None, None, None,
    )  # fmt: skip
    assert fields_of("Measures") == list(nothing.to_record())


def test_the_environment_is_documented() -> None:
    from traceai.inspection.engine import Engine

    (row,) = (row for row in SECTIONS["runtime/1"].rows() if row[0] == "`environment`")
    assert re.findall(r"`(\w+)`", row[3]) == list(Engine.__new__(Engine).environment(1))


def test_an_exported_file_and_its_environment_are_documented() -> None:
    from dataclasses import dataclass

    from traceai.edge import file
    from traceai.edge.engine import EdgeEngine
    from traceai.edge.graph import OPSET

    @dataclass
    class Opened:
        sha256: str = "0" * 64
        threads: int = 1

    section = SECTIONS["Exports"]
    assert [row[0].strip("`") for row in section.rows()] == [file.IMAGE, *file.OUTPUTS]
    body = section.body
    assert f"operator set {OPSET}" in body
    assert {file.FORMAT, file.FORMAT_KEY, file.MANIFEST_KEY} <= set(re.findall(r"`([\w./-]+)`", body))
    _, _, told = body.partition("has other names:")
    assert re.findall(r"`(\w+)`", told) == list(EdgeEngine(Opened()).environment(1))  # type: ignore[arg-type]


def test_the_listing_is_documented() -> None:
    blocks = [line.split() for line in SECTIONS["Datasets"].body.splitlines() if line.startswith("    path ")]
    assert blocks[1] == [column.name for column in DatasetImage.__table__.columns if column.name != "snapshot_id"]


def test_the_scope_of_a_report_is_documented() -> None:
    (row,) = (row for row in SECTIONS["report/1"].rows() if row[0] == "`scope`")
    assert set(re.findall(r"`(\w+)`", row[3])) == {
        "inspection_id",
        *(field.name for field in dataclasses.fields(Filter)),
    }
