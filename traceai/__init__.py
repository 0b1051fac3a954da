"""traceai: a flight recorder for neural-network visual inspection.

import traceai

with traceai.connect() as trace:
    inspector = trace.inspector(model="tiles", station="press-4")
    decision = inspector.inspect("part.jpg", serial="SN-0001", lot="L7")
    decision.verdict, decision.explanation.grid, decision.receipt.index
"""

from importlib.metadata import version

__version__ = version("traceai")

from traceai.errors import TraceaiError
from traceai.inspection.decision import Decision, Verdict
from traceai.inspection.inspector import Inspector, Item
from traceai.sdk import Trace, connect

__all__ = ["Decision", "Inspector", "Item", "Trace", "TraceaiError", "Verdict", "__version__", "connect"]
