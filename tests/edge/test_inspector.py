"""A line that inspects with an exported file: recorded as any other, without torch, and with a registered file alone."""

import json
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Callable, Iterator
from importlib.metadata import packages_distributions, requires
from pathlib import Path
from threading import Event

import numpy as np
import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from sqlalchemy import select

from tests.conftest import register_tiny
from tests.inspection.recording.drafts import away, delivered
from traceai.db.tables import HeatMap, Inspection, Runtime
from traceai.edge import EdgeInspector
from traceai.errors import (
    DatabaseUnavailableError,
    ExportTamperedError,
    ImageFormatError,
    InputError,
    ModelError,
    ModelStateError,
    StationNotFoundError,
)
from traceai.images.decode import identify
from traceai.inspection import history
from traceai.inspection.judging import Answer, Array
from traceai.inspection.recording.draft import Spooled
from traceai.ledger.verification import verifier
from traceai.models import registry
from traceai.sdk import Trace

Sql = Callable[..., list[tuple]]


@pytest.fixture
def exported(trace: Trace, tiny: str, tmp_path: Path) -> Path:
    path = tmp_path / "tiles-1.onnx"
    path.write_bytes(trace.export_model(tiny, made_by="erin")[0])
    trace.add_station("press-4", audit_pass_probability=1.0)
    return path


@pytest.fixture
def inspector(trace: Trace, exported: Path) -> EdgeInspector:
    return trace.edge_inspector(exported, "press-4", threads=1)


def test_decisions_are_torchs_and_verify(trace: Trace, inspector: EdgeInspector, tiny: str, images: list[Path]) -> None:
    trace.add_station("press-5", audit_pass_probability=1.0)
    ours = list(trace.inspector(tiny, "press-5").inspect_many(images))
    theirs = list(inspector.inspect_many(images))
    assert [one.verdict for one in theirs] == [one.verdict for one in ours]
    assert [one.station_seq for one in theirs] == list(range(1, 13))
    for mine, its in zip(ours, theirs, strict=True):
        assert mine.explanation is not None
        assert its.explanation is not None
        assert its.explanation.target == mine.explanation.target
        assert abs(its.explanation.grid - mine.explanation.grid).max() < 1e-3
        assert its.model == mine.model
        assert its.audit == mine.audit
        assert its.latency_us
    assert verifier.verify(trace.database.engine, trace.blobs).holds


def test_the_record_says_what_ran(trace: Trace, inspector: EdgeInspector, exported: Path, images: list[Path]) -> None:
    decision = inspector.inspect(images[0], serial="SN-1", lot="L7")
    with trace.database.session() as session:
        row = session.execute(select(Inspection)).scalar_one()
        environment = session.execute(select(Runtime)).scalar_one().environment
        assert session.get(HeatMap, row.journal_index) is not None
    assert (row.serial, row.lot, str(row.id)) == ("SN-1", "L7", decision.id)
    assert environment == inspector.engine.environment(1)
    assert environment["export"] == identify(exported.read_bytes())
    assert environment["threads"] == 1
    assert "torch" not in environment


def test_what_cannot_be_decoded_is_recorded_and_raised(trace: Trace, inspector: EdgeInspector) -> None:
    with pytest.raises(ImageFormatError) as found:
        inspector.inspect(b"nothing", serial="SN-2")
    assert found.value.details["decision"].receipt.index is not None
    with trace.database.session() as session:
        assert session.execute(select(Inspection.failure_code)).scalar_one() == "image-format"


# --- which file runs ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("position", [0, 100, -1])
def test_a_file_with_one_other_byte_is_refused(trace: Trace, exported: Path, position: int) -> None:
    data = bytearray(exported.read_bytes())
    data[position] ^= 1
    exported.write_bytes(data)
    with pytest.raises(ExportTamperedError, match="not on record as an export"):
        trace.edge_inspector(exported, "press-4")


