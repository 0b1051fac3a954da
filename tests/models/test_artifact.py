"""A version comes back exactly as it was packed, or not at all."""

import hashlib
import json
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import rfc8785
import safetensors.torch
import torch
from torch import nn

from tests.explain.networks import CLASSES, SIDE, PlainNet, batch
from traceai.errors import BlobMissingError, ModelError, ModelTamperedError
from traceai.explain import Split
from traceai.images.blobs import BlobStore
from traceai.images.preprocess import Preprocessing
from traceai.models.architectures import ResidualNetwork, build
from traceai.models.artifact import ExternalArchitecture, Manifest, TrainingProvenance, load, pack
from traceai.models.operating_point import OperatingPoint

ARCHITECTURE = ResidualNetwork(
    channels=1, height=SIDE, width=SIDE, embedding_size=4, hidden_sizes=(4, 8), depths=(1, 1)
)
PREPROCESSING = Preprocessing(height=SIDE, width=SIDE, channels=1, mean=("0.4",), std=("0.2",))
TRAINING = TrainingProvenance(
    snapshot="ab" * 32, seed=1, steps=2, settings={"learning_rate": "0.004"}, code_version="0", torch_version="2"
)


@dataclass
class Store:
    """Gives back what it holds, altered or not."""

    held: dict[str, bytes] = field(default_factory=dict)

    def put(self, data: bytes) -> str:
        digest = hashlib.sha256(data).hexdigest()
        self.held[digest] = data
        return digest

    def get(self, digest: str) -> bytes:
        if digest not in self.held:
            raise BlobMissingError(f"no blob {digest}")
        return self.held[digest]


def _pack(module: nn.Module | None = None, **changes: object) -> tuple[bytes, bytes]:
    fields = {
        "name": "tiles",
        "architecture": ARCHITECTURE,
        "preprocessing": PREPROCESSING,
        "classes": CLASSES,
        "operating_point": OperatingPoint(pass_below="0.2", reject_at="0.7"),
        "layer": "resnet.encoder",
        "training": TRAINING,
    }
    return pack(module or build(ARCHITECTURE, CLASSES, seed=1), **{**fields, **changes})  # type: ignore[arg-type]


def _stored(packed: tuple[bytes, bytes]) -> tuple[str, str, Store]:
    store = Store()
    return store.put(packed[0]), store.put(packed[1]), store


def test_a_version_answers_as_the_module_it_was_packed_from() -> None:
    module = build(ARCHITECTURE, CLASSES, seed=1)
    digest, _, store = _stored(_pack(module))
    loaded = load(digest, store)
    images, _ = batch()
    with torch.no_grad():
        assert torch.equal(loaded.split.explain(images).logits, module(images).logits)
    assert loaded.digest == digest
    assert loaded.manifest.operating_point == OperatingPoint(pass_below="0.2", reject_at="0.7")
    assert loaded.manifest.training == TRAINING


def test_a_loaded_version_is_frozen_and_in_evaluation_mode() -> None:
    digest, _, store = _stored(_pack())
    module = load(digest, store).module
    assert not any(part.training for part in module.modules())
    assert not any(parameter.requires_grad for parameter in module.parameters())


def test_packing_twice_gives_the_same_bytes() -> None:
    assert _pack() == _pack()


def test_the_manifest_is_canonical_json_that_names_the_weights() -> None:
    manifest, weights = _pack()
    fields = json.loads(manifest)
    assert fields["schema"] == "model/1"
    assert fields["weights_sha256"] == hashlib.sha256(weights).hexdigest()
    assert rfc8785.dumps(fields) == manifest
    assert Manifest.model_validate_json(manifest).to_bytes() == manifest


def test_weights_are_safetensors_and_hold_no_pickle() -> None:
    _, weights = _pack()
    names = set(safetensors.torch.load(weights))
    assert names == set(build(ARCHITECTURE, CLASSES).state_dict())
    assert not weights.startswith((b"PK", b"\x80"))


