from collections import Counter, defaultdict
from random import Random

from hypothesis import given, settings
from hypothesis import strategies as st

from traceai.data.splits import Member, assign, merged_groups, straddling

LINKS = st.lists(st.tuples(st.sampled_from("abcdefgh"), st.sampled_from("123456789")), max_size=25)
MEMBERS = st.lists(
    st.builds(
        Member,
        group_id=st.text("abcdefghij", min_size=1, max_size=2),
        stratum=st.sampled_from(["", "dent", "scratch"]),
        split=st.sampled_from([None, None, None, "train", "val", "test"]),
    ),
    max_size=60,
)


def test_pictures_join_groups_in_chains() -> None:
    # a - 1 - b - 2 - c, and d by itself.
    assert merged_groups(["c", "b", "b", "a", "d"], ["2", "2", "1", "1", "3"]) == ["a", "a", "a", "a", "d"]


@given(LINKS)
@settings(deadline=None, max_examples=150)
def test_merged_groups_are_the_connected_components(links: list[tuple[str, str]]) -> None:
    groups, pixels = [group for group, _ in links], [picture for _, picture in links]
    merged = merged_groups(groups, pixels)
    # The oracle spreads the smallest id along shared groups and pictures until nothing changes.
    expected, before = list(groups), [""]
    while expected != before:
        before = list(expected)
        for keys in (groups, pixels):
            smallest: dict[str, str] = {}
            for key, label in zip(keys, expected, strict=True):
                smallest[key] = min(label, smallest.get(key, label))
            expected = [smallest[key] for key in keys]
    assert merged == expected


@given(MEMBERS, st.randoms(use_true_random=False))
@settings(deadline=None, max_examples=150)
def test_every_group_gets_one_split_whatever_the_order(members: list[Member], random: Random) -> None:
    assigned = assign(members)
    assert set(assigned) == {member.group_id for member in members}
    shuffled = list(members)
    random.shuffle(shuffled)
    assert assign(shuffled) == assigned


@given(MEMBERS)
@settings(deadline=None, max_examples=100)
def test_given_splits_are_joined(members: list[Member]) -> None:
    assigned = assign(members)
    given_splits = defaultdict(set)
    for member in members:
        if member.split is not None:
            given_splits[member.group_id].add(member.split)
    for group, splits in given_splits.items():
        assert assigned[group] in splits


@given(st.lists(st.integers(1, 4), min_size=40, max_size=120), st.sampled_from(["one", "two"]))
@settings(deadline=None, max_examples=60)
def test_shares_are_70_15_15_within_every_class(sizes: list[int], seed: str) -> None:
    members = [
        Member(f"g{number}", ("", "dent")[number % 2], None) for number, size in enumerate(sizes) for _ in range(size)
    ]
    assigned = assign(members, seed)
    for stratum in ("", "dent"):
        counts = Counter(assigned[member.group_id] for member in members if member.stratum == stratum)
        assert abs(counts["train"] - 0.70 * counts.total()) <= 4
        assert abs(counts["val"] - 0.15 * counts.total()) <= 4
        assert abs(counts["test"] - 0.15 * counts.total()) <= 4


def test_rare_defects_are_learnt_first_and_then_tested() -> None:
    for count, expected in ((1, {"train": 1}), (2, {"train": 1, "val": 1}), (3, {"train": 1, "val": 1, "test": 1})):
        members = [Member(f"g{number}", "crack", None) for number in range(count)]
        assert Counter(assign(members).values()) == expected


def test_another_seed_draws_another_split() -> None:
    members = [Member(f"g{number}", "", None) for number in range(40)]
    assert assign(members) == assign(members)
    assert assign(members, "one") != assign(members, "two")


def test_straddling_names_the_splits_in_order() -> None:
    assert straddling(["a", "a", "b", "a"], ["test", "train", "val", "test"]) == {"a": ("train", "test")}
