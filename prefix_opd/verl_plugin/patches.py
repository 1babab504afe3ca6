"""The table of patches: all that this package replaces in verl, vLLM, Ray, torch, transformers and Python at run time.

Patches act only in runs of this package (`prefix_opd.verl_plugin.our_run`). The code of a patch is in the subpackage of
its stage. The contract test checks the signature of every target. This command generates the page in docs:

    python -m prefix_opd.verl_plugin.patches_page > docs/patches.md
"""

from __future__ import annotations

from prefix_opd.base.loopback import LOOPBACK_PATCH
from prefix_opd.base.patching import Patch, Target
from prefix_opd.config.keys import PACKED_ATTENTION
from prefix_opd.cpu.patches import PATCHES as CPU_PATCHES

_ENGINE = "prefix_opd.verl_plugin.engine"
_SERVER = "prefix_opd.verl_plugin.server"
_TRAINER = "prefix_opd.verl_plugin.trainer"
_WORKER = "prefix_opd.verl_plugin.worker"
_FSDP = "verl.workers.engine.fsdp.transformer_impl"
_VLLM = "verl.workers.rollout.vllm_rollout"

PATCHES = (
    Patch(
        name="weight_socket",
        processes="training workers, vLLM servers",
        module=f"{_SERVER}.weight_socket",
        targets=(
            Target(f"{_VLLM}.vllm_rollout:ServerAdapter.__init__", "renamed_at_the_trainer", "zmq_handle get_job_id"),
            Target(f"{_VLLM}.vllm_async_server:vLLMHttpServer.__init__", "renamed_at_the_engine", "VERL_RAY_JOB_ID"),
        ),
        why="The socket is named after Ray's job id (vllm_rollout.py:141, vllm_async_server.py:143), which is 01000000 "
        "in every cluster that a run starts for itself: two runs on one machine share the socket.",
        until="verl's name differs between clusters",
        without="two runs on one machine may receive each other's weights, or hang",
        upstream="https://github.com/verl-project/verl/issues/6233",
    ),
    Patch(
        name="teacher_scores",
        processes="agent-loop workers, the teacher's server",
        module=f"{_SERVER}.teacher_scores",
        targets=(
            Target(
                "verl.experimental.teacher_loop.teacher_manager:_get_teacher_sampling_params", "asked_for_flat_lists"
            ),
            Target(
                f"{_VLLM}.vllm_async_server:extract_prompt_logprobs", "read_as_arrays", "prompt_ids prompt_logprobs"
            ),
        ),
        why="vLLM creates an object per log-prob. verl loops over them (vllm_rollout/utils.py:540) and sends lists of "
        "lists, all in the server's one event loop.",
        until="verl asks for vLLM's flat lists",
        without="a teacher's answer takes its server two to five times as long",
    ),
    Patch(
        name="log_probs",
        processes="training workers",
        module=f"{_ENGINE}.log_probs",
        targets=(Target("verl.utils.torch_functional:logprobs_from_logits_v2", "in_blocks"),),
        why="Without flash-attn, verl computes log-probs one row at a time (verl/utils/torch_functional.py:173); in "
        "packed sequences a row is a token.",
        until="verl computes many rows at a time",
        without="an update on a CPU takes up to twice as long",
        upstream="https://github.com/verl-project/verl/pull/3852",
    ),
    Patch(
        name="micro_batches",
        processes="training workers",
        module=f"{_ENGINE}.micro_batches",
        targets=(
            Target(
                f"{_FSDP}:prepare_micro_batches", "by_length", "max_token_len_per_gpu use_dynamic_bsz force_group_size"
            ),
        ),
        why="verl fills a micro-batch by real tokens and pads it to its longest sequence (transformer_impl.py:737).",
        until="verl counts padding, or every run packs its sequences",
        without="padded micro-batches as verl fills them",
    ),
    Patch(
        name="update_tokens",
        processes="training workers",
        module=f"{_ENGINE}.update_tokens",
        targets=(
            Target(f"{_FSDP}:FSDPEngineWithLMHead.forward_backward_batch", "choosing_the_form"),
            Target(
                f"{_FSDP}:FSDPEngineWithLMHead.prepare_model_inputs",
                "inputs_of_the_form",
                "temperature_rmpad temperature input_ids position_ids attention_mask",
            ),
            Target(
                f"{_FSDP}:FSDPEngineWithLMHead.prepare_model_outputs",
                "outputs_of_the_form",
                "logits use_remove_padding temperature_is_one input_ids_rmpad_rolled temperature_rmpad pad_size "
                "use_fused_kernels calculate_entropy calculate_sum_pi_squared distillation_use_topk distillation_only",
            ),
            Target("transformers.modeling_utils:AttentionInterface._global_mapping.sdpa", "by_layout"),
        ),
        why="An update computes logits of prompt tokens, which no loss reads, and computes each prompt once per "
        "rollout (transformer_impl.py:1145, 1332).",
        until="verl's engine computes logits of the response only",
        without="logits of all tokens: more memory and time in an update",
    ),
    Patch(
        name="packed_attention",
        processes="training workers",
        module=f"{_ENGINE}.packed_attention",
        targets=(
            Target(f"transformers.modeling_utils:AttentionInterface._global_mapping.{PACKED_ATTENTION}", "registered"),
        ),
        why="flash-attn has no wheel, and sdpa costs the square of the length of a whole pack of sequences.",
        until="transformers knows torch.nn.attention.varlen",
        without="runs with attn_implementation=torch_varlen fail while the trainer loads its model",
    ),
    Patch(
        name="safe_loading",
        processes="training workers, the trainer",
        module=f"{_ENGINE}.safe_loading",
        targets=(
            *(
                Target(where, "guarded_loader", "torch load")
                for where in (
                    "verl.utils.checkpoint.fsdp_checkpoint_manager:FSDPCheckpointManager.load_checkpoint",
                    "verl.utils.checkpoint.checkpoint_handler:CheckpointHandler._load_dataloader_state",
                    "verl.trainer.ppo.v1.trainer_base:PPOTrainer._load_checkpoint",
                )
            ),
            Target("torch:load", "guarded_load"),
        ),
        why="verl loads checkpoints with weights_only=False, which runs any code in the file "
        "(fsdp_checkpoint_manager.py:215, checkpoint_handler.py:177, trainer_base.py:895).",
        until="verl loads with weights_only=True",
        without="loading a checkpoint can run code",
    ),
    Patch(
        name="trackers",
        processes="the trainer",
        module=f"{_TRAINER}.trackers",
        targets=(Target("verl.trainer.ppo.v1.trainer_base:Tracking", "forgiving"),),
        why="verl creates all trackers in one constructor; the first unreachable tracker ends the run "
        "(verl/utils/tracking.py:62, trainer_base.py:423).",
        until="verl's runs survive an unreachable tracker",
        without="an unreachable tracker ends the run",
    ),
    Patch(
        name="startup",
        processes="the trainer",
        module=f"{_TRAINER}.startup",
        targets=(
            Target("verl.trainer.ppo.v1.trainer_base:MultiTeacherModelManager", "the_one_under_way"),
            Target(
                "verl.single_controller.ray.base:ResourcePoolManager.create_resource_pool", "once", "resource_pool_dict"
            ),
        ),
        why="The teacher's servers are started after the student's trainer and before its servers, one after the other "
        "(trainer_base.py:_setup, steps 6, 8, 9).",
        until="verl starts them side by side",
        without="start-up takes as long as both engines together, and both must fit on a GPU that they share until the "
        "teacher first sleeps",
    ),
    Patch(
        name="engine_watch",
        processes="the trainer",
        module=f"{_TRAINER}.engine_watch",
        targets=(Target("verl.checkpoint_engine.base:CheckpointEngineManager.update_weights", "watched"),),
        why="verl sends weights through a socket, which a dead engine never reads (checkpoint_engine/base.py:510).",
        until="verl gives up on a dead engine",
        without="a run whose engine died during a weight sync hangs",
    ),
    Patch(
        name="waiting",
        processes="the trainer",
        module=f"{_TRAINER}.engine_watch",
        targets=(Target("verl.trainer.ppo.v1.replay_buffer:ReplayBuffer._wait_for_next_poll", "attentive"),),
        why="The trainer polls for rollouts without a time limit and without a hook (replay_buffer.py:408).",
        until="verl watches its agent-loop workers and has a hook for progress",
        without="a run whose agent-loop worker died hangs; an evaluation shows no progress within a chunk",
    ),
    Patch(
        name="progress",
        processes="vLLM servers",
        module=f"{_SERVER}.progress",
        targets=(
            Target("vllm.v1.engine.output_processor:OutputProcessor.process_outputs", "timed", "new_token_ids"),
            Target(f"{_VLLM}.vllm_async_server:build_app", "answering"),
        ),
        why="No call of a server says whether its engine works: vLLM's counters need disable_log_stats=false, and "
        "verl's abort_request (vllm_async_server.py:1046) looks requests up by ids that vLLM has changed.",
        until="verl's servers say when they last generated a token",
        without="a rollout longer than prefix_opd.rollout.timeout_seconds is cancelled if no other ends meanwhile",
    ),
    Patch(
        name="agent_loops",
        processes="agent-loop workers",
        module=f"{_WORKER}.shortcuts",
        targets=(Target("verl.experimental.agent_loop.agent_loop:hydra", "quick_hydra"),),
        why="hydra.utils.instantiate creates an agent loop per rollout, 2 ms each in the workers' event loop "
        "(agent_loop.py:683).",
        until="verl looks its class up once",
        without="2 ms more per rollout",
    ),
    Patch(
        name="direct_route",
        processes="agent-loop workers",
        module=f"{_WORKER}.shortcuts",
        targets=(
            Target("verl.workers.rollout.llm_server:LLMServerClient._acquire_server", "asked_once", "_load_balancer"),
            Target("verl.workers.rollout.llm_server:LLMServerClient._release_server", "told_if_several"),
        ),
        why="Each request calls a load-balancer actor before and after (llm_server.py:70, 83), also with one server.",
        until="verl's client remembers its only server",
        without="two more actor calls per request",
    ),
    Patch(
        name="group_commit",
        processes="agent-loop workers",
        module=f"{_WORKER}.group_commit",
        targets=(
            Target("verl.trainer.ppo.v1.agent_loop_tq:tq", "grouped"),
            Target("verl.trainer.ppo.v1.agent_loop_tq:list_of_dict_to_tensordict", "rows_as_they_are"),
        ),
        why="verl writes each rollout and each status to TransferQueue in a separate call (agent_loop_tq.py:110, 143, "
        "222).",
        until="verl writes in groups",
        without="a call of TransferQueue per rollout and per status",
    ),
    Patch(
        name="topk_losses",
        processes="training workers",
        module=f"{_ENGINE}.topk",
        targets=(
            Target(
                "verl.trainer.distillation.losses:compute_topk_loss",
                "by_the_objective",
                "teacher_logprobs teacher_ids compute_forward_kl_topk",
            ),
        ),
        why="One function reads both the logits and the teacher's top k. It computes the forward KL for every loss "
        "(verl/trainer/distillation/losses.py: compute_topk_loss).",
        until="verl lets a registered loss read the logits",
        needed="reverse_kl_topk and jsd_topk are computed there; other losses are verl's as before",
    ),
    LOOPBACK_PATCH,
    *CPU_PATCHES,
)

BY_NAME = {patch.name: patch for patch in PATCHES}
