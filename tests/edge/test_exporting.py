"""An export is registered once, with what made it and how far it is from torch, and never where it is far."""

from concurrent.futures import ThreadPoolExecutor
from importlib.metadata import version

import numpy as np
import pytest
from sqlalchemy import select

from tests.edge.conftest import model
from traceai.db.tables import Journal, ModelExport
from traceai.edge import exporting
from traceai.edge.exporting import TOLERANCE, Exported, export, probe
from traceai.edge.writing import write
from traceai.errors import BlobMissingError, ExportError, ModelError, ModelStateError
from traceai.images.decode import identify
from traceai.images.preprocess import Preprocessing
from traceai.inspection.engine import Engine
from traceai.ledger.entry import Entry
from traceai.ledger.packing import unpack
from traceai.ledger.verification import verifier
from traceai.models import registry
from traceai.models.artifact import LoadedModel
from traceai.sdk import Trace

PREPARED = Preprocessing(height=64, width=64, channels=1, mean=("0.5",), std=("0.25",))


def rows(trace: Trace) -> list[ModelExport]:
    with trace.database.session() as session:
        return list(session.execute(select(ModelExport)).scalars())


def test_an_export_is_on_record_with_tools_and_differences(trace: Trace, tiny: str) -> None:
    data, entered = trace.export_model(tiny, made_by="erin")
    (row,) = rows(trace)
    assert (row.model_name, row.model_version, row.made_by, row.format) == ("tiles", 1, "erin", "onnx")
    assert row.sha256.hex() == identify(data) == entered.sha256.hex()
    assert row.size == len(data)
    assert row.tools == {name: version(name) for name in ("traceai", "torch", "onnx", "onnxscript", "onnxruntime")}
    assert row.images == 22
    assert 0 <= row.logit_difference < 1e-4
    assert 0 <= row.grid_difference < 1e-5
    assert trace.blobs.get(row.sha256.hex()) == data
    with trace.database.session() as session:
        entry = Entry.parse(unpack(session.get_one(Journal, row.journal_index).entry))
    assert entry.record.schema_name == "model-export/1"
    assert verifier.verify(trace.database.engine, trace.blobs).holds


def test_the_same_file_is_entered_once(trace: Trace, tiny: str) -> None:
    first, second = trace.export_model(tiny), trace.export_model("tiles")
    assert first[0] == second[0]
    assert first[1].id == second[1].id
    assert len(rows(trace)) == 1


def test_a_retired_version_is_not_exported(trace: Trace, tiny: str) -> None:
    with trace.database.session() as session:
        registry.retire(session, registry.find(session, tiny), actor="ada", reason="Too many misses.")
    with pytest.raises(ModelStateError, match="retired"):
        trace.export_model("tiles@1")
    assert rows(trace) == []


def test_a_version_that_is_retired_meanwhile_is_not_registered(trace: Trace, tiny: str) -> None:
    with trace.database.session() as session:
        row = registry.find(session, tiny)
        model = registry.reference_of(row)
        registry.retire(session, row, actor="ada", reason="Too many misses.")
    with trace.database.session() as session, pytest.raises(ModelStateError):
        exporting.register(session, trace.blobs, model, Exported(b"data", 1, 0.0, 0.0), made_by="erin")
    with pytest.raises(BlobMissingError):
        trace.blobs.get(identify(b"data"))


def test_a_network_of_the_users_own_is_exported_where_it_is_passed(trace: Trace) -> None:
    from tests.explain import networks

    module = networks.trained(networks.vit)
    reference = trace.register_model(
        "own", module, classes=networks.CLASSES,
        preprocessing=Preprocessing(height=networks.SIDE, width=networks.SIDE, channels=1, mean=("0.5",), std=("0.25",)),
    )  # fmt: skip
    with pytest.raises(ModelError, match="pass it as module="):
        trace.export_model(reference)
    _, entered = trace.export_model(reference, module=networks.vit())
    assert entered.grid_difference < 1e-6
    assert len(rows(trace)) == 1


@pytest.fixture(scope="module")
def faint() -> LoadedModel:
    """Its explanations lie below every absolute tolerance."""
    found = model()
    assert found.split.linear is not None
    found.split.linear.weight.mul_(1e-4)
    return found


