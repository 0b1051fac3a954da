"""Reading, judging and recording at the same time, each step on another image, and results in the order of the images.

    source -> [read, in threads] -> [judge, a thread, in groups] -> [submit] -> waited for -> caller

Every step waits for the next one where it has to, so that a fixed number of images is under way, however fast the source is.
"""

import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from queue import Empty, Queue, SimpleQueue
from typing import Generic, Protocol, TypeVar

Source = TypeVar("Source")
Read = TypeVar("Read")
Result = TypeVar("Result")

READERS = 4
_Result_co = TypeVar("_Result_co", covariant=True)


class Pending(Protocol[_Result_co]):
    """Something that will be there; a `Future`, for one."""

    def result(self) -> _Result_co: ...


class _End:
    """What a step puts last: the source is at its end, or `error` stopped it."""

    def __init__(self, error: BaseException | None = None) -> None:
        self.error = error


class Flow(Generic[Source, Read, Result]):
    """One run. Iterate over it once.

    Args:
        source: where images come from; asked in a thread of its own, and may take its time.
        read: called in several threads at once.
        judge: called with up to `batch` of what was read, in order.
        submit: called with each of these after it; returns what its result can be waited for with.
        eager: judge whatever is there, for a live source; otherwise wait for `batch` images, or for the end.
        until: set from outside, the group at hand is the last one. A live source ends by itself: what it gave is judged, for it
            cannot be asked again.
    """

    def __init__(
        self,
        source: Iterable[Source],
        read: Callable[[Source], Read],
        judge: Callable[[Sequence[Read]], None],
        submit: Callable[[Read], "Pending[Result]"],
        *,
        batch: int,
        eager: bool,
        until: threading.Event | None = None,
    ) -> None:
        self._source, self._read, self._judge, self._submit = source, read, judge, submit
        self._batch, self._eager, self._until = batch, eager, until or threading.Event()
        self._room = threading.Semaphore(4 * batch)
        self._reads: Queue[Future[Read] | _End] = Queue()
        self._results: SimpleQueue[Pending[Result] | _End] = SimpleQueue()
        self._stopped = threading.Event()
        self._next: Future[Read] | _End | None = None

    def __iter__(self) -> Iterator[Result]:
        """The results in order.

        Raises:
            Whatever source, `read`, `judge` or one of its futures raised, in its place; nothing further is begun then.
        """
        steps = [
            threading.Thread(target=step, name=f"traceai-{step.__name__.strip('_')}", daemon=True)
            for step in (self._feed, self._work)
        ]
        for step in steps:
            step.start()
        try:
            while not isinstance(found := self._results.get(), _End):
                yield found.result()
                self._room.release()
            if found.error is not None:
                raise found.error
        finally:
            # The source may wait for a camera that will not come: its thread ends with its next image.
            self._stopped.set()
            self._room.release(4 * self._batch)
            steps[1].join()

    def _feed(self) -> None:
        with ThreadPoolExecutor(READERS, thread_name_prefix="traceai-read") as pool:
            try:
                for item in self._source:
                    self._room.acquire()
                    if self._stopped.is_set():
                        return
                    self._reads.put(pool.submit(self._read, item))
            except BaseException as error:  # noqa: BLE001  # handed to who iterates
                self._reads.put(_End(error))
            else:
                self._reads.put(_End())

    def _work(self) -> None:
        ended = None
        try:
            while ended is None:
                group, ended = self._take()
                if self._until.is_set() and not self._eager:
                    break
                read, failed = _those_before_an_error(group)
                ended = failed or ended
                if read:
                    self._judge(read)
                for one in read:
                    if self._stopped.is_set():
                        return
                    self._results.put(self._submit(one))
        except BaseException as error:  # noqa: BLE001  # handed to who iterates
            ended = _End(error)
        self._results.put(ended or _End())

    def _take(self) -> tuple[list["Future[Read]"], _End | None]:
        """The next reads to judge together, and the end where it was reached."""
        group: list[Future[Read]] = []
        while len(group) < self._batch:
            waits = not (group and self._eager)
            if self._next is None:
                self._next = self._get(waits)
            if self._next is None or not (waits or isinstance(self._next, _End) or self._next.done()):
                break  # what is not there yet holds up nothing that is
            if isinstance(self._next, _End):
                return group, self._next
            group.append(self._next)
            self._next = None
        return group, None

    def _get(self, waits: bool) -> "Future[Read] | _End | None":
        while not self._stopped.is_set():
            try:
                return self._reads.get(block=waits, timeout=0.1)
            except Empty:
                if not waits:
                    return None
        return _End()


def _those_before_an_error(group: "Sequence[Future[Read]]") -> tuple[list[Read], _End | None]:
    """What was read, up to the first image that was not, and why that was not."""
    read: list[Read] = []
    for one in group:
        if (error := one.exception()) is not None:
            return read, _End(error)
        read.append(one.result())
    return read, None
