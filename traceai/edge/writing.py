"""A model version as one ONNX file: from the pixels of an image to the logits and the explanation.

The same version gives the same bytes, with the same tools. Nothing of the machine that wrote it is in them.
"""

from collections.abc import Iterator

import onnx_ir as ir
from google.protobuf.message import EncodeError
from onnx_ir.passes import common

from traceai.edge.file import FORMAT, FORMAT_KEY, IMAGE, MANIFEST_KEY
from traceai.edge.graph import IR_VERSION, OPSET, Graph
from traceai.edge.network import network
from traceai.edge.preparation import prepare
from traceai.errors import ExportError
from traceai.images.preprocess import Preprocessing
from traceai.models.artifact import LoadedModel
from traceai.models.scores import defect_classes


def write(model: LoadedModel, *, explained: bool = True) -> bytes:
    """The file. `explained`: without it the logits alone are kept, and what only the explanation needs is left out.

    Raises:
        ExportError: the network cannot be written as ONNX, or the file would exceed 2 GiB.
    """
    manifest = model.manifest
    if model.split.layer != manifest.layer:
        raise ExportError(
            f"The version is explained at {manifest.layer!r}, and this network was split at {model.split.layer!r}; load it "
            "with the parts that it was registered with."
        )
    how = manifest.preprocessing
    made = network(model.split, defect_classes(manifest.classes), (how.channels, how.height, how.width))
    _put_before(made.graph, how)
    if not explained:
        del made.graph.outputs[1:]
        common.RemoveUnusedNodesPass()(made)
    _strip(made)
    made.metadata_props[FORMAT_KEY] = FORMAT
    made.metadata_props[MANIFEST_KEY] = manifest.to_bytes().decode()
    return serialised(made)


def preparation(how: Preprocessing) -> bytes:
    """A file that only prepares images, `input` being what the network would be given; to be compared with Pillow's."""
    g = Graph("prepare")
    image = _image()
    prepared = prepare(g, image, how)
    prepared.name, prepared.type = "input", ir.TensorType(ir.DataType.FLOAT)
    prepared.shape = ir.Shape((1, how.channels, how.height, how.width))
    graph = ir.Graph(
        [image], [prepared], nodes=g.nodes, initializers=g.constants, opset_imports={"": OPSET}, name="preparation"
    )
    return serialised(ir.Model(graph, ir_version=IR_VERSION))


def serialised(model: ir.Model) -> bytes:
    """Raises:
    ExportError: protocol buffers hold no more than 2 GiB.
    """
    try:
        data: bytes = ir.to_proto(model).SerializeToString(deterministic=True)
    except (EncodeError, ValueError) as error:
        raise ExportError("This network is larger than the 2 GiB that one ONNX file can hold.") from error
    return data


def _image() -> ir.Value:
    return ir.val(IMAGE, dtype=ir.DataType.UINT8, shape=(1, "height", "width", "channels"))


def _put_before(graph: ir.Graph, how: Preprocessing) -> None:
    """Prepare the image in front of what reads the network's input."""
    g = Graph("prepare")
    image = _image()
    (given,) = graph.inputs
    prepared = prepare(g, image, how)
    for constant in g.constants:
        graph.register_initializer(constant)
    graph.insert_before(graph[0], g.nodes)
    ir.convenience.replace_all_uses_with(given, prepared)
    graph.inputs[:] = [image]


def _strip(model: ir.Model) -> None:
    """Take out where in whose code a node comes from: it names folders of this machine, and differs from run to run."""
    model.producer_name, model.producer_version, model.doc_string = "traceai", None, None
    model.ir_version = IR_VERSION
    model.metadata_props.clear()
    for graph in _graphs(model):
        graph.doc_string = None
        graph.metadata_props.clear()
        for value in (*graph.inputs, *graph.initializers.values()):
            value.doc_string = None
            value.metadata_props.clear()
        for node in graph:
            node.doc_string = None
            node.metadata_props.clear()
            for value in node.outputs:
                value.doc_string = None
                value.metadata_props.clear()


def _graphs(model: ir.Model) -> Iterator[ir.Graph]:
    yield model.graph
    yield from (graph for graph in model.graph.subgraphs() if graph is not model.graph)
