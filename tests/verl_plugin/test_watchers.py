"""What is told of a batch that should not be learnt from. Three rollouts of 10 tokens, broken one way at a time."""

import dataclasses
import math

import pytest
import torch

from prefix_opd.config.settings import Settings, WatcherSettings
from prefix_opd.verl_plugin.fields import TrainBatch
from prefix_opd.verl_plugin.trainer.watchers import (
    after_update,
    before_update,
    ends_in_a_cycle,
    is_uniform,
    judge,
    missing_rollouts,
    validation,
)

SETTINGS = WatcherSettings()
VOCABULARY, LONGEST = 100, 10
LENGTHS = [10, 10, 10]


NAMES = ["prompt 0, rollout 0", "prompt 0, rollout 1", "prompt 1, rollout 0"]


def batch(endings=("natural", "cut", "natural"), **changed) -> TrainBatch:
    log_q = -torch.linspace(0.1, 3.0, 30)
    return dataclasses.replace(
        TrainBatch(
            prompts=torch.arange(3),
            prompt_lengths=[1, 1, 1],
            tokens=torch.arange(30),
            lengths=LENGTHS,
            log_p=log_q + 0.5,
            log_q=log_q,
            mask=torch.ones(30, dtype=torch.bool),
            records=[{"ending": ending} for ending in endings],
            prefix_lengths=[10, 10, 10],
        ),
        **changed,
    )


def watched(rollouts, settings=SETTINGS, advantage=None):
    advantage = torch.full_like(rollouts.log_p, -0.5) if advantage is None else advantage
    found = before_update(rollouts, NAMES[: len(rollouts.lengths)], advantage, VOCABULARY, LONGEST)
    return judge(found, settings)


def findings(*args, **kwargs):
    return watched(*args, **kwargs)[1]


def replaced(values, rollout, new):
    values = values.clone()
    values[10 * rollout : 10 * rollout + len(new)] = new
    return values


def test_a_healthy_batch_is_left_alone_and_measured():
    values, found = watched(batch())
    assert found == []
    assert values["reverse_kl"] == pytest.approx(0.5)
    assert values["endless"] == pytest.approx(1 / 3)
    assert values["not_finite"] == values["uniform_teacher"] == values["repetition"] == 0


@pytest.mark.parametrize("field", ["log_p", "log_q", "advantage"])
@pytest.mark.parametrize("number", [math.nan, math.inf, -math.inf])
def test_a_number_that_is_none_is_found_and_its_rollout_named(field, number):
    whole, broken = batch(), torch.tensor([number])
    if field == "advantage":
        (finding,) = findings(whole, advantage=replaced(torch.zeros(30), 1, broken))
    else:
        (finding,) = findings(dataclasses.replace(whole, **{field: replaced(getattr(whole, field), 1, broken)}))
    assert (finding.watcher, finding.action) == ("not_finite", "skip")
    assert "1 tokens" in finding.told and "prompt 0, rollout 1" in finding.told


def test_rollouts_that_end_for_their_tools_are_told():
    (finding,) = findings(batch(endings=["natural", "tools", "natural"]))
    assert (finding.watcher, finding.action) == ("tool_output", "warn")
    assert finding.told.startswith("1 of 3 rollouts ended because tool outputs exceeded prefix_opd.rollout.tool_tokens")
    assert "the first of them prompt 0, rollout 1; raise it" in finding.told


def test_a_tool_may_repeat_itself():
    rollouts = batch(tokens=torch.zeros(90), lengths=[40, 40, 10], mask=torch.arange(90) % 40 < 10)
    rollouts = dataclasses.replace(rollouts, **{name: torch.zeros(90) for name in ("log_p", "log_q")})
    assert watched(rollouts)[0]["repetition"] == 0


def test_a_tools_token_may_hold_anything():
    rollouts = batch(log_p=replaced(batch().log_p, 2, torch.tensor([math.nan])))
    rollouts.mask[20] = False
    assert findings(rollouts) == []


