"""Model versions in the ledger: registered, approved by somebody else, activated, retired. Nothing is ever edited."""

from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from sqlalchemy import func, select, text
from sqlmodel import Session

from traceai.data.snapshot import NAME, Snapshot
from traceai.db.connection import Database
from traceai.db.tables import ExplanationQuality as ExplanationQualityRow
from traceai.db.tables import ModelEvent, ModelVersion
from traceai.errors import (
    ForbiddenError,
    InputError,
    ModelError,
    ModelNotFoundError,
    ModelStateError,
    ModelTamperedError,
    UnavailableError,
)
from traceai.images.blobs import BlobStore
from traceai.inspection.history import model_events
from traceai.ledger import log, records
from traceai.ledger.records import ModelRef, validated

if TYPE_CHECKING:  # torch takes seconds to import, and whoever only lists versions needs none
    from torch import nn

    from traceai.explain.quality import ExplanationQuality
    from traceai.explain.splitting import Split
    from traceai.models.artifact import LoadedModel, Manifest

# Serialises the choice of version numbers; "mode" in ASCII.
VERSIONS_LOCK = 0x6D6F6465


def register(
    session: Session,
    blobs: BlobStore,
    manifest: "Manifest",
    weights: bytes,
    *,
    parameters: int,
    snapshot_name: str | None,
    evaluation: Mapping[str, Any],
    made_by: str,
) -> ModelVersion:
    """Store a trained model and enter it as the next version of its name.

    The files go into the content-addressed store first: a crash leaves files without a version, never a version
    without files.

    Raises:
        ModelError: a name that is none; see `require_name`.
    """
    require_name(manifest.name)
    digest = blobs.put(manifest.to_bytes())
    blobs.put(weights)
    session.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": VERSIONS_LOCK})
    last = session.execute(
        select(func.max(ModelVersion.version)).where(ModelVersion.name == manifest.name)  # type: ignore[arg-type]
    ).scalar_one()
    point = manifest.operating_point
    record = validated(
        records.ModelVersion,
        {
            "model": {"name": manifest.name, "version": (last or 0) + 1, "digest": digest},
            "weights_sha256": manifest.weights_sha256,
            "architecture": manifest.architecture.describe(),
            "parameters": parameters,
            "layer": manifest.layer,
            "classes": list(manifest.classes),
            "operating_point": point and {"pass_below": point.pass_below, "reject_at": point.reject_at},
            "snapshot_name": snapshot_name,
            "snapshot_digest": manifest.training.snapshot if manifest.training else None,
            "training": manifest.training.model_dump(mode="json") if manifest.training else {},
            "evaluation": dict(evaluation),
            "made_by": made_by,
        },
    )
    receipt = log.append(session, [record])[0]
    version: ModelVersion = session.execute(
        select(ModelVersion).where(ModelVersion.journal_index == receipt.index)  # type: ignore[arg-type]
    ).scalar_one()
    return version


def require_name(name: str) -> None:
    """Raises:
    ModelError: not 1 to 64 lower-case letters, digits, `.`, `_` and `-`, a letter or digit first: `NAME@V` has to be clear.
    """
    if not NAME.fullmatch(name):
        raise ModelError(
            f"{name!r} is no name for a model; use 1 to 64 lower-case letters, digits, '.', '_' and '-', beginning with a "
            "letter or digit."
        )


def versions(session: Session, name: str | None = None) -> Sequence[ModelVersion]:
    """All versions, or those of one name, oldest first."""
    query = select(ModelVersion).order_by(ModelVersion.name, ModelVersion.version)  # type: ignore[arg-type]
    if name is not None:
        query = query.where(ModelVersion.name == name)  # type: ignore[arg-type]
    return session.execute(query).scalars().all()


def find(session: Session, reference: str) -> ModelVersion:
    """The version that `NAME@V` names, or of `NAME` the active one.

    Raises:
        ModelNotFoundError: no such name or version.
        ModelStateError: `NAME` alone, and none of its versions is active.
    """
    name, at, number = reference.rpartition("@")
    if not at:
        name, number = reference, ""
    known = versions(session, name)
    if not known:
        raise ModelNotFoundError(f"There is no model {name}; `traceai model list` shows those there are.")
    if not at:
        version = active(session, name)
        if version is None:
            raise ModelStateError(
                f"No version of {name} is active; activate one with `traceai model activate {name}@{known[-1].version}` "
                f"or name it as {name}@{known[-1].version}."
            )
        return version
    for row in known:
        if str(row.version) == number:
            return row
    raise ModelNotFoundError(
        f"There is no version {number} of {name}; it has {', '.join(str(v.version) for v in known)}."
    )