def _positions(data: bytes) -> list[int]:
    """Both ends, and forty places between."""
    return sorted({0, 1, 7, 8, 9, len(data) - 1, *range(0, len(data), max(1, len(data) // 40))})


@pytest.mark.parametrize("file", ["manifest", "weights"])
def test_a_flipped_byte_anywhere_is_found_and_the_file_named(file: str) -> None:
    packed = _pack()
    digest, weights_digest, store = _stored(packed)
    original = packed[0] if file == "manifest" else packed[1]
    altered_digest = digest if file == "manifest" else weights_digest
    for position in _positions(original):
        altered = bytearray(original)
        altered[position] ^= 1
        store.held[altered_digest] = bytes(altered)
        with pytest.raises(ModelTamperedError) as caught:
            load(digest, store)
        assert file in caught.value.message
        assert altered_digest in caught.value.message
        assert hashlib.sha256(altered).hexdigest() in caught.value.message


@pytest.mark.parametrize("file", ["manifest", "weights"])
def test_a_store_that_notices_first_is_heard(file: str, tmp_path: Path) -> None:
    store = BlobStore(tmp_path)
    digests = {name: store.put(data) for name, data in zip(("manifest", "weights"), _pack(), strict=True)}
    path = tmp_path / store.path(digests[file])
    altered = bytes(byte ^ 1 for byte in path.read_bytes())
    path.chmod(0o600)
    path.write_bytes(altered)
    with pytest.raises(ModelTamperedError, match=rf"{file}.*{hashlib.sha256(altered).hexdigest()}.*{digests[file]}"):
        load(digests["manifest"], store)


@pytest.mark.parametrize("cut", [0, 1, 100])
def test_truncated_files_are_found(cut: int) -> None:
    packed = _pack()
    for index in (0, 1):
        digests = _stored(packed)
        digests[2].held[digests[index]] = packed[index][:cut]
        with pytest.raises(ModelTamperedError):
            load(digests[0], digests[2])


def test_missing_files_are_named_as_missing_not_as_altered() -> None:
    digest, weights, store = _stored(_pack())
    del store.held[weights]
    with pytest.raises(BlobMissingError):
        load(digest, store)


def _with_state(state: dict[str, torch.Tensor]) -> tuple[str, Store]:
    """A version whose manifest rightly names weights that do not fit."""
    store = Store()
    weights = store.put(safetensors.torch.save(state))
    manifest = Manifest.model_validate_json(_pack()[0]).model_copy(update={"weights_sha256": weights})
    return store.put(manifest.to_bytes()), store


@pytest.mark.parametrize("change", ["missing", "unexpected", "shape", "dtype"])
def test_weights_that_do_not_fit_exactly_are_refused(change: str) -> None:
    state = dict(build(ARCHITECTURE, CLASSES).state_dict())
    bias = state.pop("classifier.1.bias")
    if change == "unexpected":
        state |= {"classifier.1.bias": bias, "classifier.2.bias": bias.clone()}
    elif change == "shape":
        state["classifier.1.bias"] = torch.zeros(1)
    elif change == "dtype":
        state["classifier.1.bias"] = bias.double()
    digest, store = _with_state(state)
    with pytest.raises(ModelError, match="do not fit"):
        load(digest, store)


@pytest.mark.parametrize(
    "change", [{"schema": "model/2"}, {"extra": 1}, {"classes": ["good"]}, {"weights_sha256": "AB"}, {"name": 3}]
)
def test_a_manifest_this_release_does_not_know_is_refused(change: dict[str, object]) -> None:
    store = Store()
    digest = store.put(rfc8785.dumps({**json.loads(_pack()[0]), **change}))
    with pytest.raises(ModelError, match="this release can read"):
        load(digest, store)


def test_a_manifest_that_is_not_canonical_is_refused() -> None:
    manifest, weights = _pack()
    store = Store()
    store.put(weights)
    with pytest.raises(ModelError, match="canonical"):
        load(store.put(manifest + b"\n"), store)


def test_a_version_without_operating_point_or_training_comes_back() -> None:
    digest, _, store = _stored(_pack(operating_point=None, training=None))
    manifest = load(digest, store).manifest
    assert manifest.operating_point is None
    assert manifest.training is None


def _external() -> tuple[str, Store, PlainNet]:
    module = PlainNet().eval()
    packed = _pack(module, architecture=ExternalArchitecture(type="tests.PlainNet"), layer="body")
    digest, _, store = _stored(packed)
    return digest, store, module


def test_a_users_own_network_gets_the_recorded_weights() -> None:
    digest, store, module = _external()
    loaded = load(digest, store, module=PlainNet())
    images, _ = batch()
    with torch.no_grad():
        assert torch.equal(loaded.split.explain(images).logits, module(images))
    assert loaded.split.layer == "body"


def test_a_users_own_network_can_be_split_by_hand() -> None:
    digest, store, _ = _external()
    module = PlainNet()
    parts = Split.of(module.body, nn.Sequential(module.pool, nn.Flatten(), module.fc).eval(), layer="body")
    assert load(digest, store, module=module, parts=parts).split is parts


def test_a_users_own_network_must_be_given_and_ours_must_not() -> None:
    digest, store, module = _external()
    with pytest.raises(ModelError, match="module="):
        load(digest, store)
    digest, _, store = _stored(_pack())
    with pytest.raises(ModelError, match="do not pass"):
        load(digest, store, module=module)


def test_another_network_than_the_recorded_one_is_refused() -> None:
    digest, store, _ = _external()
    with pytest.raises(ModelError, match="do not fit"):
        load(digest, store, module=nn.Sequential(nn.Conv2d(1, 2, 3)))
