"""A step is made again until it learnt from all that it claims, or the run ends: without engines, by what they say."""

import types

import pytest
import torch
from omegaconf import OmegaConf
from transfer_queue import KVBatchMeta

import prefix_opd.verl_plugin.trainer.step_guard as module
from prefix_opd.base.errors import RunStopped
from prefix_opd.config.settings import WatcherSettings
from prefix_opd.method.flops import ModelShape
from prefix_opd.method.layers import Attention, Mlp
from prefix_opd.run.events import EventLog
from prefix_opd.verl_plugin.fields import TrainBatch
from prefix_opd.verl_plugin.trainer.ledger import Ledger
from prefix_opd.verl_plugin.trainer.step_guard import StepGuard, ThrownAway


@pytest.fixture(autouse=True)
def _folder(tmp_path, monkeypatch):
    """Send events to a temporary folder."""
    monkeypatch.chdir(tmp_path)


def guard(failures=(), engines=lambda: None, **settings):
    """A guard with a function as engines. The methods under test are real."""
    made = object.__new__(StepGuard)
    made.trainer = types.SimpleNamespace(global_steps=7, events=EventLog("."))
    made.settings = WatcherSettings(**settings)
    made.places = {"uid-a": 0, "uid-b": 1}
    made.attempt = 0
    made.warned = 0
    made.take_failures = lambda: list(failures)
    made._sample_again = engines
    return made


def step(*outcomes):
    """A step that raises or returns ``outcomes``, one after another."""
    left = list(outcomes)

    def once():
        outcome = left.pop(0)
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    return once


def test_a_batch_is_sampled_again_and_its_numbers_are_forgotten():
    metrics = {"kept": 1}
    made, again = guard(), []
    made._sample_again = lambda: again.append(dict(metrics))

    def once():
        metrics["of this batch"] = 2
        if not again:
            raise ThrownAway("bad")
        return "learnt"

    assert made.run(once, metrics) == "learnt"
    assert again == [{"kept": 1}] and made.attempt == 1


def test_the_run_ends_when_nothing_helps():
    bad = [ThrownAway("bad")] * 3
    with pytest.raises(RunStopped, match="step 7: bad; 3 batches were thrown away"):
        guard(retries=2).run(step(*bad), {})


def test_an_engine_that_is_gone_cannot_be_asked_again():
    def dead():
        raise ConnectionError("the actor died\nand so on")

    with pytest.raises(RunStopped, match=r"it cannot be sampled again \(ConnectionError: the actor died\)"):
        guard(engines=dead).run(step(ThrownAway("bad")), {})


def test_no_rollout_at_all_is_a_batch_to_throw_away():
    empty = RuntimeError("Sync replay buffer selected terminal groups with no materializable trajectories.")
    failed = guard(failures=["row 3, rollout 1: the teacher scored 4 tokens of 9"], retries=0)
    with pytest.raises(RunStopped, match=r"step 7: no rollout came back .*row 3, rollout 1: the teacher scored 4"):
        failed.run(step(empty), {})
    with pytest.raises(RuntimeError, match="no materializable"):
        guard().run(step(empty), {})  # nobody failed: another error, which is not ours to explain


SHAPE = ModelShape(4, 10, ((Attention(1, 1, 4), Mlp(8)),))


def test_what_came_of_a_batch_with_missing_rollouts_is_counted(monkeypatch):
    nested = {
        name: torch.nested.as_nested_tensor([torch.zeros(length) for length in lengths], layout=torch.jagged)
        for name, lengths in {"prompts": [4, 5], "responses": [2, 1]}.items()
    }
    # a tool said a token of the first rollout; the second was scored after a prompt of the teacher's own
    nested["extra_fields"] = [{"prefix_opd": {"sampled": 1}}, {"prefix_opd": {"teacher_prompt_length": 7}}]
    asked = []
    monkeypatch.setattr(
        module.tq, "kv_batch_get", lambda *of, select_fields: asked.append((of, select_fields)) or nested
    )
    made = guard(failures=["row 3, rollout 1: gone"])
    made.trainer.ledger = Ledger(SHAPE, {"": SHAPE}, position_bin=2, recomputed=True)
    made.trainer.config = OmegaConf.create(
        {"data": {"train_batch_size": 3}, "actor_rollout_ref": {"rollout": {"n": 1}}}
    )
    came = KVBatchMeta(partition_id="train", keys=["uid-a_0_0", "uid-b_0_0"], tags=[{}, {}])
    with pytest.raises(ThrownAway, match="gone"):
        made.check_all_came(came, {})
    assert asked == [((came.keys, "train"), ["prompts", "responses", "extra_fields"])]
    assert made.trainer.ledger.thrown_tokens == {"generated": 2, "scored": 4 + 7 + 3}
    assert made.trainer.ledger.thrown_flops.student_scoring == 0  # the student's own pass comes later


