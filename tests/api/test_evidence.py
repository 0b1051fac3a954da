from tests.api.conftest import Client
from traceai.inspection.decision import Decision
from traceai.ledger import verify
from traceai.ledger.evidence.proofs import Trust
from traceai.sdk import Trace


def test_the_evidence_of_a_decision_verifies_offline(client: Client, recorded: list[Decision], trace: Trace) -> None:
    for decision in (recorded[3], recorded[-1]):
        response = client("auditor").get(f"/v1/inspections/{decision.id}/evidence")
        assert response.status_code == 200
        assert response.headers["content-type"] == "application/vnd.traceai.evidence+json"
        assert response.headers["content-disposition"] == f'attachment; filename="{decision.id}.evidence.json"'
        key = trace.signer.state().key
        assert key is not None
        outcome = verify.verify(response.content, Trust(keys=(key,)))
        assert outcome.holds
        assert outcome.trusted
        assert outcome.decision is not None
        assert outcome.decision["id"] == decision.id


def test_who_may_not_read_decisions_gets_no_evidence(client: Client, recorded: list[Decision]) -> None:
    for role, status in {"": 401, "station": 403, "reviewer": 403, "engineer": 200, "approver": 200}.items():
        assert client(role).get(f"/v1/inspections/{recorded[0].id}/evidence").status_code == status


def test_no_decision_has_no_evidence(client: Client, recorded: list[Decision]) -> None:
    response = client("auditor").get("/v1/inspections/01a209f6-0000-7000-8000-000000000000/evidence")
    assert response.status_code == 404
    assert response.json()["code"] == "decision-not-found"


def test_a_ledger_that_does_not_lead_to_its_checkpoint_gives_out_none(
    client: Client, recorded: list[Decision], trace: Trace, sql
) -> None:
    trace.checkpoint()
    sql('UPDATE journal SET leaf_hash = %s WHERE "index" = %s', bytes(32), recorded[0].receipt.index)
    response = client("auditor").get(f"/v1/inspections/{recorded[1].id}/evidence")
    assert response.status_code == 500
    assert response.json()["code"] in {"evidence-invalid", "ledger-forked"}
