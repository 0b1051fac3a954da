"""`traceai inspect` that is cut short: what was recorded is told and signed, whatever ended the run."""

import os
import signal
from collections.abc import Callable
from pathlib import Path

import psycopg
import pytest

from tests.cli.conftest import Run
from tests.cli.test_streams import shell
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


def test_a_database_that_stops_takes_no_receipt_with_it(
    run: Run, here: Trace, command: list, clone: str, server: str, at_the_second_batch
) -> None:
    name = clone.rpartition("/")[2].partition("?")[0]

    def allow(connections: str) -> None:
        with psycopg.connect(server, autocommit=True) as connection:
            connection.execute(f"ALTER DATABASE {name} ALLOW_CONNECTIONS {connections}".encode())
            connection.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s", [name])

    at_the_second_batch(lambda: allow("false"))
    result = run(*command, "--json")
    assert result.code == 2
    assert len(result.json) == BATCH
    assert "not signed here: " in result.err
    assert f"{BATCH} of {MANY} recorded; the next is " in result.err
    assert result.err.splitlines()[-1].endswith(" [database-unavailable]")
    allow("true")
    assert recorded(here) == BATCH


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
