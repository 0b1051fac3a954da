"""Every family as ONNX, at the layer it is explained at and at an earlier one: torch's logits, target and grid."""

import logging
import warnings
from collections.abc import Callable

import numpy as np
import onnx_ir as ir
import onnxruntime
import pytest
import torch
from torch import nn

from tests.explain import networks
from tests.explain.networks import FAMILIES, batch, trained
from traceai.edge.network import network
from traceai.errors import ExportError
from traceai.explain.splitting import Split, split
from traceai.explain.tracing import layers

Make = Callable[[], nn.Module]
DEFECTS = [1, 2]


def agrees(parts: Split, images: torch.Tensor, among: list[int]) -> None:
    model = network(parts, among, tuple(images.shape[1:]))
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = 1, 3
    session = onnxruntime.InferenceSession(
        ir.to_proto(model).SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    for image in images:
        logits, target, grid, *bias = session.run(None, {session.get_inputs()[0].name: image[None].numpy()})
        expected = parts.explain(image[None], among=among)
        np.testing.assert_allclose(logits, expected.logits, atol=1e-5)
        np.testing.assert_array_equal(target, expected.target)
        np.testing.assert_allclose(grid, expected.grid, atol=1e-6)
        assert expected.grid.abs().max() > 1e-4  # nothing is compared to nothing
        assert (expected.bias is None) == (not bias)
        if expected.bias is not None:
            np.testing.assert_allclose(bias[0], expected.bias, atol=1e-6)


@pytest.mark.parametrize("make", FAMILIES, ids=lambda make: make.__name__)
def test_a_family_at_its_own_layer(make: Make) -> None:
    agrees(split(trained(make), probe=batch(2, seed=99)[0]), batch(3)[0], DEFECTS)


@pytest.mark.parametrize(
    "make", [networks.resnet, networks.convnext, networks.vit, networks.swin], ids=lambda m: m.__name__
)
def test_a_family_at_its_first_layer(make: Make) -> None:
    """The longest way back: convolutions, pooling and attention among it."""
    module = trained(make)
    names = layers(module)
    assert names
    agrees(split(module, names[0], probe=batch(2, seed=99)[0]), batch(2)[0], DEFECTS)


def test_a_traced_network_and_all_its_classes() -> None:
    agrees(split(trained(networks.PlainNet), "body", probe=batch(2)[0]), batch(3)[0], [0, 1, 2])


def pooled() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(1, 8, 3, padding=1), nn.ReLU(), nn.AvgPool2d(2), nn.Conv2d(8, 8, 3), nn.ReLU(),
        nn.AvgPool2d((3, 2), stride=(2, 3), padding=1), nn.Conv2d(8, 8, 1), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(),
        nn.Linear(8, 3),
    )  # fmt: skip


def test_a_head_that_averages_windows() -> None:
    agrees(split(trained(pooled), "1", probe=batch(2)[0]), batch(3)[0], DEFECTS)


def test_windows_of_different_sizes_are_refused() -> None:
    module = trained(pooled)
    assert isinstance(module, nn.Sequential)
    module[5].count_include_pad = False
    with pytest.raises(ExportError, match="average pooling in the head whose windows differ in size"):
        network(split(module, "1", probe=batch(2)[0]), DEFECTS, (1, networks.SIDE, networks.SIDE))


def test_a_network_without_a_counterpart_is_refused_in_a_sentence() -> None:
    parts = split(trained(networks.with_hidden_layer), "4", probe=batch(2)[0])
    with pytest.raises(
        ExportError, match=r"^This network .* no operation for aten._adaptive_avg_pool2d_backward\); .*\.$"
    ) as found:
        network(parts, DEFECTS, (1, networks.SIDE, networks.SIDE))
    assert len(found.value.message) < 300
    assert "\n" not in found.value.message


def test_exporting_says_nothing_and_leaves_the_network_as_it_was(capfd: pytest.CaptureFixture[str]) -> None:
    module = trained(networks.vit)
    filters, levels = (
        list(warnings.filters),
        [logging.getLogger(name).level for name in ("torch", "onnxscript", "onnx_ir")],
    )
    before = {name: value.clone() for name, value in module.state_dict().items()}
    network(split(module, probe=batch(2)[0]), DEFECTS, (1, networks.SIDE, networks.SIDE))
    assert capfd.readouterr() == ("", "")
    assert warnings.filters == filters
    assert [logging.getLogger(name).level for name in ("torch", "onnxscript", "onnx_ir")] == levels
    assert logging.root.manager.disable == logging.NOTSET
    assert all(torch.equal(value, before[name]) for name, value in module.state_dict().items())
    assert not any(part.training for part in module.modules())
    assert not any(part._forward_hooks or part._forward_pre_hooks for part in module.modules())
