"""Network architectures by their numbers: everything needed to build the module, and nothing else."""

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from traceai.errors import ModelError

if TYPE_CHECKING:  # torch takes seconds to import, and whoever only reads a manifest may have none
    from torch import nn

Positive = Annotated[int, Field(ge=1)]


class ResidualNetwork(BaseModel):
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


class VisionTransformer(BaseModel):
    """A vision transformer (Dosovitskiy et al., ICLR 2021), and one linear layer on its class token or on its patch tokens' mean.

    Attributes:
        channels: of the input, 1 or 3.
        height, width: of the input, in pixels; equal.
        patch_size: side of a patch, in pixels, and so of a cell of the grid; divides the input's side.
        hidden_size: numbers a token.
        depth, heads: of the blocks; `heads` divides `hidden_size`.
        intermediate_size: of the MLP.
        pooling: what the linear layer reads. The mean of the patch tokens has an explanation in closed form.
    """

    model_config = ConfigDict(frozen=True, strict=True, extra="forbid")

    family: Literal["vit"] = "vit"
    channels: Literal[1, 3]
    height: Positive
    width: Positive
    patch_size: Positive
    hidden_size: Positive
    depth: Positive
    heads: Positive
    intermediate_size: Positive
    pooling: Literal["class", "mean"] = "mean"

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.height != self.width or self.height % self.patch_size:
            raise ValueError(f"patches of {self.patch_size} do not fill a square input of {self.height} x {self.width}")
        if self.hidden_size % self.heads:
            raise ValueError(f"{self.heads} heads do not divide a token of {self.hidden_size} numbers")
        if self.height // self.patch_size < 2:
            raise ValueError(f"an input of {self.height} x {self.width} leaves no grid to explain at this patch size")
        return self

    @property
    def grid_shape(self) -> tuple[int, int]:
        """(h, w) of the tokens and of the explanation."""
        return self.height // self.patch_size, self.width // self.patch_size

    def describe(self) -> str:
        """One line for people: family, size, pooling, input."""
        return (
            f"{self.family} ({self.hidden_size}x{self.depth}, {self.heads} heads, patches of {self.patch_size}), {self.pooling} "
            f"pooling, input {self.channels}x{self.height}x{self.width}"
        )


Architecture = Annotated[ResidualNetwork | VisionTransformer, Field(discriminator="family")]


def default(channels: Literal[1, 3] = 1, *, height: int = 224, width: int = 224) -> ResidualNetwork:
    """The small network that trains from scratch on two cores in minutes."""
    return ResidualNetwork(
        channels=channels, height=height, width=width, embedding_size=24, hidden_sizes=(24, 48, 96), depths=(1, 1, 1)
    )


def build(architecture: ResidualNetwork | VisionTransformer, classes: Sequence[str], *, seed: int = 0) -> "nn.Module":
    """The module with fresh weights, in evaluation mode: a `ResNetForImageClassification` of transformers, a `TokenClassifier`
    around its `ViTModel`, or, where the class token is read, its `ViTForImageClassification`.

    The same seed gives the same weights; torch's global random state is left as it was.

    Raises:
        ModelError: fewer than two classes, or a name given twice.
    """
    import torch  # noqa: PLC0415 - see above

    if len(classes) < 2 or len(set(classes)) != len(classes):
        raise ModelError(f"a classifier needs at least two classes with distinct names, not {list(classes)}")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        if isinstance(architecture, VisionTransformer):
            return _transformer(architecture, len(classes)).eval()
        return _residual_network(architecture, len(classes)).eval()


def _residual_network(architecture: ResidualNetwork, classes: int) -> "nn.Module":
    from transformers import ResNetConfig, ResNetForImageClassification  # noqa: PLC0415 - takes seconds to import

    config = ResNetConfig(
        num_channels=architecture.channels,
        embedding_size=architecture.embedding_size,
        hidden_sizes=list(architecture.hidden_sizes),
        depths=list(architecture.depths),
        layer_type=architecture.layer_type,
        downsample_in_first_stage=architecture.downsample_in_first_stage,
        num_labels=classes,
    )
    module: nn.Module = ResNetForImageClassification(config)
    return module


def _transformer(architecture: VisionTransformer, classes: int) -> "nn.Module":
    from transformers import ViTConfig, ViTForImageClassification, ViTModel  # noqa: PLC0415 - takes seconds to import

    from traceai.models.transformer import TokenClassifier  # noqa: PLC0415

    config = ViTConfig(
        num_channels=architecture.channels,
        image_size=architecture.height,
        patch_size=architecture.patch_size,
        hidden_size=architecture.hidden_size,
        num_hidden_layers=architecture.depth,
        num_attention_heads=architecture.heads,
        intermediate_size=architecture.intermediate_size,
        num_labels=classes,
    )
    if architecture.pooling == "mean":
        return TokenClassifier(ViTModel(config, add_pooling_layer=False), classes, "mean")
    module: nn.Module = ViTForImageClassification(config)
    return module