def active(session: Session, name: str) -> ModelVersion | None:
    """The version activated last, unless it was retired since."""
    query = (
        select(ModelEvent)
        .where(ModelEvent.model_name == name, ModelEvent.action == "activate")  # type: ignore[arg-type]
        .order_by(ModelEvent.journal_index.desc())  # type: ignore[attr-defined]
        .limit(1)
    )
    event = session.execute(query).scalar_one_or_none()
    if event is None or state(session, name, event.model_version) != "active":
        return None
    return find(session, f"{name}@{event.model_version}")


def state(session: Session, name: str, version: int) -> str:
    """registered, approved, active, replaced (another version was activated after it) or retired."""
    actions = {event.action: event for event in model_events(session, name, version)}
    if "retire" in actions:
        return "retired"
    if "activate" in actions:
        later = session.execute(
            select(func.count())
            .select_from(ModelEvent)
            .where(
                ModelEvent.model_name == name,  # type: ignore[arg-type]
                ModelEvent.action == "activate",  # type: ignore[arg-type]
                ModelEvent.journal_index > actions["activate"].journal_index,  # type: ignore[arg-type]
            )
        ).scalar_one()
        return "replaced" if later else "active"
    return "approved" if "approve" in actions else "registered"


def record_explanations(
    session: Session,
    row: ModelVersion,
    found: "ExplanationQuality",
    *,
    method: str,
    snapshot: Snapshot,
    images: str,
    actor: str,
) -> None:
    """Enter how good the version's explanations were found to be on `images` of `snapshot`."""
    record = validated(
        records.ExplanationQuality,
        {
            "model": reference_of(row),
            "method": method,
            "layer": row.layer,
            "snapshot_name": snapshot.name,
            "snapshot_digest": snapshot.digest,
            "images": images,
            "randomisation": found.randomisation.verdict,
            "measures": found.to_record(),
            "actor": actor,
        },
    )
    log.append(session, [record])


def explanations(session: Session, name: str, version: int) -> ExplanationQualityRow | None:
    """What was found last of a version's explanations; None where they were never measured."""
    query = (
        select(ExplanationQualityRow)
        .where(ExplanationQualityRow.model_name == name, ExplanationQualityRow.model_version == version)  # type: ignore[arg-type]
        .order_by(ExplanationQualityRow.journal_index.desc())  # type: ignore[attr-defined]
        .limit(1)
    )
    return session.execute(query).scalar_one_or_none()


def approve(session: Session, row: ModelVersion, *, actor: str, reason: str, waiver: str | None = None) -> None:
    """Put a second person's name to a version.

    Args:
        waiver: why, although its explanations do not go with random weights; recorded on its own, before the approval.

    Raises:
        InputError: no reason, or a waiver of what needs none.
        ForbiddenError: whoever made a version cannot sign for it.
        ModelStateError: it is retired, or approved already, or its explanations need a waiver and none is given.
    """
    log.lock(session)  # so that two who act on a version at once see each other
    if actor == row.made_by:
        raise ForbiddenError(
            f"{actor} made {row.name}@{row.version} and cannot approve it; ask a second person (--as NAME)."
        )
    current = state(session, row.name, row.version)
    if current != "registered":
        raise ModelStateError(f"{row.name}@{row.version} is {current}; only a registered version is approved.")
    records.require_reason(reason)
    _answer_for_explanations(session, row, actor, waiver)
    _event(session, row, "approve", actor, reason)


def activate(session: Session, row: ModelVersion, *, actor: str, reason: str = "", waiver: str | None = None) -> None:
    """Make it the version that its name stands for.

    Args:
        waiver: as in `approve`, for explanations that were measured after the approval.

    Raises:
        InputError: a waiver of what needs none.
        ForbiddenError: a waiver by whoever made the version.
        ModelStateError: it was never approved, is retired, or is active already, or its explanations need a waiver.
    """
    log.lock(session)  # so that two who act on a version at once see each other
    current = state(session, row.name, row.version)
    if current not in {"approved", "replaced"}:
        advice = (
            "approve it first"
            if current == "registered"
            else "there is nothing to do"
            if current == "active"
            else "train another"
        )
        raise ModelStateError(f"{row.name}@{row.version} is {current} and cannot be activated; {advice}.")
    _answer_for_explanations(session, row, actor, waiver)
    _event(session, row, "activate", actor, reason)


