import io
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
from fastapi.testclient import TestClient
from httpx import Response
from PIL import Image
from sqlalchemy import func, select

from tests.api.conftest import Client
from tests.inspection.recording.drafts import away, delivered
from traceai import access
from traceai.db.tables import Inspection
from traceai.images.decode import Limits, identify
from traceai.inspection.decision import Decision
from traceai.ledger.verification import verifier
from traceai.sdk import Trace


def test_search_newest_first_with_an_opaque_next(client: Client, recorded: list[Decision]) -> None:
    auditor = client("auditor")
    seen, after = [], None
    while True:
        page = auditor.get("/v1/inspections", params={"limit": 5} | ({"after": after} if after else {})).json()
        seen += [item["id"] for item in page["items"]]
        after = page["next"]
        if after is None:
            break
    assert seen == [decision.id for decision in recorded][::-1]


@pytest.mark.parametrize(
    ("parameters", "count"),
    [
        ({"serial": "SN-3"}, 1),
        ({"lot": "L7"}, 13),
        ({"lot": "L8"}, 0),
        ({"station": "press-4"}, 13),
        ({"model": "tiles", "version": 1}, 13),
        ({"model": "tiles", "version": 2}, 0),
        ({"verdict": "failed"}, 1),
        ({"since": "2020-01-01T00:00:00Z"}, 13),
        ({"until": "2020-01-01T00:00:00+02:00"}, 0),
    ],
)
def test_filters(client: Client, recorded: list[Decision], parameters: dict, count: int) -> None:
    response = client("auditor").get("/v1/inspections", params=parameters)
    assert response.status_code == 200
    assert len(response.json()["items"]) == count


@pytest.mark.parametrize(
    ("parameters", "word"),
    [
        ({"verdict": "perhaps"}, "verdict"),
        ({"since": "yesterday"}, "since"),
        ({"since": "2026-01-01T00:00:00"}, "time zone"),
        ({"since": "1700000000"}, "time zone"),
        ({"until": "2026-01-31"}, "until: no time with a time zone"),
        ({"since": "2026-02-31T00:00:00Z"}, "since"),
        ({"since": "2026-01-02T00:00:00Z", "until": "2026-01-01T00:00:00Z"}, "period"),
        ({"limit": 0}, "limit"),
        ({"limit": 1001}, "limit"),
        ({"after": "nonsense"}, "first page"),
        ({"version": 0}, "version"),
        ({"version": 2**40}, "version"),
        ({"serial": "nul\x00"}, "NUL"),
        ({"from": "2030-01-01T00:00:00Z"}, "lot, model, product, serial, since, station, until"),
        ({"lot": ["L7", "L8"]}, "2 times"),
    ],
)
def test_a_bad_query_is_a_problem_document(client: Client, parameters: dict, word: str) -> None:
    response = client("auditor").get("/v1/inspections", params=parameters)
    assert response.status_code == 400
    assert response.headers["content-type"] == "application/problem+json"
    problem = response.json()
    assert problem["code"] == "bad-input"
    assert problem["status"] == 400
    assert word in problem["detail"]


def test_one_decision_says_what_is_on_record(client: Client, recorded: list[Decision]) -> None:
    decision = recorded[3]
    found = client("auditor").get(f"/v1/inspections/{decision.id}").json()
    assert found["verdict"] == decision.verdict
    assert found["ledger"]["leaf_hash"] == decision.receipt.leaf_hash.hex()
    assert found["ledger"]["index"] == decision.receipt.index
    assert found["image"]["sha256"] == identify(Path(decision.source).read_bytes())
    assert found["part"]["serial"] == "SN-3"
    assert found["explanation"]["sha256"] == decision.explanation.sha256
    assert [event["action"] for event in found["model_events"]] == ["approve", "activate"]
    assert found["reviews"] == []
    assert "salt" not in found
    by_index = client("auditor").get(f"/v1/inspections/{decision.receipt.index}").json()
    assert by_index == found


def test_a_failed_inspection_says_so(client: Client, recorded: list[Decision]) -> None:
    found = client("auditor").get(f"/v1/inspections/{recorded[12].id}").json()
    assert found["verdict"] is None
    assert found["failure"]["code"] == "image-truncated"
    assert found["record"] == "inspection-failed/1"


