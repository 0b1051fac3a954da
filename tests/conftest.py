"""Real PostgreSQL for every test that needs one: a server for the run, a cloned database for each test."""

import os
import shutil
import signal
import subprocess
import tempfile
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

import numpy as np
import psycopg
import pytest

from traceai.db import migrate
from traceai.db.connection import Database, create_engine
from traceai.db.embedded import EmbeddedServer, system_account
from traceai.images.blobs import BlobStore
from traceai.sdk import Trace
from traceai.settings import Settings

TEMPLATE = "traceai_template"
DEBIAN_15 = Path("/usr/lib/postgresql/15/bin")


@pytest.fixture(autouse=True)
def _no_inherited_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("TRACEAI_HOME", "TRACEAI_DATABASE_URL", "TRACEAI_BLOBS"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture(autouse=True, scope="session")
def _interrupts_arrive() -> None:
    """A shell starts what runs in its background with interrupts ignored, and every process that a test starts inherits that."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def open_folder() -> Iterator[Callable[[], Path]]:
    """Makes folders that another user may enter, which pytest's own may not: what a root-run server needs."""
    made: list[Path] = []

    def make() -> Path:
        folder = Path(tempfile.mkdtemp(prefix="traceai-test-"))
        folder.chmod(0o755)
        made.append(folder)
        return folder

    yield make
    for folder in made:
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session")
def server(open_folder: Callable[[], Path]) -> Iterator[str]:
    """The URL of a PostgreSQL 18 with a migrated template database."""
    embedded = EmbeddedServer(open_folder())
    url = embedded.acquire()
    prepare(url)
    yield url
    embedded.release()


@pytest.fixture(scope="session")
def server_15(open_folder: Callable[[], Path]) -> Iterator[str]:
    """The URL of Debian's PostgreSQL 15, likewise."""
    if not DEBIAN_15.exists():
        pytest.skip("PostgreSQL 15 is not installed (Debian: postgresql-15)")
    folder = open_folder()
    account = system_account() if os.geteuid() == 0 else None
    if account:
        os.chown(folder, account.pw_uid, account.pw_gid)

    def run(*command: str) -> None:
        subprocess.run(
            command, check=True, cwd="/", stdout=subprocess.DEVNULL, stdin=subprocess.DEVNULL,
            user=account.pw_uid if account else None, group=account.pw_gid if account else None,
            extra_groups=[] if account else None,
        )  # fmt: skip

    data = folder / "data"
    run(str(DEBIAN_15 / "initdb"), "-D", str(data), "-U", "postgres", "--auth=trust", "-E", "UTF8", "--locale=C")
    options = f"-c listen_addresses='' -c unix_socket_directories={folder}"
    run(str(DEBIAN_15 / "pg_ctl"), "start", "-w", "-D", str(data), "-l", str(folder / "log"), "-o", options)
    url = f"postgresql://postgres@/postgres?host={folder}"
    prepare(url)
    yield url
    run(str(DEBIAN_15 / "pg_ctl"), "stop", "-w", "-m", "immediate", "-D", str(data))


def prepare(url: str) -> None:
    with psycopg.connect(url, autocommit=True) as connection:
        # Hundreds of databases are copied for the tests, and no power cut is survived by any of them.
        connection.execute("ALTER SYSTEM SET fsync TO off")
        connection.execute("SELECT pg_reload_conf()")
        connection.execute(f"CREATE DATABASE {TEMPLATE}")
    engine = create_engine(database_url(url, TEMPLATE))
    migrate.upgrade(engine)
    engine.dispose()


def database_url(url: str, name: str) -> str:
    return urlunsplit(urlsplit(url)._replace(path=f"/{name}"))


@pytest.fixture
def clone(server: str) -> Iterator[str]:
    """The URL of a database of this test's own."""
    yield from cloned(server)


def cloned(url: str, template: str = TEMPLATE) -> Iterator[str]:
    name = f"test_{uuid.uuid4().hex}"
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name} TEMPLATE {template}")
        yield database_url(url, name)
        connection.execute(f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture
def trace(clone: str, tmp_path: Path) -> Iterator[Trace]:
    settings = Settings(home=tmp_path / "home", database_url=clone)
    settings.ensure_home()
    with Trace(settings, Database.open(settings), BlobStore(settings.blobs_url)) as opened:
        yield opened


@pytest.fixture
def sql(clone: str) -> Iterator[Callable[..., list[tuple]]]:
    """The administrator's own hands: SQL as superuser, with the append-only triggers switched off."""

    def run(statement: str, *parameters: object) -> list[tuple]:
        with psycopg.connect(clone, autocommit=True) as connection:
            tables = [
                row[0] for row in connection.execute("SELECT tablename FROM pg_tables WHERE schemaname = 'public'")
            ]
            for table in tables:
                connection.execute(f'ALTER TABLE "{table}" DISABLE TRIGGER USER')
            cursor = connection.execute(statement.encode(), parameters or None)
            return cursor.fetchall() if cursor.description else []

    return run


@pytest.fixture(scope="session")
def test_data() -> Path:
    folder = Path(os.environ.get("TRACEAI_TEST_DATA", Path(__file__).parents[2] / "shared" / "datasets"))
    if not folder.exists():
        pytest.skip(f"no real images in {folder}; set TRACEAI_TEST_DATA")
    return folder


@pytest.fixture(scope="session")
def images(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """A dozen small pictures, each different."""
    from PIL import Image

    folder = tmp_path_factory.mktemp("images")
    random = np.random.default_rng(7)
    paths = []
    for number in range(12):
        pixels = random.integers(0, 256, (48, 64), dtype=np.uint8)
        path = folder / f"part-{number:02}.png"
        Image.fromarray(pixels).save(path)
        paths.append(path)
    return paths


@pytest.fixture
def tiny(trace: Trace) -> str:
    """A small network with random weights, registered, approved and active; its reference."""
    return register_tiny(trace)


def register_tiny(
    trace: Trace,
    classes: tuple[str, ...] = ("good", "dent", "scratch"),
    seed: int = 0,
    point: tuple[str, str] = ("0.66", "0.67"),
    name: str = "tiles",
    *,
    approved: bool = True,
) -> str:
    from traceai.images.preprocess import Preprocessing
    from traceai.models import registry
    from traceai.models.architectures import ResidualNetwork, build
    from traceai.models.artifact import Manifest, pack
    from traceai.models.operating_point import OperatingPoint

    architecture = ResidualNetwork(
        channels=1, height=32, width=32, embedding_size=8, hidden_sizes=(8, 16), depths=(1, 1)
    )
    module = build(architecture, classes, seed=seed)
    manifest, weights = pack(
        module,
        name=name,
        architecture=architecture,
        preprocessing=Preprocessing(height=32, width=32, channels=1, mean=("0.5",), std=("0.25",)),
        classes=classes,
        operating_point=OperatingPoint(pass_below=point[0], reject_at=point[1]) if "good" in classes else None,
        layer="resnet.encoder",
        training=None,
    )
    with trace.database.session() as session:
        row = registry.register(
            session,
            trace.blobs,
            Manifest.model_validate_json(manifest),
            weights,
            parameters=sum(p.numel() for p in module.parameters()),
            snapshot_name=None,
            evaluation={"auroc": "0.9"},
            made_by="erin",
        )
        if approved:
            registry.approve(session, row, actor="ada", reason="Evaluated on the test split.")
            registry.activate(session, row, actor="ada")
    return f"{row.name}@{row.version}"
