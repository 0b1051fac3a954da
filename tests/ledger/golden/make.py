"""Makes the evidence file that a release leaves behind: `pytest tests/ledger/golden/make.py`, once, before it is tagged.

What is there is never made again: later releases have to verify what an earlier one wrote.
"""

import json
from pathlib import Path

from sqlalchemy import select

import traceai
from tests.ledger.evidence.test_proving import WITNESSES, Plant, plant  # noqa: F401  # a fixture
from tests.ledger.signing.test_timestamping import Authority
from traceai.db import tables
from traceai.inspection import history
from traceai.ledger import verify
from traceai.ledger.evidence.proofs import Trust
from traceai.ledger.note import split_note

HERE = Path(__file__).parent


def test_make(plant: Plant, images: list[Path], tmp_path: Path) -> None:  # noqa: F811
    folder = HERE / traceai.__version__
    folder.mkdir()
    first = plant.key
    plant.policy(threshold=2)
    plant.review(1, "defective")
    plant.trace.signer.rotate("ada", "To have a change of the key in the file.")
    plant.review(1)
    stored = plant.trace.signer.sign()
    plant.cosign(*WITNESSES[:2])
    authority = Authority.create(tmp_path / "authority")
    token = authority.respond(split_note(stored.note)[0].encode())
    plant.trace.signer.store.add_timestamp(stored.origin, stored.size, "https://tsa.example", token)

    data = plant.prove(1)
    with plant.trace.database.session() as session:
        row = session.execute(
            select(tables.Inspection).where(tables.Inspection.journal_index == plant.decisions[1].receipt.index)
        ).scalar_one()
        grid = history.dossier(session, row).grid
    assert grid is not None
    trust = Trust((first,), tuple(w.verifier for w in WITNESSES[:2]), authorities=tuple(authority.certificates))
    outcome = verify.verify(data, trust, image=images[1].read_bytes(), heat_map=grid)
    assert outcome.holds
    (folder / "decision.evidence.json").write_bytes(data)
    (folder / "image.png").write_bytes(images[1].read_bytes())
    (folder / "heat-map").write_bytes(grid)
    (folder / "tsa.pem").write_bytes((authority.folder / "ca.pem").read_bytes())
    told = {
        "key": str(first),
        "witnesses": [str(key) for key in trust.witnesses],
        "facts": {fact.name: fact.holds for fact in outcome.facts},
    }
    (folder / "expected.json").write_text(json.dumps(told, indent=2) + "\n")
