"""A network split into a trunk and a head, so that one forward pass yields both the decision and its Grad-CAM."""

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from traceai.errors import ModelError, SplitError
from traceai.explain.families import known
from traceai.explain.gradcam import (
    ClassGrids,
    Explanation,
    HeadPass,
    linear_grid,
    linear_grids,
    logits_of,
    single,
    uncached_autocast,
)
from traceai.explain.tracing import candidates, cut, first_convolution, layers, pooled_linear

_TOLERANCE = 1e-5


@dataclass(frozen=True, slots=True)
class Split:
    """A trunk (image -> feature map) and a head (feature map -> logits) of one network.

    Holds no state of its own and installs no hooks: any number of threads may call `explain` at the same time.
    Parameters are shared with the network it was made from, never copied.

    Attributes:
        trunk: (N, c, H, W) -> (N, D, h, w), or a tuple of that and of tensors that the head reads beside it, which are not
            explained; run without gradients.
        head: (N, D, h, w), and what the trunk gave beside it -> (N, C).
        layer: the name of the trunk's last layer, as it is recorded.
        linear: the head's last layer where the head is global average pooling and a linear layer, else None.
    """

    trunk: nn.Module
    head: nn.Module
    layer: str
    linear: nn.Linear | None

    @classmethod
    def of(cls, trunk: nn.Module, head: nn.Module, *, layer: str = "trunk") -> "Split":
        """A split given by hand, for a network that cannot be cut by name.

        `head(trunk(batch))` must be the network; nothing here can check that it is.
        """
        return cls(trunk=trunk, head=head, layer=layer, linear=pooled_linear(head))

    def logits(self, batch: Tensor) -> Tensor:
        """(N, C), without an explanation; of the precision that `explain` gives."""
        features, *beside = self._features(batch)
        with torch.inference_mode(False), torch.no_grad(), uncached_autocast(batch.device):
            return single(logits_of(self.head(features, *beside))).clone()

    def explain(
        self, batch: Tensor, target: int | Tensor | Sequence[int] | None = None, *, among: Sequence[int] | None = None
    ) -> Explanation:
        """Logits and signed Grad-CAM of `batch` from one forward pass.

        Under autocast trunk and head run in its precision, and what is made of their output does not.

        Args:
            batch: (N, c, H, W) floating point, preprocessed, in any memory format.
            target: the class to explain, one for all samples or one each; the arg-max where none is given.
            among: the classes the arg-max is taken over (for instance the defect types); all where none are given.

        Raises:
            SplitError: the network is in training mode, or its feature map has no spatial extent.
            ModelError: a target class the network does not have.
        """
        features, *beside = self._features(batch)
        # Outside any inference mode of the caller's, so that the results are ordinary tensors.
        with torch.inference_mode(False), torch.no_grad():
            embedding = single(features).mean(dim=(2, 3))
            if self.linear is None:
                head_pass = HeadPass(self.head, features, *beside)
                logits = head_pass.logits
                chosen = checked_target(logits, target, among)
                return Explanation(logits, chosen, head_pass.grid(chosen), embedding, None, None)
            with uncached_autocast(batch.device):
                logits = single(logits_of(self.head(features)))
            chosen = checked_target(logits, target, among)
            with torch.autocast(batch.device.type, enabled=False):
                grid = linear_grid(single(features), single(self.linear.weight), chosen)
                bias = torch.zeros_like(logits[:, 0]) if self.linear.bias is None else single(self.linear.bias[chosen])
                residual = grid.sum(dim=(1, 2)) + bias - logits.gather(1, chosen[:, None])[:, 0]
            return Explanation(logits, chosen, grid, embedding, bias, residual)

    def all_grids(self, batch: Tensor) -> ClassGrids:
        """The grid of every class: closed form for linear heads, else one backward pass of the head per class."""
        features, *beside = self._features(batch)
        with torch.inference_mode(False), torch.no_grad():
            if self.linear is not None:
                with uncached_autocast(batch.device):
                    logits = single(logits_of(self.head(features)))
                with torch.autocast(batch.device.type, enabled=False):
                    return ClassGrids(logits, linear_grids(single(features), single(self.linear.weight)))
            head_pass = HeadPass(self.head, features, *beside)
            count, classes = head_pass.logits.shape
            grids = [
                head_pass.grid(torch.full((count,), k, device=features.device), last=k == classes - 1)
                for k in range(classes)
            ]
            return ClassGrids(head_pass.logits, torch.stack(grids, dim=1))

    def _features(self, batch: Tensor) -> tuple[Tensor, ...]:
        """The map, and what the head reads beside it."""
        if any(part.training for root in (self.trunk, self.head) for part in root.modules()):
            raise SplitError(
                "the network is in training mode, where dropout and batch statistics make an explanation "
                "irreproducible; call module.eval() first"
            )
        with torch.inference_mode(), uncached_autocast(batch.device):
            found = self.trunk(batch)
        features, *beside = found if isinstance(found, tuple) and found else (found,)
        if not isinstance(features, Tensor) or features.ndim != 4:
            kind = f"shape {tuple(features.shape)}" if isinstance(features, Tensor) else type(features).__name__
            raise SplitError(
                f"the output of {self.layer!r} is not a feature map (N, D, h, w) but {kind}; split at the last "
                "convolutional layer, or give both parts with Split.of(trunk, head)"
            )
        if features.shape[2] * features.shape[3] <= 1:
            raise SplitError(
                f"the feature map of {self.layer!r} is a single cell and cannot point anywhere; split at an earlier "
                "layer or use larger images"
            )
        return (features, *beside)


