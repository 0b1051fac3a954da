"""Decisions to be replayed: of a registered network, of another than the registered one, and of a network of the user's own."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

from traceai.images.preprocess import Preprocessing
from traceai.inspection.decision import Decision
from traceai.sdk import Trace

if TYPE_CHECKING:
    from torch import nn


@pytest.fixture
def decisions(trace: Trace, tiny: str, images: Sequence[Path]) -> list[Decision]:
    trace.add_station("press-4")
    return list(trace.inspector(tiny, "press-4").inspect_many(images, batch=5))


@pytest.fixture
def of_another_network(trace: Trace, tiny: str, images: Sequence[Path]) -> Decision:
    """Recorded by a process whose network was not the registered one."""
    import torch

    trace.add_station("press-4")
    inspector = trace.inspector(tiny, "press-4")
    with torch.no_grad():
        inspector.engine.model.split.linear.weight.mul_(-1)
        inspector.engine.model.split.linear.bias.add_(torch.tensor([0.0, 9.0, 0.0]))
    return inspector.inspect(images[0])


@pytest.fixture
def external(trace: Trace) -> "tuple[nn.Module, Decision]":
    from tests.explain.networks import CLASSES, SIDE, dinov2_registers, trained

    network = trained(dinov2_registers)
    reference = trace.register_model(
        "mine",
        network,
        classes=("good", *CLASSES[1:]),
        preprocessing=Preprocessing(height=SIDE, width=SIDE, channels=1, mean=("0.5",), std=("0.25",)),
    )
    trace.add_station("press-4")
    pixels = np.random.default_rng(3).integers(0, 256, (SIDE, SIDE), dtype=np.uint8)
    return network, trace.inspector(reference, "press-4").inspect(pixels)
