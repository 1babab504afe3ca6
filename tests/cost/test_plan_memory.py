"""Memory by phase: sums made by hand, GiB = 2**30 bytes, a card of 79 GiB."""

import json

import pytest

from prefix_opd.config.compose import compose
from prefix_opd.cost.memory import shortages
from prefix_opd.cost.plan import plan

pytestmark = pytest.mark.usefixtures("cached_files")
GIB = 2**30
SIZE_8B, SIZE_17B, SIZE_06B, SIZE_4B = 8_190_427_136, 1_720_451_072, 595_984_384, 4_022_272_000
"""Parameters without norms; an embedding tied to the head counts once."""
VOCABULARY = 151936
TOKEN_36 = 2 * 36 * 8 * 128 * 2
"""Bytes of a token's keys and values in 36 layers."""
FITTING = [
    ("qwen3_8b", "node_8x80gb"),
    ("qwen3_8b", "node_8x80gb_dedicated"),
    ("qwen3_8b", "multi_node"),
    ("qwen3_8b", "multi_node_dedicated"),
    ("qwen3_8b", "two_gpus"),
    ("qwen3_8b", "one_gpu_offload"),
    ("qwen3_1.7b", "node_8x80gb"),
    ("qwen3_1.7b", "two_gpus"),
    ("qwen3_1.7b", "one_gpu"),
    ("qwen3_0.6b", "one_gpu_24gb"),
]


def memory(pair, layout, *overrides, kind="full"):
    return plan(compose([f"experiment={pair}/{kind}", f"layout={layout}", *overrides])).memory_gib


def gib(count):
    return pytest.approx(count / GIB, rel=1e-3)


@pytest.mark.parametrize(("pair", "layout"), FITTING)
def test_what_a_layout_is_made_for_fits(pair, layout):
    found = memory(pair, layout)
    device = 22 if "24gb" in layout else 79
    assert found["student"]["device"] == found["teacher"]["device"] == device
    assert not shortages(found)
    for phase, parts in found["phases"].items():
        assert sum(parts.values()) <= 0.92 * device + 1e-9, phase


def test_shared_in_turns_by_hand():
    phases = memory("qwen3_8b", "node_8x80gb")["phases"]
    trainer, weights = 12 * SIZE_8B / 8, 2 * SIZE_8B
    # awake: weights, 3 GiB of graphs and buffers (1 without graphs), the cache; asleep: 2 GiB (1 without graphs)
    room = 0.92 * 79 * GIB - trainer - weights - 3 * GIB - 1 * GIB
    cache = (18_433 + 2 * 8_192) * TOKEN_36
    assert phases["sampling"] == {"trainer": gib(trainer), "student": gib(weights + 3 * GIB + room), "teacher": 1}
    logits = 8_192 * VOCABULARY * 8
    assert phases["scoring"] == {
        "trainer": gib(trainer),
        "student": 2,
        "teacher": gib(weights + GIB + cache),
        "logits": gib(logits),
    }
    update = phases["update"]
    assert update["states"] == gib(16 * SIZE_8B / 8)
    assert update["logits"] == gib(18_432 * VOCABULARY * 2)  # the fused head keeps them in bf16 alone
    assert (update["asleep_engine"], update["teacher"]) == (2, 1)
    assert room / GIB == pytest.approx(42.0, abs=0.05)


NO_CHECKPOINTS = "actor_rollout_ref.model.enable_gradient_checkpointing=false"


@pytest.mark.parametrize(
    ("compiled", "values"),
    [
        # a layer: four reads of D = 4 096, three of Q + K = 5 120, three of I = 12 288; eager, the norms' in fp32 too
        ("true", 4 * 4_096 + 3 * 5_120 + 3 * 12_288),
        ("false", 8 * 4_096 + 5 * 5_120 + 4 * 12_288),
    ],
)
def test_the_layers_keep_all_activations_without_gradient_checkpointing(compiled, values):
    node = "actor_rollout_ref.actor.fsdp_config.mixed_precision"
    asked = [NO_CHECKPOINTS, f"prefix_opd.update.compile_layers={compiled}"]
    found = memory("qwen3_8b", "node_8x80gb", *asked)
    update = found["phases"]["update"]
    assert update["activations"] == gib(18_432 * 36 * 2 * values)  # eager: 132.9 GiB
    assert [short.what for short in shortages(found)] == ["peak_update"]
    parts = memory("qwen3_8b", "node_8x80gb", f"prefix_opd.update.compile_layers={compiled}")["phases"]["update"]
    assert parts["activations"] == gib(18_432 * 2 * (36 * 4_096 + 10 * 12_288))
    assert {**parts, "activations": 0} == {**update, "activations": 0}
    fp32 = memory("qwen3_8b", "node_8x80gb", *asked, f"+{node}={{param_dtype:fp32}}")["phases"]["update"]
    assert fp32["activations"] == pytest.approx(2 * update["activations"])


