"""From pixels to the input of a network, as nodes of an ONNX graph: bit for bit what `Preprocessing.apply` does with Pillow.

Pillow resamples in two passes, along the rows and along the columns. For each output sample it computes weights in
double precision, divides them by their sum, rounds them to 22 bits behind the point, adds weights times 8-bit samples in
integers, and rounds to 8 bits, so that what lies between the passes has 8 bits as well (`src/libImaging/Resample.c`). The
nodes do the same operations in the same order, for whatever size an image has.

Weights times samples are matrix products: 8 neighbouring outputs read one window of the input. A weight is split into three
digits of 8 bits, so that `MatMulInteger` multiplies bytes and adds up exactly; positive and negative weights are multiplied
apart, so that no sum leaves 32 bits.
"""

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from traceai.edge.graph import Graph, Operand
from traceai.images.preprocess import Preprocessing

_BLOCK = 8
_PRECISION = 22
# Half the width of each filter, in samples of the input, or of the output where that is the coarser one.
_SUPPORT = {"box": 0.5, "bilinear": 1.0, "bicubic": 2.0}


def prepare(g: Graph, image: ir.Value, how: Preprocessing) -> ir.Value:
    """float32 (1, channels, height, width) from `image`, uint8 (1, H, W, 1 or 3)."""
    height, width, depth = (g("Gather", g("Shape", image), _int(axis)) for axis in (1, 2, 3))
    left, top, inner_width, inner_height = _placement(g, height, width, how)
    if how.channels == 1:
        samples, planes = _grey(g, image, height, width, depth), g.constant(_int(1))
    else:
        samples, planes = g("Squeeze", image, np.array([0])), depth
    picture = _resized(g, samples, (height, width, planes), (inner_height, inner_width), how.interpolation)
    if how.channels == 3:
        # Red, green and blue; of a grey picture thrice its only plane.
        picture = g("Gather", picture, g("Min", np.array([0, 1, 2]), g("Sub", depth, _int(1))), axis=0)
    normal = _normalised(g, picture, how)
    if how.fit == "letterbox":
        right = g("Sub", _int(how.width), g("Add", left, inner_width))
        bottom = g("Sub", _int(how.height), g("Add", top, inner_height))
        normal = g("Pad", normal, _shape(g, top, left, bottom, right), None, np.array([1, 2]))
    return g("Reshape", normal, np.array([1, how.channels, how.height, how.width]))


def _resized(
    g: Graph, samples: ir.Value, size: tuple[ir.Value, ir.Value, ir.Value], wanted: tuple[ir.Value, ir.Value], kind: str
) -> ir.Value:
    """uint8 (H, W, c) -> (c, height, width).

    A pass works on the first axis. Of all orders of the other two, those are taken that are reached by moving one axis.
    """
    height, width, planes = size
    to_height, to_width = wanted
    downward = _downward_first(g, height, width, to_height, to_width)

    def pick(down: ir.Value, across: ir.Value) -> ir.Value:
        return g("Where", downward, down, across)

    turned = g.either(downward, lambda i: i("Identity", samples), lambda i: i("Transpose", samples, perm=[1, 2, 0]))
    once = _resample(g, turned, pick(height, width), pick(to_height, to_width), kind)
    turned = g.either(
        downward,
        lambda i: i("Transpose", i("Reshape", once, _shape(i, to_height, width, planes)), perm=[1, 2, 0]),
        lambda i: i("Transpose", i("Reshape", once, _shape(i, to_width, planes, height)), perm=[2, 0, 1]),
    )
    twice = _resample(g, turned, pick(width, height), pick(to_width, to_height), kind)
    return g.either(
        downward,
        lambda i: i("Transpose", i("Reshape", twice, _shape(i, to_width, planes, to_height)), perm=[1, 2, 0]),
        lambda i: i("Transpose", i("Reshape", twice, _shape(i, to_height, to_width, planes)), perm=[2, 0, 1]),
    )


def _placement(
    g: Graph, height: ir.Value, width: ir.Value, how: Preprocessing
) -> tuple[ir.Value, ir.Value, ir.Value, ir.Value]:
    """Left, top, width and height of the picture within the input, see `Preprocessing.grid_to_image_box`."""
    across, down = g.constant(_int(how.width)), g.constant(_int(how.height))
    if how.fit == "stretch":
        zero = g.constant(_int(0))
        return zero, zero, across, down

    def rounded(of: ir.Value, by: ir.Value, side: ir.Value) -> ir.Value:
        """`of * side / by`, rounded half up, at least 1."""
        twice = g("Mul", _int(2), g("Mul", of, side))
        return g("Max", _int(1), g("Div", g("Add", twice, by), g("Mul", _int(2), by)))

    wide = g("GreaterOrEqual", g("Mul", width, down), g("Mul", height, across))
    inner_width = g("Where", wide, across, rounded(width, height, down))
    inner_height = g("Where", wide, rounded(height, width, across), down)
    left = g("Div", g("Sub", across, inner_width), _int(2))
    top = g("Div", g("Sub", down, inner_height), _int(2))
    return left, top, inner_width, inner_height


