"""A split network as an ONNX graph whose outputs are the logits and, from the same pass, the signed Grad-CAM.

Where the head is linear in the pooled map, the grid is its closed form: a row of the weights times the map. Any other head is
differentiated here, once and for all: its vector-Jacobian product is written down operation by operation (`make_fx`), and
those operations go into the graph beside the head's own. ONNX Runtime differentiates nothing.
"""

import logging
import re
import threading
import warnings
from collections.abc import Callable, Sequence
from typing import Any

import onnx_ir as ir
import onnxscript  # noqa: F401  # torch's exporter needs it, and would say so in other words
import torch
from torch import Tensor, nn
from torch.fx.experimental.proxy_tensor import make_fx
from torch.nn.attention import SDPBackend, sdpa_kernel

from traceai.edge.file import OUTPUTS
from traceai.edge.graph import OPSET
from traceai.errors import ExportError
from traceai.explain.splitting import Split

_aten = torch.ops.aten
# What the exporter is made of; it says on them what is raised or compared here.
_SPEAKERS = ("torch", "onnxscript", "onnx_ir")
_one_at_a_time = threading.Lock()


def network(split: Split, among: Sequence[int], shape: tuple[int, int, int]) -> ir.Model:
    """One graph, float32 (1, channels, height, width) -> the outputs that `OUTPUTS` names.

    Args:
        split: trunk and head, in evaluation mode.
        among: the classes of which the one with the highest logit is explained.
        shape: (channels, height, width) of the input.

    While torch's exporter traces a network, it changes classes of torch for the whole process: no other thread may use torch
    meanwhile, and a second export waits.

    Raises:
        ExportError: the network does something that ONNX has no operation for.
    """
    example = torch.randn(1, *shape, generator=torch.Generator().manual_seed(0))
    names = OUTPUTS[: 3 + (split.linear is not None)]
    try:
        with _one_at_a_time, _quiet(), torch.no_grad(), sdpa_kernel(SDPBackend.MATH):
            reading = _Linear(split, among) if split.linear is not None else _differentiated(split, among, example)
            program = torch.onnx.export(
                _Explained(split.trunk, reading).eval(),
                (example,),
                dynamo=True,
                input_names=["input"],
                output_names=list(names),
                opset_version=OPSET,
                verbose=False,
            )
    except Exception as problem:  # the exporter raises whatever the code of the network made it raise
        raise ExportError(
            f"This network cannot be written as ONNX ({_first_line(problem)}); use another architecture, or split it at a "
            "later layer."
        ) from problem
    assert program is not None  # noqa: S101  # where it was not given a file
    model: ir.Model = program.model
    return model


class _Explained(nn.Module):
    """The trunk, and what reads its map; the trunk is left to the exporter as it is."""

    def __init__(self, trunk: nn.Module, reading: nn.Module) -> None:
        super().__init__()
        self.trunk, self.reading = trunk, reading

    def forward(self, batch: Tensor) -> Any:
        found = self.trunk(batch)
        return self.reading(*(found if isinstance(found, tuple) else (found,)))


class _Linear(nn.Module):
    """Global average pooling and a linear layer: the closed form (`explain.gradcam`)."""

    def __init__(self, split: Split, among: Sequence[int]) -> None:
        super().__init__()
        assert split.linear is not None  # noqa: S101  # the caller's own
        self.head, self.linear = split.head, split.linear
        self.among: Tensor
        self.register_buffer("among", torch.tensor(list(among)), persistent=False)

    def forward(self, features: Tensor) -> tuple[Tensor, ...]:
        logits = self.head(features)
        target = self.among[logits[:, self.among].argmax(dim=1)]
        cells = features.shape[2] * features.shape[3]
        grid = _weighed(self.linear.weight[target] / cells, features)
        bias = torch.zeros_like(logits[:, 0]) if self.linear.bias is None else self.linear.bias[target]
        return logits, target, grid, bias


