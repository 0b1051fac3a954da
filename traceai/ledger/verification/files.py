"""The files that entries name, and that lie outside the database: images, model files and their exports, dataset listings."""

from collections.abc import Iterator

from sqlalchemy import Connection, select

from traceai.db import tables
from traceai.errors import BlobMissingError, BlobTamperedError, InputError
from traceai.images.blobs import BlobStore
from traceai.ledger.verification.facts import Fact
from traceai.ledger.verification.spans import SPAN

_inspection = tables.table_of(tables.Inspection)
_version = tables.table_of(tables.ModelVersion)
_export = tables.table_of(tables.ModelExport)
_snapshot = tables.table_of(tables.DatasetSnapshot)
_image = tables.table_of(tables.DatasetImage)


def verify_files(connection: Connection, blobs: BlobStore, since: int) -> Fact:
    """Read back and hash every file that an entry from `since` on names, once; those of datasets always."""
    fact = Fact("blobs", "every recorded image and model file is stored, byte for byte")
    seen: set[bytes] = set()
    for where, digest in _named(connection, since):
        if digest is None or digest in seen:
            continue
        seen.add(digest)
        fact.checked += 1
        try:
            blobs.get(digest.hex())
        except (BlobMissingError, BlobTamperedError, InputError) as error:
            fact.fail(f"{where}: {error.message}")
    return fact


def _named(connection: Connection, since: int) -> Iterator[tuple[str, bytes | None]]:
    for table, columns in (
        (_inspection, ("image_sha256",)),
        (_version, ("weights_sha256", "digest")),
        (_export, ("sha256",)),
        (_snapshot, ("listing",)),
    ):
        for column in columns:
            query = (
                select(table.c.journal_index, table.c[column])
                .where(table.c.journal_index >= since)
                .order_by(table.c.journal_index)
            )
            for index, digest in connection.execution_options(yield_per=SPAN).execute(query):
                yield f"journal index {index}, {column}", digest
    query = select(_snapshot.c.name, _image.c.path, _image.c.sha256, _image.c.mask_sha256).where(
        _snapshot.c.id == _image.c.snapshot_id
    )
    for row in connection.execute(query.order_by(_snapshot.c.name, _image.c.path)):
        for column in ("sha256", "mask_sha256"):
            yield f"dataset {row.name}, {row.path}, {column}", getattr(row, column)
