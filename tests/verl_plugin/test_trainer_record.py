"""Parts of the trainer that need no engine: the methods are the real ones, what they call is a stand-in."""

import dataclasses
import types

import numpy as np
import pytest
import torch
from omegaconf import OmegaConf
from transfer_queue import KVBatchMeta
from verl.utils import tensordict_utils as tu

import prefix_opd.verl_plugin.trainer.trainer as module
from prefix_opd.config.settings import Settings
from prefix_opd.method.flops import ModelShape
from prefix_opd.method.layers import Attention, Mlp
from prefix_opd.method.names import SIGNAL
from prefix_opd.method.objective import ForwardKLTopK, PrefixOPD
from prefix_opd.method.schedule import Schedule
from prefix_opd.verl_plugin.fields import TrainBatch
from prefix_opd.verl_plugin.trainer.lengths import Lengths
from prefix_opd.verl_plugin.trainer.step_guard import ThrownAway
from prefix_opd.verl_plugin.trainer.trainer import PrefixOPDTrainer

ROLLOUT = TrainBatch(
    prompts=torch.tensor([1]),
    tokens=torch.tensor([2, 3]),
    prompt_lengths=[1],
    lengths=[2],
    log_p=torch.tensor([-1.0, -2.0]),
    log_q=torch.tensor([-3.0, -1.0]),
    mask=torch.tensor([True, True]),
    prefix_lengths=[8],
    records=[{"ending": "natural"}],
)
TIMED = {"ending": "natural", "generated_at": 1.0, "scored_at": 1.5}
SHAPE = ModelShape(4, 10, ((Attention(1, 1, 4), Mlp(8)),))
BATCH = KVBatchMeta(partition_id="train", keys=["a_0_0"], tags=[{}])


@pytest.fixture
def trainer(monkeypatch):
    """A trainer before the advantage of step 1, with samples recorded."""
    made = object.__new__(PrefixOPDTrainer)
    made.settings, made.data = Settings(), {}
    made.processor = None
    made.global_steps = 1
    made.told = []
    made.lengths = Lengths(made)
    made.config = OmegaConf.create({"data": {"max_response_length": 8}})
    made.samples = types.SimpleNamespace(is_due=lambda step: True, record=lambda *what: made.told.append("sample"))
    made.ledger = types.SimpleNamespace(add=lambda rollouts: {}, state_dict=lambda: {"flops": {"exact": 1.0}})
    made.guard = types.SimpleNamespace(check_rollouts=lambda *what: made.told.append("check"))
    monkeypatch.setattr(module.tq, "kv_batch_get", lambda **asked: {})
    monkeypatch.setattr(module, "read_train_batch", lambda data, recomputed, topk: ROLLOUT)
    return made


def test_the_advantage_of_each_objective():
    # log q - log p: -3 + 1, -1 + 2
    assert ROLLOUT.advantage(PrefixOPD(), None).tolist() == [-2.0, 1.0]
    assert ROLLOUT.advantage(PrefixOPD(), 1.5).tolist() == [-1.5, 1.0]
    assert dataclasses.replace(ROLLOUT, log_q=None).advantage(ForwardKLTopK(), None).tolist() == [0.0, 0.0]


class Counting(Schedule):
    """L of a row is its number plus the observed value."""

    _seen: float = 0.0

    def prefix_lengths(self, step, longest, rows):
        return [step + self._seen + row for row in range(rows)]

    def signal_of(self, metrics):
        return self._seen + metrics["kl"], None

    def observe(self, metrics):
        self._seen += metrics["kl"] + metrics.get("prefix_opd/probe/tail_ratio", 0)


@pytest.fixture
def scheduled(trainer, monkeypatch):
    """A trainer with the schedule above, at most 8 tokens, and two prompts to dispatch."""
    trainer.settings = Settings(schedule=Counting())
    trainer.config.update(data={"max_response_length": 8, "train_batch_size": 3})
    trainer.config.actor_rollout_ref = {"rollout": {"n": 2}}
    trainer.guard.remember = lambda batch: None
    monkeypatch.setattr(module.PPOTrainerSync, "_submit_batch_to_rollout", lambda self, batch: len(batch))
    return trainer


def test_the_trainer_stamps_l_on_each_row_once(scheduled):
    batch = tu.get_tensordict({"uid": np.array(["a", "b"], dtype=object)})
    scheduled._submit_batch_to_rollout(batch)
    assert list(batch["prefix_length"]) == [1, 2]
    scheduled.global_steps = 5
    scheduled._submit_batch_to_rollout(batch)
    assert list(batch["prefix_length"]) == [1, 2], "prompts that are sampled again keep theirs"
    assert scheduled.lengths.longest(4) == 6, "the third of three rows"