@pytest.mark.parametrize(
    "answer",
    [
        torch.full((10,), -math.log(VOCABULARY)),  # a teacher with no weights
        torch.full((10,), -7.0),  # a server that answers one number
        -math.log(VOCABULARY) + 0.01 * torch.arange(10),  # nearly no weights
    ],
)
def test_a_teacher_that_knows_nothing_is_found(answer):
    (finding,) = findings(batch(log_q=replaced(batch().log_q, 2, answer)))
    assert (finding.watcher, finding.action) == ("uniform_teacher", "skip")
    assert "1 of 3 rollouts" in finding.told and "prompt 1, rollout 0" in finding.told


def test_a_teacher_that_is_sure_or_short_is_not_called_uniform():
    assert not is_uniform(torch.full((10,), -1e-5), VOCABULARY)
    assert not is_uniform(torch.zeros(10), VOCABULARY)
    assert not is_uniform(torch.full((7,), -math.log(VOCABULARY)), VOCABULARY)


def test_a_teachers_top_k_is_not_judged_by_token():
    values, found = watched(batch(log_q=None))
    assert found == [] and "reverse_kl" not in values


def test_a_teachers_top_k_must_be_finite_and_tell_tokens_apart():
    topk = torch.stack([batch().log_q, batch().log_q - 2], dim=-1)
    rollouts = batch(log_q=None, topk=topk)
    values, found = watched(rollouts)
    assert found == [] and values["uniform_teacher"] == 0

    broken = topk.clone()
    broken[12, 1] = math.nan
    (finding,) = findings(dataclasses.replace(rollouts, topk=broken))
    assert finding.watcher == "not_finite" and "1 tokens" in finding.told and "prompt 0, rollout 1" in finding.told

    uniform = topk.clone()
    uniform[20:] = -math.log(VOCABULARY)
    (finding,) = findings(dataclasses.replace(rollouts, topk=uniform))
    assert finding.watcher == "uniform_teacher" and "prompt 1, rollout 0" in finding.told


def test_a_validation_is_judged_by_what_came_back():
    values, found = judge(validation(4, 4, [], [1.0, 0.0, None, 0.0]), SETTINGS)
    assert found == []
    assert values == {"validation_missing": 0.0, "validation_endless": pytest.approx(2 / 3)}
    values, (missing, endless) = judge(validation(3, 4, ["row 3, rollout 0: gone"], [0.0, 0.0, 0.0]), SETTINGS)
    assert (missing.watcher, missing.action) == ("validation_missing", "warn")
    assert "3 of 4 validation answers came back (row 3, rollout 0: gone)" in missing.told
    assert endless.watcher == "validation_endless" and "100% of the 3 validation answers" in endless.told
    assert "validation_endless" not in judge(validation(3, 3, [], []), SETTINGS)[0], "nobody graded"


def test_a_reverse_kl_that_explodes_is_told():
    (finding,) = findings(batch(log_p=batch().log_q + 31))
    assert (finding.watcher, finding.action) == ("reverse_kl", "warn") and "31 nats" in finding.told


def test_the_rollout_that_differs_most_is_named():
    """Two rollouts differ by 1 nat and one by 100, on average 34."""
    gap = torch.ones(30)
    gap[10:20] = 100
    (finding,) = findings(batch(log_p=batch().log_q + gap))
    assert "34 nats a token, most in prompt 0, rollout 1 (100)" in finding.told


def test_rollouts_without_end_are_told_only_where_nothing_cuts_them_by_design():
    endless = batch(endings=["cut"] * 3)
    (finding,) = findings(endless)
    assert finding.watcher == "endless" and "100%" in finding.told and "prompt 0, rollout 0" in finding.told
    assert findings(dataclasses.replace(endless, prefix_lengths=[5, 5, 5])) == []
    # of the rows that nothing cuts by design: one, and it is cut
    (finding,) = findings(dataclasses.replace(endless, prefix_lengths=[5, 10, 5]))
    assert "100%" in finding.told and "prompt 0, rollout 1" in finding.told


