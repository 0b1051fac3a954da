"""A folder of real images inspected, explained and recorded, beside the bare forward pass over what was decoded of them."""

import os
import statistics
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from benchmarks import scratch
from benchmarks.explain import CLASSES, RESNET_18
from traceai.db.connection import Database, create_engine
from traceai.images.blobs import BlobStore
from traceai.images.decode import decode
from traceai.images.preprocess import Preprocessing
from traceai.inspection.inspector import Inspector
from traceai.models.architectures import build
from traceai.models.operating_point import OperatingPoint
from traceai.sdk import Trace
from traceai.settings import Settings

BATCH = 32
DATA = Path(os.environ.get("TRACEAI_TEST_DATA", Path(__file__).parents[2] / "shared" / "datasets"))


def report(count: int = 256, rounds: int = 7) -> None:
    """Print the figure. `count`: images, as many of them as there are."""
    paths = sorted(path for path in DATA.rglob("*") if path.suffix in {".jpg", ".png", ".bmp"})[
        :: max(1, 3000 // count)
    ][:count]
    if not paths:
        print(f"Inspection: skipped, for there are no images in {DATA}; set TRACEAI_TEST_DATA")
        return
    module = build(RESNET_18, CLASSES)
    preprocessing = Preprocessing(height=224, width=224, channels=3, mean=("0.5",) * 3, std=("0.25",) * 3)
    batches = _tensors(paths, preprocessing)
    with scratch.server() as url, tempfile.TemporaryDirectory() as home:
        engine = scratch.database(url, "inspection")
        engine.dispose()
        settings = Settings(home=Path(home), database_url=url.replace("/traceai?", "/inspection?"))
        database = Database(create_engine(str(settings.database_url)), None)
        with Trace(settings, database, BlobStore(settings.blobs_url)) as trace:
            reference = trace.register_model(
                "bench", module, classes=CLASSES, preprocessing=preprocessing,
                operating_point=OperatingPoint(pass_below="0.5", reject_at="0.6"),
            )  # fmt: skip
            trace.add_station("press-4")
            inspector = trace.inspector(reference, "press-4", module=module)
            ours, bare = [], []
            measured = [
                (bare, lambda: _timed_forward(module, batches)),
                (ours, lambda: _timed_inspection(inspector, paths, Path(home) / "blobs")),
            ]
            for number in range(rounds + 1):  # each first in turn
                for times, measure in measured if number % 2 else reversed(measured):
                    times.append(measure())
            stages = trace.stages.take()
    ratios = [plain / mine for mine, plain in zip(ours[1:], bare[1:], strict=True)]  # the first round warms up
    rate = len(paths) / statistics.median(ours[1:])
    print(
        f"Inspection of {len(paths)} images, ResNet-18 at 224 px, batches of {BATCH}, {torch.get_num_threads()} threads"
    )
    print(f"  bare forward pass              {len(paths) / statistics.median(bare[1:]):8.1f} images/s")
    print(
        f"  inspected and recorded         {rate:8.1f} images/s, {statistics.median(ratios):.2f}x"
        f" ({', '.join(f'{ratio:.2f}' for ratio in ratios)})"
    )
    for stage in stages:
        print(f"    {stage.stage:8} p50 {stage.p50_us / 1e3:9.1f} ms, p99 {stage.p99_us / 1e3:9.1f} ms")


def _tensors(paths: Sequence[Path], preprocessing: Preprocessing) -> list[torch.Tensor]:
    arrays = [preprocessing.apply(decode(path.read_bytes()).pixels) for path in paths]
    return [torch.from_numpy(np.stack(arrays[start : start + BATCH])) for start in range(0, len(arrays), BATCH)]


def _timed_inspection(inspector: Inspector, paths: Sequence[Path], blobs: Path) -> float:
    # Every image is new and has to be kept, in a store whose folders are there, as they are after the first days.
    for path in blobs.rglob("*"):
        if path.is_file():
            path.unlink()
    began = time.perf_counter()
    decisions = list(inspector.inspect_many(paths, batch=BATCH))
    took = time.perf_counter() - began
    assert all(decision.receipt.index is not None for decision in decisions)
    return took


def _timed_forward(module: torch.nn.Module, batches: Sequence[torch.Tensor]) -> float:
    began = time.perf_counter()
    with torch.inference_mode():
        for batch in batches:
            module(batch)
    return time.perf_counter() - began