def split(module: nn.Module, at: str | None = None, *, probe: Tensor | None = None) -> Split:
    """Split `module` after the layer `at`, and check on a probe that the split is the same network.

    The image classifiers of transformers that are ResNet, ConvNeXt, ConvNeXtV2, Swin, ViT and DINOv2, with and without
    registers, and modules around their backbones, are split by what is known of them: after the last feature map, and
    before the last block's attention where the logits read a class token. `at` names an earlier layer of theirs. For any
    other module `at` is the dotted name of the child whose output is the feature map, or is found: the last layer with
    such a map. The code around that child is traced with torch.fx, the child itself and all its siblings are left as they
    are. The closed form is used where the head is global average pooling followed by a linear layer, recognised by its
    structure and confirmed by autograd.

    Args:
        module: in evaluation mode; takes (N, c, H, W) and returns (N, C), or an object with such `logits`.
        at: for instance "features" or "layer4.1".
        probe: a batch the module accepts; two noise images where none is given, of 224 x 224 or of the size that the
            configuration names.

    Raises:
        SplitError: no such child, code that cannot be traced, a feature map of one cell, training mode, a head that does
            not read the map, or a split whose logits differ from the module's by more than 1e-5, relative to the largest or to one.
    """
    if any(part.training for part in module.modules()):
        raise SplitError("a network in training mode cannot be split; call module.eval() first")
    for name, part in module.named_modules():
        if isinstance(part, nn.modules.batchnorm._BatchNorm) and not part.track_running_stats:
            raise SplitError(
                f"{name!r} normalises by the other images of a batch, so no image has an explanation of its own; use statistics "
                "of the training (track_running_stats=True)"
            )
    if probe is None:
        probe = _noise(module)
    # In half precision another network could pass for this one, so the comparison is made in single.
    with torch.autocast(probe.device.type, enabled=False):
        if probe.dtype.itemsize < 4:
            _compared(_single_precision(module), at, probe.float())
        return _compared(module, at, probe)


def _compared(module: nn.Module, at: str | None, probe: Tensor) -> Split:
    try:
        with torch.inference_mode():
            output = module(probe)
    except (RuntimeError, ValueError, TypeError, AttributeError) as problem:
        raise SplitError(
            f"the network does not accept a batch of shape {tuple(probe.shape)} ({_brief(problem)}); pass a batch it accepts as "
            "probe="
        ) from problem
    expected: Any = logits_of(output)
    if isinstance(expected, tuple | list):
        raise SplitError(
            "the network does not return a single tensor; wrap it so that it returns logits of shape (N, C)"
        )
    if not isinstance(expected, Tensor) or expected.ndim != 2:
        raise SplitError("the network does not return logits of shape (N, C); wrap it so that it does")
    if at is None and layers(module) is None:
        return _found(module, expected, probe)
    return _checked(module, at, expected, probe)


def _found(module: nn.Module, expected: Tensor, probe: Tensor) -> Split:
    """The split at the last layer where there is one."""
    refusals = []
    for name in candidates(module, probe):
        try:
            return _checked(module, name, expected, probe)
        except SplitError as refusal:
            refusals.append(str(refusal))
    reason = f"; at the last of them, {refusals[0]}" if refusals else ""
    raise SplitError(
        f"of {len(refusals)} layers of {type(module).__name__} with a feature map none splits it{reason}; name another with "
        "at='...', or give both parts with Split.of(trunk, head)"
    )


