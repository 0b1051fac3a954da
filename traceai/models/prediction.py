"""A network's answers on many images at once."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from traceai.explain.splitting import Split, split
from traceai.images.preprocess import Preprocessing
from traceai.models.pixels import Pixels

_BATCH = 32


@dataclass(frozen=True, slots=True)
class Predictions:
    """`logits` (N, C) and `grids` (N, C, h, w), the signed Grad-CAM of every class; float32."""

    logits: Tensor
    grids: Tensor


def normalised(images: Tensor, preprocessing: Preprocessing) -> Tensor:
    """Images (N, C, H, W) in 0..1 as the network takes them: `(x - mean) / std` per channel, float32."""
    mean = torch.tensor([float(value) for value in preprocessing.mean])[:, None, None]
    std = torch.tensor([float(value) for value in preprocessing.std])[:, None, None]
    return (images - mean) / std


def predict(module: nn.Module | Split, pixels: Pixels, preprocessing: Preprocessing) -> Predictions:
    """Logits and grids of all `pixels`, by a network that `split` knows or by a split."""
    if not isinstance(module, Split):
        module = split(module, probe=normalised(pixels.images[:2].float() / 255, preprocessing))
    found = [
        module.all_grids(normalised(pixels.images[start : start + _BATCH].float() / 255, preprocessing))
        for start in range(0, len(pixels), _BATCH)
    ]
    return Predictions(torch.cat([part.logits for part in found]), torch.cat([part.grids for part in found]))