def _downward_first(g: Graph, height: ir.Value, width: ir.Value, to_height: ir.Value, to_width: ir.Value) -> ir.Value:
    """Whether Pillow resamples along the columns first: where that takes away more than twice as many samples.

    From Pillow 13 on; 12 always began with the rows. An export is refused where the Pillow at hand does otherwise.
    """
    shrinks = g("Less", to_height, height)
    more = g("Less", g("Mul", _int(2), g("Sub", width, to_width)), g("Sub", height, to_height))
    return g("And", shrinks, more)


def _grey(g: Graph, image: ir.Value, height: ir.Value, width: ir.Value, depth: ir.Value) -> ir.Value:
    """uint8 (1, H, W, 1 or 3) -> (H, W, 1): ITU-R BT.601 luma as Pillow computes it; a grey picture stays as it is.

    `(19595 r + 38470 g + 7471 b + 32768) >> 16`; the sum is below 2^24, so single precision holds it exactly.
    """

    def luma(i: Graph) -> ir.Value:
        planes = i("Reshape", i("Transpose", image, perm=[0, 3, 1, 2]), np.array([3, -1]))
        total = i("MatMul", np.array([[19595, 38470, 7471]], np.float32), i.cast(planes, ir.DataType.FLOAT))
        scaled = i("Mul", i("Add", total, np.float32(32768)), np.float32(1 / 65536))
        return i("Reshape", i.cast(scaled, ir.DataType.UINT8), _shape(i, height, width, _int(1)))

    return g.either(g("Equal", depth, _int(3)), luma, lambda i: i("Reshape", image, _shape(i, height, width, _int(1))))


def _normalised(g: Graph, picture: ir.Value, how: Preprocessing) -> ir.Value:
    """uint8 (c, h, w) -> float32, `(v / 255 - mean) / std` in double precision and rounded once."""
    mean, std = (np.array([float(v) for v in values]).reshape(-1, 1, 1) for values in (how.mean, how.std))
    unit = g("Div", _double(g, picture), np.float64(255.0))
    return g.cast(g("Div", g("Sub", unit, mean), std), ir.DataType.FLOAT)


# --- one pass of resampling -------------------------------------------------------------------------------------------


def _resample(g: Graph, samples: ir.Value, length: ir.Value, wanted: ir.Value, kind: str) -> ir.Value:
    """uint8 (length, a, b) -> (wanted, a b)."""
    samples = g("Reshape", samples, _shape(g, length, _int(-1)))
    blocks = g("Div", g("Add", wanted, _int(_BLOCK - 1)), _int(_BLOCK))
    # The last block is filled up with the last output.
    outputs = g("Min", g("Range", _int(0), g("Mul", blocks, _int(_BLOCK)), _int(1)), g("Sub", wanted, _int(1)))
    scale = g("Div", _double(g, length), _double(g, wanted))
    spread = g("Max", scale, np.float64(1.0))
    support = g("Mul", np.float64(_SUPPORT[kind]), spread)
    centre = g("Mul", g("Add", _double(g, outputs), np.float64(0.5)), scale)
    first = g("Max", _whole(g, g("Add", g("Sub", centre, support), np.float64(0.5))), _int(0))
    end = g("Min", _whole(g, g("Add", g("Add", centre, support), np.float64(0.5))), length)
    by_block = np.array([-1, _BLOCK, 1])
    centre, first, end = (g("Reshape", value, by_block) for value in (centre, first, end))
    start = g("Slice", first, np.array([0]), np.array([1]), np.array([1]))  # (blocks, 1, 1)
    stop = g("Slice", end, np.array([_BLOCK - 1]), np.array([_BLOCK]), np.array([1]))
    window = g("ReduceMax", g("Sub", stop, start), keepdims=0)
    index = g("Add", start, g("Range", _int(0), window, _int(1)))  # (blocks, 1, window)
    weights = _fixed_point(g, _weights(g, index, centre, first, end, spread, kind))
    # (blocks, window, R): of every block the samples that it reads
    read = g("Gather", samples, g("Squeeze", g("Min", index, g("Sub", length, _int(1))), np.array([1])), axis=0)
    total = _products(g, weights, read, signed=kind == "bicubic")
    rounded = g("Div", g("Add", total, np.int32(1 << (_PRECISION - 1))), np.int32(1 << _PRECISION))
    whole = g.cast(g("Clip", rounded, np.int32(0), np.int32(255)), ir.DataType.UINT8)
    rows = g("Reshape", whole, g("Concat", np.array([-1]), g("Shape", samples, start=1), axis=0))
    return g("Slice", rows, np.array([0]), g("Unsqueeze", wanted, np.array([0])), np.array([0]))


