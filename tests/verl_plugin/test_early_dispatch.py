"""Which step's prompts are handed out early, as whose, and what waits for their rollouts."""

import types

import pytest
from omegaconf import OmegaConf
from verl.utils.skip import SkipManager

from prefix_opd.config.settings import Settings
from prefix_opd.run import stopping
from prefix_opd.verl_plugin.trainer import trainer as module
from prefix_opd.verl_plugin.trainer.early_dispatch import EarlyDispatch
from prefix_opd.verl_plugin.trainer.lengths import Lengths
from prefix_opd.verl_plugin.trainer.trainer import PrefixOPDTrainer

STEPS = 12


@pytest.fixture
def trainer(tmp_path):
    """A trainer between two steps: 6 steps per epoch, validation after 4, 8 and the last, probes before 6 and 11, a
    checkpoint after 7."""
    made = object.__new__(PrefixOPDTrainer)
    folder = {"default_local_dir": str(tmp_path), "save_freq": 7}
    made.config = OmegaConf.create(
        {
            "trainer": {"test_freq": 4, "total_epochs": 2, **folder},
            "global_profiler": {"steps": None},
            "data": {"max_response_length": 8},
        }
    )
    made.lengths = Lengths(made)
    made.settings = Settings()
    made.total_training_steps, made.steps_per_epoch = STEPS, 6
    made.probe = types.SimpleNamespace(is_due=lambda step: step in (6, 11))
    made.early = EarlyDispatch(made)
    made.handed_out = []
    made._add_batch_to_generate = lambda: made.handed_out.append((made.global_steps, SkipManager.step))
    return made


def test_prompts_wait_for_validations_probes_and_the_end(trainer):
    early = []
    for step in range(1, STEPS + 1):
        trainer.global_steps = step
        trainer.handed_out.clear()
        trainer.early.after(step)
        if trainer.handed_out:
            assert trainer.handed_out == [(step + 1, step + 1)], "as the next step's"
            early.append(step + 1)
        assert trainer.global_steps == step
    # 5, 9: after a validation; 6, 11: after a probe
    assert early == [2, 3, 4, 7, 8, 10, 12]


def test_no_step_hands_out_twice_and_none_goes_without(trainer):
    for step in range(1, STEPS + 1):
        trainer.global_steps = step
        assert trainer.prepare_step() == {}
        assert [of for of, _ in trainer.handed_out] == list(range(1, step + 1))
        trainer.early.after(step)


def test_none_is_handed_out_that_no_step_takes(trainer):
    trainer.total_training_steps = 20
    trainer.config.trainer.test_freq = -1
    trainer.early.after(12)  # verl ends with the second epoch
    trainer.config.trainer.total_epochs = 30
    trainer.early.after(20)  # as it is asked to end: the last step
    assert trainer.handed_out == []


def test_profiled_steps_begin_as_verl_has_it(trainer):
    trainer.config.global_profiler.steps = [2]
    trainer.early.after(1)
    assert trainer.handed_out == []


def test_a_dispatch_that_fails_leaves_the_step_as_it_was(trainer):
    def fail():
        raise ValueError("no row")

    trainer._add_batch_to_generate, trainer.global_steps = fail, 1
    with pytest.raises(ValueError, match="no row"):
        trainer.early.after(1)
    assert trainer.global_steps == 1 and not trainer.early.is_done(2)


# ---- one update earlier ----


@pytest.fixture
def off_policy(trainer):
    trainer.settings = Settings(rollout={"off_policy_steps": 1})
    trainer.saved_step, trainer.timing_raw = 0, {}
    return trainer


def test_strictly_on_policy_nothing_is_handed_out_before_the_update(trainer):
    trainer.global_steps = 1
    trainer.early.before_update(1)
    assert trainer.handed_out == []


def test_the_next_prompts_go_out_before_the_update_but_for_what_must_come_between(off_policy):
    early, late = [], []
    for step in range(1, STEPS + 1):
        off_policy.global_steps = step
        off_policy.handed_out.clear()
        off_policy.early.before_update(step)
        early += [of for of, _ in off_policy.handed_out]
        off_policy.handed_out.clear()
        off_policy.early.after(step)
        late += [of for of, _ in off_policy.handed_out]
    # 5, 9: after a validation; 6, 11: after a probe; 8: after a checkpoint, handed out with the weights that it has
    assert early == [2, 3, 4, 7, 10, 12] and late == [8]


