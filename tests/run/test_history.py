"""A run's folder as the analyses and the report read it."""

import json

import pytest
from written_runs import ACCURACY, update

from prefix_opd.analysis.compute import compute
from prefix_opd.analysis.figures import error_bars
from prefix_opd.base.errors import UserError
from prefix_opd.base.intervals import wilson
from prefix_opd.method.names import NEEDED
from prefix_opd.report.page import write_report
from prefix_opd.report.summary import render, summarise
from prefix_opd.run.folder import hold
from prefix_opd.run.history import read_finished


@pytest.mark.parametrize(
    ("settings", "is_full"),
    [
        ({}, True),
        ({"prefix_opd.schedule.name": "linear"}, False),
        ({"prefix_opd.schedule.maximum": 191}, False),
        ({"prefix_opd.schedule.maximum": 192}, True),
        # as in tiny/last_24: whole rollouts, of which the last tokens teach
        ({"prefix_opd.weighting.name": "last"}, False),
        ({"distillation.distillation_loss.loss_mode": "forward_kl_topk"}, False),
        ({"distillation.distillation_loss.loss_mode": "k2"}, True),
        # their gradients are those of the forward KL and of the total variation
        ({"distillation.distillation_loss.loss_mode": "k3"}, False),
        ({"distillation.distillation_loss.loss_mode": "abs"}, False),
    ],
)
def test_what_full_opd_is(make_run, settings, is_full):
    folder = make_run("one", [update(1, 1e9, **{ACCURACY: 0.5})], **{"prefix_opd.schedule.name": "full", **settings})
    history = read_finished(folder)
    assert history.is_full_opd is is_full
    assert compute([history]).reference == ("one" if is_full else None)


def test_a_run_that_cannot_be_read_is_one_line(run, make_run, tmp_path):
    with pytest.raises(UserError, match="is not a run's folder: it has no config.yaml"):
        read_finished(tmp_path)
    with pytest.raises(UserError, match="has no metrics of an update yet"):
        read_finished(make_run("validated", [{"step": 0, ACCURACY: 0.1}]))
    for name in NEEDED:
        older = {key: value for key, value in update(1, 1.0).items() if key != name}
        # the last update alone does not tell
        with pytest.raises(UserError, match=f"was written by another version.*{name}"):
            read_finished(make_run(f"older/{name}", [older, update(2, 1.0)]))
    held = hold(run)
    with pytest.raises(UserError, match="its run is still going on"):
        read_finished(run)
    with pytest.raises(UserError, match="another run is writing to it"):
        hold(run)
    held.close()
    assert read_finished(run).name == "schedule_0"


@pytest.mark.parametrize(
    ("file", "text", "told"),
    [
        (
            "metrics.jsonl",
            '["a", "b"]\n',
            "metrics.jsonl: has a line that is not an object of numbers with a step: ['a'",
        ),
        ("metrics.jsonl", '{"loss": 0.5}\n', "is not an object of numbers with a step: {'loss'"),
        ("metrics.jsonl", '{"step": 1, "prefix_opd/prefix_length": "long"}\n', "is not an object of numbers"),
        ("metrics.jsonl", "no JSON\n", "metrics.jsonl, line 1: is not JSON"),
        ("config.yaml", "- a\n- b\n", "its config.yaml is not from prefix-opd: it has no trainer.experiment_name"),
        ("config.yaml", "trainer: {experiment_name: other}\n", "it has no data.max_response_length"),
        ("config.yaml", "trainer: 3\n", "it has no trainer.experiment_name"),
        ("config.yaml", "a: [\n", "its config.yaml is not from prefix-opd: it cannot be read"),
        ("config.yaml", "just words\n", "it has no trainer.experiment_name"),
        ("validation/2.jsonl", '{"text": "a"}\n', "2.jsonl: has a line that is not a graded answer: {'text'"),
        ("validation/2.jsonl", '{"input": "a", "output": "b", "score": null}\n', "is not a graded answer"),
        ("validation/2.jsonl", "[1]\n", "is not a graded answer"),
        ("validation/2.jsonl", "no JSON\n", "2.jsonl, line 1: is not JSON"),
    ],
)
def test_files_of_other_programs_are_one_line(run, file, text, told):
    (run / file).write_text(text)
    with pytest.raises(UserError) as raised:
        compute([read_finished(run)])
    assert told in str(raised.value)


