"""The methods against closed forms and against captum, and what they leave behind: nothing."""

import copy
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from captum.attr import InputXGradient, IntegratedGradients, LayerGradCam, Occlusion, Saliency
from torch import Tensor, nn

from tests.explain.networks import batch, dinov2_registers, grad_cam_of_captum, resnet, swin, trained, vit
from traceai.errors import InputError, MethodNotOfferedError, ModelError, SplitError
from traceai.explain import methods, split
from traceai.explain.catalogue import METHODS, find
from traceai.explain.splitting import Split

GRADIENTS = ("integrated-gradients", "saliency", "input-x-gradient")
OF_SPLITS = ("integrated-gradients", "occlusion", "saliency", "input-x-gradient", "grad-cam")


class Linear(nn.Module):
    """`logit_k = w_k . x + k`, the first operation in place, as a network's may be."""

    def __init__(self, *shape: int) -> None:
        super().__init__()
        self.w = nn.Parameter(torch.randn(3, *shape, generator=torch.Generator().manual_seed(1)))

    def forward(self, x: Tensor) -> Tensor:
        return torch.einsum("nchw,kchw->nk", x.mul_(1), self.w) + torch.arange(3)


class OnePixel(nn.Module):
    """The logit of class 1 is three times one pixel, that of class 0 nothing."""

    def __init__(self, row: int, column: int) -> None:
        super().__init__()
        self.row, self.column = row, column

    def forward(self, x: Tensor) -> Tensor:
        seen = 3 * x[:, 0, self.row, self.column]
        return torch.stack([torch.zeros_like(seen), seen], dim=1)


def images(*shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(2))


@pytest.mark.parametrize("name", ["integrated-gradients", "input-x-gradient"])
def test_of_a_linear_network_they_are_weight_times_input_summed_over_channels(name: str) -> None:
    network, x, target = Linear(2, 7, 9).eval(), images(3, 2, 7, 9), torch.tensor([2, 0, 1])
    found = methods.attribute(name, network, x, target)
    assert torch.allclose(found.maps, (network.w[target] * x).sum(dim=1), atol=1e-5)
    assert (found.maps.dtype, found.maps.shape) == (torch.float32, (3, 7, 9))


def test_the_saliency_of_a_linear_network_is_its_weight_with_its_sign() -> None:
    network, target = Linear(2, 7, 9).eval(), torch.tensor([2, 0])
    found = methods.saliency(network, images(2, 2, 7, 9), target)
    assert torch.allclose(found, network.w[target].sum(dim=1))
    assert found.min() < 0 < found.max()


def test_occlusion_gives_a_pixel_that_is_the_logit_all_of_it() -> None:
    x = images(1, 1, 8, 8)
    found = methods.occlusion(OnePixel(3, 5).eval(), x, torch.tensor([1]), window=1)
    expected = torch.zeros(1, 8, 8)
    expected[0, 3, 5] = 3 * x[0, 0, 3, 5]
    assert torch.allclose(found, expected)


def test_occlusion_is_the_mean_over_the_squares_that_cover_a_pixel() -> None:
    x = images(1, 1, 4, 4)
    found = methods.occlusion(OnePixel(0, 1).eval(), x, torch.tensor([1]), window=2, stride=1)[0]
    # Squares begin in columns 0, 1 and 2; the pixel lies in those of 0 and 1, in the upper row.
    share = torch.tensor([[1.0, 1.0, 0.5, 0.0], [0.5, 0.5, 0.25, 0.0], [0, 0, 0, 0], [0, 0, 0, 0]])
    assert torch.allclose(found, 3 * x[0, 0, 0, 1] * share)


def test_a_square_covers_all_channels_and_its_fall_is_counted_once() -> None:
    network, x = Linear(3, 6, 6).eval(), images(1, 3, 6, 6)
    found = methods.occlusion(network, x, torch.tensor([1]), window=1)
    assert torch.allclose(found, (network.w[1] * x[0]).sum(dim=0)[None], atol=1e-5)


