"""Parts of the trainer that need no engine: the methods are the real ones, what they call is a stand-in."""

import types

import pytest
import torch
from transfer_queue import KVBatchMeta

import prefix_opd.verl_plugin.trainer.trainer as module
from prefix_opd.config.settings import Settings
from prefix_opd.verl_plugin.fields import TrainBatch
from prefix_opd.verl_plugin.trainer.step_guard import ThrownAway
from prefix_opd.verl_plugin.trainer.trainer import PrefixOPDTrainer

ROLLOUT = TrainBatch(
    prompts=torch.tensor([1]),
    tokens=torch.tensor([2, 3]),
    prompt_lengths=[1],
    lengths=[2],
    log_p=torch.tensor([-1.0, -2.0]),
    log_p_rollout=torch.tensor([-1.0, -2.0]),
    log_q=torch.tensor([-3.0, -1.0]),
    mask=torch.tensor([True, True]),
    records=[{"cap": 8, "ending": "natural"}],
)
BATCH = KVBatchMeta(partition_id="train", keys=["a_0_0"], tags=[{}])


@pytest.fixture
def trainer(monkeypatch):
    """Before the advantage of step 1, of which samples are kept."""
    made = object.__new__(PrefixOPDTrainer)
    made.settings = Settings()
    loss = types.SimpleNamespace(loss_mode="prefix_opd", loss_settings=types.SimpleNamespace(use_topk=False))
    made.distillation_config = types.SimpleNamespace(distillation_loss=loss)
    made.processor = None
    made.global_steps = 1
    made.told = []
    made.samples = types.SimpleNamespace(is_due=lambda step: True, record=lambda *what: made.told.append("sample"))
    made.guard = types.SimpleNamespace(check_rollouts=lambda *what: made.told.append("check"))
    monkeypatch.setattr(module.tq, "kv_batch_get", lambda **asked: {})
    monkeypatch.setattr(module, "read_train_batch", lambda data, recomputed, topk: ROLLOUT)
    return made


def test_samples_are_kept_of_a_batch_that_is_accepted(trainer, monkeypatch):
    monkeypatch.setattr(module.tq, "kv_batch_put", lambda **given: BATCH)
    trainer._rollout_metrics = lambda rollouts, recomputed: {}
    trainer._compute_advantage(BATCH, {})
    assert trainer.told == ["check", "sample"]


@pytest.mark.parametrize(
    "loss_mode, student, reads_teacher",
    [("prefix_opd", "sampler", False), ("prefix_opd", "current", True), ("forward_kl_topk", "sampler", True)],
)
def test_only_columns_that_the_update_reads_travel_to_it(trainer, monkeypatch, loss_mode, student, reads_teacher):
    monkeypatch.setattr(module.tq, "kv_batch_put", lambda **given: BATCH)
    trainer._rollout_metrics = lambda rollouts, recomputed: {}
    trainer.settings = Settings(advantage={"student_log_prob": student})
    trainer.distillation_config.distillation_loss.loss_mode = loss_mode
    sent = trainer._compute_advantage(BATCH, {})
    assert (sent.keys, sent.tags, sent.partition_id) == (BATCH.keys, BATCH.tags, BATCH.partition_id)
    assert {"input_ids", "position_ids", "loss_mask", "rollout_log_probs", "advantages"} <= {*sent.fields}
    assert ("teacher_logprobs" in sent.fields) == reads_teacher
    assert not {"extra_fields", "raw_prompt", "reward_model", "multi_modal_inputs"} & {*sent.fields}
    trainer.processor = object()
    assert "multi_modal_inputs" in trainer._compute_advantage(BATCH, {}).fields


def test_no_sample_is_kept_of_a_batch_that_is_thrown_away(trainer):
    def refuse(*what):
        raise ThrownAway("step 1: bad")

    trainer.guard.check_rollouts = refuse
    with pytest.raises(ThrownAway):
        trainer._compute_advantage(BATCH, {})
    assert trainer.told == []


def test_a_checkpoint_knows_what_the_probe_of_its_step_found(trainer, monkeypatch):
    monkeypatch.setattr(module.time, "time", lambda: 12.0)
    found = {"prefix_opd/probe/tail_ratio": 1.8}
    trainer.step_metrics, trainer.step_began = {"actor/loss": 0.5}, 10.0
    trainer.flops, trainer.tokens = {"exact": 1.0, "paper": 2.0}, {"generated": 3}
    trainer.probe = types.SimpleNamespace(metrics=lambda: found, state_dict=lambda: {"first": None, "flops": 4.0})
    ledger = trainer._ledger()
    assert ledger["metrics"] == {"actor/loss": 0.5, "prefix_opd/seconds/step": 2.0, **found}
    assert ledger["probe"] == {"first": None, "flops": 4.0}
