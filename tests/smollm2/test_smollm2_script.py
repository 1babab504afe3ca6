"""scripts/smollm2.sh with a program in Python's place that notes its calls, and the table of runs."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from written_runs import update, write_run

from prefix_opd.base.errors import UserError
from prefix_opd.checks.preflight import check
from prefix_opd.config.compose import compose
from prefix_opd.config.settings import Settings
from prefix_opd.method.schedule import prefix_lengths
from prefix_opd.miniature import shipped_models
from prefix_opd.smollm2.problems import write_data
from prefix_opd.smollm2.table import table

ROOT = Path(__file__).parents[2]
STUB = f"""#!{sys.executable}
import json, os, sys
from pathlib import Path
words = sys.argv[1:]
if words[:1] == ["-c"]:  # is a package there? flash-attn is not
    sys.exit("flash_attn" in words[1])
with open(os.environ["CALLS"], "a") as calls:
    calls.write(json.dumps(words) + "\\n")
if "--out" in words and words[2] != "data":
    Path(words[words.index("--out") + 1]).mkdir(parents=True, exist_ok=True)
sys.exit(any(word == os.environ.get("FAIL") for word in words))
"""


@pytest.fixture
def script(tmp_path):
    stub = tmp_path / "python"
    stub.write_text(STUB)
    stub.chmod(0o755)
    calls = tmp_path / "calls"

    def run(*arguments: str, code: int = 0, **environment: str) -> list[list[str]]:
        calls.unlink(missing_ok=True)
        given = {"PREFIX_OPD_PYTHON": str(stub), "CALLS": str(calls), "RUNS": "full schedule"}
        given |= {"DATA": str(tmp_path / "data"), "OUTPUT": str(tmp_path / "outputs")}
        command = ["bash", str(ROOT / "scripts" / "smollm2.sh"), *arguments]
        ran = subprocess.run(command, env={**os.environ, **given, **environment}, capture_output=True, text=True)
        assert ran.returncode == code, ran.stdout + ran.stderr
        return [json.loads(line) for line in calls.read_text().splitlines()]

    return run


def parts(calls: list[list[str]]) -> list[str]:
    """The step or verb of each call, with the experiment that it trains."""
    return [" ".join(words[2:4]) if words[2] == "train" else words[2] for words in calls]


@pytest.mark.parametrize("platform", ["cpu", "gpu"])
def test_the_runs_that_the_script_starts_pass_the_check(platform, script, tmp_path):
    runs = ("full", "schedule", "auto")
    calls = script("trainer.save_freq=-1", PLATFORM=platform, UPDATES="20", PROMPTS="4", RUNS=" ".join(runs))
    trained = [f"train experiment=smollm2/{run}" for run in runs]
    assert parts(calls) == ["model", "data", "evaluate", "teacher", "evaluate", *trained, "table", "analyze"]
    write_data(tmp_path / "data", train=16, test=4)
    models = shipped_models()
    for words in calls[5:8]:
        made = [f"actor_rollout_ref.model.path={models['student']}"]
        made += [f"distillation.teacher_models.teacher_model.model_path={models['teacher']}"]
        config = compose([*words[3:], *made])
        check(config)
        assert config.platform == platform and config.trainer.total_training_steps == 20
        assert config.data.train_batch_size == 4 and config.trainer.save_freq == -1
        assert config.trainer.default_local_dir.startswith(str(tmp_path / "outputs" / "smollm2_"))
        if words[3].endswith("schedule"):
            assert config.prefix_opd.schedule.increment == 6  # L = 115 at update 20
        for node in (config.actor_rollout_ref.rollout, config.distillation.teacher_models.teacher_model.inference):
            assert node.engine_kwargs.vllm.kv_cache_memory_bytes == 2**30
        if platform == "gpu":
            assert config.actor_rollout_ref.model.override_config.attn_implementation == "torch_varlen"


def test_finished_parts_are_kept_and_a_failed_one_is_repeated(script):
    stopped = script(code=1, PLATFORM="cpu", FAIL="experiment=smollm2/schedule")
    assert parts(stopped)[-1] == "train experiment=smollm2/schedule"
    assert parts(script(PLATFORM="cpu")) == ["train experiment=smollm2/schedule", "table", "analyze"]


def test_runs_together_and_a_model_of_ones_own(script):
    given = {"PLATFORM": "gpu", "TOGETHER": "1", "PAUSE": "0", "MODEL": "some/model"}
    calls = script(**given)
    trained = [f"train experiment=smollm2/{run}" for run in ("full", "schedule")]
    assert parts(calls)[0] == "data" and parts(calls)[-2:] == ["table", "analyze"]
    # the first evaluation runs beside the teacher's training, so its call may be noted after it
    assert sorted(parts(calls)[1:-2]) == ["evaluate", "evaluate", "teacher", *trained]
    assert min(map(parts(calls).index, trained)) > parts(calls).index("teacher")
    assert next(words[3:5] for words in calls if words[2] == "teacher") == ["--model", "some/model"]
    # one fails, and the others go on to their end
    failed = script(code=1, FAIL="experiment=smollm2/schedule", OUTPUT=f"{calls[0][4]}/new", **given)
    assert sorted(parts(failed)) == ["data", "evaluate", "evaluate", *trained]


@pytest.mark.parametrize(("kind", "first", "last"), [("full", 160, 160), ("schedule", 1, 119), ("prefix_8", 8, 8)])
def test_the_prefix_at_the_first_and_the_last_update(kind, first, last):
    node = compose([f"experiment=smollm2/{kind}"]).prefix_opd
    schedule = Settings.from_node(node).schedule
    assert [prefix_lengths(schedule, step, 1, 160) for step in (1, 60)] == [[first], [last]]
    assert node.prompt.thinking == "off" and node.prompt.ending is None


def test_the_table_of_runs(tmp_path):
    accuracy = "val-core/tiny/chain/reward/mean@1"
    full = write_run(
        tmp_path / "full", [{"step": 0, accuracy: 0.1}, update(1, 200.0), update(2, 400.0, **{accuracy: 0.75})]
    )
    short = write_run(tmp_path / "short", [update(1, 100.0, **{accuracy: 0.5})])
    evaluated = tmp_path / "untouched"
    evaluated.mkdir()
    once = {"k": 1, "problems": 64, "mean": 0.75, "interval": [0.632, 0.84], "mean_length": 80.4}
    twice = {**once, "k": 2, "mean": 0.125, "interval": [0.05, 0.25]}
    (evaluated / "results.json").write_text(json.dumps({"benchmarks": {"test": once, "other": twice}}))
    lines = table([full, short], [evaluated]).splitlines()
    assert lines[2] == "| untouched | 64 x 1 | 75.0% | 63.2% to 84.0% |  |  |  | 80 |"
    assert lines[3] == "| untouched | 64 x 2 | 12.5% | 5.0% to 25.0% |  |  |  | 80 |"
    assert lines[4] == "| full | 64 | 75.0% | 63.2% to 84.0% | 2 | 4.00e+02 (100%) | 4 (100%) |  |"
    assert lines[5] == "| short | 64 | 50.0% | 38.1% to 61.9% | 1 | 1.00e+02 (25%) | 2 (50%) |  |"
    with pytest.raises(UserError, match="has no complete validation"):
        table([write_run(tmp_path / "none", [update(1, 1.0)])])


@pytest.mark.parametrize(("name", "value"), [("UPDATES", "0"), ("PROMPTS", "abc"), ("PROBLEMS", "-1"), ("RUNS", "foo")])
def test_a_wrong_variable_ends_before_anything_starts(name, value):
    command = ["bash", str(ROOT / "scripts" / "smollm2.sh")]
    ran = subprocess.run(command, env={**os.environ, "PLATFORM": "cpu", name: value}, capture_output=True, text=True)
    assert ran.returncode == 2 and ran.stdout == ""
    assert ran.stderr.startswith(f"error: {name}={value}: ") and ran.stderr.count("\n") == 1