@pytest.mark.parametrize(
    ("height", "width", "window", "stride"), [(224, 224, 28, 14), (48, 48, 6, 3), (64, 2048, 45, 22), (5, 5, 1, 1)]
)
def test_the_window_comes_from_the_size_of_the_input(height: int, width: int, window: int, stride: int) -> None:
    assert methods.occlusion_window(height, width) == (window, stride)


def test_no_pixel_is_left_out_of_an_odd_input() -> None:
    found = methods.occlusion(Linear(1, 23, 37).eval(), images(1, 1, 23, 37), torch.tensor([0]))
    assert found.shape == (1, 23, 37)
    assert found.abs().min() > 0


@pytest.mark.parametrize(("window", "stride"), [(9, 1), (0, 1), (4, 5), (4, 0)])
def test_a_window_that_does_not_cover_the_input_is_refused(window: int, stride: int) -> None:
    with pytest.raises(ModelError, match="does not cover an input of 8 x 8"):
        methods.occlusion(OnePixel(0, 0).eval(), images(1, 1, 8, 8), torch.tensor([1]), window=window, stride=stride)


# --- against captum -----------------------------------------------------------------------------------------------------


def logits_of(module: nn.Module) -> Callable[[Tensor], Tensor]:
    def logits(x: Tensor) -> Tensor:
        output = module(x)
        return getattr(output, "logits", output)

    return logits


@pytest.mark.parametrize("make", [resnet, vit])
def test_maps_are_captums(make: Callable[[], nn.Module]) -> None:
    network, (x, _), target = trained(make), batch(2), torch.tensor([1, 2])
    forward = logits_of(network)
    leaf = x.clone().requires_grad_(True)
    expected = {
        "integrated-gradients": IntegratedGradients(forward).attribute(x, target=target, n_steps=64),
        "occlusion": Occlusion(forward).attribute(x, (1, 6, 6), strides=(1, 3, 3), target=target),
        "saliency": Saliency(forward).attribute(leaf, target=target, abs=False),
        "input-x-gradient": InputXGradient(forward).attribute(leaf, target=target),
    }
    found = {name: methods.attribute(name, network, x, target).maps for name in expected}
    found["integrated-gradients"] = methods.integrated_gradients(network, x, target, steps=64)
    for name, maps in expected.items():
        scale = float(maps.detach().abs().max())
        assert torch.allclose(found[name], maps[:, 0].detach(), atol=2e-5 * scale), name


def test_grad_cam_at_another_layer_is_captums() -> None:
    network, (x, _), target = trained(resnet), batch(2), torch.tensor([1, 2])
    layer = "resnet.encoder.stages.0"
    found = methods.grad_cam(network, x, target, layer=layer)
    expected = grad_cam_of_captum(network, layer, x, target)
    assert found.shape == (2, 12, 12)
    assert torch.allclose(found, expected, atol=1e-5 * float(expected.abs().max()))


def test_grad_cam_without_a_layer_is_what_is_recorded() -> None:
    network, (x, _), target = trained(vit), batch(2), torch.tensor([1, 2])
    parts = split(network, probe=x)
    recorded = parts.explain(x, target).grid
    assert torch.equal(methods.grad_cam(parts, x, target), recorded)
    assert torch.equal(methods.grad_cam(network, x, target), recorded)


@pytest.mark.parametrize("make", [resnet, swin, vit, dinov2_registers])
def test_a_split_is_explained_as_its_network_is(make: Callable[[], nn.Module]) -> None:
    network, (x, _), target = trained(make), batch(2), torch.tensor([1, 2])
    parts = split(network, probe=x)
    for name in OF_SPLITS:
        whole, cut = (methods.attribute(name, part, x, target).maps for part in (network, parts))
        assert torch.allclose(whole, cut, atol=1e-3 * float(whole.abs().max())), name


