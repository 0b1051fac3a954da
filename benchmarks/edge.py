"""What an exported file costs, from pixels: with its explanation, beside the same without, and beside torch without, in one run."""

import statistics
import time
from collections.abc import Callable, Sequence
from itertools import permutations

import numpy as np
import torch
from torch import nn

from benchmarks.explain import CLASSES, RESNET_18
from benchmarks.inspection import DATA
from traceai.edge.engine import EdgeEngine
from traceai.edge.file import IMAGE, Export, opened
from traceai.edge.writing import write
from traceai.explain.splitting import split
from traceai.images.decode import DecodedImage, decode, from_array
from traceai.images.preprocess import Preprocessing
from traceai.inspection.engine import Engine
from traceai.models.architectures import build, default
from traceai.models.artifact import ExternalArchitecture, LoadedModel, Manifest, pack
from traceai.models.transformer import TokenClassifier

IMAGES = 16


def report(rounds: int = 36) -> None:
    """Print the figures. `rounds`: each measures the three, in another order."""
    pictures = _pictures()
    threads = torch.get_num_threads()
    print(f"Edge, {len(pictures)} images from pixels, one at a time, {threads} threads, torch {torch.__version__}")
    print(f"{'':22}  {'torch without':>13}  {'ONNX without':>12}  {'ONNX with':>10}  {'of ONNX':>8}  {'of torch':>8}")
    for name, channels, module in _networks():
        model = _loaded(module, channels)
        with_, without = opened(write(model), threads=threads), _plain(write(model, explained=False), threads)
        found = _measured(model, with_, without, pictures, rounds)
        mine, plain, bare = (found[kind] for kind in ("with", "without", "torch"))
        milliseconds = [statistics.median(times) / len(pictures) * 1e3 for times in (bare, plain, mine)]
        ratios = [
            statistics.median(own / reference for own, reference in zip(mine, other, strict=True))
            for other in (plain, bare)
        ]
        print(
            f"{name:22}  {milliseconds[0]:10.2f} ms  {milliseconds[1]:9.2f} ms  {milliseconds[2]:7.2f} ms"
            f"  {ratios[0]:7.2f}x  {ratios[1]:7.2f}x"
        )


def _networks() -> list[tuple[str, int, nn.Module]]:
    """A large and the default network with a linear head, and one whose head is differentiated in the file."""
    from transformers import ViTConfig, ViTModel  # noqa: PLC0415  # takes seconds to import

    torch.manual_seed(0)
    tiny = ViTConfig(hidden_size=192, num_hidden_layers=12, num_attention_heads=3, intermediate_size=768)
    vit = TokenClassifier(ViTModel(tiny, add_pooling_layer=False), len(CLASSES), "class")
    return [
        ("ResNet-18, RGB", 3, build(RESNET_18, CLASSES)),
        ("default network, grey", 1, build(default(1), CLASSES)),
        ("ViT-Ti/16, class token", 3, vit),
    ]


def _loaded(module: nn.Module, channels: int) -> LoadedModel:
    module.eval().requires_grad_(False)
    parts = split(module, probe=torch.randn(2, channels, 224, 224, generator=torch.Generator().manual_seed(0)))
    manifest, _ = pack(
        module, name="bench", architecture=ExternalArchitecture(type="benchmark"), classes=CLASSES, layer=parts.layer,
        preprocessing=Preprocessing.model_validate(
            {"height": 224, "width": 224, "channels": channels, "mean": ("0.5",) * channels, "std": ("0.25",) * channels}
        ),
        operating_point=None, training=None,
    )  # fmt: skip
    return LoadedModel("", Manifest.from_bytes("", manifest), module, parts)


def _pictures() -> list[DecodedImage]:
    """Real images of every data set that is there; noise where there is none."""
    paths = sorted(path for path in DATA.rglob("*") if path.suffix in {".jpg", ".bmp"} and "images" in path.parts)
    if paths:
        return [decode(path.read_bytes()) for path in paths[:: max(1, len(paths) // IMAGES)][:IMAGES]]
    noise = np.random.default_rng(0)
    return [from_array(noise.integers(0, 256, (256, 320, 3), np.uint8))[1] for _ in range(IMAGES)]


def _plain(data: bytes, threads: int) -> Callable[[np.ndarray], object]:
    import onnxruntime  # noqa: PLC0415  # an extra

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    options.use_deterministic_compute = True
    session = onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])
    return lambda pixels: session.run(None, {IMAGE: pixels})


def _measured(
    model: LoadedModel,
    with_: Export,
    without: Callable[[np.ndarray], object],
    pictures: Sequence[DecodedImage],
    rounds: int,
) -> dict[str, list[float]]:
    """Seconds for all pictures, by candidate and round; in every order in turn, each after an untimed picture of its own, so that
    the threads of the one before have come to rest.
    """
    edge, engine = EdgeEngine(with_), Engine(model)
    pixels = [edge.prepare(picture) for picture in pictures]

    def bare(number: int) -> object:
        with torch.inference_mode():
            return model.module(torch.from_numpy(engine.prepare(pictures[number])[None]))

    candidates: dict[str, Callable[[int], object]] = {
        "torch": bare,
        "without": lambda number: without(pixels[number]),
        "with": lambda number: edge.answer(pixels[number]),
    }
    orders = list(permutations(candidates))
    seconds: dict[str, list[float]] = {name: [] for name in candidates}
    for number in range(rounds + 1):
        for name in orders[number % len(orders)]:
            candidates[name](0)
            began = time.perf_counter()
            for picture in range(len(pictures)):
                candidates[name](picture)
            if number:  # the first round warms up
                seconds[name].append(time.perf_counter() - began)
    return seconds
