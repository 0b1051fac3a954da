"""Sanity checks of an explanation by random parameters (Adebayo et al., "Sanity checks for saliency maps", NeurIPS 2018).

An explanation of what a network learnt must go when what it learnt goes. The parameters are made random group by group, from the
output down to the image, each group left random while the next is made so; and each group alone. What is compared is the order
of the cells: Spearman's rank correlation of the signed grid with the original, by its absolute value, for a random last layer
turns the sign as often as not. Passing is necessary and not sufficient: the maps of a network that learnt nothing go as well.
"""

import copy
import math
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt
import torch
from scipy.stats import rankdata
from torch import Tensor, nn

from traceai.explain.splitting import Split

# Half of the order of the cells is still there: the map shows the image or the architecture, not what was learnt.
SURVIVES = 0.5
# Below, unrelated grids are alike by chance.
_FEWEST_CELLS = 9
# How often all parameters are made random, and how many images have to be comparable each time.
_TIMES, _FEWEST_IMAGES = 3, 3

Grids = Callable[[Split], Tensor]
Verdict = Literal["gone", "survive", "not-judged"]


@dataclass(frozen=True, slots=True)
class LayerRandomisation:
    """What is left of the explanation when a group of parameters is random.

    Attributes:
        layer: the group: a block of layers, a layer, or a parameter of its own, such as a class token.
        alone: mean over images of |rank correlation| with the original grid, only this group being random; None where no two
            grids can be compared.
        cascading: the same, this group and all nearer the output being random.
    """

    layer: str
    alone: float | None
    cascading: float | None


@dataclass(frozen=True, slots=True)
class Randomisation:
    """Every group of parameters that the explanation depends on, from the output down, and all of them together.

    Attributes:
        left: the mean of three times all parameters random; None where that cannot be said.
        chance: what two unrelated grids of this size have by chance.
        verdict: "survive" where half of the order is left; "not-judged" where the grid has fewer than nine cells, nothing could be
            made random, or too few images have grids that can be compared.
    """

    layers: tuple[LayerRandomisation, ...]
    left: float | None
    chance: float
    verdict: Verdict


def randomisation(
    parts: Split, grids: Grids, batch: Tensor, *, names: nn.Module | None, seed: int, advance: Callable[[], None]
) -> Randomisation:
    """Make the parameters of copies of `parts` random, and compare.

    Args:
        parts: left as it is.
        grids: the grids (N, h, w) that a split gives for the images and the targets at hand.
        batch: (N, c, H, W), the images: where several groups are random, batch statistics are taken anew from them, so that a
            random network is a live one.
        names: the network, for what to call its parameters; what they are called in trunk and head where None.
        seed: of the random values.
        advance: called after each group.
    """
    original = grids(parts)
    whole = copy.deepcopy(parts)
    found = []
    for number, (layer, members) in enumerate(groups(parts, names)):
        alone = copy.deepcopy(parts)
        _scramble(alone, members, seed + number)
        _scramble(whole, members, seed + number)
        _renew_statistics(whole, batch)
        changed = grids(alone)
        if not torch.equal(changed, original):
            found.append(LayerRandomisation(layer, similarity(original, changed), similarity(original, grids(whole))))
        advance()
    cells = original[0].numel()
    left = None
    if found:
        every = [number for _, members in groups(parts, names) for number in members]
        each = []
        for time in range(_TIMES):
            _scramble(whole, every, seed + 1000 * (time + 1))
            _renew_statistics(whole, batch)
            each.append(similarity(original, grids(whole), fewest=min(_FEWEST_IMAGES, len(original))))
        left = None if any(one is None for one in each) else float(np.mean([one for one in each if one is not None]))
    verdict: Verdict = "not-judged"
    if left is not None and cells >= _FEWEST_CELLS:
        verdict = "survive" if left >= SURVIVES else "gone"
    chance = math.sqrt(2 / (math.pi * max(1, cells - 1)))
    return Randomisation(tuple(found), left, min(1.0, chance), verdict)