# --- completeness -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("make", [resnet, swin, vit])
def test_integrated_gradients_sum_to_the_rise_of_the_logit_within_their_stated_error(
    make: Callable[[], nn.Module],
) -> None:
    network, (x, _), target = trained(make), batch(3), torch.tensor([1, 2, 0])
    found = methods.attribute("integrated-gradients", network, x, target)
    with torch.no_grad():
        logits = logits_of(network)
        rise = (logits(x) - logits(torch.zeros_like(x))).gather(1, target[:, None])[:, 0]
    assert found.error is not None
    assert torch.allclose(found.maps.sum(dim=(1, 2)) - rise, found.error, atol=1e-4)
    assert (found.error.abs() <= (0.011 * rise.abs()).clamp(min=0.0011)).all()


def test_the_completeness_error_says_when_steps_are_too_few() -> None:
    class Steep(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            total = x.sum(dim=(1, 2, 3))
            return torch.stack([total * 0, torch.tanh(1000 * total)], dim=1)

    x, target = torch.full((1, 1, 2, 2), 0.25), torch.tensor([1])
    found = methods.integrated_gradients(Steep().eval(), x, target, steps=4)
    assert float(methods.completeness_error(Steep().eval(), x, target, found)) < -0.9
    assert abs(float(methods.attribute("integrated-gradients", Steep().eval(), x, target).error)) < 0.011


# --- what is left behind ------------------------------------------------------------------------------------------------


def marks(network: nn.Module) -> list[object]:
    hooks = [
        (name, len(part._forward_hooks), len(part._forward_pre_hooks), len(part._backward_hooks), part.training)
        for name, part in network.named_modules()
    ]
    gradients = [(name, p.grad is None, p.requires_grad, id(p), p._version) for name, p in network.named_parameters()]
    return [hooks, gradients, {id(part): sorted(vars(part)) for part in network.modules()}]


@pytest.mark.parametrize("frozen", [True, False])
@pytest.mark.parametrize("name", METHODS)
def test_nothing_is_left_on_the_network_and_nothing_of_it_changes(name: str, frozen: bool) -> None:
    network, (x, _) = trained(vit).requires_grad_(not frozen), batch(2)
    before, state, given = marks(network), copy.deepcopy(network.state_dict()), x.clone()
    found = methods.attribute(
        name, network, x, torch.tensor([1, 2]), layer="vit.layers.0.layernorm_before" if name == "grad-cam" else None
    )
    assert marks(network) == before
    assert all(torch.equal(state[key], tensor) for key, tensor in network.state_dict().items())
    assert torch.equal(x, given)
    assert (x.requires_grad, found.maps.requires_grad, found.maps.is_inference()) == (False, False, False)


@pytest.mark.parametrize(
    ("make", "name"), [(vit, name) for name in METHODS] + [(resnet, name) for name in METHODS if METHODS[name].signed]
)
def test_eight_threads_on_one_network_get_what_one_gets(make: Callable[[], nn.Module], name: str) -> None:
    network, (x, _) = trained(make), batch(8)
    targets = torch.tensor([0, 1, 2, 0, 1, 2, 0, 1])
    layers = {vit: "vit.layers.1.layernorm_before", resnet: "resnet.encoder.stages.0"}
    layer = layers[make] if name == "grad-cam" else None

    def explained(number: int) -> Tensor:
        row = slice(number, number + 1)
        return methods.attribute(name, network, x[row], targets[row], layer=layer).maps

    alone = [explained(number) for number in range(8)]
    with ThreadPoolExecutor(8) as pool:
        together = list(pool.map(explained, [*range(8)] * 3))
    for number, found in enumerate(together):
        assert torch.equal(found, alone[number % 8])


@pytest.mark.parametrize("name", METHODS)
def test_a_map_does_not_depend_on_the_other_images_of_its_batch_nor_on_the_time(name: str) -> None:
    network, (x, _), target = trained(vit), batch(3), torch.tensor([1, 2, 0])
    together = methods.attribute(name, network, x, target).maps
    assert torch.equal(together, methods.attribute(name, network, x, target).maps)
    alone = methods.attribute(name, network, x[1:2], target[1:2]).maps
    assert torch.allclose(together[1:2], alone, atol=1e-5 * float(alone.abs().max()))


@pytest.mark.parametrize("name", METHODS)
def test_the_callers_inference_mode_is_no_obstacle(name: str) -> None:
    network, (x, _), target = trained(vit), batch(1), torch.tensor([1])
    expected = methods.attribute(name, network, x, target).maps
    with torch.inference_mode():
        found = methods.attribute(name, network, x.clone(), target).maps
    assert torch.equal(found, expected)


# --- refusals -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["guided-backprop", "Guided Backpropagation", "guided_grad_cam", "guided-gradcam"])
def test_guided_methods_are_refused_with_the_reason(name: str) -> None:
    with pytest.raises(
        MethodNotOfferedError, match="hardly change when the network's upper layers are given random weights"
    ):
        find(name)


def test_an_unknown_method_is_told_which_there_are() -> None:
    with pytest.raises(MethodNotOfferedError) as refused:
        methods.attribute("lime", trained(vit), batch(1)[0], torch.tensor([0]))
    assert all(name in refused.value.message for name in METHODS)


def test_every_method_has_a_paper_and_a_docstring_that_names_it() -> None:
    for name, function in methods._FUNCTIONS.items():
        assert METHODS[name].paper in " ".join((function.__doc__ or "").split())
    assert set(methods._FUNCTIONS) == set(METHODS)


def test_a_layer_is_taken_by_grad_cam_alone() -> None:
    for name in set(METHODS) - {"grad-cam"}:
        with pytest.raises(InputError, match="takes no layer"):
            methods.attribute(name, trained(vit), batch(1)[0], torch.tensor([0]), layer="x")
    with pytest.raises(SplitError, match="name one of"):
        methods.attribute("grad-cam", trained(vit), batch(1)[0], torch.tensor([0]), layer="nowhere")
    parts = split(trained(vit), probe=batch(1)[0])
    with pytest.raises(ModelError, match="pass the network itself"):
        methods.grad_cam(parts, batch(1)[0], torch.tensor([0]), layer="vit.layers.0.layernorm_before")


@pytest.mark.parametrize("name", METHODS)
def test_a_network_in_training_mode_is_refused(name: str) -> None:
    with pytest.raises(ModelError, match="training mode"):
        methods.attribute(name, trained(vit).train(), batch(1)[0], torch.tensor([0]))


@pytest.mark.parametrize(
    "target", [torch.tensor([3]), torch.tensor([-1]), torch.tensor([0, 1]), torch.tensor([0.5]), None]
)
def test_a_class_that_there_is_not_is_refused(target: Tensor) -> None:
    for name in METHODS:
        with pytest.raises(ModelError):
            methods.attribute(name, trained(vit), batch(1)[0], target)


@pytest.mark.parametrize("shape", [(1, 48, 48), (0, 1, 48, 48)])
def test_what_is_no_batch_is_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ModelError, match="a batch has the shape"):
        methods.saliency(trained(vit), torch.zeros(shape), torch.tensor([0]))


