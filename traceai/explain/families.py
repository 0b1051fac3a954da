"""Networks of transformers that are split by what is known of them: where each can be cut, and where best.

A layer is called as `module.named_modules()` calls it, so that captum, given that module, explains the same layer.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from traceai.errors import SplitError
from traceai.explain.tokens import (
    Block,
    FromMap,
    Step,
    SwinEmbedding,
    SwinStep,
    TokenHead,
    TokenReadout,
    TokenTrunk,
    as_tokens,
)

Parts = tuple[nn.Module, nn.Module]


@dataclass(frozen=True, slots=True)
class Chain:
    """Every layer at which a network can be cut.

    Attributes:
        cuts: trunk and head by the layer's name, first layer first; made when asked for.
        default: the layer explained where none is named.
        alias: another name for the default layer, used in records made before layers had names of their own.
    """

    cuts: Mapping[str, Callable[[], Parts]]
    default: str
    alias: str | None = None

    def cut(self, at: str | None) -> tuple[nn.Module, nn.Module, str]:
        """Trunk, head and the layer's name.

        Raises:
            SplitError: the network is not cut there.
        """
        name = self.default if at is None else at
        make = self.cuts.get(self.default if name == self.alias else name)
        if make is None:
            raise SplitError(
                f"this network is not cut at {name!r:.80}; name one of {', '.join(self.cuts)}, or give both parts with "
                "Split.of(trunk, head)"
            )
        return *make(), name


@dataclass(frozen=True, slots=True)
class Tail:
    """What follows the last features of a backbone.

    Attributes:
        classifier: reads pooled features and gives logits; None for a backbone on its own.
        rest: what is made of the output object of backbone or classifier; None where nothing is.
        pooling: what the classifier reads of tokens, see `TokenReadout`; None for feature maps.
    """

    classifier: nn.Module | None = None
    rest: nn.Module | None = None
    pooling: str | None = None

    def steps(self, readout: Callable[[nn.Module], list[nn.Module]], output: nn.Module) -> list[nn.Module]:
        """From features to logits: by the classifier's `readout`, or by the backbone's `output` object and the rest."""
        if self.classifier is None:
            return [output] if self.rest is None else [output, self.rest]
        steps = readout(self.classifier)
        return steps if self.rest is None else [*steps, _Logits(self.classifier), self.rest]


class Chained(nn.Sequential):
    """Modules one after the other, each left in the mode it is in; the first takes whatever is passed."""

    def __init__(self, steps: Iterable[nn.Module]) -> None:
        super().__init__(*steps)
        self.training = any(step.training for step in self)

    def forward(self, *features: Tensor) -> Any:
        first, *others = self
        result = first(*features)
        for step in others:
            result = step(result)
        return result


class _Mean(nn.Module):
    """Global average pooling of a map (N, D, h, w) or of tokens (N, L, D) -> (N, D)."""

    def __init__(self, backbone: nn.Module) -> None:
        super().__init__()
        self.training = backbone.training

    def forward(self, features: Tensor) -> Tensor:
        return features.mean(dim=1 if features.ndim == 3 else (2, 3))


class _ClassToken(nn.Module):
    """Tokens (N, P + L, D) -> the first of them (N, D)."""

    def __init__(self, backbone: nn.Module) -> None:
        super().__init__()
        self.training = backbone.training

    def forward(self, tokens: Tensor) -> Tensor:
        return tokens[:, 0]


class _Output(nn.Module):
    """The last features of a backbone -> what the backbone returns; a map becomes tokens first where it returns those."""

    def __init__(self, backbone: nn.Module, pool: nn.Module | None, *, flat: bool = False) -> None:
        super().__init__()
        self.training = backbone.training
        self.pool = pool
        self._flat = flat

    def forward(self, features: Tensor) -> Any:
        from transformers.modeling_outputs import BaseModelOutputWithPooling  # noqa: PLC0415 - takes seconds

        last = as_tokens(features) if self._flat else features
        pooled = None if self.pool is None else self.pool(last)
        return BaseModelOutputWithPooling(last_hidden_state=last, pooler_output=pooled)


class _Logits(nn.Module):
    """Logits -> what a classifier of transformers returns."""

    def __init__(self, classifier: nn.Module) -> None:
        super().__init__()
        self.training = classifier.training

    def forward(self, logits: Tensor) -> Any:
        from transformers.modeling_outputs import ImageClassifierOutput  # noqa: PLC0415 - takes seconds

        return ImageClassifierOutput(logits=logits)


def _maps(steps: Mapping[str, nn.Module], tail: list[nn.Module], alias: str | None = None) -> Chain:
    """A chain of maps, to be cut after any step, best after the last."""
    names, layers = list(steps), list(steps.values())

    def cut(position: int) -> Parts:
        return Chained(layers[: position + 1]), Chained([*layers[position + 1 :], *tail])

    return Chain({name: partial(cut, number) for number, name in enumerate(names)}, names[-1], alias)


def _resnet(backbone: Any, base: str, tail: Tail) -> Chain:
    steps = {f"{base}embedder": backbone.embedder}
    steps |= {f"{base}encoder.stages.{i}": stage for i, stage in enumerate(backbone.encoder.stages)}
    closing = tail.steps(lambda linear: [backbone.pooler, linear], _Output(backbone, backbone.pooler))
    return _maps(steps, closing, f"{base}encoder")


def _convnext(backbone: Any, base: str, tail: Tail) -> Chain:
    steps = {f"{base}embeddings": backbone.embeddings}
    steps |= {f"{base}encoder.stages.{i}": stage for i, stage in enumerate(backbone.encoder.stages)}
    output = _Output(backbone, Chained([_Mean(backbone), backbone.layernorm]))
    return _maps(steps, tail.steps(lambda linear: [_Mean(backbone), backbone.layernorm, linear], output))


def _swin(backbone: Any, base: str, tail: Tail) -> Chain:
    steps: dict[str, nn.Module] = {f"{base}embeddings": SwinEmbedding(backbone.embeddings)}
    steps |= {f"{base}encoder.layers.{i}": SwinStep(stage) for i, stage in enumerate(backbone.encoder.layers)}
    steps[f"{base}layernorm"] = Step(backbone.layernorm)
    output = _Output(backbone, None if backbone.pooler is None else _Mean(backbone), flat=True)
    return _maps(steps, tail.steps(_pooled, output))


def _vit(backbone: Any, base: str, tail: Tail) -> Chain:
    layers = {f"{base}layers.{i}.layernorm_before": layer for i, layer in enumerate(backbone.layers)}
    plain = nn.Identity().train(backbone.training)

    def block(layer: Any) -> tuple[nn.Module, Block]:
        return layer.layernorm_before, Block(layer.attention, layer.layernorm_after, layer.mlp, (plain, plain))

    output = _Output(backbone, backbone.pooler)
    return _tokens(backbone, base, tail, layers, block, output)


def _dinov2(backbone: Any, base: str, tail: Tail) -> Chain:
    layers = {f"{base}encoder.layer.{i}.norm1": layer for i, layer in enumerate(backbone.encoder.layer)}

    def block(layer: Any) -> tuple[nn.Module, Block]:
        return layer.norm1, Block(layer.attention, layer.norm2, layer.mlp, (layer.layer_scale1, layer.layer_scale2))

    return _tokens(backbone, base, tail, layers, block, _Output(backbone, _ClassToken(backbone)))


def _tokens(
    backbone: Any,
    base: str,
    tail: Tail,
    layers: Mapping[str, nn.Module],
    block: Callable[[nn.Module], tuple[nn.Module, Block]],
    output: nn.Module,
) -> Chain:
    """A chain of tokens: cut before any block's attention, or before the pooling where patch tokens are pooled.

    `block` gives the normalisation a block begins with, and the block from there.
    """
    prefix = 1 + getattr(backbone.config, "num_register_tokens", 0)
    size = backbone.embeddings.patch_embeddings.patch_size
    patch = (size, size) if isinstance(size, int) else tuple(size)
    blocks = list(layers.values())
    closing = Chained(tail.steps(lambda linear: [TokenReadout(linear, str(tail.pooling), prefix)], output))
    pooling = tail.pooling or _read_by(closing, backbone, prefix)
    trunk = partial(TokenTrunk, backbone.embeddings, prefix=prefix, patch=patch)

    def before_attention(position: int) -> Parts:
        norm, begun = block(blocks[position])
        after = blocks[position + 1 :]
        rows = 1 if pooling == "class" and not after else None
        return (
            trunk(blocks[:position], norm, keep_prefix=True, residual=True, rows=rows),
            TokenHead(begun, after, backbone.layernorm, closing),
        )

    def before_pooling() -> Parts:
        alone = pooling == "mean" and tail.classifier is not None
        head = Chained(tail.steps(_pooled, output)) if alone else FromMap(closing)
        return trunk(blocks, backbone.layernorm, keep_prefix=not alone, residual=False, rows=None), head

    cuts: dict[str, Callable[[], Parts]] = {
        name: partial(before_attention, number) for number, name in enumerate(layers)
    }
    last = f"{base}layernorm"
    if pooling != "class":
        cuts[last] = before_pooling
    return Chain(cuts, last if pooling == "mean" else list(layers)[-1])


def _pooled(classifier: nn.Module) -> list[nn.Module]:
    """Global average pooling and a linear layer, in the form that is recognised as linear in the map."""
    steps = [nn.AdaptiveAvgPool2d(1), nn.Flatten(), classifier]
    for step in steps[:-1]:
        step.training = classifier.training
    return steps


def _read_by(readout: nn.Module, backbone: Any, prefix: int) -> str:
    """What `readout` reads of tokens, see `TokenReadout`, found by where its gradient is not zero.

    A mistake goes nowhere: the split's logits are compared with the network's.
    """
    scale = backbone.layernorm.weight
    noise = torch.Generator().manual_seed(0)
    patches = backbone.embeddings.patch_embeddings.num_patches
    with torch.inference_mode(False), torch.enable_grad():
        tokens = torch.randn(1, prefix + patches, len(scale), generator=noise).to(scale).requires_grad_(True)
        try:
            output = readout(tokens)
            logits = getattr(output, "logits", output)
            weights = torch.randn(logits.shape, generator=noise).to(logits)
            (gradient,) = torch.autograd.grad((logits * weights).sum(), tokens)
        except (
            RuntimeError,
            TypeError,
            ValueError,
            AttributeError,
            IndexError,
        ):  # the split is refused where it is tried
            return "class+mean"
    read = gradient[0].abs().amax(dim=1) > 0
    if not read[1:].any():
        return "class"
    return "class+mean" if read[:prefix].any() else "mean"


_BACKBONES: dict[str, Callable[[Any, str, Tail], Chain]] = {
    "ResNetModel": _resnet,
    "ConvNextModel": _convnext,
    "ConvNextV2Model": _convnext,
    "SwinModel": _swin,
    "ViTModel": _vit,
    "Dinov2Model": _dinov2,
    "Dinov2WithRegistersModel": _dinov2,
}
# The name of the backbone in each classifier, and what the classifier reads of tokens.
_CLASSIFIERS = {
    "ResNetForImageClassification": ("resnet", None),
    "ConvNextForImageClassification": ("convnext", None),
    "ConvNextV2ForImageClassification": ("convnextv2", None),
    "SwinForImageClassification": ("swin", None),
    "ViTForImageClassification": ("vit", "class"),
    "Dinov2ForImageClassification": ("dinov2", "class+mean"),
    "Dinov2WithRegistersForImageClassification": ("dinov2_with_registers", "class+mean"),
}


def known(module: nn.Module) -> str | None:
    """The class of transformers that `module` is of, where that is one of those above; a subclass counts."""
    for kind in type(module).__mro__:
        if kind.__module__.startswith("transformers.models.") and kind.__name__ in {*_BACKBONES, *_CLASSIFIERS}:
            return kind.__name__
    return None


def chain(module: Any, rest: nn.Module | None = None, base: str = "") -> Chain | None:
    """The cuts of `module`, or None where nothing is known of it.

    Args:
        module: a classifier; with `rest`, a backbone as well.
        rest: makes the logits of the output object of `module`, for a network built around it.
        base: goes before every layer's name: where `module` lies in that network.
    """
    name = known(module)
    if name in _CLASSIFIERS:
        child, pooling = _CLASSIFIERS[name]
        backbone = getattr(module, child)
        return _BACKBONES[str(known(backbone))](backbone, f"{base}{child}.", Tail(module.classifier, rest, pooling))
    if name in _BACKBONES and rest is not None:
        return _BACKBONES[name](module, base, Tail(rest=rest))
    if isinstance(getattr(module, "readout", None), TokenReadout):
        tail = Tail(module.readout.classifier, rest, module.readout.pooling)
        return _BACKBONES[str(known(module.backbone))](module.backbone, f"{base}backbone.", tail)
    return None
