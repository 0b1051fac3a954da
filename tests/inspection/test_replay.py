"""A recorded decision comes out of the store again, or it is said what does not."""

import json
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import date
from pathlib import Path

import numpy as np
import pytest
import torch
from sqlalchemy import select
from torch import nn

from tests.conftest import register_tiny
from tests.explain.networks import dinov2_registers, trained
from traceai.db.tables import ModelRefused
from traceai.errors import (
    BlobMissingError,
    BlobTamperedError,
    ConflictError,
    DecisionNotFoundError,
    ModelError,
    ModelTamperedError,
    ReplayDiffersError,
    VerificationError,
)
from traceai.explain.splitting import Split
from traceai.images.preprocess import Preprocessing
from traceai.inspection.decision import Decision
from traceai.inspection.reading import Item
from traceai.inspection.replay import GRID_WITHIN, LOGITS_WITHIN
from traceai.models import registry
from traceai.sdk import Trace

DAY = date(2026, 3, 14)
Sql = Callable[..., list[tuple]]


def stored(trace: Trace, digest: str) -> Path:
    path = Path(trace.settings.blobs_url) / trace.blobs.path(digest)
    path.chmod(0o600)
    return path


def flip(path: Path) -> None:
    altered = bytearray(path.read_bytes())
    altered[len(altered) // 2] ^= 1
    path.write_bytes(altered)


# --- what agrees --------------------------------------------------------------------------------------------------------


def test_every_decision_comes_out_again_whatever_batch_it_was_made_in(trace: Trace, decisions: list[Decision]) -> None:
    for decision in decisions:
        replayed = trace.replay(decision.id)
        assert replayed.agrees
        assert replayed.differences == ()
        assert replayed.judgement.verdict == decision.verdict
        assert replayed.judgement.summary.target == decision.explanation.target
        assert replayed.logit_error <= replayed.logit_tolerance
        assert replayed.grid_error is not None
        assert replayed.grid_error <= replayed.grid_tolerance
        assert replayed.identical == (replayed.judgement.summary.sha256 == decision.explanation.sha256)
        assert replayed.runtime_differs == ["batch"]
        assert replayed.recorded_runtime["batch"] in (2, 5)


def test_tolerances_follow_from_the_record(trace: Trace, decisions: list[Decision]) -> None:
    replayed = trace.replay(decisions[0].id)
    largest = max(abs(float(value)) for value in replayed.record.logits.values())
    assert replayed.logit_tolerance == LOGITS_WITHIN * max(1, largest)
    assert replayed.grid_tolerance == pytest.approx(GRID_WITHIN * np.abs(decisions[0].explanation.grid).max(), rel=1e-3)


def test_a_decision_is_named_by_its_ledger_index_too(trace: Trace, decisions: list[Decision]) -> None:
    assert trace.replay(str(decisions[3].receipt.index)).record.id == decisions[3].id


def test_a_version_that_was_retired_since_is_replayed(trace: Trace, tiny: str, decisions: list[Decision]) -> None:
    with trace.database.session() as session:
        registry.retire(session, registry.find(session, tiny), actor="ada", reason="replaced")
    assert trace.replay(decisions[0].id).agrees


def test_arrays_are_replayed_from_the_file_that_was_made_of_them(trace: Trace, tiny: str) -> None:
    trace.add_station("press-4")
    pixels = np.random.default_rng(0).integers(0, 256, (40, 30, 3), dtype=np.uint8)
    assert trace.replay(trace.inspector(tiny, "press-4").inspect(pixels).id).agrees


def test_the_network_in_memory_is_not_asked(trace: Trace, tiny: str, decisions: list[Decision]) -> None:
    with torch.no_grad():
        trace.inspector(tiny, "press-4").engine.model.split.linear.bias.add_(5)
    assert trace.replay(decisions[0].id).agrees


def test_threads_replay_at_the_same_time(trace: Trace, decisions: list[Decision]) -> None:
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda decision: trace.replay(decision.id), decisions))
    assert [(replayed.record.id, replayed.agrees) for replayed in found] == [(d.id, True) for d in decisions]


