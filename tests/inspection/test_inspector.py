import threading
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from sqlalchemy import func, select

import traceai
from tests.conftest import register_tiny
from traceai.db.tables import HeatMap, Inspection, Journal, ModelRefused, Runtime, Station
from traceai.errors import (
    ImageMissingError,
    ImageTruncatedError,
    InputError,
    ModelNotFoundError,
    ModelStateError,
    ModelTamperedError,
    StationNotFoundError,
)  # fmt: skip
from traceai.explain.summary import decode_grid
from traceai.images.decode import decode, identify
from traceai.inspection.reading import Item
from traceai.ledger.entry import Entry
from traceai.ledger.records import InspectionFailed
from traceai.ledger.verification import verifier
from traceai.models import registry
from traceai.sdk import Trace


@pytest.fixture
def station(trace: Trace) -> str:
    trace.add_station("press-4", audit_pass_probability=0.5)
    return "press-4"


def stored(trace: Trace, decision: traceai.Decision) -> Entry:
    with trace.database.session() as session:
        return Entry.parse(session.get_one(Journal, decision.receipt.index).entry)


def test_one_image_is_decided_explained_and_recorded(
    trace: Trace, tiny: str, station: str, images: Sequence[Path]
) -> None:
    decision = trace.inspector("tiles", station).inspect(
        images[0], serial="SN-1", lot="L7", product="plate", trigger=99
    )
    record = stored(trace, decision).record
    assert record.station_seq == decision.station_seq == 1
    assert record.part.model_dump() == {"product": "plate", "serial": "SN-1", "lot": "L7", "view": None}
    assert record.trigger == 99
    assert record.image.sha256 == identify(images[0].read_bytes())
    assert record.model.name == "tiles"
    assert decision.verdict == record.verdict
    assert set(record.scores) == {"good", "dent", "scratch"}
    assert sum(map(float, record.scores.values())) == pytest.approx(1, abs=1e-5)


def test_the_verdict_follows_from_the_recorded_numbers(
    trace: Trace, tiny: str, station: str, images: Sequence[Path]
) -> None:
    for decision in trace.inspector(tiny, station).inspect_many(images):
        record = stored(trace, decision).record
        logits = np.array([float(record.logits[name]) for name in ("good", "dent", "scratch")])
        scores = np.exp(logits) / np.exp(logits).sum()
        assert float(record.defect_score) == pytest.approx(scores[1:].sum(), abs=2e-6)
        point = record.operating_point
        expected = "pass" if float(record.defect_score) < float(point.pass_below) else (
            "reject" if float(record.defect_score) >= float(point.reject_at) else "undecided"
        )  # fmt: skip
        assert record.verdict == expected
        # The explained class is the likeliest defect, whatever the verdict.
        assert record.explanation.target == ("dent" if logits[1] > logits[2] else "scratch")


def test_the_explanation_adds_up_to_the_recorded_logit(
    trace: Trace, tiny: str, station: str, images: Sequence[Path]
) -> None:
    decision = trace.inspector(tiny, station).inspect(images[3])
    record = stored(trace, decision).record
    with trace.database.session() as session:
        grid = session.get_one(HeatMap, decision.receipt.index).grid
    shape = (record.explanation.height, record.explanation.width)
    assert identify(grid) == record.explanation.sha256
    assert np.array_equal(decode_grid(grid, shape), decision.explanation.grid)
    total = float(decode_grid(grid, shape).astype(np.float64).sum())
    logit = float(record.logits[record.explanation.target])
    assert total + float(record.explanation.bias) == pytest.approx(logit, abs=1e-3)
    assert float(record.explanation.residual) == pytest.approx(total + float(record.explanation.bias) - logit, abs=1e-6)