def _checked(module: nn.Module, at: str | None, expected: Tensor, probe: Tensor) -> Split:
    trunk, head, layer = cut(module, at)
    candidate = Split.of(trunk, head, layer=layer)
    try:
        features, *beside = candidate._features(probe)
        _require_channels_first(layer, features, probe)
        found = HeadPass(head, features, *beside)
        target = found.logits.argmax(dim=1)
        gradient = found.gradient(target, last=False)
        by_gradient = found.grid(target)
    except (RuntimeError, ValueError, TypeError, AttributeError) as problem:
        raise SplitError(
            f"split at {layer!r}, the network does not run or has no gradient ({_brief(problem)}); choose another layer"
        ) from problem
    # What is computed in half precision is only as equal as that.
    tolerance = max(_TOLERANCE, 8 * torch.finfo(expected.dtype).eps if expected.dtype.itemsize < 4 else 0.0)
    if found.logits.shape != expected.shape or not _close(found.logits, single(expected), tolerance):
        raise SplitError(
            f"split at {layer!r}, trunk and head together do not give the network's own logits; choose the layer whose output "
            "alone feeds the rest, or give both parts with Split.of(trunk, head)"
        )
    _require_evidence(layer, single(features), gradient)
    if candidate.linear is not None and not _close(candidate.explain(probe, target).grid, by_gradient, tolerance):
        raise SplitError(
            f"the head after {layer!r} looks linear but its gradient says otherwise; give both parts with "
            "Split.of(trunk, head)"
        )
    return candidate


def _require_channels_first(layer: str, features: Tensor, probe: Tensor) -> None:
    """A map (N, h, w, D) has the proportions of the image in its first two axes, and not in its last two."""
    height, width = probe.shape[2:]

    def proportional(rows: int, columns: int) -> bool:
        return abs(rows * width - columns * height) <= max(height, width)

    _, first, second, third = features.shape
    if proportional(first, second) and not proportional(second, third):
        raise SplitError(
            f"the output of {layer!r} has its channels last, (N, h, w, D) = {tuple(features.shape)}; split at a layer that has "
            "them second, or give both parts with Split.of(trunk, head), the trunk ending with permute(0, 3, 1, 2)"
        )


def _require_evidence(layer: str, features: Tensor, gradient: Tensor) -> None:
    """The mean gradient weighs the channels; where that is rounding error, so is the map."""
    largest = gradient.abs().amax()
    cells = gradient.shape[2] * gradient.shape[3]
    if largest == 0:
        raise SplitError(
            f"the logits do not depend on the output of {layer!r}, so it explains nothing; split at another layer, or pass real "
            "images as probe="
        )
    cancels = gradient.mean(dim=(2, 3)).abs().amax() < 1e-4 * largest / cells
    strength = largest * features.abs().amax()  # a blank probe has no features, and says nothing of the gradient
    if cancels or 0 < strength < _TOLERANCE / 100:
        raise SplitError(
            f"the gradient at {layer!r} cancels over the map, as before a normalisation by image, so Grad-CAM is rounding error "
            "there; split after that normalisation, or pass real images as probe="
        )


def _single_precision(module: nn.Module) -> nn.Module:
    try:
        return copy.deepcopy(module).float()
    except TypeError as problem:
        raise SplitError(
            f"the network cannot be copied ({_brief(problem)}), so it cannot be checked in single precision; split it before "
            "making it half"
        ) from problem


def _brief(problem: Exception) -> str:
    return (str(problem).splitlines() or [type(problem).__name__])[0][:160]


def _noise(module: nn.Module) -> Tensor:
    first = first_convolution(module)
    named = (getattr(getattr(part, "config", None), "image_size", None) for part in module.modules() if known(part))
    size = next((size for size in named if size is not None), 224)
    height, width = (size, size) if isinstance(size, int) else size
    noise = torch.randn(2, first.in_channels, height, width, generator=torch.Generator().manual_seed(0))
    return noise.to(first.weight.device, first.weight.dtype)


def _close(left: Tensor, right: Tensor, tolerance: float) -> bool:
    scale = max(1.0, float(right.abs().max()))
    return bool((left - right).abs().max() <= tolerance * scale)


def checked_target(
    logits: Tensor, target: int | Tensor | Sequence[int] | None, among: Sequence[int] | None = None
) -> Tensor:
    """The classes that are explained, (N,) int64: those given, or the arg-max over `among`.

    Raises:
        ModelError: not one class for each of the `logits` (N, C), or a class that the network does not have.
    """
    count, classes = logits.shape
    if target is None:
        candidates = torch.arange(classes) if among is None else torch.as_tensor(list(among), dtype=torch.int64)
        if candidates.numel() == 0 or candidates.min() < 0 or candidates.max() >= classes:
            raise ModelError(f"classes to choose a target among must lie in 0..{classes - 1} and cannot be empty")
        candidates = candidates.to(logits.device)
        return candidates[logits[:, candidates].argmax(dim=1)]
    chosen = torch.as_tensor(target, device=logits.device)
    if chosen.is_floating_point() or chosen.dtype == torch.bool:
        raise ModelError("a target is a class number, not a fraction or a flag; pass integers")
    if chosen.ndim == 0:
        chosen = chosen.expand(count)
    if chosen.shape != (count,):
        raise ModelError(f"{tuple(chosen.shape)} targets were given for {count} images; give one, or one for each")
    if count and (chosen.min() < 0 or chosen.max() >= classes):
        raise ModelError(f"a target class lies outside 0..{classes - 1}, the classes this network has")
    return chosen.to(torch.int64)
