"""A decision is replayed over HTTP by whoever may read it, and nothing is recorded."""

from collections.abc import Sequence
from pathlib import Path

import torch

from tests.api.conftest import Client
from tests.explain.networks import PlainNet
from traceai.images.preprocess import Preprocessing
from traceai.inspection.decision import Decision
from traceai.ledger import log
from traceai.sdk import Trace


def test_a_decision_that_comes_out_again_agrees(trace: Trace, client: Client, recorded: list[Decision]) -> None:
    auditor = client("auditor")
    with trace.database.session() as session:
        before = log.read_head(session).size
    response = auditor.post(f"/v1/inspections/{recorded[0].id}/replay")
    assert response.status_code == 200
    found = response.json()
    assert (found["id"], found["agrees"], found["differences"]) == (recorded[0].id, True, [])
    assert found["verdict"] == {"recorded": recorded[0].verdict, "replayed": recorded[0].verdict}
    assert found["explanation"]["sha256"]["recorded"] == recorded[0].explanation.sha256
    assert found["runtime"]["differs"] == ["batch"]
    with trace.database.session() as session:
        assert log.read_head(session).size == before


def test_one_that_does_not_is_answered_with_what_differs(
    trace: Trace, tiny: str, client: Client, images: Sequence[Path]
) -> None:
    trace.add_station("press-4")
    inspector = trace.inspector(tiny, "press-4")
    with torch.no_grad():
        inspector.engine.model.split.linear.bias.add_(torch.tensor([0.0, 9.0, 0.0]))
    decision = inspector.inspect(images[0])
    response = client("auditor").post(f"/v1/inspections/{decision.id}/replay")
    assert (response.status_code, response.json()["agrees"]) == (200, False)
    assert response.json()["differences"][0] == "the verdict was reject and is pass"


def test_what_cannot_be_replayed_says_why(trace: Trace, client: Client, recorded: list[Decision]) -> None:
    engineer = client("engineer")

    def asked(reference: str) -> tuple[int, str]:
        response = engineer.post(f"/v1/inspections/{reference}/replay")
        return response.status_code, response.json()["code"]

    assert asked("nonsense") == (404, "decision-not-found")
    assert asked(recorded[12].id) == (409, "conflict")
    reference = trace.register_model(
        "mine",
        PlainNet(),
        classes=("good", "dent", "scratch"),
        preprocessing=Preprocessing(height=32, width=32, channels=1, mean=("0.5",), std=("0.25",)),
        split="body",
    )
    mine = trace.inspector(reference, "press-4").inspect(trace.blobs.get(stored(trace, recorded[0])))
    assert asked(mine.id) == (400, "model-invalid")
    (Path(trace.settings.blobs_url) / trace.blobs.path(stored(trace, recorded[0]))).unlink()
    assert asked(recorded[0].id) == (404, "blob-missing")


def stored(trace: Trace, decision: Decision) -> str:
    digest = trace.replay(decision.id).record.image.sha256
    assert digest is not None
    return digest


def test_whoever_reviews_or_records_may_not(client: Client, recorded: list[Decision]) -> None:
    for role in ("reviewer", "station", "admin"):
        assert client(role).post(f"/v1/inspections/{recorded[0].id}/replay").status_code == 403


def test_a_post_without_a_body_needs_no_length(client: Client, recorded: list[Decision]) -> None:
    auditor = client("auditor")
    request = auditor.build_request("POST", f"/v1/inspections/{recorded[0].id}/replay")
    del request.headers["content-length"]
    assert auditor.send(request).status_code == 200
