"""The run scripts, dry: the whole config is composed and checked, the plan and the command are printed."""

import os
import shlex
import stat
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SCRIPTS = ROOT / "scripts"
PAIRS = {"8b": "run_prefix_opd_qwen3_8b.sh", "1.7b": "run_prefix_opd_qwen3_1.7b.sh"}

# In place of the console command: it notes what it was asked for.
STUB = f"""#!{sys.executable}
import sys
print("CALLED", *sys.argv[1:], sep="\\t")
"""
# The real verbs, whatever is on the PATH.
REAL = f"""#!{sys.executable}
import sys
from prefix_opd.cli import main
main()
"""


def program(folder: Path, text: str) -> Path:
    path = folder / "prefix-opd"
    path.write_text(text)
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return path


def run(script: str, cwd: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess:
    kept = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
    environment = {**kept, "PYTHONPATH": str(ROOT), "HF_HUB_OFFLINE": "1", "COLUMNS": "200", **environment}
    command = ["bash", str(SCRIPTS / script), *arguments]
    return subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, timeout=600)


def overrides(line: str) -> dict[str, str]:
    found = dict(word.split("=", 1) for word in shlex.split(line) if "=" in word)
    return {key: value.strip("'") for key, value in found.items()}


@pytest.mark.parametrize("size", PAIRS)
def test_the_command_that_would_run(size, tmp_path):
    environment = {"DRY_RUN": "1", "KIND": "prefix_512", "LAYOUT": "two_gpus", "TRAIN_FILES": "my data/t.parquet"}
    stub = program(tmp_path, STUB)
    result = run(PAIRS[size], tmp_path, "trainer.total_training_steps=5", PREFIX_OPD=str(stub), **environment)
    assert result.returncode == 0, result.stderr
    *calls, last = result.stdout.splitlines()
    assert [call.split("\t")[1:4] for call in calls] == [
        ["plan", f"experiment=qwen3_{size}/prefix_512", "layout=two_gpus"],
        ["train", "--check", f"experiment=qwen3_{size}/prefix_512"],
    ]
    would = last.removeprefix("would run: ")
    assert shlex.split(would)[:2] == [str(stub), "train"]
    given = overrides(would)
    assert given["actor_rollout_ref.model.path"] == f"Qwen/Qwen3-{size.upper()}-Base"
    assert given["data.train_files"] == str(tmp_path / "my data/t.parquet")
    assert given["trainer.default_local_dir"] == str(tmp_path / f"outputs/qwen3_{size}_prefix_512")
    assert shlex.split(would)[-1] == "trainer.total_training_steps=5"
    assert "trainer.nnodes" not in given


def test_sizes_come_from_the_environment(tmp_path):
    sizes = {"STUDENT_NODES": "2", "STUDENT_GPUS": "8", "TEACHER_NODES": "1", "TEACHER_GPUS": "4", "STUDENT": "./mine"}
    result = run(PAIRS["8b"], tmp_path, PREFIX_OPD=str(program(tmp_path, STUB)), DRY_RUN="1", **sizes)
    given = overrides(result.stdout.splitlines()[-1])
    assert (given["trainer.nnodes"], given["trainer.n_gpus_per_node"]) == ("2", "8")
    assert (given["distillation.nnodes"], given["distillation.n_gpus_per_node"]) == ("1", "4")
    assert given["actor_rollout_ref.model.path"] == str(tmp_path / "mine")
    assert given["layout"] == "node_8x80gb"


def test_without_dry_run_it_becomes_the_command(tmp_path):
    result = run(PAIRS["8b"], tmp_path, PREFIX_OPD=str(program(tmp_path, STUB)))
    (call,) = result.stdout.splitlines()
    assert call.split("\t")[1:3] == ["train", "experiment=qwen3_8b/schedule"]


def test_a_dry_run_composes_checks_and_plans_for_real(long_context_models, tmp_path):
    from prefix_opd.miniature.data import write_data

    files, models = write_data(tmp_path), long_context_models
    environment = {
        "STUDENT": str(models["student"]),
        "TEACHER": str(models["teacher"]),
        "TRAIN_FILES": str(files["train"]),
        "VAL_FILES": str(files["test"]),
        "KIND": "prefix_256",
        "DRY_RUN": "1",
        "PREFIX_OPD": str(program(tmp_path, REAL)),
    }
    result = run(PAIRS["8b"], tmp_path, **environment)
    assert result.returncode == 0, result.stderr
    assert "full OPD to this run" in result.stdout
    assert "nothing wrong found" in result.stdout
    assert result.stdout.splitlines()[-1].startswith("would run: ")
    assert not (tmp_path / "outputs").exists()

    result = run(PAIRS["8b"], tmp_path, "data.train_batch_size=0", **environment)
    assert result.returncode == 2
    assert (
        result.stderr.strip()
        == "error: data.train_batch_size=0: must be a whole number of at least 1 and at most 1000000"
    )


def test_without_the_package_it_says_what_to_do(tmp_path):
    if (ROOT / ".venv/bin/prefix-opd").exists():
        pytest.skip("this checkout has its own .venv, which the script takes")
    result = run(PAIRS["8b"], tmp_path, PATH="/usr/bin:/bin")
    assert result.returncode == 2
    assert result.stderr.strip() == "error: prefix-opd: is not installed; run bash scripts/setup.sh gpu"


def test_seqkd_names_the_data_that_it_lacks(tmp_path):
    result = run("run_seqkd.sh", tmp_path, DRY_RUN="1", PYTHON=sys.executable)
    assert result.returncode == 2
    assert "TRAIN_FILES=data/openthoughts3/sft.parquet: does not exist" in result.stderr


@pytest.mark.parametrize("script", sorted(path.name for path in SCRIPTS.glob("*.s[hb]*")))
def test_every_script_parses(script):
    assert subprocess.run(["bash", "-n", str(SCRIPTS / script)], capture_output=True).returncode == 0


def test_the_batch_script_hands_a_signal_to_the_run(tmp_path):
    for name, text in {
        "srun": 'while [[ $1 == --* ]]; do shift; done; exec "$@"',
        "scontrol": "printf 'node1\\nnode2\\n'",
        "hostname": "echo 10.0.0.1",
        "ray": "[[ $1 == status ]] && printf ' 1 node_a\\n 1 node_b\\n'",
        "run": "trap 'echo ends in order; exit 7' TERM; echo started $RAY_ADDRESS $LAYOUT $STUDENT_NODES $@\n"
        "while :; do sleep 0.1; done",
    }.items():
        (tmp_path / name).write_text(f"#!/usr/bin/env bash\n{text}\n")
        (tmp_path / name).chmod(0o755)
    slurm = {"SLURM_SUBMIT_DIR": str(tmp_path), "SLURM_NNODES": "2", "SLURM_JOB_NODELIST": "node[1-2]"}
    slurm |= {"SLURM_CPUS_PER_TASK": "4", "RUN": str(tmp_path / "run"), "PATH": f"{tmp_path}:{os.environ['PATH']}"}
    command = ["bash", str(SCRIPTS / "slurm_prefix_opd.sbatch"), "a.key=1"]
    with subprocess.Popen(command, env=slurm, stdout=subprocess.PIPE, text=True) as job:
        assert job.stdout.readline() == "started 10.0.0.1:6379 multi_node 2 a.key=1\n"
        job.terminate()
        assert job.communicate(timeout=60)[0] == "ends in order\n" and job.returncode == 7