def test_the_image_comes_back_byte_for_byte(client: Client, recorded: list[Decision]) -> None:
    for decision in (recorded[0], recorded[12]):
        response = client("auditor").get(f"/v1/inspections/{decision.id}/image")
        assert response.content == Path(decision.source).read_bytes()
        assert response.headers["x-content-type-options"] == "nosniff"
    assert client("auditor").get(f"/v1/inspections/{recorded[0].id}/image").headers["content-type"] == "image/png"


def test_the_explanation_is_a_picture_and_the_same_one_each_time(client: Client, recorded: list[Decision]) -> None:
    auditor = client("auditor")
    responses = [auditor.get(f"/v1/inspections/{recorded[0].id}/explanation.png") for _ in range(2)]
    assert responses[0].headers["content-type"] == "image/png"
    assert responses[0].content == responses[1].content
    picture = np.asarray(Image.open(io.BytesIO(responses[0].content)).convert("RGB"))
    assert picture.std() > 10


def test_a_failed_inspection_has_no_explanation(client: Client, recorded: list[Decision]) -> None:
    response = client("auditor").get(f"/v1/inspections/{recorded[12].id}/explanation.png")
    assert (response.status_code, response.json()["code"]) == (409, "conflict")
    assert response.headers["content-type"] == "application/problem+json"


@pytest.mark.parametrize("path", ["", "/image", "/explanation.png", "/reviews"])
@pytest.mark.parametrize("reference", ["01a20998-f540-74bc-8717-dcec9f9e6fee", "999999", "nonsense"])
def test_an_unknown_decision_is_404(client: Client, path: str, reference: str) -> None:
    response = client("auditor").get(f"/v1/inspections/{reference}{path}")
    assert response.status_code == 404
    assert response.json()["code"] == "decision-not-found"


def test_a_lost_image_is_told_and_not_replaced(trace: Trace, client: Client, recorded: list[Decision]) -> None:
    digest = identify(Path(recorded[0].source).read_bytes())
    (Path(trace.settings.blobs_url) / trace.blobs.path(digest)).unlink()
    response = client("auditor").get(f"/v1/inspections/{recorded[0].id}/image")
    assert (response.status_code, response.json()["code"]) == (404, "blob-missing")


def post(client: TestClient, path: Path, **fields: str | list[str]) -> Response:
    data = {"model": "tiles", "station": "press-4", **fields}
    return client.post("/v1/inspections", data=data, files={"image": (path.name, path.read_bytes())})


def test_a_station_posts_an_image_and_hears_the_verdict(
    trace: Trace, client: Client, recorded: list[Decision], images: Sequence[Path]
) -> None:
    response = post(client("station"), images[2], serial="SN-77", lot="L9", trigger="5")
    assert response.status_code == 201
    found = response.json()
    assert found["verdict"] == recorded[2].verdict
    assert found["part"]["serial"] == "SN-77"
    assert found["trigger"] == 5
    assert found["station_seq"] == 14
    assert verifier.verify(trace.database.engine, trace.blobs).holds


def test_a_posted_file_that_is_no_image_is_refused_and_recorded(
    trace: Trace, client: Client, recorded: list[Decision], tmp_path: Path
) -> None:
    path = tmp_path / "notes.png"
    path.write_text("no image")
    response = post(client("station"), path, serial="SN-78")
    assert response.status_code == 422
    problem = response.json()
    assert problem["code"] == "image-format"
    found = client("auditor").get(f"/v1/inspections/{problem['inspection_id']}").json()
    assert found["part"]["serial"] == "SN-78"
    assert found["failure"]["source"] == "notes.png"


def test_an_upload_beyond_the_limit_is_refused_recorded_and_not_kept(
    trace: Trace, client: Client, recorded: list[Decision], monkeypatch: pytest.MonkeyPatch, images: Sequence[Path]
) -> None:
    small = Limits(max_bytes=1000)
    monkeypatch.setattr("traceai_api.routes.inspections.DEFAULT_LIMITS", small)
    monkeypatch.setattr("traceai.inspection.inspector.Inspector.__init__.__defaults__", (small,))
    response = post(client("station"), images[0], serial="SN-79")
    assert (response.status_code, response.json()["code"]) == (413, "image-too-large")
    found = client("auditor").get(f"/v1/inspections/{response.json()['inspection_id']}").json()
    assert found["image"]["sha256"] is None
    assert found["failure"]["code"] == "image-too-large"