def test_bytes_and_arrays_are_inspected_like_files(
    trace: Trace, tiny: str, station: str, images: Sequence[Path]
) -> None:
    pixels = np.asarray(Image.open(images[0]))
    found = list(trace.inspector(tiny, station).inspect_many([images[0], images[0].read_bytes(), pixels]))
    assert len({decision.defect_score for decision in found}) == 1
    with trace.database.session() as session:
        rows = session.execute(select(Inspection).order_by(Inspection.journal_index)).scalars().all()
    assert len({row.pixel_sha256 for row in rows}) == 1
    assert rows[0].image_sha256 == rows[1].image_sha256
    for row in rows:
        assert identify(trace.blobs.get(row.image_sha256.hex())) == row.image_sha256.hex()
        assert np.array_equal(decode(trace.blobs.get(row.image_sha256.hex())).pixels, pixels)


def test_what_cannot_be_decoded_is_recorded_and_the_rest_go_on(
    trace: Trace, tiny: str, station: str, images: Sequence[Path], tmp_path: Path
) -> None:
    broken, missing = tmp_path / "broken.png", tmp_path / "missing.png"
    broken.write_bytes(images[0].read_bytes()[:80])
    found = list(
        trace.inspector(tiny, station).inspect_many([images[0], broken, images[1], missing, images[2]], batch=2)
    )
    assert [decision.verdict is None for decision in found] == [False, True, False, True, False]
    assert [decision.station_seq for decision in found] == [1, 2, 3, 4, 5]
    assert [type(decision.failure) for decision in found if decision.failure] == [
        ImageTruncatedError,
        ImageMissingError,
    ]
    record = stored(trace, found[1]).record
    assert isinstance(record, InspectionFailed)
    assert record.failure_code == "image-truncated"
    assert record.image.sha256 == identify(broken.read_bytes())
    assert trace.blobs.get(record.image.sha256) == broken.read_bytes()
    assert stored(trace, found[3]).record.image.sha256 is None
    assert verifier.verify(trace.database.engine, trace.blobs).holds


def test_inspecting_a_single_bad_image_raises_and_its_record_is_at_hand(
    trace: Trace, tiny: str, station: str, tmp_path: Path
) -> None:
    path = tmp_path / "text.png"
    path.write_text("no image")
    with pytest.raises(traceai.TraceaiError) as caught:
        trace.inspector(tiny, station).inspect(path, serial="SN-9")
    assert caught.value.code == "image-format"
    assert stored(trace, caught.value.details["decision"]).record.part.serial == "SN-9"


@pytest.mark.parametrize("field", ["serial", "lot", "product", "view"])
@pytest.mark.parametrize("value", ["", "nul\x00", "line\nbreak", "x" * 201])
def test_a_part_that_no_record_can_hold_is_refused_before_anything_is_stored(
    trace: Trace, tiny: str, station: str, images: Sequence[Path], field: str, value: str
) -> None:
    with pytest.raises(InputError, match=f"The {field}"):
        trace.inspector(tiny, station).inspect(images[0], **{field: value})
    with trace.database.session() as session:
        assert session.execute(select(func.count()).select_from(Inspection)).scalar_one() == 0
        assert session.get_one(Station, station).last_seq == 0


def test_a_model_without_a_good_class_leaves_every_part_to_a_person(
    trace: Trace, station: str, images: Sequence[Path]
) -> None:
    reference = register_tiny(trace, classes=("crack", "dent", "scratch"))
    for decision in trace.inspector(reference, station).inspect_many(images[:4]):
        assert decision.verdict == traceai.Verdict.UNDECIDED
        assert decision.defect_score is None
        assert decision.predicted == decision.explanation.target
        assert decision.audit.drawn


def test_rejects_and_undecided_are_always_drawn_and_passes_at_the_stations_rate(
    trace: Trace, tiny: str, station: str, images: Sequence[Path]
) -> None:
    found = list(trace.inspector(tiny, station).inspect_many(list(images) * 8))
    passes = [decision for decision in found if decision.verdict == "pass"]
    others = [decision for decision in found if decision.verdict != "pass"]
    assert all(decision.audit.drawn and decision.audit.probability == "1" for decision in others)
    assert {decision.audit.probability for decision in passes} <= {"0.5"}
    assert {decision.audit.stratum for decision in found} == {str(decision.verdict) for decision in found}
    # 96 draws at one half: all alike would be a defect, not chance.
    assert len(passes) < 30 or 0 < sum(decision.audit.drawn for decision in passes) < len(passes)


