"""A replayed decision is explained in other ways, and every one of them says that it is not the recorded explanation."""

import io
import json
from collections.abc import Sequence
from datetime import date
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from traceai.errors import InputError, MethodNotOfferedError, ModelError, ReplayDiffersError
from traceai.images.preprocess import Preprocessing
from traceai.inspection import history
from traceai.inspection.decision import Decision
from traceai.inspection.picture import afterwards_png, explanation_png, overlay_png
from traceai.sdk import Trace

DAY = date(2026, 3, 14)


def test_it_is_not_explained_for_that_would_be_another_decision(trace: Trace, of_another_network: Decision) -> None:
    with pytest.raises(ReplayDiffersError, match=r"the verdict was reject and is pass and .*; an explanation made now"):
        trace.replay(of_another_network.id).explain("occlusion", on=DAY)


def test_an_explanation_made_afterwards_says_so_and_how(trace: Trace, decisions: list[Decision]) -> None:
    found = trace.replay(decisions[0].id).explain("occlusion", on=DAY)
    said = json.loads(json.dumps(found.to_json(), allow_nan=False))
    assert (said["made_afterwards"], said["made_on"], said["method"]) == (True, "2026-03-14", "occlusion")
    assert (said["settings"]["window_px"], said["settings"]["stride_px"]) == (4, 2)
    assert said["target"] == decisions[0].explanation.target
    assert said["recorded_explanation"]["sha256"] == decisions[0].explanation.sha256
    assert said["replay"]["agrees"] is True
    assert found.grid.shape == (32, 32)


def test_integrated_gradients_state_their_completeness(trace: Trace, decisions: list[Decision]) -> None:
    found = trace.replay(decisions[0].id).explain("integrated-gradients", on=DAY)
    assert found.complete is True
    assert found.error is not None
    record = found.replay.record
    engine = found.replay.engine
    with torch.no_grad():
        black = engine.model.split.logits(torch.zeros(1, 1, 32, 32))[0]
    rise = float(record.logits[record.explanation.target]) - float(
        black[engine.classes.index(record.explanation.target)]
    )
    assert found.grid.sum() == pytest.approx(rise + found.error, abs=1e-4)


def test_grad_cam_made_afterwards_is_the_recorded_one_until_a_layer_is_named(
    trace: Trace, decisions: list[Decision]
) -> None:
    replayed = trace.replay(decisions[0].id)
    assert np.allclose(replayed.explain("grad-cam", on=DAY).grid, decisions[0].explanation.grid, atol=1e-3)
    earlier = replayed.explain("grad-cam", layer="resnet.encoder.stages.0", on=DAY)
    assert earlier.grid.shape == (8, 8)
    assert earlier.settings == {"layer": "resnet.encoder.stages.0"}


def test_a_transformers_attention_is_rolled_out(trace: Trace, external: tuple[nn.Module, Decision]) -> None:
    network, decision = external
    found = trace.replay(decision.id, module=network).explain("attention-rollout", on=DAY)
    assert found.grid.shape == (6, 6)
    assert found.grid.min() >= 0
    assert found.to_json()["target"] is None


def test_what_is_not_offered_or_does_not_fit(trace: Trace, decisions: list[Decision]) -> None:
    replayed = trace.replay(decisions[0].id)
    with pytest.raises(MethodNotOfferedError, match="Guided Backpropagation is not offered"):
        replayed.explain("guided-backprop", on=DAY)
    with pytest.raises(InputError, match="takes no layer"):
        replayed.explain("occlusion", layer="resnet.embedder", on=DAY)
    with pytest.raises(ModelError, match="needs one ViT or DINOv2"):
        replayed.explain("attention-rollout", on=DAY)


def test_a_picture_is_the_same_for_the_same_day_and_another_for_another(
    trace: Trace, decisions: list[Decision]
) -> None:
    def drawn(day: date, method: str = "occlusion") -> bytes:
        return afterwards_png(trace.replay(decisions[0].id).explain(method, on=day))

    assert drawn(DAY) == drawn(DAY)
    assert drawn(DAY) != drawn(date(2026, 3, 15))
    assert drawn(DAY) != drawn(DAY, "saliency")


def test_a_letterboxed_picture_gets_the_part_of_the_map_that_shows_it(trace: Trace, images: Sequence[Path]) -> None:
    """A bright spot in the upper left corner of a wide picture, explained by a network that looks at brightness alone."""
    network = nn.Sequential(nn.Conv2d(1, 2, 1), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(2, 2)).eval()
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.zero_()
        network[0].weight[0], network[3].weight[1, 0] = 1, 1
    preprocessing = Preprocessing(height=32, width=32, channels=1, mean=("0",), std=("1",), fit="letterbox")
    reference = trace.register_model("mine", network, classes=("good", "dent"), preprocessing=preprocessing, split="0")
    trace.add_station("press-4")
    pixels = np.zeros((100, 400), np.uint8)
    pixels[:50, :50] = 255
    decision = trace.inspector(reference, "press-4").inspect(pixels)
    found = trace.replay(decision.id, module=network).explain("input-x-gradient", on=DAY)
    with trace.database.session() as session:
        dossier = history.dossier(session, history.find(session, decision.id))
        image = trace.blobs.get(dossier.entry.record.image.sha256)
        recorded, stored = explanation_png(dossier, image, trace.blobs), dossier.entry.record
        plain = overlay_png(stored, dossier.grid, image, trace.blobs)
    # The image is enlarged to 320 x 1280; the overlay stands to its right, under the notice and beside the margins.
    for data, top, left, scale in (
        (afterwards_png(found), 30 + 16, 16 + 1280 + 16, 16),
        (recorded, 16, 16 + 1280 + 16, 16),
        (plain, 0, 0, 5),
    ):
        with Image.open(io.BytesIO(data)) as picture:
            sheet = np.asarray(picture.convert("RGB")).astype(int)
        overlay = sheet[top : top + 20 * scale, left : left + 80 * scale]
        warm = overlay[..., 0] - overlay[..., 2] > 60
        assert warm[2 * scale : 8 * scale, 2 * scale : 8 * scale].all()
        assert not warm[:, 20 * scale :].any()
        assert not warm[14 * scale :].any()
