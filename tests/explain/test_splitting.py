"""What can be split, what cannot, and that a wrong split never goes unnoticed."""

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from torch import Tensor, nn

from tests.explain.networks import SIDE, PlainNet, batch, resnet, with_hidden_layer
from traceai.errors import SplitError
from traceai.explain import Split, split


def _probe() -> Tensor:
    return batch(2)[0]


class Averaged(PlainNet):
    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.body(x).mean((2, 3)))


class Scaled(PlainNet):
    """Looks like a linear head but for what follows it."""

    def forward(self, x: Tensor) -> Tensor:
        return 2 * super().forward(x)


class PooledTwice(PlainNet):
    def forward(self, x: Tensor) -> Tensor:
        features = self.body(x)
        return self.fc(features.mean((2, 3)) + features.amax((2, 3)))


class Skipping(PlainNet):
    """The head also reads the image."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) + x.mean((1, 2, 3))[:, None]


class Repeating(PlainNet):
    def forward(self, x: Tensor) -> Tensor:
        return self.fc((self.body(x) + self.body(-x)).mean((2, 3)))


class Residual(PlainNet):
    """The last block's branches are no feature map of the whole; their sum is."""

    def __init__(self) -> None:
        super().__init__()
        self.left = nn.Conv2d(8, 8, 3, padding=1)
        self.right = nn.Conv2d(8, 8, 1)
        self.join = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        features = self.body(x)
        return self.fc(self.join(self.left(features) + self.right(features)).mean((2, 3)))


class Blind(PlainNet):
    """Has a layer whose map comes to nothing."""

    def __init__(self) -> None:
        super().__init__()
        self.side = nn.Conv2d(8, 8, 1)

    def forward(self, x: Tensor) -> Tensor:
        features = self.side(self.body(x))
        return self.fc((features * 0.0).mean((2, 3)))


class Branching(PlainNet):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x if x.sum() > 0 else -x)


class Pair(PlainNet):
    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:  # type: ignore[override]  # wrong on purpose
        y = super().forward(x)
        return y, y


