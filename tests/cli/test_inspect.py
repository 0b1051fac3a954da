"""`traceai inspect` that is cut short: what was recorded is told and signed, whatever ended the run."""

import os
import shutil
import signal
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.cli.conftest import Run
from tests.cli.test_streams import shell
from tests.inspection.recording.drafts import away
from traceai.inspection.inspector import BATCH, Inspector
from traceai.sdk import Trace

MANY = 2 * BATCH + 5


@pytest.fixture
def command(here: Trace, tiny: str, images: list[Path]) -> list[object]:
    here.add_station("press-4")
    paths = [images[number % len(images)] for number in range(MANY)]
    return ["inspect", *paths, "--model", "tiles", "--station", "press-4"]


@pytest.fixture
def at_the_second_batch(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[], None]], None]:
    """Has something happen while the second batch is judged."""
    judge = Inspector._judge
    calls: list[None] = []

    def happens(what: Callable[[], None]) -> None:
        def judged(inspector: Inspector, attempts: list) -> None:
            calls.append(None)
            if len(calls) == 2:
                what()
            judge(inspector, attempts)

        monkeypatch.setattr(Inspector, "_judge", judged)

    return happens


def recorded(trace: Trace) -> int:
    with trace.database.engine.connect() as connection:
        return connection.exec_driver_sql("SELECT count(*) FROM inspection").scalar_one()


def signed_to(trace: Trace) -> int:
    last = trace.signer.state().last
    assert last is not None
    return last.size


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_ends_with_the_batch_at_hand_and_every_receipt(
    run: Run, here: Trace, command: list, images: list[Path], at_the_second_batch, number: signal.Signals
) -> None:
    before = signal.getsignal(number)
    at_the_second_batch(lambda: os.kill(os.getpid(), number))
    result = run(*command, "--json")
    assert result.code == 130
    assert len(result.json) == recorded(here) == 2 * BATCH
    assert signed_to(here) == result.json[-1]["index"] + 1
    *_, told, last = result.err.splitlines()
    assert told == f"{2 * BATCH} of {MANY} recorded; the next is {images[2 * BATCH % len(images)]}."
    assert last.startswith("traceai: Interrupted; ")
    assert signal.getsignal(number) is before


def test_who_interrupts_again_waits_for_nothing(run: Run, here: Trace, command: list, at_the_second_batch) -> None:
    def twice() -> None:
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(0.3)  # two signals at once are one
        os.kill(os.getpid(), signal.SIGINT)

    at_the_second_batch(twice)
    result = run(*command)
    assert result.code == 130
    assert recorded(here) == BATCH
    assert f"{BATCH} recorded: " in result.out
    assert f"{BATCH} of {MANY} recorded; the next is " in result.err


def test_an_interrupt_that_is_ignored_stays_ignored(run: Run, here: Trace, command: list, at_the_second_batch) -> None:
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        at_the_second_batch(lambda: os.kill(os.getpid(), signal.SIGINT))
        assert run(*command).code == 0
    finally:
        signal.signal(signal.SIGINT, before)
    assert recorded(here) == MANY


def test_a_database_that_stops_stops_no_line(
    run: Run, here: Trace, command: list, clone: str, at_the_second_batch
) -> None:
    with ExitStack() as outage:
        at_the_second_batch(lambda: outage.enter_context(away(clone)))
        result = run(*command, "--json")
        assert result.code == 0
        assert len(result.json) == MANY
        kept = [one["spooled_at"] is not None for one in result.json]
        waiting = sum(kept)
        assert kept == sorted(kept)
        assert waiting >= MANY - BATCH  # the first batch was on its way
        assert f"{waiting} of them wait in the spool" in result.err
        status = run("spool", "status", "--json")
        assert (status.code, status.json["waiting"]) == (0, {"press-4": waiting})
        assert "database-unavailable" in run("spool", "status").out
    assert recorded(here) == MANY - waiting
    delivered = run("spool", "deliver")
    assert delivered.out == f"{waiting + 1} delivered; 0 wait, 0 rejected.\n"  # and what is told of the outage
    assert recorded(here) == MANY
    assert "takes records" in run("spool", "status").out
    assert run("ledger", "verify").code == 0


def test_a_line_starts_while_the_database_is_away(run: Run, here: Trace, command: list, clone: str) -> None:
    assert run(*command).code == 0
    with away(clone):
        assert run(*command).code == 0
        result = run("inspect", command[1], "--model", "other", "--station", "press-4")
        assert (result.code, recorded_code(result.err)) == (2, "database-unavailable")
    assert run(*command).code == 0
    assert recorded(here) == 3 * MANY
    assert run("ledger", "verify").code == 0


def recorded_code(said: str) -> str:
    return said.strip().rpartition("[")[2].rstrip("]")


def test_a_files_name_says_what_it_shows(
    run: Run, here: Trace, command: list, images: list[Path], tmp_path: Path
) -> None:
    shutil.copy(images[0], tmp_path / "SN-7_0041.png")
    pattern = r"(?P<serial>[^_]+)_(?P<trigger>[0-9]+)"
    arguments = ("inspect", tmp_path, "--model", "tiles", "--station", "press-4", "--lot", "L7", "--pattern")
    assert run(*arguments, pattern).code == 0
    (found,) = run("decision", "list", "--json").json["items"]
    shown = run("decision", "show", found["id"], "--json").json
    assert (shown["record"]["trigger"], shown["record"]["part"]["serial"]) == (41, "SN-7")
    assert (shown["record"]["part"]["lot"]) == "L7"
    for wrong, says in (
        ("(", "no regular expression"),
        ("(?P<colour>.)", "has to name groups"),
        ("(?P<trigger>.+)", "no count"),
    ):
        result = run(*arguments, wrong)
        assert (result.code, says in result.err) == (2, True), result.err
    assert recorded(here) == 1


def test_nothing_recorded_is_told_as_well(
    run: Run, here: Trace, command: list, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Inspector, "_judge", broken)
    result = run(*command, "--json")
    assert (result.code, result.json) == (130, [])
    assert f"0 of {MANY} recorded; the next is " in result.err


def test_what_cannot_be_told_is_signed_all_the_same(here: Trace, command: list) -> None:
    done = shell("> /dev/full", *command, "--json")
    assert done.returncode == 2
    told, last = done.stderr.splitlines()[-2:]
    assert told == f"{MANY} of {MANY} recorded."
    assert last.endswith(" [output-failed]")
    with here.database.engine.connect() as connection:
        assert signed_to(here) == connection.exec_driver_sql("SELECT size FROM ledger_head").scalar_one()
