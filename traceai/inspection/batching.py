"""Callers that come one by one share forward passes: whoever finds the network free takes along all who wait."""

import threading
import time
from collections import deque
from concurrent.futures import Future
from typing import TYPE_CHECKING

from traceai.errors import ModelError
from traceai.images.decode import DecodedImage

if TYPE_CHECKING:
    from traceai.inspection.engine import Engine, Judgement

Judged = tuple["Judgement | ModelError", int, int]


class Batcher:
    """Batches for one engine. It has no thread of its own: the caller whose turn it is works for those behind it."""

    def __init__(self, engine: "Engine", largest: int) -> None:
        self.engine, self._largest = engine, largest
        self._waiting: deque[tuple[DecodedImage, Future[Judged]]] = deque()
        self._turn = threading.Lock()

    def judge(self, image: DecodedImage) -> Judged:
        """What `Engine.judge` says of `image`, how many images shared the forward pass, and when that began (monotonic, ns)."""
        future: Future[Judged] = Future()
        self._waiting.append((image, future))
        while not future.done():
            with self._turn:
                if not future.done():
                    self._judge_those_who_wait()
        return future.result()

    def _judge_those_who_wait(self) -> None:
        count = min(self._largest, len(self._waiting))
        group = [self._waiting.popleft() for _ in range(count)]
        began = time.monotonic_ns()
        try:
            found = self.engine.judge([image for image, _ in group])
        except BaseException as error:
            for _, future in group:
                future.set_exception(error)
            if not isinstance(error, Exception):
                raise
            return
        for (_, future), judged in zip(group, found, strict=True):
            future.set_result((judged, count, began))
