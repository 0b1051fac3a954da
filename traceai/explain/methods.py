"""Explanations made on demand, long after the decision: slower than the recorded Grad-CAM, and of another kind.

Each takes the network or its split, a batch (N, c, H, W) and the classes (N,) it explains, and gives one map a sample,
(N, h, w) float32, summed over input channels. All are reproducible: nothing is random, samples are worked on one by one, and
the split of the work depends on the size of the input alone. Nothing is hooked, and no parameter and no `.grad` is written,
so any number of threads may explain one network at a time.

Where a method needs an input without information it is 0 after normalisation: the mean colour of the training data, with
which a letterboxed picture is filled up as well. What has that colour already gets no attribution from such a method.

`docs/explanations.md` says what each can and cannot be read as. `catalogue` has their names, and those of the refused.
"""

import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from traceai.errors import ModelError
from traceai.explain import catalogue
from traceai.explain.catalogue import Method
from traceai.explain.gradcam import single
from traceai.explain.rollout import rollout
from traceai.explain.splitting import Split, checked_target, split

Network = nn.Module | Split

# Integrated gradients: steps of the quadrature, doubled from the first to the last until the error is small enough.
STEPS = (64, 128, 256, 512, 1024)
# Of what a map has to sum to, and in logits where that is next to nothing.
COMPLETE_WITHIN, COMPLETE_BELOW = 0.01, 0.001
BASELINE = "0 after normalisation (the mean colour)"
# Of the input, over all images of one forward pass: what bounds the memory.
_PIXELS_AT_ONCE = 2**20
_IMAGES_AT_ONCE = 32

_Forward = Callable[[Tensor], Tensor]


def integrated_gradients(network: Network, batch: Tensor, target: Tensor, *, steps: int | None = None) -> Tensor:
    """Integrated gradients (Sundararajan, Taly and Yan, ICML 2017), by captum.

    `x_i` times the mean gradient on the straight way from the baseline 0 to the image x, by Gauss-Legendre quadrature. A map
    sums to `logit(x) - logit(0)`, but for the error of the quadrature: see `completeness_error`.

    Args:
        steps: where none are given, 64, doubled up to 1024 until the error is at most 1 % of what the map has to sum to.
            Transformers need many: near a black or a grey image their normalisation makes the logit change steeply.

    Returns:
        (N, H, W), signed.

    Raises:
        ModelError: the network is in training mode, cannot be differentiated, or does not have a target class.
    """
    from captum.attr import IntegratedGradients  # noqa: PLC0415  # takes seconds

    def explain(forward: _Forward, image: Tensor, target: int) -> Tensor:
        rise = _rise(forward, image, target)
        for count in STEPS if steps is None else (steps,):
            found: Tensor = IntegratedGradients(forward).attribute(
                image, baselines=0.0, target=target, n_steps=count, internal_batch_size=_at_once(image)
            )
            if abs(float(found.sum()) - rise) <= 0.9 * float(_allowed(torch.tensor(rise))):
                break
        return found

    return _each(network, batch, target, explain)


def completeness_error(network: Network, batch: Tensor, target: Tensor, found: Tensor) -> Tensor:
    """By how much integrated gradients miss what they have to sum to, (N,): `sum(found) - (logit(x) - logit(0))`.

    captum calls it the convergence delta. 0 for an exact integral; far from 0 the map is not to be trusted.
    """
    with _differentiable(batch.device):
        rises = [_rise(*one) for one in _samples(network, batch, target)]
    return (found.sum(dim=(1, 2), dtype=torch.float64) - torch.tensor(rises, device=found.device)).float()


def _allowed(rise: Tensor) -> Tensor:
    return (COMPLETE_WITHIN * rise.abs()).clamp(min=COMPLETE_BELOW)


def _rise(forward: _Forward, image: Tensor, target: int) -> float:
    """What the image has over the baseline, in logits."""
    with torch.no_grad():
        return float(forward(image)[0, target]) - float(forward(torch.zeros_like(image))[0, target])


