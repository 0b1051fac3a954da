"""What an exported file says of itself, and how it is opened: ONNX Runtime, no torch.

The file is an ONNX model. Its metadata holds `traceai.format` and, in canonical form, `traceai.manifest`: the manifest of the
version that it was made of, whose SHA-256 is the version's digest. `docs/record-format.md` is normative.
"""

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from traceai.errors import ExportError, ExportTamperedError, InputError, ModelError
from traceai.models.manifest import Manifest

if TYPE_CHECKING:
    from onnxruntime import InferenceSession

FORMAT = "traceai-onnx/1"
FORMAT_KEY, MANIFEST_KEY = "traceai.format", "traceai.manifest"
PROVIDER = "CPUExecutionProvider"
IMAGE = "image"
# What the graph of a file gives, in this order; `bias` where the head is linear.
OUTPUTS = ("logits", "target", "grid", "bias")


@dataclass(frozen=True, eq=False)
class Export:
    """An exported file, open. Threads may share it.

    Attributes:
        sha256: of the file.
        digest: of the manifest in it, and so of the version.
        threads: how many ONNX Runtime uses for one image.
    """

    sha256: str
    digest: str
    manifest: Manifest
    session: "InferenceSession"
    outputs: tuple[str, ...]
    threads: int


def read(path: Path) -> bytes:
    """Raises:
    InputError: there is no such file, or it cannot be read.
    """
    try:
        return path.read_bytes()
    except (OSError, ValueError) as error:  # the latter of a name that no file can have
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise InputError(f"{path} cannot be read ({reason}); name a file that `traceai model export` wrote.") from error


def opened(data: bytes, digest: str | None = None, *, threads: int | None = None) -> Export:
    """The file `data`, ready to run.

    Args:
        digest: the version that it has to be of; any where None is given.
        threads: for one image; as many as this process may use where None is given.

    Raises:
        ExportTamperedError: what is in it is not of that version.
        ExportError: not a file of this format, or ONNX Runtime is not installed.
        InputError: less than one thread.
    """
    if threads is not None and threads < 1:
        raise InputError(f"A file cannot be run in {threads} threads; give one or more.")
    try:
        import onnxruntime  # noqa: PLC0415  # an extra; whoever inspects with torch has none
    except ImportError as error:
        raise ExportError("ONNX Runtime is not installed here; install it with `pip install onnxruntime`.") from error
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads = threads or _usable_processors()
    options.inter_op_num_threads = 1
    options.use_deterministic_compute = True
    options.log_severity_level = 4  # what is wrong is raised
    try:
        session = onnxruntime.InferenceSession(data, options, providers=[PROVIDER])
    except Exception as error:  # the runtime has no common base of its errors
        raise ExportError("This is no ONNX file that this ONNX Runtime can read; export the version again.") from error
    metadata = session.get_modelmeta().custom_metadata_map
    if metadata.get(FORMAT_KEY) != FORMAT:
        raise ExportError(
            f"This ONNX file is not of the format {FORMAT}; export the version with `traceai model export`."
        )
    manifest_bytes = metadata.get(MANIFEST_KEY, "").encode()
    found = hashlib.sha256(manifest_bytes).hexdigest()
    if digest is not None and found != digest:
        raise ExportTamperedError(
            f"The manifest in this file has digest {found}, recorded is {digest}; it is not of that version.",
            recorded=digest,
            found=found,
        )
    try:
        manifest = Manifest.from_bytes(found, manifest_bytes)
    except ModelError as error:
        raise ExportError(f"The manifest in this file cannot be used: {error.message.rstrip('.')}.") from error
    outputs = tuple(output.name for output in session.get_outputs())
    inputs = [(given.name, given.type) for given in session.get_inputs()]
    if inputs != [(IMAGE, "tensor(uint8)")] or outputs not in (OUTPUTS, OUTPUTS[:-1]):
        raise ExportError("This file does not take an image and give logits and a grid; export the version again.")
    return Export(hashlib.sha256(data).hexdigest(), found, manifest, session, outputs, threads)


def _usable_processors() -> int:
    affinity: Any = getattr(os, "sched_getaffinity", None)  # not on every system
    return len(affinity(0)) if affinity else os.cpu_count() or 1