def doubted(session: Session, name: str, version: int) -> str | None:
    """Why the explanations of a version need a waiver: "survive" where any measurement said so, "not-judged" where the last did."""
    found = (
        session.execute(
            select(ExplanationQualityRow.randomisation)  # type: ignore[call-overload]
            .where(ExplanationQualityRow.model_name == name, ExplanationQualityRow.model_version == version)
            .order_by(ExplanationQualityRow.journal_index)
        )
        .scalars()
        .all()
    )
    if "survive" in found:
        return "survive"
    return "not-judged" if found and found[-1] != "gone" else None


def _answer_for_explanations(session: Session, row: ModelVersion, actor: str, waiver: str | None) -> None:
    """Record a waiver where one is needed, and insist on it. One stands for good, but not for what was measured after it."""
    name = f"{row.name}@{row.version}"
    doubt = doubted(session, row.name, row.version)
    if waiver is None:
        measured = explanations(session, row.name, row.version)
        waived = [
            event.journal_index for event in model_events(session, row.name, row.version) if event.action == "waive"
        ]
        if doubt is None or measured is None or (waived and waived[-1] > measured.journal_index):
            return
        found = (
            f"The explanations of {name} stay as they are when its weights are random, so they do not show what it learnt"
            if doubt == "survive"
            else f"Whether the explanations of {name} show what it learnt could not be judged"
        )
        raise ModelStateError(
            f"{found}; explain another layer, or sign for it with --despite-explanations and a reason."
        )
    if doubt is None:
        raise InputError(
            f"The explanations of {name} were not found to survive random weights, so there is nothing to waive; leave out "
            "--despite-explanations."
        )
    if actor == row.made_by:
        raise ForbiddenError(f"{actor} made {name} and cannot waive for it; ask a second person (--as NAME).")
    records.require_reason(waiver)
    _event(session, row, "waive", actor, waiver)


def retire(session: Session, row: ModelVersion, *, actor: str, reason: str) -> None:
    """Raises:
    InputError: no reason.
    ModelStateError: it is retired already.
    """
    log.lock(session)  # so that two who act on a version at once see each other
    if state(session, row.name, row.version) == "retired":
        raise ModelStateError(f"{row.name}@{row.version} is retired already.")
    records.require_reason(reason)
    _event(session, row, "retire", actor, reason)


def require_usable(session: Session, name: str, version: int) -> None:
    """Raises:
    ModelStateError: the version is retired and inspects nothing more.
    """
    if state(session, name, version) == "retired":
        raise ModelStateError(f"{name}@{version} is retired; choose another version.")


def load(
    database: Database,
    blobs: BlobStore,
    model: ModelRef,
    *,
    actor: str,
    module: "nn.Module | None" = None,
    parts: "Split | None" = None,
) -> "LoadedModel":
    """The network of a version, every byte checked against its digest. A refusal is recorded before it is raised.

    `module` and `parts`: the network of a version whose code is not held here; see `artifact.load`.

    Raises:
        ModelTamperedError: manifest or weights are not what was registered.
        BlobMissingError: a file is gone.
    """
    from traceai.models import artifact  # noqa: PLC0415  # see above

    try:
        return artifact.load(model.digest, blobs, module=module, parts=parts)
    except ModelTamperedError as error:
        refusal = records.ModelRefused(
            model=model,
            file=str(error.details["file"]),
            expected=str(error.details["recorded"]),
            found=str(error.details["found"]),
            actor=actor,
        )
        with suppress(UnavailableError), database.session() as session:  # away or not, nothing is inspected with it
            log.append(session, [refusal])
        raise


def reference_of(row: ModelVersion) -> ModelRef:
    """The version as records name it."""
    return ModelRef(name=row.name, version=row.version, digest=row.digest.hex())


def _event(session: Session, row: ModelVersion, action: str, actor: str, reason: str) -> None:
    record = validated(
        records.ModelEvent,
        {
            "model": {"name": row.name, "version": row.version, "digest": row.digest.hex()},
            "action": action,
            "actor": actor,
            "reason": reason,
        },
    )
    log.append(session, [record])