def _differentiated(split: Split, among: Sequence[int], example: Tensor) -> nn.Module:
    """Any other head: its gradient at the map, averaged over the map, weighs the map's channels.

    As a plain list of operations, those of the gradient among them; attention is written as the products it is made of.
    """
    classes = torch.tensor(list(among))

    def read(features: Tensor, *beside: Tensor) -> tuple[Tensor, ...]:
        # The head gets a copy, for it may begin with an operation in place.
        logits, pull, *_ = torch.func.vjp(lambda leaf: split.head(leaf.clone(), *beside), features)
        target = classes[logits[:, classes].argmax(dim=1)]
        chosen = target[:, None] == torch.arange(logits.shape[1])
        (gradient,) = pull(chosen.to(logits.dtype))
        return logits, target, _weighed(gradient.mean(dim=(2, 3)), features)

    found = split.trunk(example)
    graph: nn.Module = make_fx(read, decomposition_table=_decompositions())(
        *(found if isinstance(found, tuple) else (found,))
    )
    return graph


def _weighed(alpha: Tensor, features: Tensor) -> Tensor:
    """(1, D) and (1, D, h, w) -> (1, h, w)."""
    return torch.matmul(alpha[:, None], features.flatten(2)).reshape(1, *features.shape[2:])


def _decompositions() -> dict[Any, Callable[..., Any]]:
    table: dict[Any, Callable[..., Any]] = dict(torch._decomp.core_aten_decompositions())
    table[_aten.convolution_backward.default] = _convolution_backward
    table[_aten.avg_pool2d_backward.default] = _avg_pool2d_backward
    return table


def _convolution_backward(
    gradient: Tensor,
    features: Tensor,
    weight: Tensor,
    bias_sizes: Sequence[int] | None,
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
    transposed: bool,
    output_padding: Sequence[int],
    groups: int,
    output_mask: Sequence[bool],
) -> tuple[Tensor | None, None, None]:
    """The gradient with respect to the input alone: the transposed convolution, as large as the input was."""
    if transposed or output_mask[1] or output_mask[2]:
        raise ExportError("a transposed convolution in the head")
    return _spread(gradient, features, weight, stride, padding, dilation, groups), None, None


def _avg_pool2d_backward(
    gradient: Tensor,
    features: Tensor,
    kernel_size: Sequence[int],
    stride: Sequence[int],
    padding: Sequence[int],
    ceil_mode: bool,
    count_include_pad: bool,
    divisor_override: int | None,
) -> Tensor:
    """Every output hands its gradient to the cells that it is the mean of: a transposed convolution, channel by channel."""
    if ceil_mode or (any(padding) and not count_include_pad):
        raise ExportError("average pooling in the head whose windows differ in size")
    channels = features.shape[1]
    shape = (channels, 1, *kernel_size)
    weight = torch.full(shape, 1 / (divisor_override or kernel_size[0] * kernel_size[1]), dtype=gradient.dtype)
    return _spread(gradient, features, weight, stride or kernel_size, padding, (1, 1), channels)


def _spread(
    gradient: Tensor,
    features: Tensor,
    weight: Tensor,
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
    groups: int,
) -> Tensor:
    """The transposed convolution, as large as `features`."""
    missing = [
        size - ((out - 1) * step - 2 * pad + gap * (side - 1) + 1)
        for size, out, step, pad, gap, side in zip(
            features.shape[2:], gradient.shape[2:], stride, padding, dilation, weight.shape[2:], strict=True
        )
    ]
    spread: Tensor = _aten.convolution.default(gradient, weight, None, stride, padding, dilation, True, missing, groups)
    return spread


class _quiet:  # noqa: N801  # reads as a statement
    """Without the exporter's progress on standard output, its log and its warnings: what matters is raised or compared."""

    def __enter__(self) -> None:
        self._warnings = warnings.catch_warnings()
        self._warnings.__enter__()
        warnings.simplefilter("ignore")
        self._levels = [(logger := logging.getLogger(name), logger.level) for name in _SPEAKERS]
        for logger, _ in self._levels:
            logger.setLevel(logging.CRITICAL)

    def __exit__(self, *exit_: Any) -> None:
        for logger, level in self._levels:
            logger.setLevel(level)
        self._warnings.__exit__(*exit_)


def _first_line(problem: BaseException) -> str:
    causes = [problem]
    while causes[-1].__cause__ is not None:
        causes.append(causes[-1].__cause__)
    for cause in causes:
        if found := re.search(r"\[target=torch\.ops\.(aten\.\w+)", str(cause)):
            return f"there is no operation for {found[1]}"
    text = str(causes[-1]).strip() or type(causes[-1]).__name__
    return text.splitlines()[0][:200].rstrip(".")
