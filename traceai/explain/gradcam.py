"""Grad-CAM from an activation and a head (Selvaraju et al., ICCV 2017), before any ReLU.

For a feature map A (D, h, w) and a class logit y, the grid is `sum_d alpha_d A_d` with `alpha_d` the spatial mean of
`dy/dA_d`. For a head that is global average pooling and a linear layer `y_k = W_k . mean(A) + b_k`, the gradient is
`W_kd / (h w)` at every position, so the grid is `sum_d W_kd A_d / (h w)`: no gradient is needed, and the grid sums to
`y_k - b_k` exactly. This is class activation mapping (Zhou et al., CVPR 2016), of which Grad-CAM is the general case.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn


@dataclass(frozen=True, slots=True)
class Explanation:
    """What one forward pass says, and where it says it.

    Attributes:
        logits: (N, C) float32; of a network in double precision float64, and so are grid, embedding, bias and residual.
        target: (N,) int64, the class whose logit the grid explains.
        grid: (N, h, w) float32, signed: positive cells argue for the target, negative ones against it.
        embedding: (N, D) float32, the spatial mean of the feature map.
        bias: (N,) float32, the head's bias for the target; None where the head is not linear.
        residual: (N,) float32, `grid.sum() + bias - logit`: rounding error only; None where the head is not linear.
    """

    logits: Tensor
    target: Tensor
    grid: Tensor
    embedding: Tensor
    bias: Tensor | None
    residual: Tensor | None

    @property
    def degenerate(self) -> Tensor:
        """(N,) bool: the grid explains nothing, for it is not finite, the same everywhere, or nowhere positive."""
        low, high = self.grid.amin(dim=(1, 2)), self.grid.amax(dim=(1, 2))
        return ~(torch.isfinite(low) & torch.isfinite(high) & (high > low) & (high > 0))


@dataclass(frozen=True, slots=True)
class ClassGrids:
    """The grids of every class at once: `logits` (N, C) and `grids` (N, C, h, w), float32."""

    logits: Tensor
    grids: Tensor


def single(values: Tensor) -> Tensor:
    """Half precision as float32; sums over a map need the digits. Anything else as it is."""
    return values.float() if values.dtype in (torch.float16, torch.bfloat16) else values


def linear_grids(features: Tensor, weight: Tensor) -> Tensor:
    """Closed form for global average pooling and a linear layer, every class.

    Args:
        features: (N, D, h, w).
        weight: (C, D), the linear layer's.

    Returns:
        (N, C, h, w).
    """
    return torch.einsum("ndhw,cd->nchw", features, weight) / (features.shape[2] * features.shape[3])


def linear_grid(features: Tensor, weight: Tensor, target: Tensor) -> Tensor:
    """Closed form for one class per sample: `target` (N,) picks the rows of `weight` (C, D). Returns (N, h, w)."""
    return torch.einsum("ndhw,nd->nhw", features, weight[target]) / (features.shape[2] * features.shape[3])


@contextmanager
def uncached_autocast(device: torch.device) -> Iterator[None]:
    """The caller's autocast, if any, without its cache of cast weights.

    A cast made in inference mode would be met again by the next one who needs its gradient, here or in the caller's code.
    """
    kind = device.type
    if not torch.is_autocast_enabled(kind):
        yield
        return
    with torch.autocast(kind, dtype=torch.get_autocast_dtype(kind), cache_enabled=False):
        yield


def logits_of(output: object) -> Tensor:
    """The logits (N, C) of what a network or a head returned: a tensor, or an object that has them."""
    return cast("Tensor", getattr(output, "logits", output))


class HeadPass:
    """The head, run once with gradients from a detached feature map; the trunk and every parameter stay untouched.

    `torch.autograd.grad` is asked for the feature map alone, so no parameter's `.grad` is read or written, and frozen
    parameters make no difference. The head must treat samples independently, which evaluation mode ensures.

    Args:
        features: (N, D, h, w), the map that is explained.
        beside: what else the head reads; held fixed.
    """

    def __init__(self, head: nn.Module, features: Tensor, *beside: Tensor) -> None:
        # A caller's own inference mode would forbid the graph; a clone made outside it is an ordinary tensor.
        with torch.inference_mode(False), torch.enable_grad(), uncached_autocast(features.device):
            self._leaf = features.clone().detach().requires_grad_(True)
            # The head gets a copy, for one that begins with an in-place activation may not write to a leaf.
            self._logits = logits_of(head(self._leaf.clone(), *(fixed.clone().detach() for fixed in beside)))
        self.logits = single(self._logits.detach())

    def grid(self, target: Tensor, *, last: bool = True) -> Tensor:
        """Grad-CAM of the logits `target` (N,), shape (N, h, w). `last` frees the graph."""
        gradient = self.gradient(target, last=last)
        with torch.inference_mode(False), torch.no_grad(), torch.autocast(self._leaf.device.type, enabled=False):
            return torch.einsum("ndhw,nd->nhw", single(self._leaf), gradient.mean(dim=(2, 3)))

    def gradient(self, target: Tensor, *, last: bool = True) -> Tensor:
        """Of the logits `target` (N,) with respect to the map, (N, D, h, w)."""
        with torch.inference_mode(False), torch.enable_grad():
            # One backward pass serves the batch: a sample's logit depends on no other sample's features.
            chosen = self._logits.gather(1, target.clone()[:, None]).sum()
            (gradient,) = torch.autograd.grad(chosen, self._leaf, retain_graph=not last)
        return single(gradient.detach())
