"""A model version as two files in the content-addressed store: a canonical manifest, and the weights it names.

The version's digest is the SHA-256 of the manifest, which holds the SHA-256 of the weights: one digest fixes both. The
manifest is JSON as RFC 8785 canonicalises it, the weights are safetensors. No pickle is read or written.
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import safetensors.torch
import torch
from pydantic import ValidationError
from safetensors import SafetensorError
from torch import Tensor, nn

from traceai.errors import BlobTamperedError, ModelError, ModelTamperedError
from traceai.explain.splitting import Split, split
from traceai.images.preprocess import Preprocessing
from traceai.models.architectures import Architecture, build
from traceai.models.manifest import ExternalArchitecture, Manifest, TrainingProvenance, first
from traceai.models.operating_point import OperatingPoint

__all__ = ["ExternalArchitecture", "LoadedModel", "Manifest", "TrainingProvenance", "load", "pack"]


class Blobs(Protocol):
    """A content-addressed store: `get(put(data)) == data`, and `put(data)` is the SHA-256 of `data` in hex."""

    def get(self, digest: str) -> bytes: ...

    def put(self, data: bytes) -> str: ...


@dataclass(frozen=True, slots=True)
class LoadedModel:
    """A version ready to inspect: `module` is in evaluation mode and frozen, `split` shares its parameters."""

    digest: str
    manifest: Manifest
    module: nn.Module
    split: Split


def pack(
    module: nn.Module,
    *,
    name: str,
    architecture: Architecture | ExternalArchitecture,
    preprocessing: Preprocessing,
    classes: Sequence[str],
    operating_point: OperatingPoint | None,
    layer: str,
    training: TrainingProvenance | None,
) -> tuple[bytes, bytes]:
    """Manifest bytes and weights bytes of a version. Equal inputs give equal bytes.

    Raises:
        ModelError: the parts do not belong together.
    """
    # Copies: safetensors refuses tensors that share memory, as tied weights do, or are not contiguous.
    state = {
        key: tensor.detach().cpu().clone(memory_format=torch.contiguous_format)
        for key, tensor in module.state_dict().items()
    }
    weights = safetensors.torch.save(state)
    try:
        manifest = Manifest(
            name=name,
            architecture=architecture,
            preprocessing=preprocessing,
            classes=tuple(classes),
            operating_point=operating_point,
            weights_sha256=_sha256(weights),
            layer=layer,
            training=training,
        )
    except ValidationError as problem:
        raise ModelError(f"the manifest of {name!r} is not valid: {first(problem)}") from problem
    return manifest.to_bytes(), weights


def load(digest: str, blobs: Blobs, *, module: nn.Module | None = None, parts: Split | None = None) -> LoadedModel:
    """The version `digest`, verified byte for byte before anything in it is used.

    Args:
        digest: the SHA-256 of the manifest.
        blobs: the store both files are in.
        module: for an external architecture, the user's network; its parameters are overwritten with the version's.
        parts: for an external architecture that cannot be split by name, trunk and head of `module`.

    Raises:
        ModelTamperedError: the bytes of either file do not have their digest.
        ModelError: a manifest of an unknown schema, weights that do not fit the architecture exactly, or a missing
            or superfluous `module`.
        BlobMissingError: the store has not got a file.
    """
    manifest_bytes = _verified("manifest", digest, blobs)
    manifest = Manifest.from_bytes(digest, manifest_bytes)
    weights = _verified("weights", manifest.weights_sha256, blobs)

    if isinstance(manifest.architecture, ExternalArchitecture):
        if module is None:
            raise ModelError(
                f"{manifest.name!r} is the user's own {manifest.architecture.type}, whose code is not kept here; in "
                "Python, pass it as module="
            )
    elif module is not None or parts is not None:
        raise ModelError(f"{manifest.name!r} is built from its manifest; do not pass a module or its parts")
    else:
        module = build(manifest.architecture, manifest.classes)
    _fill(module, weights)
    module.eval().requires_grad_(False)
    size = (2, manifest.preprocessing.channels, manifest.preprocessing.height, manifest.preprocessing.width)
    probe = torch.randn(size, generator=torch.Generator().manual_seed(0))
    return LoadedModel(digest, manifest, module, parts or split(module, manifest.layer, probe=probe))


def _verified(file: str, digest: str, blobs: Blobs) -> bytes:
    data = b""
    try:
        data = blobs.get(digest)
        found = _sha256(data)
    except BlobTamperedError as problem:
        found = str(problem.details.get("found"))
    if found != digest:
        raise ModelTamperedError(
            f"the {file} of a model version was altered: its digest is {found}, recorded is {digest}",
            file=file,
            recorded=digest,
            found=found,
        )
    return data


def _fill(module: nn.Module, weights: bytes) -> None:
    try:
        stored = safetensors.torch.load(weights)
    except SafetensorError as problem:
        raise ModelError(f"the weights are not a safetensors file: {problem}") from problem
    differing = sorted(set(_shapes(module.state_dict()).items()) ^ set(_shapes(stored).items()))
    if differing:
        name, found = differing[0]
        raise ModelError(
            f"the weights do not fit the network: {name!r} with {found} is on one side only, and so are "
            f"{len(differing) - 1} more"
        )
    module.load_state_dict(stored)


def _shapes(tensors: Mapping[str, Tensor]) -> dict[str, str]:
    return {name: f"{tensor.dtype} {tuple(tensor.shape)}" for name, tensor in tensors.items()}


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
