"""Who says who signs: anybody who can write to the database can copy a public key, and no home takes that for its own doing."""

from collections.abc import Callable

import pytest

from tests.ledger.rewriting import reenter
from tests.ledger.signing.test_signer import append, ours, report, unguarded  # noqa: F401  # ours: a fixture
from traceai.errors import LedgerForkedError, LedgerTakenError
from traceai.ledger import log
from traceai.ledger.evidence import proving
from traceai.ledger.note import SigningKey
from traceai.ledger.records import LedgerKey, LedgerOpened, LogHead, Record
from traceai.ledger.signing.standing import State
from traceai.ledger.verification.auditing import audit
from traceai.sdk import Trace

FIRST, SECOND = "press.example/line-4", "press.example/line-5"


def findings(trace: Trace) -> str:
    return "\n".join(finding for fact in audit(trace.signer).facts for finding in fact.findings)


def state(trace: Trace) -> State:
    trace.database.engine.dispose()
    return trace.signer.state().state


@pytest.fixture
def twice(ours: Trace) -> Trace:  # noqa: F811
    """Opened under two names, and signed at twelve entries under the second."""
    ours.signer.open("ada", "After a restored backup.", SECOND)
    append(ours, 8)
    ours.checkpoint()
    assert audit(ours.signer).holds
    return ours


@pytest.mark.parametrize("previous", [None, SECOND])
def test_a_copied_opening_frees_the_journal_of_nothing(twice: Trace, clone: str, previous: str | None) -> None:
    """The administrator appends the first opening once more, with its public key, and rewrites what was signed after it."""

    def forge(records: list[Record]) -> list[Record]:
        at = 3 if previous else 4
        (first,) = (record for record in records[:1] if isinstance(record, LedgerOpened))
        head = LogHead(origin=previous, size=12, root="0" * 64) if previous else None
        again = LedgerOpened(origin=FIRST, key=first.key, previous=head, actor="ada", reason=".")
        return [*records[:at], again, *(report("f") for _ in records[at + 1 :]), report("e")]

    reenter(clone, forge)
    assert state(twice) is State.FORKED
    with pytest.raises(LedgerForkedError):
        twice.checkpoint()
    assert f"{SECOND} at 12 entries" in findings(twice)


def test_the_very_bytes_of_an_opening_elsewhere_are_not_its_act(twice: Trace, clone: str) -> None:
    reenter(clone, lambda records: [*records, records[0]])
    assert state(twice) is State.TAKEN
    assert not audit(twice.signer).holds


def takeovers() -> list[tuple[str, Callable[[str], Record]]]:
    theirs, elsewhere = (str(SigningKey.generate(origin).verifier) for origin in (FIRST, "evil.example/x"))
    return [
        ("a key", lambda current: LedgerKey(origin=FIRST, key=theirs, replaces=current, actor="ada", reason="Yearly.")),
        (
            "an opening",
            lambda _: LedgerOpened(origin="evil.example/x", key=elsewhere, previous=None, actor="ada", reason="New."),
        ),
    ]


@pytest.mark.parametrize(("how", "made"), takeovers(), ids=["a key", "an opening"])
def test_who_signs_cannot_be_changed_unnoticed(
    ours: Trace,  # noqa: F811
    clone: str,
    how: str,
    made: Callable[[str], Record],
) -> None:
    with unguarded(clone) as session:
        log.append(session, [made(str(ours.signer.state().key))])
    assert state(ours) is State.TAKEN
    with pytest.raises(LedgerTakenError, match="Entry 3, which this home did not make"):
        ours.checkpoint()
    with pytest.raises(LedgerTakenError):
        proving.prove(ours.signer, "0")
    assert "Entry 3, which this home did not make" in findings(ours)
    append(ours)  # the line goes on
    ours.signer.open("ada", "Somebody else had opened it.", SECOND)
    assert audit(ours.signer).holds
    assert state(ours) is State.OURS


def test_a_key_that_was_replaced_never_comes_back(ours: Trace, clone: str) -> None:  # noqa: F811
    old = ours.signer.state().key
    ours.signer.rotate("ada", "The old key may have been stolen.")
    new = ours.signer.state().key
    with unguarded(clone) as session:
        log.append(
            session, [LedgerKey(origin=FIRST, key=str(old), replaces=str(new), actor="ada", reason="Found again.")]
        )
    assert ours.signer.state().key == new
    (signed,) = (stored for stored in [ours.checkpoint()])
    names = {line.split()[2][:5] for line in signed.note.splitlines() if line.startswith("\u2014")}
    assert len(names) == 1
