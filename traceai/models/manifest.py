"""The manifest of a model version: all that decides what it answers, as one canonical JSON object. Needs no torch."""

import json
from typing import Annotated, Literal, Self

import rfc8785
from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError

from traceai.errors import ModelError
from traceai.images.preprocess import Preprocessing
from traceai.models.architectures import ResidualNetwork, VisionTransformer
from traceai.models.operating_point import OperatingPoint

Digest = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]


class ExternalArchitecture(BaseModel):
    """A network whose code is the user's: recorded by name and fixed by its weights, but not rebuilt from here."""

    model_config = ConfigDict(frozen=True, strict=True, extra="forbid")

    family: Literal["external"] = "external"
    type: str

    def describe(self) -> str:
        """One line for people."""
        return f"external {self.type}"


class TrainingProvenance(BaseModel):
    """What a version was trained on and how; floats as decimal strings.

    `snapshot` is the digest of the data snapshot. `settings` and `steps` together repeat the training.
    """

    model_config = ConfigDict(frozen=True, strict=True, extra="forbid")

    snapshot: Digest
    seed: int
    steps: int
    settings: dict[str, str | int | bool | None]
    code_version: str
    torch_version: str


class Manifest(BaseModel):
    """Everything that decides what a version answers."""

    model_config = ConfigDict(frozen=True, strict=True, extra="forbid", populate_by_name=True)

    schema_name: Literal["model/1"] = Field(default="model/1", alias="schema")
    name: str
    architecture: Annotated[ResidualNetwork | VisionTransformer | ExternalArchitecture, Field(discriminator="family")]
    preprocessing: Preprocessing
    classes: tuple[str, ...] = Field(min_length=2)
    operating_point: OperatingPoint | None
    weights_sha256: Digest
    layer: str
    training: TrainingProvenance | None

    def to_bytes(self) -> bytes:
        """The canonical bytes (RFC 8785) whose SHA-256 is the version's digest."""
        return rfc8785.dumps(self.model_dump(mode="json", by_alias=True))

    @classmethod
    def from_bytes(cls, digest: str, data: bytes) -> Self:
        """The manifest whose SHA-256 is `digest`, as the caller found out; `Manifest.from_bytes(d, m.to_bytes()) == m`.

        Raises:
            ModelError: of an unknown schema, or not canonical.
        """
        try:
            manifest = cls.model_validate_json(data)
        except ValidationError as problem:
            raise ModelError(f"the manifest {digest} is not one this release can read: {first(problem)}") from problem
        # Of the bytes themselves, not by way of the model: a later release may know fields that this manifest has not.
        if rfc8785.dumps(json.loads(data)) != data:
            raise ModelError(f"the manifest {digest} is not in canonical form; it was not written by traceai")
        return manifest


def first(problem: ValidationError) -> str:
    """The first thing that is wrong, for people."""
    error = problem.errors()[0]
    return f"{'.'.join(str(part) for part in error['loc'])}: {error['msg']}"
