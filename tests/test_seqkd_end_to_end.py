"""The off-policy baseline, through the script and the YAML that ship."""

import os
import random
import re
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from prefix_opd.miniature import shipped_models
from prefix_opd.miniature.chain import Chain
from prefix_opd.miniature.task import END_OF_TURN, TEACHER, respond

ROOT = Path(__file__).parents[1]


def test_seqkd_by_verls_own_sft_trainer(tmp_path):
    """The off-policy baseline: two steps on the teacher's answers, through the shipped script and YAML."""
    rng = random.Random(0)
    problems = [Chain.draw(rng) for _ in range(16)]
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