class HalfPool(nn.AdaptiveAvgPool2d):
    """A subclass may compute something else."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) / 2


@pytest.mark.parametrize(
    ("module", "at", "linear"),
    [
        (PlainNet(), "body", True),
        (PlainNet(), "body.3", False),
        (PlainNet(), "body.0", False),
        (Averaged(), "body", True),
        (Scaled(), "body", False),
        (PooledTwice(), "body", False),
        (with_hidden_layer(), "3", False),
        (
            nn.Sequential(nn.Conv2d(1, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Dropout(), nn.Linear(4, 2)),
            "0",
            True,
        ),
        (nn.Sequential(nn.Conv2d(1, 4, 3), HalfPool(1), nn.Flatten(), nn.Linear(4, 2)), "0", False),
        (nn.Sequential(nn.Conv2d(1, 4, 3), nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(16, 2)), "0", False),
        (nn.Sequential(nn.Conv2d(1, 4, 3), nn.AdaptiveMaxPool2d(1), nn.Flatten(), nn.Linear(4, 2)), "0", False),
    ],
)
def test_the_closed_form_is_used_only_for_pooled_linear_heads(module: nn.Module, at: str, linear: bool) -> None:
    parts = split(module.eval(), at, probe=_probe())
    assert (parts.linear is not None) is linear
    assert parts.layer == at
    with torch.no_grad():
        assert torch.allclose(parts.head(parts.trunk(_probe())), module(_probe()))


def test_a_transformers_resnet_is_split_before_its_pooler() -> None:
    module = resnet()
    parts = split(module)
    assert parts.layer == "resnet.encoder.stages.1"
    assert parts.linear is module.classifier[1]


def test_a_resnet_is_split_by_the_name_it_once_went_by() -> None:
    module = resnet()
    parts = split(module, "resnet.encoder")
    assert parts.layer == "resnet.encoder"
    images = torch.randn(2, 1, 224, 224)
    assert torch.equal(parts.explain(images).grid, split(module).explain(images).grid)


def test_a_hook_on_the_head_rules_out_the_closed_form() -> None:
    module = PlainNet().eval()
    module.fc.register_forward_hook(lambda part, inputs, output: output * 3)
    assert split(module, "body", probe=_probe()).linear is None


def test_parts_given_by_hand() -> None:
    module = Branching().eval()
    head = nn.Sequential(module.pool, nn.Flatten(), module.fc).eval()
    parts = Split.of(module.body, head, layer="body")
    assert parts.linear is module.fc
    assert parts.explain(_probe()).grid.shape == (2, 11, 11)


def test_parameters_are_shared_with_the_network() -> None:
    module = PlainNet().eval()
    parts = split(module, "body", probe=_probe())
    with torch.no_grad():
        module.fc.weight.zero_()
    assert not parts.explain(_probe()).grid.any()


def test_a_split_cannot_be_changed() -> None:
    parts = split(PlainNet().eval(), "body", probe=_probe())
    with pytest.raises(AttributeError):
        parts.layer = "fc"  # type: ignore[misc]  # wrong on purpose


@pytest.mark.parametrize(
    ("module", "at", "reason"),
    [
        (PlainNet(), "boddy", "no child"),
        (PlainNet(), "", "no child"),
        (PlainNet(), "pool", "single cell"),
        (PlainNet(), "fc", "not a feature map"),
        (Skipping(), "body", "also reads"),
        (Repeating(), "body", "2 times"),
        (Branching(), "body", "cannot be traced"),
        (Pair(), "body", "single tensor"),
        (Pair(), None, "single tensor"),
        (Branching(), None, "cannot be traced"),
        (Blind(), "side", "do not depend"),
        (nn.Sequential(nn.Flatten(), nn.Linear(SIDE * SIDE, 3)), None, "no convolution|feature map"),
    ],
)
def test_a_wrong_split_is_refused_with_its_reason(module: nn.Module, at: str | None, reason: str) -> None:
    with pytest.raises(SplitError, match=reason):
        split(module.eval(), at, probe=_probe())


def test_a_resnet_is_split_after_any_stage_and_nowhere_else() -> None:
    assert split(resnet(), "resnet.encoder.stages.0").linear is None
    with pytest.raises(SplitError, match=r"resnet\.encoder\.stages\.0.*Split\.of"):
        split(resnet(), "resnet.pooler")


@pytest.mark.parametrize(
    ("module", "layer"),
    [
        (PlainNet(), "body"),
        (Averaged(), "body"),
        (PooledTwice(), "body"),
        (Residual(), "join"),
        (Skipping(), None),
        (with_hidden_layer(), "4"),
        (
            nn.Sequential(
                nn.Conv2d(1, 4, 3), nn.Conv2d(4, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2)
            ),
            "1",
        ),
    ],
)
def test_the_last_map_that_alone_feeds_the_rest_is_found(module: nn.Module, layer: str | None) -> None:
    module = module.eval()
    if layer is None:
        with pytest.raises(SplitError, match=r"also reads.*Split\.of"):
            split(module, probe=_probe())
        return
    assert split(module, probe=_probe()).layer == layer


class ChannelsLast(nn.Module):
    """Keeps its channels last between the first convolution and the pooling, as some transformers for images do."""

    def __init__(self) -> None:
        super().__init__()
        self.patches = nn.Conv2d(1, 6, 4, 4)
        self.norm = nn.LayerNorm(6)
        self.fc = nn.Linear(6, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.norm(self.patches(x).permute(0, 2, 3, 1)).mean((1, 2)))


class Untraced(nn.Module):
    """A head that shuts gradients out."""

    def __init__(self) -> None:
        super().__init__()
        self.pool, self.fc = nn.AdaptiveAvgPool2d(1), nn.Linear(8, 3)

    @torch.no_grad()
    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.pool(x).flatten(1))


def _with_head(head: nn.Module) -> nn.Module:
    return nn.Sequential(PlainNet().body, head).eval()


def test_a_map_with_its_channels_last_is_never_taken_for_one() -> None:
    module = ChannelsLast().eval()
    with pytest.raises(SplitError, match="channels last"):
        split(module, "norm", probe=_probe())
    assert split(module, probe=_probe()).layer == "patches"


def test_a_head_without_gradients_is_refused() -> None:
    with pytest.raises(SplitError, match="no gradient"):
        split(_with_head(Untraced()), "0", probe=_probe())


def test_a_gradient_that_cancels_is_no_explanation() -> None:
    module = nn.Sequential(
        nn.Conv2d(1, 8, 3, 2), nn.InstanceNorm2d(8), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 3)
    )
    with pytest.raises(SplitError, match="cancels"):
        split(
            nn.Sequential(
                nn.Conv2d(1, 8, 3), nn.InstanceNorm2d(8), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 3)
            ).eval(),
            "0",
            probe=_probe(),
        )
    assert split(module.eval(), "2", probe=_probe()).linear is not None


def test_normalising_by_the_batch_is_refused() -> None:
    module = nn.Sequential(
        nn.Conv2d(1, 8, 3),
        nn.BatchNorm2d(8, track_running_stats=False),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(8, 3),
    )
    with pytest.raises(SplitError, match="other images"):
        split(module.eval(), "1", probe=_probe())


def test_a_map_of_one_channel_is_one() -> None:
    module = nn.Sequential(nn.Conv2d(1, 1, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(1, 3)).eval()
    assert split(module, probe=_probe()).layer == "0"


def test_a_layer_goes_by_each_of_its_names() -> None:
    module = PlainNet()
    module.other = module.body
    assert split(module.eval(), "body", probe=_probe()).layer == "body"
    with pytest.raises(SplitError, match="0 times"):
        split(module, "other", probe=_probe())


def test_what_cannot_be_copied_is_split_all_the_same() -> None:
    module = PlainNet()
    module.lock = threading.Lock()
    assert split(module.eval(), probe=_probe()).layer == "body"


def test_splitting_one_network_disturbs_no_other() -> None:
    """torch.fx patches `nn.Module` for the whole process; here nothing does."""
    parts = split(PlainNet().eval(), "body", probe=_probe())
    before = parts.explain(_probe()).grid
    with ThreadPoolExecutor(4) as pool:
        splits = [pool.submit(split, PlainNet().eval(), "body", probe=_probe()) for _ in range(60)]
        grids = [pool.submit(lambda: parts.explain(_probe()).grid) for _ in range(300)]
        for made in splits:
            assert made.result().layer == "body"
        for grid in grids:
            torch.testing.assert_close(grid.result(), before, rtol=0, atol=1e-6)


def test_finding_leaves_no_hook_and_no_state() -> None:
    module = PlainNet().eval()
    split(module, probe=_probe())
    assert not any(part._forward_hooks for part in module.modules())


def test_training_mode_is_refused() -> None:
    with pytest.raises(SplitError, match=r"eval\(\)"):
        split(PlainNet().train(), "body")


def test_one_layer_in_training_mode_is_refused() -> None:
    module = PlainNet().eval()
    module.body[1].train()
    with pytest.raises(SplitError, match=r"eval\(\)"):
        split(module, "body")


def test_a_probe_the_network_does_not_accept_is_named() -> None:
    with pytest.raises(SplitError, match="probe="):
        split(PlainNet().eval(), "body", probe=torch.zeros(1, 3, 32, 32))


def test_a_split_that_gives_other_logits_is_refused() -> None:
    class Noted(PlainNet):
        """Every pass differs from the one before: the network has state beyond its input."""

        passes = 0

        def forward(self, x: Tensor) -> Tensor:
            self.passes += 1
            return super().forward(x) + self.passes

    with pytest.raises(SplitError, match="own logits"):
        split(Noted().eval(), "body", probe=_probe())