def test_more_versions_than_are_kept(trace: Trace, images: Sequence[Path]) -> None:
    trace.add_station("press-4")
    made = [trace.inspector(register_tiny(trace, seed=n), "press-4").inspect(images[0]) for n in range(6)]
    for decision in made + made:
        assert trace.replay(decision.id).agrees
    assert len(trace._replayer._engines) == 4


def test_what_was_compared_is_json(trace: Trace, decisions: list[Decision]) -> None:
    found = json.loads(json.dumps(trace.replay(decisions[0].id).to_json(), allow_nan=False))
    assert found["agrees"] is True
    assert found["verdict"]["recorded"] == found["verdict"]["replayed"]
    assert found["logits"]["recorded"].keys() == found["logits"]["replayed"].keys()
    assert found["runtime"]["differs"] == ["batch"]


# --- what does not ------------------------------------------------------------------------------------------------------


def test_a_decision_that_the_registered_network_does_not_make_is_found(
    trace: Trace, of_another_network: Decision
) -> None:
    replayed = trace.replay(of_another_network.id)
    assert not replayed.agrees
    said = "\n".join(replayed.differences)
    assert (of_another_network.verdict, replayed.differences[0]) == ("reject", "the verdict was reject and is pass")
    assert "a logit differs by" in said
    assert "a cell of the heat map differs by" in said
    assert replayed.to_json()["agrees"] is False


def test_a_bias_that_moves_no_verdict_is_still_a_difference(trace: Trace, tiny: str, images: Sequence[Path]) -> None:
    trace.add_station("press-4")
    inspector = trace.inspector(tiny, "press-4")
    with torch.no_grad():
        inspector.engine.model.split.linear.bias.add_(0.001)
    replayed = trace.replay(inspector.inspect(images[0]).id)
    assert replayed.differences == (
        f"a logit differs by {replayed.logit_error:.3g}, and {replayed.logit_tolerance:.3g} is allowed",
    )


def test_a_network_that_gives_no_number_now_does_not_agree(
    trace: Trace, decisions: list[Decision], monkeypatch: pytest.MonkeyPatch
) -> None:
    trace.replay(decisions[0].id)
    (engine,) = trace._replayer._engines.values()
    with torch.no_grad():
        engine.model.split.linear.bias.fill_(float("nan"))
    with pytest.raises(ReplayDiffersError, match="not a finite number"):
        trace.replay(decisions[0].id)


# --- what is gone, or was altered ---------------------------------------------------------------------------------------


def test_a_failed_inspection_has_nothing_to_replay(trace: Trace, tiny: str, tmp_path: Path) -> None:
    trace.add_station("press-4")
    (tmp_path / "broken.png").write_bytes(b"nothing")
    (failed,) = trace.inspector(tiny, "press-4").inspect_many([Item(tmp_path / "broken.png")])
    with pytest.raises(ConflictError, match=r"failed \(image-format\), so there is nothing to replay"):
        trace.replay(failed.id)


def test_a_decision_that_there_is_not(trace: Trace) -> None:
    with pytest.raises(DecisionNotFoundError):
        trace.replay("nonsense")


def test_an_image_that_is_gone_or_altered(trace: Trace, decisions: list[Decision]) -> None:
    path = stored(trace, trace.replay(decisions[0].id).record.image.sha256)
    flip(path)
    with pytest.raises(BlobTamperedError):
        trace.replay(decisions[0].id)
    path.unlink()
    with pytest.raises(BlobMissingError):
        trace.replay(decisions[0].id)


