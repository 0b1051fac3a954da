"""The listings of dataset snapshots: what the journal holds by digest, and how the table of images is held against it."""

from collections.abc import Iterable, Mapping
from typing import Any

from sqlalchemy import Connection, RowMapping, func, select

from traceai.db import tables
from traceai.errors import BlobMissingError, BlobTamperedError, InputError, RecordError
from traceai.images.blobs import BlobStore
from traceai.images.decode import identify
from traceai.ledger import canonical
from traceai.ledger.projection import readable
from traceai.ledger.verification.facts import Fact

_snapshot = tables.table_of(tables.DatasetSnapshot)
_image = tables.table_of(tables.DatasetImage)


def listing_of(images: Iterable[Mapping[str, Any] | RowMapping]) -> bytes:
    """The canonical list of a snapshot's images, by path: every column but `snapshot_id`, digests in hex."""
    rows = [
        {
            column: value.hex() if isinstance(value, bytes) else value
            for column, value in image.items()
            if column != "snapshot_id"
        }
        for image in images
    ]
    return canonical.dumps(sorted(rows, key=lambda row: str(row["path"])), exact=True)


def verify_snapshots(connection: Connection, blobs: BlobStore | None) -> Fact:
    """Every listed image of every snapshot. Altered images are named where the recorded listing is at hand in `blobs`."""
    fact = Fact("datasets", "the images listed for every dataset snapshot have its recorded digest")
    c = _snapshot.c
    for row in connection.execute(select(c.id, c.name, c.listing, c.images)).mappings():
        fact.checked += 1
        images = connection.execute(select(_image).where(_image.c.snapshot_id == row["id"])).mappings().all()
        if len(images) != row["images"]:
            fact.fail(f"dataset {row['name']}: {row['images']} images were recorded, {len(images)} are listed")
        try:
            listing = listing_of(images)
        except RecordError as error:
            fact.fail(f"dataset {row['name']}: an image's row holds what was never recorded: {error.message}")
            continue
        if identify(listing) != readable(row["listing"]):
            fact.fail(f"dataset {row['name']}: the listed images are not those that were recorded")
            if blobs is not None:
                _locate(row, listing, blobs, fact)
    orphans = select(func.count()).select_from(_image).where(_image.c.snapshot_id.not_in(select(c.id)))
    if count := connection.execute(orphans).scalar_one():
        fact.fail(f"table dataset_image: {count} images belong to no snapshot")
    return fact


def _locate(snapshot: RowMapping, listing: bytes, blobs: BlobStore, fact: Fact) -> None:
    """Name the altered images."""
    try:
        recorded = canonical.loads(blobs.get(readable(snapshot["listing"])))
    except (BlobMissingError, BlobTamperedError, InputError) as error:
        fact.fail(f"dataset {snapshot['name']}: {error.message}")
        return
    then = {image["path"]: image for image in recorded}
    now = {image["path"]: image for image in canonical.loads(listing)}
    for path in sorted(then.keys() | now.keys()):
        where = f"table dataset_image, dataset {snapshot['name']}, {path}"
        if path not in now or path not in then:
            fact.fail(f"{where}: the row {'is missing' if path not in now else 'was not recorded'}")
            continue
        for column, value in then[path].items():
            if now[path][column] != value:
                stands = readable(now[path][column])
                fact.fail(f"{where}, column {column}: {stands} stands, {readable(value)} was recorded")