def groups(parts: Split, names: nn.Module | None = None) -> list[tuple[str, list[int]]]:
    """Parameters by the block they are of, from the output down: the name, and their numbers in `_parameters(parts)`."""
    called = (
        {}
        if names is None
        else {id(tensor): name for name, tensor in [*names.named_parameters(), *names.named_buffers()]}
    )
    found: dict[str, list[int]] = {}
    for number, (name, tensor) in enumerate(_parameters(parts)):
        found.setdefault(_group(called.get(id(tensor), name)), []).append(number)
    return list(reversed(found.items()))


def similarity(left: Tensor, right: Tensor, fewest: int = 1) -> float | None:
    """Mean of |Spearman's rank correlation| over the pairs of two batches of grids (N, h, w) that can be compared.

    None where fewer than `fewest` can: a grid that is constant or not finite has no order.
    """
    each = [rank_correlation(one, other) for one, other in zip(left, right, strict=True)]
    known = [abs(one) for one in each if one is not None]
    return float(np.mean(known)) if len(known) >= fewest else None


def rank_correlation(left: Tensor, right: Tensor) -> float | None:
    """Spearman's, of the cells of two grids, ties by their mean rank; None where either is constant or not finite."""
    one, other = _ranks(left), _ranks(right)
    scale = float(np.sqrt((one**2).sum() * (other**2).sum()))
    return float((one * other).sum()) / scale if scale > 0 else None


def _ranks(grid: Tensor) -> npt.NDArray[np.float64]:
    values = grid.detach().double().flatten().numpy()
    if not np.isfinite(values).all():
        return np.zeros_like(values)
    ranks = np.asarray(rankdata(values), dtype=np.float64)
    return np.asarray(ranks - ranks.mean())


def _parameters(parts: Split) -> Iterator[tuple[str, Tensor]]:
    """What trunk and head compute with, from the image to the output, each once: parameters, and buffers that serve as such."""
    seen: set[int] = set()
    for place, root in (("trunk", parts.trunk), ("head", parts.head)):
        for prefix, part in root.named_modules():
            statistics = isinstance(part, nn.modules.batchnorm._BatchNorm)
            own = [*part._parameters.items(), *(() if statistics else part._buffers.items())]
            for name, tensor in own:
                if tensor is not None and tensor.is_floating_point() and id(tensor) not in seen:
                    seen.add(id(tensor))
                    yield f"{place}.{prefix}.{name}" if prefix else f"{place}.{name}", tensor


def _group(name: str) -> str:
    block = re.match(r"(.*?\.)?\d+(?=\.)", name)
    if block is not None:
        return block.group(0)
    module, _, own = name.rpartition(".")
    return module if own in ("weight", "bias") and module else name


def _scramble(parts: Split, members: Sequence[int], seed: int) -> None:
    """Weights are drawn anew with the spread they had; scales and offsets, of one dimension, change places and size.

    A scale keeps its sign and its order of magnitude, and a weight without spread gets its own size as one, or the network would
    be dead rather than ignorant.
    """
    generator = torch.Generator().manual_seed(seed)
    chosen = set(members)
    with torch.no_grad():
        for number, (_, tensor) in enumerate(_parameters(parts)):
            if number not in chosen or tensor.numel() == 0:
                continue
            if tensor.ndim > 1 or tensor.numel() == 1:
                spread = tensor.std(correction=0)
                noise = torch.randn(tensor.shape, generator=generator).to(tensor)
                tensor.copy_(
                    noise * torch.maximum(spread, tensor.mean().abs() if spread < 1e-3 * tensor.abs().max() else spread)
                )
            else:
                order = torch.randperm(len(tensor), generator=generator)
                factor = (0.5 * torch.randn(tensor.shape, generator=generator)).exp()
                tensor.copy_(tensor[order] * factor.to(tensor))


def _renew_statistics(parts: Split, batch: Tensor) -> None:
    """Take the statistics of batch normalisations from `batch`; of a single image there are none."""
    norms = [
        part
        for root in (parts.trunk, parts.head)
        for part in root.modules()
        if isinstance(part, nn.modules.batchnorm._BatchNorm) and part.track_running_stats
    ]
    if not norms or len(batch) < 2:
        return
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.train()
        norm.reset_running_stats()
        norm.momentum = None  # the mean over what is seen
    with torch.no_grad():
        features = parts.trunk(batch)
        parts.head(*features) if isinstance(features, tuple) else parts.head(features)
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
        norm.eval()
