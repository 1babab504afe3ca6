"""Which updates do without gradient checkpointing, with which micro-batches; compiled layers in verl's FSDP2."""

import os
import subprocess
import sys
from types import SimpleNamespace

import pytest
import torch
from tensordict import TensorDict
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard
from transformers import Qwen3Config, Qwen3ForCausalLM
from verl.utils import tensordict_utils as tu

from prefix_opd.config.settings import Settings
from prefix_opd.cost.activations import kept_bytes
from prefix_opd.method.flops import ModelShape
from prefix_opd.verl_plugin.engine import layers
from prefix_opd.verl_plugin.fields import SETTINGS

SIZES = dict(hidden_size=16, intermediate_size=32, num_attention_heads=2, num_key_value_heads=1, head_dim=8)


@pytest.fixture(scope="module")
def model():
    made = Qwen3ForCausalLM(Qwen3Config(vocab_size=50, num_hidden_layers=2, **SIZES)).train()
    made.gradient_checkpointing_enable({"use_reentrant": False})
    return made


def batch(lengths, budget=18432):
    rows = [torch.zeros(length, dtype=torch.long) for length in lengths]
    fields = dict(input_ids=torch.nested.as_nested_tensor(rows, layout=torch.jagged))
    data = TensorDict(fields, batch_size=len(rows))
    tu.assign_non_tensor(data, max_token_len_per_gpu=budget)
    return data


@pytest.mark.parametrize(
    ("lengths", "fits", "checkpointed", "budget"),
    [
        ([400] * 100, 40000, False, 18432),  # all that is asked for fits
        ([400] * 100, 6000, False, 6000),  # smaller micro-batches fit
        ([400] * 100, 4095, True, 18432),  # they would be too small
        ([5000] * 10, 4999, True, 18432),  # the longest sequence does not fit
        ([100] * 3, 300, False, 300),  # the whole update is small
        ([100] * 3, 299, True, 18432),
        ([100] * 3, -1, True, 18432),  # no room at all
    ],
)
def test_checkpointing_where_the_activations_do_not_fit(model, lengths, fits, checkpointed, budget):
    each = kept_bytes(ModelShape.from_config(model.config.to_dict()), compiled=False) + layers.FUSED * 50
    data = batch(lengths)
    layers.fit_memory(model, data, fits * each, None, layers.FUSED)
    assert layers.are_checkpointed(model) == checkpointed
    assert data["max_token_len_per_gpu"] == budget


def test_the_longest_sequence_of_any_rank_must_fit_on_every_rank(model, monkeypatch):
    # this rank fits 15 000 tokens with a longest sequence of 14 900; another fits 15 200 with one of 15 100
    each = kept_bytes(ModelShape.from_config(model.config.to_dict()), compiled=False) + layers.FUSED * 50
    monkeypatch.setattr(
        layers, "highest", lambda values, group: [max(pair) for pair in zip(values, [15100, -15200], strict=True)]
    )
    data = batch([14900])
    tu.assign_non_tensor(data, max_token_len_per_gpu=18000)
    layers.fit_memory(model, data, 15000 * each, None, layers.FUSED)
    assert layers.are_checkpointed(model), "verl would reject 15 100 tokens in micro-batches of 15 000"
    assert data["max_token_len_per_gpu"] == 18000


@pytest.mark.parametrize(
    ("fuses", "precision", "bytes_of_a_logit", "wide"),
    [(True, None, 2, 1), (False, None, 10, 1), (True, {"param_dtype": "fp32"}, 2, 2)],
)
def test_logits_count_in_fp32_where_an_objective_reads_them(
    model, monkeypatch, fuses, precision, bytes_of_a_logit, wide
):
    data, each = batch([4000] * 9), kept_bytes(ModelShape.from_config(model.config.to_dict()), compiled=False)
    room = 9000 * wide * (each + bytes_of_a_logit * 50)
    tu.assign_non_tensor(data, **{SETTINGS: Settings.from_node({"update": {"fit_memory": True, "fused_head": True}})})
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(layers, "_free", lambda: (room + layers.SPARE) / layers.USABLE)
    monkeypatch.setattr(layers, "_pending", lambda engine: 0)
    verls = SimpleNamespace(mixed_precision=precision)
    engine = SimpleNamespace(engine_config=verls, get_data_parallel_group=lambda: None)
    layers.prepare(engine, model, data, fuses)
    assert data["max_token_len_per_gpu"] == pytest.approx(9000, abs=1)


def test_a_model_built_without_checkpointing_stays_as_it_is():
    made = Qwen3ForCausalLM(Qwen3Config(vocab_size=50, num_hidden_layers=1, **SIZES))
    data = batch([10])
    layers.fit_memory(made, data, 0, None, layers.FUSED)
    assert not layers.are_checkpointed(made)


