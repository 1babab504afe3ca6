"""The arithmetic of a plan, worked by hand."""

from dataclasses import replace

import pytest
from toy_shape import TOY

from prefix_opd.cost import arithmetic as cost
from prefix_opd.cost.arithmetic import ResponseLengths
from prefix_opd.method.flops import StepFlops, exact_flops, paper_flops


def test_kv_cache_by_hand():
    # key and value, 2 layers, 1 head of 3, 2 bytes: 2 * 2 * 1 * 3 * 2
    assert cost.cache_bytes(TOY, 1) == 24


def test_a_tied_embedding_is_stored_once():
    # 416 matrix parameters (toy_shape.py), of which embedding and head 40 each
    assert cost.stored_parameters(TOY, tied=False) == 416
    assert cost.stored_parameters(TOY, tied=True) == 376


def test_capped_lengths_keep_their_shares():
    lengths = ResponseLengths(((100, 0.5), (300, 0.25), (900, 0.25)))
    assert lengths.capped(256) == [(100, 0.5), (256, 0.5)]
    assert lengths.capped(1000) == [(100, 0.5), (300, 0.25), (900, 0.25)]
    assert ResponseLengths().capped(256) == [(256, 1.0)]


def test_step_flops_equal_those_of_single_rollouts():
    # 4 rollouts: two of 3 tokens, two of 5, prompts of 2
    found = cost.step_flops(TOY, TOY, 2, [(3, 0.5), (5, 0.5)], rollouts=4)
    assert found["exact"].total == pytest.approx(exact_flops(TOY, TOY, [2] * 4, [3, 3, 5, 5]).total)
    assert found["paper"].total == pytest.approx(paper_flops(TOY, TOY, [3, 3, 5, 5]).total)


def test_hours_by_hand():
    # 2 student GPUs at 1 FLOP/s each, 1 teacher GPU at 10: 7200 / 2 s sampling = 1 h, 72000 / 10 s = 2 h scoring
    flops = StepFlops(sampling=7200, student_scoring=0, teacher_scoring=72000, update=14400)
    speed = {"sampling": 1.0, "student_scoring": 1.0, "teacher_scoring": 10.0, "update": 1.0}
    found = cost.hours(flops, speed, {"student": 2, "teacher": 1})
    assert found == {"sampling": 1, "student_scoring": 0, "teacher_scoring": 2, "update": 2, "total": 4}
    assert cost.hours(flops, speed, {"student": 2, "teacher": 1}, one_by_one=True)["total"] == 5


def test_teacher_logits_by_the_rule_of_thumb():
    # 8 192 tokens x 151 936 x 4 B x 2
    assert cost.logits_gib(8192, 151936, cost.LOGIT_BYTES_SCORING) == pytest.approx(9.27, abs=0.01)


def test_what_the_trainer_keeps_while_sampling_by_hand():
    actor = {"fsdp_config": {"model_dtype": "fp32", "offload_policy": False, "param_offload": False}}
    shape = replace(TOY, adapter=280)
    for offloaded, values in ((False, 416 + 3 * 280), (True, 416 + 280)):
        actor["fsdp_config"]["optimizer_offload"] = offloaded
        assert cost.resident_gib(shape, 416, actor, 1) == pytest.approx(values * 4 / 2**30)
    assert cost.resident_gib(TOY, 416, actor, 2) == pytest.approx(416 * 4 / 2 / 2**30)
