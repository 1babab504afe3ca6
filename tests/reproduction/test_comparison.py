"""The comparison of schedules: costs by hand, the page, and the runs that it asks for."""

import json
import re
from dataclasses import asdict, replace
from pathlib import Path

import pytest
from made_up import record

from prefix_opd.base.errors import UserError
from prefix_opd.config.compose import compose
from prefix_opd.config.keys import leaves
from prefix_opd.config.overrides import options
from reproduction.arms import CELLS, CONTENDERS, SECOND, Run
from reproduction.comparison import at_budget, intervals, mean_cost, write_page
from reproduction.driver import main, parse, reproduce
from reproduction.on_policy import overrides
from reproduction.record import key_of


def test_costs_are_linear_between_validations():
    points = record("full", 0, 0.1, 0.3, 0.2, 0.7, flops=30.0).points
    assert at_budget(points, 25.0) == pytest.approx(0.45) and at_budget(points, 99.0) == 0.7
    other = record("full", 1, 0.1, 0.7, flops=10.0).points
    assert mean_cost([points, other], 0.2) == pytest.approx((5.0 + 10 / 6) / 2)
    assert mean_cost([points, record("full", 2, 0.1, 0.2).points], 0.7) is None


def test_intervals_contain_the_cost_and_move_with_the_targets():
    runs = {
        "full": [record("full", seed, 0.1, 0.5, 0.9, flops=20.0).points for seed in (0, 1)],
        "random": [record("random", seed, 0.1, 0.9, flops=10.0).points for seed in (0, 1)],
        "adwin": [record("adwin", 0, 0.1, 0.9, flops=10.0).points],
    }
    found = intervals(runs)
    (low, high), shares = found["full", 0.5]
    # the accuracy of 400 problems at 0.5 moves by 2.5 points: the cost of 0.5 by about 0.6 of 10 FLOP, two seeds less
    assert low < 10 < high and 0.5 < high - low < 3
    assert shares == (1.0, 1.0)
    # half of the gain is at 5 FLOP: half of full OPD's
    assert found["random", 0.5][1][0] < 0.5 < found["random", 0.5][1][1]
    assert ("adwin", 0.5) not in found, "one seed says nothing about seeds"
    assert intervals({"adwin": runs["adwin"]}) == {}
    more = intervals({"schedule": [record("schedule", seed, 0.1, 0.9, flops=10.0).points for seed in (0, 1)], **runs})
    assert {key: more[key] for key in found} == found, "another arm moves no interval"


def test_costs_say_what_they_do_not_know(tmp_path):
    rows = [record("full", seed, 0.0, 0.4, 0.8, flops=20.0) for seed in (0, 1)]
    rows += [record("random", 0, 0.0, 0.5, flops=10.0), record("random", 1, 0.0, 0.1, flops=10.0)]
    rows += [record("adwin", 0, 0.7, 0.9, flops=10.0)]
    text = write_page(rows, tmp_path, "the command").read_text()
    half, most = 0.4, 0.8 * 0.9
    assert f"| FLOP to 50% of full's gain ({half:.1%}) | FLOP to 90% of full's gain ({most:.1%}) |" in text
    assert "| not reached by 1 of 2 seeds | not reached | not reached |" in text
    assert "| 0.00e+00* (one seed) | 1.00e+00* (one seed) |" in text, "no FLOP are a cost, too"
    # 72% at 1 FLOP; full OPD's seed 0 at 18
    assert "| ADWIN | 0% / 0% | 6% / " in text


def test_contenders_are_experiments_that_ship_and_each_has_the_budget():
    assert {arm.experiment for arm in CONTENDERS} <= set(options("experiment"))
    asked = parse(["--contenders", "--seeds", "3"])
    assert [run.arm for run in asked.runs] == list(CONTENDERS)
    assert {run.budget for run in asked.runs if run.arm.name != "full"} == {8e11}
    assert asked.runs[0].budget is None and asked.runs[0].contends


def test_the_second_miniature_has_its_own_experiments_budget_and_files():
    asked = parse(["--contenders", "--task", "cells", "--only", "full", "topk_random"])
    assert [run.arm.experiment for run in asked.runs[:2]] == ["cells/full", "cells/topk_random"]
    assert {arm.experiment for arm in CELLS} <= set(options("experiment"))
    assert asked.results.name == "contenders_cells.jsonl" and asked.out.name == "contenders_cells"
    assert asked.runs[1].budget != parse(["--contenders"]).budget


def test_a_contender_without_an_experiment_of_the_second_miniature_runs_there_too():
    arm = next(arm for arm in CELLS if arm.name == "adwin")
    assert arm.experiment == "tiny/adwin" and arm.more == SECOND
    own, moved = (
        leaves(compose([f"experiment={name}/full", *more])) for name, more in (("cells", ()), ("tiny", SECOND))
    )
    assert {key for key in own if own[key] != moved[key]} == {"trainer.experiment_name"}


def composed(name, tmp_path):
    arm = next(arm for arm in CONTENDERS if arm.name == name)
    return compose(overrides(Run(arm, 2, 55, 64, tmp_path, True, 3e11)))


