"""Vision transformers as feature maps: patch tokens in, patch tokens out, and the last block only where it is read.

Grad-CAM needs a map `A` (N, D, h, w) and the gradient of a logit with respect to it. In a transformer, `A` is the normalised
patch tokens that enter a block's attention: beyond them, a class token sees the patches through keys and values alone, so
one gradient tells how each patch argues. What else the head reads, the class token and registers after the same
normalisation and the residual stream before it, goes beside the map and is held fixed.

This is what captum computes. Let `n = norm(x)` be the block's input (N, P + L, D) with P prefix tokens, and let an adapter
in its place give `cat(n[:, :P], tokens(tap(map(n[:, P:]))))`, `tap` being the identity and `map` the reshaping (N, L, D)
-> (N, D, h, w). The network is unchanged, and `LayerGradCam(model, tap)` weighs the channels of `tap`'s output by the
spatial mean of `dy/dtap`. All paths from the patch tokens to the logit that pass through `n` pass through `tap`; the residual
path `x` does not, and neither does it pass through `map` here. So both gradients are the same function of the same numbers.

Where the logits read only the class token of the last block, its other rows are never computed: queries, attention, the
output projection and the MLP run for one row of P + L. Keys and values see every token, so that row is exactly the network's.
"""

from typing import Any

import torch.nn.functional as F
from torch import Tensor, cat, nn


def as_map(tokens: Tensor, grid: tuple[int, int]) -> Tensor:
    """Patch tokens (N, h w, D) as a map (N, D, h, w), a view; inverse of `as_tokens`."""
    return tokens.transpose(1, 2).reshape(len(tokens), tokens.shape[2], *grid)


def as_tokens(features: Tensor) -> Tensor:
    """A map (N, D, h, w) as patch tokens (N, h w, D), row by row."""
    return features.flatten(2).transpose(1, 2)


class Step(nn.Module):
    """A layer of tokens as one of maps, (N, D, h, w) -> (N, D, h, w)."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer
        self.training = layer.training

    def forward(self, features: Tensor) -> Tensor:
        grid = (features.shape[2], features.shape[3])
        return as_map(self.layer(as_tokens(features)), grid)


class SwinEmbedding(nn.Module):
    """A Swin transformer's patch embedding as a map: (N, c, H, W) -> (N, D, h, w)."""

    def __init__(self, embeddings: nn.Module) -> None:
        super().__init__()
        self.embeddings = embeddings
        self.training = embeddings.training

    def forward(self, batch: Tensor) -> Tensor:
        tokens, grid = self.embeddings(batch)
        return as_map(tokens, grid)


class SwinStep(nn.Module):
    """A stage of a Swin transformer as one of maps; every stage but the last halves the grid, rounding up."""

    def __init__(self, stage: nn.Module) -> None:
        super().__init__()
        self.stage = stage
        self.training = stage.training

    def forward(self, features: Tensor) -> Tensor:
        height, width = features.shape[2:]
        tokens = self.stage(as_tokens(features), (height, width))[0]
        if self.stage.downsample is not None:
            height, width = (height + 1) // 2, (width + 1) // 2
        return as_map(tokens, (height, width))