def test_a_file_that_was_never_registered_is_refused_unread(
    trace: Trace, exported: Path, written: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    import traceai.edge.inspector as module

    monkeypatch.setattr(module, "opened", lambda *_, **__: pytest.fail("the file was read"))
    exported.write_bytes(written)
    with pytest.raises(ExportTamperedError):
        trace.edge_inspector(exported, "press-4")


def test_a_registered_file_whose_manifest_is_of_another_version_is_refused(
    trace: Trace, exported: Path, sql: Sql
) -> None:
    sql("UPDATE model_export SET model_digest = %s", b"\1" * 32)
    with pytest.raises(ExportTamperedError, match="not of that version"):
        trace.edge_inspector(exported, "press-4")


def test_what_is_missing_or_retired_is_named(trace: Trace, exported: Path, tmp_path: Path) -> None:
    with pytest.raises(StationNotFoundError, match="press-9"):
        trace.edge_inspector(exported, "press-9")
    for path in (tmp_path / "none.onnx", tmp_path, "a\0b"):
        with pytest.raises(InputError, match="cannot be read"):
            trace.edge_inspector(path, "press-4")
    with pytest.raises(InputError, match="-1 threads"):
        trace.edge_inspector(exported, "press-4", threads=-1)
    with trace.database.session() as session:
        registry.retire(session, registry.find(session, "tiles"), actor="ada", reason="Too many misses.")
    with pytest.raises(ModelStateError, match="retired"):
        trace.edge_inspector(exported, "press-4")


def test_a_file_of_two_versions_decides_for_the_last_that_is_not_retired(
    trace: Trace, exported: Path, images: list[Path]
) -> None:
    """The same network registered twice is the same file."""
    assert register_tiny(trace) == "tiles@2"
    assert trace.export_model("tiles@2")[0] == exported.read_bytes()
    for version in (2, 1):
        decision = trace.edge_inspector(exported, "press-4", threads=1).inspect(images[version])
        assert decision.model.version == version
        with trace.database.session() as session:
            registry.retire(session, registry.find(session, f"tiles@{version}"), actor="ada", reason="Too many misses.")
    with pytest.raises(ModelStateError, match="retired"):
        trace.edge_inspector(exported, "press-4")
    assert verifier.verify(trace.database.engine, trace.blobs).holds


def test_a_picture_that_the_runtime_cannot_take_fails_alone(
    trace: Trace, inspector: EdgeInspector, images: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    answer = inspector.engine.answer

    def no_room(pixels: Array) -> Answer:
        if pixels.shape[1:3] == (300, 2):
            raise RuntimeError("bad allocation")
        return answer(pixels)

    monkeypatch.setattr(inspector.engine, "answer", no_room)
    large = np.zeros((300, 2), np.uint8)
    found = list(inspector.inspect_many([images[0], large, images[1]]))
    assert [one.verdict is None for one in found] == [False, True, False]
    assert all(one.receipt.index is not None for one in found)
    with pytest.raises(ModelError, match=r"^ONNX Runtime could not judge a picture of 2 x 300 pixels"):
        inspector.inspect(large)


def test_every_picture_is_judged_as_it_comes(inspector: EdgeInspector, images: list[Path]) -> None:
    seen = Event()

    def source() -> Iterator[Path]:
        yield images[0]
        assert seen.wait(60), "the first was not decided before the second was there"
        yield images[1]

    for _ in inspector.inspect_many(source()):
        seen.set()


@pytest.mark.parametrize("other", ["sha256 = sha256('another')", "model_version = 2"])
def test_verification_names_a_decision_of_a_file_that_was_not_registered(
    trace: Trace,
    inspector: EdgeInspector,
    images: list[Path],
    other: str,
    sql: Sql,
) -> None:
    inspector.inspect(images[0])
    sql(f"UPDATE model_export SET {other}")
    (fact,) = (f for f in verifier.verify(trace.database.engine, trace.blobs).facts if f.name == "references")
    assert "which was not registered before it as an export of that version" in fact.findings[-1]


def test_an_environment_that_was_altered_hides_no_decision(
    trace: Trace,
    inspector: EdgeInspector,
    images: list[Path],
    sql: Sql,
) -> None:
    decision = inspector.inspect(images[0])
    sql("UPDATE runtime SET environment = '[]'")
    with trace.database.session() as session:
        found = history.dossier(session, history.find(session, decision.id))
    assert found.export is None


# --- without the database -------------------------------------------------------------------------------------------------


def test_a_known_file_goes_on_while_the_database_is_away_and_everything_is_delivered(
    trace: Trace, clone: str, exported: Path, inspector: EdgeInspector, images: list[Path]
) -> None:
    inspector.inspect(images[0])
    with away(clone):
        again = trace.edge_inspector(exported, "press-4", threads=1)
        kept = list(again.inspect_many(images[1:5]))
        assert all(isinstance(one.receipt, Spooled) for one in kept)
        assert {one.verdict for one in kept} <= {"pass", "undecided", "reject"}
        exported.write_bytes(exported.read_bytes() + b"\0")
        with pytest.raises(DatabaseUnavailableError):
            trace.edge_inspector(exported, "press-4")
    delivered(trace.recorder)
    with trace.database.session() as session:
        rows = session.execute(select(Inspection).order_by(Inspection.station_seq)).scalars().all()
    assert [str(row.id) for row in rows[1:]] == [one.id for one in kept]
    assert [row.station_seq for row in rows] == [1, 2, 3, 4, 5]
    assert verifier.verify(trace.database.engine, trace.blobs).holds


# --- without torch --------------------------------------------------------------------------------------------------------

LINE = """
import json, sys
for name in json.load(sys.stdin):
    sys.modules[name] = None  # importing it raises ImportError
import traceai
import traceai.cli.watch
with traceai.connect() as trace:
    inspector = trace.edge_inspector(sys.argv[1], "press-4")
    one = inspector.inspect(sys.argv[2], serial="SN-1")
    rest = list(inspector.inspect_many(sys.argv[3:]))
    print(json.dumps([[d.id, d.verdict, d.receipt.index, d.explanation.target] for d in (one, *rest)]))
"""


def beyond_the_readme() -> list[str]:
    """The modules of everything installed here that the README's list for a line brings neither by itself nor with it."""
    text = (Path(__file__).parents[2] / "README.md").read_text()
    command = re.search(r"pip install (onnxruntime(?:.*\\\n)*.*)", text)
    assert command
    waiting = shlex.split(command[1].replace("\\\n", " "))
    brought: set[str] = set()
    while waiting:
        requirement = Requirement(waiting.pop())
        if requirement.name in brought and not requirement.extras:
            continue
        brought.add(requirement.name)
        for further in map(Requirement, requires(requirement.name) or ()):
            extras = requirement.extras or {""}
            if further.marker is None or any(further.marker.evaluate({"extra": extra}) for extra in extras):
                waiting.append(str(further).split(";")[0])
    names = {canonicalize_name(name) for name in brought} | {"traceai"}
    return [
        module for module, owners in packages_distributions().items()
        if not names & set(map(canonicalize_name, owners)) and module not in sys.stdlib_module_names
    ]  # fmt: skip


def test_it_runs_with_what_the_readme_says_and_without_torch(
    trace: Trace, clone: str, exported: Path, tiny: str, images: list[Path]
) -> None:
    environment = {**os.environ, "TRACEAI_HOME": str(trace.settings.home), "TRACEAI_DATABASE_URL": clone}
    missing = beyond_the_readme()
    assert {"torch", "transformers", "safetensors", "captum", "onnx", "onnxscript", "onnx_ir", "scipy"} <= set(missing)
    done = subprocess.run(
        [sys.executable, "-c", LINE, str(exported), *map(str, images)], input=json.dumps(missing),
        env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    found = json.loads(done.stdout)
    trace.add_station("press-5")
    expected = list(trace.inspector(tiny, "press-5").inspect_many(images))
    assert [one[1] for one in found] == [one.verdict for one in expected]
    assert all(one[2] is not None for one in found)
    assert [one[3] for one in found] == [one.explanation.target for one in expected if one.explanation]


WITHOUT = """
import sys
for name in sys.argv[1:]:
    sys.modules[name] = None
import traceai
with traceai.connect() as trace:
    for call in (lambda: trace.inspector("tiles", "press-4"), lambda: trace.export_model("tiles")):
        try:
            call()
        except traceai.errors.TraceaiError as error:
            print(error.code, error.message)
"""


@pytest.mark.parametrize(
    ("missing", "said"),
    [
        (
            "torch",
            "model-invalid torch is not installed here; install it, or inspect with an exported file (`--onnx`).",
        ),
        (
            "onnxruntime",
            "export-unsupported onnxruntime is not installed here; install it with `pip install 'traceai[edge]'`.",
        ),
        (
            "onnxscript",
            "export-unsupported onnxscript is not installed here; install it with `pip install 'traceai[edge]'`.",
        ),
    ],
)
def test_what_is_not_installed_is_named(trace: Trace, clone: str, tiny: str, missing: str, said: str) -> None:
    trace.add_station("press-4")
    environment = {**os.environ, "TRACEAI_HOME": str(trace.settings.home), "TRACEAI_DATABASE_URL": clone}
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT, missing], env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert said in done.stdout.splitlines()
