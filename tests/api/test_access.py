"""No anonymous reads, one table of permissions, and a log of who asked."""

import re
from collections.abc import Iterator

import pytest
from fastapi.routing import APIRoute
from sqlalchemy import select

from tests.api.conftest import Client, connected
from traceai import access
from traceai.access import GRANTS, Permission, Role
from traceai.db.connection import Database, create_engine
from traceai.db.tables import ApiToken
from traceai.ledger import log
from traceai.sdk import Trace
from traceai_api.app import create_app

OPEN = {"/healthz", "/readyz"}


def calls(trace: Trace) -> list[tuple[str, str]]:
    paths = create_app(trace).openapi()["paths"]
    return [
        (method.upper(), re.sub(r"\{version\}", "1", re.sub(r"\{(?!version)\w+\}", "x", path)))
        for path, methods in paths.items()
        for method in methods
        if path not in OPEN
    ]


def test_no_route_answers_without_a_token(trace: Trace, client: Client) -> None:
    anonymous = client("")
    found = calls(trace)
    assert len(found) >= 12
    for method, path in found:
        response = anonymous.request(method, path)
        assert (method, path, response.status_code) == (method, path, 401)
        assert response.json()["code"] == "not-authenticated"
        assert response.headers["www-authenticate"] == "Bearer"


@pytest.mark.parametrize("token", ["", "nonsense", "traceai_" + "A" * 43, "é"])
def test_a_wrong_token_is_told_apart_from_none_by_nothing(trace: Trace, client: Client, token: str) -> None:
    response = client("").get("/v1/inspections", headers={"Authorization": f"Bearer {token}".encode()})
    assert response.status_code == 401


def test_a_revoked_token_is_worth_nothing(trace: Trace, client: Client) -> None:
    auditor = client("auditor")
    assert auditor.get("/v1/ledger").status_code == 200
    with trace.database.session() as session:
        token = session.execute(select(ApiToken)).scalar_one()
        token.revoked_at = token.created_at
    assert auditor.get("/v1/ledger").status_code == 401


def test_every_route_names_its_permission(trace: Trace) -> None:
    from traceai_api.routes import evidence, inspections, models, replay

    for router in (evidence.router, inspections.router, models.router, replay.router):
        for route in router.routes:
            assert isinstance(route, APIRoute)
            names = [d.call.__qualname__ for d in route.dependant.dependencies if d.call is not None]
            assert any(name.startswith("allowed.") for name in names), route.path


@pytest.mark.parametrize("role", list(Role))
@pytest.mark.parametrize(
    ("method", "path", "permission"),
    [
        ("GET", "/v1/inspections", Permission.READ_DECISIONS),
        ("POST", "/v1/inspections", Permission.INSPECT),
        ("POST", "/v1/inspections/0/reviews", Permission.REVIEW),
        ("GET", "/v1/reviews/queue", Permission.REVIEW),
        ("GET", "/v1/inspections/0/image", Permission.READ_IMAGES),
        ("GET", "/v1/inspections/0/explanation.png", Permission.READ_DECISIONS),
        ("POST", "/v1/inspections/0/replay", Permission.REPLAY),
        ("GET", "/v1/rates", Permission.READ_RATES),
        ("GET", "/v1/models", Permission.READ_MODELS),
        ("GET", "/v1/ledger", Permission.READ_LEDGER),
        ("GET", "/v1/access-log", Permission.READ_ACCESS_LOG),
    ],
)
def test_roles_do_what_the_table_grants_and_nothing_else(
    client: Client, role: Role, method: str, path: str, permission: Permission
) -> None:
    response = client(role).request(method, path)
    if permission in GRANTS[role]:
        assert response.status_code in {200, 400, 404}
    else:
        assert response.status_code == 403
        assert response.json()["code"] == "forbidden"


def test_no_route_ignores_a_parameter(trace: Trace, client: Client) -> None:
    roles = {("POST", "/v1/inspections"): Role.STATION, ("GET", "/v1/reviews/queue"): Role.REVIEWER}
    roles[("POST", "/v1/inspections/x/reviews")] = Role.REVIEWER
    by_role = {role: client(role) for role in (Role.STATION, Role.REVIEWER, Role.AUDITOR)}
    for method, path in calls(trace):
        asking = by_role[roles.get((method, path), Role.AUDITOR)]
        response = asking.request(method, path, params={"nonsense": "1"})
        assert (method, path, response.status_code) == (method, path, 400)
        assert "'nonsense'" in response.json()["detail"]


def test_a_reviewer_sees_pictures_and_nothing_that_the_model_said() -> None:
    assert GRANTS[Role.REVIEWER] == {Permission.REVIEW, Permission.READ_IMAGES}


def test_strangers_are_in_the_access_log(client: Client) -> None:
    client("").get("/v1/inspections", params={"serial": "SN-1"})
    found = client("auditor").get("/v1/access-log").json()["items"][1]
    assert (found["user_name"], found["allowed"], found["target"]) == ("-", False, "/v1/inspections?serial=SN-1")


