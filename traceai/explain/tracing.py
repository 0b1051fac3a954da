"""Where to cut a network: by what is known of its family, by name with torch.fx, or at the last map it makes."""

import operator
from collections import Counter, OrderedDict
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, fx, nn

from traceai.errors import SplitError
from traceai.explain.families import Chain, Chained, chain, known

_REMEDY = "give both parts with Split.of(trunk, head)"


def cut(module: nn.Module, at: str | None) -> tuple[nn.Module, nn.Module, str]:
    """Trunk, head and layer name of `module`; parameters are shared with it.

    Raises:
        SplitError: no `at` for a network of unknown family, no such child, or code that cannot be traced.
    """
    found = _chain(module, at)
    if found is not None:
        return found.cut(at)
    if at is None:
        raise SplitError(
            f"{type(module).__name__} is not a family whose feature map is known; name a layer with at='...'"
        )
    if not at or at not in dict(module.named_modules(remove_duplicate=False)):
        raise SplitError(f"{type(module).__name__} has no child named {at!r:.80}; see module.named_modules()")
    trunk, head = _cut_traced(module, at)
    return trunk, head, at


def layers(module: nn.Module) -> tuple[str, ...] | None:
    """The layers at which a network of a known family is cut, first to last; None for any other network."""
    found = _chain(module, None)
    return None if found is None else tuple(found.cuts)


def _chain(module: nn.Module, at: str | None) -> Chain | None:
    """The cuts of a known classifier, or of a module around one known network, unless `at` lies outside that."""
    found = chain(module)
    if found is not None:
        return found
    inner: list[str] = []
    for name, part in module.named_modules():
        if known(part) is not None and not any(name.startswith(f"{outer}.") for outer in inner):
            inner.append(name)
    if len(inner) != 1 or not (at is None or at.startswith(f"{inner[0]}.")):
        return None
    return _around(module, inner[0])


def _around(module: nn.Module, name: str) -> Chain | None:
    graph, call, result = _traced(module, name)
    given = [*call.args, *call.kwargs.values()]
    if len(given) != 1 or not isinstance(given[0], fx.Node) or set(call.kwargs) - {"pixel_values"}:
        raise SplitError(f"{name!r} is called with more than the images; {_REMEDY}")
    rest = _after(module, graph, call, result)
    found = chain(module.get_submodule(name), rest, f"{name}.")
    if found is None or given[0].op == "placeholder":
        return found
    before = _subgraph(module, graph, given[0], until=None)

    def behind(make: Any) -> Any:
        def parts() -> tuple[nn.Module, nn.Module]:
            trunk, head = make()
            return Chained([before, trunk]), head

        return parts

    return Chain({layer: behind(make) for layer, make in found.cuts.items()}, found.default, found.alias)


def candidates(module: nn.Module, probe: Tensor) -> list[str]:
    """The layers whose output is a feature map of more than one cell, called once, last first.

    Pooling layers are left out: the layer before one has the finer map of the same features. Looks at a shell of the network, which
    shares its parameters, so that no hook is ever on the module itself.
    """
    copied = _hollow(module, {})
    calls: Counter[str] = Counter()
    found: list[str] = []

    def watch(name: str, part: nn.Module) -> None:
        def note(_: nn.Module, __: Any, output: object) -> None:
            calls[name] += 1
            if isinstance(output, Tensor) and output.ndim == 4 and output.shape[2] * output.shape[3] > 1:
                found.append(name)

        if not type(part).__module__.endswith(".pooling"):
            part.register_forward_hook(note)

    for name, part in copied.named_modules():
        if name:
            watch(name, part)
    with torch.inference_mode():
        copied(probe)
    return [name for name in reversed(found) if calls[name] == 1]


