"""What a training depends on besides its data."""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from traceai.data.augment import Augmentation
from traceai.errors import ModelError
from traceai.models.architectures import ResidualNetwork, VisionTransformer

Share = Annotated[float, Field(ge=0, le=1)]
Count = Annotated[int, Field(ge=1)]


# A transformer learns with smaller steps, more of them and of more images at once; it is given these where they are not named.
_BY_FAMILY: dict[str, dict[str, Any]] = {"vit": {"learning_rate": 1e-3, "steps": 3000, "batch_size": 32}}


class TrainingSettings(BaseModel):
    """How to train. The same settings, data, thread count and torch version give the same weights.

    Attributes:
        seed: of the weights, the order of the images and their augmentation.
        steps: optimiser steps, 1200 or, of a "vit", 3000; with `max_seconds`, ignored.
        max_seconds: wall-clock budget of the optimisation. A short measurement turns it into a number of steps, the
            schedule spans exactly those, and the result records them: `steps` set to that number repeats the training.
        height, width: of the network's input, in pixels.
        channels: 1 or 3; greyscale if all images are, when None.
        family: of the network, "resnet" or "vit".
        embedding_size, hidden_sizes, depths: of a "resnet", see `ResidualNetwork`.
        patch_size, token_size, blocks, heads, pooling: of a "vit", see `VisionTransformer`.
        crop_share: the share of steps on crops; without masks or without good parts there are none.
        crop_side: of the crops, in pixels; a "vit" takes them at the side of its input. A crop shows at least
            `crop_smallest` of the image's side.
        transplants: how often a small defect is put on another, good ground.
        guidance: weight of the loss that holds the evidence grid against the masks; 0 trains without.
        good_share: how often a good part is drawn; defect types share the rest by the square root of their counts.
        averaging: decay of the exponential moving average of the weights, which is what is kept.
        max_miss_rate, max_false_alarm_rate: for the operating point, see `operating_point.choose`.
        threads: of torch; as it is when None.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    seed: int = 0
    steps: Count = 1200
    max_seconds: Annotated[float, Field(gt=0)] | None = None
    height: Count = 224
    width: Count = 224
    channels: Literal[1, 3] | None = None
    family: Literal["resnet", "vit"] = "resnet"
    embedding_size: Count = 24
    hidden_sizes: tuple[Count, ...] = (24, 48, 96)
    depths: tuple[Count, ...] = (1, 1, 1)
    patch_size: Count = 16
    token_size: Count = 96
    blocks: Count = 3
    heads: Count = 4
    pooling: Literal["class", "mean"] = "mean"
    batch_size: Annotated[int, Field(ge=2)] = 16
    crop_share: Share = 0.6
    crop_batch_size: Annotated[int, Field(ge=2)] = 32
    crop_side: Count = 96
    crop_smallest: Annotated[float, Field(gt=0, le=1)] = 0.35
    transplants: Share = 0.5
    learning_rate: Annotated[float, Field(gt=0)] = 4e-3
    weight_decay: Annotated[float, Field(ge=0)] = 0.02
    guidance: Annotated[float, Field(ge=0)] = 1.0
    good_share: Annotated[float, Field(gt=0, lt=1)] = 0.5
    averaging: Annotated[float, Field(ge=0, lt=1)] = 0.99
    augmentation: Augmentation = Augmentation()
    max_miss_rate: Annotated[float, Field(ge=0, lt=1)] = 0.05
    max_false_alarm_rate: Annotated[float, Field(ge=0, lt=1)] = 0.05
    threads: Count | None = None

    @model_validator(mode="before")
    @classmethod
    def _of_the_family(cls, given: dict[str, Any]) -> dict[str, Any]:
        return {**_BY_FAMILY.get(str(given.get("family")), {}), **given}

    def architecture(self, channels: Literal[1, 3]) -> ResidualNetwork | VisionTransformer:
        """The network these settings name.

        Raises:
            ModelError: numbers that do not go together.
        """
        size: dict[str, Any] = {"channels": channels, "height": self.height, "width": self.width}
        try:
            if self.family == "vit":
                return VisionTransformer(
                    **size,
                    patch_size=self.patch_size,
                    hidden_size=self.token_size,
                    depth=self.blocks,
                    heads=self.heads,
                    intermediate_size=2 * self.token_size,
                    pooling=self.pooling,
                )
            return ResidualNetwork(
                **size, embedding_size=self.embedding_size, hidden_sizes=self.hidden_sizes, depths=self.depths
            )
        except ValidationError as problem:
            raise ModelError(f"no such network can be built: {problem.errors()[0]['msg']}") from problem

    def flat(self) -> dict[str, str | int | bool | None]:
        """Every setting by name, floats as decimal strings and sequences with commas, as a manifest holds them."""
        found: dict[str, str | int | bool | None] = {}
        for name, value in self.model_dump(exclude={"augmentation"}).items():
            found[name] = _plain(value)
        for name, value in self.augmentation.model_dump().items():
            found[f"augmentation.{name}"] = _plain(value)
        return found


def _plain(value: object) -> str | int | bool | None:
    if value is None or isinstance(value, bool | int | str):
        return value
    return ",".join(str(part) for part in value) if isinstance(value, tuple) else repr(value)
