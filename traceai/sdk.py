"""`traceai.connect()`: the three lines that put an inspection on record."""

import getpass
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from traceai.clock import now
from traceai.db.connection import Database
from traceai.db.tables import ModelExport, Station
from traceai.errors import (
    AlreadyExistsError,
    ExportError,
    InputError,
    ModelError,
    StationNotFoundError,
    UnavailableError,
)
from traceai.images.blobs import BlobStore
from traceai.images.preprocess import Preprocessing
from traceai.inspection import stages
from traceai.inspection.batching import Batcher
from traceai.inspection.inspector import BATCH, Inspector
from traceai.inspection.known import KnownLines, Line
from traceai.inspection.recording.recorder import Recorder
from traceai.inspection.replay import Replay, Replayer
from traceai.inspection.stages import Stages
from traceai.ledger.signing.checkpoints import Stored
from traceai.ledger.signing.signer import Signer
from traceai.settings import Settings

if TYPE_CHECKING:  # torch takes seconds to import
    from torch import nn

    from traceai.edge.inspector import EdgeInspector
    from traceai.explain.splitting import Split
    from traceai.models.operating_point import OperatingPoint

DEFAULT_PASS_AUDIT = 0.05


class Trace:
    """An open connection to the ledger and the blob store. Close it, or use it as a context manager.

    Attributes:
        signer: what `TRACEAI_HOME` remembers of the ledger, and its keys. From here on it is asked before every append.
        recorder: what every inspection goes through. stages: how long they took.
    """

    def __init__(self, settings: Settings, database: Database, blobs: BlobStore) -> None:
        self.settings, self.database, self.blobs = settings, database, blobs
        self.signer = Signer(database, settings.absolute_home)
        self.stages = Stages()
        self.recorder = Recorder(
            database, settings.absolute_home, beside=lambda: stages.keep(self.recorder.database, self.stages)
        )
        # Loaded networks by digest: a digest never means another network, so there is nothing to invalidate.
        self._batchers: dict[str, Batcher] = {}
        self._replayer = Replayer(database, blobs)

    def inspector(
        self,
        model: str,
        station: str,
        *,
        actor: str | None = None,
        module: "nn.Module | None" = None,
        split: "Split | None" = None,
    ) -> Inspector:
        """An inspector for `NAME` (its active version) or `NAME@V` at a station.

        While the database is away, what is asked for is what it was when the database last answered, if that was asked here before.

        Args:
            model: the version to inspect with.
            station: a station added before.
            actor: who asks, for the record of a refusal; the system user where nobody is named.
            module, split: the network of a version that `register_model` entered in another process; its parameters
                are overwritten with the registered ones.

        Raises:
            ModelNotFoundError, ModelStateError: no such version, or not one to inspect with.
            ModelError: a network of your own that was not passed as `module`, or torch is not installed.
            ModelTamperedError: its files are not what was registered; the refusal is recorded.
            StationNotFoundError: no such station.
            UnavailableError: the database is away, and this was never asked for in this home.
        """
        from traceai.models import registry  # noqa: PLC0415

        try:
            from traceai.inspection.engine import Engine  # noqa: PLC0415  # imports torch, which auditors do not need
        except ImportError as error:
            raise ModelError(
                f"{error.name} is not installed here; install it, or inspect with an exported file (`--onnx`)."
            ) from error
        line = self._line(model, station)
        if line.digest not in self._batchers:
            loaded = registry.load(
                self.database, self.blobs, line.model, actor=actor or operator(), module=module, parts=split
            )
            self._batchers[line.digest] = Batcher(Engine(loaded), BATCH)
        return Inspector(self.database, self.blobs, self.recorder, self._batchers[line.digest], line, self.stages)

    def edge_inspector(self, file: str | Path, station: str, *, threads: int | None = None) -> "EdgeInspector":
        """An inspector that runs a file of `export_model` in ONNX Runtime, and needs no torch.

        While the database is away, a file that it vouched for in this home before goes on inspecting, into the spool.

        Args:
            file: what `export_model` or `traceai model export` wrote.
            station: a station added before.
            threads: for one image; as many as this process may use where None is given.

        Raises:
            ExportTamperedError: these bytes are not on record as an export, or what is in them is not of the recorded version.
            ExportError: the file cannot be run here.
            InputError: the file cannot be read, or less than one thread.
            ModelStateError: every version that it was registered for was retired.
            StationNotFoundError: no such station.
            UnavailableError: the database is away, and never vouched for this file in this home.
        """
        from traceai.edge.inspector import EdgeInspector  # noqa: PLC0415  # an extra

        return EdgeInspector.open(
            Path(file),
            station,
            database=self.database,
            blobs=self.blobs,
            recorder=self.recorder,
            stages=self.stages,
            lines=KnownLines(self.settings.absolute_home),
            threads=threads,
        )

    def export_model(
        self,
        model: str,
        *,
        made_by: str | None = None,
        module: "nn.Module | None" = None,
        split: "Split | None" = None,
    ) -> tuple[bytes, ModelExport]:
        """Write a version as one ONNX file, check that it answers as the version does, and enter its digest in the ledger.

        Args:
            model: `NAME` (its active version) or `NAME@V`.
            made_by: who exports it; the system user where nobody is named.
            module, split: see `inspector`.

        While torch's exporter runs, seconds for a small network, it changes torch for the whole process: do not inspect with torch
        in the same process meanwhile.

        Returns:
            The file, and what is on record of it.

        Raises:
            ModelNotFoundError, ModelStateError: no such version, or a retired one.
            ModelTamperedError: its files are not what was registered; the refusal is recorded.
            ExportError: the network cannot be written as ONNX, or the file answers otherwise; then nothing is recorded.
        """
        from traceai.models import registry  # noqa: PLC0415

        try:
            from traceai.edge import exporting  # noqa: PLC0415  # an extra
        except ImportError as error:
            raise ExportError(
                f"{error.name} is not installed here; install it with `pip install 'traceai[edge]'`."
            ) from error
        actor = made_by or operator()
        with self.database.session() as session:
            row = registry.find(session, model)
            registry.require_usable(session, row.name, row.version)
            reference = registry.reference_of(row)
        loaded = registry.load(self.database, self.blobs, reference, actor=actor, module=module, parts=split)
        exported = exporting.export(loaded)
        with self.database.session() as session:
            entered = exporting.register(session, self.blobs, reference, exported, made_by=actor)
        return exported.data, entered

    def _line(self, model: str, station: str) -> Line:
        """What is asked for, as the database says, or as it said when it last answered."""
        from traceai.models import registry  # noqa: PLC0415

        known = KnownLines(self.settings.absolute_home)
        try:
            with self.recorder.database.session() as session:
                row = registry.find(session, model)
                registry.require_usable(session, row.name, row.version)
                place = session.get(Station, station)
        except UnavailableError as away:
            return known.recall(model, station, away)
        if place is None:
            raise StationNotFoundError(f"There is no station {station}; add it with `traceai station add {station}`.")
        line = Line(row.name, row.version, row.digest.hex(), station, place.audit_pass_probability)
        known.remember(model, line)
        return line

    def register_model(
        self,
        name: str,
        module: "nn.Module",
        *,
        classes: Sequence[str],
        preprocessing: Preprocessing,
        split: "str | Split | None" = None,
        operating_point: "OperatingPoint | None" = None,
        evaluation: Mapping[str, Any] | None = None,
        made_by: str | None = None,
    ) -> str:
        """Make an existing PyTorch classifier traceable: enter it as the next version of `name`.

        Its weights are kept under their digest; its code stays yours, so another process passes it to `inspector`.

        Args:
            name: what to call the model: lower-case letters, digits, `.`, `_` and `-`.
            module: takes (N, C, H, W) float32, returns (N, classes) logits; put into evaluation mode.
            classes: names in the order of the logits; "good" is the class of good parts, the others are defect types.
            preprocessing: from decoded pixels to the network's input; part of the version's digest.
            split: the dotted name of the layer whose output is the feature map, or trunk and head; None for the
                architectures that `traceai.explain.split` knows.
            operating_point: None leaves every verdict undecided.
            evaluation: JSON values, floats as decimal strings; printed in reports.
            made_by: who cannot approve it later; the system user where nobody is named.

        Returns:
            `NAME@V`.

        Raises:
            SplitError: the network cannot be split there, or the split does not reproduce its logits.
            ModelError: the parts do not belong together, or `name` is none.
        """
        import torch  # noqa: PLC0415  # takes seconds to import

        from traceai.explain.splitting import Split  # noqa: PLC0415
        from traceai.explain.splitting import split as split_at  # noqa: PLC0415
        from traceai.inspection.engine import Engine  # noqa: PLC0415
        from traceai.models import registry  # noqa: PLC0415
        from traceai.models.artifact import ExternalArchitecture, LoadedModel, Manifest, pack  # noqa: PLC0415

        module.eval().requires_grad_(False)
        shape = (2, preprocessing.channels, preprocessing.height, preprocessing.width)
        probe = torch.randn(shape, generator=torch.Generator().manual_seed(0))
        if isinstance(split, Split):
            # Slices and wrappers around the network's layers are modules of their own, with a mode of their own.
            split.trunk.eval()
            split.head.eval()
            parts = split
        else:
            parts = split_at(module, split, probe=probe)
        outputs = parts.logits(probe).shape[1]
        if outputs != len(classes):
            raise ModelError(
                f"The network has {outputs} outputs and {len(classes)} classes are named; name one for each output."
            )
        manifest_bytes, weights = pack(
            module,
            name=name,
            architecture=ExternalArchitecture(type=f"{type(module).__module__}.{type(module).__qualname__}"),
            preprocessing=preprocessing,
            classes=classes,
            operating_point=operating_point,
            layer=parts.layer,
            training=None,
        )
        manifest = Manifest.model_validate_json(manifest_bytes)
        with self.database.session() as session:
            row = registry.register(
                session,
                self.blobs,
                manifest,
                weights,
                parameters=sum(parameter.numel() for parameter in module.parameters()),
                snapshot_name=None,
                evaluation=evaluation or {},
                made_by=made_by or operator(),
            )
        digest = row.digest.hex()
        self._batchers[digest] = Batcher(Engine(LoadedModel(digest, manifest, module, parts)), BATCH)
        return f"{row.name}@{row.version}"

    def replay(
        self,
        reference: str,
        *,
        actor: str | None = None,
        module: "nn.Module | None" = None,
        split: "Split | None" = None,
    ) -> Replay:
        """Make a past decision again from the store alone, and hold it against its record.

        `replay.agrees` says whether it holds; `replay.explain("occlusion", on=date.today())` explains it in another way.

        Args:
            reference: its id, or its ledger index.
            actor: who asks, for the record of a refusal; the system user where nobody is named.
            module, split: the network of a version that `register_model` entered. It is copied, and stays as it is.

        Raises:
            DecisionNotFoundError, ConflictError, BlobMissingError, BlobTamperedError, ModelTamperedError, ModelError,
            VerificationError: see `Replayer.replay`.
        """
        return self._replayer.replay(reference, actor=actor or operator(), module=module, parts=split)

    def add_station(self, name: str, *, audit_pass_probability: float = DEFAULT_PASS_AUDIT) -> None:
        """Add a place on the line, and the probability with which its passes are drawn for blind verification.

        Raises:
            AlreadyExistsError: the name is taken.
            InputError: the probability is not in (0, 1]: without verified passes no miss rate can be estimated.
        """
        if not 0 < audit_pass_probability <= 1:
            raise InputError(
                f"The audit probability {audit_pass_probability} is not above 0 and at most 1; without verified passes no "
                "miss rate can be estimated."
            )
        if not name.strip() or not name.isprintable() or len(name) > 200:
            raise InputError("A station needs a printable name of at most 200 characters.")
        with self.database.session() as session:
            if session.get(Station, name) is not None:
                raise AlreadyExistsError(f"There is a station {name} already; choose another name.")
            session.add(Station(name=name, audit_pass_probability=audit_pass_probability, created_at=now()))

    def checkpoint(self) -> Stored:
        """Sign the ledger as it stands. A service does so every few seconds; a script does so at its end.

        Raises:
            LedgerRolledBackError, LedgerForkedError: this is not the ledger that this home signed before.
            LedgerForeignError, KeyFileError, CheckpointStoreError: this home cannot sign it.
        """
        return self.signer.sign()

    def close(self) -> None:
        """Record what was submitted, and let go. What waits in the spool stays there for the next process."""
        self.recorder.close()
        self.database.close()

    def __enter__(self) -> "Trace":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def connect(settings: Settings | None = None) -> Trace:
    """Open the database and the blob store that the environment names (`TRACEAI_HOME` and the others).

    A database that does not answer may come back: lines that this home knows go on inspecting, and everything else raises
    DatabaseUnavailableError where it is asked for.

    A new ledger gets its first entry here, which names its origin and its key. One that contradicts what this home signed can be
    looked at, and refuses to be written to.

    Raises:
        SettingsError, UnavailableError: see `Database.open`.
    """
    trace = attach(settings)
    try:
        trace.signer.begin()
    except BaseException:
        trace.close()
        raise
    return trace


def attach(settings: Settings | None = None) -> Trace:
    """As `connect`, and write nothing: a new ledger stays without an origin until something is signed."""
    settings = settings or Settings.from_environment()
    if settings.blobs is None:
        settings.ensure_home()
    blobs = BlobStore(settings.blobs_url)
    return Trace(settings, Database.open(settings, may_be_away=True), blobs)


def operator() -> str:
    """Who runs this process, as the operating system knows them: the `actor` where nobody else is named."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return f"uid {os.getuid()}"
