"""A folder that a camera writes into, as a source of images that does not end."""

import os
import re
import uuid
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from threading import Event

from traceai.errors import InputError
from traceai.images.decode import DEFAULT_LIMITS
from traceai.inspection.reading import Item

SUFFIXES = frozenset({".bmp", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp"})
# Seconds between two looks at the folder. A file is complete when it was the same in two of them.
PAUSE = 0.2
# What a pattern may take out of a file's name.
FIELDS = frozenset({"product", "serial", "lot", "view", "trigger"})

# Path, size and time of modification (ns): a file that is written anew is another image.
_State = tuple[str, int, int]


def named(pattern: str | None) -> Callable[[Path], Mapping[str, str]]:
    """Reads serial number, lot and so on out of a file's name.

    pattern: a regular expression whose groups are named as fields of `Item`, such as `(?P<serial>.+)_(?P<trigger>[0-9]+)`.

    Raises:
        InputError: no regular expression, or a group that is no field.
    """
    if pattern is None:
        return lambda _: {}
    try:
        expression = re.compile(pattern)
    except re.error as error:
        raise InputError(f"The pattern {pattern!r} is no regular expression: {error}.") from error
    if not expression.groupindex or not expression.groupindex.keys() <= FIELDS:
        raise InputError(
            f"The pattern {pattern!r} has to name groups, such as (?P<serial>...); there are {', '.join(sorted(FIELDS))}."
        )

    def read(path: Path) -> Mapping[str, str]:
        found = expression.search(path.name)
        return {name: text for name, text in found.groupdict().items() if text} if found else {}

    return read


def item(
    path: Path,
    given: Mapping[str, str | None],
    read: Callable[[Path], Mapping[str, str]],
    source: Path | bytes | None = None,
    **more: str,
) -> Item:
    """The image at `path`, whose bytes are `source` where they are at hand; what its name says goes before what is `given` for all.

    Raises:
        InputError: the name holds a trigger that is no count, or what no record can hold.
    """
    said = {**given, **read(path), **more}
    trigger = said.pop("trigger", None)
    if trigger is not None and not (trigger.isascii() and trigger.isdigit()):
        raise InputError(
            f"The trigger {trigger!r:.60} in the name {path.name} is no count; give a pattern that finds digits."
        )
    number = None if trigger is None else int(trigger)
    return Item(path if source is None else source, name=str(path), trigger=number, **said)  # type: ignore[arg-type]


def is_image(path: Path) -> bool:
    """Whether a file's name is that of an image. Hidden ones are somebody's that is not done."""
    return path.suffix.lower() in SUFFIXES and not path.name.startswith(".")


def watch(
    folder: Path,
    station: str,
    make: Callable[[Path, str, Path | bytes], Item],
    known: Callable[[Sequence[str]], Collection[str]],
    until: Event,
    largest: int = DEFAULT_LIMITS.max_bytes,
    told: Callable[[str], None] = lambda _: None,
) -> Iterator[Item]:
    """Every image in `folder`, and every one that appears there, until `until` is set; oldest first.

    The folder is looked at and not listened to, so that a network share will do as well.

    Args:
        make: from a path, the id under which the image is inspected once, however often the folder is watched, and its bytes; or,
            of a file of more than `largest` bytes, its path.
        known: which of these ids are on record already.
        told: what to say while the folder cannot be read; a share may come back.
    """
    seen: dict[str, _State] = {}
    done: set[str] = set()
    while not until.is_set():
        try:
            there = _look(folder)
        except OSError as error:
            told(f"{folder} cannot be read ({error.strerror}); it is looked at again.")
            until.wait(10 * PAUSE)
            continue
        complete = sorted(
            (state for path, state in there.items() if seen.get(path) == state), key=lambda state: (state[2], state[0])
        )
        fresh = {reference: state for state in complete if (reference := _reference(station, state)) not in done}
        done |= set(known(list(fresh))) if fresh else set()
        for reference, state in fresh.items():
            if reference in done or until.is_set():
                continue
            data = _content(state, largest)
            if data is not None:
                done.add(reference)
                yield make(Path(state[0]), reference, data)
        done &= {_reference(station, state) for state in there.values()}  # what left the folder is forgotten
        seen = there
        until.wait(PAUSE)


def _content(state: _State, largest: int) -> Path | bytes | None:
    """The bytes of the very file that was looked at, or its path where they are too many; None where it is another one by now."""
    path = Path(state[0])
    try:
        with path.open("rb") as stream:
            status = os.fstat(stream.fileno())
            data = stream.read() if status.st_size <= largest else b""
            after = os.fstat(stream.fileno())
    except OSError:
        return None
    if any((found.st_size, found.st_mtime_ns) != state[1:] for found in (status, after)):
        return None
    return path if status.st_size > largest else data


def _look(folder: Path) -> dict[str, _State]:
    found = {}
    for path in folder.iterdir():
        if is_image(path):
            with suppress(OSError):  # it was taken away meanwhile
                status = path.stat()
                found[str(path)] = (str(path), status.st_size, status.st_mtime_ns)
    return found


def _reference(station: str, state: _State) -> str:
    path, size, modified = state
    return str(
        uuid.uuid5(
            uuid.NAMESPACE_URL, f"file:{Path(path).absolute()}?size={size}&modified={modified}&station={station}"
        )
    )
