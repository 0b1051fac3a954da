"""One tree of errors. Each class has a stable `code`; the command line and HTTP only translate it.

The message is one sentence that says what is wrong and what to do. The five branches say *whose turn it is*:

- `InputError`: the caller's; exit 2, HTTP 4xx.
- `NotFoundError`, `ConflictError`, `ForbiddenError`: likewise, named apart because HTTP names them apart.
- `UnavailableError`: the operator's; exit 2, HTTP 503.
- `VerificationError`: evidence does not hold; exit 1, never to be confused with a crash (exit 3).
"""

from collections.abc import Iterator
from typing import ClassVar


class TraceaiError(Exception):
    """Base of everything traceai raises on purpose."""

    code: ClassVar[str] = "error"

    def __init__(self, message: str, **details: object) -> None:
        super().__init__(message)
        self.message = message
        self.details = details

    @property
    def cause(self) -> str:
        """What is wrong, without what to do about it: the sentence up to its semicolon."""
        return self.message.partition("; ")[0].rstrip(".") + "."


def recorded_error(code: str, message: str) -> TraceaiError:
    """A failure as it stands on record, as the error that it was; one that a later release knew is an InputError."""

    def families(family: type[TraceaiError]) -> Iterator[type[TraceaiError]]:
        yield family
        for kind in family.__subclasses__():
            yield from families(kind)

    return next((kind for kind in families(TraceaiError) if kind.code == code), InputError)(message)


class InputError(TraceaiError):
    code = "bad-input"


class UsageError(InputError):
    """A command line that names no command, or not what the command needs."""

    code = "usage"


class NotFoundError(InputError):
    code = "not-found"


class ConflictError(InputError):
    code = "conflict"


class ForbiddenError(InputError):
    code = "forbidden"


class AuthenticationError(InputError):
    code = "not-authenticated"


class UnavailableError(TraceaiError):
    code = "unavailable"


class VerificationError(TraceaiError):
    code = "verification-failed"


# --- images ----------------------------------------------------------------------------------------------------------


class ImageError(InputError):
    """An image that cannot be inspected. The attempt is recorded as `inspection-failed`."""

    code = "image-unreadable"


class ImageMissingError(ImageError):
    code = "image-missing"


class ImageEmptyError(ImageError):
    code = "image-empty"


class ImageTooLargeError(ImageError):
    """More bytes or more pixels than the limits allow; found before any pixel is decoded."""

    code = "image-too-large"


class ImageTruncatedError(ImageError):
    code = "image-truncated"


class ImageAnimatedError(ImageError):
    code = "image-animated"


class ImageFormatError(ImageError):
    """Not an image, or a format or pixel mode that is not accepted."""

    code = "image-format"


# --- data ------------------------------------------------------------------------------------------------------------


class DatasetError(InputError):
    code = "dataset-invalid"


class DatasetMissingError(DatasetError):
    code = "dataset-missing"


class DatasetEmptyError(DatasetError):
    code = "dataset-empty"


class DatasetChangedError(VerificationError):
    """The files of a snapshot no longer have the digests that were recorded."""

    code = "dataset-changed"


# --- models and explanations -----------------------------------------------------------------------------------------


class ModelError(InputError):
    code = "model-invalid"


class ModelNotFoundError(NotFoundError):
    code = "model-not-found"


class ModelStateError(ConflictError):
    """The version's life does not allow this step now (approving what is retired, inspecting with what is not active)."""

    code = "model-state"


class ModelTamperedError(VerificationError):
    """Stored model bytes do not have the recorded digest. The version is refused and the refusal is recorded."""

    code = "model-tampered"


class SplitError(ModelError):
    """A network that cannot be split into trunk and head, or whose split does not reproduce its logits."""

    code = "split-unsupported"


class MethodNotOfferedError(InputError):
    """An explanation method that does not exist, or that is refused because it does not explain the network."""

    code = "method-not-offered"


class ExportError(ModelError):
    """A version that cannot be written as ONNX, or whose export does not answer as the version does."""

    code = "export-unsupported"


class ExportTamperedError(VerificationError):
    """An exported file whose bytes, manifest or parts are not what was exported and registered."""

    code = "export-tampered"


# --- database, storage, configuration --------------------------------------------------------------------------------


class SettingsError(InputError):
    code = "settings-invalid"


class HomeError(UnavailableError):
    """TRACEAI_HOME cannot be used: not writable, or unsafe for the embedded server."""

    code = "home-unusable"


