"""Random views of images and, in exactly the same geometry, of their masks.

Everything works on batches of tensors and draws from one generator: the same generator state gives the same views.
Lighting changes because it changes on the line: exposure, gamma, contrast and a gradient across the part.
"""

import math

import torch
import torch.nn.functional as F
from pydantic import BaseModel, ConfigDict
from torch import Tensor

# Sides in pixels of the squares that soften a transplant's edge and that gather its surroundings; odd.
_EDGE, _RING = 5, 17


class Augmentation(BaseModel):
    """How far views may differ from their image; 0 or False switches a change off.

    Attributes:
        flip_horizontal, flip_vertical: mirror half of the views.
        quarter_turns: turn by 0, 90, 180 or 270 degrees; for parts that lie in no fixed direction.
        rotation: at most, in degrees to either side.
        zoom: scale factor between 1 / (1 + zoom) and 1 + zoom.
        shift: at most, as a share of the side.
        exposure, gamma, contrast: factors between exp(-x) and exp(x).
        gradient: standard deviation of the exposure, as a logarithm, across a coarse field over the part.
        noise: the largest standard deviation of Gaussian noise, on the scale 0 to 1.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    flip_horizontal: bool = True
    flip_vertical: bool = True
    quarter_turns: bool = False
    rotation: float = 6.0
    zoom: float = 0.1
    shift: float = 0.03
    exposure: float = 0.15
    gamma: float = 0.2
    contrast: float = 0.15
    gradient: float = 0.0
    noise: float = 0.01


def frames(
    count: int,
    settings: Augmentation,
    generator: torch.Generator,
    *,
    centre: Tensor | None = None,
    extent: Tensor | None = None,
) -> Tensor:
    """Random affine frames, float32 (N, 2, 3) for `view`, in the normalised coordinates -1..1 of `affine_grid`.

    Args:
        count: N.
        settings: what to vary.
        generator: the source of all randomness.
        centre: (N, 2), x and y of the middle of each view; a random shift of the image's middle when None.
        extent: (N,), the share of the image's side that each view shows; a random zoom when None.
    """

    def uniform(limit: float) -> Tensor:
        return (2 * torch.rand(count, generator=generator) - 1) * limit

    angle = uniform(math.radians(settings.rotation))
    zoom, shift = (
        torch.exp(uniform(math.log1p(settings.zoom))),
        torch.stack([uniform(2 * settings.shift) for _ in "xy"], 1),
    )
    turns = torch.randint(0, 4, (count,), generator=generator)
    mirrored = torch.randint(0, 2, (2, count), generator=generator) * 2 - 1
    if settings.quarter_turns:
        angle = angle + turns * (math.pi / 2)
    across = mirrored[0] if settings.flip_horizontal else torch.ones(count)
    down = mirrored[1] if settings.flip_vertical else torch.ones(count)
    scale = zoom if extent is None else extent
    middle = shift if centre is None else centre
    cosine, sine = scale * angle.cos(), scale * angle.sin()
    rows = [torch.stack([across * cosine, -down * sine], 1), torch.stack([across * sine, down * cosine], 1)]
    return torch.cat([torch.stack(rows, 1), middle[:, :, None]], dim=2)


def view(images: Tensor, frame: Tensor, size: tuple[int, int]) -> Tensor:
    """What `frame` (N, 2, 3) shows of float images (N, C, H, W), at `size`; mirrored beyond the border."""
    where = F.affine_grid(frame, [len(images), 1, *size], align_corners=False)
    return F.grid_sample(images, where, padding_mode="reflection", align_corners=False)


def relight(images: Tensor, settings: Augmentation, generator: torch.Generator) -> Tensor:
    """Images (N, C, H, W) on the scale 0..1 under another light and with sensor noise; masks are not affected."""
    count, _, height, width = images.shape

    def factor(limit: float) -> Tensor:
        return torch.exp((2 * torch.rand(count, 1, 1, 1, generator=generator) - 1) * limit)

    lit = images.clamp(1e-3, 1.0) ** factor(settings.gamma) * factor(settings.exposure)
    if settings.gradient:
        field = torch.randn(count, 1, 3, 3, generator=generator) * settings.gradient
        lit = lit * F.interpolate(field, size=(height, width), mode="bilinear", align_corners=True).exp()
    middle = lit.mean(dim=(1, 2, 3), keepdim=True)
    lit = (lit - middle) * factor(settings.contrast) + middle
    if settings.noise:
        deviation = torch.rand(count, 1, 1, 1, generator=generator) * settings.noise
        lit = lit + torch.randn(lit.shape, generator=generator) * deviation
    return lit.clamp(0.0, 1.0)


def transplant(images: Tensor, donors: Tensor, masks: Tensor) -> Tensor:
    """What `masks` shows of `donors`, put into `images` with the brightness of its new surroundings.

    Copy and paste of annotated objects (Ghiasi et al., CVPR 2021), with a soft edge and the two grounds matched in
    mean over a ring about the mask, for otherwise the seam would be what is learnt. All are float on the scale 0..1:
    images and donors (N, C, H, W), masks (N, 1, H, W).
    """
    inside = _dilate((masks > 0.5).float(), _EDGE)
    soft = F.avg_pool2d(inside, _EDGE, stride=1, padding=_EDGE // 2)
    ring = _dilate(inside, _RING) - inside

    def ground(picture: Tensor) -> Tensor:
        weight = ring.sum(dim=(2, 3), keepdim=True).clamp(min=1)
        return (picture * ring).sum(dim=(2, 3), keepdim=True) / weight

    matched = (donors * ground(images).clamp(min=0.02) / ground(donors).clamp(min=0.02)).clamp(max=1.0)
    return images * (1 - soft) + matched * soft


def _dilate(region: Tensor, size: int) -> Tensor:
    tall = F.max_pool2d(region, (size, 1), stride=1, padding=(size // 2, 0))
    return F.max_pool2d(tall, (1, size), stride=1, padding=(0, size // 2))
