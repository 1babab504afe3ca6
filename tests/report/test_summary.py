"""The table of a run, from a folder written by hand."""

import json
from dataclasses import replace

import pytest
from omegaconf import OmegaConf
from written_runs import ACCURACY, ANSWER_LENGTH, update

from prefix_opd.base.errors import UserError
from prefix_opd.base.intervals import wilson
from prefix_opd.config.compose import compose
from prefix_opd.config.models import Model
from prefix_opd.method import names
from prefix_opd.method.flops import exact_flops
from prefix_opd.miniature import shipped_models
from prefix_opd.report.page import write_report
from prefix_opd.report.summary import picture, render, summarise
from prefix_opd.run.events import EventLog


def row(step, prefix, flops, **more):
    return {
        **update(step, flops, prefix),
        names.SECONDS_SINCE_START: 30.0 + 2 * step,
        # 2 prompts x 2 rollouts of 10 prompt tokens, and a response of `prefix` tokens each
        names.TOKENS_SCORED: 4 * 10 + 4 * prefix,
        names.TOKENS_GENERATED: 4 * prefix,
        **more,
    }


@pytest.fixture
def run(tmp_path):
    config = compose(["experiment=tiny/schedule", "data.train_batch_size=2", "actor_rollout_ref.rollout.n=2"])
    OmegaConf.save(config, tmp_path / "config.yaml", resolve=True)
    lines = [
        {"step": 0, ACCURACY: 0.25, ANSWER_LENGTH: 100.0},
        row(1, 1, 1e9),
        row(2, 5, 3e9, **{ACCURACY: 0.75, ANSWER_LENGTH: 120.0}),
    ]
    (tmp_path / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    (tmp_path / "validation").mkdir()
    for step in (0, 2):
        answers = [json.dumps({"input": f"{i}", "output": "", "score": 0.0}) + "\n" for i in range(64)]
        (tmp_path / "validation" / f"{step}.jsonl").write_text("".join(answers))
    return tmp_path


def test_before_after_and_what_it_took(run):
    found = summarise(run)
    assert (found.steps, found.flops) == (2, 3e9)
    assert [(e.step, e.accuracy, e.samples, e.flops) for e in found.evaluations] == [
        (0, 0.25, 64, 0.0),
        (2, 0.75, 64, 3e9),
    ]
    assert found.prefix_lengths == [(1, 1, 1e9), (2, 5, 3e9)]


def test_full_opd_is_estimated_from_uncapped_answers(run):
    shape = Model("student", str(shipped_models()["student"])).shape
    # lengths between the validations at steps 0 (100 tokens) and 2 (120 tokens): 110 at step 1, 120 at step 2
    expected = sum(exact_flops(shape, shape, [10] * 4, [length] * 4).total for length in (110, 120))
    assert summarise(run).full_flops == pytest.approx(expected)


@pytest.mark.parametrize("batches", [(1, 2), (2, 2)])
def test_the_estimate_of_full_opd_counts_no_prompt_of_a_discarded_batch_and_no_tool_output(run, batches):
    """The token counts of an update are those of its batches, with 3 tokens of tool outputs in each rollout."""
    expected = summarise(run).full_flops
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    for line, times in zip(lines[1:], batches, strict=True):
        line[names.TOKENS_SCORED] = times * (line[names.TOKENS_SCORED] + 4 * 3)
        line[names.TOKENS_GENERATED] *= times
        line |= {names.TOOL_TOKENS: 3.0, names.THROWN_AWAY: times - 1}
    (run / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert summarise(run).full_flops == pytest.approx(expected)


def test_full_opd_recomputes_log_probs_as_the_run_does(run):
    config = OmegaConf.load(run / "config.yaml")
    config.prefix_opd.advantage.student_log_prob = "recomputed"
    without = summarise(run).full_flops
    OmegaConf.save(config, run / "config.yaml")
    # of equal models: 3 passes for the update, 1 each for sampling and the teacher, and 1 more
    assert summarise(run).full_flops == pytest.approx(without * 6 / 5)


def test_a_lora_student_is_named_and_its_full_opd_trains_the_adapter(run):
    config = OmegaConf.load(run / "config.yaml")
    config.actor_rollout_ref.model.lora_rank = 16
    OmegaConf.save(config, run / "config.yaml")
    shape = Model("student", str(shipped_models()["student"])).shape
    student = replace(shape, adapter=90_112)  # tests/method/test_lora.py
    expected = sum(exact_flops(student, shape, [10] * 4, [length] * 4).total for length in (110, 120))
    found = summarise(run)
    assert found.full_flops == pytest.approx(expected)
    assert "2 updates, LoRA of rank 16" in str(render(found).title)


def test_wilson_by_hand():
    # 50% of 100: 0.5 +- 1.96 * sqrt(0.25/100 + 1.96^2 / 40000) / (1 + 1.96^2 / 100) = 0.5 +- 0.0962
    low, high = wilson(0.5, 100)
    assert (low, high) == (pytest.approx(0.4038, abs=1e-4), pytest.approx(0.5962, abs=1e-4))
    assert wilson(0.1, 100) == (pytest.approx(0.0552, abs=1e-4), pytest.approx(0.1744, abs=1e-4))
    assert wilson(0.0, 0) == (0.0, 1.0)


def test_table_and_picture(run):
    from rich.console import Console

    found = summarise(run)
    console = Console(width=120, record=True, file=open("/dev/null", "w"))  # noqa: SIM115
    console.print(render(found, teacher=(0.96, 256)))
    text = console.export_text()
    for piece in ("teacher", "96.0%", "student before", "25.0%", "student after", "75.0%", "3.00e+09"):
        assert piece in text
    assert picture(found).read_bytes().startswith(b"\x89PNG")


def test_a_folder_without_a_run_is_refused(tmp_path):
    with pytest.raises(UserError, match="is not a run's folder"):
        summarise(tmp_path)


def test_warnings_and_thrown_away_batches_are_counted(run):
    watched = {"prefix_opd/watch/warned": 2, "prefix_opd/watch/thrown_away": 1}
    with (run / "metrics.jsonl").open("a") as lines:
        lines.writelines(json.dumps(row(step, 9, 5e9, **watched)) + "\n" for step in (3, 4))
    found = summarise(run)
    assert (found.warnings, found.thrown_away) == (4, 2)
    assert "Watchers: 4 warnings, 2 batches thrown away" in render(found).caption
    # events of step 4 that its metrics count already, one more of step 3 (a tail), and one of a step without a line
    events = EventLog(run)
    for step in (4, 4, 3, 3, 3, 7):
        events.warn(step, "look")
    assert summarise(run).warnings == 2 + 3 + 1
    # the run goes on from step 3: what was said of later steps counts no more, what their metrics say does
    events.milestone("engines are ready", 3)
    assert summarise(run).warnings == 3 + 2


def test_a_run_of_another_version_is_refused(run):
    line = {name: value for name, value in row(3, 9, 4e9).items() if not name.endswith("tokens/scored")}
    with (run / "metrics.jsonl").open("a") as lines:
        lines.write(json.dumps(line) + "\n")
    with pytest.raises(UserError, match="another version: its updates have no prefix_opd/tokens/scored"):
        summarise(run)


def test_a_row_for_each_of_several_teachers(run):
    node = "+distillation.teacher_models"
    named = {"a": ("sums", "teacher"), "b": ("openai/gsm8k", "student")}
    entries = [f"{node}.{name}.key={source}" for name, (source, _) in named.items()]
    entries += [f"{node}.{name}.model_path={shipped_models()[role]}" for name, (_, role) in named.items()]
    OmegaConf.save(compose(["experiment=tiny/schedule", *entries]), run / "config.yaml", resolve=True)

    def scored(source, kl, tokens):
        values = {"reverse_kl/abs_mean": kl, "tokens": tokens, "flops_exact": 1e6 * tokens}
        return {f"prefix_opd/teacher/{source}/{name}": value for name, value in values.items()}

    lines = [
        row(1, 1, 1e9, **scored("sums", 2.0, 30), **scored("openai/gsm8k", 0.5, 20)),
        row(2, 5, 3e9, **scored("sums", 1.25, 50)),  # no rollout of the other source in this update
    ]
    (run / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    found = summarise(run).teachers
    assert [(one.source, one.tokens, one.flops, one.first, one.last) for one in found] == [
        ("sums", 80, 8e7, 2.0, 1.25),
        ("openai/gsm8k", 20, 2e7, 0.5, 0.5),
    ]
    told = "Teacher of sums: 80 tokens, 8.00e+07 FLOP, mean |reverse KL| 2.000 to 1.250 nats."
    assert told in str(render(summarise(run)).caption)
    page = write_report([run])[0].read_text()
    assert "<th>openai/gsm8k</th>" in page and "<td>2.00e+07</td>" in page
