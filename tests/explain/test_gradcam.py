"""The single-pass explanation against captum, the reference, on trained weights."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from captum.attr import LayerGradCam
from torch import Tensor, nn

from tests.explain.networks import CLASSES, SIDE, PlainNet, batch, resnet, trained, with_hidden_layer
from traceai.errors import ModelError, SplitError
from traceai.explain import Split, split
from traceai.explain.gradcam import HeadPass


def _probe() -> Tensor:
    return batch(2, seed=99)[0]


def _resnet() -> tuple[nn.Module, Split, nn.Module]:
    module = trained(resnet)
    return module, split(module, probe=_probe()), module.resnet.encoder.stages[-1]


def _plain() -> tuple[nn.Module, Split, nn.Module]:
    module = trained(PlainNet)
    return module, split(module, "body", probe=_probe()), module.body


def _hidden() -> tuple[nn.Module, Split, nn.Module]:
    module = trained(with_hidden_layer)
    return module, split(module, "3", probe=_probe()), module[3]


FAMILIES = pytest.mark.parametrize("family", [_resnet, _plain, _hidden])
Family = Callable[[], tuple[nn.Module, Split, nn.Module]]


def _captum(module: nn.Module, layer: nn.Module, images: Tensor, target: Tensor) -> Tensor:
    def logits(x: Tensor) -> Tensor:
        output = module(x)
        return getattr(output, "logits", output)

    return LayerGradCam(logits, layer).attribute(images, target=target, relu_attributions=False)[:, 0].detach()


@FAMILIES
def test_grid_is_captums_for_every_class(family: Family) -> None:
    module, parts, layer = family()
    images, _ = batch()
    for target in range(len(CLASSES)):
        expected = _captum(module, layer, images, torch.full((len(images),), target))
        grid = parts.explain(images, target).grid
        assert grid.shape == expected.shape
        assert expected.abs().max() > 0.01  # nothing is compared to nothing
        assert (grid - expected).abs().max() < 1e-5


@FAMILIES
def test_logits_are_the_networks_own(family: Family) -> None:
    module, parts, _ = family()
    images, _ = batch()
    with torch.no_grad():
        output = module(images)
    assert torch.equal(parts.explain(images).logits, getattr(output, "logits", output))


@FAMILIES
def test_target_is_the_arg_max_unless_given(family: Family) -> None:
    _, parts, _ = family()
    images, _ = batch()
    result = parts.explain(images)
    assert torch.equal(result.target, result.logits.argmax(dim=1))
    assert torch.equal(parts.explain(images, result.target).grid, result.grid)
    each = torch.tensor([0, 1, 2, 0, 1, 2])
    mixed = parts.explain(images, each).grid
    for number in range(len(CLASSES)):
        torch.testing.assert_close(mixed[each == number], parts.explain(images, number).grid[each == number])


@FAMILIES
def test_target_among_some_classes_is_their_best(family: Family) -> None:
    _, parts, _ = family()
    result = parts.explain(batch()[0], among=[2, 1])
    assert torch.equal(result.target, result.logits[:, 1:].argmax(dim=1) + 1)


@FAMILIES
def test_all_grids_are_the_grids_of_each_class(family: Family) -> None:
    _, parts, _ = family()
    images, _ = batch()
    everything = parts.all_grids(images)
    assert everything.grids.shape[:2] == (len(images), len(CLASSES))
    for target in range(len(CLASSES)):
        torch.testing.assert_close(everything.grids[:, target], parts.explain(images, target).grid)


@pytest.mark.parametrize("family", [_resnet, _plain])
def test_closed_form_is_the_gradients_answer(family: Family) -> None:
    _, parts, _ = family()
    assert parts.linear is not None
    images, _ = batch()
    result = parts.explain(images)
    with torch.no_grad():
        features = parts.trunk(images)
    by_gradient = HeadPass(parts.head, features).grid(result.target)
    assert (result.grid - by_gradient).abs().max() < 1e-6


@pytest.mark.parametrize("family", [_resnet, _plain])
def test_linear_grid_and_bias_sum_to_the_logit(family: Family) -> None:
    _, parts, _ = family()
    result = parts.explain(batch()[0])
    assert result.bias is not None
    assert result.residual is not None
    total = result.grid.sum(dim=(1, 2)) + result.bias
    torch.testing.assert_close(total, result.logits.gather(1, result.target[:, None])[:, 0])
    assert result.residual.abs().max() < 1e-5


def test_a_head_that_is_not_linear_has_no_residual() -> None:
    _, parts, _ = _hidden()
    result = parts.explain(batch()[0])
    assert result.bias is None
    assert result.residual is None


@FAMILIES
def test_frozen_parameters_make_no_difference(family: Family) -> None:
    module, parts, _ = family()
    images, _ = batch()
    before = parts.explain(images)
    module.requires_grad_(False)
    assert torch.equal(parts.explain(images).grid, before.grid)


@FAMILIES
def test_no_parameter_gradient_is_touched(family: Family) -> None:
    module, parts, _ = family()
    module.zero_grad(set_to_none=True)
    parts.explain(batch()[0])
    parts.all_grids(batch()[0])
    assert all(parameter.grad is None for parameter in module.parameters())


@FAMILIES
def test_a_callers_inference_mode_makes_no_difference(family: Family) -> None:
    _, parts, _ = family()
    images, _ = batch()
    expected = parts.explain(images).grid
    with torch.inference_mode():
        assert torch.equal(parts.explain(images).grid, expected)


@FAMILIES
def test_results_are_ordinary_tensors(family: Family) -> None:
    _, parts, _ = family()
    result = parts.explain(batch()[0])
    for tensor in (result.logits, result.grid, result.embedding):
        assert not tensor.is_inference()
        assert not tensor.requires_grad
    assert result.embedding.shape == (6, 8)


@FAMILIES
def test_eight_threads_see_what_one_sees(family: Family) -> None:
    _, parts, _ = family()
    images = [batch(3, seed=number)[0] for number in range(10)]
    serial = [parts.explain(one) for one in images]
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with ThreadPoolExecutor(8) as pool:
            threaded = list(pool.map(lambda number: parts.explain(images[number % 10]), range(200)))
    finally:
        torch.set_num_threads(before)
    for number, result in enumerate(threaded):
        torch.testing.assert_close(result.logits, serial[number % 10].logits, rtol=0, atol=1e-6)
        torch.testing.assert_close(result.grid, serial[number % 10].grid, rtol=0, atol=1e-6)


@FAMILIES
def test_training_mode_is_refused_even_after_the_split(family: Family) -> None:
    module, parts, _ = family()
    module.train()
    with pytest.raises(SplitError, match=r"module\.eval\(\)"):
        parts.explain(batch()[0])


@pytest.mark.parametrize("target", [3, -1, [0, 1], 1.0, torch.tensor([[0]])])
def test_targets_that_do_not_exist_are_refused(target: object) -> None:
    _, parts, _ = _plain()
    with pytest.raises(ModelError):
        parts.explain(batch()[0], target)  # type: ignore[arg-type]  # wrong on purpose


@pytest.mark.parametrize("among", [[], [3], [-1]])
def test_candidates_that_do_not_exist_are_refused(among: list[int]) -> None:
    _, parts, _ = _plain()
    with pytest.raises(ModelError):
        parts.explain(batch()[0], among=among)


def test_a_map_of_one_cell_is_refused() -> None:
    _, parts, _ = _plain()
    with pytest.raises(SplitError, match="single cell"):
        parts.explain(torch.zeros(1, 1, SIDE // 6, SIDE // 6))