@pytest.mark.parametrize(
    ("fields", "status", "code"),
    [
        ({"model": "other"}, 404, "model-not-found"),
        ({"model": "tiles@9"}, 404, "model-not-found"),
        ({"station": "press-9"}, 404, "station-not-found"),
        ({"serial": "nul\x00"}, 400, "bad-input"),
        ({"model": "nul\x00"}, 400, "bad-input"),
        ({"station": "nul\x00"}, 400, "bad-input"),
        ({"trigger": "-1"}, 400, "bad-input"),
        ({"serail": "SN-1"}, 400, "bad-input"),
        ({"serial": ["SN-1", "SN-2"]}, 400, "bad-input"),
        ({"serial": ""}, 400, "bad-input"),
        ({"trigger": ""}, 400, "bad-input"),
    ],
)
def test_a_posted_image_with_wrong_words_records_nothing(
    trace: Trace, client: Client, recorded: list[Decision], images: Sequence[Path], fields: dict, status: int, code: str
) -> None:
    response = post(client("station"), images[0], **fields)
    assert (response.status_code, response.json()["code"]) == (status, code)
    with trace.database.session() as session:
        assert session.execute(select(func.count()).select_from(Inspection)).scalar_one() == 13


def test_a_review_is_appended_in_the_reviewers_name(client: Client, recorded: list[Decision]) -> None:
    reviewer = client("reviewer")
    url = f"/v1/inspections/{recorded[0].id}/reviews"
    assert reviewer.get(f"/v1/inspections/{recorded[0].id}").status_code == 403
    response = reviewer.post(url, json={"truth": "defective", "defect_type": "dent", "note": "seen"})
    assert response.status_code == 201
    assert response.json()["reviewer"].startswith("reviewer-")
    assert response.json()["source"] == "human"
    assert reviewer.post(url, json={"truth": "good"}).status_code == 201
    assert [found["truth"] for found in client("auditor").get(url).json()] == ["defective", "good"]
    waiting = reviewer.get("/v1/reviews/queue").json()
    assert all(set(item) == {"id", "ledger_index", "occurred_at", "station", "part", "image"} for item in waiting)
    assert reviewer.get(waiting[0]["image"]).headers["content-type"] == "image/png"
    queue = [item["id"] for item in waiting]
    assert recorded[0].id not in queue
    assert len(queue) == 11


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"truth": "good", "source": "simulated"},
        {"truth": "defective", "type": "dent"},
        {"truth": "fine"},
        {"truth": "good", "defect_type": "dent"},
        {"truth": "defective", "defect_type": "x" * 201},
    ],
)
def test_a_review_that_makes_no_sense_is_refused(client: Client, recorded: list[Decision], body: dict) -> None:
    response = client("reviewer").post(f"/v1/inspections/{recorded[0].id}/reviews", json=body)
    assert response.status_code == 400
    assert response.json()["code"] == "bad-input"


def test_rates_carry_their_interval_or_the_reason_why_there_is_none(client: Client, recorded: list[Decision]) -> None:
    found = client("auditor").get("/v1/rates").json()
    assert len(found) == 1
    assert found[0]["decisions"] == 12
    assert found[0]["failed"] == 1
    assert found[0]["false_negative_rate"]["estimate"] is None
    assert found[0]["false_negative_rate"]["reason"]
    assert (
        found[0]["undecided_share"]["low"]
        <= found[0]["undecided_share"]["estimate"]
        <= found[0]["undecided_share"]["high"]
    )


def test_rates_by_version_name_the_model(client: Client, recorded: list[Decision]) -> None:
    found = client("auditor").get("/v1/rates", params={"by": "version"}).json()
    assert [(group["group"], group["decisions"]) for group in found] == [("tiles@1", 12)]


def test_rates_over_an_altered_audit_draw_are_refused(
    client: Client, recorded: list[Decision], sql: Callable[..., list[tuple]]
) -> None:
    sql("UPDATE inspection SET audit_probability = NULL WHERE id = %s", recorded[0].id)
    answer = client("auditor").get("/v1/rates")
    assert (answer.status_code, answer.json()["code"]) == (500, "record-invalid")


