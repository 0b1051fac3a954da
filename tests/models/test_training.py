"""A few seconds of training: it learns, it repeats, and it says what it did."""

from pathlib import Path

import pytest
import torch

from tests.models.parts import SIDE, settings, take
from traceai.data.snapshot import Snapshot
from traceai.errors import DatasetChangedError, DatasetError
from traceai.images.blobs import BlobStore
from traceai.models.artifact import load, pack
from traceai.models.evaluation import Evaluation, evaluate
from traceai.models.fitting import balanced_weights
from traceai.models.scores import defect_scores
from traceai.models.training import TrainingResult, train


@pytest.fixture(scope="module")
def learnt(tmp_path_factory: pytest.TempPathFactory) -> tuple[Snapshot, TrainingResult]:
    snapshot = take(tmp_path_factory.mktemp("parts"), train=60, val=48)
    return snapshot, train(snapshot, settings(steps=120))


def _evaluate(snapshot: Snapshot, result: TrainingResult) -> Evaluation:
    return evaluate(
        result.module,
        result.partition.evaluate,
        snapshot.files,
        preprocessing=result.preprocessing,
        classes=result.classes,
        operating_point=result.operating_point,
    )


def _same(left: TrainingResult, right: TrainingResult) -> bool:
    a, b = left.module.state_dict(), right.module.state_dict()
    return all(torch.equal(a[name], b[name]) for name in a)


def test_it_learns_what_it_is_shown(learnt: tuple[Snapshot, TrainingResult]) -> None:
    found = _evaluate(*learnt)
    assert found.auroc is not None
    assert found.auroc > 0.95
    assert found.type_recall is not None
    assert found.type_recall > 0.9


def test_guided_explanations_point_at_the_defect(learnt: tuple[Snapshot, TrainingResult]) -> None:
    found = _evaluate(*learnt)
    assert found.pointing is not None
    assert found.pointing_chance is not None
    assert found.pointing > 0.8 > 2 * found.pointing_chance


def test_the_same_seed_gives_the_same_weights_and_another_does_not(tmp_path: Path) -> None:
    snapshot = take(tmp_path)
    first = train(snapshot, settings(steps=8))
    torch.rand(3)  # the global generator must not matter
    assert _same(first, train(snapshot, settings(steps=8)))
    assert not _same(first, train(snapshot, settings(steps=8, seed=1)))


def test_training_leaves_torchs_global_state_alone(tmp_path: Path) -> None:
    snapshot = take(tmp_path)
    torch.manual_seed(7)
    state, threads = torch.get_rng_state(), torch.get_num_threads()
    train(snapshot, settings(steps=2))
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.get_num_threads() == threads


def test_a_time_budget_becomes_steps_that_repeat_it(tmp_path: Path) -> None:
    snapshot = take(tmp_path)
    seen: list[tuple[int, int, float]] = []
    budgeted = train(snapshot, settings(max_seconds=0.5), lambda *step: seen.append(step))
    steps = budgeted.provenance.steps
    assert [done for done, _, _ in seen] == list(range(1, steps + 1))
    assert {total for _, total, _ in seen} == {steps}
    assert all(loss > 0 for _, _, loss in seen)
    assert _same(budgeted, train(snapshot, settings(steps=steps)))


def test_the_result_is_a_version_that_can_be_packed_and_loaded(
    learnt: tuple[Snapshot, TrainingResult], tmp_path: Path
) -> None:
    snapshot, result = learnt
    manifest, weights = pack(
        result.module,
        name="parts",
        architecture=result.architecture,
        preprocessing=result.preprocessing,
        classes=result.classes,
        operating_point=result.operating_point,
        layer="resnet.encoder",
        training=result.provenance,
    )
    store = BlobStore(tmp_path)
    store.put(weights)
    loaded = load(store.put(manifest), store)
    assert loaded.manifest.training is not None
    assert loaded.manifest.training.snapshot == snapshot.digest
    assert loaded.manifest.training.settings["learning_rate"] == "0.01"
    batch = torch.zeros(1, 1, SIDE, SIDE)
    with torch.no_grad():
        assert torch.equal(loaded.split.explain(batch).logits, result.module(batch).logits)


def test_the_operating_point_comes_from_images_that_were_not_fitted(learnt: tuple[Snapshot, TrainingResult]) -> None:
    _, result = learnt
    assert result.operating_point is not None
    assert "calibration images" in result.operating_point_note
    fitted = {item.group_id for item in result.partition.fit}
    assert not fitted & {item.group_id for item in result.partition.calibrate}


def test_without_good_parts_types_are_learnt_and_nothing_is_judged(tmp_path: Path) -> None:
    snapshot = take(tmp_path, train=40, good=False)
    result = train(snapshot, settings(steps=80))
    assert result.classes == ("dent", "scratch")
    assert result.operating_point is None
    assert "no good parts" in result.operating_point_note
    assert defect_scores(torch.zeros(2, 2), result.classes) is None
    found = _evaluate(snapshot, result)
    assert (found.auroc, found.average_precision) == (None, None)
    assert found.undefined == "the network has no good class, and so no defect score"
    assert found.verdicts["defect"] == {"pass": 0, "undecided": 24, "reject": 0}
    assert found.type_accuracy is not None
    assert found.type_accuracy > 0.9


def test_without_masks_whole_images_are_learnt(tmp_path: Path) -> None:
    snapshot = take(tmp_path, masks=False)
    found = _evaluate(snapshot, train(snapshot, settings(steps=5)))
    assert found.pointing is None
    assert found.auroc is not None


def test_colour_images_are_learnt_in_colour_and_grey_ones_in_grey(tmp_path: Path) -> None:
    grey = train(take(tmp_path / "grey"), settings(steps=2))
    colour = train(take(tmp_path / "colour", colour=True), settings(steps=2))
    assert (grey.preprocessing.channels, colour.preprocessing.channels) == (1, 3)
    assert grey.preprocessing.mean != ("0",)
    assert train(take(tmp_path / "grey"), settings(steps=2, channels=3)).architecture.channels == 3


def test_calibration_images_of_one_kind_give_no_operating_point(tmp_path: Path) -> None:
    result = train(take(tmp_path, train=36, val=2, test=6), settings(steps=2))
    assert result.operating_point is None
    assert "lack either" in result.operating_point_note


def test_a_changed_file_is_refused(tmp_path: Path) -> None:
    snapshot = take(tmp_path)
    changed = next(tmp_path.glob("img/train*.png"))
    changed.write_bytes(next(tmp_path.glob("img/val*.png")).read_bytes())
    with pytest.raises(DatasetChangedError, match=changed.name):
        train(snapshot, settings(steps=2))


def test_a_single_class_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="at least two"):
        train(take(tmp_path, train=2, val=2), settings())


def test_balancing_draws_good_parts_by_their_share_and_types_by_the_root_of_their_counts() -> None:
    labels = torch.tensor([0] * 90 + [1] * 9 + [2])
    weights = balanced_weights(labels, 3, 0, 0.5)
    shares = [float(weights[labels == k].sum()) for k in range(3)]
    assert shares == pytest.approx([0.5, 0.375, 0.125])
    assert float(balanced_weights(labels, 3, None, 0.5).sum()) == pytest.approx(1)
