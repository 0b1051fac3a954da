"""Every family that is split by itself: captum's answer at every layer it is cut at, from many threads, leaving no trace."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from torch import Tensor, nn
from transformers import Dinov2Config, Dinov2ForImageClassification, ViTForImageClassification

from tests.explain import networks
from tests.explain.networks import CLASSES, FAMILIES, SIDE, batch, grad_cam_of_captum, trained
from traceai.errors import SplitError
from traceai.explain import Split, split
from traceai.explain.tracing import layers

EACH = pytest.mark.parametrize("make", FAMILIES, ids=lambda make: make.__name__)
Make = Callable[[], nn.Module]


def _probe() -> Tensor:
    return batch(2, seed=99)[0]


def _split(make: Make, at: str | None = None) -> tuple[nn.Module, Split]:
    module = trained(make)
    return module, split(module, at, probe=_probe())


@EACH
def test_grid_is_captums_for_every_class_at_every_layer(make: Make) -> None:
    module = trained(make)
    images, _ = batch()
    names = layers(module)
    assert names
    for layer in names:
        parts = split(module, layer, probe=_probe())
        for target in range(len(CLASSES)):
            expected = grad_cam_of_captum(module, layer, images, torch.full((len(images),), target))
            grid = parts.explain(images, target).grid
            assert grid.shape == expected.shape
            assert expected.abs().max() > 1e-4  # nothing is compared to nothing
            assert (grid - expected).abs().max() < 1e-5 * max(1.0, float(expected.abs().max()))


@EACH
def test_logits_are_the_networks_own(make: Make) -> None:
    module, parts = _split(make)
    images, _ = batch()
    with torch.no_grad():
        output = module(images)
    expected = getattr(output, "logits", output)
    assert (parts.explain(images).logits - expected).abs().max() < 1e-5
    assert torch.equal(parts.logits(images), parts.explain(images).logits)


@EACH
def test_eight_threads_see_what_one_sees(make: Make) -> None:
    _, parts = _split(make)
    images = [batch(3, seed=number)[0] for number in range(10)]
    serial = [parts.explain(one) for one in images]
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with ThreadPoolExecutor(8) as pool:
            threaded = list(pool.map(lambda number: parts.explain(images[number % 10]), range(8 * 200)))
    finally:
        torch.set_num_threads(before)
    for number, result in enumerate(threaded):
        torch.testing.assert_close(result.logits, serial[number % 10].logits, rtol=0, atol=1e-5)
        torch.testing.assert_close(result.grid, serial[number % 10].grid, rtol=0, atol=1e-5)


@EACH
def test_nothing_is_left_on_the_network(make: Make) -> None:
    module = trained(make)
    modes = [part.training for part in module.modules()]
    before = {name: tensor.clone() for name, tensor in module.state_dict().items()}
    parts = split(module, probe=_probe())
    parts.explain(batch()[0])
    parts.all_grids(batch()[0])
    for part in module.modules():
        assert not part._forward_hooks
        assert not part._forward_pre_hooks
        assert not part._backward_hooks
    assert all(parameter.grad is None or not parameter.grad.any() for parameter in module.parameters())
    assert [part.training for part in module.modules()] == modes
    assert all(torch.equal(tensor, before[name]) for name, tensor in module.state_dict().items())
    assert {id(p) for p in parts.trunk.parameters()} <= {id(p) for p in module.parameters()}


@EACH
def test_frozen_parameters_and_channels_last_make_no_difference(make: Make) -> None:
    module, parts = _split(make)
    images, _ = batch()
    before = parts.explain(images)
    module.requires_grad_(False)
    torch.testing.assert_close(parts.explain(images).grid, before.grid, rtol=0, atol=1e-6)
    module.to(memory_format=torch.channels_last)
    found = parts.explain(images.contiguous(memory_format=torch.channels_last))
    torch.testing.assert_close(found.grid, before.grid, rtol=0, atol=1e-5)


@EACH
def test_autocast_changes_the_precision_and_nothing_else(make: Make) -> None:
    module, parts = _split(make)
    images, labels = batch()
    exact = parts.explain(images)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = parts.explain(images, exact.target)
        every = parts.all_grids(images)
        output = module(images)
        loss = nn.functional.cross_entropy(getattr(output, "logits", output), labels)
        loss.backward()  # no cast made for the explanation is met again here
    assert any(parameter.grad is not None and parameter.grad.any() for parameter in module.parameters())
    for tensor in (found.logits, found.grid, found.embedding, every.grids):
        assert tensor.dtype == torch.float32
    assert (found.grid - exact.grid).abs().max() < 0.1 * exact.grid.abs().max()
    if found.bias is not None:
        total = found.grid.sum(dim=(1, 2)) + found.bias
        torch.testing.assert_close(total, found.logits.gather(1, found.target[:, None])[:, 0], rtol=0.02, atol=0.02)


@EACH
def test_a_network_in_half_precision_is_explained_in_single(make: Make) -> None:
    module = trained(make)
    exact = split(module, probe=_probe()).explain(batch()[0])
    images = batch()[0].bfloat16()
    found = split(module.bfloat16(), probe=images[:2]).explain(images, exact.target)
    assert found.grid.dtype == found.logits.dtype == torch.float32
    assert (found.grid - exact.grid).abs().max() < 0.2 * exact.grid.abs().max()


@pytest.mark.parametrize(
    ("make", "layer", "linear"),
    [
        (networks.resnet, "resnet.encoder.stages.1", True),
        (networks.convnext, "convnext.encoder.stages.1", False),
        (networks.swin, "swin.layernorm", True),
        (networks.vit, "vit.layers.2.layernorm_before", False),
        (networks.vit_mean, "backbone.layernorm", True),
        (networks.dinov2, "dinov2.encoder.layer.2.norm1", False),
        (networks.dinov2_registers_class, "backbone.encoder.layer.2.norm1", False),
        (networks.own_vit_mean, "net.layernorm", False),
        (networks.own_vit_class, "net.layers.2.layernorm_before", False),
        (networks.own_scaled, "net.vit.layers.2.layernorm_before", False),
    ],
)
def test_the_layer_explained_where_none_is_named(make: Make, layer: str, linear: bool) -> None:
    module, parts = _split(make)
    assert parts.layer == layer
    assert layer in dict(module.named_modules())
    assert (parts.linear is not None) is linear


def test_only_the_row_that_is_read_is_computed_of_the_last_block() -> None:
    module, parts = _split(networks.vit)
    rows = []
    mlp = module.vit.layers[2].mlp
    mlp.register_forward_hook(lambda part, inputs, output: rows.append(output.shape[1]))
    parts.explain(batch()[0])
    assert rows == [1]


def test_a_map_that_is_not_square() -> None:
    torch.manual_seed(0)
    config = Dinov2Config(**{**networks._TOKENS, "image_size": 64})
    module = Dinov2ForImageClassification(config).eval()
    images = torch.randn(3, 1, 32, 64)
    parts = split(module, probe=images)
    target = torch.tensor([0, 1, 2])
    expected = grad_cam_of_captum(module, parts.layer, images, target, grid=(4, 8))
    found = parts.explain(images, target).grid
    assert found.shape == (3, 4, 8)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)


def test_the_image_size_is_the_configurations() -> None:
    assert split(trained(networks.vit)).layer == "vit.layers.2.layernorm_before"


def test_a_layer_that_is_no_cut_is_refused_and_the_cuts_are_named() -> None:
    with pytest.raises(SplitError, match=r"vit\.layers\.0\.layernorm_before"):
        split(trained(networks.vit), "vit.layernorm")


def test_what_is_called_with_more_than_the_images_is_refused() -> None:
    class Interpolating(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net: nn.Module = networks.vit()

        def forward(self, x: Tensor) -> Tensor:
            return self.net(x, interpolate_pos_encoding=True).logits

    with pytest.raises(SplitError, match=r"more than the images.*Split\.of"):
        split(Interpolating().eval(), probe=_probe())


class Wrapped(nn.Module):
    """Hands on whatever the classifier returns."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, x: Tensor) -> object:
        return self.net(x)


