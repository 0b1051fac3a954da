"""From decoded images to judgements with torch: one forward pass gives logits and Grad-CAM.

Pure but for the clock: no database, no files. An `Engine` holds no state that a call changes, so threads may share it.
"""

import platform
from collections.abc import Sequence
from typing import Any

import numpy as np
import PIL
import torch

from traceai.errors import ModelError
from traceai.images.decode import DecodedImage
from traceai.inspection.judging import Answer, Array, Judgement, judgements
from traceai.models.artifact import LoadedModel
from traceai.models.manifest import Manifest
from traceai.models.scores import defect_classes


class Engine:
    """One model version, ready to judge."""

    def __init__(self, model: LoadedModel) -> None:
        self.model = model
        self.classes: tuple[str, ...] = tuple(model.manifest.classes)
        self._defects = defect_classes(self.classes)

    @property
    def manifest(self) -> Manifest:
        return self.model.manifest

    def prepare(self, image: DecodedImage) -> Array:
        """What the network sees of `image`: float32 (channels, height, width)."""
        return self.model.manifest.preprocessing.apply(image.pixels)

    def answer(self, inputs: Sequence[Array]) -> Answer:
        """What the network says of a batch of what `prepare` made, in one forward pass.

        The explained class is the defect class with the highest logit, whatever the verdict: it is what the threshold
        judged.
        """
        result = self.model.split.explain(torch.from_numpy(np.stack(inputs)), among=self._defects)
        bias = None if result.bias is None else result.bias.numpy()
        return Answer(result.logits.numpy(), result.target.numpy(), result.grid.numpy(), bias)

    def judge(self, inputs: Sequence[Array]) -> list[Judgement | ModelError]:
        """Judge a batch of what `prepare` made; see `judgements`."""
        return judgements(
            self.answer(inputs),
            classes=self.classes,
            layer=self.model.split.layer,
            operating_point=self.model.manifest.operating_point,
        )

    def environment(self, batch: int) -> dict[str, Any]:
        """What a judgement's last digits may depend on; recorded once, under its digest."""
        return {
            "python": platform.python_version(),
            "torch": str(torch.__version__),
            "numpy": np.__version__,
            "pillow": PIL.__version__,
            "machine": platform.machine(),
            "system": platform.system(),
            "device": "cpu",
            "cpu_capability": torch.backends.cpu.get_cpu_capability(),
            "threads": torch.get_num_threads(),
            "batch": batch,
        }
