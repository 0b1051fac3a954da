"""`make soak`: kill every process that takes part in recording, over and over, and count afterwards.

    python -m tests.soak [--rounds 200] [--every 25] [--seed N] [--minutes 1]

Prints what was done and what came of it; exits 1 where an acknowledged decision was lost, is there twice or out of its order, or
where the ledger does not verify.
"""

import argparse
import random
import secrets
import signal
import sys
import time
from collections import Counter
from dataclasses import dataclass, field

from tests.inspection.recording import crowd
from tests.inspection.recording.drafts import register
from tests.soak.books import Books, balance
from tests.soak.plant import Plant
from tests.soak.rounds import ROUNDS, drawn
from traceai.db.connection import Database
from traceai.images.blobs import BlobStore
from traceai.ledger.verification import verifier
from traceai.sdk import Trace
from traceai.settings import Settings


@dataclass
class Tally:
    """What was done: rounds by kind, how often the books were balanced, seconds in all, and what is wrong."""

    rounds: Counter[str] = field(default_factory=Counter)
    balanced: int = 0
    seconds: float = 0
    wrong: list[str] = field(default_factory=list)


def disturb(plant: Plant, tally: Tally, rounds: int, every: int, chance: random.Random) -> Books:
    """Play the rounds, and balance the books after every so many and at the end. Ends at the first thing that is wrong."""
    plant.service.start()
    plant.run()
    books = Books()
    for number, name in enumerate(drawn(rounds, chance), start=1):
        began = time.monotonic()
        try:
            ROUNDS[name][1](plant, chance)
        except AssertionError as error:
            tally.wrong.append(f"round {number}, {name}: {error}")
        tally.rounds[name] += 1
        print(f"{number:5}  {name:40} {time.monotonic() - began:6.1f} s", flush=True)
        if number % every == 0 or number == rounds or tally.wrong:
            plant.settle()
            books = balance(plant)
            tally.balanced += 1
            tally.wrong += [f"after round {number}, {name}: {one}" for one in books.wrong]
            print(f"       {books.recorded:,} decisions on record, {len(books.wrong)} things wrong", flush=True)
            if tally.wrong or number == rounds:
                break
            plant.service.resume()
            plant.run()
    return books


def crowded(plant: Plant, minutes: float) -> crowd.Found:
    """32 threads in 4 processes, in a database of their own."""
    url = plant.server.database("crowd")
    folder = plant.folder / "crowd"
    folder.mkdir()
    settings = Settings(home=folder, database_url=url)
    with Trace(settings, Database.open(settings), BlobStore(settings.blobs_url)) as trace:
        register(trace)
        for station in crowd.STATIONS:
            trace.add_station(station)
        return crowd.run(url, folder, minutes * 60, lambda: verifier.verify(trace.database.engine))


def report(tally: Tally, books: Books, found: crowd.Found | None, seed: int) -> None:
    print(f"\nSoak of {sum(tally.rounds.values())} rounds in {tally.seconds / 60:.1f} minutes, seed {seed}")
    print("  killed with `kill -9`, or taken away:")
    for name in ROUNDS:
        print(f"    {name:40} {tally.rounds[name]:6}")
    rows = (
        ("acknowledged", books.acknowledged, "decisions that a caller was told of"),
        ("  of them spooled", books.spooled, "kept on the machine's disk first"),
        ("on record", books.recorded, "one more at a station where its line was killed between commit and receipt"),
        ("delivered late", books.late, "from a spool; the gaps that tell of it included"),
        ("ledger entries", books.entries, f"verified {tally.balanced} times, each time from the first"),
    )
    print("  decisions:")
    for name, count, meaning in rows:
        print(f"    {name:20} {count:10,}   {meaning}")
    told = ", ".join(f"{count} {code}" for code, count in books.gaps.items()) or "none"
    print(f"  gaps told in the ledger: {told}")
    if found is not None:
        print(
            f"  {crowd.PROCESSES * crowd.THREADS} threads in {crowd.PROCESSES} processes: {found.receipts:,} decisions in one "
            f"order, verified {found.verified} times meanwhile"
        )
    wrong = tally.wrong + (found.wrong if found else [])
    print(
        "  nothing was lost, nothing is there twice, every order holds"
        if not wrong
        else f"  WRONG, {len(wrong)} times:"
    )
    for one in wrong[:50]:
        print(f"    {one}")


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.soak", description=__doc__)
    parser.add_argument("--rounds", type=int, default=200, help="faults in all")
    parser.add_argument("--every", type=int, default=25, help="rounds after which the books are balanced")
    parser.add_argument("--seed", type=int, help="draws the same rounds again; their timing is the machine's")
    parser.add_argument(
        "--minutes", type=float, default=1, help="how long 32 threads in 4 processes record at the end; 0: not"
    )
    given = parser.parse_args()
    seed = secrets.randbelow(10**6) if given.seed is None else given.seed
    # A shell starts what runs in its background with interrupts ignored, and every process here would inherit that.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    tally, began, found = Tally(), time.monotonic(), None
    plant = Plant()
    try:
        books = disturb(plant, tally, given.rounds, given.every, random.Random(seed))
        if given.minutes and not tally.wrong:
            found = crowded(plant, given.minutes)
    finally:
        plant.close()
    tally.seconds = time.monotonic() - began
    report(tally, books, found, seed)
    return int(bool(tally.wrong or (found and found.wrong)))


if __name__ == "__main__":
    sys.exit(main())