def test_a_cycle_is_found_by_its_tokens():
    story = torch.arange(40)
    assert ends_in_a_cycle(torch.cat([story, torch.tensor([1, 2, 3]).repeat(11)]))
    assert ends_in_a_cycle(torch.full((32,), 5))
    assert not ends_in_a_cycle(torch.full((31,), 5)), "too short to judge"
    assert not ends_in_a_cycle(torch.cat([torch.full((40,), 5), torch.tensor([6])])), "it got out of it"
    assert not ends_in_a_cycle(torch.arange(9).repeat(5)), "nine tokens are a sentence"


def test_half_of_the_rollouts_in_a_cycle_are_one_too_few():
    lengths, tokens = [32, 32], torch.cat([torch.full((32,), 5), torch.arange(32)])
    log_q = -torch.rand(64, generator=torch.Generator().manual_seed(0)) - 0.1
    rollouts = batch(
        tokens=tokens,
        prefix_lengths=[32, 32],
        lengths=lengths,
        log_p=log_q,
        log_q=log_q,
        mask=torch.ones(64, dtype=torch.bool),
        endings=["natural"] * 2,
    )
    assert findings(rollouts) == []
    (finding,) = findings(dataclasses.replace(rollouts, tokens=torch.full((64,), 5)))
    assert finding.watcher == "repetition" and "2 of 2" in finding.told


def test_every_rollout_must_be_there():
    assert judge(missing_rollouts(16, 16, []), SETTINGS) == ({"missing": 0.0}, [])
    values, (finding,) = judge(
        missing_rollouts(15, 16, ["row 3, rollout 1: the teacher scored 4 tokens of 9"]), SETTINGS
    )
    assert values == {"missing": 1.0} and finding.action == "skip"
    assert "15 of 16" in finding.told and "row 3, rollout 1: the teacher scored 4 tokens of 9" in finding.told


def test_an_update_is_judged_by_what_it_reports():
    healthy = {"actor/loss": 3.0, "actor/grad_norm": 500.0, "prefix_opd/log_prob_diff/abs_mean": 1e-6}
    values, found = judge(after_update(healthy), SETTINGS)
    assert found == []
    assert values == {"not_finite_update": 0.0, "gradient_norm": 500.0, "sampler_mismatch": 1e-6}
    found = judge(after_update({**healthy, "actor/loss": math.nan, "actor/grad_norm": math.inf}), SETTINGS)[1]
    assert {finding.watcher: finding.action for finding in found} == {
        "not_finite_update": "stop",
        "gradient_norm": "warn",
    }
    assert "actor/loss=nan, actor/grad_norm=inf" in found[0].told
    (finding,) = judge(after_update({**healthy, "prefix_opd/log_prob_diff/abs_mean": 0.3}), SETTINGS)[1]
    assert finding.watcher == "sampler_mismatch" and "0.3 nats" in finding.told
    report = {"prefix_opd/log_prob_diff/abs_mean": 0.3, "prefix_opd/log_prob_diff/abs_max": 8.0}
    assert "0.3 nats a token (the worst by 8)" in judge(after_update(report), SETTINGS)[1][0].told


def test_what_is_off_is_neither_judged_nor_measured():
    settings = Settings.from_node({"watchers": {"reverse_kl": {"action": "off"}}}).watchers
    values, found = watched(batch(log_p=batch().log_q + 31), settings)
    assert found == [] and "reverse_kl" not in values


def test_missing_answers_of_a_validation_are_known_where_their_watcher_is_off():
    settings = Settings.from_node({"watchers": {"validation_missing": {"action": "off"}}}).watchers
    values, found = judge(validation(3, 4, [], [1.0]), settings)
    assert found == [] and values["validation_missing"] == 1


def test_what_is_known_too_late_cannot_be_skipped():
    with pytest.raises(ValueError, match="gradient_norm.action"):
        Settings.from_node({"watchers": {"gradient_norm": {"action": "skip"}}})


def test_to_learn_from_what_is_left_is_no_choice():
    with pytest.raises(ValueError, match="missing.action"):
        Settings.from_node({"watchers": {"missing": {"action": "warn"}}})
