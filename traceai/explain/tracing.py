"""Where to cut a network: by name with torch.fx, or by what is known of its family."""

import operator
from collections.abc import Iterator

from torch import Tensor, fx, nn

from traceai.errors import SplitError


class FeatureTrunk(nn.Module):
    """The part of a transformers ResNet before its pooler, with a tensor as output."""

    def __init__(self, embedder: nn.Module, encoder: nn.Module) -> None:
        super().__init__()
        self.embedder = embedder
        self.encoder = encoder
        self.train(embedder.training)

    def forward(self, batch: Tensor) -> Tensor:
        features: Tensor = self.encoder(self.embedder(batch)).last_hidden_state
        return features


def cut(module: nn.Module, at: str | None) -> tuple[nn.Module, nn.Module, str]:
    """Trunk, head and layer name of `module`; parameters are shared with it.

    Raises:
        SplitError: no `at` for a network of unknown family, no such child, or code that cannot be traced.
    """
    if type(module).__module__.startswith("transformers."):
        return _cut_transformers(module, at)
    if at is None:
        raise SplitError(
            f"{type(module).__name__} is not a family whose feature map is known; name the layer with at='...', or "
            "give both parts with Split.of(trunk, head)"
        )
    if at not in dict(module.named_modules()) or not at:
        raise SplitError(f"{type(module).__name__} has no child named {at!r}; see module.named_modules()")
    trunk, head = _cut_traced(module, at)
    return trunk, head, at


def _cut_transformers(module: nn.Module, at: str | None) -> tuple[nn.Module, nn.Module, str]:
    from transformers import ResNetForImageClassification  # noqa: PLC0415 - takes seconds; other networks never need it

    if not isinstance(module, ResNetForImageClassification) or at not in (None, "resnet.encoder"):
        raise SplitError(
            f"of transformers' networks only ResNetForImageClassification is split by itself, at 'resnet.encoder', not "
            f"{type(module).__name__} at {at!r}; give both parts with Split.of(trunk, head)"
        )
    backbone = module.resnet
    head = nn.Sequential(backbone.pooler, module.classifier).train(module.training)
    return FeatureTrunk(backbone.embedder, backbone.encoder), head, "resnet.encoder"


class _Tracer(fx.Tracer):
    """Traces only the code that encloses the layer `at`; every other module is called as it is."""

    def __init__(self, at: str) -> None:
        super().__init__()
        self._at = at

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return not self._at.startswith(module_qualified_name + ".")


def _cut_traced(module: nn.Module, at: str) -> tuple[nn.Module, nn.Module]:
    refusal = f"the code around {at!r} in {type(module).__name__} cannot be traced by torch.fx"
    remedy = "give both parts with Split.of(trunk, head)"
    try:
        graph = _Tracer(at).trace(module)
    except (fx.proxy.TraceError, RuntimeError, TypeError, ValueError, AttributeError, NameError, IndexError) as problem:
        raise SplitError(f"{refusal} ({problem}); {remedy}") from problem
    calls = [node for node in graph.nodes if node.op == "call_module" and node.target == at]
    if len(calls) != 1:
        raise SplitError(f"{at!r} is called {len(calls)} times in one forward pass, not once; {remedy}")
    feature = calls[0]
    result = next(node for node in graph.nodes if node.op == "output").args[0]
    if not isinstance(result, fx.Node):
        raise SplitError(f"{type(module).__name__} does not return a single tensor; {remedy}")

    trunk = _subgraph(module, graph, feature, until=None)
    head = _subgraph(module, graph, result, until=feature)
    inputs = [node for node in head.graph.nodes if node.op == "placeholder"]
    if len(inputs) != 1:
        raise SplitError(f"what follows {at!r} also reads something computed before it; split at a later layer")
    return trunk.train(module.training), head.train(module.training)


def _subgraph(module: nn.Module, graph: fx.Graph, output: fx.Node, until: fx.Node | None) -> fx.GraphModule:
    """The part of `graph` that `output` needs, starting at `until` where given; both share `module`'s children."""
    needed: set[fx.Node] = set()
    pending = [output]
    while pending:
        node = pending.pop()
        if node not in needed:
            needed.add(node)
            if node is not until:
                pending.extend(node.all_input_nodes)
    part = fx.Graph()
    copies: dict[fx.Node, fx.Node] = {}
    for node in graph.nodes:
        if node is until:
            copies[node] = part.placeholder("features")
        elif node in needed:
            copies[node] = part.node_copy(node, lambda old: copies[old])
    part.output(copies[output])
    return fx.GraphModule(module, part)


def first_convolution(module: nn.Module) -> nn.Conv2d:
    """The first convolution in definition order: its input channels and device are those of the network."""
    for part in module.modules():
        if isinstance(part, nn.Conv2d):
            return part
    raise SplitError(f"{type(module).__name__} has no convolution, so it has no feature map to explain")


def pooled_linear(head: nn.Module) -> nn.Linear | None:
    """The linear layer of a head that is exactly global average pooling, flattening and one linear layer; else None.

    Types are compared exactly and hooks disqualify: a subclass or a hook may compute something else.
    """
    steps = list(_steps(head))
    match [step for step in steps if not isinstance(step, nn.Identity | nn.Dropout)]:
        case [pool, flatten, nn.Linear() as linear] if (
            type(linear) is nn.Linear and _is_global_pool(pool) and (flatten == "flatten" or _is_flatten(flatten))
        ):
            return linear
        case ["mean", nn.Linear() as linear] if type(linear) is nn.Linear:
            return linear
    return None


def _steps(part: nn.Module) -> Iterator[nn.Module | str | None]:
    """The chain of operations in `part`, in order; None stands for one that is not understood."""
    if part._forward_hooks or part._forward_pre_hooks:
        yield None
    elif isinstance(part, fx.GraphModule):
        previous: fx.Node | None = None
        for node in part.graph.nodes:
            if node.op == "output" or (node.op == "placeholder" and previous is None):
                previous = node
                continue
            if node.all_input_nodes != [previous]:
                yield None
            yield from _steps(part.get_submodule(str(node.target))) if node.op == "call_module" else (_function(node),)
            previous = node
    elif type(part) is nn.Sequential:
        for child in part:
            yield from _steps(child)
    else:
        yield part


def _function(node: fx.Node) -> str | None:
    arguments = (*node.args[1:], *node.kwargs.values())
    name = node.target if node.op == "call_method" else getattr(node.target, "__name__", None)
    if node.op not in ("call_function", "call_method") or node.target is operator.getitem:
        return None
    if name == "flatten" and arguments == (1,):
        return "flatten"
    if name == "mean" and len(arguments) == 1 and _axes(arguments[0]) == {2, 3}:
        return "mean"
    return None


def _axes(value: object) -> set[int]:
    return {axis % 4 for axis in value if isinstance(axis, int)} if isinstance(value, list | tuple) else set()


def _is_global_pool(step: object) -> bool:
    return type(step) is nn.AdaptiveAvgPool2d and step.output_size in (1, (1, 1))


def _is_flatten(step: object) -> bool:
    return type(step) is nn.Flatten and step.start_dim == 1 and step.end_dim in (-1, 3)
