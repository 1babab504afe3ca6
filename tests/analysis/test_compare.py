"""Runs beside the paper's rows."""

import json

import pytest
from typer.testing import CliRunner

from prefix_opd import cli
from prefix_opd.analysis.compare import compare, from_evaluation, from_run, paper_run, read
from prefix_opd.base.errors import UserError
from prefix_opd.config.compose import compose
from prefix_opd.method.paper import BENCHMARKS, TABLE, PaperRow, rows
from prefix_opd.run.log import RunLog

EVALUATION = {
    "name": "qwen3_8b_prefix_256",
    "step": 60,
    "benchmarks": {
        "aime2024": {"mean": 0.31, "k": 16, "interval": [0.19, 0.44]},
        "math500": 0.82,
        "gpqa-main": 0.36,
        "gpqa-diamond": 0.5,
        "gsm8k": 0.9,
    },
}


@pytest.fixture
def folder(tmp_path):
    """A run of 20 updates, validated at 0, 10 and 20; AIME-24 is best at 10."""
    log = RunLog(tmp_path)
    for step in range(21):
        line = {}
        if step:
            line = {"prefix_opd/flops_paper/so_far": step * 5.7e16, "prefix_opd/seconds/step": 360.0}
        if step % 10 == 0:
            share = {0: 0.05, 10: 0.30, 20: 0.25}[step]
            line |= {"val-core/aime2024/reward/mean@16": share, "val-core/math500/acc/mean@4": 0.5 + step / 100}
        log.log(line, step)
    log.finish()
    (tmp_path / "config.yaml").write_text(
        "trainer: {experiment_name: qwen3_8b_prefix_256}\nactor_rollout_ref: {model: {path: Qwen/Qwen3-8B-Base}}\n"
        "prefix_opd: {schedule: {name: constant, length: 256}}\n"
    )
    return tmp_path


def test_a_lora_student_is_named_beside_the_papers_rows(folder):
    config = folder / "config.yaml"
    config.write_text(config.read_text().replace("Qwen3-8B-Base", "Qwen3-8B-Base, lora_rank: 32"))
    told = "LoRA of rank 32, where the paper trains all weights"
    assert told in from_run(folder).notes and told in from_evaluation({**EVALUATION, "lora": "LoRA of rank 32"}).notes


def run(*arguments):
    return CliRunner(env={"COLUMNS": "200"}).invoke(cli.app(), ["compare", *map(str, arguments)])


def test_the_papers_tables_are_whole():
    assert len(TABLE) == 20
    assert [row.run for row in rows("8b")] == [row.run for row in rows("1.7b")]
    assert rows("8b")[3] == PaperRow("8b", "prefix 256", (82.0, 30.8, 26.3, 35.5, 58.9), 3.4e18, 3.2)
    assert all(len(row.accuracy) == len(BENCHMARKS) for row in TABLE)


def test_an_evaluation():
    result = from_evaluation(EVALUATION)
    assert (result.size, result.paper_run, result.step) == ("8b", "prefix 256", 60)
    assert result.scores["AIME24"].mean == pytest.approx(31.0)
    assert (result.scores["AIME24"].k, result.scores["AIME24"].low) == (16, pytest.approx(19.0))
    assert result.scores["MATH500"].mean == pytest.approx(82.0)
    # of both parts of GPQA the main one
    assert result.scores["GPQA"].mean == pytest.approx(36.0)
    assert result.notes == ["gsm8k is not in the paper"]


def test_a_run_stands_at_its_best_aime24_as_in_the_paper(folder):
    result = from_run(folder)
    assert (result.name, result.size, result.paper_run, result.step) == ("qwen3_8b_prefix_256", "8b", "prefix 256", 10)
    assert result.scores["AIME24"].mean == pytest.approx(30.0)
    # ten updates of 5.7e16 FLOP and six minutes
    assert result.flop == pytest.approx(5.7e17)
    assert result.hours == pytest.approx(1.0)


def test_a_run_at_a_step_of_ones_choice(folder):
    assert from_run(folder, step=20).scores["MATH500"].mean == pytest.approx(70.0)
    with pytest.raises(UserError, match="--step 7: .* has no complete validation there; it has 0, 10, 20"):
        from_run(folder, step=7)


def test_an_incomplete_validation_is_not_chosen(folder):
    """The best AIME-24, at step 10, is the mean of the answers that came back: step 20 is the best complete one."""
    path = folder / "metrics.jsonl"
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    lines[10]["prefix_opd/watch/validation_missing"] = 3
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    result = from_run(folder)
    assert (result.step, result.scores["AIME24"].mean) == (20, pytest.approx(25.0))
    assert result.notes == ["step 20 has the best AIME24 of 2, as in the paper"]
    with pytest.raises(UserError, match="--step 10: .* has no complete validation there; it has 0, 20"):
        from_run(folder, step=10)


