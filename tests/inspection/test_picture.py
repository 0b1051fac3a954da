"""An explanation is drawn from what the entry says and from the heat map that it names, or not at all."""

from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from traceai.errors import BlobMissingError, ConflictError, VerificationError
from traceai.inspection import history
from traceai.inspection.picture import explanation_png
from traceai.models import registry
from traceai.sdk import Trace

Draw = Callable[[], bytes]


@pytest.fixture
def draw(trace: Trace, tiny: str, images: Sequence[Path]) -> Draw:
    trace.add_station("press-4")
    decision = trace.inspector(tiny, "press-4").inspect(images[0])

    def drawn() -> bytes:
        with trace.database.session() as session:
            dossier = history.dossier(session, history.find(session, decision.id))
        return explanation_png(dossier, images[0].read_bytes(), trace.blobs)

    return drawn


def test_a_falsified_table_changes_nothing_in_the_picture(draw: Draw, sql: Callable[..., list[tuple]]) -> None:
    before = draw()
    sql("UPDATE inspection SET explanation_target = 'FORGED', explanation_height = 1, verdict = 'reject'")
    assert draw() == before


def test_a_heat_map_that_is_not_the_recorded_one_is_refused(draw: Draw, sql: Callable[..., list[tuple]]) -> None:
    sql("UPDATE heat_map SET grid = decode(repeat('00', octet_length(grid)), 'hex')")
    with pytest.raises(VerificationError, match="is not the recorded one"):
        draw()


def test_without_the_manifest_nobody_knows_where_the_map_lies(draw: Draw, trace: Trace) -> None:
    with trace.database.session() as session:
        digest = registry.find(session, "tiles@1").digest.hex()
    (Path(trace.settings.blobs_url) / trace.blobs.path(digest)).unlink()
    with pytest.raises(BlobMissingError):
        draw()


def test_without_its_heat_map_there_is_no_picture(draw: Draw, sql: Callable[..., list[tuple]]) -> None:
    sql("DELETE FROM heat_map")
    with pytest.raises(ConflictError, match="no longer stored"):
        draw()
