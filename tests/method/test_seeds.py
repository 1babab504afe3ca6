"""A rollout's seed is its place in the run, and nothing else."""

from prefix_opd.method.seeds import answer_seed, rollout_seed, seed_of

PROMPT = [3, [{"role": "user", "content": "7+3"}]]


def test_every_part_of_the_place_counts():
    places = [
        (0, 1, PROMPT, 0, 0, False),
        (1, 1, PROMPT, 0, 0, False),
        (0, 2, PROMPT, 0, 0, False),
        (0, 1, [4, PROMPT[1]], 0, 0, False),
        (0, 1, [3, [{"role": "user", "content": "7-3"}]], 0, 0, False),
        (0, 1, PROMPT, 1, 0, False),
        (0, 1, PROMPT, 0, 1, False),
        (0, 1, PROMPT, 0, 0, True),
    ]
    assert len({rollout_seed(*place) for place in places}) == len(places)


def test_it_is_the_same_in_every_process_and_fits_the_engine():
    # a fixed value: Python's own hash() changes from process to process
    assert rollout_seed(0, 1, PROMPT, 0) == rollout_seed(0, 1, [3, [{"content": "7+3", "role": "user"}]], 0)
    assert all(0 <= rollout_seed(0, step, PROMPT, 0) < 2**63 for step in range(100))


def test_a_seed_is_the_first_bits_of_a_sha_256():
    # printf abc | sha256sum: ba7816bf8f01cfea…
    assert seed_of("abc", 32) == 0xBA7816BF and seed_of("abc", 63) == 0xBA7816BF8F01CFEA >> 1
    assert answer_seed("0/giver", 3, 1) == seed_of("0/giver/3/1", 32) == answer_seed("0", "giver/3", 1)
