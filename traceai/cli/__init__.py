"""The `traceai` command: one module a noun.

Exit codes: 0 done, 1 verification or acceptance failed, 2 bad usage or input, 3 unexpected, 130 interrupted. A failed
verification is never mistaken for a crash, nor the reverse.
"""

import sys
import traceback

from traceai.cli import streams
from traceai.errors import TraceaiError, VerificationError

INTERRUPTED = 130


def main() -> None:
    """Run the command line; whatever happens becomes an exit code and, at most, one clear sentence."""
    with streams.guarded():
        code = _run()
    sys.exit(code)


def _run() -> int:
    try:
        sys.stdout.flush()  # closed? Then before anything is done.
        from traceai.cli.commands import run  # noqa: PLC0415  # so that even a failing import is told as a crash

        code = run()
        sys.stdout.flush()
    except TraceaiError as error:
        sys.stderr.write(f"traceai: {sentence(error.message)} [{error.code}]\n")
        return 1 if isinstance(error, VerificationError) else 2
    except KeyboardInterrupt:
        code = INTERRUPTED
    except Exception:  # noqa: BLE001  # the last resort: a crash says so, with its own exit code
        traceback.print_exc()
        sys.stderr.write("traceai: unexpected error, please report the lines above. It verified and refuted nothing.\n")
        return 3
    if code == INTERRUPTED:  # as a shell says it of SIGINT; typer does so, too
        sys.stderr.write("traceai: Interrupted; what was recorded before stays on record.\n")
    return code


def sentence(text: str) -> str:
    """`text` with a full stop behind. Its first word may be a name, and names are quoted as they are."""
    return text if text.endswith((".", "!", "?")) else text + "."
