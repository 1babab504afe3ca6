"""Prompts computed once, logits of responses alone, in verl's own FSDP engine: the same loss, outputs and gradient."""

import pytest
import torch
from peft import LoraConfig, get_peft_model
from test_packed_attention import loop
from torch.utils._python_dispatch import TorchDispatchMode
from transformers import LlamaConfig, LlamaForCausalLM
from update_batches import EVEN, FORMS, PROMPTS, ROLLOUTS, SIZES, batch, nested, qwen3, same, update
from verl.utils import tensordict_utils as tu
from verl.workers.engine.fsdp.transformer_impl import FSDPEngineWithLMHead

from prefix_opd.config.keys import PACKED_ATTENTION
from prefix_opd.method.shared_prompts import SharedPrompts
from prefix_opd.verl_plugin import our_run
from prefix_opd.verl_plugin.engine import packed_attention, update_tokens

pytestmark = pytest.mark.usefixtures("use")


@pytest.fixture(params=FORMS)
def form(request):
    return FORMS[request.param]


@pytest.mark.parametrize("rollouts", [ROLLOUTS, EVEN, [(0, 1)] * 3, [(1, 4)]], ids=["uneven", "even", "ones", "one"])
def test_loss_outputs_and_gradient_are_those_of_verls_own(engine, configs, form, rollouts, use):
    settings, kind = form
    wanted = update(engine, configs, batch(rollouts))
    use(**settings)
    data = batch(rollouts, **kind)
    same(update(engine, configs, data), wanted, data, tolerance=1e-12)


def test_tool_outputs_are_context_without_logits(engine, configs, form, use):
    settings, kind = form
    several = [one for one in ROLLOUTS if one[1] != 3]  # none ends with a tool's output
    wanted = update(engine, configs, batch(several, tools=True))
    use(**settings)
    data, rows = batch(several, tools=True, **kind), []
    engine.module.lm_head.register_forward_pre_hook(lambda _, args: rows.append(args[0].shape[:2].numel()))
    found = update(engine, configs, data)
    same(found, wanted, data, tolerance=1e-12)
    if kind:
        assert rows == [int(data["response_mask"].values().sum())]
    everything = update(engine, configs, batch(several, **kind))
    assert (found[1] - everything[1]).norm() > 0.1, "the mask matters"


@pytest.mark.parametrize("checkpointing", [False, True])
def test_as_fsdp2_wraps_the_miniature(wrapped_student, configs, form, checkpointing, use):
    settings, kind = form
    wanted = update(wrapped_student, configs, batch())
    use(**settings)
    if checkpointing:
        wrapped_student.module.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    try:
        data = batch(**kind)
        same(update(wrapped_student, configs, data), wanted, data, tolerance=1e-5)
    finally:
        wrapped_student.module.gradient_checkpointing_disable()


def test_a_lora_student(engine, configs, form, use):
    """PEFT's wrapper does not name ``logits_to_keep``, but passes it on."""
    settings, kind = form
    adapter = LoraConfig(r=4, target_modules="all-linear", task_type="CAUSAL_LM", init_lora_weights=False)
    engine.put(get_peft_model(qwen3(), adapter).double().train())
    wanted = update(engine, configs, batch())
    use(**settings)
    data = batch(**kind)
    same(update(engine, configs, data), wanted, data)
    assert tu.get_non_tensor_data(data, key=update_tokens.FORM, default=None) is not None


@pytest.mark.parametrize("reentrant", [False, True])
def test_a_layer_that_is_computed_again_attends_as_before(engine, configs, monkeypatch, reentrant, use):
    wanted = update(engine, configs, batch())
    calls = []
    attention = SharedPrompts.attention
    monkeypatch.setattr(SharedPrompts, "attention", lambda *args: calls.append(1) or attention(*args))
    engine.module.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": reentrant})
    use(response_logits_only=True, share_prompts=True)
    data = batch()
    same(update(engine, configs, data), wanted, data)
    assert len(calls) == 2 * SIZES["num_hidden_layers"]