def test_a_batch_that_is_thrown_away_after_its_scores_is_counted():
    made = guard()
    made.trainer.ledger = Ledger(SHAPE, {"": SHAPE}, position_bin=2, recomputed=True)
    made.trainer.config = OmegaConf.create({"data": {"max_response_length": 8}})
    made.trainer.teacher_shape = SHAPE
    broken = torch.tensor([-1.0, float("nan")])
    rollouts = TrainBatch(
        prompts=torch.tensor([1]),
        tokens=torch.tensor([2, 3]),
        prompt_lengths=[1],
        lengths=[2],
        log_p=broken,
        log_q=torch.tensor([-3.0, -1.0]),
        mask=torch.tensor([True, True]),
        prefix_lengths=[8],
        records=[{"ending": "natural"}],
    )
    with pytest.raises(ThrownAway):
        made.check_rollouts(rollouts, torch.zeros(2), ["uid-a_0_0"], {})
    spent = made.trainer.ledger.thrown_flops
    # N = 240; 3 tokens: 2 * 240 * 3 + 2 * 3**2 * 4 in a forward pass
    assert (spent.sampling, spent.student_scoring, spent.teacher_scoring, spent.update) == (1512, 1512, 1512, 0)


def test_an_update_that_fails_is_no_batch_to_throw_away():
    learning = guard(failures=["row 3, rollout 1: of the next step, which is under way"])

    def once():
        learning.judged = True
        raise RuntimeError("out of memory")

    with pytest.raises(RuntimeError, match="out of memory"):
        learning.run(once, {})


def test_each_action_does_what_it_says(caplog):
    caplog.set_level("WARNING", logger="prefix_opd")
    report = {"actor/loss": float("nan"), "actor/grad_norm": 2e6}
    warned = guard(not_finite_update={"action": "warn"})
    warned.check_update(report)
    assert "step 7: actor/loss=nan" in caplog.text and report["prefix_opd/watch/gradient_norm"] == 2e6
    with pytest.raises(RunStopped, match="step 7: actor/loss=nan after the update"):
        guard().check_update({"actor/loss": float("nan")})


def test_rollouts_stand_in_the_order_of_their_prompts():
    keys = ["uid-b_1_0", "uid-a_10_0", "uid-a_2_0", "uid-b_0_0"]
    batch = KVBatchMeta(partition_id="train", keys=keys, tags=[{"of": key} for key in keys])
    made = guard()
    made.put_in_order(batch)
    assert batch.keys == ["uid-a_2_0", "uid-a_10_0", "uid-b_0_0", "uid-b_1_0"]
    assert [tag["of"] for tag in batch.tags] == batch.keys
    assert made.name("uid-b_1_0") == "prompt 1, rollout 1 (from 0)"


def test_warnings_are_counted_for_the_summary(caplog):
    caplog.set_level("WARNING", logger="prefix_opd")
    made, metrics = guard(failures=["row 3, rollout 0: gone"], validation_endless={"threshold": 0.5}), {}
    made.check_update({"actor/grad_norm": 2e6})
    made.check_validation(3, 4, [0.0, 0.0, 1.0], metrics)
    assert metrics["prefix_opd/watch/warned"] == 3 and metrics["prefix_opd/watch/validation_missing"] == 1
    assert "step 7: 3 of 4 validation answers came back (row 3, rollout 0: gone)" in caplog.text
    made.warn("its probe is skipped")
    assert made.run(step("learnt"), {}) == "learnt" and made.warned == 4, "a probe comes before the update"


def test_a_validation_can_end_the_run():
    with pytest.raises(RunStopped, match="step 7: 3 of 4 validation answers"):
        guard(validation_missing={"action": "stop"}).check_validation(3, 4, [], {})
