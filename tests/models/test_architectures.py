"""A network is its numbers and its seed."""

import pytest
import torch
from pydantic import ValidationError

from traceai.errors import ModelError
from traceai.explain import split
from traceai.models.architectures import ResidualNetwork, VisionTransformer, build, default

FIELDS = {"channels": 1, "height": 50, "width": 70, "embedding_size": 4, "hidden_sizes": (4, 8), "depths": (1, 1)}
TRANSFORMER = {
    "channels": 1, "height": 48, "width": 48, "patch_size": 8, "hidden_size": 16, "depth": 2, "heads": 2, "intermediate_size": 32,
}  # fmt: skip


@pytest.mark.parametrize(
    "changes", [{}, {"downsample_in_first_stage": True}, {"layer_type": "bottleneck"}, {"channels": 3}]
)
def test_the_grid_is_of_the_declared_shape(changes: dict[str, object]) -> None:
    architecture = ResidualNetwork.model_validate({**FIELDS, **changes})
    images = torch.zeros(1, architecture.channels, architecture.height, architecture.width)
    parts = split(build(architecture, ("good", "bad")), probe=images)
    assert parts.explain(images).grid.shape[1:] == architecture.grid_shape
    assert parts.linear is not None


def test_the_default_network_explains_on_fourteen_by_fourteen_cells() -> None:
    assert default().grid_shape == (14, 14)
    assert default(3, height=128, width=256).grid_shape == (8, 16)


def test_the_seed_decides_the_weights_and_nothing_else_does() -> None:
    architecture = ResidualNetwork.model_validate(FIELDS)
    torch.manual_seed(1)
    state = torch.get_rng_state()
    first, again, other = (build(architecture, ("good", "bad"), seed=seed).state_dict() for seed in (0, 0, 1))
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not torch.equal(first["classifier.1.weight"], other["classifier.1.weight"])


def test_an_architecture_survives_json() -> None:
    architecture = ResidualNetwork.model_validate(FIELDS)
    assert ResidualNetwork.model_validate_json(architecture.model_dump_json()) == architecture


@pytest.mark.parametrize(
    "changes",
    [
        {"depths": (1,)},
        {"hidden_sizes": (), "depths": ()},
        {"height": 8},
        {"channels": 2},
        {"embedding_size": 0},
        {"family": "vit"},
        {"unknown": 1},
    ],
)
def test_numbers_that_make_no_network_are_refused(changes: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        ResidualNetwork.model_validate({**FIELDS, **changes})


@pytest.mark.parametrize("classes", [(), ("good",), ("good", "good")])
def test_classes_that_cannot_be_told_apart_are_refused(classes: tuple[str, ...]) -> None:
    with pytest.raises(ModelError):
        build(ResidualNetwork.model_validate(FIELDS), classes)


@pytest.mark.parametrize(
    ("pooling", "linear", "layer"),
    [("mean", True, "backbone.layernorm"), ("class", False, "vit.layers.1.layernorm_before")],
)
def test_a_transformer_explains_on_its_patches(pooling: str, linear: bool, layer: str) -> None:
    architecture = VisionTransformer.model_validate({**TRANSFORMER, "pooling": pooling})
    images = torch.randn(1, 1, 48, 48)
    module = build(architecture, ("good", "bad", "worse"), seed=1)
    parts = split(module, probe=images)
    assert parts.explain(images).grid.shape[1:] == architecture.grid_shape == (6, 6)
    assert (parts.linear is not None) is linear
    assert parts.layer == layer
    again = build(architecture, ("good", "bad", "worse"), seed=1).state_dict()
    assert all(torch.equal(tensor, again[name]) for name, tensor in module.state_dict().items())


@pytest.mark.parametrize(
    "changes", [{"width": 56}, {"patch_size": 7}, {"heads": 3}, {"patch_size": 48}, {"pooling": "max"}, {"depth": 0}]
)
def test_numbers_that_make_no_transformer_are_refused(changes: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        VisionTransformer.model_validate({**TRANSFORMER, **changes})