def test_it_happens_before_the_update(off_policy, monkeypatch):
    order = []
    monkeypatch.setattr(
        module.PPOTrainerSync, "_update_actor", lambda self, batch, metrics: order.append(list(self.handed_out))
    )
    off_policy.guard = types.SimpleNamespace(check_update=lambda metrics: None)
    off_policy.global_steps = 1
    off_policy._update_actor(types.SimpleNamespace(extra_info={}), {})
    assert order == [[(2, 2)]]


class Buffer:
    """A replay buffer that receives rollouts one after another."""

    def __init__(self, running):
        self.left, self.looks = running, 0
        self.pending_keys, self.running_keys = {"train": set()}, {"train": set()}

    def _sync_metadata_from_transfer_queue(self):
        self.looks += 1
        self.pending_keys["train"] = {"last"} if self.left else set()
        self.running_keys["train"] = set(range(self.left - 1))
        self.left = max(0, self.left - 1)

    def _wait_for_next_poll(self, partition, told):
        assert partition == "train"
        return told


def test_new_weights_wait_for_the_rollouts_that_are_under_way(off_policy, monkeypatch):
    synced = []
    off_policy.replay_buffer, off_policy.global_steps = Buffer(running=3), 1
    monkeypatch.setattr(module.PPOTrainerSync, "on_step_end", lambda self: synced.append(self.replay_buffer.looks))
    off_policy.early.before_update(1)
    off_policy.on_step_end()
    assert synced == [4], "three looks at what still ran, and one that found nothing"
    assert off_policy.timing_raw["gen"] >= 0


def test_nothing_is_waited_for_where_nothing_is_under_way(trainer, monkeypatch):
    monkeypatch.setattr(module.PPOTrainerSync, "on_step_end", lambda self: None)
    trainer.replay_buffer, trainer.timing_raw, trainer.global_steps = None, {}, 1
    trainer.on_step_end()
    assert trainer.handed_out == [(2, 2)]


def test_a_run_that_is_asked_to_end_learns_first_from_what_is_under_way(off_policy, monkeypatch):
    saved = []
    monkeypatch.setattr(module.PPOTrainerSync, "on_step_end", lambda self: None)
    off_policy._save_checkpoint = lambda: saved.append(off_policy.global_steps)
    off_policy.replay_buffer = Buffer(running=0)
    off_policy.global_steps = 1
    off_policy.early.before_update(1)
    (off_policy.run_folder / stopping.STOP_FILE).touch()
    off_policy.on_step_end()
    assert saved == [] and off_policy.total_training_steps == STEPS

    off_policy.global_steps = 2
    off_policy.early.before_update(2)
    assert off_policy.handed_out == [(2, 2)], "asked to end: nothing more is handed out"
    off_policy.on_step_end()
    assert saved == [2] and off_policy.total_training_steps == 2
    assert off_policy.handed_out == [(2, 2)]


def test_a_spent_budget_ends_the_run_with_a_checkpoint_and_a_validation(trainer, monkeypatch):
    saved = []
    monkeypatch.setattr(module.PPOTrainerSync, "on_step_end", lambda self: None)
    trainer.timing_raw, trainer.saved_step, trainer.replay_buffer = {}, 0, Buffer(running=0)
    trainer._save_checkpoint = lambda: saved.append(trainer.global_steps)
    trainer.settings = Settings(flop_budget=5e9)
    for trainer.global_steps, flops in ((1, 4.9e9), (2, 5e9)):
        trainer.ledger = types.SimpleNamespace(flops={"exact": flops})
        trainer.on_step_end()
    assert saved == [2] and trainer.total_training_steps == 2 and trainer.is_validated(2)
    assert trainer.config.trainer.test_freq == 1, "verl validates a step that it does not know as the last by this"
    assert trainer.handed_out == [(2, 2)], "none for a third step"
