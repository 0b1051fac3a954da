"""Writing a file that somebody asked for: whole, or not at all."""

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from traceai.errors import InputError


def write_file(path: Path, data: bytes) -> None:
    """Raises:
    InputError: the folder does not exist or cannot be written to.
    """
    with published(path) as unfinished:
        unfinished.write_bytes(data)


@contextmanager
def published(path: Path) -> Iterator[Path]:
    """A file beside `path` to write to; it takes its place when the block ends, and is gone when the block raises.

    A link stays, and what it leads to is replaced. What is no regular file (a device, a pipe) stays as well: it is written to.

    Raises:
        InputError: the folder does not exist or cannot be written to, or `path` is a folder.
    """
    if path.is_dir():
        raise InputError(f"{path} is a folder; name a file in it.")
    stays = path.exists() and not path.is_file()
    target = path if stays else path.resolve()
    try:
        handle, name = tempfile.mkstemp(dir=None if stays else target.parent, prefix=f".{target.name}.")
        os.close(handle)
    except OSError as error:
        raise InputError(
            f"{path} cannot be written ({error.strerror}); choose a folder that exists and is yours."
        ) from error
    unfinished = Path(name)
    try:
        yield unfinished
        if stays:
            with target.open("wb") as open_already:
                open_already.write(unfinished.read_bytes())
        else:
            unfinished.chmod(0o644)
            unfinished.replace(target)
    except OSError as error:
        raise InputError(f"{path} cannot be written ({error.strerror}); choose another file.") from error
    finally:
        unfinished.unlink(missing_ok=True)
