"""traceai: a flight recorder for neural-network visual inspection.

import traceai

with traceai.connect() as trace:
    inspector = trace.inspector(model="tiles", station="press-4")
    decision = inspector.inspect("part.jpg", serial="SN-0001", lot="L7")
    decision.verdict, decision.explanation.grid, decision.receipt.index
"""

from importlib import import_module
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

from traceai.errors import TraceaiError

if TYPE_CHECKING:
    from traceai.inspection.decision import Decision, Verdict
    from traceai.inspection.inspector import Inspector
    from traceai.inspection.reading import Item
    from traceai.sdk import Trace, connect

    __version__: str

__all__ = ["Decision", "Inspector", "Item", "Trace", "TraceaiError", "Verdict", "__version__", "connect"]

# PEP 562: looked up on first use, because the offline verifier (`traceai.ledger.verify`) lives in this package and has
# neither a database driver nor numpy to import.
_HOMES = {
    "Decision": "traceai.inspection.decision",
    "Verdict": "traceai.inspection.decision",
    "Inspector": "traceai.inspection.inspector",
    "Item": "traceai.inspection.reading",
    "Trace": "traceai.sdk",
    "connect": "traceai.sdk",
}

if not TYPE_CHECKING:  # to a type checker a module with `__getattr__` has every name

    def __getattr__(name: str) -> Any:
        if name == "__version__":
            value = version("traceai")
        elif name in _HOMES:
            value = getattr(import_module(_HOMES[name]), name)
        else:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        globals()[name] = value
        return value

    def __dir__() -> list[str]:
        return sorted({*globals(), *__all__})
