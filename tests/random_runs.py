"""Random runs on the miniature: draw settings, keep what the check accepts, train two updates of each.

    python tests/random_runs.py --runs 40 --seed 0 --out FOLDER

An accepted run that ends with another exit code than 0 shows a gap in the checks; 2 before its start is a refusal by
the doctor's quick checks. Writes one line per run to ``FOLDER/runs.jsonl``. The exit code is 1 if any run failed. A run
takes about a minute.
"""

from __future__ import annotations

import argparse
import json
import random
import shlex
import subprocess
import sys
import time
from pathlib import Path

from prefix_opd.base.errors import EXIT_BAD_INPUT, UserError
from prefix_opd.launch import prepare

FOLDER = Path(__file__).parents[1] / "recipe" / "prefix_opd" / "config" / "experiment" / "tiny"
EXPERIMENTS = tuple(f"tiny/{path.stem}" for path in sorted(FOLDER.glob("*.yaml")) if path.stem != "base")
BOOL = ("true", "false")
MODEL, ACTOR, ROLLOUT = "actor_rollout_ref.model", "actor_rollout_ref.actor", "actor_rollout_ref.rollout"
INFERENCE = "distillation.teacher_models.teacher_model.inference"
TEACHER, LOSS = "distillation.teacher_models.teacher_model", "distillation.distillation_loss"
TOGETHER: dict[str, tuple[str, ...]] = {
    "schedule": (
        "prefix_opd.schedule.name=full",
        "prefix_opd.schedule.name=constant prefix_opd.schedule.length=40",
        "prefix_opd.schedule.name=linear prefix_opd.schedule.start=5 prefix_opd.schedule.increment=30",
        "prefix_opd.schedule.name=steps prefix_opd.schedule.steps=[[1,3],[2,60]]",
        "prefix_opd.schedule.name=cosine prefix_opd.schedule.over=2 prefix_opd.schedule.maximum=64",
        "prefix_opd.schedule.name=power prefix_opd.schedule.over=2",
        "prefix_opd.schedule.name=geometric prefix_opd.schedule.start=2 prefix_opd.schedule.over=3",
    ),
    "weighting": (
        "prefix_opd.weighting.name=uniform",
        "prefix_opd.weighting.name=window prefix_opd.weighting.start=2 prefix_opd.weighting.stop=9",
        "prefix_opd.weighting.name=last prefix_opd.weighting.tokens=5",
    ),
    "objective": (
        *(f"{LOSS}.loss_mode={name}" for name in ("prefix_opd", "k2", "k3", "abs", "mse", "low_var_kl")),
        *(
            f"{LOSS}.loss_mode={name} {LOSS}.topk=8 prefix_opd.probe.every=0"
            for name in ("forward_kl_topk", "reverse_kl_topk", "jsd_topk")
        ),
        f"{LOSS}.loss_max_clamp=5",
        f"{LOSS}.log_prob_min_clamp=-20",
    ),
    "thinking": (
        "prefix_opd.prompt.thinking=off",
        "prefix_opd.prompt.thinking=template",
        "prefix_opd.prompt.thinking=template +data.apply_chat_template_kwargs.enable_thinking=true",
        "prefix_opd.prompt.ending=null",
    ),
    "adapter": (
        f"{MODEL}.lora_rank=4 {MODEL}.lora_alpha=4",
        f"{MODEL}.lora_rank=8 {MODEL}.target_modules=[q_proj,v_proj]",
        f"{MODEL}.lora_rank=8 {MODEL}.exclude_modules=[down_proj]",
        f"{MODEL}.lora_rank=8 {MODEL}.lora.merge=true",
        f"{MODEL}.lora_rank=8 {ACTOR}.checkpoint.save_lora_only=true",
    ),
    "placement": (
        "prefix_opd.teacher.placement=own prefix_opd.teacher.phases=turns",
        "prefix_opd.teacher.placement=shared",
        "prefix_opd.teacher.placement=shared prefix_opd.teacher.phases=turns",
        "prefix_opd.teacher.placement=shared trainer.n_gpus_per_node=2",
    ),
    "teacher": (
        f"{TEACHER}.model_path=${{tiny:student}}",
        "\"prefix_opd.teacher_prompt.system='Count with care.'\" prefix_opd.teacher_prompt.max_length=64",
        "\"prefix_opd.teacher_prompt.template='{prompt}'\" prefix_opd.teacher_prompt.max_length=48",
    ),
    "sampling": (
        "prefix_opd.allow_any_temperature=true actor_rollout_ref.rollout.temperature=0.7",
        "prefix_opd.rollout.stop=[1]",
        "prefix_opd.rollout.off_policy_steps=1 prefix_opd.advantage.student_log_prob=current",
        "prefix_opd.rollout.off_policy_steps=1 prefix_opd.rollout.seeded=3",
    ),
    "watchers": (
        "prefix_opd.watchers.reverse_kl={threshold:50,action:stop}",
        "prefix_opd.watchers.missing={action:stop} prefix_opd.watchers.retries=0",
        "prefix_opd.watchers.endless={threshold:1,action:off}",
    ),
    "checkpoints": (
        "prefix_opd.checkpoint.keep_last=1 prefix_opd.checkpoint.keep_best=false trainer.save_freq=1",
        "trainer.save_freq=-1",
        "trainer.save_freq=1 trainer.resume_mode=disable",
    ),
    "validation": (
        "trainer.test_freq=-1 trainer.val_before_train=false",
        "trainer.test_freq=1",
        "trainer.val_before_train=true prefix_opd.probe.every=1 prefix_opd.probe.prompts=2",
    ),
}
"""Group of settings that have a meaning together -> overrides, parted by spaces outside quotes."""
DRAWN: dict[str, tuple[str, ...]] = {
    "data.train_max_samples": ("-1", "64", "8"),
    "data.train_batch_size": ("8", "16", "24"),
    "data.val_batch_size": ("null", "16", "7"),
    "data.shuffle": BOOL,
    "data.validation_shuffle": BOOL,
    "data.seed": ("null", "0", "3"),
    "data.dataloader_num_workers": ("0", "2"),
    "data.filter_overlong_prompts": BOOL,
    "data.max_prompt_length": ("32", "20", "8"),
    "data.max_response_length": ("192", "16", "1", "500"),
    "actor_rollout_ref.model.enable_gradient_checkpointing": BOOL,
    "actor_rollout_ref.model.trust_remote_code": BOOL,
    f"{ACTOR}.ppo_mini_batch_size": ("8", "4", "16"),
    f"{ACTOR}.ppo_max_token_len_per_gpu": ("300", "4096", "100"),
    f"{ACTOR}.loss_agg_mode": ("token-mean", "token-sum", "seq-mean-token-mean", "seq-mean-token-sum-norm"),
    f"{ACTOR}.shuffle": BOOL,
    f"{ACTOR}.use_torch_compile": BOOL,
    f"{ACTOR}.checkpoint.save_contents": ("[model,optimizer,extra,hf_model]", "[model,optimizer,extra]"),
    f"{ACTOR}.optim.lr": ("1e-5", "1", "1e-12"),
    f"{ACTOR}.optim.betas": ("[0.0,0.5]", "[0.9,0.95]"),
    f"{ACTOR}.optim.clip_grad": ("0.1", "1000"),
    f"{ACTOR}.optim.lr_scheduler_type": ("cosine", "constant"),
    f"{ACTOR}.optim.lr_warmup_steps": ("-1", "0", "5"),
    f"{ACTOR}.optim.lr_warmup_steps_ratio": ("0.5", "1"),
    f"{ACTOR}.optim.min_lr_ratio": ("0.1", "1"),
    f"+{ACTOR}.optim.override_optimizer_config.foreach": BOOL,
    f"+{ACTOR}.optim.override_optimizer_config.eps": ("1e-6",),
    f"{ACTOR}.fsdp_config.reshard_after_forward": BOOL,
    f"{ACTOR}.fsdp_config.forward_prefetch": BOOL,
    f"{ACTOR}.fsdp_config.model_dtype": ("bf16", "fp32"),
    f"{ACTOR}.fsdp_config.use_no_sync_for_gradient_accumulation": BOOL,
    f"{ACTOR}.fsdp_config.mixed_precision.param_dtype": ("bf16", "fp32"),
    f"{ROLLOUT}.n": ("1", "2", "5"),
    f"{ROLLOUT}.seed": ("0", "7"),
    f"{ROLLOUT}.dtype": ("bfloat16", "float32"),
    f"{ROLLOUT}.ignore_eos": BOOL,
    f"{ROLLOUT}.max_num_seqs": ("1", "16", "300"),
    f"{ROLLOUT}.max_num_batched_tokens": ("256", "1024"),
    f"{ROLLOUT}.enable_prefix_caching": BOOL,
    f"{ROLLOUT}.disable_log_stats": BOOL,
    f"{ROLLOUT}.gpu_memory_utilization": ("0.1", "0.9"),
    f"{ROLLOUT}.agent.num_workers": ("1", "3"),
    f"{ROLLOUT}.val_kwargs.n": ("1", "3"),
    f"{ROLLOUT}.val_kwargs.temperature": ("0", "0.6"),
    f"{ROLLOUT}.val_kwargs.top_k": ("20",),
    f"{ROLLOUT}.val_kwargs.do_sample": BOOL,
    f"{INFERENCE}.max_num_seqs": ("4", "300"),
    f"{INFERENCE}.max_num_batched_tokens": ("256", "64"),
    f"{INFERENCE}.enable_chunked_prefill": BOOL,
    f"{INFERENCE}.enable_prefix_caching": BOOL,
    f"{INFERENCE}.dtype": ("bfloat16", "float32"),
    "distillation.distillation_loss.topk": ("1", "50", "500"),
    "reward.num_workers": ("1", "2"),
    "trainer.total_epochs": ("1", "5"),
    "trainer.logger": ("console", "[file,console]", "[]"),
    "trainer.log_val_generations": ("0", "3"),
    "trainer.validation_data_dir": ("null",),
    "trainer.n_gpus_per_node": ("1", "2"),
    "ray_kwargs.ray_init.num_gpus": ("3",),
    "trainer.val_before_train": BOOL,
    "transfer_queue.backend.SimpleStorage.num_data_storage_units": ("2",),
    "prefix_opd.advantage.student_log_prob": ("sampler", "current", "recomputed"),
    "prefix_opd.advantage.clamp": ("null", "0.5"),
    "prefix_opd.loss.max_ratio": ("2",),
    "prefix_opd.rollout.stop": ("student", "teacher"),
    "prefix_opd.rollout.seeded": ("null", "5"),
    "prefix_opd.rollout.final_output_only": BOOL,
    "prefix_opd.rollout.off_policy_steps": ("0", "1"),
    "prefix_opd.update.micro_batch_cost": ("null", "50"),
    "prefix_opd.update.share_prompts": BOOL,
    "prefix_opd.update.response_logits_only": BOOL,
    "prefix_opd.probe.every": ("0", "1"),
    f"{ACTOR}.optim.weight_decay": ("0", "0.1"),
    f"{ACTOR}.optim.num_cycles": ("0.5", "2"),
    f"{ACTOR}.optim.zero_indexed_step": BOOL,
    f"+{ACTOR}.optim.override_optimizer_config.fused": BOOL,
    f"{ACTOR}.data_loader_seed": ("0", "9"),
    f"{ACTOR}.loss_scale_factor": ("100",),
    f"{ACTOR}.fsdp_config.mixed_precision.reduce_dtype": ("bf16",),
    f"{ROLLOUT}.max_model_len": ("300", "1000"),
    f"{ROLLOUT}.calculate_log_probs": BOOL,
    f"{ROLLOUT}.val_kwargs.top_p": ("0.95",),
    f"{ROLLOUT}.checkpoint_engine.update_weights_bucket_megabytes": ("1", "2", "256"),
    f"+{ROLLOUT}.engine_kwargs.vllm.async_scheduling": BOOL,
    f"{INFERENCE}.max_model_len": ("300", "1000"),
    f"{INFERENCE}.disable_log_stats": BOOL,
    "trainer.project_name": ("two words",),
    "trainer.experiment_name": ("a name", "x.y"),
    "transfer_queue.backend.SimpleStorage.total_storage_size": ("100", "10000"),
    "ray_kwargs.ray_init.num_cpus": ("12", "64", "null"),
    "ray_kwargs.ray_init.object_store_memory": ("200000000",),
    "prefix_opd.position_bins": ("1", "7"),
    "prefix_opd.poll_seconds": ("0.5", "2"),
    "prefix_opd.rollout.timeout_seconds": ("120",),
    "prefix_opd.start_up_seconds": ("300",),
    "prefix_opd.update.fused_head": BOOL,
    "prefix_opd.update.compile_layers": BOOL,
    "prefix_opd.update.fit_memory": BOOL,
}
"""Key -> candidate values."""
SECONDS = 600


