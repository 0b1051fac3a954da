"""Synthetic machined parts: photorealistic pictures with exact defect masks, drawn from a seed.

A height field is shaded with the reflection model of tool-marked metal under the lamps of an inspection station, and
photographed through a pinhole camera with vignetting, defocus and sensor noise. Defects enter where they would in the
world (geometry, surface or assembly), and the same geometry gives their masks.
"""

from traceai.data.synth.dataset import COLUMNS, SPLITS, write_dataset
from traceai.data.synth.defects import DEFECTS
from traceai.data.synth.draw import PRODUCTS, Part, draw_part
from traceai.data.synth.scene import Scene

__all__ = ["COLUMNS", "DEFECTS", "PRODUCTS", "SPLITS", "Part", "Scene", "draw_part", "write_dataset"]
