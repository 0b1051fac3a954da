"""From decoded images to judgements with ONNX Runtime. Needs no torch: what follows the network is shared with `Engine`."""

import platform
from collections.abc import Sequence
from typing import Any

import numpy as np
import PIL

from traceai.edge.file import IMAGE, PROVIDER, Export
from traceai.errors import ModelError
from traceai.images.decode import DecodedImage
from traceai.inspection.judging import Answer, Array, Judgement, judgements
from traceai.models.manifest import Manifest


class EdgeEngine:
    """An exported version, ready to judge. Threads may share it."""

    def __init__(self, export: Export) -> None:
        self.export = export

    @property
    def manifest(self) -> Manifest:
        return self.export.manifest

    def prepare(self, image: DecodedImage) -> Array:
        """The pixels as they are, uint8 (1, H, W, 1 or 3): the file prepares them itself."""
        return image.pixels.reshape(1, image.height, image.width, -1)

    def answer(self, pixels: Array) -> Answer:
        """What the network says of one image that `prepare` made."""
        logits, target, grid, *bias = self.export.session.run(list(self.export.outputs), {IMAGE: pixels})
        return Answer(logits, target, grid, bias[0] if bias else None)

    def judge(self, inputs: Sequence[Array]) -> list[Judgement | ModelError]:
        """Judge what `prepare` made, one image after the other; see `judgements`. What the runtime cannot do yields the error."""
        manifest = self.manifest
        found: list[Judgement | ModelError] = []
        for pixels in inputs:
            try:
                answer = self.answer(pixels)
            except Exception as error:  # noqa: BLE001  # the runtime has no common base of its errors
                height, width = pixels.shape[1:3]
                found.append(
                    ModelError(
                        f"ONNX Runtime could not judge a picture of {width} x {height} pixels ({type(error).__name__}); if memory "
                        "is short, send smaller pictures."
                    )
                )
            else:
                found += judgements(
                    answer,
                    classes=manifest.classes,
                    layer=manifest.layer,
                    operating_point=manifest.operating_point,
                )
        return found

    def environment(self, batch: int) -> dict[str, Any]:
        """What a judgement's last digits may depend on, the file that ran among it; images never share a pass, whatever `batch`."""
        import onnxruntime  # noqa: PLC0415  # an extra

        return {
            "python": platform.python_version(),
            "onnxruntime": str(onnxruntime.__version__),
            "export": self.export.sha256,
            "numpy": np.__version__,
            "pillow": PIL.__version__,
            "machine": platform.machine(),
            "system": platform.system(),
            "provider": PROVIDER,
            "threads": self.export.threads,
            "batch": 1,
        }
