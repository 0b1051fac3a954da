"""Standard output and standard error as every command needs them: what cannot be written ends in a sentence."""

import io
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any, TextIO, cast

from traceai.errors import OutputError


@contextmanager
def guarded() -> Iterator[None]:
    """Within the block, `sys.stdout` raises `OutputError` where it is closed or fails; `sys.stderr` is silent instead.

    Characters that their encoding does not have are written as escapes.
    """
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:  # closed: the next file that is opened, the database's socket say, must not become this stream
            os.open(os.devnull, os.O_RDWR)
    out, err = sys.stdout, sys.stderr
    for stream in (out, err):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    sys.stdout, sys.stderr = cast(TextIO, _Guarded(out, vital=True)), cast(TextIO, _Guarded(err, vital=False))
    try:
        yield
    finally:
        sys.stdout, sys.stderr = out, err


class _Guarded:
    """A text stream; None where the process was given none. vital: whether a failure to write is an error, from then on."""

    def __init__(self, stream: TextIO | None, *, vital: bool) -> None:
        self._stream, self._vital = stream, vital
        self._error = OSError(None, "it is closed") if stream is None else None

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        self._do(lambda stream: stream.write(text))
        return len(text)

    def flush(self) -> None:
        self._do(lambda stream: stream.flush())

    def _do(self, work: Callable[[TextIO], object]) -> None:
        if self._stream is not None and self._error is None:
            try:
                work(self._stream)
            except OSError as error:
                self._error = error
                # What is still buffered goes nowhere, so that it does not fail once more while the process ends.
                with suppress(OSError):
                    nowhere = os.open(os.devnull, os.O_WRONLY)
                    os.dup2(nowhere, self._stream.fileno())
                    os.close(nowhere)
        if self._vital and self._error is not None:
            raise OutputError(
                f"Standard output cannot be written to ({self._error.strerror}), so not everything was told; "
                "what was recorded stays on record."
            ) from self._error
