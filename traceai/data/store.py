"""Snapshots in the ledger. Images and masks go into the content-addressed store, so training needs the folder no more."""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from sqlalchemy import insert, select
from sqlmodel import Session

from traceai.data.snapshot import Snapshot, SnapshotItem, digest
from traceai.db.tables import DatasetImage, DatasetSnapshot
from traceai.errors import BlobMissingError, BlobTamperedError, DatasetChangedError, DatasetMissingError
from traceai.images.blobs import BlobStore
from traceai.ledger import log, records
from traceai.ledger.records import validated
from traceai.ledger.verification.datasets import listing_of

_DIGESTS = ("sha256", "pixel_sha256", "mask_sha256")


def save(
    session: Session,
    blobs: BlobStore,
    snapshot: Snapshot,
    *,
    made_by: str,
    progress: Callable[[int, int], None] | None = None,
) -> tuple[DatasetSnapshot, bool]:
    """Keep a snapshot: its files in the store, its images in the tables, its digest in the journal.

    Returns the row and whether it is new: the same data under the same name is kept once.

    Raises:
        DatasetChangedError: a file is no longer what the snapshot was taken of.
    """
    known = session.execute(
        select(DatasetSnapshot).where(
            DatasetSnapshot.name == snapshot.name,  # type: ignore[arg-type]
            DatasetSnapshot.digest == bytes.fromhex(snapshot.digest),  # type: ignore[arg-type]
        )
    ).scalar_one_or_none()
    if known is not None:
        return known, False
    for done, item in enumerate(snapshot.items, 1):
        _keep(blobs, snapshot, item.path, item.sha256)
        if item.mask_path is not None and item.mask_sha256 is not None:
            _keep(blobs, snapshot, item.mask_path, item.mask_sha256)
        if progress:
            progress(done, len(snapshot.items))
    rows = [_row(item) for item in snapshot.items]
    record = validated(
        records.DatasetSnapshot,
        {
            "name": snapshot.name,
            "digest": snapshot.digest,
            "listing": blobs.put(listing_of(rows)),
            "images": len(rows),
            "counts": dict(snapshot.counts()),
            "made_by": made_by,
        },
    )
    receipt = log.append(session, [record])[0]
    session.execute(insert(DatasetImage), [{**row, "snapshot_id": receipt.id} for row in rows])
    return session.get_one(DatasetSnapshot, receipt.id), True


def names(session: Session) -> Sequence[DatasetSnapshot]:
    """All snapshots, oldest first."""
    return session.execute(select(DatasetSnapshot).order_by(DatasetSnapshot.journal_index)).scalars().all()  # type: ignore[arg-type]


def find(session: Session, reference: str) -> DatasetSnapshot:
    """The latest snapshot of `NAME`, or the one of `NAME@DIGEST` (its first characters suffice).

    Raises:
        DatasetMissingError: there is none.
    """
    name, _, digest = reference.partition("@")
    for row in reversed(names(session)):
        if row.name == name and row.digest.hex().startswith(digest):
            return row
    raise DatasetMissingError(
        f"There is no dataset {reference}; import one with `traceai data import DIR --name {name}`."
    )


def items(session: Session, row: DatasetSnapshot) -> tuple[SnapshotItem, ...]:
    """The images of a snapshot, sorted by path."""
    rows = session.execute(
        select(DatasetImage).where(DatasetImage.snapshot_id == row.id).order_by(DatasetImage.path)  # type: ignore[arg-type]
    ).scalars()
    found = []
    for image in rows:
        fields: dict[str, Any] = image.model_dump(exclude={"snapshot_id"})
        for column in _DIGESTS:
            fields[column] = None if fields[column] is None else fields[column].hex()
        found.append(SnapshotItem(**fields))
    return tuple(found)


def snapshot(session: Session, blobs: BlobStore, row: DatasetSnapshot) -> Snapshot:
    """A snapshot as training reads it, its files from the store.

    Raises:
        DatasetChangedError: the tables no longer list what was recorded.
    """
    found = items(session, row)
    if digest(found) != row.digest.hex():
        raise DatasetChangedError(
            f"The images listed for {row.name} are not those of its digest; run `traceai ledger verify` to see what changed."
        )
    return Snapshot(row.name, StoredFiles(blobs), found, row.digest.hex(), (), ())


@dataclass(frozen=True)
class StoredFiles:
    """The files of a snapshot, by their digest; see `snapshot.Files`."""

    blobs: BlobStore

    def read(self, path: str, sha256: str) -> bytes:
        try:
            return self.blobs.get(sha256)
        except (BlobMissingError, BlobTamperedError) as error:
            raise DatasetChangedError(
                f"{path} can no longer be read as it was imported: {error.message}", path=path
            ) from error


def _row(item: SnapshotItem) -> dict[str, Any]:
    row = asdict(item)
    for column in _DIGESTS:
        row[column] = None if row[column] is None else bytes.fromhex(row[column])
    return row


def _keep(blobs: BlobStore, snapshot: Snapshot, path: str, expected: str) -> None:
    blobs.put(snapshot.files.read(path, expected))