@pytest.mark.parametrize(
    ("device", "whole", "stepped", "bytes_of_a_weight"),
    [
        ("meta", False, False, 12),  # fp32 gradient and two moments
        ("meta", False, True, 4),
        ("meta", True, True, 4),
        ("cpu", False, False, 0),  # offloaded
        ("cpu", True, False, 4),
    ],
)
@pytest.mark.parametrize(
    ("precision", "stays", "gathered"),
    # all 15 + 5 weights of the forward pass, the frozen ones too, until the backward pass
    [(None, False, 0), (None, True, 20 * 2), ({"param_dtype": "fp32"}, True, 20 * 4)],
)
def test_what_an_update_allocates_besides_activations(
    device, whole, stepped, bytes_of_a_weight, precision, stays, gathered
):
    weights = torch.nn.Linear(3, 5, device=device)
    weights.bias.requires_grad_(False)
    engine = SimpleNamespace(
        module=weights,
        engine_config=SimpleNamespace(
            use_no_sync_for_gradient_accumulation=whole, reshard_after_forward=not stays, mixed_precision=precision
        ),
        optimizer=SimpleNamespace(state={weights.weight: {}} if stepped else {}),
    )
    assert layers._pending(engine) == 15 * bytes_of_a_weight + gathered


@pytest.mark.parametrize(("reshard", "kept"), [(True, 0), (False, 2)])
def test_what_fsdp2_holds_of_a_weight_on_one_rank(group, reshard, kept):
    """A copy in bf16, of 2 bytes, that stays; a whole gradient or its shard, not both."""
    model = torch.nn.Sequential(*(torch.nn.Linear(8, 8, bias=False) for _ in range(4)))
    policy = MixedPrecisionPolicy(param_dtype=torch.bfloat16, reduce_dtype=torch.float32)
    for module in (*model, model):
        fully_shard(module, mesh=init_device_mesh("cpu", (1,)), mp_policy=policy, reshard_after_forward=reshard)
    weights = [layer._get_fsdp_state()._fsdp_param_group.fsdp_params[0] for layer in model]
    for reduced in (False, True):
        model.set_requires_gradient_sync(reduced)
        out = model(torch.ones(1, 8))
        assert [one.all_gather_outputs[0].untyped_storage().size() for one in weights] == [64 * kept] * 4
        out.sum().backward()
        whole, shards = [one.unsharded_accumulated_grad for one in weights], [one.weight.grad for one in model]
        assert all(one is None for one in (whole if reduced else shards))
        assert [one.dtype for one in (shards if reduced else whole)] == [torch.float32] * 4


COMPILED = """
import torch
import torch._dynamo.testing
from torch.distributed.fsdp import fully_shard
from transformers import Qwen3Config, Qwen3ForCausalLM
from prefix_opd.verl_plugin.engine import layers
from prefix_opd.verl_plugin.engine.fused_head import label_log_probs
from prefix_opd.verl_plugin.engine.packed_attention import bounds

torch.distributed.init_process_group("gloo", init_method="file://" + {store!r}, rank=0, world_size=1)
compiler = torch._dynamo.testing.CompileCounterWithBackend("eager")
torch.compile = __import__("functools").partial(torch.compile, backend=compiler, fullgraph=True)


def gradients(compiled, checkpointed):
    torch.manual_seed(0)
    model = Qwen3ForCausalLM(Qwen3Config(**{sizes!r}, vocab_size=50, num_hidden_layers=3)).train()
    model.gradient_checkpointing_enable({{"use_reentrant": False}})
    layers.checkpoint(model, checkpointed)
    for layer in model.model.layers:
        fully_shard(layer)
    fully_shard(model)
    if compiled:
        layers.compile_layers(model)
    for lengths in ([5, 9], [7, 3, 4], [4, 8]):
        ids, offsets = torch.arange(sum(lengths))[None] % 50, torch.tensor([0, *lengths]).cumsum(0)
        positions = torch.cat([torch.arange(length) for length in lengths])[None]
        logits = model(input_ids=ids, position_ids=positions, use_cache=False, **bounds(offsets)).logits
        logits.log_softmax(-1)[..., 0].sum().backward()
    found = torch.cat([parameter.grad.full_tensor().flatten() for parameter in model.parameters()])
    with torch.no_grad():  # passes without a gradient are not compiled
        model(input_ids=ids, position_ids=positions, use_cache=False)
    return found


wanted = gradients(False, False)
for checkpointed in (False, True):
    torch._dynamo.reset()
    compiler.frame_count = 0
    found = gradients(True, checkpointed)
    torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-5)
    print("graphs", compiler.frame_count)

torch._dynamo.reset()
compiler.frame_count = 0
for rows in (50, 33, 8):
    hidden, weight = torch.randn(rows, 6, requires_grad=True), torch.randn(11, 6, requires_grad=True)
    labels, found = torch.arange(rows) % 11, []
    for compiled in (False, True):
        log_probs = label_log_probs(hidden, weight, labels, None, keep=True, compiled=compiled)
        found.append((log_probs, *torch.autograd.grad(log_probs.square().sum(), (hidden, weight))))
    torch.testing.assert_close(*found)
print("graphs", compiler.frame_count)
"""


def test_all_layers_share_one_graph_for_any_length_and_so_does_the_head(tmp_path):
    """In a process of its own, as CPU runs switch torch's compiler off. A break in the graph fails (``fullgraph``)."""
    program = COMPILED.format(store=str(tmp_path / "store"), sizes=SIZES)
    environment = {**os.environ, "TORCHDYNAMO_DISABLE": "0"}
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, env=environment)
    assert ran.returncode == 0, ran.stderr
    plain, checkpointed, head = map(int, ran.stdout.split()[1::2])
    assert plain == 1 and checkpointed <= 2, "a graph for each of the 3 layers, or for each of the 3 lengths"
    assert head == 2  # forward and backward
