"""How an update is cut by length: by hand, against every other cut, and in its bounds."""

import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from prefix_opd.method.micro_batches import FURTHER, Family, Splits, cheapest_number, families

MANY = settings(max_examples=200, derandomize=True, deadline=None, database=None)
NO_LIMIT = 10**9


def split(lengths, overhead, budget=NO_LIMIT):
    splits = Splits.padded(lengths, overhead, budget)
    return splits.groups(cheapest_number(splits.cheapest(splits.fewest() + FURTHER)))


def fewest_groups(lengths, budget):
    return Splits.padded(lengths, 0, budget).fewest()


def cost(lengths, groups, overhead):
    return sum(max(lengths[i] for i in group) * len(group) + overhead for group in groups)


@pytest.mark.parametrize(
    ("overhead", "groups"),
    [
        (15, [[0, 1, 2, 3]]),  # 36 + 15 = 51 against 22 + 30 = 52
        (13, [[0, 2], [1, 3]]),  # 36 + 13 = 49 against 22 + 26 = 48
        (0.5, [[0], [2], [1], [3]]),  # 20 + 2 = 22 against 22 + 1 = 23
    ],
)
def test_by_hand(overhead, groups):
    assert split([9, 2, 8, 1], overhead) == groups


def test_costs_by_hand():
    # 36; 18 + 4, or 9 + 24, or 27 + 1; 9 + 8 + 4, or 18 + 2 + 1; 20
    found = Splits.padded([9, 2, 8, 1], 10, NO_LIMIT).cheapest(5)
    assert found == [36 + 10, 22 + 20, 21 + 30, 20 + 40, float("inf")]


def test_a_budget_by_hand():
    # 9 and 8 cannot go together, nor 8 with 2 and 1 (24); 9 + 8 + 4 is cheaper than 9 + 16 + 1
    assert split([9, 2, 8, 1], 100, budget=16) == [[0], [2], [1, 3]]
    assert fewest_groups([9, 2, 8, 1], 16) == 3
    assert fewest_groups([9, 2, 8, 1], 24) == 2


@given(st.integers(1, 200), st.integers(1, 100), st.integers(1, 1000))
@MANY
def test_equal_lengths_are_one_micro_batch(length, count, overhead):
    assert split([length] * count, overhead) == [list(range(count))]


def test_a_sequence_beyond_the_budget_cannot_be():
    splits = Splits.padded([9, 2], 1, 8)
    assert splits.fewest() == 2
    assert cheapest_number(splits.cheapest(2 + FURTHER)) is None


batches = st.lists(st.integers(1, 300), min_size=1, max_size=40)


@given(batches, st.integers(1, 2000))
@MANY
def test_every_sequence_once_and_never_dearer_than_one_group(lengths, overhead):
    groups = split(lengths, overhead)
    assert sorted(itertools.chain(*groups)) == list(range(len(lengths)))
    assert cost(lengths, groups, overhead) <= cost(lengths, [range(len(lengths))], overhead)


@given(batches, st.integers(1, 2000), st.integers(300, 3000))
@MANY
def test_no_group_is_over_the_budget(lengths, overhead, budget):
    groups = split(lengths, overhead, budget)
    assert sorted(itertools.chain(*groups)) == list(range(len(lengths)))
    assert all(cost(lengths, [group], 0) <= budget for group in groups)
    assert len(groups) >= fewest_groups(lengths, budget)


@given(st.lists(st.integers(1, 30), min_size=1, max_size=7), st.integers(0, 60), st.integers(30, 100))
@MANY
def test_no_cut_of_the_sorted_sequences_is_cheaper(lengths, overhead, budget):
    order = sorted(range(len(lengths)), key=lambda i: -lengths[i])
    found = []
    for number in range(len(lengths)):
        for cuts in itertools.combinations(range(1, len(lengths)), number):
            groups = [order[i:j] for i, j in itertools.pairwise([0, *cuts, len(lengths)])]
            if all(cost(lengths, [group], 0) <= budget for group in groups):
                found.append((cost(lengths, groups, overhead), len(groups)))
    groups = split(lengths, overhead, budget)
    assert (cost(lengths, groups, overhead), len(groups)) == min(found)
    assert fewest_groups(lengths, budget) == min(number for _, number in found)


def test_families_by_hand():
    # prompt 0 has 10 tokens and rollouts of 3, 7, 5: 10 + 3 * 7 + 2 * 10 / 8 = 33.5 together
    found = families([0, 1, 0, 0], [10, 4, 10, 10], [3, 2, 7, 5], 34)
    assert found == [Family((2, 3, 0), 10, 7), Family((1,), 4, 2)]
    # at 33 the two longest stay together, which take 10 + 14 + 1.25
    assert families([0, 1, 0, 0], [10, 4, 10, 10], [3, 2, 7, 5], 33)[:2] == [Family((2, 3), 10, 7), Family((0,), 10, 3)]
    # no budget holds less than a rollout
    assert [family.rows for family in families([0, 0], [10, 10], [3, 7], 5)] == [(1,), (0,)]


rollouts = st.lists(st.tuples(st.integers(0, 5), st.integers(1, 60)), min_size=1, max_size=20)
prompt_lengths = st.lists(st.integers(1, 50), min_size=6, max_size=6)


def shared_cost(group, overhead):
    """The cost by definition: prompts and responses padded to their longest, an eighth for each further rollout."""
    prompts, rollouts = [family.prompt for family in group], sum(len(family.rows) for family in group)
    padded = max(prompts) * len(group) + max(family.longest for family in group) * rollouts
    return padded + (rollouts - len(group)) * max(prompts) / 8 + overhead


@given(rollouts, prompt_lengths, st.integers(110, 400), st.integers(0, 300))
@MANY
def test_families_are_cut_whole_and_within_the_budget(found, lengths, budget, overhead):
    owners, responses = zip(*found, strict=True)
    items = families(owners, [lengths[owner] for owner in owners], responses, budget)
    assert sorted(itertools.chain(*(family.rows for family in items))) == list(range(len(owners)))
    for family in items:
        assert len({owners[row] for row in family.rows}) == 1
        assert family.longest == max(responses[row] for row in family.rows)
    splits = Splits.shared(items, overhead, budget)
    costs = splits.cheapest(splits.fewest() + FURTHER)
    number = cheapest_number(costs)
    groups = [[items[i] for i in group] for group in splits.groups(number)]
    assert sorted(itertools.chain(*(family.rows for group in groups for family in group))) == list(range(len(owners)))
    assert all(shared_cost(group, 0) <= budget for group in groups)
    assert sum(shared_cost(group, overhead) for group in groups) == pytest.approx(costs[number - 1])


@given(st.lists(st.tuples(st.integers(1, 50), st.integers(1, 60)), min_size=1, max_size=12), st.integers(0, 300))
@MANY
def test_a_rollout_alone_costs_what_a_padded_sequence_does(found, overhead):
    """With one rollout per prompt and equal prompts, the cost is the same as without sharing."""
    responses = [response for _, response in found]
    items = families(range(len(found)), [7] * len(found), responses, NO_LIMIT)
    shared = Splits.shared(items, overhead, NO_LIMIT).cheapest(5)
    assert shared == Splits.padded([7 + response for response in responses], overhead, NO_LIMIT).cheapest(5)
