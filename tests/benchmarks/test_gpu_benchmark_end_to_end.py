"""The benchmark on GPUs, rehearsed: ours and verl's own on tiny models, two caps in one run each."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from prefix_opd.base.files import read_lines

ROOT = Path(__file__).parents[2]


@pytest.mark.slow
def test_the_rehearsal_measures_both_at_each_cap(tmp_path):
    command = ["bash", str(ROOT / "benchmarks/run.sh"), "--gpu", "--platform", "cpu", "--steps", "1", "--out", tmp_path]
    environment = {**os.environ, "PREFIX_OPD_PYTHON": sys.executable}
    ran = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    rows = list(read_lines(tmp_path / "gpu.jsonl"))
    assert [(row["case"]["system"], row["case"]["caps"]) for row in rows] == [
        *(("ours", [4]), ("ours", [8]), ("native_poll", [4]), ("native_poll", [8])),
    ]
    for row in rows:
        (counted,) = (step for step in row["steps"] if step["counts"])
        # 4 prompts x 4 rollouts, each as long as its cap
        assert counted["tokens"] == 16 * row["case"]["caps"][0]
    passes = [step["phases"]["old log-probs"] > 1e-3 for row in rows for step in row["steps"]]  # the timer alone: 1e-5
    assert passes == [False] * 4 + [True] * 4
    page = (tmp_path / "gpu.md").read_text()
    assert "| 4 | ours / verl's own OPD, poll 0.05 s | shared, 1 card |" in page and "## Not measured" not in page