@pytest.mark.parametrize("make", [networks.resnet, networks.vit, networks.swin])
def test_a_wrapper_that_returns_the_classifiers_output(make: Make) -> None:
    module = trained(make)
    images, _ = batch()
    found = split(Wrapped(module).eval(), probe=_probe()).explain(images)
    torch.testing.assert_close(found.grid, split(module, probe=_probe()).explain(images).grid, rtol=0, atol=1e-6)


def test_a_head_that_puts_the_tokens_back_into_their_grid() -> None:
    class Convolving(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net = trained(networks.vit).vit
            self.convolution = nn.Conv2d(16, 4, 3)
            self.fc = nn.Linear(4, 3)

        def forward(self, x: Tensor) -> Tensor:
            tokens = self.net(x).last_hidden_state[:, 1:]
            return self.fc(self.convolution(tokens.transpose(1, 2).reshape(-1, 16, 6, 6)).amax((2, 3)))

    module = Convolving().eval()
    images, _ = batch()
    parts = split(module, probe=_probe())
    target = torch.zeros(len(images), dtype=torch.int64)
    expected = grad_cam_of_captum(module, parts.layer, images, target)
    torch.testing.assert_close(parts.explain(images, target).grid, expected, rtol=0, atol=1e-5)


def test_another_network_in_half_precision_is_seen_in_single() -> None:
    class Scaled(ViTForImageClassification):
        def forward(self, pixel_values: Tensor) -> object:
            output = super().forward(pixel_values)
            output.logits = output.logits * 0.95
            return output

    module = Scaled(trained(networks.vit).config).eval().bfloat16()
    with pytest.raises(SplitError, match="own logits"):
        split(module, probe=torch.randn(2, 1, SIDE, SIDE).bfloat16())


def test_a_forward_of_ones_own_is_never_mistaken_for_the_familys() -> None:
    class Doubled(ViTForImageClassification):
        def forward(self, pixel_values: Tensor) -> object:
            output = super().forward(pixel_values)
            output.logits = output.logits * 2
            return output

    module = Doubled(trained(networks.vit).config).eval()
    with pytest.raises(SplitError, match="own logits"):
        split(module, probe=torch.randn(2, 1, SIDE, SIDE))