def test_a_body_of_a_stranger_or_beyond_the_limit_is_not_read(client: Client) -> None:
    def body() -> Iterator[bytes]:
        raise AssertionError("the body was read")
        yield b""

    for role, length, status in (("", 10, 401), ("", 10**6, 401), ("", 10**9, 401), ("station", 10**9, 413)):
        response = client(role).post("/v1/inspections", content=body(), headers={"Content-Length": str(length)})
        assert response.status_code == status
    assert client("").post("/v1/inspections", content=iter([b"x"])).status_code == 401
    assert client("station").post("/v1/inspections", content=iter([b"x"])).status_code == 411


@pytest.mark.parametrize(
    ("path", "content_type"),
    [("/v1/inspections", "multipart/form-data; boundary=x"), ("/v1/inspections/0/reviews", "application/json")],
)
def test_what_a_stranger_sends_is_not_taken_apart(client: Client, path: str, content_type: str) -> None:
    response = client("").post(path, content=b"{", headers={"Content-Type": content_type})
    assert (response.status_code, response.json()["code"]) == (401, "not-authenticated")
    found = client("auditor").get("/v1/access-log").json()["items"][1]
    assert (found["user_name"], found["method"], found["target"]) == ("-", "POST", path)


def test_a_method_that_a_route_does_not_have_is_told_which_it_has(client: Client) -> None:
    response = client("auditor").delete("/v1/rates")
    assert (response.status_code, response.headers["allow"]) == (405, "GET")
    assert response.headers["content-type"] == "application/problem+json"


def test_nobody_is_redirected(client: Client) -> None:
    response = client("").get("/v1/inspections/", headers={"Host": "elsewhere.example"}, follow_redirects=False)
    assert response.status_code in {401, 404}
    assert "location" not in response.headers


def test_an_auditor_changes_nothing_and_an_admin_reads_no_evidence() -> None:
    assert not GRANTS[Role.AUDITOR] & {Permission.INSPECT, Permission.REVIEW}
    assert GRANTS[Role.ADMIN] == set()


def test_every_request_is_logged_with_what_was_asked_and_whether_it_was_let_in(trace: Trace, client: Client) -> None:
    reviewer, auditor = client("reviewer"), client("auditor")
    reviewer.get("/v1/reviews/queue", params={"station": "press-1"})
    reviewer.get("/v1/access-log")
    auditor.get("/v1/inspections/nonsense")
    found = auditor.get("/v1/access-log").json()["items"]
    assert [(item["role"], item["target"], item["allowed"]) for item in found] == [
        ("auditor", "/v1/access-log", True),
        ("auditor", "/v1/inspections/nonsense", True),
        ("reviewer", "/v1/access-log", False),
        ("reviewer", "/v1/reviews/queue?station=press-1", True),
    ]
    first = auditor.get("/v1/access-log", params={"limit": 2}).json()
    rest = auditor.get("/v1/access-log", params={"limit": 1, "after": first["next"]}).json()
    assert rest["items"][0]["target"] == "/v1/inspections/nonsense"


def test_tokens_are_kept_as_hashes_only(trace: Trace, client: Client) -> None:
    auditor = client("auditor")
    token = auditor.headers["authorization"].removeprefix("Bearer ")
    with trace.database.session() as session:
        stored = session.execute(select(ApiToken)).scalar_one()
    assert len(stored.sha256) == 32
    assert token.encode() not in stored.sha256


def test_an_unexpected_error_tells_the_caller_nothing_of_its_text(
    trace: Trace, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(_: object) -> None:
        raise RuntimeError("secret detail")

    monkeypatch.setattr(log, "read_head", broken)
    with trace.database.session() as session:
        access.add_user(session, "ann", "auditor")
        token = access.create_token(session, "ann")
    with connected(create_app(trace)) as opened:
        response = opened.get("/v1/ledger", headers={"Authorization": f"Bearer {token}"})
    assert response.status_code == 500
    assert response.json()["code"] == "internal"
    assert "secret" not in response.text


def test_liveness_and_readiness_need_no_token(client: Client) -> None:
    anonymous = client("")
    assert anonymous.get("/healthz").json() == {"status": "ok"}
    assert anonymous.get("/readyz").json() == {"status": "ready"}


def test_a_database_that_is_away_is_503(trace: Trace) -> None:
    nobody = Database(create_engine("postgresql://nobody@127.0.0.1:1/nothing"), None)
    with connected(create_app(Trace(trace.settings, nobody, trace.blobs))) as opened:
        for path in ("/v1/ledger", "/readyz"):
            response = opened.get(path, headers={"Authorization": "Bearer traceai_x"})
            assert (response.status_code, response.json()["code"]) == (503, "database-unavailable")
    nobody.close()
