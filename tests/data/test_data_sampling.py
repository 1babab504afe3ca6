"""Sampling by keyed hash."""

import random

from prefix_opd.data.sampling import KEY_BYTES, SmallestKeys, key_of


def test_keys_depend_on_the_seed_and_each_part():
    keys = {key_of(0, "ab"), key_of(1, "ab"), key_of(0, "a", "b"), key_of(0, "ab", ""), key_of(0, "a", "b", "")}
    assert len(keys) == 5
    assert key_of(0, "ab") == key_of(0, "ab")


def test_keys_do_not_change_between_versions():
    # Fixed for good: another value means that every published sample would be another one.
    assert f"{key_of(7, 'What is 1+1?'):032x}" == "1cb965001879d5cbcb2e9ef837fd1654"


def test_the_smallest_are_held_whatever_the_order():
    keys = list(range(100))
    for seed in range(5):
        random.Random(seed).shuffle(keys)
        held = SmallestKeys(7)
        for key in keys * 2:
            held.offer(key, lambda key=key: f"v{key}")
        assert held.items() == [(key, f"v{key}") for key in range(7)]
        assert held.bar == 6


def test_the_bar_falls_only_once_it_is_full():
    held = SmallestKeys(2)
    held.offer(5, lambda: None)
    assert held.bar == 1 << (8 * KEY_BYTES)
    held.offer(9, lambda: None)
    assert held.bar == 9
    assert not held.would_hold(10)
    held.offer(1, lambda: None)
    assert (held.bar, 9 in held, len(held)) == (5, False, 2)


def test_without_a_count_all_are_held():
    held = SmallestKeys(None)
    for key in (3, 1, 2):
        held.offer(key, lambda: None)
    assert [key for key, _ in held.items()] == [1, 2, 3]