def test_a_faint_explanation_is_exported(faint: LoadedModel) -> None:
    found = export(faint)
    strongest = max(np.abs(Engine(faint).answer([Engine(faint).prepare(one)]).grid).max() for one in probe(PREPARED))
    assert 0 < strongest < TOLERANCE
    assert found.grid_difference < 1e-2 * strongest


@pytest.mark.parametrize("part", ["weights", "grid", "faint", "none", "class"])
def test_a_file_that_answers_otherwise_is_refused(
    loaded: LoadedModel, faint: LoadedModel, part: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded = faint if part in ("faint", "none") else loaded
    written = write(loaded)
    import onnx
    from onnx import numpy_helper

    proto = onnx.load_from_string(written)
    if part == "weights":
        weight = next(tensor for tensor in proto.graph.initializer if len(tensor.dims) == 4)
        altered = numpy_helper.to_array(weight) * np.float32(1.1)
        weight.CopyFrom(numpy_helper.from_array(altered, weight.name))
    else:
        # Another sign of the explanation, or none at all, or another class explained.
        node = next(node for node in proto.graph.node if ("target" if part == "class" else "grid") in node.output)
        inner = node.output[0] + "_before"
        if part == "class":
            three = onnx.helper.make_node("Constant", [], ["three"], value=onnx.helper.make_tensor("t", 7, [1], [3]))
            other = onnx.helper.make_node("Sub", ["three", inner], ["target"])
            extra = [three, other]
        else:
            twice = [inner] if part != "none" else [inner, inner]
            extra = [onnx.helper.make_node("Neg" if part != "none" else "Sub", twice, ["grid"])]
        old = node.output[0]
        for each in proto.graph.node:
            each.input[:] = [inner if name == old else name for name in each.input]
        node.output[0] = inner
        proto.graph.node.extend(extra)
    monkeypatch.setattr(exporting, "write", lambda model: proto.SerializeToString())
    with pytest.raises(ExportError, match="not registered") as found:
        export(loaded)
    assert {"weights": "logits", "class": "class"}.get(part, "explanation") in found.value.message


def test_a_network_that_gives_no_numbers_is_named_as_that() -> None:
    broken = model()
    assert broken.split.linear is not None
    broken.split.linear.weight.fill_(np.nan)
    with pytest.raises(ExportError, match="not finite numbers in torch either"):
        export(broken)


def test_several_exports_at_once_wait_for_each_other(loaded: LoadedModel, written: bytes) -> None:
    with ThreadPoolExecutor(3) as pool:
        assert set(pool.map(write, [loaded] * 3)) == {written}


def test_another_pillow_is_noticed(loaded: LoadedModel, monkeypatch: pytest.MonkeyPatch) -> None:
    apply = Preprocessing.apply
    monkeypatch.setattr(Preprocessing, "apply", lambda how, pixels: np.nextafter(apply(how, pixels), np.float32(9)))
    with pytest.raises(ExportError, match="does not prepare a picture"):
        export(loaded)


def test_a_probe_has_grey_and_coloured_pictures_of_every_shape() -> None:
    pictures = probe(Preprocessing(height=64, width=48, channels=1, mean=("0.5",), std=("0.25",)))
    assert {picture.pixels.ndim for picture in pictures} == {2, 3}
    ratios = {(picture.height > 64, picture.width > 48) for picture in pictures}
    assert ratios == {(False, False), (False, True), (True, False), (True, True)}
    assert [picture.pixel_sha256 for picture in pictures] == [
        picture.pixel_sha256
        for picture in probe(Preprocessing(height=64, width=48, channels=1, mean=("0.5",), std=("0.25",)))
    ]
    assert len({picture.pixel_sha256 for picture in pictures}) == len(pictures)


def test_a_probe_of_a_large_input_fits_into_memory() -> None:
    pictures = probe(Preprocessing(height=3000, width=2500, channels=1, mean=("0.5",), std=("0.25",)))
    assert max(max(picture.height, picture.width) for picture in pictures) == 2048