def test_a_contender_ends_with_its_budget_and_keeps_what_it_observes(tmp_path):
    config = composed("budget", tmp_path)
    assert (config.prefix_opd.flop_budget, config.trainer.total_training_steps) == (3e11, 400)
    assert (config.prefix_opd.probe.every, config.prefix_opd.schedule.over) == (5, 55)
    assert composed("random_growing", tmp_path).prefix_opd.schedule.seed == 2
    assert composed("random_growing", tmp_path).prefix_opd.probe.every == 0
    assert composed("grow_validation", tmp_path).trainer.test_freq == 5
    assert config.trainer.test_freq == 11


def test_other_learning_rates_are_runs_of_their_own(tmp_path):
    asked = parse(["--contenders", "--only", "full", "random", "--seeds", "2", "--lr", "1e-4", "1e-3"])
    assert [run.name for run in asked.runs[:2]] == ["full_lr_0.0001_seed_2", "full_lr_0.001_seed_2"]
    assert {run.budget for run in asked.runs} == {8e11} and len({key_of(run) for run in asked.runs}) == 4
    assert compose(overrides(asked.runs[1])).actor_rollout_ref.actor.optim.lr == 1e-3
    rows = [record("full", 0, 0.0, 0.8, flops=20.0)]
    rows += [replace(record("random", seed, 0.0, 0.7, flops=10.0), budget=10.0) for seed in (0, 1)]
    rows += [replace(record("random", seed, 0.0, 0.1 * seed, flops=10.0), budget=10.0, lr=1e-3) for seed in (1, 2)]
    rows.append(replace(record("adwin", 0, 0.0, 0.5, flops=10.0), budget=10.0, lr=1e-3))
    text = write_page(rows, tmp_path, "the command").read_text()
    assert "| ADWIN |  | 30.0% / 50.0% (1) |" in text, "without a run at its own rate, too"
    # 30% of 20 FLOP are 6 of random's 10; its own rate: 0.6 * 70%; 1e-3: 0.6 * 15%
    assert "| contender | its own | 0.001 |" in text
    assert "| random truncation | 42.0% / 70.0% (2) | 9.0% / 15.0% (2) |" in text
    assert "| random truncation | 2 | 10 | 42.0% | 70.0% | 70.0% to 70.0% |" in text


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--budget", "1e11"], "--budget 1e11: is read with --contenders alone"),
        (["--lr", "1e-4"], "--lr 1e-4: is read with --contenders alone"),
        (["--contenders", "--lr", "fast"], "--lr fast: must be a number above 0, e.g. 1e-3"),
        (["--contenders", "--lr", "1e-3", "0.001"], "--lr 0.001 0.001: names one twice"),
        (["--task", "cells"], "--task cells: is read with --contenders alone"),
        (["--contenders", "--task", "tiny"], "--task: invalid choice: 'tiny'"),
        (["--contenders", "--budget", "0"], "--budget 0: must be a number above 0"),
        (["--contenders", "--budget", "much"], "--budget much: must be a number above 0"),
        (["--contenders", "--only", "seqkd"], "--only seqkd: is no arm; known: full, prefix_12"),
    ],
)
def test_bad_input_is_one_line(arguments, said, capsys):
    assert main(arguments) == 2
    err = capsys.readouterr().err
    assert err.startswith("error: ") and said in err and err.count("\n") == 1


def test_finished_runs_make_the_page(tmp_path, capsys):
    docs, out = tmp_path / "docs", tmp_path / "runs"
    docs.mkdir()
    rows = [record("full", seed, 0.0, 0.4, 0.8, flops=20.0) for seed in (0, 1)]
    rows += [replace(record("random", seed, 0.0, 0.5, 0.7, flops=10.0), budget=10.0) for seed in (0, 1)]
    (docs / "contenders.jsonl").write_text("".join(json.dumps(asdict(one)) + "\n" for one in rows))
    asked = ["--contenders", "--budget", "10", "--only", "full", "random", "--seeds", "0", "1", "--updates", "20"]
    asked += ["--problems", "400", "--out", str(out), "--docs", str(docs)]
    assert reproduce(parse(asked), "the command") == 0
    assert capsys.readouterr().out.count("there already") == 4
    text = (docs / "contenders.md").read_text()
    # 30% of 20 FLOP are 6; half of full's gain, 40%: full at 10 FLOP; random at 0.4 / 0.5 of its first 5
    assert "| full OPD | 2 | 20 | 24.0% | 40.0% | 80.0% to 80.0% | 1.00e+01* (" in text
    assert "| random truncation | 2 | 20 | 54.0% | 70.0% | 70.0% to 70.0% | 4.00e+00* (" in text
    assert "not reached" in text
    assert "| random truncation | 40% (" in text and ") / 80% | – / – | – / – |" in text
    assert "| full OPD | 100% / 100% |" in text
    assert (docs / "contenders.png").stat().st_size > 10_000
    with pytest.raises(UserError, match="--only prefix_3: is no arm"):
        parse(["--contenders", "--only", "prefix_3"])


def test_readme_and_docs_quote_the_published_intervals():
    docs = Path(__file__).parents[2] / "docs"
    for page in ("contenders.md", "contenders_cells.md"):
        for label in ("full OPD, top 16", "random truncation, top 16"):
            rows = re.findall(rf"^\| {label} \| .*%.*", (docs / "reproduction" / page).read_text(), re.MULTILINE)
            share, low, high, seconds = re.findall(r"\d+", rows[-1].split(" | ")[-1])  # FLOP and seconds to 98%
            quoted = f"{share}% ({low}–{high}) / {seconds}%"
            for text in ("../README.md", "schedules.md"):
                assert quoted in (docs / text).read_text().replace("*", ""), (page, label, text)
