import os
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import psycopg
import pytest

from traceai.db import embedded
from traceai.db.embedded import EmbeddedServer
from traceai.errors import HomeError

OpenFolder = Callable[[], Path]


@pytest.fixture
def home(open_folder: OpenFolder) -> Path:
    return open_folder()


def test_it_answers_on_a_socket_and_listens_on_no_port(home: Path) -> None:
    server = EmbeddedServer(home)
    with psycopg.connect(server.acquire()) as connection:
        assert connection.execute("SHOW listen_addresses").fetchone() == ("",)
        assert connection.execute("SELECT current_database()").fetchone() == ("traceai",)
    server.release()


def test_the_last_user_stops_it_and_not_an_earlier_one(home: Path) -> None:
    first, second = EmbeddedServer(home), EmbeddedServer(home)
    first.acquire()
    second.acquire()
    first.release()
    assert second.running
    second.release()
    assert not second.running


def test_a_user_in_another_process_keeps_it_running(home: Path) -> None:
    code = "import sys, pathlib; from traceai.db.embedded import EmbeddedServer as S; s = S(pathlib.Path(sys.argv[1]));"
    other = subprocess.Popen(
        [sys.executable, "-c", code + "s.acquire(); print('up', flush=True); sys.stdin.read(); s.release()", str(home)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert other.stdout is not None
    assert other.stdout.readline() == "up\n"
    server = EmbeddedServer(home)
    server.acquire()
    server.release()
    assert server.running
    other.communicate("")
    assert not server.running


def test_a_killed_user_leaves_a_server_that_the_next_one_uses_and_stops(home: Path) -> None:
    code = (
        "import os, signal, sys, pathlib; from traceai.db.embedded import EmbeddedServer as S;"
        "S(pathlib.Path(sys.argv[1])).acquire(); os.kill(os.getpid(), signal.SIGKILL)"
    )
    subprocess.run([sys.executable, "-c", code, str(home)], check=False)
    server = EmbeddedServer(home)
    assert server.running
    server.acquire()
    server.release()
    assert not server.running


def test_kept_running_it_outlives_its_users_until_stopped(home: Path) -> None:
    server = EmbeddedServer(home)
    server.acquire()
    server.keep_running()
    server.release()
    assert server.running
    assert server.stop()
    assert not server.running
    assert not server.stop()


def test_data_survives_a_restart(home: Path) -> None:
    for expected in (0, 1):
        server = EmbeddedServer(home)
        with psycopg.connect(server.acquire(), autocommit=True) as connection:
            connection.execute("CREATE TABLE IF NOT EXISTS kept (n int)")
            assert connection.execute("SELECT count(*) FROM kept").fetchone() == (expected,)
            connection.execute("INSERT INTO kept VALUES (1)")
        server.release()


def test_an_interrupted_initdb_is_done_again(home: Path) -> None:
    server = EmbeddedServer(home)
    server.acquire()
    server.release()
    server.data.rename(server.folder / "data.new")
    (server.folder / "data.new" / "PG_VERSION").unlink()
    server.acquire()
    assert server.running
    server.release()


def test_no_permission_of_a_folder_above_it_changes(open_folder: OpenFolder) -> None:
    top = open_folder()
    top.chmod(0o711)
    home = top / "a" / "b"
    home.mkdir(parents=True)
    for folder in (home, home.parent):
        folder.chmod(0o711)
    before = {folder: stat.S_IMODE(folder.stat().st_mode) for folder in (home, *home.parents)}
    server = EmbeddedServer(home)
    server.acquire()
    server.release()
    assert {folder: stat.S_IMODE(folder.stat().st_mode) for folder in before} == before


@pytest.mark.skipif(os.geteuid() != 0, reason="only root's server runs as another user")
def test_root_is_refused_a_home_that_would_need_wider_permissions(open_folder: OpenFolder) -> None:
    closed = open_folder() / "closed"
    closed.mkdir(mode=0o700)
    with pytest.raises(HomeError, match=rf"{closed} is closed to other users"):
        EmbeddedServer(closed).acquire()
    assert not list(closed.iterdir())
    assert stat.S_IMODE(closed.stat().st_mode) == 0o700


@pytest.mark.skipif(os.geteuid() != 0, reason="only root's server runs as another user")
def test_binaries_that_the_servers_user_cannot_reach_are_copied(
    home: Path, open_folder: OpenFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    hidden = open_folder() / "hidden"
    hidden.mkdir(mode=0o700)
    package = embedded.installed_server().parent
    for name in (package.name, f"{package.name}.libs"):
        (hidden / name).symlink_to(package.parent / name)
    monkeypatch.setattr(embedded, "installed_server", lambda: hidden / package.name / "pginstall18")
    server = EmbeddedServer(home)
    with psycopg.connect(server.acquire()) as connection:
        assert connection.execute("SELECT 1").fetchone() == (1,)
    assert list((home / "postgres" / "server").rglob("bin/postgres"))
    server.release()


def test_a_home_with_a_very_long_path_still_gets_a_socket(open_folder: OpenFolder) -> None:
    home = open_folder() / ("x" * 120)
    home.mkdir()
    server = EmbeddedServer(home)
    with psycopg.connect(server.acquire()) as connection:
        assert connection.execute("SELECT 1").fetchone() == (1,)
    assert stat.S_IMODE(server.socket_folder.stat().st_mode) == 0o700
    server.release()
    server.socket_folder.rmdir()


def test_a_socket_folder_planted_by_somebody_else_is_refused(open_folder: OpenFolder) -> None:
    if os.geteuid() != 0:
        pytest.skip("planting a folder of another user takes root")
    home = open_folder() / ("y" * 120)
    home.mkdir()
    server = EmbeddedServer(home)
    server.acquire()
    server.release()
    planted = server.socket_folder
    planted.rmdir()
    planted.mkdir()
    os.chown(planted, 65534, 65534)
    with pytest.raises(HomeError, match="belongs to another user"):
        server.acquire()
    planted.rmdir()


@pytest.mark.parametrize("name", ["a,b", "q'u", "p%20 ü", "semi;colon"])
def test_a_home_with_unusual_characters(open_folder: OpenFolder, name: str) -> None:
    home = open_folder() / name
    home.mkdir()
    server = EmbeddedServer(home)
    with psycopg.connect(server.acquire()) as connection:
        assert connection.execute("SELECT 1").fetchone() == (1,)
    server.release()
    assert not server.running


def test_a_stale_pid_file_that_names_somebody_else_harms_nobody(home: Path) -> None:
    server = EmbeddedServer(home)
    server.acquire()
    server.release()
    bystander = subprocess.Popen(["sleep", "60"])
    lines = [bystander.pid, server.data, 1, 5432, server.socket_folder, "", "0 0", "ready   "]
    (server.data / "postmaster.pid").write_text("\n".join(map(str, lines)) + "\n")
    assert not server.running
    assert not server.stop()
    with psycopg.connect(server.acquire()) as connection:
        assert connection.execute("SELECT 1").fetchone() == (1,)
    server.release()
    assert bystander.poll() is None
    bystander.kill()
    bystander.wait()


@pytest.mark.parametrize("name", ['d"q', "back\\slash", "$(id)", "`id`"])
def test_a_home_that_postgresqls_tools_would_misread_is_refused(open_folder: OpenFolder, name: str) -> None:
    home = open_folder() / name
    home.mkdir()
    with pytest.raises(HomeError, match="choose a folder without it"):
        EmbeddedServer(home).acquire()
    assert not list(home.iterdir())