@pytest.mark.parametrize("file", ["digest", "weights_sha256"])
def test_a_model_that_is_altered_is_refused_and_the_refusal_recorded_and_one_that_is_gone_is_named(
    trace: Trace, tiny: str, decisions: list[Decision], file: str
) -> None:
    with trace.database.session() as session:
        path = stored(trace, getattr(registry.find(session, tiny), file).hex())
    flip(path)
    with pytest.raises(ModelTamperedError):
        trace.replay(decisions[0].id, actor="ada")
    with trace.database.session() as session:
        assert session.execute(select(ModelRefused)).scalar_one().actor == "ada"
    path.unlink()
    with pytest.raises(BlobMissingError):
        trace.replay(decisions[0].id)


def test_a_heat_map_that_is_not_the_recorded_one(trace: Trace, decisions: list[Decision], sql: Sql) -> None:
    sql("UPDATE heat_map SET grid = decode(repeat('00', octet_length(grid)), 'hex')")
    with pytest.raises(VerificationError, match="is not the recorded one"):
        trace.replay(decisions[0].id)


def test_without_the_heat_map_what_the_record_says_of_it_is_compared(
    trace: Trace, decisions: list[Decision], sql: Sql
) -> None:
    sql("DELETE FROM heat_map")
    replayed = trace.replay(decisions[0].id)
    assert replayed.agrees
    assert replayed.purged
    assert replayed.grid_error is not None


def test_without_the_heat_map_another_networks_is_still_found(
    trace: Trace, of_another_network: Decision, sql: Sql
) -> None:
    sql("DELETE FROM heat_map")
    assert "a cell of the heat map differs by" in trace.replay(of_another_network.id).differences[-1]


def test_a_runtime_that_is_not_the_recorded_one(trace: Trace, decisions: list[Decision], sql: Sql) -> None:
    sql("""UPDATE runtime SET environment = '{"torch": "0.1"}'""")
    with pytest.raises(VerificationError, match="stored runtime"):
        trace.replay(decisions[0].id)
    sql("DELETE FROM runtime")
    replayed = trace.replay(decisions[0].id)
    assert replayed.agrees
    assert (replayed.recorded_runtime, replayed.runtime_differs) == (None, [])


def test_a_falsified_table_changes_nothing(trace: Trace, decisions: list[Decision], sql: Sql) -> None:
    sql("UPDATE inspection SET verdict = 'reject', explanation_target = 'FORGED', predicted = 'x'")
    assert trace.replay(decisions[0].id).agrees


# --- a network whose code is the user's ---------------------------------------------------------------------------------


def test_it_has_to_be_brought(trace: Trace, external: tuple[nn.Module, Decision]) -> None:
    with pytest.raises(ModelError, match="code is not kept here; in Python, pass it as module="):
        trace.replay(external[1].id)


def test_it_gets_the_recorded_weights_and_the_callers_own_keep_theirs(
    trace: Trace, external: tuple[nn.Module, Decision]
) -> None:
    _, decision = external
    brought = trained(dinov2_registers)
    with torch.no_grad():
        for parameter in brought.parameters():
            parameter.add_(1)
    before = {key: tensor.clone() for key, tensor in brought.state_dict().items()}
    assert trace.replay(decision.id, module=brought).agrees
    assert all(torch.equal(before[key], tensor) for key, tensor in brought.state_dict().items())


def test_one_that_was_split_by_hand(trace: Trace, images: Sequence[Path]) -> None:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(1, 4, 5, 4), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2))
    parts = Split.of(network[:2], network[2:], layer="relu")
    preprocessing = Preprocessing(height=32, width=32, channels=1, mean=("0.5",), std=("0.25",))
    reference = trace.register_model(
        "mine", network, classes=("good", "dent"), preprocessing=preprocessing, split=parts
    )
    trace.add_station("press-4")
    decision = trace.inspector(reference, "press-4").inspect(images[0])
    replayed = trace.replay(decision.id, module=network, split=parts)
    assert replayed.agrees
    assert replayed.explain("saliency", on=DAY).grid.shape == (32, 32)
