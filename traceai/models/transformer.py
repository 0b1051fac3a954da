"""A classifier around a vision transformer of transformers: what it reads of the last layer's tokens is chosen here."""

from typing import Any

from torch import Tensor, nn

from traceai.explain.tokens import TokenReadout


class TokenClassifier(nn.Module):
    """`backbone`, then one linear layer on its class token, on the mean of its patch tokens, or on both.

    Args:
        backbone: a ViT or DINOv2 of transformers, whose output has `last_hidden_state` (N, P + L, D).
        classes: how many logits.
        pooling: "class", "mean" or "class+mean".
    """

    def __init__(self, backbone: Any, classes: int, pooling: str) -> None:
        super().__init__()
        self.backbone = backbone
        width = backbone.config.hidden_size * (1 + (pooling == "class+mean"))
        prefix = 1 + getattr(backbone.config, "num_register_tokens", 0)
        self.readout = TokenReadout(nn.Linear(width, classes), pooling, prefix)

    def forward(self, batch: Tensor) -> Tensor:
        logits: Tensor = self.readout(self.backbone(batch).last_hidden_state)
        return logits
