"""What goes wrong, one thing a round. Each leaves the plant running again, and nothing is settled before the next."""

import random
import time
from collections.abc import Callable

from tests.inspection.recording.drafts import away
from tests.inspection.recording.line import SPOOL_STEPS, STEPS
from tests.soak.lines import traceai
from tests.soak.plant import Plant
from traceai.inspection.recording.spool import Spool

Round = Callable[[Plant, random.Random], None]
# Parts that wait in a spool before somebody is killed who delivers them: three batches of the forwarder.
_BACKLOG = 700


def line_at_random(plant: Plant, chance: random.Random) -> None:
    line = chance.choice(plant.lines)
    time.sleep(chance.uniform(0, 0.5))
    line.kill()
    line.run()


def line_recording(step: str) -> Round:
    def kill(plant: Plant, chance: random.Random) -> None:
        line = chance.choice(plant.lines)
        line.kill()
        line.start(step, chance.randrange(1, 40))
        assert line.died(), f"{line.station} did not die {step}"
        line.run()

    return kill


def line_spooling(step: str) -> Round:
    def kill(plant: Plant, chance: random.Random) -> None:
        line = chance.choice(plant.lines)
        line.kill()
        with away(plant.url):
            line.start(step, chance.randrange(1, 20))
            assert line.died(), f"{line.station} did not die {step}"
        line.run()

    return kill


def line_delivering(step: str) -> Round:
    def kill(plant: Plant, chance: random.Random) -> None:
        line = chance.choice(plant.lines)
        with away(plant.url):
            line.more(chance.randrange(1, 20), "Spooled")
            line.kill()
        line.start(step, 0)
        assert line.died(), f"{line.station} did not die {step}"
        line.run()

    return kill


def forwarder(plant: Plant, chance: random.Random) -> None:
    """`traceai spool deliver` is killed somewhere between its first batch and its last."""
    line = chance.choice(plant.lines)
    line.kill()
    spool = Spool(line.home)
    with away(plant.url):
        line.run(pace=0)
        line.more(_BACKLOG, "Spooled")
        line.kill()
    before = spool.status().delivered
    process = traceai(line.home, "spool", "deliver", url=plant.url)
    while spool.status().delivered == before and process.poll() is None:
        time.sleep(0.002)
    time.sleep(chance.uniform(0, 0.1))
    process.kill()
    process.communicate()
    spool.close()
    line.run()


def postmaster(plant: Plant, chance: random.Random) -> None:
    time.sleep(chance.uniform(0, 0.3))
    plant.server.crash()
    for line in plant.lines:
        line.more(1, "Spooled")
    for line in plant.lines:
        line.more(1, "Recorded")


def restart(mode: str) -> Round:
    def kill(plant: Plant, chance: random.Random) -> None:
        time.sleep(chance.uniform(0, 0.3))
        plant.server.restart(mode)
        for line in plant.lines:
            line.more(1, "Recorded")

    return kill


def stop(plant: Plant, chance: random.Random) -> None:
    assert plant.server.embedded.stop()
    for line in plant.lines:
        line.more(chance.randrange(1, 100), "Spooled")
    assert not plant.server.embedded.running, "a server that was stopped was started by somebody"
    plant.server.embedded.release()
    plant.server.embedded.acquire()
    for line in plant.lines:
        line.more(1, "Recorded")


def freeze(plant: Plant, chance: random.Random) -> None:
    time.sleep(chance.uniform(0, 0.3))
    with plant.server.frozen():
        for line in plant.lines:
            line.more(chance.randrange(1, 20), "Spooled")
    for line in plant.lines:
        line.more(1, "Recorded")


def service(plant: Plant, chance: random.Random) -> None:
    plant.service.more(1)
    time.sleep(chance.uniform(0, 0.2))
    plant.service.kill()
    plant.service.start()


ROUNDS: dict[str, tuple[int, Round]] = {
    "line process, at a random moment": (5, line_at_random),
    **{f"line process, {step}": (2, line_recording(step)) for step in STEPS},
    **{f"line process, {step}": (2, line_spooling(step)) for step in SPOOL_STEPS[:2]},
    **{f"line process, {step}": (2, line_delivering(step)) for step in SPOOL_STEPS[2:]},
    "forwarding process, between batches": (3, forwarder),
    "postmaster": (4, postmaster),
    "server restarted, fast": (1, restart("fast")),
    "server restarted, immediate": (1, restart("immediate")),
    "server stopped and started": (1, stop),
    "server frozen": (1, freeze),
    "API process": (3, service),
}


def drawn(count: int, chance: random.Random) -> list[str]:
    """Which rounds to play: each kind once, as far as they go, then by their weights, in a random order."""
    names = list(ROUNDS)
    rest = chance.choices(names, [weight for weight, _ in ROUNDS.values()], k=max(0, count - len(names)))
    found = [*chance.sample(names, min(count, len(names))), *rest]
    chance.shuffle(found)
    return found