def test_a_note_where_the_activations_are_not_counted(tmp_path):
    experts = {"num_experts": 8, "num_experts_per_tok": 2, "moe_intermediate_size": 96, "intermediate_size": 96}
    sizes = {"hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2}
    published = {"model_type": "qwen3_moe", "vocab_size": 320, **sizes, **experts}
    (tmp_path / "config.json").write_text(json.dumps(published))
    run = ["experiment=qwen3_8b/full", "layout=node_8x80gb", f"actor_rollout_ref.model.path={tmp_path}"]
    told = "without gradient checkpointing is not counted"
    assert told in " ".join(plan(compose([*run, NO_CHECKPOINTS])).notes)
    assert told not in " ".join(plan(compose(run)).notes)


def test_an_engine_queues_what_does_not_fit():
    engine = memory("qwen3_8b", "node_8x80gb")["student"]["engine"]
    # 42.0 GiB hold 18 sequences of 200 + 16 384 tokens, 2.28 GiB each, of the 256 (2 048 on 8 engines) that come
    assert engine["kv_cache"] == engine["kv_cache_room"] == pytest.approx(42.0, abs=0.05)
    assert (engine["sequences_at_once"], engine["kv_cache_least"]) == (18, gib(18_433 * TOKEN_36))
    assert engine["kv_cache_wanted"] == gib(256 * 16_584 * TOKEN_36)


def test_host_memory_by_hand():
    # the weights of eight sleeping teachers, in bf16
    assert memory("qwen3_8b", "node_8x80gb")["host"] == {
        "trainer_offloaded": 0,
        "student_asleep": 0,  # only beside an adapter
        "teacher_asleep": gib(16 * SIZE_8B),
    }
    # weights and AdamW of the one node that trains
    dedicated = memory("qwen3_8b", "node_8x80gb_dedicated")["host"]
    assert dedicated == {"trainer_offloaded": gib(12 * SIZE_8B), "student_asleep": 0, "teacher_asleep": 0}
    # gradients, too
    assert memory("qwen3_8b", "one_gpu_offload")["host"]["trainer_offloaded"] == gib(16 * SIZE_8B)
    # half of the states would lie on each of two nodes; nothing is offloaded, and each node has its own teachers
    two = memory("qwen3_8b", "multi_node", "actor_rollout_ref.actor.fsdp_config.optimizer_offload=true")["host"]
    assert two == {"trainer_offloaded": gib(8 * SIZE_8B / 2), "student_asleep": 0, "teacher_asleep": gib(16 * SIZE_8B)}


@pytest.mark.parametrize(
    "overrides",
    [
        ["prefix_opd.update.fused_head=false"],
        ["prefix_opd.update.response_logits_only=false"],
        ["distillation.distillation_loss.loss_mode=forward_kl_topk"],
        ["actor_rollout_ref.actor.ulysses_sequence_parallel_size=2"],
    ],
)
def test_where_the_update_holds_logits_in_fp32(overrides):
    update = memory("qwen3_8b", "node_8x80gb", *overrides)["phases"]["update"]
    assert update["logits"] == gib(18_432 * VOCABULARY * 8)  # bf16, its gradient, fp32


def test_one_card_by_hand():
    found = memory("qwen3_1.7b", "one_gpu")["phases"]
    assert found["sampling"]["trainer"] == gib(12 * SIZE_17B)  # 20.6 GB
    assert found["update"]["states"] == gib(16 * SIZE_17B)
    small = memory("qwen3_0.6b", "one_gpu_24gb")["phases"]
    assert small["sampling"]["trainer"] == gib(12 * SIZE_06B)  # 7.2 GB
    assert small["scoring"]["teacher"] == gib(2 * SIZE_4B + GIB + (4_097 + 2 * 1_024) * TOKEN_36)
    assert small["update"]["logits"] == gib(4_096 * VOCABULARY * 2)  # 1.2 GB


FSDP = "actor_rollout_ref.actor.fsdp_config"
WHOLE, STAYS = f"{FSDP}.use_no_sync_for_gradient_accumulation=true", f"{FSDP}.reshard_after_forward=false"
FP32 = f"+{FSDP}.mixed_precision={{param_dtype:fp32}}"


def test_whole_gradients_and_weights_that_stay_by_hand():
    def update(layout, *overrides, pair="qwen3_8b"):
        return memory(pair, layout, *overrides)["phases"]["update"]

    # of each weight 12 B of 8 ranks, and its fp32 gradient on every rank
    assert update("node_8x80gb", WHOLE)["states"] == gib(12 * SIZE_8B / 8 + 4 * SIZE_8B)
    # one rank holds whole gradients anyway; FSDP2 frees those of a layer while it writes the shard's
    assert update("one_gpu", WHOLE, pair="qwen3_1.7b")["states"] == gib(16 * SIZE_17B)
    # the states are on the host, and the gradients are not before the last micro-batch
    policy = [f"{FSDP}.offload_policy=true", f"{FSDP}.param_offload=false", f"{FSDP}.optimizer_offload=false"]
    assert update("one_gpu", *policy, WHOLE, pair="qwen3_1.7b")["states"] == gib(4 * SIZE_17B)
    assert update("node_8x80gb", STAYS)["gathered"] == gib(2 * SIZE_8B)
    assert update("node_8x80gb", STAYS, FP32)["gathered"] == gib(4 * SIZE_8B)


def test_an_adapter_alone_has_gradients():
    plain, found = (
        memory("qwen3_8b", "node_8x80gb", *more, kind="lora_schedule")["phases"]["update"]
        for more in ([], [WHOLE, STAYS])
    )
    # rank 32 in each of 36 layers: (in + out) of q 8 192, k and v 5 120, o 8 192, gate, up and down 16 384
    adapter = 32 * 36 * (2 * 8_192 + 2 * 5_120 + 3 * 16_384)
    assert found["states"] - plain["states"] == gib(4 * adapter * 7 / 8)  # a rank has its eighth already
    assert found["gathered"] == gib(2 * (SIZE_8B + adapter))


def test_shared_with_overlap_holds_both_engines_at_once():
    found = memory("qwen3_1.7b", "one_gpu", "prefix_opd.teacher.phases=overlap")
    phases = found["phases"]
    both = phases["sampling"]
    assert sorted(both.items()) == sorted(phases["scoring"].items())
    assert both["teacher"] == found["teacher"]["engine"]["share"] and "logits" in both
    assert sum(both.values()) == pytest.approx(0.92 * 79)
    assert phases["update"]["teacher"] == both["teacher"]
    # the student's cache makes room for the teacher's weights, cache and logits: 20.0 and 9.3 GiB
    turns = memory("qwen3_1.7b", "one_gpu")
    less = turns["student"]["engine"]["kv_cache_room"] - found["student"]["engine"]["kv_cache_room"]
    assert less == gib(2 * SIZE_8B + (18_433 + 2 * 8_192) * TOKEN_36 + 8_192 * VOCABULARY * 8)


def test_an_engine_that_never_sleeps_stands_in_the_update():
    key = "actor_rollout_ref.rollout.free_cache_engine=false"
    found = memory("qwen3_1.7b", "one_gpu", key)
    assert found["phases"]["update"]["asleep_engine"] == found["student"]["engine"]["share"]
    assert found["phases"]["scoring"]["student"] == found["student"]["engine"]["share"]


def test_what_the_user_gives_counts():
    rollout = "actor_rollout_ref.rollout"
    given = memory("qwen3_1.7b", "one_gpu", f"{rollout}.gpu_memory_utilization=0.5")
    assert given["phases"]["sampling"]["student"] == pytest.approx(0.5 * 79)
    bytes_ = memory("qwen3_1.7b", "one_gpu", f"+{rollout}.engine_kwargs.vllm.kv_cache_memory_bytes={8 * GIB}")
    assert bytes_["student"]["engine"]["kv_cache_room"] == 8


def test_tensor_parallel_ranks_share_weights_and_cache():
    rollout = "actor_rollout_ref.rollout"
    one, two = (memory("qwen3_8b", "node_8x80gb", f"{rollout}.tensor_model_parallel_size={size}") for size in (1, 2))
    assert two["student"]["engine"]["weights"] == one["student"]["engine"]["weights"] / 2
    assert two["student"]["engine"]["kv_cache_least"] == one["student"]["engine"]["kv_cache_least"] / 2
    assert two["student"]["peak_sampling"] == pytest.approx(one["student"]["peak_sampling"])


def test_what_does_not_fit_is_said():
    config = compose(["experiment=qwen3_8b/full", "layout=node_8x80gb_dedicated"])
    config.actor_rollout_ref.actor.ppo_max_token_len_per_gpu = 65536
    config.distillation.teacher_models.teacher_model.inference.max_num_batched_tokens = 65536
    notes = " ".join(plan(config).notes)
    assert "peak_update" in notes and "ppo_max_token_len_per_gpu" in notes
    assert "peak_scoring" in notes and "max_num_batched_tokens" in notes


def test_a_cache_that_holds_no_sequence_is_said():
    # 15.3 GiB of weights and 3 of graphs leave 1.4 of 0.25 x 79; a sequence of 18 433 tokens takes 2.53
    found = memory("qwen3_8b", "node_8x80gb", "actor_rollout_ref.rollout.gpu_memory_utilization=0.25")
    (short,) = shortages(found)
    assert short.what == "actor_rollout_ref.rollout"
    assert short.rule == "1.49 GiB of 79 are left for its KV cache, but one sequence takes 2.53"