def test_each_rollout_may_have_an_l_of_its_own(scheduled):
    scheduled.settings = Settings(schedule={"name": "random", "least": 2})
    batch = tu.get_tensordict({"uid": np.array(["a", "b"], dtype=object)})
    scheduled._submit_batch_to_rollout(batch)
    lengths = list(batch["prefix_length"])
    assert [len(of_prompt) for of_prompt in lengths] == [2, 2] and batch["prefix_length"][1] == lengths[1]
    assert all(2 <= length <= 8 for of_prompt in lengths for length in of_prompt)
    step = tu.get_tensordict({"uid": np.array(["a", "b", "c"], dtype=object)})
    scheduled._submit_batch_to_rollout(step)
    assert scheduled.lengths.longest(1) == max(map(max, step["prefix_length"])), "of the draws of a step"


def test_a_schedule_observes_each_finished_step_with_its_probe(scheduled, monkeypatch):
    def step(self, metrics, timing_raw):
        metrics["kl"] = 2.0
        return "batch"

    monkeypatch.setattr(module.PPOTrainerSync, "step", step)
    scheduled.probe = types.SimpleNamespace(metrics=lambda: {"prefix_opd/probe/tail_ratio": 0.5}, state_dict=dict)
    metrics: dict = {}
    assert scheduled.step(metrics, {}) == "batch"
    assert metrics == {"kl": 2.0, SIGNAL: 2.0}, "the signal before the update is observed; no threshold"
    assert scheduled._ledger()["metrics"][SIGNAL] == 2.0
    assert scheduled.lengths.longest(1) == 5  # 1 + 2 + 2.5, rounded down
    assert scheduled._ledger()["schedule"] == {"_seen": 2.5}


def test_a_validation_is_observed_once_with_the_update_after_it(scheduled, monkeypatch):
    monkeypatch.setattr(module.PPOTrainerSync, "step", lambda self, metrics, timing_raw: metrics.update(kl=1.0))
    found = {"val-core/tiny/reward/mean@1": 0.5, "val-aux/tiny/response_length/mean@1": 9.0}
    monkeypatch.setattr(module.PPOTrainerSync, "_validate", lambda self: found)
    scheduled.probe, seen = types.SimpleNamespace(metrics=dict, state_dict=dict), []
    monkeypatch.setattr(Counting, "observe", lambda self, metrics: seen.append(metrics))
    assert scheduled._validate() == found
    for _ in range(2):
        scheduled.step({}, {})
    assert seen == [{"val-core/tiny/reward/mean@1": 0.5, "kl": 1.0}, {"kl": 1.0}]


def test_the_update_has_the_weights_of_its_step(scheduled):
    scheduled.settings = Settings(
        schedule={"name": "random", "least": 2, "full_from": 2}, weighting={"name": "inverse_probability"}
    )
    weights = []
    for scheduled.global_steps in (1, 2):
        weighting = scheduled.lengths.settings_of_update().weighting
        weights.append(weighting.weights(torch.arange(8), None).tolist())
    assert weights[0] == sorted(weights[0]) and weights[0][7] == 8 and weights[1] == [1] * 8


def test_samples_are_kept_of_a_batch_that_is_accepted(trainer, monkeypatch):
    monkeypatch.setattr(module.tq, "kv_batch_put", lambda **given: BATCH)
    trainer._compute_advantage(BATCH, {})
    assert trainer.told == ["check", "sample"]


@pytest.mark.parametrize(
    "loss_mode, student, reads_teacher",
    [("prefix_opd", "sampler", False), ("prefix_opd", "current", True), ("forward_kl_topk", "sampler", True)],
)
def test_only_columns_that_the_update_reads_travel_to_it(trainer, monkeypatch, loss_mode, student, reads_teacher):
    monkeypatch.setattr(module.tq, "kv_batch_put", lambda **given: BATCH)
    trainer.settings = Settings(advantage={"student_log_prob": student}, loss={"name": loss_mode})
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
    trainer.probe = types.SimpleNamespace(metrics=lambda: found, state_dict=lambda: {"first": None, "flops": 4.0})
    ledger = trainer._ledger()
    assert ledger["metrics"] == {"actor/loss": 0.5, "prefix_opd/seconds/step": 2.0, **found}
    assert ledger["probe"] == {"first": None, "flops": 4.0}
    assert ledger["flops"] == {"exact": 1.0} and ledger["schedule"] == {}


def test_the_settings_of_the_update_travel_with_its_batch(trainer, monkeypatch):
    seen = {}
    monkeypatch.setattr(
        module.PPOTrainerSync, "_update_actor", lambda self, batch, metrics: seen.update(batch.extra_info)
    )
    trainer.early = types.SimpleNamespace(before_update=lambda step: None)
    trainer.guard.check_update = lambda metrics: None
    trainer.settings = Settings(loss={"max_ratio": 2.0}, weighting={"name": "last", "tokens": 3})
    trainer._update_actor(KVBatchMeta(partition_id="train", keys=["a_0_0"], tags=[{}]), {})
    assert (seen["prefix_opd_settings"].loss.max_ratio, seen["prefix_opd_settings"].weighting.tokens) == (2.0, 3)