class DatabaseUnavailableError(UnavailableError):
    code = "database-unavailable"


class DatabaseRefusedError(UnavailableError):
    """The server answered and said no: wrong password, unknown role or database."""

    code = "database-refused"


class SchemaError(UnavailableError):
    """The schema is missing, older or newer than this release expects."""

    code = "schema-not-current"


class BlobMissingError(NotFoundError):
    code = "blob-missing"


class BlobTamperedError(VerificationError):
    code = "blob-tampered"


class PortTakenError(UnavailableError):
    code = "port-taken"


class OutputError(UnavailableError):
    """Standard output is closed, or cannot be written to."""

    code = "output-failed"


# --- ledger and decisions --------------------------------------------------------------------------------------------


class RecordError(VerificationError):
    """Bytes that are not a canonical record of a known schema."""

    code = "record-invalid"


class JournalAlteredError(VerificationError):
    """The journal itself is not what was recorded, so that nothing may be made after it."""

    code = "journal-altered"


class LedgerGapError(VerificationError):
    """Something that the ledger must hold is not there."""

    code = "ledger-gap"


class NoteError(VerificationError):
    """A signed note, or a key of one, that the specification tells a verifier to refuse."""

    code = "note-invalid"


class CheckpointError(VerificationError):
    """A signed text that is no tree head."""

    code = "checkpoint-invalid"


class ProofError(VerificationError):
    """A transparency log proof whose text is malformed."""

    code = "proof-invalid"


class TileError(InputError):
    """A tile path that names no tile, or bytes that are none."""

    code = "tile-invalid"


class EvidenceError(VerificationError):
    """Bytes that are not an evidence file, or a file that does not prove what it is handed out for."""

    code = "evidence-invalid"


class PolicyError(VerificationError):
    """A witness policy that cannot be evaluated."""

    code = "policy-invalid"


class TimestampError(VerificationError):
    """A timestamp that does not hold: not of this text, or not by an authority that is trusted."""

    code = "timestamp-invalid"


class UnreachableError(UnavailableError):
    """Another machine did not answer in time, or not with what was asked for."""

    code = "unreachable"


class KeyFileError(UnavailableError):
    """A private key that is not there, is another than the one on record, or can be read by others."""

    code = "key-unusable"


class CheckpointStoreError(UnavailableError):
    """The file of checkpoints outside the database is gone, damaged, foreign or busy."""

    code = "checkpoint-store-unusable"


class CheckpointConflictError(ConflictError):
    """The store has another last checkpoint than the one that was built upon, or a later one than the one offered."""

    code = "checkpoint-conflict"


class LedgerForeignError(UnavailableError):
    """This home cannot sign for this ledger."""

    code = "ledger-foreign"


class LedgerRolledBackError(VerificationError):
    """The journal is older than the last checkpoint that this home signed."""

    code = "ledger-rolled-back"


class LedgerForkedError(VerificationError):
    """The journal is not the one that this home signed."""

    code = "ledger-forked"


class WitnessContradictionError(VerificationError):
    """A witness answered that it has cosigned another history of this ledger."""

    code = "witness-contradiction"


class LedgerTakenError(VerificationError):
    """The journal gives the ledger that this home signs to a key or an origin of somebody else."""

    code = "ledger-taken"


class CheckpointNotFoundError(NotFoundError):
    """The ledger was not signed yet."""

    code = "checkpoint-not-found"


class TileNotFoundError(NotFoundError):
    """No checkpoint was served whose tree has this tile."""

    code = "tile-not-found"


class PrunedError(NotFoundError):
    """The tile ends before the first entry that this service still publishes."""

    code = "tile-pruned"


class DecisionNotFoundError(NotFoundError):
    code = "decision-not-found"


class ReplayDiffersError(VerificationError):
    """A past decision, made again from the store, is not the one on record."""

    code = "replay-differs"


class IdTakenError(ConflictError):
    """The id that the caller chose is on record for another inspection."""

    code = "id-taken"


class RecordRefusedError(InputError):
    """A record that the database can never take as it is. It is kept aside, and the rest go on."""

    code = "record-refused"


class SpoolError(UnavailableError):
    """The spool cannot be used: the disk is full, the home is read-only, or its file is damaged."""

    code = "spool-unusable"


class StationNotFoundError(NotFoundError):
    code = "station-not-found"


class UserNotFoundError(NotFoundError):
    code = "user-not-found"


class AlreadyExistsError(ConflictError):
    code = "already-exists"
