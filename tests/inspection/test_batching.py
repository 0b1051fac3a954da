"""Callers at the same time share forward passes, and each gets its own answer."""

import threading
from collections.abc import Sequence

from traceai.inspection.batching import Batcher


class Engine:
    """Judges by giving back what it was given; the first call waits until others have come."""

    def __init__(self) -> None:
        self.batches: list[int] = []
        self.others = threading.Event()

    def judge(self, images: Sequence[str]) -> list[str]:
        if not self.batches:
            self.others.wait(10)
        self.batches.append(len(images))
        if "broken" in images:
            raise RuntimeError("out of memory")
        return [f"judged {image}" for image in images]


def run(engine: Engine, batcher: Batcher, images: Sequence[str]) -> dict[str, object]:
    found: dict[str, object] = {}

    def ask(image: str) -> None:
        try:
            found[image] = batcher.judge(image)
        except RuntimeError as error:
            found[image] = error

    threads = [threading.Thread(target=ask, args=(image,)) for image in images]
    for thread in threads:
        thread.start()
    while sum(1 for _ in batcher._waiting) < len(images) - 1:
        pass
    engine.others.set()
    for thread in threads:
        thread.join()
    return found


def test_callers_at_the_same_time_share_forward_passes() -> None:
    engine = Engine()
    images = [f"image {number}" for number in range(20)]
    found = run(engine, Batcher(engine, 8), images)
    assert engine.batches[0] == 1
    assert max(engine.batches) == 8
    assert sum(engine.batches) == 20
    assert {image: answer for image, (answer, *_) in found.items()} == {image: f"judged {image}" for image in images}
    assert all(1 <= batch <= 8 for _, batch, _ in found.values())


def test_a_forward_pass_that_fails_is_told_to_all_who_shared_it_and_to_nobody_else() -> None:
    engine = Engine()
    found = run(engine, Batcher(engine, 4), ["a", "b", "broken", "c", "d", "e", "f", "g", "h"])
    failed = [image for image, answer in found.items() if isinstance(answer, RuntimeError)]
    assert "broken" in failed
    assert len(failed) <= 4
    assert len(found) == 9


def test_one_caller_is_judged_alone() -> None:
    engine = Engine()
    engine.others.set()
    answer, batch, began = Batcher(engine, 8).judge("x")
    assert (answer, batch) == ("judged x", 1)
    assert began > 0
