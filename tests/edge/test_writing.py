"""The file: the same bytes for the same version, nothing of this machine in them, and nothing but the explanation apart."""

import os
import subprocess
import sys
from pathlib import Path

import onnx
import pytest

from tests.edge.conftest import model
from traceai.edge.file import FORMAT, opened
from traceai.edge.writing import write
from traceai.errors import ExportError, ExportTamperedError
from traceai.models.artifact import LoadedModel

AGAIN = """
import hashlib
from tests.edge.conftest import model
from traceai.edge.writing import write
print(hashlib.sha256(write(model())).hexdigest())
"""


def test_the_same_version_gives_the_same_bytes_in_another_process(written: bytes, tmp_path: Path) -> None:
    import hashlib

    root = Path(__file__).parents[2]
    environment = {**os.environ, "PYTHONHASHSEED": "12345", "PYTHONPATH": f"{root}:{os.environ.get('PYTHONPATH', '')}"}
    done = subprocess.run(
        [sys.executable, "-c", AGAIN], cwd=tmp_path, env=environment, capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == [hashlib.sha256(written).hexdigest()]


def test_the_file_is_valid_onnx_and_names_nothing_of_this_machine(written: bytes) -> None:
    onnx.checker.check_model(written, full_check=True)
    assert str(Path(__file__).parents[2]).encode() not in written
    assert b"site-packages" not in written
    proto = onnx.load_from_string(written)
    assert {entry.key for entry in proto.metadata_props} == {"traceai.format", "traceai.manifest"}
    assert not any(node.doc_string or node.metadata_props for node in proto.graph.node)


def test_the_file_holds_the_manifest_of_its_version(loaded: LoadedModel, written: bytes) -> None:
    export = opened(written, loaded.digest)
    assert export.manifest == loaded.manifest
    assert export.digest == loaded.digest
    assert export.outputs == ("logits", "target", "grid", "bias")
    assert export.threads >= 1


def test_without_explanation_only_its_nodes_are_missing(loaded: LoadedModel, written: bytes) -> None:
    plain, whole = (onnx.load_from_string(data).graph for data in (write(loaded, explained=False), written))
    assert [output.name for output in plain.output] == ["logits"]
    names = [node.name for node in whole.node]
    kept = [node.name for node in plain.node]
    assert [name for name in names if name in set(kept)] == kept
    assert 0 < len(names) - len(kept) < 20


def test_a_manifest_of_another_version_is_refused(loaded: LoadedModel, written: bytes) -> None:
    proto = onnx.load_from_string(written)
    for entry in proto.metadata_props:
        entry.value = entry.value.replace('"pass_below":"0.66"', '"pass_below":"0.67"')
    with pytest.raises(ExportTamperedError, match="not of that version"):
        opened(proto.SerializeToString(), loaded.digest)


def spoiled(written: bytes, how: str) -> bytes:
    proto = onnx.load_from_string(written)
    if how == "format":
        proto.metadata_props[0].value = FORMAT + "0"
    elif how == "no metadata":
        del proto.metadata_props[:]
    elif how == "not canonical":
        for entry in proto.metadata_props:
            entry.value = entry.value.replace('{"', '{ "', 1)
    elif how == "outputs":
        del proto.graph.output[2]
    elif how == "cut":
        return written[: len(written) // 2]
    elif how == "empty":
        return b""
    return proto.SerializeToString()


@pytest.mark.parametrize("how", ["format", "no metadata", "not canonical", "outputs", "cut", "empty"])
def test_what_is_no_file_of_this_format_is_refused_in_a_sentence(
    written: bytes, how: str, capfd: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(ExportError) as found:
        opened(spoiled(written, how))
    assert found.value.message.endswith(".")
    assert "\n" not in found.value.message
    assert capfd.readouterr().err == ""


def test_a_network_split_elsewhere_than_registered_is_refused(loaded: LoadedModel) -> None:
    from dataclasses import replace

    with pytest.raises(ExportError, match=r"explained at 'resnet\.encoder\.stages\.1'"):
        write(replace(loaded, split=replace(loaded.split, layer="resnet.embedder")))


def test_a_version_without_a_good_class_is_written() -> None:
    from traceai.edge.engine import EdgeEngine
    from traceai.edge.exporting import probe

    found = model(classes=("dent", "scratch"), point=None)
    engine = EdgeEngine(opened(write(found), found.digest, threads=1))
    judged = engine.judge([engine.prepare(picture) for picture in probe(found.manifest.preprocessing)[:3]])
    assert {(one.verdict, one.defect_score) for one in judged} == {("undecided", None)}
