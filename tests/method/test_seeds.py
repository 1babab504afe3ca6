"""A rollout's seed is its place in the run, and nothing else."""

from prefix_opd.method.seeds import rollout_seed

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
