"""What becomes of drafts, as whoever handed them in waits for it."""

import logging
import threading
from collections.abc import Callable, Iterable
from typing import Self

from traceai.errors import TraceaiError
from traceai.inspection.recording.draft import Draft, Recorded, Spooled

_log = logging.getLogger(__name__)

Told = Recorded | Spooled | TraceaiError


class Answer:
    """As a `concurrent.futures.Future` of one draft, of which it has the methods that are needed.

    A Future brings a lock and ten objects around it; to make them, to wake whoever waits one by one, and to look through them for
    garbage takes a tenth of what recording takes. The answers of a recorder share one lock and are given a group at a time: whoever
    waits for one is woken by each group until it is his.

    Attributes:
        draft: what is asked about, until it is answered.
    """

    __slots__ = ("_calls", "_given", "_told", "draft")

    def __init__(self, draft: Draft, given: threading.Condition) -> None:
        """given: the same for all answers that are given together."""
        self.draft = draft
        self._given = given
        self._told: Told | None = None
        self._calls: tuple[Callable[[Self], object], ...] = ()

    def done(self) -> bool:
        return self._told is not None

    def result(self, timeout: float | None = None) -> Recorded | Spooled:
        """Where the draft lies, once that is so. timeout: seconds.

        Raises:
            TraceaiError: why it lies nowhere.
            TimeoutError: not answered yet.
        """
        told = self._wait(timeout)
        if isinstance(told, TraceaiError):
            try:
                raise told
            finally:
                del self, told  # its traceback holds this frame, which would hold it
        return told

    def exception(self, timeout: float | None = None) -> TraceaiError | None:
        """What `result` would raise of the draft; None where it would raise nothing.

        Raises:
            TimeoutError: not answered yet.
        """
        told = self._wait(timeout)
        return told if isinstance(told, TraceaiError) else None

    def add_done_callback(self, call: Callable[[Self], object]) -> None:
        """Have `call(self)` called once it is answered, by who answers; at once where it is. What it raises is logged."""
        with self._given:
            if self._told is None:
                self._calls += (call,)
                return
        self._tell(call)

    def _wait(self, timeout: float | None) -> Told:
        if (told := self._told) is None:
            with self._given:
                if not self._given.wait_for(self.done, timeout):
                    raise TimeoutError
                told = self._told
        assert told is not None  # noqa: S101  # that is what was waited for
        return told

    def _tell(self, call: Callable[[Self], object]) -> None:
        try:
            call(self)
        except Exception:  # noqa: BLE001  # the next one has to be told all the same
            _log.exception("A callback of an answer failed")


def give(given: threading.Condition, answers: Iterable[tuple[Answer, Told]]) -> None:
    """Answer those that wait, all at once. given: what they were made with."""
    called, answers = [], list(answers)  # all of them or none: what makes them may fail
    with given:
        for answer, told in answers:
            answer._told = told
            del answer.draft
            if answer._calls:
                called.append(answer)
        given.notify_all()
    for answer in called:
        calls, answer._calls = answer._calls, ()
        for call in calls:
            answer._tell(call)