@pytest.mark.parametrize("temperature", [0.7, torch.linspace(0.5, 2, len(ROLLOUTS))], ids=["one", "each its own"])
def test_temperatures(engine, configs, form, temperature, use):
    settings, kind = form

    def data(**kind):
        found = batch(**kind)
        if isinstance(temperature, torch.Tensor):
            del found["temperature"]
            found["temperature"] = temperature
        else:
            tu.assign_non_tensor(found, temperature=temperature)
        return found

    wanted = update(engine, configs, data())
    use(**settings)
    same(update(engine, configs, data(**kind)), wanted, data())


def test_other_models_that_look_their_attention_up(engine, configs, use):
    torch.manual_seed(0)
    engine.put(LlamaForCausalLM(LlamaConfig(**SIZES)).train())
    wanted = update(engine, configs, batch())
    use(response_logits_only=True, share_prompts=True)
    data = batch()
    same(update(engine, configs, data), wanted, data, tolerance=1e-5)
    assert update_tokens._form(tu, engine, data) == update_tokens.SHARED


def test_packed_passes_carry_the_bounds_of_their_sequences(engine, configs, monkeypatch, use):
    wanted = update(engine, configs, batch())
    engine.put(qwen3(attn_implementation=PACKED_ATTENTION))
    monkeypatch.setattr(packed_attention, "varlen_attn", loop)
    monkeypatch.delattr(packed_attention, "offsets_of")  # what a layer without bounds would call
    use(response_logits_only=True)
    data = batch(use_remove_padding=True)
    same(update(engine, configs, data), wanted, data)


def test_a_head_whose_output_is_not_the_logits_stays_as_it_is(engine, configs, use):
    engine.module.config.model_type = "gemma3_text"
    wanted = update(engine, configs, batch())
    use(response_logits_only=True, fused_head=True)
    data = batch(use_remove_padding=True)
    same(update(engine, configs, data), wanted, data)
    assert "forward" not in vars(engine.module.lm_head)


def test_rollouts_of_a_prompt_stay_together_where_an_update_is_cut(engine, configs, passes, use):
    wanted = update(engine, configs, batch())
    use(response_logits_only=True, share_prompts=True, micro_batch_cost=1)
    data = batch()
    same(update(engine, configs, data), wanted, data)
    whole, *cut = [[ROLLOUTS[row][0] for row in rows] for rows in passes]
    assert len(whole) == len(ROLLOUTS) and len(cut) > 1
    assert sorted(prompt for rows in cut for prompt in set(rows)) == [0, 1, 2, 3]  # each in one pass alone


def test_rollouts_of_a_prompt_part_where_they_do_not_fit(engine, configs, passes, use):
    wanted = update(engine, configs, batch())
    use(response_logits_only=True, share_prompts=True, micro_batch_cost=1)
    data = batch(max_token_len_per_gpu=16)
    same(update(engine, configs, data), wanted, data)
    for rows in passes[1:]:
        prompts = {ROLLOUTS[row][0] for row in rows}
        assert sum(PROMPTS[prompt] for prompt in prompts) + sum(ROLLOUTS[row][1] for row in rows) <= 16


@pytest.fixture
def passes(engine, monkeypatch):
    """The rows of each pass, identified by their rollout log-probs."""
    found, drawn = [], batch()["rollout_log_probs"].unbind()

    def forward_step(self, micro_batch, **settings):
        rows = micro_batch["rollout_log_probs"].unbind()
        found.append([next(i for i, one in enumerate(drawn) if torch.equal(one, row)) for row in rows])
        return step(self, micro_batch, **settings)

    step = FSDPEngineWithLMHead.forward_step
    monkeypatch.setattr(FSDPEngineWithLMHead, "forward_step", forward_step)
    return found


