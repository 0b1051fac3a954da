"""Batches for training: whole images, or crops whose label is read off the mask."""

from typing import NamedTuple

import torch
from torch import Tensor

from traceai.data.augment import Augmentation, frames, relight, transplant, view
from traceai.models.pixels import Pixels

# A crop takes its image's defect type if the mask covers this share of the crop, or of what the image shows of it.
_VISIBLE, _VISIBLE_OF_WHOLE = 0.04, 0.3
_POINTS = 200
_TOWARDS_DEFECT = 0.75
# Only defects that cover at most this share of an image, and keep this far from its border, are thought to look the
# same elsewhere.
_SMALL, _BORDER = 0.02, 0.05


class Batch(NamedTuple):
    """Views of `n` images.

    Attributes:
        images: float32 (n, C, h, w) in 0..1.
        masks: float32 (n, 1, h, w) in 0..1.
        labels: int64 (n,).
        certain: bool (n,), whether the label is.
        located: bool (n,), whether the mask holds all there is, see `Pixels`.
    """

    images: Tensor
    masks: Tensor
    labels: Tensor
    certain: Tensor
    located: Tensor


class Views:
    """Draws class-balanced random views of `pixels`; everything random comes from `generator`.

    Crops show a defect large, at native resolution, and the sound parts of defective images as examples of good ones:
    a network learns what a defect looks like from them before it has to find one in a whole image (patch pretraining,
    Shen et al., Scientific Reports 2019). Small defects are also put on the ground of good parts, so that few examples
    are seen in many places.
    """

    def __init__(
        self,
        pixels: Pixels,
        *,
        weights: Tensor,
        augmentation: Augmentation,
        background: int | None,
        transplants: float,
        generator: torch.Generator,
    ) -> None:
        self._pixels = pixels
        self._weights = weights
        self._augmentation = augmentation
        self._background = background
        self._transplants = transplants
        self._generator = generator
        self._covered = (pixels.masks > 127).float().mean(dim=(1, 2, 3))
        self._points, self._has_points = self._mask_points()
        self._small = (self._covered > 0) & (self._covered <= _SMALL)
        self._sound = torch.zeros_like(self._small) if background is None else pixels.labels == background
        self._inner = self._has_points & (self._points.abs() < 1 - 2 * _BORDER).all(dim=2).all(dim=1)

    def _mask_points(self) -> tuple[Tensor, Tensor]:
        """Up to `_POINTS` random points of each mask, (N, _POINTS, 2) in -1..1, and which images have any."""
        count, _, height, width = self._pixels.masks.shape
        points = torch.zeros(count, _POINTS, 2)
        for number in torch.nonzero(self._covered).flatten().tolist():
            inside = torch.nonzero(self._pixels.masks[number, 0] > 127).float()
            picked = inside[torch.randint(0, len(inside), (_POINTS,), generator=self._generator)]
            points[number] = (picked.flip(1) + 0.5) / torch.tensor([width, height]) * 2 - 1
        return points, self._covered > 0

    def whole(self, count: int) -> Batch:
        """Whole images."""
        rows = self._draw(count)
        moved = self._transplanted(rows)
        frame = frames(count, self._augmentation, self._generator)
        # A defect that leaves its own ground may turn up anywhere; unless it lies at the border, where it belongs.
        free = moved & self._small[rows] & self._inner[rows]
        place = torch.rand(count, 2, generator=self._generator) * 1.8 - 0.9
        frame[free, :, 2] = (self._some_point(rows) - place)[free]
        height, width = self._pixels.images.shape[2:]
        ground = frames(count, self._augmentation, self._generator)
        images, masks = self._show(rows, frame, (height, width), moved, ground)
        labels, located = self._pixels.labels[rows], self._pixels.located[rows]
        if self._background is not None:
            gone = moved & (masks <= 0.5).flatten(1).all(dim=1)
            labels = torch.where(gone, self._background, labels)
        return Batch(images, masks, labels, torch.ones(count, dtype=torch.bool), located)

    def crops(self, count: int, size: tuple[int, int], smallest: float) -> Batch:
        """Square parts between `smallest` and all of the side, at `size`; only with masks and a good class.

        A crop without defect is labelled good; one with only a sliver of it has no certain label. Images without a
        mask where one is needed are shown whole.
        """
        if self._background is None:
            raise ValueError("crops are labelled by masks against a class of good parts")
        rows = self._draw(count)
        located = self._pixels.located[rows]
        extent = smallest + (1 - smallest) * self._uniform(count)
        extent = torch.where(located, extent, 1.0)
        offset = (self._uniform(count, 2) * 2 - 1) * 0.7 * extent[:, None]
        aimed = self._has_points[rows] & (self._uniform(count) < _TOWARDS_DEFECT)
        anywhere = self._uniform(count, 2) * 2 - 1
        room = (1 - extent)[:, None]
        centre = torch.where(aimed[:, None], self._some_point(rows) + offset, anywhere).clamp(-room, room)
        frame = frames(count, self._augmentation, self._generator, centre=centre, extent=extent)
        ground = frames(count, self._augmentation, self._generator, centre=anywhere * room, extent=extent)
        images, masks = self._show(rows, frame, size, self._transplanted(rows), ground)

        visible = (masks > 0.5).float().mean(dim=(1, 2, 3))
        whole = self._covered[rows] / extent**2
        labels = torch.where(located & (visible == 0), self._background, self._pixels.labels[rows])
        certain = (visible == 0) | (visible >= _VISIBLE) | (visible >= _VISIBLE_OF_WHOLE * whole)
        return Batch(images, masks, labels, certain, located)

    def _uniform(self, *shape: int) -> Tensor:
        return torch.rand(shape, generator=self._generator)

    def _draw(self, count: int) -> Tensor:
        return torch.multinomial(self._weights, count, replacement=True, generator=self._generator)

    def _some_point(self, rows: Tensor) -> Tensor:
        picked = torch.randint(0, _POINTS, (len(rows),), generator=self._generator)
        return self._points[rows, picked]

    def _transplanted(self, rows: Tensor) -> Tensor:
        """Which of `rows` are put on another ground: small defects, and good parts as their counterparts."""
        chosen = self._uniform(len(rows)) < self._transplants
        return chosen & (self._small[rows] | self._sound[rows]) & bool(self._sound.any())

    def _show(
        self, rows: Tensor, frame: Tensor, size: tuple[int, int], moved: Tensor, ground_frame: Tensor
    ) -> tuple[Tensor, Tensor]:
        both = torch.cat([self._pixels.images[rows], self._pixels.masks[rows]], dim=1)
        seen = view(both.float() / 255, frame, size)
        images, masks = seen[:, :-1].clone(), seen[:, -1:]
        # Good patches are transplanted too, in the shape of defects, so that a seam is no sign of a defect.
        shapes = masks.clone()
        defects, goods = torch.nonzero(moved & self._small[rows])[:, 0], torch.nonzero(moved & self._sound[rows])[:, 0]
        if len(defects) and len(goods):
            shapes[goods] = masks[defects[torch.randint(0, len(defects), (len(goods),), generator=self._generator)]]
        where = torch.nonzero(moved)[:, 0]
        if len(where):
            grounds = torch.multinomial(self._sound.double(), len(where), replacement=True, generator=self._generator)
            ground = view(self._pixels.images[grounds].float() / 255, ground_frame[where], size)
            images[where] = transplant(ground, images[where], shapes[where])
        return relight(images, self._augmentation, self._generator), masks
