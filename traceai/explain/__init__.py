"""Explanations: single-pass Grad-CAM, what of it is recorded, and how it is drawn.

Names are loaded on first use, so that whoever only checks or draws a stored grid does not load torch.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from traceai.explain.gradcam import ClassGrids, Explanation
    from traceai.explain.overlay import panel, render, to_png
    from traceai.explain.splitting import Split, split
    from traceai.explain.summary import ExplanationSummary, decode_grid, encode_grid, summarise

__all__ = [
    "ClassGrids",
    "Explanation",
    "ExplanationSummary",
    "Split",
    "decode_grid",
    "encode_grid",
    "panel",
    "render",
    "split",
    "summarise",
    "to_png",
]

_HOME = {
    "ClassGrids": "gradcam",
    "Explanation": "gradcam",
    "ExplanationSummary": "summary",
    "Split": "splitting",
    "decode_grid": "summary",
    "encode_grid": "summary",
    "panel": "overlay",
    "render": "overlay",
    "split": "splitting",
    "summarise": "summary",
    "to_png": "overlay",
}


def __getattr__(name: str) -> object:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)
