"""Exported versions for the tests of this folder: the slow part, made once."""

import hashlib
from pathlib import Path
from typing import Any, Literal

import pytest
import torch

from traceai.edge.engine import EdgeEngine
from traceai.edge.file import opened
from traceai.edge.writing import write
from traceai.explain.splitting import split
from traceai.images.preprocess import Preprocessing
from traceai.inspection.engine import Engine
from traceai.models.architectures import ResidualNetwork, VisionTransformer, build
from traceai.models.artifact import LoadedModel, Manifest, pack
from traceai.models.operating_point import OperatingPoint

CLASSES = ("good", "dent", "scratch")


def model(
    side: int = 64,
    channels: int = 1,
    point: tuple[str, str] | None = ("0.66", "0.67"),
    classes: tuple[str, ...] = CLASSES,
    pooling: Literal["class", "mean"] | None = None,
) -> LoadedModel:
    """A small network with random weights, as it is loaded from the registry. `pooling`: of a transformer."""
    size: dict[str, Any] = {"channels": channels, "height": side, "width": side}
    architecture: ResidualNetwork | VisionTransformer
    if pooling is None:
        architecture = ResidualNetwork.model_validate(
            {**size, "embedding_size": 8, "hidden_sizes": (8, 16), "depths": (1, 1)}
        )
    else:
        architecture = VisionTransformer.model_validate(
            {
                **size,
                "patch_size": 16,
                "hidden_size": 32,
                "depth": 2,
                "heads": 2,
                "intermediate_size": 64,
                "pooling": pooling,
            }
        )
    module = build(architecture, classes, seed=4).requires_grad_(False)
    probe = torch.randn(2, channels, side, side, generator=torch.Generator().manual_seed(0))
    parts = split(module, probe=probe)
    data, _ = pack(
        module,
        name="tiles",
        architecture=architecture,
        preprocessing=Preprocessing(
            height=side, width=side, channels=architecture.channels, mean=("0.5",) * channels, std=("0.25",) * channels
        ),
        classes=classes,
        operating_point=None if point is None else OperatingPoint(pass_below=point[0], reject_at=point[1]),
        layer=parts.layer,
        training=None,
    )
    return LoadedModel(hashlib.sha256(data).hexdigest(), Manifest.from_bytes("", data), module, parts)


@pytest.fixture(scope="session")
def loaded() -> LoadedModel:
    return model()


@pytest.fixture(scope="session")
def written(loaded: LoadedModel) -> bytes:
    return write(loaded)


@pytest.fixture
def file(written: bytes, tmp_path: Path) -> Path:
    path = tmp_path / "tiles-1.onnx"
    path.write_bytes(written)
    return path


@pytest.fixture
def engines(loaded: LoadedModel, written: bytes) -> tuple[Engine, EdgeEngine]:
    return Engine(loaded), EdgeEngine(opened(written, loaded.digest, threads=1))