def test_models_and_their_lives(client: Client, recorded: list[Decision]) -> None:
    auditor = client("auditor")
    listed = auditor.get("/v1/models").json()
    assert [(row["name"], row["version"], row["made_by"]) for row in listed] == [("tiles", 1, "erin")]
    assert auditor.get("/v1/models/tiles/versions/1").json() == listed[0]
    assert auditor.get("/v1/models/tiles/versions/2").status_code == 404


def test_the_ledgers_head(client: Client, recorded: list[Decision], trace: Trace) -> None:
    outcome = verifier.verify(trace.database.engine)
    assert client("auditor").get("/v1/ledger").json() == {"size": outcome.size, "root": outcome.root.hex()}


# --- recorded once, whatever happens ------------------------------------------------------------------------------------

CHOSEN = "0197fbd0-0000-7000-8000-000000000001"


def test_a_request_that_is_repeated_with_its_id_records_nothing_twice(
    client: Client, trace: Trace, recorded: list[Decision], images: Sequence[Path]
) -> None:
    station = client("station")
    first, again = (post(station, images[0], id=CHOSEN, trigger="7") for _ in range(2))
    assert (first.status_code, again.status_code) == (201, 200)
    assert first.json() == again.json()
    assert first.json()["id"] == CHOSEN
    other = post(station, images[1], id=CHOSEN)
    assert (other.status_code, other.json()["code"]) == (409, "id-taken")
    assert post(station, images[1], id="seven").status_code == 400
    with trace.database.session() as session:
        assert session.execute(select(func.count()).select_from(Inspection)).scalar_one() == 14


def test_a_failed_inspection_that_is_repeated_is_told_as_it_was(
    client: Client, trace: Trace, recorded: list[Decision], tmp_path: Path
) -> None:
    broken = tmp_path / "broken.png"
    broken.write_bytes(b"no image at all")
    station = client("station")
    first, again = (post(station, broken, id=CHOSEN) for _ in range(2))
    assert (first.status_code, first.json()) == (again.status_code, again.json())
    assert first.json()["inspection_id"] == CHOSEN


def test_a_line_that_posts_goes_on_while_the_database_is_away(
    client: Client, trace: Trace, clone: str, recorded: list[Decision], images: Sequence[Path]
) -> None:
    station, stranger, auditor = client("station"), client("station"), client("auditor")
    assert post(station, images[0]).status_code == 201
    with away(clone):
        kept, again = (post(station, images[1], id=CHOSEN, trigger="8") for _ in range(2))
        assert (kept.status_code, again.status_code) == (202, 202)
        assert kept.json() == again.json()
        assert kept.json()["verdict"] in {"pass", "reject", "undecided"}
        # Nobody but who was let in before, and nothing but this.
        assert post(stranger, images[2]).status_code == 503
        assert station.get("/v1/inspections").status_code == 503
    delivered(trace.recorder)
    assert auditor.get(f"/v1/inspections/{CHOSEN}").json()["trigger"] == 8
    status = auditor.get("/v1/spool").json()
    assert (status["spooled"], status["waiting"], status["rejected"]) == (1, {}, [])
    log = auditor.get("/v1/access-log").json()["items"]
    assert sum(line["permission"] == "inspect" and line["allowed"] for line in log) == 3
    assert verifier.verify(trace.database.engine).holds


def test_a_token_that_was_revoked_does_not_come_back_with_an_outage(
    client: Client, trace: Trace, clone: str, recorded: list[Decision], images: Sequence[Path]
) -> None:
    station = client("station")
    assert post(station, images[0]).status_code == 201
    with trace.database.session() as session:
        access.revoke_tokens(session, "station-0")
    assert post(station, images[1]).status_code == 401
    with away(clone):
        assert post(station, images[2]).status_code == 503


def test_a_home_that_cannot_be_used_stops_nothing_while_the_database_answers(
    client: Client, trace: Trace, recorded: list[Decision], images: Sequence[Path]
) -> None:
    station, auditor = client("station"), client("auditor")
    trace.recorder.spool.status()
    home = trace.settings.absolute_home
    (home / "spool.db").touch()
    (home / "spool.lock").unlink(missing_ok=True)
    (home / "spool.lock").mkdir()
    assert post(station, images[0]).status_code == 201
    assert auditor.get("/v1/inspections").status_code == 200
    assert auditor.get("/v1/spool").json()["code"] == "spool-unusable"
