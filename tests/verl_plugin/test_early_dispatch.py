"""Which step's prompts are handed out early, and as whose."""

import types

import pytest
from omegaconf import OmegaConf
from verl.utils.skip import SkipManager

from prefix_opd.verl_plugin.early_dispatch import EarlyDispatch
from prefix_opd.verl_plugin.trainer import PrefixOPDTrainer

STEPS = 12


@pytest.fixture
def trainer(monkeypatch):
    """A step that ends: 6 steps an epoch, validation after 4, 8 and the last, probes before 6 and 11."""
    made = object.__new__(PrefixOPDTrainer)
    made.config = OmegaConf.create({"trainer": {"test_freq": 4, "total_epochs": 2}, "global_profiler": {"steps": None}})
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
