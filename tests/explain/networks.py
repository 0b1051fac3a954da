"""Small networks, trained for a few steps: at random weights, mistakes of sign and scale can cancel."""

import copy
from collections.abc import Callable
from functools import cache

import torch
import torch.nn.functional as F
from captum.attr import LayerGradCam
from torch import Tensor, nn
from transformers import (
    ConvNextConfig,
    ConvNextForImageClassification,
    ConvNextV2Config,
    ConvNextV2ForImageClassification,
    Dinov2Config,
    Dinov2ForImageClassification,
    Dinov2Model,
    Dinov2WithRegistersConfig,
    Dinov2WithRegistersForImageClassification,
    Dinov2WithRegistersModel,
    ResNetConfig,
    ResNetModel,
    SwinConfig,
    SwinForImageClassification,
    SwinModel,
    ViTConfig,
    ViTForImageClassification,
    ViTModel,
)

from traceai.models.architectures import ResidualNetwork, build
from traceai.models.transformer import TokenClassifier

CLASSES = ("good", "dark", "bright")
SIDE = 48


class PlainNet(nn.Module):
    """The shape of a torchvision ResNet: a body, a pool, `torch.flatten` in `forward`, a linear layer."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(1, 6, 3, 2), nn.BatchNorm2d(6), nn.ReLU(), nn.Conv2d(6, 8, 3, 2), nn.ReLU())
        self.pool = nn.AdaptiveAvgPool2d((1, 1))
        self.fc = nn.Linear(8, len(CLASSES))

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(torch.flatten(self.pool(self.body(x)), 1))


def resnet() -> nn.Module:
    architecture = ResidualNetwork(
        channels=1, height=SIDE, width=SIDE, embedding_size=4, hidden_sizes=(4, 8), depths=(1, 1)
    )
    return build(architecture, CLASSES, seed=3)


def with_hidden_layer() -> nn.Sequential:
    """A head that is not linear, beginning with an operation in place."""
    return nn.Sequential(
        nn.Conv2d(1, 6, 3, 2),
        nn.BatchNorm2d(6),
        nn.ReLU(),
        nn.Conv2d(6, 8, 3, 2),
        nn.ReLU(inplace=True),
        nn.AdaptiveAvgPool2d(3),
        nn.Flatten(),
        nn.Linear(72, 16),
        nn.Tanh(),
        nn.Linear(16, len(CLASSES)),
    )


_MAPS = {"num_channels": 1, "num_labels": len(CLASSES), "hidden_sizes": [8, 16], "depths": [1, 1]}
_TOKENS = {
    "num_channels": 1,
    "num_labels": len(CLASSES),
    "image_size": SIDE,
    "patch_size": 8,
    "hidden_size": 16,
    "num_hidden_layers": 3,
    "num_attention_heads": 2,
}
_SWIN = {
    "num_channels": 1,
    "num_labels": len(CLASSES),
    "image_size": SIDE,
    "embed_dim": 8,
    "depths": [1, 2],
    "num_heads": [1, 2],
    "window_size": 3,
}


def convnext() -> nn.Module:
    return ConvNextForImageClassification(ConvNextConfig(**_MAPS, num_stages=2, layer_scale_init_value=0.5))


def convnext_v2() -> nn.Module:
    return ConvNextV2ForImageClassification(ConvNextV2Config(**_MAPS, num_stages=2))


def swin() -> nn.Module:
    return SwinForImageClassification(SwinConfig(**_SWIN))


def vit() -> nn.Module:
    return ViTForImageClassification(ViTConfig(**_TOKENS, intermediate_size=32))


def vit_mean() -> nn.Module:
    return TokenClassifier(ViTModel(ViTConfig(**_TOKENS, intermediate_size=32), add_pooling_layer=False), 3, "mean")


def dinov2() -> nn.Module:
    return Dinov2ForImageClassification(Dinov2Config(**_TOKENS))


def dinov2_gated() -> nn.Module:
    """The largest DINOv2 have a gated MLP."""
    return Dinov2ForImageClassification(Dinov2Config(**_TOKENS, use_swiglu_ffn=True))


def dinov2_class() -> nn.Module:
    return TokenClassifier(Dinov2Model(Dinov2Config(**_TOKENS)), 3, "class")


def dinov2_registers() -> nn.Module:
    return Dinov2WithRegistersForImageClassification(Dinov2WithRegistersConfig(**_TOKENS, num_register_tokens=2))


def dinov2_registers_class() -> nn.Module:
    config = Dinov2WithRegistersConfig(**_TOKENS, num_register_tokens=2)
    return TokenClassifier(Dinov2WithRegistersModel(config), 3, "class")


class Own(nn.Module):
    """A network of somebody else around a backbone: prepares the image and reads the output in its own way."""

    def __init__(self, backbone: nn.Module, width: int, read: Callable[[object], Tensor]) -> None:
        super().__init__()
        self.net = backbone
        self.fc = nn.Linear(width, len(CLASSES))
        self.read = read

    def forward(self, x: Tensor, labels: Tensor | None = None) -> Tensor:
        logits = self.fc(self.read(self.net((x - 0.1) / 0.9)))
        return logits if labels is None else F.cross_entropy(logits, labels)


def own_vit_mean() -> nn.Module:
    backbone = ViTModel(ViTConfig(**_TOKENS, intermediate_size=32), add_pooling_layer=False)
    return Own(backbone, 16, lambda output: output.last_hidden_state[:, 1:].mean(1))


def own_vit_class() -> nn.Module:
    backbone = ViTModel(ViTConfig(**_TOKENS, intermediate_size=32), add_pooling_layer=False)
    return Own(backbone, 16, lambda output: output[0][:, 0])


def own_vit_pooler() -> nn.Module:
    return Own(ViTModel(ViTConfig(**_TOKENS, intermediate_size=32)), 16, lambda output: output.pooler_output)


def own_dinov2() -> nn.Module:
    config = Dinov2WithRegistersConfig(**_TOKENS, num_register_tokens=2)
    return Own(Dinov2WithRegistersModel(config), 16, lambda output: output.pooler_output)


def own_resnet() -> nn.Module:
    config = ResNetConfig(num_channels=1, embedding_size=4, hidden_sizes=[4, 8], depths=[1, 1], layer_type="basic")
    return Own(ResNetModel(config), 8, lambda output: output.pooler_output.flatten(1))


def own_swin() -> nn.Module:
    return Own(SwinModel(SwinConfig(**_SWIN)), 16, lambda output: output.pooler_output)


def own_scaled() -> nn.Module:
    return Own(vit(), len(CLASSES), lambda output: output.logits / 2)


FAMILIES = (
    resnet,
    convnext,
    convnext_v2,
    swin,
    vit,
    vit_mean,
    dinov2,
    dinov2_gated,
    dinov2_class,
    dinov2_registers,
    dinov2_registers_class,
    own_vit_mean,
    own_vit_class,
    own_vit_pooler,
    own_dinov2,
    own_resnet,
    own_swin,
    own_scaled,
)


class _Tapped(nn.Module):
    """A layer whose output passes a map (N, D, h, w) through an identity that captum can look at."""

    def __init__(self, inner: nn.Module, prefix: int, grid: tuple[int, int] | None) -> None:
        super().__init__()
        self.inner = inner
        self.prefix = prefix
        self.grid = grid
        self.tap = nn.Identity()

    def __getattr__(self, name: str) -> object:
        try:
            return super().__getattr__(name)
        except AttributeError:
            return getattr(super().__getattr__("inner"), name)

    def forward(self, *inputs: object, **options: object) -> object:
        output = self.inner(*inputs, **options)
        first = output[0] if isinstance(output, tuple) else output
        if first.ndim == 4:
            tapped = self.tap(first)
        else:
            patches = first[:, self.prefix :]
            side = round(patches.shape[1] ** 0.5)
            tapped = self.tap(patches.transpose(1, 2).unflatten(2, self.grid or (side, side)))
            tapped = torch.cat((first[:, : self.prefix], tapped.flatten(2).transpose(1, 2)), dim=1)
        return (tapped, *output[1:]) if isinstance(output, tuple) else tapped


def grad_cam_of_captum(
    module: nn.Module, layer: str, images: Tensor, target: Tensor, grid: tuple[int, int] | None = None
) -> Tensor:
    """LayerGradCam (N, h, w) of a copy of `module`, signed, at the output of `layer`; prefix tokens left out."""
    copied = copy.deepcopy(module)
    prefix = next(
        (
            1 + getattr(part.config, "num_register_tokens", 0)
            for part in copied.modules()
            if isinstance(part, ViTModel | Dinov2Model | Dinov2WithRegistersModel)
        ),
        0,
    )
    parent, _, child = layer.rpartition(".")
    tapped = _Tapped(copied.get_submodule(layer), prefix, grid)
    setattr(copied.get_submodule(parent), child, tapped)

    def logits(x: Tensor) -> Tensor:
        output = copied(x)
        return getattr(output, "logits", output)

    return LayerGradCam(logits, tapped.tap).attribute(images, target=target, relu_attributions=False)[:, 0].detach()


def batch(count: int = 6, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Noise (N, 1, SIDE, SIDE) with no, a dark or a bright square, and which."""
    generator = torch.Generator().manual_seed(seed)
    images = torch.randn(count, 1, SIDE, SIDE, generator=generator) * 0.3
    labels = torch.arange(count) % len(CLASSES)
    for image, label in zip(images, labels.tolist(), strict=True):
        row, column = torch.randint(0, SIDE - 12, (2,), generator=generator).tolist()
        image[0, row : row + 12, column : column + 12] += (0.0, -2.0, 2.0)[label]
    return images, labels


def trained(make: Callable[[], nn.Module]) -> nn.Module:
    """What `make` makes, after a few steps of Adam, in evaluation mode; a copy of the test's own."""
    return copy.deepcopy(_trained(make))


@cache
def _trained(make: Callable[[], nn.Module]) -> nn.Module:
    torch.manual_seed(0)
    module = make().train()
    optimizer = torch.optim.Adam(module.parameters(), 1e-2)
    for step in range(15):
        images, labels = batch(12, seed=step)
        output = module(images)
        optimizer.zero_grad()
        F.cross_entropy(getattr(output, "logits", output), labels).backward()
        optimizer.step()
    return module.eval()