@pytest.mark.parametrize("name", GRADIENTS)
def test_a_network_without_gradient_is_told_what_needs_none(name: str) -> None:
    class Thresholds(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return (x > 0).float().sum(dim=(2, 3)).repeat(1, 2)

    x, target = images(1, 1, 8, 8), torch.tensor([1])
    with pytest.raises(ModelError, match="choose occlusion"):
        methods.attribute(name, Thresholds().eval(), x, target)
    assert methods.attribute("occlusion", Thresholds().eval(), x, target).maps.max() > 0


def test_a_split_by_hand_is_explained_without_its_network() -> None:
    trunk, head = nn.Conv2d(1, 2, 3), nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(2, 3))
    parts, x, target = Split.of(trunk.eval(), head.eval()), images(2, 1, 9, 9), torch.tensor([1, 2])
    expected = LayerGradCam(nn.Sequential(trunk, head), trunk).attribute(x, target=target)[:, 0].detach()
    assert torch.allclose(methods.attribute("grad-cam", parts, x, target).maps, expected, atol=1e-6)
    assert methods.attribute("integrated-gradients", parts, x, target).maps.shape == (2, 9, 9)


def test_captum_is_loaded_when_it_is_used_and_not_before() -> None:
    program = "import sys, traceai.explain.methods, traceai.cli.commands; sys.exit('captum' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0
