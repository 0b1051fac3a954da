from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest
from fastapi.testclient import TestClient

from traceai import access
from traceai.inspection.decision import Decision
from traceai.inspection.inspector import Item
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
        made = TestClient(app, headers=headers, raise_server_exceptions=False)
        opened.append(made)
        return made

    yield make
    for made in opened:
        made.close()
