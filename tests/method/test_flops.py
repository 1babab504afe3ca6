"""FLOP: whole numbers for named models, and the paper's own figures."""

import pytest
from toy_shape import TOY

from prefix_opd.method.flops import ModelShape, exact_flops, paper_flops

QWEN3_8B = ModelShape.from_config(
    dict(
        hidden_size=4096,
        intermediate_size=12288,
        num_hidden_layers=36,
        num_attention_heads=32,
        num_key_value_heads=8,
        head_dim=128,
        vocab_size=151936,
    )
)


def test_parameters_by_hand():
    # attention: 4 * (2*6 + 2*3) = 72; mlp: 3 * 4 * 8 = 96; two layers: 336; embedding and head: 2 * 10 * 4 = 80
    assert TOY.matmul_parameters == 416
    # 36 * (4096 * (2*4096 + 2*1024) + 3*4096*12288) + 2 * 151936 * 4096
    assert QWEN3_8B.matmul_parameters == 8190427136


def test_train_flops_by_hand():
    # two sequences of 3 and 1 tokens: 6 * 416 * 4 + 6 * (9 + 1) * 3 * 2 * 2
    assert TOY.train_flops([3, 1]) == 6 * 416 * 4 + 6 * 10 * 12
    assert TOY.forward_flops([3, 1]) == TOY.train_flops([3, 1]) / 3


def test_exact_counts_prompts_and_skips_the_second_student_pass():
    step = exact_flops(TOY, TOY, [2, 2], [3, 1])
    assert step.update == TOY.train_flops([5, 3])
    assert step.sampling == step.teacher_scoring == TOY.forward_flops([5, 3])
    assert step.student_scoring == 0
    assert step.total == pytest.approx(TOY.train_flops([5, 3]) * 5 / 3)
    assert exact_flops(TOY, TOY, [2, 2], [3, 1], recomputed_log_probs=True).student_scoring == step.sampling


def test_a_teachers_own_prompt_counts_for_the_teacher_alone():
    step, same = (
        exact_flops(TOY, TOY, [2, 2], [3, 1], teacher_prompt_lengths=[7, 1]),
        exact_flops(TOY, TOY, [2, 2], [3, 1]),
    )
    assert step.teacher_scoring == TOY.forward_flops([10, 2])
    assert (step.sampling, step.update) == (same.sampling, same.update)


def test_what_exact_flops_count_by_hand():
    # one rollout, prompt 2 and response 3; layers 336, embedding 40, head 40 parameters
    step = exact_flops(TOY, TOY, [2], [3])
    forward = 2 * (336 + 40 + 40) * 5 + 2 * 5**2 * 3 * 2 * 2
    assert forward == 4760
    # no fourth forward pass in the update: gradient checkpointing would make one
    assert (step.sampling, step.student_scoring, step.teacher_scoring, step.update) == (4760, 0, 4760, 3 * 4760)
    assert step.total == 23800
    # without the embedding's products, and with the head at the 3 positions that sample: what the count is above
    assert forward - 2 * 40 * 5 - 2 * 40 * 2 == 2 * (336 * 5 + 40 * 3) + 600
    # of both prompts of two rollouts, although one may be computed for both
    assert exact_flops(TOY, TOY, [2, 2], [3, 3]).total == 2 * step.total


def test_papers_formula_is_twice_the_update_for_equal_models():
    # F_train + 2/3 F_train + 1/3 F_train
    assert paper_flops(TOY, TOY, [3, 1]).total == pytest.approx(2 * TOY.train_flops([3, 1]))


@pytest.mark.parametrize(
    ("prefix", "updates", "published"), [(256, 10, 5.7e17), (512, 50, 5.2e18), (1024, 40, 8.9e18), (2048, 40, 1.7e19)]
)
def test_the_papers_figures_for_8b_within_ten_percent(prefix, updates, published):
    run = updates * paper_flops(QWEN3_8B, QWEN3_8B, [prefix] * 2048).total
    assert run == pytest.approx(published, rel=0.10)


def test_a_config_without_a_size_names_it():
    with pytest.raises(KeyError, match="vocab_size"):
        ModelShape.from_config({"hidden_size": 1})
