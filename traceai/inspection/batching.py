"""Callers that come one by one share forward passes: whoever finds the network free takes along all who wait."""

import threading
import time
from collections import deque
from concurrent.futures import Future

from traceai.errors import ModelError
from traceai.inspection.judging import Array, Judge, Judgement

Judged = tuple[Judgement | ModelError, int, int]


class Batcher:
    """Batches for one engine. It has no thread of its own: the caller whose turn it is works for those behind it."""

    def __init__(self, engine: Judge, largest: int) -> None:
        self.engine, self._largest = engine, largest
        self._waiting: deque[tuple[Array, Future[Judged]]] = deque()
        self._turn = threading.Lock()

    def judge(self, prepared: Array) -> Judged:
        """What `Engine.judge` says of a prepared image, how many shared the forward pass, and when that began (monotonic, ns)."""
        future: Future[Judged] = Future()
        self._waiting.append((prepared, future))
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
            found = self.engine.judge([prepared for prepared, _ in group])
        except BaseException as error:
            for _, future in group:
                future.set_exception(error)
            if not isinstance(error, Exception):
                raise
            return
        for (_, future), judged in zip(group, found, strict=True):
            future.set_result((judged, count, began))
