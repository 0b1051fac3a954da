"""What an explanation costs: decision + Grad-CAM in one pass, beside the bare forward pass and beside captum, in one run."""

import multiprocessing
import statistics
import time
from collections.abc import Callable
from typing import Any

import torch
from captum.attr import LayerGradCam
from torch import Tensor, nn
from transformers import (
    ConvNextConfig,
    ConvNextForImageClassification,
    Dinov2Config,
    Dinov2Model,
    ViTConfig,
    ViTForImageClassification,
)

from benchmarks.scratch import resident
from traceai.explain.splitting import split
from traceai.models.architectures import ResidualNetwork, build
from traceai.models.transformer import TokenClassifier

RESNET_18 = ResidualNetwork(
    channels=3, height=224, width=224, embedding_size=64, hidden_sizes=(64, 128, 256, 512), depths=(2, 2, 2, 2)
)
CLASSES = ("good", "crack", "dent", "discoloration", "missing_component", "scratch")
_SMALL: dict[str, Any] = {"hidden_size": 384, "num_attention_heads": 6, "num_hidden_layers": 12}


def resnet_18() -> nn.Module:
    return build(RESNET_18, CLASSES)


def convnext_tiny() -> nn.Module:
    return ConvNextForImageClassification(ConvNextConfig(num_labels=len(CLASSES), layer_scale_init_value=0.1))


def vit_small() -> nn.Module:
    return ViTForImageClassification(ViTConfig(**_SMALL, intermediate_size=1536, num_labels=len(CLASSES)))


def dinov2_small() -> nn.Module:
    return TokenClassifier(Dinov2Model(Dinov2Config(**_SMALL, image_size=224)), len(CLASSES), "class")


NETWORKS: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "ResNet-18": (resnet_18, (1, 32)),
    "ConvNeXt-T": (convnext_tiny, (1, 32)),
    "ViT-S/16": (vit_small, (1, 8, 32)),
    "DINOv2-S/14, class token": (dinov2_small, (1, 8, 32)),
}


class _Patches(nn.Module):
    """The normalisation before the last block's attention, with its patch tokens passing through `tap` as a map."""

    def __init__(self, norm: nn.Module) -> None:
        super().__init__()
        self.norm, self.tap = norm, nn.Identity()

    def forward(self, tokens: Tensor) -> Tensor:
        found = self.norm(tokens)
        side = round((found.shape[1] - 1) ** 0.5)
        tapped = self.tap(found[:, 1:].transpose(1, 2).unflatten(2, (side, side)))
        return torch.cat((found[:, :1], tapped.flatten(2).transpose(1, 2)), dim=1)


def _captum(module: nn.Module, layer: str, images: Tensor) -> Callable[[], object]:
    """Decision and explanation as captum is used: a forward pass, then LayerGradCam, which makes another."""

    def logits(x: Tensor) -> Tensor:
        output = module(x)
        return getattr(output, "logits", output)

    found: Any = module.get_submodule(layer)
    if isinstance(found, nn.LayerNorm):
        parent, _, child = layer.rpartition(".")
        patches = _Patches(found)
        setattr(module.get_submodule(parent), child, patches)
        found = patches.tap
    oracle = LayerGradCam(logits, found)

    def run() -> None:
        with torch.inference_mode():
            target = logits(images).argmax(dim=1)
        oracle.attribute(images, target=target.clone(), relu_attributions=False)

    return run


def measure(
    make: Callable[[], nn.Module], batch: int, rounds: int, device: str = "cpu", precision: torch.dtype | None = None
) -> dict[str, list[float]]:
    """Seconds a batch, the three in turn and each first in turn: drift of the machine, and what one leaves behind in the caches
    and the allocator, reach all of them alike.

    `precision`: of an autocast around all three; none where None.
    """
    torch.manual_seed(0)
    module, other = make().eval().to(device), make().eval().to(device)
    other.load_state_dict(module.state_dict())
    images = torch.randn(batch, 3, 224, 224, generator=torch.Generator().manual_seed(0)).to(device)
    parts = split(module, probe=images[:2])

    def bare() -> None:
        with torch.inference_mode():
            module(images)

    candidates: list[tuple[str, Callable[[], object]]] = [
        ("forward", bare),
        ("traceai", lambda: parts.explain(images)),
        ("captum", _captum(other, parts.layer, images)),
    ]
    seconds: dict[str, list[float]] = {name: [] for name, _ in candidates}
    with torch.autocast(device, dtype=precision, enabled=precision is not None):
        for round_number in range(rounds + 3):
            for name, call in candidates[round_number % 3 :] + candidates[: round_number % 3]:
                began = time.perf_counter()
                call()
                if device == "cuda":
                    torch.cuda.synchronize()
                if round_number > 2:  # the first rounds warm up
                    seconds[name].append(time.perf_counter() - began)
    return seconds


def report() -> None:
    print(f"Explanation at 224 px, {torch.get_num_threads()} threads, torch {torch.__version__}")
    print(f"{'':26}{'batch':>5}  {'forward':>12}  {'decision + Grad-CAM':>20}  {'captum':>8}")
    for name, (make, batches) in NETWORKS.items():
        for batch in batches:
            _line(name, batch, measure(make, batch, rounds={1: 60, 8: 15}.get(batch, 9)))
    if torch.cuda.is_available():
        print(f"The same on one {torch.cuda.get_device_name()}, bf16")
        for name, (make, _) in NETWORKS.items():
            _line(name, 256, measure(make, 256, 30, "cuda", torch.bfloat16))
    print("Memory of a process that makes explanations, ViT of 96 x 2 at 32 px")
    with multiprocessing.get_context("spawn").Pool(1) as process:
        for count, size in process.apply(_memory, (100_000,)):
            print(f"  after {count:>9,} explanations     {size / 2**20:>6.1f} MiB")


def _line(name: str, batch: int, found: dict[str, list[float]]) -> None:
    forward = statistics.median(found["forward"])
    # Of neighbours in time: the machine is equally fast for both.
    ratios = {
        other: statistics.median(one / bare for one, bare in zip(found[other], found["forward"], strict=True))
        for other in ("traceai", "captum")
    }
    rate = f", {batch / statistics.median(found['traceai']):,.0f} images/s" if batch > 32 else ""
    print(
        f"{name:26}{batch:>5}  {forward / batch * 1000:>9.1f} ms  {ratios['traceai']:>19.2f}x"
        f"  {ratios['captum']:>7.2f}x{rate}",
        flush=True,
    )


def _memory(count: int) -> list[tuple[int, int]]:
    """(explanations, resident bytes), five times on the way; a leak of one grid each would show."""
    config = ViTConfig(
        hidden_size=96, num_attention_heads=2, num_hidden_layers=2, intermediate_size=192, image_size=32, patch_size=4
    )
    module = ViTForImageClassification(config).eval()
    images = torch.randn(8, 3, 32, 32)
    parts = split(module, probe=images)
    found = []
    for number in range(count // 8):
        parts.explain(images)
        if (number + 1) % (count // 40) == 0:
            found.append(((number + 1) * 8, resident()))
    return found
