"""The `traceai` command: one module a noun.

Exit codes: 0 done, 1 verification or acceptance failed, 2 bad usage or input, 3 unexpected. A failed verification is
never mistaken for a crash, nor the reverse.
"""

import sys
import traceback

from traceai.errors import TraceaiError, VerificationError


def main() -> None:
    """Run the command line; whatever happens becomes an exit code and, at most, one clear sentence."""
    from traceai.cli.commands import app  # noqa: PLC0415  # so that even a failing import is told as a crash

    try:
        app()
    except TraceaiError as error:
        sys.stderr.write(f"traceai: {sentence(error.message)} [{error.code}]\n")
        sys.exit(1 if isinstance(error, VerificationError) else 2)
    except Exception:  # noqa: BLE001  # the last resort: a crash says so, with its own exit code
        traceback.print_exc()
        sys.stderr.write("traceai: unexpected error, please report the lines above. It verified and refuted nothing.\n")
        sys.exit(3)


def sentence(text: str) -> str:
    """`text` with a capital letter in front and a full stop behind."""
    text = text[:1].upper() + text[1:]
    return text if text.endswith((".", "!", "?")) else text + "."
