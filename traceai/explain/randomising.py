"""Sanity checks of an explanation by random parameters (Adebayo et al., "Sanity checks for saliency maps", NeurIPS 2018).

An explanation of what a network learnt must go when what it learnt goes. The parameters are made random group by group, from the
output down to the image, each group left random while the next is made so; and each group alone. What is compared is the order
of the cells: Spearman's rank correlation of the signed grid with the original, by its absolute value, for a random last layer
turns the sign as often as not.
"""

import copy
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from scipy.stats import rankdata
from torch import Tensor, nn

from traceai.explain.splitting import Split

# Half of the order of the cells is still there: the map shows the image or the architecture, not what was learnt.
SURVIVES = 0.5

Grids = Callable[[Split], Tensor]


@dataclass(frozen=True, slots=True)
class LayerRandomisation:
    """What is left of the explanation when a group of parameters is random.

    Attributes:
        layer: the group: a block of layers, a layer, or a parameter of its own, such as a class token.
        alone: mean over images of |rank correlation| with the original grid, only this group being random.
        cascading: the same, this group and all nearer the output being random.
    """

    layer: str
    alone: float
    cascading: float


def randomisation(
    parts: Split, grids: Grids, batch: Tensor, *, names: nn.Module | None, seed: int, advance: Callable[[], None]
) -> tuple[LayerRandomisation, ...]:
    """Every group of parameters that matters to the explanation, from the output down; the last `cascading` is of all random.

    Args:
        parts: left as it is; copies are made random.
        grids: the grids (N, h, w) that a split gives for the images and the targets at hand.
        batch: (N, c, H, W), the images: batch statistics are taken anew from them, so that a random network is a live one.
        names: the network, for what to call its parameters; what they are called in trunk and head where None.
        seed: of the random values.
        advance: called after each group.
    """
    original = grids(parts)
    whole = copy.deepcopy(parts)
    found = []
    for number, (layer, members) in enumerate(groups(parts, names)):
        alone = copy.deepcopy(parts)
        _scramble(alone, members, batch, seed + number)
        _scramble(whole, members, batch, seed + number)
        if not torch.equal(grids(alone), original):
            found.append(
                LayerRandomisation(layer, similarity(original, grids(alone)), similarity(original, grids(whole)))
            )
        advance()
    return tuple(found)


def groups(parts: Split, names: nn.Module | None = None) -> list[tuple[str, list[int]]]:
    """Parameters by the block they are of, from the output down: the name, and their numbers in `_parameters(parts)`."""
    called = {} if names is None else {id(parameter): name for name, parameter in names.named_parameters()}
    found: dict[str, list[int]] = {}
    for number, (name, parameter) in enumerate(_parameters(parts)):
        found.setdefault(_group(called.get(id(parameter), name)), []).append(number)
    return list(reversed(found.items()))


def similarity(left: Tensor, right: Tensor) -> float:
    """Mean over images of |Spearman's rank correlation| of two batches of grids (N, h, w); 0 where either is constant."""
    return float(np.mean([abs(rank_correlation(one, other)) for one, other in zip(left, right, strict=True)]))


def rank_correlation(left: Tensor, right: Tensor) -> float:
    """Spearman's, of the cells of two grids, ties by their mean rank; 0 where either is constant or not finite."""
    one, other = _ranks(left), _ranks(right)
    scale = float(np.sqrt((one**2).sum() * (other**2).sum()))
    return float((one * other).sum()) / scale if scale > 0 else 0.0


def _ranks(grid: Tensor) -> npt.NDArray[np.float64]:
    values = grid.detach().double().flatten().numpy()
    if not np.isfinite(values).all():
        return np.zeros_like(values)
    ranks = np.asarray(rankdata(values), dtype=np.float64)
    return np.asarray(ranks - ranks.mean())


def _parameters(parts: Split) -> Iterator[tuple[str, nn.Parameter]]:
    """Of trunk and head, from the image to the output, each once."""
    seen: set[int] = set()
    for root in (parts.trunk, parts.head):
        for name, parameter in root.named_parameters():
            if id(parameter) not in seen:
                seen.add(id(parameter))
                yield name, parameter


def _group(name: str) -> str:
    block = re.match(r"(.*?\.)?\d+(?=\.)", name)
    if block is not None:
        return block.group(0)
    module, _, own = name.rpartition(".")
    return module if own in ("weight", "bias") and module else name


def _scramble(parts: Split, members: Sequence[int], batch: Tensor, seed: int) -> None:
    """Weights are drawn anew with the spread they had; scales and offsets, of one dimension, change places and size.

    A scale keeps its sign and its order of magnitude, or the network would be dead rather than ignorant.
    """
    generator = torch.Generator().manual_seed(seed)
    chosen = set(members)
    with torch.no_grad():
        for number, (_, parameter) in enumerate(_parameters(parts)):
            if number not in chosen:
                continue
            if parameter.ndim > 1:
                noise = torch.randn(parameter.shape, generator=generator)
                parameter.copy_(noise.to(parameter) * parameter.std())
            else:
                order = torch.randperm(len(parameter), generator=generator)
                factor = (0.5 * torch.randn(parameter.shape, generator=generator)).exp()
                parameter.copy_(parameter[order] * factor.to(parameter))
        _renew_statistics(parts, batch)


def _renew_statistics(parts: Split, batch: Tensor) -> None:
    norms = [
        part
        for root in (parts.trunk, parts.head)
        for part in root.modules()
        if isinstance(part, nn.modules.batchnorm._BatchNorm) and part.track_running_stats
    ]
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.train()
        norm.reset_running_stats()
        norm.momentum = None  # the mean over what is seen
    if norms:
        features = parts.trunk(batch)
        parts.head(*features) if isinstance(features, tuple) else parts.head(features)
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
        norm.eval()
