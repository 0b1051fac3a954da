"""Explanations that are not the recorded one: of a decision that was replayed, by another method or at another layer."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from typing import Any

import numpy as np
import numpy.typing as npt

from traceai.errors import ModelError, ReplayDiffersError
from traceai.explain import catalogue
from traceai.explain.catalogue import Method
from traceai.images.preprocess import Box
from traceai.inspection.replay import Replay


@dataclass(frozen=True, eq=False)
class Afterwards:
    """An explanation that is not the recorded one: of the same decision, by another method or layer, made later.

    Attributes:
        grid: (h, w) float32; signed as the method is.
        settings: what the method was made with.
        error: the completeness error of integrated gradients, in logits; None of other methods. complete: it is small enough.
        made_on: the day.
    """

    replay: Replay
    method: Method
    grid: npt.NDArray[np.float32]
    settings: Mapping[str, str | int]
    error: float | None
    complete: bool | None
    made_on: date

    @property
    def box(self) -> Box:
        """The part of the grid that shows the image."""
        image = self.replay.record.image
        return self.replay.engine.model.manifest.preprocessing.grid_to_image_box(image.width or 1, image.height or 1)

    def to_json(self) -> dict[str, Any]:
        """What was made, how, and that it was made afterwards, as JSON values."""
        record = self.replay.record
        row, column = divmod(int(self.grid.argmax()), self.grid.shape[1])
        return {
            "id": record.id,
            "made_afterwards": True,
            "made_on": self.made_on.isoformat(),
            "method": self.method.name,
            "paper": self.method.paper,
            "settings": dict(self.settings),
            "target": record.explanation.target if self.method.signed else None,
            "signed": self.method.signed,
            "shape": list(self.grid.shape),
            "min": float(self.grid.min()),
            "max": float(self.grid.max()),
            "sum": float(self.grid.sum(dtype=np.float64)),
            "peak": [row, column],
            "completeness_error": self.error,
            "complete": self.complete,
            "recorded_explanation": {
                "method": record.explanation.method,
                "layer": record.explanation.layer,
                "sha256": record.explanation.sha256,
            },
            "replay": self.replay.to_json(),
        }


def explain(replayed: Replay, method: str, *, layer: str | None = None, on: date) -> Afterwards:
    """Explain a replayed decision with `method`, and date that `on`.

    What decided is explained, trunk and head; a named layer and attention need the network that these were cut from.

    Raises:
        MethodNotOfferedError: there is no such method, or it is refused.
        InputError: a layer for a method that takes none.
        ReplayDiffersError: what would be explained is not the decision on record.
        ModelError: the method does not fit the network, or gives no finite map.
    """
    chosen = catalogue.find(method)
    chosen.require_layer_fits(layer)
    if not replayed.agrees:
        raise ReplayDiffersError(
            f"Decision {replayed.record.id} was replayed and {' and '.join(replayed.differences)}; an explanation made now would "
            "be of another decision. Look at `traceai decision replay`."
        )
    import torch  # noqa: PLC0415  # takes seconds, and whoever is refused need not wait

    from traceai.explain import methods  # noqa: PLC0415

    model = replayed.engine.model
    network = model.split if layer is None and chosen.signed else model.module
    target = torch.tensor([replayed.engine.classes.index(replayed.judgement.summary.target)])
    found = methods.attribute(method, network, torch.from_numpy(replayed.prepared[None]), target, layer=layer)
    grid = found.maps[0].numpy()
    if not np.isfinite(grid).all():
        raise ModelError(f"{chosen.name} gives no finite map of this network; choose another method.")
    error = None if found.error is None else float(found.error[0])
    complete = None if found.complete is None else bool(found.complete[0])
    return Afterwards(replayed, found.method, grid, found.settings, error, complete, on)
