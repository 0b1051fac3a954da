"""Attention rollout (Abnar and Zuidema, "Quantifying Attention Flow in Transformers", ACL 2020) of ViT and DINOv2.

With `A_l` the attention of layer l averaged over its heads, (T, T) with rows that sum to 1, and the residual connection
counted as half of what a layer passes on, `R = (A_L + I)/2 ... (A_1 + I)/2`. A row of R says from which input tokens a last
token was mixed. It is not negative and knows no class, no sign, no value vectors and no MLP: where information could flow, not
what was made of it.

The row that is shown is that of the class token where the head reads it, the mean of the patch tokens' rows where it reads
those, and the mean of both where it reads both; which it reads is found by its gradient. Registers and the class token are
mixed like any token. Their columns have no place in the image and are left out, so a map sums to less than 1.
"""

import copy
from typing import Any

import torch
from torch import Tensor, nn

from traceai.errors import ModelError
from traceai.explain.families import known

_TRANSFORMERS = frozenset({"ViTModel", "Dinov2Model", "Dinov2WithRegistersModel"})


def rolled_out(attentions: list[Tensor]) -> Tensor:
    """(T, T): the product above, of the attention (heads, T, T) of each layer, first layer first."""
    identity = torch.eye(attentions[0].shape[-1], device=attentions[0].device)
    result = identity
    for attention in attentions:
        result = (0.5 * attention.float().mean(dim=0) + 0.5 * identity) @ result
    return result


def rollout(module: nn.Module, image: Tensor) -> Tensor:
    """The map of one image.

    Everything is observed on a copy of the modules that shares the parameters, so `module` is never touched. Attention is
    computed from its queries and keys, whichever implementation the network itself uses.

    Args:
        module: in evaluation mode; one ViT or DINOv2 of transformers, or a module around one.
        image: (1, c, H, W).

    Returns:
        (h, w) float32, one value a patch.

    Raises:
        ModelError: another network, or one that does not read its transformer's last tokens.
    """
    twin = _twin(module)
    backbone = _transformer(twin)
    attentions: list[Tensor] = []
    grids: list[tuple[int, int]] = []
    last: list[Tensor] = []

    def attend(attention: Any, inputs: tuple[Any, ...]) -> None:
        def heads(projected: Tensor) -> Tensor:
            return projected.reshape(projected.shape[1], -1, attention.head_dim).transpose(0, 1)

        queries, keys = heads(attention.q_proj(inputs[0])), heads(attention.k_proj(inputs[0]))
        attentions.append((queries @ keys.transpose(1, 2) * attention.scaling).softmax(dim=-1))

    def embed(_: nn.Module, __: Any, features: Tensor) -> None:
        grids.append((features.shape[2], features.shape[3]))

    def end(_: nn.Module, __: Any, tokens: Tensor) -> Tensor:
        # The graph begins here: the gradient is asked of the head alone.
        last.append(tokens.detach().requires_grad_(True))
        return last[-1]

    blocks = [part for part in backbone.modules() if hasattr(part, "q_proj") and hasattr(part, "k_proj")]
    for block in blocks:
        block.register_forward_pre_hook(attend)
    backbone.embeddings.patch_embeddings.projection.register_forward_hook(embed)
    backbone.layernorm.register_forward_hook(end)
    output = twin(image)
    if len(attentions) != len(blocks) or len(grids) != 1 or len(last) != 1:
        raise ModelError(
            f"{type(module).__name__} does not run its transformer once from the image to the last tokens, so its attention "
            "cannot be rolled out; choose another method"
        )
    (height, width), tokens = grids[0], last[0]
    prefix = tokens.shape[1] - height * width
    rows = _read(getattr(output, "logits", output), tokens, prefix)
    with torch.no_grad():
        mixed = rolled_out([attention.detach() for attention in attentions])
        read = torch.stack([mixed[row].mean(dim=0) for row in rows]).mean(dim=0)
    return read[prefix:].reshape(height, width)


def _read(logits: Tensor, tokens: Tensor, prefix: int) -> list[slice]:
    """The groups of last tokens that the head reads: the class token, the patch tokens, or both."""
    weights = torch.randn(logits.shape, generator=torch.Generator().manual_seed(0)).to(logits)
    gradient = None
    if logits.requires_grad:
        (gradient,) = torch.autograd.grad((logits * weights).sum(), tokens, allow_unused=True)
    read = torch.zeros(tokens.shape[1]) if gradient is None else gradient[0].abs().amax(dim=1)
    rows = [rows for rows in (slice(0, 1), slice(prefix, None)) if read[rows].any()]
    if not rows:
        raise ModelError(
            "the logits do not depend on the transformer's last tokens, so there is no attention to roll out; choose another "
            "method"
        )
    return rows


def _transformer(module: nn.Module) -> Any:
    found = [part for part in module.modules() if known(part) in _TRANSFORMERS]
    if len(found) != 1:
        raise ModelError(
            "attention rollout needs one ViT or DINOv2 of transformers, in which every token attends to every other, and "
            f"{type(module).__name__} has {'none' if not found else len(found)}; choose another method"
        )
    return found[0]


def _twin(module: nn.Module) -> nn.Module:
    """The modules copied, hooks included, and every parameter and buffer shared."""
    shared: dict[int, Any] = {id(tensor): tensor for tensor in (*module.parameters(), *module.buffers())}
    twin: nn.Module = copy.deepcopy(module, shared)
    return twin
