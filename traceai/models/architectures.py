"""Network architectures by their numbers: everything needed to build the module, and nothing else."""

import math
from collections.abc import Sequence
from typing import Annotated, Literal, Self

import torch
from pydantic import BaseModel, ConfigDict, Field, model_validator
from torch import nn

from traceai.errors import ModelError

Positive = Annotated[int, Field(ge=1)]


class Architecture(BaseModel):
    """A residual network (He et al., CVPR 2016) with global average pooling and one linear layer.

    Attributes:
        channels: of the input, 1 or 3.
        height, width: of the input, in pixels.
        embedding_size: channels after the stem, a 7 x 7 convolution and max-pooling of stride 4 together.
        hidden_sizes, depths: channels and number of blocks of each stage; every stage but the first halves the grid.
        downsample_in_first_stage: the first stage halves it as well.
    """

    model_config = ConfigDict(frozen=True, strict=True, extra="forbid")

    family: Literal["resnet"] = "resnet"
    channels: Literal[1, 3]
    height: Positive
    width: Positive
    embedding_size: Positive
    hidden_sizes: tuple[Positive, ...] = Field(min_length=1)
    depths: tuple[Positive, ...]
    layer_type: Literal["basic", "bottleneck"] = "basic"
    downsample_in_first_stage: bool = False

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if len(self.depths) != len(self.hidden_sizes):
            raise ValueError("every stage needs one hidden size and one depth")
        if min(self.grid_shape) < 2:
            raise ValueError(f"an input of {self.height} x {self.width} leaves no grid to explain at this stride")
        return self

    @property
    def stride(self) -> int:
        """Pixels of the input per cell of the grid, along each side."""
        return int(4 * 2 ** (len(self.hidden_sizes) - 1 + self.downsample_in_first_stage))

    @property
    def grid_shape(self) -> tuple[int, int]:
        """(h, w) of the feature map and of the explanation."""
        return math.ceil(self.height / self.stride), math.ceil(self.width / self.stride)

    def describe(self) -> str:
        """One line for people: family, channels and depth of the stages, kind of block, input."""
        stages = ", ".join(f"{size}x{depth}" for size, depth in zip(self.hidden_sizes, self.depths, strict=True))
        return f"{self.family} ({stages}) {self.layer_type}, input {self.channels}x{self.height}x{self.width}"


def default(channels: Literal[1, 3] = 1, *, height: int = 224, width: int = 224) -> Architecture:
    """The small network that trains from scratch on two cores in minutes."""
    return Architecture(
        channels=channels, height=height, width=width, embedding_size=24, hidden_sizes=(24, 48, 96), depths=(1, 1, 1)
    )


def build(architecture: Architecture, classes: Sequence[str], *, seed: int = 0) -> nn.Module:
    """The module with fresh weights, a transformers `ResNetForImageClassification`, in evaluation mode.

    The same seed gives the same weights; torch's global random state is left as it was.

    Raises:
        ModelError: fewer than two classes, or a name given twice.
    """
    from transformers import ResNetConfig, ResNetForImageClassification  # noqa: PLC0415 - takes seconds to import

    if len(classes) < 2 or len(set(classes)) != len(classes):
        raise ModelError(f"a classifier needs at least two classes with distinct names, not {list(classes)}")
    config = ResNetConfig(
        num_channels=architecture.channels,
        embedding_size=architecture.embedding_size,
        hidden_sizes=list(architecture.hidden_sizes),
        depths=list(architecture.depths),
        layer_type=architecture.layer_type,
        downsample_in_first_stage=architecture.downsample_in_first_stage,
        num_labels=len(classes),
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        module: nn.Module = ResNetForImageClassification(config)
    return module.eval()
