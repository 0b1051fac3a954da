"""Small networks, trained for a few steps: at random weights, mistakes of sign and scale can cancel."""

import copy
from collections.abc import Callable
from functools import cache

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from traceai.models.architectures import Architecture, build

CLASSES = ("good", "dark", "bright")
SIDE = 48


class PlainNet(nn.Module):
    """The shape of a torchvision ResNet: a body, a pool, `torch.flatten` in `forward`, a linear layer."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(1, 6, 3, 2), nn.BatchNorm2d(6), nn.ReLU(), nn.Conv2d(6, 8, 3, 2), nn.ReLU())
        self.pool = nn.AdaptiveAvgPool2d((1, 1))
        self.fc = nn.Linear(8, len(CLASSES))

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(torch.flatten(self.pool(self.body(x)), 1))


def resnet() -> nn.Module:
    architecture = Architecture(
        channels=1, height=SIDE, width=SIDE, embedding_size=4, hidden_sizes=(4, 8), depths=(1, 1)
    )
    return build(architecture, CLASSES, seed=3)


def with_hidden_layer() -> nn.Sequential:
    """A head that is not linear, beginning with an operation in place."""
    return nn.Sequential(
        nn.Conv2d(1, 6, 3, 2),
        nn.BatchNorm2d(6),
        nn.ReLU(),
        nn.Conv2d(6, 8, 3, 2),
        nn.ReLU(inplace=True),
        nn.AdaptiveAvgPool2d(3),
        nn.Flatten(),
        nn.Linear(72, 16),
        nn.Tanh(),
        nn.Linear(16, len(CLASSES)),
    )


def batch(count: int = 6, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Noise (N, 1, SIDE, SIDE) with no, a dark or a bright square, and which."""
    generator = torch.Generator().manual_seed(seed)
    images = torch.randn(count, 1, SIDE, SIDE, generator=generator) * 0.3
    labels = torch.arange(count) % len(CLASSES)
    for image, label in zip(images, labels.tolist(), strict=True):
        row, column = torch.randint(0, SIDE - 12, (2,), generator=generator).tolist()
        image[0, row : row + 12, column : column + 12] += (0.0, -2.0, 2.0)[label]
    return images, labels


def trained(make: Callable[[], nn.Module]) -> nn.Module:
    """What `make` makes, after a few steps of Adam, in evaluation mode; a copy of the test's own."""
    return copy.deepcopy(_trained(make))


@cache
def _trained(make: Callable[[], nn.Module]) -> nn.Module:
    torch.manual_seed(0)
    module = make().train()
    optimizer = torch.optim.Adam(module.parameters(), 1e-2)
    for step in range(15):
        images, labels = batch(12, seed=step)
        output = module(images)
        optimizer.zero_grad()
        F.cross_entropy(getattr(output, "logits", output), labels).backward()
        optimizer.step()
    return module.eval()