class _Tracer(fx.Tracer):
    """Records the code that encloses one layer; every other module is a single call.

    `fx.Tracer.trace` patches `nn.Module` for the whole process while it runs, so that other threads' networks fail. Here shells of
    the enclosing modules are called, which share everything with them but have stand-ins for children; nothing else is touched.
    """

    def record(self, module: nn.Module, at: str) -> fx.Graph:
        self.root = module
        self.tensor_attrs = {}
        self.graph = fx.Graph()
        batch = self.create_proxy("placeholder", "batch", (), {})
        self.create_node("output", "output", (self.create_arg(self._shell(module, "", at)(batch)),), {})
        return self.graph

    def _shell(self, module: nn.Module, name: str, at: str) -> nn.Module:
        children: dict[str, nn.Module | None] = {}
        for key, child in module._modules.items():
            called = f"{name}.{key}" if name else key
            if child is None:
                children[key] = None
            elif at.startswith(called + "."):
                children[key] = self._shell(child, called, at)
            else:
                children[key] = _StandIn(self, child, called)
        return shell(module, children)


class _StandIn(nn.Module):
    """Notes that it was called, and is otherwise the module that it stands for."""

    def __init__(self, tracer: _Tracer, real: nn.Module, name: str) -> None:
        super().__init__()
        self.training = real.training
        self.__dict__.update(_tracer=tracer, _real=real, _name=name)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.__dict__["_real"], name)

    def forward(self, *inputs: Any, **options: Any) -> Any:
        return self._tracer.create_proxy("call_module", self._name, inputs, options)


def shell(module: nn.Module, children: dict[str, nn.Module | None]) -> nn.Module:
    """An object of the same class with the same state but other children, and without hooks."""
    made: nn.Module = object.__new__(type(module))
    made.__dict__.update(module.__dict__)
    made.__dict__.update(_modules=children)
    for kind in ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks"):
        made.__dict__[kind] = OrderedDict()
    return made


def _hollow(module: nn.Module, made: dict[int, nn.Module]) -> nn.Module:
    """A shell of `module` with shells for children; a module that has two places has one shell in both."""
    if id(module) not in made:
        children = {name: None if child is None else _hollow(child, made) for name, child in module._modules.items()}
        made[id(module)] = shell(module, children)
    return made[id(module)]


def _traced(module: nn.Module, at: str) -> tuple[fx.Graph, fx.Node, fx.Node]:
    """The code around `at`, its one call in there, and the result."""
    try:
        graph = _Tracer().record(module, at)
    except (fx.proxy.TraceError, RuntimeError, TypeError, ValueError, AttributeError, NameError, IndexError) as problem:
        raise SplitError(
            f"the code around {at!r} in {type(module).__name__} cannot be traced by torch.fx ({problem}); {_REMEDY}"
        ) from problem
    calls = [node for node in graph.nodes if node.op == "call_module" and node.target == at]
    if len(calls) != 1:
        raise SplitError(f"{at!r} is called {len(calls)} times in one forward pass, not once; {_REMEDY}")
    result = next(node for node in graph.nodes if node.op == "output").args[0]
    if not isinstance(result, fx.Node):
        raise SplitError(f"{type(module).__name__} does not return a single tensor; {_REMEDY}")
    return graph, calls[0], result


def _cut_traced(module: nn.Module, at: str) -> tuple[nn.Module, nn.Module]:
    graph, call, result = _traced(module, at)
    return _subgraph(module, graph, call, until=None), _after(module, graph, call, result)


def _after(module: nn.Module, graph: fx.Graph, call: fx.Node, result: fx.Node) -> fx.GraphModule:
    head = _subgraph(module, graph, result, until=call)
    if len([node for node in head.graph.nodes if node.op == "placeholder"]) != 1:
        raise SplitError(
            f"what follows {str(call.target)!r} also reads something computed before it; split at a later layer"
        )
    return head


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
    made = fx.GraphModule(module, part)
    ours = set(made.modules()) - set(module.modules())  # whatever is the network's keeps its own mode
    for container in ours:
        container.training = module.training
    return made


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
    elif type(part) in (nn.Sequential, Chained):
        for child in part.children():
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
