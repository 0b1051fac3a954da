"""Attention rollout against a product by hand, and against the attention that transformers gives out."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from tests.explain.networks import (
    batch,
    dinov2,
    dinov2_class,
    dinov2_registers,
    dinov2_registers_class,
    own_dinov2,
    own_scaled,
    own_vit_class,
    own_vit_mean,
    own_vit_pooler,
    resnet,
    swin,
    trained,
    vit,
    vit_mean,
)
from traceai.errors import ModelError
from traceai.explain import methods, split
from traceai.explain.families import known
from traceai.explain.rollout import rolled_out

# Prefix tokens, and which last tokens the head reads: the class token, the patches, or both.
NETWORKS: dict[Callable[[], nn.Module], tuple[int, str]] = {
    vit: (1, "class"),
    vit_mean: (1, "mean"),
    dinov2: (1, "class+mean"),
    dinov2_class: (1, "class"),
    dinov2_registers: (3, "class+mean"),
    dinov2_registers_class: (3, "class"),
    own_vit_mean: (1, "mean"),
    own_vit_class: (1, "class"),
    own_vit_pooler: (1, "class"),
    own_dinov2: (3, "class"),
    own_scaled: (1, "class"),
}


def test_two_layers_by_hand() -> None:
    first = torch.tensor([[[1.0, 0.0], [0.0, 1.0]], [[0.0, 1.0], [0.5, 0.5]]])  # two heads
    second = torch.tensor([[[0.2, 0.8], [0.6, 0.4]]])
    # Mean of the heads [[.5, .5], [.25, .75]], with the residual [[.75, .25], [.125, .875]].
    # Second with the residual [[.6, .4], [.3, .7]].
    expected = torch.tensor(
        [
            [0.6 * 0.75 + 0.4 * 0.125, 0.6 * 0.25 + 0.4 * 0.875],
            [0.3 * 0.75 + 0.7 * 0.125, 0.3 * 0.25 + 0.7 * 0.875],
        ]
    )
    assert torch.allclose(rolled_out([first, second]), expected)


def attention_of_transformers(network: nn.Module, x: Tensor) -> list[Tensor]:
    """(heads, T, T) of each layer, as the backbone gives it out; `network` is the test's own copy."""
    backbone = next(
        part for part in network.modules() if known(part) in ("ViTModel", "Dinov2Model", "Dinov2WithRegistersModel")
    )
    backbone.set_attn_implementation("eager")
    with torch.no_grad():
        return [attention[0] for attention in backbone(x, output_attentions=True).attentions]


@pytest.mark.parametrize("make", NETWORKS)
def test_a_map_is_the_rows_that_the_head_reads_of_the_product_of_transformers_attention(
    make: Callable[[], nn.Module],
) -> None:
    network, (x, _) = trained(make), batch(2)
    prefix, read = NETWORKS[make]
    found = methods.attention_rollout(network, x, torch.tensor([0, 1]))
    for image, grid in zip(x, found, strict=True):
        prepared = (image[None] - 0.1) / 0.9 if make.__name__.startswith("own") else image[None]
        product = torch.eye(36 + prefix)
        for attention in attention_of_transformers(trained(make), prepared):
            product = (attention.mean(0) + torch.eye(36 + prefix)) / 2 @ product
        rows = [product[0]] * ("class" in read) + [product[prefix:].mean(0)] * ("mean" in read)
        expected = (sum(rows) / len(rows))[prefix:].reshape(6, 6)
        assert torch.allclose(grid, expected, atol=1e-6)


def test_it_is_not_negative_sums_to_less_than_one_and_is_the_same_for_every_class() -> None:
    network, (x, _) = trained(dinov2_registers), batch(2)
    found = methods.attention_rollout(network, x, torch.tensor([0, 1]))
    assert (found >= 0).all()
    assert (found.sum(dim=(1, 2)) < 1).all()
    assert torch.equal(found, methods.attention_rollout(network, x, torch.tensor([2, 2])))


def test_an_input_that_is_not_square_keeps_its_shape() -> None:
    class Wide(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net = trained(vit)

        def forward(self, x: Tensor) -> Tensor:
            return self.net(x, interpolate_pos_encoding=True).logits

    x = torch.zeros(1, 1, 32, 64)
    x[:, :, :, 40:] = 2.0
    assert methods.attention_rollout(Wide().eval(), x, torch.tensor([0])).shape == (1, 4, 8)


@pytest.mark.parametrize("make", [resnet, swin])
def test_a_network_whose_tokens_do_not_all_attend_to_each_other_is_refused(make: Callable[[], nn.Module]) -> None:
    with pytest.raises(ModelError, match="needs one ViT or DINOv2"):
        methods.attention_rollout(trained(make), batch(1)[0], torch.tensor([0]))


def test_a_split_is_not_enough() -> None:
    x = batch(1)[0]
    with pytest.raises(ModelError, match="pass the network itself"):
        methods.attention_rollout(split(trained(vit), probe=x), x, torch.tensor([0]))


def test_logits_that_do_not_read_the_last_tokens_are_refused() -> None:
    class Aside(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net = trained(vit)

        def forward(self, x: Tensor) -> Tensor:
            return self.net(x, output_hidden_states=True).hidden_states[0][:, 0, :3]

    with pytest.raises(ModelError, match="do not depend on the transformer's last tokens"):
        methods.attention_rollout(Aside().eval(), batch(1)[0], torch.tensor([0]))


def test_a_transformer_that_runs_twice_is_refused() -> None:
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net = trained(vit)

        def forward(self, x: Tensor) -> Tensor:
            return self.net(x).logits + self.net(x.flip(3)).logits

    with pytest.raises(ModelError, match="does not run its transformer once"):
        methods.attention_rollout(Twice().eval(), batch(1)[0], torch.tensor([0]))
