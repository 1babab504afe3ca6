"""Batches as verl's trainer sends them, and one update of verl's engine on a small random model."""

import functools

import pytest
import torch
from tensordict import TensorDict
from torch.nn.functional import rms_norm
from transformers import Qwen3Config, Qwen3ForCausalLM
from verl.trainer.distillation.losses import distillation_ppo_loss
from verl.utils import tensordict_utils as tu
from verl.utils.metric import reduce_metrics

SIZES = dict(
    vocab_size=64,
    hidden_size=32,
    intermediate_size=48,
    num_hidden_layers=2,
    num_attention_heads=4,
    num_key_value_heads=2,
    head_dim=8,
    attn_implementation="sdpa",
)
ROLLOUTS = [(0, 5), (0, 9), (1, 1), (0, 5), (2, 3), (1, 7), (2, 1), (2, 2), (1, 4), (0, 1), (3, 6)]
"""(prompt, response length) of each rollout. The prompts have 4, 3, 3 and, after losses, 1 rollout, interleaved."""
PROMPTS = [6, 1, 11, 4]
EVEN = [(prompt, 5) for prompt in range(3) for _ in range(4)]


OFF = dict(micro_batch_cost=None, share_prompts=False, response_logits_only=False)
sent = {}
"""The settings that the trainer sends with each batch."""


def qwen3(dtype=torch.float64, **settings):
    torch.manual_seed(0)
    model = Qwen3ForCausalLM(Qwen3Config(**{**SIZES, **settings})).to(dtype).train()
    for norm in model.modules():
        if type(norm).__name__.endswith("RMSNorm"):  # its own forward rounds to fp32 whatever the model is in
            norm.forward = lambda x, norm=norm: rms_norm(x, x.shape[-1:], norm.weight, norm.variance_epsilon)
    return model


def nested(rows):
    return torch.nested.as_nested_tensor(list(rows), layout=torch.jagged)


def batch(rollouts=ROLLOUTS, prompts=PROMPTS, tools=False, topk=0, **settings):
    """A batch as verl's trainer sends it. Rollouts with the same prompt number have equal prompts.

    With ``tools`` the tokens 2 and 3 of each response are a tool's output; ``topk``: with a teacher's top k.
    """
    torch.manual_seed(1)
    first = [torch.randint(5, 60, (length,)) for length in prompts]
    responses = [torch.randint(5, 60, (length,)) for _, length in rollouts]
    rows = [torch.cat([first[prompt], response]) for (prompt, _), response in zip(rollouts, responses, strict=True)]
    mask = [torch.ones(len(response), dtype=torch.long) for response in responses]
    for row in mask if tools else []:
        row[2:4] = 0
    fields = dict(
        input_ids=nested(rows),
        position_ids=nested(torch.arange(len(row)) for row in rows),
        prompts=nested(first[prompt] for prompt, _ in rollouts),
        responses=nested(responses),
        loss_mask=nested(mask),
        response_mask=nested(mask),
        rollout_log_probs=nested(-4 + torch.randn(len(response)) for response in responses),
        advantages=nested(torch.randn(len(response)) for response in responses),
    )
    if topk:
        ranked = [torch.randn(len(row), SIZES["vocab_size"]).log_softmax(-1).topk(topk) for row in rows]
        fields |= dict(
            teacher_logprobs=nested(log_q for log_q, _ in ranked), teacher_ids=nested(i.int() for _, i in ranked)
        )
        settings |= dict(distillation_use_topk=True, distillation_only=True)
    return as_sent(fields, **settings)


def as_sent(fields, **settings):
    """A batch of these columns with what verl's trainer sends along."""
    number = len(fields["prompts"])
    data = TensorDict(fields, batch_size=number)
    given = dict(
        temperature=1.0,
        global_batch_size=number,
        use_remove_padding=False,
        use_dynamic_bsz=True,
        max_token_len_per_gpu=32768,
        return_model_output=True,
        multi_modal_inputs=[{}] * number,  # as they come with text
    )
    tu.assign_non_tensor(data, **{**given, **sent, **settings})
    return data


def update(engine, configs, data):
    """One forward and backward pass of verl's engine. Returns its output, and the gradient as one vector."""
    _, actor, distillation = configs
    loss = functools.partial(distillation_ppo_loss, config=actor, distillation_config=distillation)
    with engine.train_mode():
        engine.module.zero_grad()
        output = engine.forward_backward_batch(data, loss)
        trained = [p for p in engine.module.parameters() if p.requires_grad]
        gradients = [getattr(p.grad, "full_tensor", lambda p=p: p.grad)().flatten() for p in trained]
    return output, torch.cat(gradients).double()


def same(found, wanted, data, tolerance=1e-12):
    (output, gradient), (whole, wanted_gradient) = found, wanted
    assert wanted_gradient.norm() > 0.01
    assert (gradient - wanted_gradient).norm() / wanted_gradient.norm() < tolerance
    assert sum(output["loss"]) == pytest.approx(sum(whole["loss"]), rel=tolerance * 100, abs=tolerance * 100)
    assert reduce_metrics(output["metrics"]) == pytest.approx(
        reduce_metrics(whole["metrics"]), rel=max(1e-5, tolerance * 100), abs=1e-6
    )
    for name in whole["model_output"]:
        pairs = zip(*(one["model_output"][name].unbind() for one in (output, whole)), strict=True)
        for (row, other), prompt, mask in zip(
            pairs, *(data[n].unbind() for n in ("prompts", "response_mask")), strict=True
        ):
            assert len(row) == len(other)
            # the last value would score the first token of the next sequence, and nobody reads it
            found, wanted, sampled = row[len(prompt) - 1 : -1], other[len(prompt) - 1 : -1], mask.bool()
            torch.testing.assert_close(found[sampled], wanted[sampled], rtol=1e-4, atol=max(1e-6, tolerance * 10))
            assert row[: len(prompt) - 1].abs().sum() == found[~sampled].abs().sum() == row[-1] == 0


FORMS = {
    "shared": (dict(share_prompts=True, response_logits_only=True), {}),
    "shared, all logits": (dict(share_prompts=True, response_logits_only=False), {}),
    "padded": (dict(share_prompts=False, response_logits_only=True), {}),
    "packed": (dict(share_prompts=False, response_logits_only=True), {"use_remove_padding": True}),
}
FORMS |= {f"{name}, fused": ({**settings, "fused_head": True}, kind) for name, (settings, kind) in FORMS.items()}
