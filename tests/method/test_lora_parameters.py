"""LoRA: the size of an adapter and the FLOP of a student whose weights are frozen, worked by hand."""

from dataclasses import replace

import pytest
from toy_shape import TOY, TOY_SIZES

from prefix_opd.method.flops import ModelShape, exact_flops, paper_flops
from prefix_opd.method.lora import LINEAR, adapter_parameters
from prefix_opd.miniature import shipped_models


def test_an_adapter_by_hand():
    # query 2 * 3 = 6, key and value 3: q 4 + 6, k 4 + 3, v 4 + 3, o 6 + 4; gate, up and down 4 + 8 each: 34 + 36 = 70
    assert adapter_parameters(TOY, rank=2, modules=LINEAR) == 2 * 2 * 70
    assert adapter_parameters(TOY, rank=2, modules=["q_proj", "down_proj"]) == 2 * 2 * (10 + 12)


def test_of_layers_with_other_matrices_there_is_none():
    experts = dict(num_experts=4, num_experts_per_tok=2, moe_intermediate_size=2)
    with pytest.raises(ValueError, match="is a mixture of experts"):
        adapter_parameters(ModelShape.from_config({**TOY_SIZES, **experts}), 2, LINEAR)


def test_the_size_is_that_of_pefts_adapter():
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    folder = shipped_models()["student"]
    model = AutoModelForCausalLM.from_pretrained(folder)
    adapted = get_peft_model(model, LoraConfig(r=16, target_modules="all-linear", task_type="CAUSAL_LM"))
    assert adapter_parameters(ModelShape.from_folder(folder), 16, LINEAR) == adapted.get_nb_trainable_parameters()[0]


def test_frozen_weights_have_no_gradient_of_their_own():
    student = replace(TOY, adapter=280)
    attention = 6 * (3**2 + 1) * 3 * 2 * 2
    # frozen: forward 2, gradient of the input 2; adapter: both and its own gradient 2
    assert student.train_flops([3, 1]) == (4 * 416 + 6 * 280) * 4 + attention
    assert student.forward_flops([3, 1]) == 2 * (416 + 280) * 4 + attention / 3


def test_both_accountings_count_the_adapter():
    student = replace(TOY, adapter=280)
    step = exact_flops(student, TOY, [2], [3])
    assert (step.sampling, step.teacher_scoring) == (student.forward_flops([5]), TOY.forward_flops([5]))
    assert step.update == student.train_flops([5])
    assert paper_flops(student, TOY, [3]).update == student.train_flops([3])
    # with a small adapter the update costs two thirds where attention costs little
    small = replace(TOY, adapter=1)
    assert small.train_flops([1]) / TOY.train_flops([1]) == pytest.approx(2 / 3, abs=0.02)
