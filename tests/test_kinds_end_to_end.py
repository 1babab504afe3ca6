"""Each kind of experiment for two updates of the real program, through the YAML that ships."""

import subprocess
import sys

import pytest

from prefix_opd.runlog import read_metrics

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