def occlusion(
    network: Network, batch: Tensor, target: Tensor, *, window: int | None = None, stride: int | None = None
) -> Tensor:
    """Occlusion (Zeiler and Fergus, ECCV 2014), by captum.

    A square of the baseline 0 is moved over the image; a pixel gets the mean fall of the logit over the squares that cover it.
    Positive where covering it lowers the logit. Needs no gradient.

    Args:
        window, stride: in pixels of the network's input; from its size where not given, see `occlusion_window`.

    Returns:
        (N, H, W), signed.

    Raises:
        ModelError: a window that does not fit into the input, or a stride that leaves pixels out; see also
            `integrated_gradients`.
    """
    from captum.attr import Occlusion  # noqa: PLC0415  # takes seconds

    height, width = batch.shape[-2:]
    side, step = occlusion_window(height, width)
    side = side if window is None else window
    step = (step if window is None else max(1, side // 2)) if stride is None else stride
    if not 1 <= side <= min(height, width) or not 1 <= step <= side:
        raise ModelError(
            f"a window of {side} pixels moved by {step} does not cover an input of {height} x {width}; choose a window that "
            "fits and a stride no longer than it"
        )

    def explain(forward: _Forward, image: Tensor, target: int) -> Tensor:
        channels = image.shape[1]
        with torch.no_grad():
            found: Tensor = Occlusion(forward).attribute(
                image,
                sliding_window_shapes=(channels, side, side),
                strides=(channels, step, step),
                baselines=0.0,
                target=target,
                perturbations_per_eval=_at_once(image),
            )
        # A square covers all channels at once, and captum gives each of them all of the fall.
        return found / channels

    return _each(network, batch, target, explain)


def occlusion_window(height: int, width: int) -> tuple[int, int]:
    """Window and stride in pixels: an eighth of the side of a square of the input's area, and half of that."""
    side = max(1, min(height, width, round(math.sqrt(height * width) / 8)))
    return side, max(1, side // 2)


def saliency(network: Network, batch: Tensor, target: Tensor) -> Tensor:
    """The gradient of the logit (Simonyan, Vedaldi and Zisserman, ICLR workshop 2014), by captum; signed, where they
    show absolute values.

    How fast the logit rises as a pixel brightens in all channels. What the network is sensitive to here, not what it relied on.

    Returns:
        (N, H, W), signed.

    Raises:
        ModelError: see `integrated_gradients`.
    """
    from captum.attr import Saliency  # noqa: PLC0415  # takes seconds

    def explain(forward: _Forward, image: Tensor, target: int) -> Tensor:
        found: Tensor = Saliency(forward).attribute(image.requires_grad_(True), target=target, abs=False)
        return found

    return _each(network, batch, target, explain)


def input_x_gradient(network: Network, batch: Tensor, target: Tensor) -> Tensor:
    """Gradient times input (Shrikumar, Greenside, Shcherbina and Kundaje, 2016), by captum.

    Integrated gradients in one step: equal to it where the network is linear between 0 and the image.

    Returns:
        (N, H, W), signed.

    Raises:
        ModelError: see `integrated_gradients`.
    """
    from captum.attr import InputXGradient  # noqa: PLC0415  # takes seconds

    def explain(forward: _Forward, image: Tensor, target: int) -> Tensor:
        found: Tensor = InputXGradient(forward).attribute(image.requires_grad_(True), target=target)
        return found

    return _each(network, batch, target, explain)


def grad_cam(network: Network, batch: Tensor, target: Tensor, *, layer: str | None = None) -> Tensor:
    """Grad-CAM (Selvaraju et al., ICCV 2017) at a layer, before any ReLU; by `Split.explain`, which is what is recorded.

    Args:
        layer: any at which `traceai.explain.split` cuts the network; where none is named, the layer of a split, or the best.

    Returns:
        (N, h, w), signed, one value a cell of the layer's map.

    Raises:
        SplitError: the network is not cut there.
        ModelError: a layer is named and only a split was given.
    """
    if isinstance(network, Split):
        if layer not in (None, network.layer):
            raise ModelError("a split has one layer; pass the network itself to explain it at another")
        parts = network
    else:
        noise = torch.randn(2, *batch.shape[1:], generator=torch.Generator().manual_seed(0))
        parts = split(network, layer, probe=noise.to(batch.device, batch.dtype))
    with torch.autocast(batch.device.type, enabled=False):
        return parts.explain(batch, _named(target)).grid.float()


def attention_rollout(network: Network, batch: Tensor, target: Tensor) -> Tensor:
    """Attention rollout (Abnar and Zuidema, ACL 2020) of a ViT or DINOv2; see `rollout`. The same for every target.

    Returns:
        (N, h, w), not negative, one value a patch.

    Raises:
        ModelError: the network is none of these, or only its split was given; see also `integrated_gradients`.
    """
    if isinstance(network, Split):
        raise ModelError("attention rollout looks at every layer; pass the network itself, not its split")
    with _differentiable(batch.device):
        return torch.stack([rollout(network, image) for _, image, _ in _samples(network, batch, target)])


_FUNCTIONS: Mapping[str, Callable[..., Tensor]] = {
    "integrated-gradients": integrated_gradients,
    "occlusion": occlusion,
    "saliency": saliency,
    "input-x-gradient": input_x_gradient,
    "grad-cam": grad_cam,
    "attention-rollout": attention_rollout,
}


@dataclass(frozen=True, slots=True)
class Attribution:
    """The maps of a batch, and all that is needed to make them again.

    Attributes:
        maps: (N, h, w) float32.
        settings: what the method was made with, as JSON values.
        error: (N,) the completeness error of integrated gradients, in logits; None of other methods.
    """

    method: Method
    maps: Tensor
    settings: Mapping[str, str | int]
    error: Tensor | None

    @property
    def complete(self) -> Tensor | None:
        """(N,) bool: the error is small enough for the map to be relied on; None of other methods."""
        if self.error is None:
            return None
        rise = self.maps.sum(dim=(1, 2)) - self.error
        return self.error.abs() <= _allowed(rise)


def attribute(name: str, network: Network, batch: Tensor, target: Tensor, *, layer: str | None = None) -> Attribution:
    """Explain a batch with the method that `name` names.

    Raises:
        MethodNotOfferedError: there is no such method, or it is refused.
        InputError: a layer for a method that takes none.
        ModelError: see the method.
    """
    method = catalogue.find(name)
    method.require_layer_fits(layer)
    options = {"layer": layer} if method.layered else {}
    maps = _FUNCTIONS[method.name](network, batch, target, **options)
    settings: dict[str, str | int] = {}
    error = None
    if method.name == "integrated-gradients":
        settings = {"baseline": BASELINE, "steps": f"{STEPS[0]}, doubled up to {STEPS[-1]} until complete"}
        error = completeness_error(network, batch, target, maps)
    elif method.name == "occlusion":
        window, stride = occlusion_window(batch.shape[2], batch.shape[3])
        settings = {"baseline": BASELINE, "window_px": window, "stride_px": stride}
    elif layer is not None:
        settings = {"layer": layer}
    elif isinstance(network, Split) and method.layered:
        settings = {"layer": network.layer}
    return Attribution(method, maps, settings, error)


# --- running the network ------------------------------------------------------------------------------------------------


@contextmanager
def _differentiable(device: torch.device) -> Iterator[None]:
    """Outside the caller's inference mode and autocast."""
    with torch.inference_mode(False), torch.enable_grad(), torch.autocast(device.type, enabled=False):
        yield


def _each(
    network: Network, batch: Tensor, target: Tensor, explain: Callable[[_Forward, Tensor, int], Tensor]
) -> Tensor:
    """(N, H, W) from what `explain` makes of one image (1, c, H, W) and one class, of the image's shape."""
    try:
        with _differentiable(batch.device):
            return torch.cat(
                [single(explain(*one).detach()).sum(dim=1).float() for one in _samples(network, batch, target)]
            )
    except torch.OutOfMemoryError:
        raise
    except RuntimeError as problem:
        raise ModelError(
            f"this method does not get through the network ({problem}); choose occlusion, which needs no gradient, or grad-cam"
        ) from problem


def _samples(network: Network, batch: Tensor, target: Tensor) -> Iterator[tuple[_Forward, Tensor, int]]:
    """The network as a function, each image as a batch of its own that belongs to nobody else, and its class."""
    parts = (network.trunk, network.head) if isinstance(network, Split) else (network,)
    if any(part.training for root in parts for part in root.modules()):
        raise ModelError(
            "the network is in training mode, where dropout and batch statistics make an explanation irreproducible; call "
            "module.eval() first"
        )
    if batch.ndim != 4 or not batch.is_floating_point() or 0 in batch.shape:
        raise ModelError(
            f"a batch has the shape (N, c, H, W) and floating point values, not {batch.dtype} {tuple(batch.shape)}"
        )
    forward = _function(network)
    with torch.no_grad():
        logits = forward(batch[:1].clone())
    chosen = checked_target(logits.expand(len(batch), -1), _named(target))
    for row, number in enumerate(chosen.tolist()):
        yield forward, batch[row : row + 1].detach().clone(), number


def _named(target: Tensor | None) -> Tensor:
    if target is None:
        raise ModelError("an explanation is of a class; name one for each image")
    return target


def _function(network: Network) -> _Forward:
    """(N, c, H, W) -> (N, C), in single precision at least. A copy goes in, for a network that begins with writing in place."""

    def whole(batch: Tensor) -> Tensor:
        if isinstance(network, Split):
            found = network.trunk(batch.clone())
            features = found if isinstance(found, tuple) else (found,)
            output: Any = network.head(*features)
        else:
            output = network(batch.clone())
        logits = getattr(output, "logits", output)
        if not isinstance(logits, Tensor) or logits.ndim != 2:
            raise ModelError("the network does not return logits of shape (N, C); wrap it so that it does")
        return single(logits)

    return whole


def _at_once(image: Tensor) -> int:
    """How many images of this size one forward pass has."""
    return max(1, min(_IMAGES_AT_ONCE, _PIXELS_AT_ONCE // (image.shape[2] * image.shape[3])))