def test_the_interval_is_over_problems_where_each_has_several_answers(make_run):
    """Two problems, one always right and one always wrong: a resample of two gives 0, 0.5 or 1."""
    answers = [{"input": problem, "output": "?", "score": score} for problem, score in (("a", 1.0), ("b", 0.0))] * 32
    histories = []
    for name, n in {"several": 32, "one_each": 1}.items():
        lines = [update(1, 1e9, **{ACCURACY: 0.5})]
        folder = make_run(name, lines, **{"actor_rollout_ref.rollout.val_kwargs.n": n})
        (folder / "validation" / "1.jsonl").write_text("".join(json.dumps(answer) + "\n" for answer in answers))
        histories.append(read_finished(folder))
    several, one_each = (history.evaluations[0] for history in histories)
    assert (several.samples, several.interval) == (64, (0.0, 1.0))
    assert (one_each.samples, one_each.interval) == (64, wilson(0.5, 64))
    assert set(compute(histories[:1]).as_dict()["runs"]["several"][0]) == {
        *("step", "accuracy", "samples", "mean_length", "flops", "paper_flops", "seconds", "interval")
    }


def test_a_run_that_never_answers_right_has_an_interval(make_run):
    """30 problems x 16, all wrong: z^2 / (30 + z^2) with z = 1.96."""
    folder = make_run("wrong", [update(1, 1e9, **{ACCURACY: 0.0})], **{"actor_rollout_ref.rollout.val_kwargs.n": 16})
    answers = [{"input": f"{i}", "output": "?", "score": 0.0} for i in range(30)] * 16
    (folder / "validation" / "1.jsonl").write_text("".join(json.dumps(answer) + "\n" for answer in answers))
    assert read_finished(folder).evaluations[0].interval == (0.0, pytest.approx(3.8416 / 33.8416))


@pytest.mark.parametrize("n", [1, 4])
def test_several_data_sets_have_no_interval(make_run, n):
    """30 and 500 problems, all pooled, would give +- 4 points: the mean of the two data sets has +- 9."""
    accuracies = {f"val-core/{name}/reward/mean@{n}": share for name, share in (("aime2024", 0.2), ("math500", 0.6))}
    folder = make_run("two", [update(1, 1e9, **accuracies)], **{"actor_rollout_ref.rollout.val_kwargs.n": n})
    answers = [{"input": f"{i}", "output": "?", "score": float(i % 2)} for i in range(530)] * n
    (folder / "validation" / "1.jsonl").write_text("".join(json.dumps(answer) + "\n" for answer in answers))
    history = read_finished(folder)
    (one,) = history.evaluations
    assert (one.accuracy, one.samples, one.interval, one.over_problems) == (pytest.approx(0.4), 530 * n, None, None)
    assert compute([history]).as_dict()["runs"]["two"][0]["interval"] is None
    assert error_bars([one]) == ([0.0], [0.0])
    assert [list(column.cells)[0] for column in render(summarise(folder)).columns][:3] == ["student after", "40.0%", ""]
    page = write_report([folder], folder / "report.html")[0].read_text()
    assert "40.0% after step 1; 1 updates" in page and "<td>40.0%</td>\n        <td></td>" in page


@pytest.mark.parametrize("n", [1, 2])
def test_scores_that_are_no_shares_have_no_interval(make_run, n):
    """A grader of the user's may give -1 for a wrong and 1 for a right answer; a proportion's interval is no interval
    of their mean. A report and a summary are written all the same."""
    line = {"val-core/mine/reward/mean@1": -0.5}
    settings = {"actor_rollout_ref.rollout.val_kwargs.n": n}
    folder = make_run("signed", [update(1, 1e9, **line), update(2, 2e9, **line)], **settings)
    (folder / "validation").mkdir(exist_ok=True)
    answers = [{"input": f"{i}", "output": "?", "score": score} for i, score in enumerate([-1, -1, -1, 1])] * n
    (folder / "validation" / "2.jsonl").write_text("".join(json.dumps(answer) + "\n" for answer in answers))
    before, after = read_finished(folder).evaluations
    assert [(one.accuracy, one.interval) for one in (before, after)] == [(-0.5, None)] * 2
    render(summarise(folder))
    write_report([folder])
