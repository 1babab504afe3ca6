"""Memory of a GPU in each phase of a step, and of its node, from a composed config.

========  =======================================  ======================================  =====================
phase     teacher on its own GPUs                  on the student's, in turns              on the student's, overlap
========  =======================================  ======================================  =====================
sampling  trainer, student                         trainer, student, teacher asleep        all, awake
scoring   teacher, its logits                      trainer, student asleep, teacher, its   all, awake
                                                   logits
update    trainer with gradients, student asleep   trainer with gradients, both asleep     teacher awake
========  =======================================  ======================================  =====================

The KV cache of an engine is ``kv_cache_memory_bytes`` if the config gives it, else what ``gpu_memory_utilization``
leaves. If both are null, the teacher's cache holds one sequence and two batches (vLLM schedules one while it computes
the other), and the student's cache takes what the other parts leave of `USABLE`.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from omegaconf import DictConfig, OmegaConf

from prefix_opd.base.errors import UserError
from prefix_opd.config.lora import Lora
from prefix_opd.config.teachers import PLACEMENT_KEY, URL_KEY
from prefix_opd.cost import arithmetic as cost
from prefix_opd.cost.activations import kept_bytes
from prefix_opd.method.flops import ModelShape

ROLLOUT_KEY = "actor_rollout_ref.rollout"
INFERENCE_KEY = "distillation.teacher_models.teacher_model.inference"
OF_SEVERAL = "teacher of "
"""How the name of each of several teachers begins."""
FIXES = {
    "sampling": f"lower {ROLLOUT_KEY}.gpu_memory_utilization (null: what fits), offload, or use more GPUs",
    "scoring": f"lower {INFERENCE_KEY}.max_num_batched_tokens or .gpu_memory_utilization (null: what fits)",
    "update": "lower actor_rollout_ref.actor.ppo_max_token_len_per_gpu, or use more GPUs",
}


@dataclass(frozen=True)
class EngineMemory:
    """Memory of a vLLM engine, GiB per GPU."""

    share: float
    """All of it: weights, buffers and the whole cache."""
    weights: float
    kv_cache: float
    """Peak: the smaller of ``kv_cache_wanted`` and ``kv_cache_room``."""
    kv_cache_wanted: float
    """Need of all concurrent sequences at their longest."""
    kv_cache_room: float
    kv_cache_least: float
    """Need of one sequence of ``max_model_len`` tokens. vLLM does not start with less."""
    sequences_at_once: int
    """Number of sequences that fit at their longest; vLLM queues the others."""
    asleep: float


def is_shared(config: DictConfig) -> bool:
    """Whether the teacher's engines live on the student's GPUs."""
    return OmegaConf.select(config, PLACEMENT_KEY) == "shared" and not OmegaConf.select(config, URL_KEY)


def is_checkpointed(config: DictConfig) -> bool:
    """Whether the update computes the student's layers again in its backward pass."""
    return bool(config.actor_rollout_ref.model.enable_gradient_checkpointing)


def kept_by_layers(config: DictConfig, shape: ModelShape) -> int | None:
    """Bytes of a token that the student's layers keep for the backward pass.

    None with gradient checkpointing, and for layers whose activations are not counted.
    """
    if is_checkpointed(config):
        return None
    try:
        found = kept_bytes(shape, config.prefix_opd["update"].compile_layers)
    except ValueError:
        return None
    precision = OmegaConf.select(config, "actor_rollout_ref.actor.fsdp_config.mixed_precision.param_dtype")
    return found * (2 if precision == "fp32" else 1)  # at most twice: the input of a norm is then kept once


