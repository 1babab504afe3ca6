"""verl's data loader goes on where it was, also over the end of an epoch: what an exact resume needs of it."""

import pytest
from omegaconf import OmegaConf
from torchdata.stateful_dataloader import StatefulDataLoader
from verl.trainer.ppo.utils import create_rl_sampler

BATCHES = 7


def loader(rows: int) -> StatefulDataLoader:
    data = list(range(rows))
    sampler = create_rl_sampler(OmegaConf.create({"shuffle": True, "seed": 0}), data)
    return StatefulDataLoader(data, batch_size=4, drop_last=True, sampler=sampler)


def draw(data: StatefulDataLoader, batches: int) -> list[list[int]]:
    """Draw batches like PPOTrainer._fetch_one_gen_batch."""
    drawn, iterator = [], iter(data)
    while len(drawn) < batches:
        try:
            drawn.append(next(iterator).tolist())
        except StopIteration:
            iterator = iter(data)
    return drawn


@pytest.mark.parametrize("rows", [8, 10])  # two batches an epoch, with and without rows to drop
@pytest.mark.parametrize("stopped_after", range(1, BATCHES))
def test_the_batches_after_a_stop_are_those_that_would_have_come(rows, stopped_after):
    whole = draw(loader(rows), BATCHES)
    stopped = loader(rows)
    assert draw(stopped, stopped_after) == whole[:stopped_after]
    resumed = loader(rows)
    resumed.load_state_dict(stopped.state_dict())
    assert draw(resumed, BATCHES - stopped_after) == whole[stopped_after:]