def test_threads_share_an_inspector_without_gaps_or_mixed_up_maps(
    trace: Trace, tiny: str, station: str, images: Sequence[Path]
) -> None:
    inspector = trace.inspector(tiny, station)
    expected = {
        path: decision.explanation for path, decision in zip(images, inspector.inspect_many(images), strict=True)
    }
    found: list[tuple[Path, traceai.Decision]] = []

    def work(offset: int) -> None:
        for path in images[offset:] + images[:offset]:
            found.append((path, inspector.inspect(path)))

    threads = [threading.Thread(target=work, args=(offset,)) for offset in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(decision.station_seq for _, decision in found) == list(range(13, 13 + 48))
    for path, decision in found:
        assert decision.explanation.target == expected[path].target
        np.testing.assert_allclose(decision.explanation.grid, expected[path].grid, atol=2e-3)
    assert verifier.verify(trace.database.engine, trace.blobs).holds


def test_an_image_on_which_the_network_overflows_is_a_failed_inspection(
    trace: Trace, tiny: str, station: str, images: Sequence[Path]
) -> None:
    inspector = trace.inspector(tiny, station)
    with torch.no_grad():
        inspector.engine.model.split.linear.bias.fill_(float("nan"))
    decision = next(iter(inspector.inspect_many([Item(images[0])])))
    assert decision.verdict is None
    assert stored(trace, decision).record.failure_code == "model-invalid"


def test_an_unknown_station_or_model_is_named(trace: Trace, tiny: str, station: str) -> None:
    with pytest.raises(StationNotFoundError, match="traceai station add press-9"):
        trace.inspector(tiny, "press-9")
    with pytest.raises(ModelNotFoundError, match="no model other"):
        trace.inspector("other", station)
    with pytest.raises(ModelNotFoundError, match="no version 7 of tiles; it has 1"):
        trace.inspector("tiles@7", station)


def test_a_retired_version_inspects_nothing_more(trace: Trace, tiny: str, station: str) -> None:
    with trace.database.session() as session:
        registry.retire(session, registry.find(session, tiny), actor="ada", reason="replaced")
    with pytest.raises(ModelStateError, match="retired"):
        trace.inspector(tiny, station)
    with pytest.raises(ModelStateError, match="No version of tiles is active"):
        trace.inspector("tiles", station)


@pytest.mark.parametrize("file", ["manifest", "weights"])
def test_a_flipped_byte_in_a_models_files_is_refused_and_recorded(
    trace: Trace, tiny: str, station: str, file: str
) -> None:
    with trace.database.session() as session:
        row = registry.find(session, tiny)
    digest = row.digest.hex() if file == "manifest" else row.weights_sha256.hex()
    path = Path(trace.settings.blobs_url) / trace.blobs.path(digest)
    altered = bytearray(path.read_bytes())
    altered[len(altered) // 2] ^= 1
    path.chmod(0o600)
    path.write_bytes(altered)
    with pytest.raises(ModelTamperedError, match=file):
        trace.inspector(tiny, station, actor="erin")
    with trace.database.session() as session:
        refused = session.execute(select(ModelRefused)).scalar_one()
    assert (refused.file, refused.expected.hex(), refused.found.hex()) == (file, digest, identify(bytes(altered)))
    assert refused.actor == "erin"


def test_the_environment_is_recorded_once(trace: Trace, tiny: str, station: str, images: Sequence[Path]) -> None:
    for _ in range(2):
        list(trace.inspector(tiny, station).inspect_many(images[:4]))
    with trace.database.session() as session:
        count = session.execute(select(func.count()).select_from(Runtime)).scalar_one()
    assert count == 1
