"""What an explanation costs: decision + Grad-CAM in one pass, beside the bare forward pass and beside captum, in one run."""

import statistics
import time
from collections.abc import Callable

import torch
from captum.attr import LayerGradCam

from traceai.explain.splitting import split
from traceai.models.architectures import Architecture, build

RESNET_18 = Architecture(
    channels=3, height=224, width=224, embedding_size=64, hidden_sizes=(64, 128, 256, 512), depths=(2, 2, 2, 2)
)
CLASSES = ("good", "crack", "dent", "discoloration", "missing_component", "scratch")


def measure(batch: int, rounds: int) -> dict[str, float]:
    """Median seconds a batch, the three in turn so that a drift of the machine's speed reaches all of them alike."""
    module = build(RESNET_18, CLASSES)
    parts = split(module)
    images = torch.randn(batch, 3, 224, 224, generator=torch.Generator().manual_seed(0))
    oracle = LayerGradCam(lambda x: module(x).logits, module.resnet.encoder.stages[-1])

    def bare() -> None:
        with torch.inference_mode():
            module(images)

    def with_captum() -> None:
        with torch.inference_mode():
            target = module(images).logits.argmax(dim=1)
        oracle.attribute(images, target=target.clone())

    candidates: dict[str, Callable[[], object]] = {
        "forward": bare,
        "traceai": lambda: parts.explain(images),
        "captum": with_captum,
    }
    seconds: dict[str, list[float]] = {name: [] for name in candidates}
    for round_number in range(rounds + 1):
        for name, call in candidates.items():
            began = time.perf_counter()
            call()
            if round_number:  # the first round warms up
                seconds[name].append(time.perf_counter() - began)
    return {name: statistics.median(found) for name, found in seconds.items()}


def report() -> None:
    print(f"Explanation, ResNet-18 at 224 px, {torch.get_num_threads()} threads, torch {torch.__version__}")
    print(f"{'batch':>5}  {'forward':>10}  {'decision + Grad-CAM':>20}  {'captum':>8}")
    for batch, rounds in ((1, 40), (32, 5)):
        found = measure(batch, rounds)
        forward = found["forward"]
        print(
            f"{batch:>5}  {forward / batch * 1000:>7.1f} ms  {found['traceai'] / forward:>19.2f}x"
            f"  {found['captum'] / forward:>7.2f}x"
        )
