import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient
from httpx import Response

from traceai import access
from traceai.inspection.decision import Decision
from traceai.inspection.reading import Item
from traceai.sdk import Trace
from traceai_api.app import create_app

Client = Callable[[str], TestClient]


@pytest.fixture
def recorded(trace: Trace, tiny: str, images: Sequence[Path], tmp_path: Path) -> list[Decision]:
    """Twelve decisions and one failed inspection at press-4."""
    trace.add_station("press-4", audit_pass_probability=1.0)
    broken = tmp_path / "broken.png"
    broken.write_bytes(images[0].read_bytes()[:70])
    items = [Item(path, serial=f"SN-{n}", lot="L7") for n, path in enumerate([*images, broken])]
    return list(trace.inspector(tiny, "press-4").inspect_many(items))


def connected(app: FastAPI, headers: Mapping[str, str] | None = None) -> TestClient:
    """A client that takes no answer which the service's own description does not name, by status and by code."""
    paths = [(re.compile(re.sub(r"\{\w+\}", "[^/]+", path)), found) for path, found in app.openapi()["paths"].items()]

    def named(response: Response) -> None:
        request = response.request
        operations = next((found for path, found in paths if path.fullmatch(request.url.path)), {})
        if request.method.lower() not in operations:
            return
        answers = operations[request.method.lower()]["responses"]
        assert str(response.status_code) in answers
        if response.is_error:
            response.read()
            assert response.headers["content-type"] == "application/problem+json"
            assert f"`{response.json()['code']}`" in answers[str(response.status_code)]["description"]

    made = TestClient(app, headers=headers, raise_server_exceptions=False)
    made.event_hooks = {"response": [named]}
    return made


@pytest.fixture
def client(trace: Trace) -> Iterator[Client]:
    """Makes a client with a token of a role; of none for an empty role."""
    app = create_app(trace)
    opened: list[TestClient] = []

    def make(role: str) -> TestClient:
        headers = {}
        if role:
            with trace.database.session() as session:
                access.add_user(session, f"{role}-{len(opened)}", role)
                headers["Authorization"] = f"Bearer {access.create_token(session, f'{role}-{len(opened)}')}"
        made = connected(app, headers)
        opened.append(made)
        return made

    yield make
    for made in opened:
        made.close()