def memory(
    config: DictConfig,
    shapes: tuple[ModelShape, ModelShape],
    parameters: tuple[int, int],
    rollouts: int,
    gpus: dict[str, int],
    longests: tuple[float, float],
    device: float,
    logit_bytes: int,
    inference_key: str,
) -> dict[str, Any]:
    """GiB per GPU of student and teacher, by phase, and of host memory per node.

    Args:
        shapes, parameters: of student and teacher.
        rollouts: sequences of a step.
        gpus: number of GPUs of ``student`` and ``teacher``; 0 for a teacher on other machines, which the result omits.
        longests: tokens of the longest sequence, prompt and response, of student and teacher.
        device: GiB of a card.
        logit_bytes: of a logit in the update.
    """
    shared, turns = is_shared(config), config.prefix_opd.teacher.phases == "turns"
    actor: Any = OmegaConf.to_container(config.actor_rollout_ref.actor, resolve=True)
    rollout, inference = (OmegaConf.select(config, key) for key in (ROLLOUT_KEY, inference_key))
    resident = cost.resident_gib(shapes[0], parameters[0], actor, gpus["student"])
    lora = Lora.of(config)
    keeps_base = lora is not None and not lora.merge and rollout.free_cache_engine
    held = (parameters[0] + shapes[0].adapter, parameters[1])
    batch = min(int(inference.max_num_batched_tokens), rollouts / max(1, gpus["teacher"]) * longests[1])
    logits = cost.logits_gib(batch, shapes[1].vocab_size, cost.LOGIT_BYTES_SCORING)

    def engine(node: DictConfig, index: int, room: float | None) -> EngineMemory:
        """``room``: GiB of engine and cache if the config gives neither; None: a cache of what scoring needs."""
        parallel, eager, longest = int(node.tensor_model_parallel_size), bool(node.enforce_eager), longests[index]
        width = 4 if node.dtype in ("float32", "fp32") else 2
        weights = held[index] * width / parallel / cost.GIB
        fixed = weights + cost.OVERHEAD_GIB[eager]
        tokens = (longest, int(node.max_model_len or longest + 1))
        one, least = (cost.cache_bytes(shapes[index], count, width) / parallel / cost.GIB for count in tokens)
        given = OmegaConf.select(node, "engine_kwargs.vllm.kv_cache_memory_bytes")
        if given is not None:
            room = given / cost.GIB
        elif node.gpu_memory_utilization is not None:
            room = float(node.gpu_memory_utilization) * device - fixed
        elif room is None:
            room = least + 2 * int(node.max_num_batched_tokens) / longest * one
        else:
            room -= fixed
        room = max(0.0, room)
        engines = max(1, gpus[("student", "teacher")[index]] // parallel)
        sequences = min(int(node.max_num_seqs), -(-rollouts // engines))
        return EngineMemory(
            share=fixed + room,
            weights=weights,
            kv_cache=min(room, one * sequences),
            kv_cache_wanted=one * sequences,
            kv_cache_room=room,
            kv_cache_least=least,
            sequences_at_once=min(sequences, int(room / one)),
            asleep=cost.ASLEEP_GIB[eager],
        )

    def resting(node: DictConfig, one: EngineMemory) -> float:
        return one.asleep if node.free_cache_engine else one.share

    scorer = engine(inference, 1, None)
    beside = {"trainer": resident}
    if shared:
        beside |= {"teacher": resting(inference, scorer)} if turns else {"teacher": scorer.share, "logits": logits}
    sampler = engine(rollout, 0, cost.USABLE * device - sum(beside.values()))
    micro = min(int(actor["ppo_max_token_len_per_gpu"]), rollouts / gpus["student"] * longests[0])
    kept = kept_by_layers(config, shapes[0])
    update = cost.update_memory(shapes[0], parameters[0], actor, gpus["student"], micro, logit_bytes, kept)
    update |= {"asleep_engine": resting(rollout, sampler)}
    scoring = {"teacher": scorer.share, "logits": logits}
    if shared:
        waiting = resting(rollout, sampler) if turns else sampler.share
        scoring = {"trainer": resident, "student": waiting, **scoring}
        update |= {"teacher": resting(inference, scorer) if turns else scorer.share}
    phases = {"sampling": {**beside, "student": sampler.share}, "update": update}
    teacher = {}
    if gpus["teacher"]:
        phases["scoring"] = scoring
        teacher["teacher"] = {
            "device": device,
            "kv_cache": scorer.kv_cache,
            "logits": logits,
            "peak_scoring": sum(scoring.values()),
            "engine": asdict(scorer),
        }
    return {
        "student": {
            "device": device,
            "kv_cache": sampler.kv_cache,
            "logits": update["logits"],
            "peak_sampling": sum(phases["sampling"].values()),
            "peak_update": sum(update.values()),
            "trainer_while_sampling": resident,
            "engine": asdict(sampler),
            "update": update,
        },
        **teacher,
        "phases": phases,
        "host": {
            "trainer_offloaded": cost.offloaded_gib(shapes[0], parameters[0], actor, config.trainer.nnodes),
            # vLLM sleeps at level 1 beside an adapter: the base, which no sync brings back, goes to the host
            "student_asleep": sampler.weights * config.trainer.n_gpus_per_node if keeps_base else 0.0,
            "teacher_asleep": scorer.weights * config.trainer.n_gpus_per_node if shared else 0.0,
        },
    }


def shortages(planned: dict[str, Any], phases: tuple[str, ...] = tuple(FIXES)) -> list[UserError]:
    """What of a planned memory does not fit a card, with the sum and the card's memory."""
    found, device = [], planned["student"]["device"]
    for phase in phases:
        parts = planned["phases"].get(phase, {})
        if sum(parts.values()) > device:
            told = " + ".join(f"{gib:.1f} ({name.replace('_', ' ')})" for name, gib in parts.items() if gib >= 0.05)
            rule = f"{told} = {sum(parts.values()):.1f} GiB exceeds {device:g} GiB of a card"
            found.append(UserError(f"peak_{phase}", rule, FIXES[phase]))
    keys = {"student": ROLLOUT_KEY, "teacher": INFERENCE_KEY}
    several = [name for name in planned if name.startswith(OF_SEVERAL)]
    for who in ("student", *(several or ["teacher"])):
        engine = planned[who]["engine"] if who in planned else None
        if engine and engine["kv_cache_room"] < engine["kv_cache_least"]:
            room, least = (f"{engine[name]:.2f}" for name in ("kv_cache_room", "kv_cache_least"))
            rule = f"{room} GiB of {device:g} are left for its KV cache, but one sequence takes {least}"
            fix = "offload the trainer, shorten the sequences, or use more GPUs"
            found.append(UserError(keys.get(who, who), rule, fix))
    return found