def test_what_goes_through_the_model_and_its_head(engine, configs, form, use):
    """The saving itself: tokens in the model's input and rows in the head's input."""
    settings, kind = form
    use(**settings)
    shapes = []
    for module in (engine.module.model.layers[0], engine.module.lm_head):
        module.register_forward_pre_hook(lambda _, args: shapes.append(args[0].shape[:2].numel()))
    update(engine, configs, batch(**kind))
    responses = sum(length for _, length in ROLLOUTS)
    prompts, repeated = sum(PROMPTS), sum(PROMPTS[prompt] for prompt, _ in ROLLOUTS)
    if settings["share_prompts"]:
        row = prompts + responses
        # a prompt's last token once, and of a response all but its last
        predicting = len(PROMPTS) + responses - len(ROLLOUTS)
        assert shapes == [row, predicting if settings["response_logits_only"] else row]
    elif kind:
        assert shapes == [repeated + responses, responses]
    else:  # the longest sequence has 6 + 9 tokens; its shortest prompt's one token predicts, too, so no logit is saved
        assert shapes == [len(ROLLOUTS) * 15] * 2
    if settings == FORMS["padded"][0] and not kind:
        shapes.clear()
        update(engine, configs, batch(EVEN, prompts=[6, 5, 11]))
        assert shapes == [12 * 16, 12 * (5 + 6 + 1)]  # columns 4 to 15, and the last predicts nothing


class _Accumulates(TorchDispatchMode):
    """Detects gradient sums over repeated indices."""

    repeated = False

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        if func.overloadpacket.__name__ in ("index_put", "index_put_", "_index_put_impl_") and args[3:4] == (True,):
            places = torch.stack(torch.broadcast_tensors(*(index for index in args[1] if index is not None)))
            self.repeated |= len(places.flatten(1).unique(dim=1).T) < places[0].numel()
        return func(*args, **(kwargs or {}))


def test_a_gradient_is_added_up_in_one_order(engine, configs, form, use):
    """On a CPU the threads of such a sum run in any order, so a repeated run ends with different bits."""
    settings, kind = form
    use(**settings)
    with _Accumulates() as seen:
        update(engine, configs, batch(**kind))
    assert not seen.repeated
    values = torch.ones(3, requires_grad=True)
    with _Accumulates() as seen:
        values[torch.tensor([0, 0])].sum().backward()
    assert seen.repeated


def test_a_response_does_not_see_another(engine, configs, use):
    """Another first response of a prompt changes only its own log-probs."""
    use(response_logits_only=True, share_prompts=True)
    data, other = batch(), batch()
    changed = [row.clone() for row in other["input_ids"].unbind()]
    changed[0][PROMPTS[0]] += 1
    other["input_ids"] = nested(changed)
    other["responses"] = nested(row[PROMPTS[p] :] for row, (p, _) in zip(changed, ROLLOUTS, strict=True))
    one, two = (update(engine, configs, x)[0]["model_output"]["log_probs"].unbind() for x in (data, other))
    assert not torch.allclose(one[0], two[0])
    for row, twin in zip(one[1:], two[1:], strict=True):
        torch.testing.assert_close(row, twin, rtol=0, atol=1e-13)


def test_other_passes_attend_as_before(engine, configs, use):
    ids = torch.randint(5, 60, (2, 9))
    mask = torch.ones(2, 9, dtype=torch.long)
    mask[0, 6:] = 0
    before = engine.module(input_ids=ids, attention_mask=mask).logits
    use(response_logits_only=True, share_prompts=True)
    update(engine, configs, batch())
    assert torch.equal(engine.module(input_ids=ids, attention_mask=mask).logits, before)


def test_a_pass_for_log_probs_alone_stays_verls(engine, use):
    with engine.eval_mode():
        whole = engine.forward_backward_batch(batch(), None, forward_only=True)
        use(response_logits_only=True, share_prompts=True)
        again = engine.forward_backward_batch(batch(), None, forward_only=True)
    for one, other in zip(*(x["model_output"]["log_probs"].unbind() for x in (whole, again)), strict=True):
        assert torch.equal(one, other)


def test_the_plugin_stands_before_verl_once():
    names = ("forward_backward_batch", "prepare_model_inputs", "prepare_model_outputs")
    standing = [getattr(FSDPEngineWithLMHead, name) for name in names]
    our_run.join()
    for name, hook in zip(names, standing, strict=True):
        assert getattr(FSDPEngineWithLMHead, name) is hook
        assert not hasattr(hook.__wrapped__, "__wrapped__")
