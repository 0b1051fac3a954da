"""`/v1/openapi.json` names the problems that can come back, and no others."""

import json
import re
from collections.abc import Iterator

import pytest

from tests.api.conftest import Client
from traceai.errors import TraceaiError
from traceai.sdk import Trace
from traceai_api.app import create_app
from traceai_api.problems import STATUS, UNEXPECTED, status_of
from traceai_api.uploads import REFUSALS

Operations = dict[tuple[str, str], dict]


@pytest.fixture
def description(trace: Trace) -> dict:
    return create_app(trace).openapi()


@pytest.fixture
def operations(description: dict) -> Operations:
    return {
        (method.upper(), path): operation
        for path, methods in description["paths"].items()
        for method, operation in methods.items()
    }


def problems(operation: dict) -> dict[int, set[str]]:
    """The codes that stand in the description, by status."""
    return {
        int(status): set(re.findall(r"`([a-z-]+)`", answer["description"])) - {"code"}
        for status, answer in operation["responses"].items()
        if int(status) >= 400
    }


def tree(kind: type[TraceaiError] = TraceaiError) -> Iterator[type[TraceaiError]]:
    yield kind
    for below in kind.__subclasses__():
        yield from tree(below)


def test_what_is_declared_is_what_errors_and_the_guard_of_bodies_become(operations: Operations) -> None:
    declared = {status for operation in operations.values() for status in problems(operation)}
    assert declared == {status for _, status in STATUS} | set(REFUSALS) | {UNEXPECTED[0]}


def test_every_code_stands_under_the_status_that_it_comes_with(operations: Operations) -> None:
    possible = {(status_of(kind), kind.code) for kind in tree()} | set(REFUSALS.items()) | {UNEXPECTED}
    for operation in operations.values():
        for status, codes in problems(operation).items():
            assert codes
            assert {(status, code) for code in codes} <= possible


def test_every_route_that_asks_for_a_token_can_refuse_it_and_can_be_without_a_database(operations: Operations) -> None:
    guarded = {name: problems(operation) for name, operation in operations.items() if name[1].startswith("/v1/")}
    assert len(guarded) >= 12
    for found in guarded.values():
        assert found[401] == {"not-authenticated"}
        assert found[403] == {"forbidden"}
        assert "internal" in found[500]
        assert "database-unavailable" in found[503]


def test_only_a_request_that_may_bring_a_body_can_miss_its_length(operations: Operations) -> None:
    for (method, _), operation in operations.items():
        assert (411 in problems(operation)) is (method == "POST")
        assert method == "POST" or "requestBody" not in operation


def test_every_problem_is_one_document(description: dict, operations: Operations) -> None:
    for operation in operations.values():
        for status, answer in operation["responses"].items():
            if int(status) >= 400:
                assert answer["content"] == {
                    "application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}
                }
    assert {"title", "status", "code", "detail"} <= set(description["components"]["schemas"]["Problem"]["properties"])


def test_the_frameworks_own_error_is_nowhere(client: Client) -> None:
    served = client("").get("/v1/openapi.json").json()
    assert "ValidationError" not in json.dumps(served)
    assert "422" not in served["paths"]["/v1/rates"]["get"]["responses"]


def test_a_form_that_cannot_be_taken_apart_is_bad_input(client: Client) -> None:
    response = client("station").post(
        "/v1/inspections", content=b"no form", headers={"Content-Type": "multipart/form-data; boundary=x"}
    )
    assert (response.status_code, response.json()["code"]) == (400, "bad-input")
