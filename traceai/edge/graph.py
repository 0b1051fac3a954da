"""A graph under construction: operators are called by their names of the ONNX standard, and constants are kept once."""

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

# The version of the ONNX operator set that exported files are written in.
OPSET = 20
IR_VERSION = 10

Operand = ir.Value | npt.NDArray[Any] | np.generic


class Graph:
    """Nodes in the order of their calls, and the constants that they read.

    `graph("Add", a, b)` is the one output of that node. Arrays and numpy numbers are taken as constants of their type.
    """

    def __init__(self, prefix: str) -> None:
        """prefix: what the names of its values begin with."""
        self._prefix = prefix
        self._tape = ir.tape.Tape()
        self._constants: dict[tuple[str, tuple[int, ...], bytes], ir.Value] = {}

    @property
    def nodes(self) -> tuple[ir.Node, ...]:
        return tuple(self._tape.nodes)

    @property
    def constants(self) -> tuple[ir.Value, ...]:
        return tuple(self._tape.initializers)

    def __call__(self, operator: str, *operands: Operand | None, **attributes: Any) -> ir.Value:
        (value,) = self.several(operator, 1, *operands, **attributes)
        return value

    def several(self, operator: str, count: int, *operands: Operand | None, **attributes: Any) -> list[ir.Value]:
        """As a call, for an operator with `count` outputs."""
        inputs = [one if one is None or isinstance(one, ir.Value) else self.constant(one) for one in operands]
        name = f"{self._prefix}_{len(self._tape.nodes)}"
        outputs = [ir.Value(name=name if count == 1 else f"{name}_{number}") for number in range(count)]
        self._tape.op_multi_out(operator, inputs, attributes or None, outputs=outputs, name=name)
        return outputs

    def either(
        self, condition: ir.Value, then: Callable[["Graph"], ir.Value], other: Callable[["Graph"], ir.Value]
    ) -> ir.Value:
        """What `then` makes where `condition` holds, and what `other` makes otherwise; only that one is computed."""
        branches = {}
        for name, make in (("then_branch", then), ("else_branch", other)):
            inner = Graph(f"{self._prefix}_{len(self._tape.nodes)}_{name[:4]}")
            result = make(inner)
            branches[name] = ir.Graph([], [result], nodes=inner.nodes, initializers=inner.constants, name=name)
        return self("If", condition, **branches)

    def cast(self, value: Operand, kind: ir.DataType) -> ir.Value:
        return self("Cast", value, to=int(kind))

    def constant(self, array: npt.NDArray[Any] | np.generic) -> ir.Value:
        """The value that is this array, in the graph itself: the same one every time."""
        array = np.ascontiguousarray(array).reshape(np.shape(array))
        key = (array.dtype.str, array.shape, array.tobytes())
        if key not in self._constants:
            name = f"{self._prefix}_constant_{len(self._constants)}"
            self._constants[key] = self._tape.initializer(ir.tensor(array, name=name), name)
        return self._constants[key]
