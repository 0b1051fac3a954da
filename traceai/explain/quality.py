"""How good the explanations of a model version are: measured on labelled images, with masks where there are any.

A picture persuades whether it is right or not, so each measure has a control beside it: random parameters, another class, a random
order, the edges of the image, chance.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from traceai.errors import ModelError
from traceai.explain.randomising import Randomisation, groups, randomisation, rank_correlation
from traceai.explain.splitting import Split

Progress = Callable[[int, int], None]

_BATCH = 16
# Images each measure looks at, spread evenly over those given; the pointing game and relevance mass look at all.
_RANDOMISED, _PERTURBED, _DELETED = 32, 24, 48
_STEPS = 24
_PERTURBATIONS = 8
# Max-sensitivity: the largest change of a pixel, as a share of the range from black to white.
NOISE = 0.02


@dataclass(frozen=True, slots=True)
class Images:
    """What the explanations are measured on.

    Attributes:
        batch: (N, c, H, W) float32, as the network takes them.
        black_to_white: (c,), the range of each channel in that scale.
        defective: (N,) bool.
        masks: (N, H, W) in 0..1, where the defect is.
        located: (N,) bool: the mask holds all there is.
    """

    batch: Tensor
    black_to_white: Tensor
    defective: Tensor
    masks: Tensor
    located: Tensor


@dataclass(frozen=True, slots=True)
class Curve:
    """Mean area under the class's score as cells are taken away, or put back, in the order of the explanation.

    `random` and `edges` are the same in a random order and in that of the image's edges (Sobel magnitude by cell).
    """

    explanation: float
    random: float
    edges: float


@dataclass(frozen=True, slots=True)
class ExplanationQuality:
    """The explanations of one model version, measured.

    Attributes:
        images, defects: how many were given, and how many of them are defective.
        degenerate: how many grids of defective images explain nothing.
        randomisation: what is left of the maps with random parameters, see `randomising`.
        other_defect: mean rank correlation of the grid with that of the least likely defect type; None with one type.
        good_class: the same with the grid of the good class; None without one.
        deletion: cells taken away, the strongest first, the image blurred in their place: a small area is good (Petsiuk et al.,
            RISE, BMVC 2018).
        insertion: cells put back into the blurred image, the strongest first: a large area is good.
        masked: how many defective images have a mask; the pointing game and relevance mass are of these.
        pointing: how often the grid's peak lies in a cell that the mask touches; `pointing_chance` for any cell (Zhang et al.,
            IJCV 2018). None without masks.
        relevance_mass: mean share of the positive evidence that lies in the mask; `mass_chance` if it were everywhere alike
            (Arras et al., Information Fusion 2022). None without masks.
        sensitivity: mean over images of the largest relative change of the grid, of several, when no pixel changes by more
            than 2 % of its range (max-sensitivity, Yeh et al., NeurIPS 2019); None where every grid explains nothing.
        good_peak: the share of good parts whose strongest cell exceeds the median one of the defective; None without either.
    """

    images: int
    defects: int
    degenerate: int
    randomisation: Randomisation
    other_defect: float | None
    good_class: float | None
    deletion: Curve
    insertion: Curve
    masked: int
    pointing: float | None
    pointing_chance: float | None
    relevance_mass: float | None
    mass_chance: float | None
    sensitivity: float | None
    good_peak: float | None

    def to_record(self) -> dict[str, Any]:
        """JSON values, floats as decimal strings of four digits."""

        def plain(value: float | None) -> str | None:
            return None if value is None else f"{value:.4f}"

        return {
            "images": self.images,
            "defects": self.defects,
            "degenerate": self.degenerate,
            "randomisation": [
                {"layer": one.layer, "alone": plain(one.alone), "cascading": plain(one.cascading)}
                for one in self.randomisation.layers
            ],
            "left": plain(self.randomisation.left),
            "chance": plain(self.randomisation.chance),
            "other_defect": plain(self.other_defect),
            "good_class": plain(self.good_class),
            "deletion": {name: plain(getattr(self.deletion, name)) for name in Curve.__slots__},
            "insertion": {name: plain(getattr(self.insertion, name)) for name in Curve.__slots__},
            "masked": self.masked,
            "pointing": plain(self.pointing),
            "pointing_chance": plain(self.pointing_chance),
            "relevance_mass": plain(self.relevance_mass),
            "mass_chance": plain(self.mass_chance),
            "sensitivity": plain(self.sensitivity),
            "good_peak": plain(self.good_peak),
        }


def measure(
    parts: Split,
    images: Images,
    *,
    defects: Sequence[int],
    good: int | None,
    names: nn.Module | None = None,
    seed: int = 0,
    progress: Progress = lambda done, total: None,
) -> ExplanationQuality:
    """Measure the explanations of the most likely defect type, as they are recorded.

    The same arguments, thread count and torch version give the same numbers.

    Args:
        parts: trunk and head of the version; left as they are.
        images: at least one of them defective.
        defects: the class numbers that are defect types; the grid explains the best of them.
        good: the class number of good parts, if there is one.
        names: the network, for what to call its layers.
        progress: called with steps done and steps in all.

    Raises:
        ModelError: no defective image: there is nothing whose explanation could be right; or an output that is not a number.
    """
    with torch.inference_mode(False), torch.no_grad():  # of a caller's inference mode nothing could be differentiated
        return _measured(parts, images, defects=defects, good=good, names=names, seed=seed, progress=progress)


def _measured(
    parts: Split,
    images: Images,
    *,
    defects: Sequence[int],
    good: int | None,
    names: nn.Module | None,
    seed: int,
    progress: Progress,
) -> ExplanationQuality:
    chosen = torch.nonzero(images.defective).flatten()
    if len(chosen) == 0:
        raise ModelError("explanations are measured on defective images, and there is none; choose another split")
    run = _Run(parts, images, defects, good, seed)
    layers = len(groups(parts, names))
    few = _spread(chosen, _DELETED)
    total = layers + 2 * len(few) + min(len(chosen), _PERTURBED) + 1
    done = 0

    def advance() -> None:
        nonlocal done
        done += 1
        progress(done, total)

    every = run.grids(parts, run.batch)
    if not bool(torch.isfinite(every.logits).all()):
        raise ModelError(
            "the network's output on some image is not a finite number; its explanations cannot be measured"
        )
    advance()
    some = _spread(chosen, _RANDOMISED)
    batch, target = run.batch[some], every.target[some]
    random = randomisation(
        parts, lambda split: run.of(split, batch, target), batch, names=names, seed=seed, advance=advance
    )
    pointing = run.pointing(every.grid, chosen)
    deletion, insertion = run.curves(every, few, advance)
    return ExplanationQuality(
        images=len(run.batch),
        defects=len(chosen),
        degenerate=int(every.degenerate[chosen].sum()),
        randomisation=random,
        other_defect=run.against(every, some, list(defects)) if len(defects) > 1 else None,
        good_class=run.against(every, some, [good]) if good is not None else None,
        deletion=deletion,
        insertion=insertion,
        masked=pointing[0],
        pointing=pointing[1],
        pointing_chance=pointing[2],
        relevance_mass=pointing[3],
        mass_chance=pointing[4],
        sensitivity=run.sensitivity(every, _spread(chosen, _PERTURBED), advance),
        good_peak=_good_peak(every.grid, images.defective),
    )


@dataclass(frozen=True, slots=True)
class _Explained:
    logits: Tensor
    target: Tensor
    grid: Tensor
    degenerate: Tensor


class _Run:
    """One measurement: the split, the images, and what is explained of them."""

    def __init__(self, parts: Split, images: Images, defects: Sequence[int], good: int | None, seed: int) -> None:
        self._parts = parts
        self._images = images
        kind = next((tensor.dtype for tensor in parts.trunk.parameters()), images.batch.dtype)
        self.batch = images.batch.to(kind)
        self._defects = list(defects)
        self._good = good
        self._seed = seed

    def grids(self, parts: Split, batch: Tensor) -> _Explained:
        found = [parts.explain(part, among=self._defects) for part in _batches(batch)]
        return _Explained(
            *(torch.cat([getattr(one, name) for one in found]) for name in ("logits", "target", "grid", "degenerate"))
        )

    def of(self, parts: Split, batch: Tensor, target: Tensor) -> Tensor:
        """The grids of given classes, (N, h, w)."""
        pairs = zip(_batches(batch), _batches(target), strict=True)
        return torch.cat([parts.explain(part, classes).grid for part, classes in pairs])

    def against(self, every: _Explained, rows: Tensor, classes: Sequence[int]) -> float | None:
        """Mean rank correlation with the grid of the least likely of `classes`."""
        least = torch.tensor(list(classes))[every.logits[rows][:, list(classes)].argmin(dim=1)]
        other = self.of(self._parts, self.batch[rows], least)
        each = [rank_correlation(a, b) for a, b in zip(every.grid[rows], other, strict=True)]
        known = [one for one in each if one is not None]
        return float(np.mean(known)) if known else None

    def pointing(
        self, grid: Tensor, chosen: Tensor
    ) -> tuple[int, float | None, float | None, float | None, float | None]:
        """Of how many images; pointing game and its chance, relevance mass and its chance."""
        rows = chosen[self._images.located[chosen] & (self._images.masks[chosen] > 0.5).flatten(1).any(dim=1)]
        if len(rows) == 0:
            return 0, None, None, None, None
        shape = (grid.shape[1], grid.shape[2])
        inside = (self._images.masks[rows] > 0.5).float()[:, None]
        touched = (F.adaptive_max_pool2d(inside, shape) > 0).flatten(1)
        share = F.adaptive_avg_pool2d(inside, shape).flatten(1)
        cells = grid[rows].flatten(1)
        hits = touched.gather(1, cells.argmax(dim=1, keepdim=True)).float()
        positive = cells.clamp(min=0)
        mass = (positive * share).sum(dim=1) / positive.sum(dim=1).clamp(min=torch.finfo(torch.float32).tiny)
        return len(rows), float(hits.mean()), float(touched.float().mean()), float(mass.mean()), float(share.mean())

    def curves(self, every: _Explained, rows: Tensor, advance: Callable[[], None]) -> tuple[Curve, Curve]:
        """Deletion and insertion, each in three orders."""
        generator = torch.Generator().manual_seed(self._seed)
        areas: list[list[float]] = []
        for row in rows.tolist():
            image, target, grid = self.batch[row], int(every.target[row]), every.grid[row]
            cells = grid.numel()
            orders = [
                grid.flatten().argsort(descending=True, stable=True),
                torch.randperm(cells, generator=generator),
                _edges(image, (grid.shape[0], grid.shape[1])).flatten().argsort(descending=True, stable=True),
            ]
            blank = _blurred(image)
            without = [self._area(image, blank, order, target, grid.shape) for order in orders]
            advance()
            areas.append(without + [self._area(blank, image, order, target, grid.shape) for order in orders])
            advance()
        means = np.mean(areas, axis=0).tolist()
        return Curve(*means[:3]), Curve(*means[3:])

    def _area(self, start: Tensor, end: Tensor, order: Tensor, target: int, shape: Sequence[int]) -> float:
        """Area under the softmax score of `target` while cells of `start` become those of `end`, in `order`."""
        rank = torch.empty(len(order))
        rank[order] = torch.arange(len(order), dtype=torch.float32)
        when = F.interpolate(rank.reshape(1, 1, *shape), size=start.shape[1:], mode="nearest")[0, 0]
        counts = torch.linspace(0, len(order), _STEPS + 1).round()
        mixed = torch.where(when[None, None] < counts[:, None, None, None], end[None], start[None])
        scores = torch.cat([self._parts.logits(part) for part in _batches(mixed)]).double().softmax(dim=1)[:, target]
        return float(torch.trapezoid(scores, counts.double() / len(order)))

    def sensitivity(self, every: _Explained, rows: Tensor, advance: Callable[[], None]) -> float | None:
        generator = torch.Generator().manual_seed(self._seed)
        worst = []
        for row in rows.tolist():
            image, grid = self.batch[row], every.grid[row]
            noise = torch.rand(_PERTURBATIONS, *image.shape, generator=generator) * 2 - 1
            moved = image + (noise * NOISE * self._images.black_to_white[:, None, None]).to(image)
            found = self.of(self._parts, moved, every.target[row].expand(_PERTURBATIONS))
            if not every.degenerate[row]:
                worst.append(float(((found - grid).flatten(1).norm(dim=1) / grid.norm()).max()))
            advance()
        return float(np.mean(worst)) if worst else None


def _good_peak(grid: Tensor, defective: Tensor) -> float | None:
    peaks = grid.flatten(1).amax(dim=1)
    if bool(defective.all()):
        return None
    return float((peaks[~defective] > peaks[defective].median()).float().mean())


def _batches(rows: Tensor) -> list[Tensor]:
    return [rows[start : start + _BATCH] for start in range(0, len(rows), _BATCH)]


def _spread(rows: Tensor, count: int) -> Tensor:
    """At most `count` of `rows`, evenly spread, in order."""
    if len(rows) <= count:
        return rows
    return rows[torch.linspace(0, len(rows) - 1, count).round().long()]


def _blurred(image: Tensor) -> Tensor:
    """(c, H, W) with what is smaller than an eighth of a side gone: means of 8 x 8 blocks, enlarged bilinearly."""
    small = F.adaptive_avg_pool2d(image[None], (8, 8))
    return F.interpolate(small, size=image.shape[1:], mode="bilinear", align_corners=False)[0]


def _edges(image: Tensor, shape: tuple[int, int]) -> Tensor:
    """Mean Sobel magnitude by cell, (h, w)."""
    across = torch.tensor([[-1.0, 0.0, 1.0], [-2.0, 0.0, 2.0], [-1.0, 0.0, 1.0]])
    kernels = torch.stack([across, across.T])[:, None]
    grey = F.pad(image.float().mean(dim=0)[None, None], (1, 1, 1, 1), mode="replicate")
    return F.adaptive_avg_pool2d(F.conv2d(grey, kernels).norm(dim=1), shape)[0]