def test_a_run_stands_below_its_row_and_a_stranger_at_the_end(folder):
    stranger = from_evaluation({"name": "mine", "benchmarks": {"math500": 0.5}})
    (table,) = compare([stranger, from_run(folder)])
    names = [getattr(line, "run", None) or line.name for line in table.lines]
    at = names.index("qwen3_8b_prefix_256")
    assert names[at - 1] == "prefix 256" and names[-1] == "mine"
    assert len(names) == 12


@pytest.mark.parametrize(
    ("name", "size", "row"),
    [
        ("qwen3_1.7b_schedule", "1.7b", "prefix schedule"),
        ("qwen3_8b_full", "8b", "OPD full"),
        ("qwen3_8b_prefix_2048", "8b", "prefix 2048"),
        ("qwen3_8b_window_0_1024", "8b", None),
        ("qwen3_8b_schedule_off", "8b", None),
        ("qwen3_1.7b_schedule_template", "1.7b", None),
        ("qwen3_8b_forward_kl_256", "8b", None),
        ("qwen3_1.7b_topk_schedule", "1.7b", None),
        ("qwen3_8b_iw_opd_schedule", "8b", None),
        ("qwen3_8b_schedule_full_last", "8b", None),
        ("outputs/qwen3_8b_full", "8b", "OPD full"),
        ("qwen3_18b", None, None),
        ("carefully", None, None),
    ],
)
def test_what_a_name_says(name, size, row):
    result = from_evaluation({"name": name, "benchmarks": {"math500": 0.5}})
    assert (result.size, result.paper_run) == (size, row)


IW_OPD = "distillation.distillation_loss.loss_mode=iw_opd"


@pytest.mark.parametrize(
    ("overrides", "row"),
    [
        (["experiment=qwen3_1.7b/schedule"], "prefix schedule"),
        (["experiment=qwen3_1.7b/schedule", IW_OPD], None),
        (["experiment=qwen3_1.7b/schedule", "prefix_opd.schedule.full_from=51"], None),
        (["experiment=qwen3_1.7b/schedule", "prefix_opd.schedule.full_every=5"], None),
        (["experiment=qwen3_1.7b/schedule", "prefix_opd.schedule.increment=64"], None),
        (["experiment=qwen3_1.7b/schedule", "prefix_opd.schedule.maximum=4096"], None),
        (["experiment=qwen3_1.7b/topk_schedule"], None),
        (["experiment=qwen3_1.7b/schedule_template"], None),
        (["experiment=qwen3_1.7b/lora_schedule"], "prefix schedule"),
        (["experiment=qwen3_1.7b/prefix_1024"], "prefix 1024"),
        (["experiment=qwen3_1.7b/lr_2e-4"], None),
        (["experiment=qwen3_1.7b/prefix_1024", "prefix_opd.schedule.length=300"], None),
        (["experiment=qwen3_1.7b/full"], "OPD full"),
        (["experiment=qwen3_1.7b/last_1024"], None),
        (["experiment=qwen3_1.7b/auto"], None),
    ],
)
def test_what_a_config_says(overrides, row):
    assert paper_run(compose(overrides)) == row


def test_an_evaluation_of_a_run_says_its_method():
    named = {"name": "qwen3_8b_schedule", "benchmarks": {"math500": 0.5}}
    assert from_evaluation({**named, "paper_run": ""}).paper_run is None
    assert from_evaluation({**named, "name": "mine", "paper_run": "OPD full"}).paper_run == "OPD full"


def test_the_command(folder, tmp_path):
    file = tmp_path / "evaluation.json"
    file.write_text(json.dumps(EVALUATION))
    result = run(folder, file)
    assert result.exit_code == 0
    # ours 30.0 and 31.0 against 30.8
    assert "30.0 (-0.8)" in result.stdout and "31.0 (+0.2)" in result.stdout
    assert "gsm8k is not in the paper" in result.stdout
    tables = json.loads(run(folder, "--json").stdout)
    ours = [row for row in tables[0]["rows"] if row["from"] == "here"]
    assert [row["name"] for row in ours] == ["qwen3_8b_prefix_256"]


def test_without_runs_it_shows_both_tables_of_the_paper():
    tables = json.loads(run("--json").stdout)
    assert [(table["size"], len(table["rows"])) for table in tables] == [("1.7b", 10), ("8b", 10)]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "is not JSON"),
        ("[]", "has no benchmarks"),
        ("{}", "has no benchmarks"),
        ('{"benchmarks": {"math500": 82.0}}', "math500 mean=82.0: must be a share between 0 and 1"),
        ('{"benchmarks": {"math500": {"k": 4}}}', "math500 mean=None: must be a share"),
    ],
)
def test_a_broken_evaluation_is_named(tmp_path, text, message):
    file = tmp_path / "e.json"
    file.write_text(text)
    with pytest.raises(UserError) as raised:
        read(file)
    assert message in str(raised.value)


def test_bad_input(tmp_path, folder):
    with pytest.raises(UserError, match="does not exist"):
        read(tmp_path / "none")
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="it has no metrics.jsonl"):
        read(tmp_path / "empty")
    with pytest.raises(UserError, match="--size 3b: is not one of 1.7b, 8b"):
        compare([from_run(folder)], size="3b")
