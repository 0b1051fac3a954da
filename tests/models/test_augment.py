"""Views move images and masks alike, and repeat when the generator does."""

import pytest
import torch
from torch import Tensor

from traceai.data.augment import Augmentation, frames, relight, transplant, view

STILL = Augmentation(
    flip_horizontal=False, flip_vertical=False, rotation=0, zoom=0, shift=0, exposure=0, gamma=0, contrast=0, noise=0
)
LIVELY = Augmentation(quarter_turns=True, gradient=0.2)


def _generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def _images(count: int = 8) -> Tensor:
    return torch.rand(count, 1, 16, 16, generator=_generator(9))


def test_no_change_is_no_change() -> None:
    images = _images()
    seen = relight(view(images, frames(8, STILL, _generator()), (16, 16)), STILL, _generator())
    torch.testing.assert_close(seen, images.clamp(min=1e-3))


@pytest.mark.parametrize("settings", [Augmentation(), LIVELY])
def test_masks_move_with_their_images(settings: Augmentation) -> None:
    masks = torch.zeros(16, 1, 32, 32)
    masks[:, :, 5:15, 18:28] = 1.0
    frame = frames(16, settings, _generator())
    assert torch.equal(view(masks, frame, (24, 24)), view(masks.clone(), frame, (24, 24)))
    joint = view(torch.cat([masks, masks], dim=1), frame, (24, 24))
    assert torch.equal(joint[:, 0], joint[:, 1])


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        (STILL.model_copy(update={"flip_horizontal": True}), {0, 1}),
        (STILL.model_copy(update={"flip_vertical": True}), {0, 2}),
        (STILL.model_copy(update={"flip_horizontal": True, "flip_vertical": True}), {0, 1, 2, 3}),
        (STILL.model_copy(update={"quarter_turns": True}), {0, 3, 4, 5}),
    ],
)
def test_flips_and_quarter_turns_are_exactly_those(settings: Augmentation, expected: set[int]) -> None:
    image = _images(1)
    symmetries = [
        image,
        image.flip(3),
        image.flip(2),
        image.flip(2, 3),
        image.transpose(2, 3).flip(2),
        image.transpose(2, 3).flip(3),
    ]
    seen = view(image.expand(64, -1, -1, -1), frames(64, settings, _generator()), (16, 16))
    found = {next(k for k, other in enumerate(symmetries) if torch.allclose(one, other[0], atol=1e-4)) for one in seen}
    assert found == expected


def test_a_frame_shows_the_part_it_names() -> None:
    image = torch.arange(16.0).expand(1, 1, 16, 16)
    frame = frames(1, STILL, _generator(), centre=torch.tensor([[0.5, 0.0]]), extent=torch.tensor([0.5]))
    torch.testing.assert_close(view(image, frame, (8, 8))[0, 0, 0], torch.arange(8.0, 16.0))


def test_equal_generators_give_equal_views_and_others_do_not() -> None:
    def once(seed: int) -> Tensor:
        generator = _generator(seed)
        return relight(view(_images(), frames(8, LIVELY, generator), (16, 16)), LIVELY, generator)

    assert torch.equal(once(1), once(1))
    assert not torch.equal(once(1), once(2))


def test_another_light_stays_in_range_and_keeps_the_order_of_levels() -> None:
    ramp = torch.linspace(0, 1, 256).reshape(1, 1, 16, 16).expand(32, -1, -1, -1)
    seen = relight(ramp, Augmentation(noise=0), _generator())
    assert 0 <= seen.min() <= seen.max() <= 1
    assert (seen.flatten(1).diff(dim=1) >= -1e-6).all()
    assert seen.flatten(1).mean(dim=1).std() > 0.02


def test_a_transplant_brings_the_defect_and_takes_the_new_grounds_brightness() -> None:
    donor, mask = torch.full((1, 1, 40, 40), 0.4), torch.zeros(1, 1, 40, 40)
    donor[:, :, 15:25, 15:25], mask[:, :, 15:25, 15:25] = 0.1, 1.0
    ground = torch.full((1, 1, 40, 40), 0.8)
    seen = transplant(ground, donor, mask)[0, 0]
    assert seen[20, 20].item() == pytest.approx(0.2, abs=1e-5)
    assert (seen[:8] == 0.8).all()
    assert seen[13, 20].item() == pytest.approx(0.8, abs=1e-5)


def test_a_transplant_without_a_mask_is_the_ground() -> None:
    ground, donor = _images(4)[:2], _images(4)[2:]
    assert torch.equal(transplant(ground, donor, torch.zeros_like(donor)), ground)