def _weights(
    g: Graph, index: ir.Value, centre: ir.Value, first: ir.Value, end: ir.Value, spread: ir.Value, kind: str
) -> ir.Value:
    """float64 (blocks, outputs, window): how much each output takes of each sample of its window; each output's add up to 1."""
    half = g("Add", g("Sub", _double(g, index), centre), np.float64(0.5))
    at = g("Mul", half, g("Div", np.float64(1.0), spread))
    inside = g("And", g("GreaterOrEqual", index, first), g("Less", index, end))
    weights = g("Where", inside, _FILTERS[kind](g, at), np.float64(0.0))
    # One after the other, as Pillow adds them: the last digit of a sum depends on its order.
    running = g("CumSum", weights, np.array(2))
    return g("Div", weights, g("Slice", running, np.array([-1]), np.array([2**31]), np.array([2])))


def _box(g: Graph, x: ir.Value) -> ir.Value:
    inside = g("And", g("Greater", x, np.float64(-0.5)), g("LessOrEqual", x, np.float64(0.5)))
    return g.cast(inside, ir.DataType.DOUBLE)


def _bilinear(g: Graph, x: ir.Value) -> ir.Value:
    return g("Max", g("Sub", np.float64(1.0), g("Abs", x)), np.float64(0.0))


def _bicubic(g: Graph, x: ir.Value) -> ir.Value:
    """Keys' kernel with a = -0.5 (IEEE Trans. ASSP 29, 1981)."""
    x = g("Abs", x)
    near = g("Sub", g("Mul", np.float64(1.5), x), np.float64(2.5))
    near = g("Add", g("Mul", g("Mul", near, x), x), np.float64(1.0))
    far = g("Add", g("Mul", g("Sub", x, np.float64(5.0)), x), np.float64(8.0))
    far = g("Mul", g("Sub", g("Mul", far, x), np.float64(4.0)), np.float64(-0.5))
    far = g("Where", g("Less", x, np.float64(2.0)), far, np.float64(0.0))
    return g("Where", g("Less", x, np.float64(1.0)), near, far)


_FILTERS = {"box": _box, "bilinear": _bilinear, "bicubic": _bicubic}


def _fixed_point(g: Graph, weights: ir.Value) -> ir.Value:
    """int64 with 22 bits behind the point, rounded half away from zero."""
    scaled = g("Mul", weights, np.float64(1 << _PRECISION))
    half = g("Where", g("Less", weights, np.float64(0.0)), np.float64(-0.5), np.float64(0.5))
    return _whole(g, g("Add", half, scaled))


def _products(g: Graph, weights: ir.Value, samples: ir.Value, *, signed: bool) -> ir.Value:
    """Weights times samples, int64 (blocks, outputs, window) by uint8 (blocks, window, R) -> int32 (blocks, outputs, R)."""
    parts = [g("Max", weights, _int(0)), g("Max", g("Neg", weights), _int(0))] if signed else [weights]
    digits = []
    for part in parts:
        rest = part
        for _ in range(2):
            digits.append(g("Mod", rest, _int(256)))
            rest = g("Div", rest, _int(256))
        digits.append(rest)
    stacked = g.cast(g("Concat", *digits, axis=1), ir.DataType.UINT8)
    products = g("MatMulInteger", stacked, samples)
    sums = g.several("Split", len(digits), products, axis=1, num_outputs=len(digits))
    totals = []
    for low, middle, high in zip(sums[::3], sums[1::3], sums[2::3], strict=True):
        upper = g("Add", middle, g("Mul", high, np.int32(256)))
        totals.append(g("Add", low, g("Mul", upper, np.int32(256))))
    return g("Sub", *totals) if signed else totals[0]


# --- shapes and types ---------------------------------------------------------------------------------------------------


def _shape(g: Graph, *sides: Operand) -> ir.Value:
    """int64 (n,) of n numbers."""
    return g("Concat", *(g("Unsqueeze", side, np.array([0])) for side in sides), axis=0)


def _int(value: int) -> npt.NDArray[np.int64]:
    return np.array(value, np.int64)


def _double(g: Graph, value: ir.Value) -> ir.Value:
    return g.cast(value, ir.DataType.DOUBLE)


def _whole(g: Graph, value: ir.Value) -> ir.Value:
    """Truncated towards zero."""
    return g.cast(value, ir.DataType.INT64)
