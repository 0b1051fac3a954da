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

    Raises:
        InputError: the folder does not exist or cannot be written to.
    """
    try:
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        os.close(handle)
    except OSError as error:
        raise InputError(
            f"{path} cannot be written ({error.strerror}); choose a folder that exists and is yours."
        ) from error
    unfinished = Path(name)
    try:
        yield unfinished
        unfinished.chmod(0o644)
        unfinished.replace(path)
    except OSError as error:
        raise InputError(f"{path} cannot be written ({error.strerror}); choose another file.") from error
    finally:
        unfinished.unlink(missing_ok=True)