class TokenTrunk(nn.Module):
    """(N, c, H, W) -> the normalised patch tokens as a map (N, D, h, w), and what the head reads beside them.

    Beside the map come, for a head that has them: the prefix tokens after the same normalisation (N, P, D), and the residual
    stream before it, (N, R, D): the first `rows` tokens, or all of them where None.
    """

    def __init__(
        self,
        embeddings: nn.Module,
        layers: list[nn.Module],
        norm: nn.Module,
        *,
        prefix: int,
        patch: tuple[int, int],
        keep_prefix: bool,
        residual: bool,
        rows: int | None,
    ) -> None:
        super().__init__()
        self.embeddings = embeddings
        self.layers = nn.ModuleList(layers)
        self.layers.training = norm.training
        self.norm = norm
        self._prefix = prefix
        self._patch = patch
        self._keep_prefix = keep_prefix
        self._residual = residual
        self._rows = rows
        self.training = norm.training

    def forward(self, batch: Tensor) -> Tensor | tuple[Tensor, ...]:
        grid = (batch.shape[2] // self._patch[0], batch.shape[3] // self._patch[1])
        tokens = self.embeddings(batch)
        for layer in self.layers:
            tokens = layer(tokens, None)
        normalised = self.norm(tokens)
        features = as_map(normalised[:, self._prefix :], grid)
        beside = []
        if self._keep_prefix:
            beside.append(normalised[:, : self._prefix])
        if self._residual:
            beside.append(tokens[:, : self._rows])
        return (features, *beside) if beside else features


class Block(nn.Module):
    """A pre-norm block from the point where its input is normalised: attention, MLP and both residual additions.

    `(N, L, D)` normalised tokens and the first R rows of the residual stream -> the first R rows of the block's output. Written for
    the blocks of transformers' ViT and DINOv2, whose own modules it calls, so parameters are shared.

    Attributes:
        scales: after attention and after the MLP, `LayerScale` or the identity.
    """

    def __init__(
        self, attention: nn.Module, norm: nn.Module, mlp: nn.Module, scales: tuple[nn.Module, nn.Module]
    ) -> None:
        super().__init__()
        self.attention = attention
        self.norm = norm
        self.mlp = mlp
        self.attention_scale, self.mlp_scale = scales
        self.training = norm.training

    def forward(self, tokens: Tensor, residual: Tensor) -> Tensor:
        attention: Any = self.attention
        rows = residual.shape[1]

        def heads(projected: Tensor) -> Tensor:
            return projected.reshape(*projected.shape[:2], -1, attention.head_dim).transpose(1, 2)

        seen = F.scaled_dot_product_attention(
            heads(attention.q_proj(tokens[:, :rows])),
            heads(attention.k_proj(tokens)),
            heads(attention.v_proj(tokens)),
            scale=attention.scaling,
        )
        hidden = residual + self.attention_scale(attention.o_proj(seen.transpose(1, 2).flatten(2)))
        result: Tensor = hidden + self.mlp_scale(self.mlp(self.norm(hidden)))
        return result


class TokenHead(nn.Module):
    """From the normalised input of a block to the logits: that block, those after it, the last norm and the readout."""

    def __init__(self, block: Block, layers: list[nn.Module], norm: nn.Module, readout: nn.Module) -> None:
        super().__init__()
        self.block = block
        self.layers = nn.ModuleList(layers)
        self.layers.training = norm.training
        self.norm = norm
        self.readout = readout
        self.training = norm.training

    def forward(self, features: Tensor, prefix: Tensor, residual: Tensor) -> Tensor:
        tokens = self.block(cat((prefix, as_tokens(features)), dim=1), residual)
        for layer in self.layers:
            tokens = layer(tokens, None)
        logits: Tensor = self.readout(self.norm(tokens))
        return logits


class FromMap(nn.Module):
    """A readout of tokens (N, P + L, D) as a head of a map and its prefix."""

    def __init__(self, readout: nn.Module) -> None:
        super().__init__()
        self.readout = readout
        self.training = readout.training

    def forward(self, features: Tensor, prefix: Tensor) -> Tensor:
        logits: Tensor = self.readout(cat((prefix, as_tokens(features)), dim=1))
        return logits


class TokenReadout(nn.Module):
    """Tokens (N, P + L, D) after the last norm -> logits.

    Attributes:
        pooling: "class" reads the class token, "mean" the mean of the patch tokens, "class+mean" both, in that order.
        prefix: P, the class token and the registers.
    """

    def __init__(self, classifier: nn.Module, pooling: str, prefix: int) -> None:
        super().__init__()
        self.classifier = classifier
        self.pooling = pooling
        self.prefix = prefix
        self.training = classifier.training

    def forward(self, tokens: Tensor) -> Tensor:
        read = []
        if "class" in self.pooling:
            read.append(tokens[:, 0])
        if "mean" in self.pooling:
            read.append(tokens[:, self.prefix :].mean(dim=1))
        logits: Tensor = self.classifier(cat(read, dim=1))
        return logits
