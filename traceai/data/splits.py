"""Training, validation and test parts that share nothing: no group, and no picture.

Groups are what must stay together: one part under several exposures, one strip of steel, one file and its copies. The
assignment depends on group ids and defect types alone, not on file order, names, clocks or a generator's state.
"""

import hashlib
from collections import Counter, defaultdict
from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass

from traceai.data.layouts import SPLITS, Split

SHARES: dict[Split, float] = {"train": 0.70, "val": 0.15, "test": 0.15}
SEED = "traceai-split/1"


@dataclass(frozen=True)
class Member:
    """What the assignment sees of an image; `stratum` is its class, `split` the one its data set came with."""

    group_id: str
    stratum: str
    split: Split | None


def merged_groups(group_ids: Sequence[str], pixel_hashes: Sequence[str]) -> list[str]:
    """Group ids in which identical pictures share a group: the smallest id of those joined, directly or in a chain.

    Laws: equal ids stay equal; equal pictures have equal ids; nothing else is joined.
    """
    parent: dict[str, str] = {}

    def find(group: str) -> str:
        while (above := parent.setdefault(group, group)) != group:
            parent[group] = group = parent[above]
        return group

    first: dict[str, str] = {}
    for group, pixels in zip(group_ids, pixel_hashes, strict=True):
        one, other = sorted((find(group), find(first.setdefault(pixels, group))))
        parent[other] = one
    return [find(group) for group in group_ids]


def assign(members: Iterable[Member], seed: str = SEED) -> dict[str, Split]:
    """A split for every group: what members without one are given.

    Groups are stratified by the classes they show and taken in the order of SHA-256(seed, group id). Within a stratum
    the first goes to train, the second to val and the third to test, so that a rare defect is learnt first and then
    seen wherever a rate is estimated; every further one goes where most images are missing from 70 / 15 / 15. A group
    with members that came with a split joins the split of most of them.
    """
    groups: defaultdict[str, list[Member]] = defaultdict(list)
    for member in members:
        groups[member.group_id].append(member)
    strata: defaultdict[tuple[str, ...], list[str]] = defaultdict(list)
    for group, inside in groups.items():
        strata[tuple(sorted({member.stratum for member in inside}))].append(group)
    assigned: dict[str, Split] = {}
    for stratum in strata.values():
        total = sum(len(groups[group]) for group in stratum)
        counts: Counter[Split] = Counter()
        open_groups: list[str] = []
        for group in stratum:
            given = Counter(member.split for member in groups[group] if member.split is not None)
            if given:
                counts += given
                chosen = max(SPLITS, key=given.__getitem__)
                assigned[group] = chosen
                counts[chosen] += len(groups[group]) - given.total()
            else:
                open_groups.append(group)
        for group in sorted(open_groups, key=lambda group: _order(seed, group)):
            empty = [split for split in SPLITS if not counts[split]]
            missing = {split: SHARES[split] * total - counts[split] for split in SPLITS}
            assigned[group] = empty[0] if empty else max(SPLITS, key=missing.__getitem__)
            counts[assigned[group]] += len(groups[group])
    return assigned


def straddling(keys: Iterable[Hashable], splits: Iterable[Split]) -> dict[Hashable, tuple[Split, ...]]:
    """Every key that occurs in more than one split, with those splits in the order train, val, test."""
    found: defaultdict[Hashable, set[Split]] = defaultdict(set)
    for key, split in zip(keys, splits, strict=True):
        found[key].add(split)
    return {key: tuple(s for s in SPLITS if s in seen) for key, seen in found.items() if len(seen) > 1}


def _order(seed: str, group: str) -> bytes:
    return hashlib.sha256(f"{seed}\0{group}".encode()).digest()
