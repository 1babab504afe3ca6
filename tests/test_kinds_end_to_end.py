"""Each kind of experiment for two updates of the real program, through the YAML that ships."""

import os
import random
import re
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from prefix_opd.runlog import read_metrics
from prefix_opd.tiny import shipped_models
from prefix_opd.tiny.task import END_OF_TURN, TEACHER, random_problem, respond

ROOT = Path(__file__).parents[1]

pytestmark = pytest.mark.e2e

SMALL = [
    "trainer.total_training_steps=2",
    "trainer.val_before_train=false",
    "trainer.test_freq=-1",
    "trainer.save_freq=-1",
    "data.train_batch_size=4",
    "actor_rollout_ref.rollout.n=2",
]


def train(folder, *overrides):
    command = [sys.executable, "-m", "prefix_opd.cli", "train", *overrides, *SMALL]
    ran = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=280)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    (run,) = (folder / "outputs").iterdir()
    lines = list(read_metrics(run))
    assert [line["step"] for line in lines] == [1, 2]
    assert all(line["actor/grad_norm"] > 0 for line in lines)
    return lines


def test_window(tmp_path):
    for line in train(tmp_path, "experiment=tiny/window_32_64"):
        assert line["prefix_opd/prefix_length"] == 64


def test_last_tokens_of_full_rollouts(tmp_path):
    for line in train(tmp_path, "experiment=tiny/last_32"):
        assert line["prefix_opd/prefix_length"] == 192 and line["prefix_opd/ending/natural_fraction"] > 0


def test_forward_kl_over_the_teachers_top_k(tmp_path):
    for line in train(tmp_path, "experiment=tiny/forward_kl_32"):
        assert line["prefix_opd/prefix_length"] == 32
        assert "prefix_opd/reverse_kl/mean" not in line, "the top k need not hold the sampled token"
        assert line["actor/distillation/teacher_mass"] > 0.5


def test_recomputed_log_probs_two_ranks_and_several_mini_batches(tmp_path):
    """What the other runs leave at its default: a second student pass, FSDP over two ranks, two updates a step."""
    lines = train(
        tmp_path,
        "experiment=tiny/prefix_32",
        "prefix_opd.advantage.student_log_prob=recomputed",
        "prefix_opd.loss.max_ratio=2.0",
        "actor_rollout_ref.actor.ppo_mini_batch_size=2",
        "trainer.n_gpus_per_node=2",
        "ray_kwargs.ray_init.num_gpus=3",
    )
    for line in lines:
        assert line["prefix_opd/flops_exact/student_scoring"] == line["prefix_opd/flops_exact/sampling"]
        # the second mini-batch meets a policy that the first one moved
        assert line["prefix_opd/log_prob_diff/abs_max"] > 1e-4


def test_seqkd_by_verls_own_sft_trainer(tmp_path):
    """The off-policy baseline: two steps on the teacher's written answers, through the script and YAML that ship."""
    rng = random.Random(0)
    problems = [random_problem(rng) for _ in range(16)]
    messages = [
        [
            {"role": "user", "content": problem.question},
            {"role": "assistant", "content": "<think>" + respond(problem, TEACHER, rng).removesuffix(END_OF_TURN)},
        ]
        for problem in problems
    ]
    pq.write_table(pa.Table.from_pylist([{"messages": m} for m in messages]), tmp_path / "sft.parquet")
    small = [
        "trainer.total_training_steps=2",
        "trainer.save_freq=2",
        "trainer.device=cpu",
        "data.train_batch_size=8",
        "data.max_length=320",
        "data.max_token_len_per_gpu=4096",
        "data.num_workers=0",
        "model.use_remove_padding=false",
        "+model.override_config.attn_implementation=sdpa",
        "engine.use_torch_compile=false",
    ]
    environment = {"STUDENT": str(shipped_models()["student"]), "TRAIN_FILES": "sft.parquet", "GPUS": "1"}
    environment |= {"PYTHON": sys.executable, "OUTPUT": str(tmp_path)}
    ran = subprocess.run(
        ["bash", str(ROOT / "scripts" / "run_seqkd.sh"), *small],
        cwd=tmp_path,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=280,
    )
    assert ran.returncode == 0, ran.stdout[-3000:] + ran.stderr[-3000:]
    losses = [float(value) for value in re.findall(r"train/loss:([\d.]+)", ran.stdout)]
    assert len(losses) == 2 and all(0 < loss < 5 for loss in losses)
    assert (tmp_path / "seqkd" / "global_step_2").is_dir()
