"""Versions as one ONNX file each, and inspection with such a file where there is no torch.

Names are loaded on first use: whoever inspects needs onnxruntime alone, and whoever does neither needs nothing of it.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from traceai.edge.engine import EdgeEngine
    from traceai.edge.inspector import EdgeInspector

__all__ = ["EdgeEngine", "EdgeInspector"]

_HOME = {"EdgeEngine": "engine", "EdgeInspector": "inspector"}


def __getattr__(name: str) -> object:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)