def draw(rng: random.Random) -> list[str]:
    """Draw the overrides of one run."""
    groups = rng.sample(list(TOGETHER), rng.randint(1, 3))
    together = [override for group in groups for override in shlex.split(rng.choice(TOGETHER[group]))]
    keys = rng.sample(list(DRAWN), rng.randint(3, 10))
    single = [f"{key}={rng.choice(DRAWN[key])}" for key in keys]
    return [f"experiment={rng.choice(EXPERIMENTS)}", *together, *single]


def accepted(rng: random.Random, out: Path) -> tuple[list[str], int]:
    """The next run that the check accepts, and the number of rejected ones before."""
    refused = 0
    always = [f"trainer.default_local_dir={out}", "trainer.total_training_steps=2", "trainer.test_freq=2"]
    always += ["trainer.save_freq=2", "data.val_max_samples=16"]
    while True:
        overrides = [*always, *draw(rng)]  # of a key that stands twice the last counts
        try:
            prepare(overrides)
        except UserError:
            refused += 1
        else:
            return overrides, refused


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=40)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--first", type=int, default=0, help="leave out the runs before this one")
    parser.add_argument("--out", type=Path, required=True)
    asked = parser.parse_args()
    rng, codes = random.Random(asked.seed), []
    asked.out.mkdir(parents=True, exist_ok=True)
    for number in range(asked.runs):
        folder = asked.out / f"run_{number}"
        overrides, refused = accepted(rng, folder)
        if number < asked.first:
            continue
        command = [sys.executable, "-m", "prefix_opd.cli", "train", *overrides]
        began = time.monotonic()
        try:
            ran = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS)
            code, told = ran.returncode, ran.stderr[-2000:]
        except subprocess.TimeoutExpired:
            code, told = None, f"not done in {SECONDS} s"
        codes.append(code)
        line = {"run": number, "code": code, "seconds": round(time.monotonic() - began), "refused": refused}
        line |= {"overrides": overrides} | ({"told": told} if code else {})
        with (asked.out / "runs.jsonl").open("a") as file:
            file.write(json.dumps(line) + "\n")
        print(f"run {number}: exit code {code}, {line['seconds']} s, {refused} refused before it", flush=True)
    started = [code for code in codes if code != EXIT_BAD_INPUT]
    failed = sum(code != 0 for code in started)
    print(f"{failed} of {len(started)} accepted runs failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
