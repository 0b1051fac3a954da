"""Writing a file that somebody asked for: whole, or not at all."""

import os
import tempfile
from pathlib import Path

from traceai.errors import InputError


def write_file(path: Path, data: bytes) -> None:
    """Raises:
    InputError: the folder does not exist or cannot be written to.
    """
    try:
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    except OSError as error:
        raise InputError(
            f"{path} cannot be written ({error.strerror}); choose a folder that exists and is yours."
        ) from error
    unfinished = Path(name)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
        unfinished.chmod(0o644)
        unfinished.replace(path)
    except OSError as error:
        unfinished.unlink(missing_ok=True)
        raise InputError(f"{path} cannot be written ({error.strerror}); choose another file.") from error
