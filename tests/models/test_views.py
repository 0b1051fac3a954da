"""What a view is labelled is what its mask shows, however it was cut or put together."""

import torch
from torch import Tensor

from traceai.data.augment import Augmentation
from traceai.models.guidance import GridGuidance
from traceai.models.pixels import Pixels
from traceai.models.views import Batch, Views

SIDE = 64


def _pixels() -> Pixels:
    """Good parts of level 200, and dark squares of level 20 in a ground of 100, with a mask or, the last, without."""
    labels = torch.tensor([0, 0, 1, 1, 1])
    images = torch.full((5, 1, SIDE, SIDE), 200, dtype=torch.uint8)
    masks = torch.zeros(5, 1, SIDE, SIDE, dtype=torch.uint8)
    images[2:] = 100
    images[2:, :, 30:38, 30:38] = 20
    masks[2:4, :, 30:38, 30:38] = 255
    return Pixels(images, masks, labels, torch.tensor([True, True, True, True, False]))


def _views(transplants: float = 0.0, draw: tuple[float, ...] = (1, 1, 1, 1, 1)) -> Views:
    return Views(
        _pixels(),
        weights=torch.tensor(draw, dtype=torch.float64),
        augmentation=Augmentation(exposure=0, gamma=0, contrast=0, noise=0),
        background=0,
        transplants=transplants,
        generator=torch.Generator().manual_seed(0),
    )


def _dark(batch: Batch) -> Tensor:
    """Which views show a defect: something much darker than the rest."""
    low, high = batch.images.flatten(1).min(dim=1).values, batch.images.flatten(1).max(dim=1).values
    return low < 0.5 * high


def test_whole_images_show_what_they_are_labelled() -> None:
    batch = _views().whole(60)
    assert torch.equal(_dark(batch), batch.labels == 1)
    assert batch.certain.all()
    assert batch.images.shape == (60, 1, SIDE, SIDE)


def test_crops_are_good_where_the_mask_shows_nothing() -> None:
    batch = _views(draw=(1, 1, 1, 1, 0)).crops(200, (32, 32), 0.3)
    visible = (batch.masks > 0.5).flatten(1).any(dim=1)
    assert torch.equal(batch.labels == 1, visible)
    assert 20 < visible.sum() < 180
    assert not _dark(batch)[~visible].any()
    assert batch.certain[~visible].all()


def test_a_sliver_of_a_defect_gives_no_certain_label() -> None:
    batch = _views(draw=(0, 0, 1, 1, 0)).crops(400, (32, 32), 0.3)
    share = (batch.masks > 0.5).float().mean(dim=(1, 2, 3))
    doubtful = ~batch.certain
    assert doubtful.any()
    assert (share[doubtful] > 0).all()
    assert (share[doubtful] < 0.04).all()


def test_defects_without_a_mask_are_shown_whole() -> None:
    batch = _views(draw=(0, 0, 0, 0, 1)).crops(40, (32, 32), 0.3)
    assert (batch.labels == 1).all()
    assert _dark(batch).all()
    assert not batch.located.any()


def test_transplanted_defects_lie_on_good_ground_and_good_parts_stay_good() -> None:
    batch = _views(transplants=1.0, draw=(1, 1, 1, 1, 0)).whole(60)
    assert torch.equal(_dark(batch), batch.labels == 1)
    corner = batch.images[:, 0, :4, :4].amax(dim=(1, 2))
    assert (corner[batch.labels == 1] > 0.7).float().mean() > 0.8  # 200 / 255 is the good ground, 100 / 255 the other
    assert not (batch.masks[batch.labels == 0] > 0.5).any()


def test_transplanted_defects_turn_up_in_all_quarters() -> None:
    batch = _views(transplants=1.0, draw=(0, 0, 1, 1, 0)).whole(60)
    rows, columns = (
        (batch.masks[:, 0].flatten(1).argmax(dim=1) // SIDE),
        (batch.masks[:, 0].flatten(1).argmax(dim=1) % SIDE),
    )
    quarters = {(int(r) // (SIDE // 2), int(c) // (SIDE // 2)) for r, c in zip(rows, columns, strict=True)}
    assert len(quarters) == 4


def _cells(where: tuple[int, int], strength: float) -> Tensor:
    cells = torch.zeros(1, 2, 4, 4)
    cells[:, 0] = strength
    cells[:, 0, where[0], where[1]], cells[:, 1, where[0], where[1]] = 0.0, strength
    return cells


def test_guidance_prefers_evidence_where_the_mask_is() -> None:
    masks = torch.zeros(1, 1, 16, 16)
    masks[:, :, 4:8, 8:12] = 1.0
    guidance, label, located = GridGuidance(0), torch.tensor([1]), torch.tensor([True])
    right = guidance(_cells((1, 2), 20.0), masks, label, located)
    wrong = guidance(_cells((2, 1), 20.0), masks, label, located)
    none = guidance(torch.zeros(1, 2, 4, 4), masks, label, located)
    assert right < none < wrong


def test_guidance_says_nothing_of_defects_without_a_mask() -> None:
    loss = GridGuidance(0)(_cells((1, 2), 20.0), torch.zeros(1, 1, 16, 16), torch.tensor([1]), torch.tensor([False]))
    assert loss.item() == 0.0


def test_a_defect_thinner_than_a_cell_is_still_a_defective_cell() -> None:
    masks = torch.zeros(1, 1, 64, 64)
    masks[0, 0, 17, 34] = 1.0
    guidance = GridGuidance(0)
    found, missed = (
        guidance(_cells(at, 20.0), masks, torch.tensor([1]), torch.tensor([True])) for at in ((1, 2), (0, 0))
    )
    assert found < missed
