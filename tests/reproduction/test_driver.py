"""What the command line takes and refuses, and what is done again."""

import json
from dataclasses import asdict, replace

import pytest
from made_up import prefixes, record, whole
from written_runs import ACCURACY, update, write_run

from harness.store import Store
from prefix_opd.base.errors import UserError
from prefix_opd.config.compose import compose
from prefix_opd.config.overrides import options
from prefix_opd.method import names
from reproduction import seqkd
from reproduction.arms import ARMS, BY_NAME, UPDATES, Run
from reproduction.driver import main, parse, reproduce, stages
from reproduction.on_policy import overrides
from reproduction.prefixes import file_of, read
from reproduction.record import RESULTS_FILE, Record, check_folder, comparable, failed, gather, keep, key
from reproduction.report import CAPTIONS


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--only", "prefix_5"], "--only prefix_5: is no arm; known: full, prefix_3"),
        (["--only", "full", "full"], "--only full full: names one twice"),
        (["--seeds", "-1"], "--seeds"),
        (["--seeds", "0", "x"], "--seeds x: must be a whole number of at least 0"),
        (["--seeds", "1", "1"], "--seeds 1 1: names one twice"),
        (["--updates", "0"], "--updates 0: must be a whole number of at least 1"),
        (["--updates", "2.5"], "--updates 2.5: must be a whole number"),
        (["--problems", "513"], "--problems 513: must be a whole number of at least 1 and at most 512"),
        (["--update", "4"], "unrecognized arguments: --update 4"),
        (["--out", __file__], "is a file"),
    ],
)
def test_bad_input_is_one_line_and_exit_code_2(arguments, said, capsys):
    assert main(arguments) == 2
    err = capsys.readouterr().err
    assert err.startswith("error: ") and said in err and err.count("\n") == 1


def test_every_arm_and_three_seeds_by_default():
    asked = parse([])
    assert [run.name for run in asked.runs[:2]] == ["full_seed_0", "prefix_3_seed_0"]
    assert len(asked.runs) == 3 * len(ARMS)
    assert {(run.updates, run.problems) for run in asked.runs} == {(UPDATES, 512)}


def test_small_is_smaller_and_keeps_away_from_the_published_results():
    small, all_of_it = parse(["--small"]), parse([])
    assert len(small.runs) * small.updates < len(all_of_it.runs) * all_of_it.updates / 10
    assert small.problems == all_of_it.problems
    assert small.docs != all_of_it.docs and small.out != all_of_it.out
    assert parse(["--small", "--updates", "6", "--seeds", "4"]).runs[0].updates == 6


def test_the_arms_are_experiments_that_ship():
    assert {arm.experiment for arm in ARMS if arm.experiment} <= set(options("experiment"))


def test_an_on_policy_run_has_its_seed_and_the_same_updates_as_any(tmp_path):
    config = compose(overrides(Run(BY_NAME["last_24"], 7, 10, 64, tmp_path)))
    assert config.trainer.total_training_steps == 10
    assert config.data.train_batch_size * config.actor_rollout_ref.rollout.n == 64
    assert (config.data.seed, config.actor_rollout_ref.rollout.seed, config.data.val_max_samples) == (7, 7, 64)
    assert config.actor_rollout_ref.rollout.val_kwargs.temperature == 1.0
    assert config.trainer.default_local_dir == str(tmp_path / "last_24_seed_7")


def test_seqkd_goes_on_at_the_stage_that_is_missing(tmp_path):
    run = Run(BY_NAME["seqkd"], 0, 2, 8, tmp_path)
    train, evaluate = "train", ["plan the evaluation", "evaluate"]
    answers = ["plan the teacher's answers", "the teacher answers"]
    assert [name for name, _ in stages(run)] == [*answers, train, *evaluate]
    seqkd.answers_folder(run).mkdir()
    (seqkd.answers_folder(run) / "results.json").write_text("{}")
    assert [name for name, _ in stages(run)] == [train, *evaluate]
    run.folder.mkdir()
    (run.folder / seqkd.SPENT_FILE).write_text("{}")
    assert [name for name, _ in stages(run)] == evaluate


def test_seqkds_flop_by_hand():
    from prefix_opd.method.flops import ModelShape
    from prefix_opd.method.layers import Attention, Mlp

    shape = ModelShape(2, 5, ((Attention(1, 1, 2), Mlp(3)),))  # N = 2 * (2*2 + 2*2) + 3*2*3 + 2*5*2 = 54
    # 6 N S + 6 S^2 * 2: S = 5 is 1620 + 300 = 1920, a forward pass 640; S = 3 alone 972 + 108 = 1080
    assert seqkd.seqkd_flops(shape, shape, [2], [3]) == (640 + 1920, 1080)


def stored(folder, records):
    """A store with rows of these records."""
    store = Store(folder / RESULTS_FILE, key)
    for one in records:
        store.append(asdict(one))
    return store


def kept(folder, records):
    """Run folders with these records."""
    for one in records:
        run = folder / f"{one.arm}_seed_{one.seed}"
        run.mkdir(parents=True)
        (run / "record.json").write_text(json.dumps(asdict(one)) + "\n")


def test_records_come_back_as_they_were_written(tmp_path):
    records = whole()
    found = comparable(stored(tmp_path, reversed(records)), 40, 400)
    assert found == sorted(records, key=lambda one: one.seed), "seed by seed, in the arms' order"


def test_runs_of_another_length_are_not_compared(tmp_path):
    store = stored(tmp_path, [record("full", 0, 0.0, 0.5), record("full", 1, 0.0, 0.5, problems=64)])
    assert [one.seed for one in comparable(store, 10, 400)] == [0]
    assert comparable(store, 20, 400) == []


def test_a_finished_run_is_not_run_again(tmp_path, capsys):
    """If every run is finished, nothing is imported and the report is written."""
    (tmp_path / "docs").mkdir()
    for kind, shares in (("teacher-prefix", {0: 0.05, 12: 0.3}), ("student-prefix", {0: 0.9, 12: 0.2})):
        found = prefixes(kind, shares)
        file_of(kind, tmp_path / "docs").write_text(json.dumps(found.as_dict()))
        assert read(tmp_path / "docs")[kind] == found
    kept(tmp_path / "runs", whole())
    asked = ["--seeds", "0", "1", "--updates", "40", "--problems", "400"]
    asked += ["--out", str(tmp_path / "runs"), "--docs", str(tmp_path / "docs")]
    assert reproduce(parse(asked), "the command") == 0
    assert capsys.readouterr().out.count("there already") == 2 * len(ARMS)
    assert len((tmp_path / "docs" / RESULTS_FILE).read_text().splitlines()) == 2 * len(ARMS)
    text = (tmp_path / "docs" / "results.md").read_text()
    assert "8. Reverse KL is stronger than forward KL on a prefix: holds" in text
    assert "2. A teacher's prefix helps the untrained student: holds" in text
    assert "| 12 | 20.0% | 16.4 to 24.2 | 70.0% |" in text
    assert "| full OPD | 75.0% | 70.5 to 79.0 | 2: 75.0 to 75.0 | 1.00e+02 |" in text
    assert str(tmp_path) not in text
    assert text.count("](") == 8, "seven pictures and the rows"
    for picture in CAPTIONS:
        assert f"]({picture})" in text and (tmp_path / "docs" / picture).stat().st_size > 10_000
    with pytest.raises(UserError, match="--updates 41: .* holds a run with 40"):
        reproduce(parse([*asked, "--updates", "41"]), "the command")


def test_results_from_another_machine_count_and_a_part_replaces_nothing(tmp_path, capsys):
    """The committed results have the runs of all arms but one, and the folder has only the runs of that arm."""
    docs, out = tmp_path / "docs", tmp_path / "runs"
    for kind in ("teacher-prefix", "student-prefix"):
        docs.mkdir(exist_ok=True)
        file_of(kind, docs).write_text(json.dumps(prefixes(kind, {0: 0.05, 12: 0.3}).as_dict()))
    store = stored(docs, [one for one in whole() if one.arm != "prefix_3"])
    kept(out, [one for one in whole() if one.arm == "prefix_3"])
    settings = ["--updates", "40", "--problems", "400", "--out", str(out), "--docs", str(docs)]
    assert reproduce(parse(["--only", "prefix_3", "full", "--seeds", "0", "1", *settings]), "the command") == 0
    assert capsys.readouterr().out.count("there already") == 4
    assert len(store.read()) == len(comparable(store, 40, 400)) == 2 * len(ARMS)


def test_a_run_that_lacks_its_last_validation_is_not_finished(tmp_path):
    run = Run(BY_NAME["seqkd"], 0, 2, 8, tmp_path)
    (run.folder / seqkd.EVALUATION).mkdir(parents=True)
    (run.folder / seqkd.SPENT_FILE).write_text(json.dumps({"flops_exact": 1, "flops_paper": 1, "seconds": 1}))
    with pytest.raises(RuntimeError, match="seqkd_seed_0 is incomplete"):
        keep(run, "c0ffee")
    done = {"benchmarks": {"tiny": {"mean": 0.5, "problems": 8}}}
    (run.folder / seqkd.EVALUATION / "results.json").write_text(json.dumps(done))
    row = keep(run, "c0ffee")
    assert Record.from_row(row).last.accuracy == 0.5
    store = Store(tmp_path / RESULTS_FILE, key)
    for _ in range(2):
        gather(store, tmp_path)
    assert store.read() == [json.loads(json.dumps(row))]
    check_folder(run)
    with pytest.raises(UserError, match="--problems 4: .* holds a run with 8"):
        check_folder(replace(run, problems=4))


@pytest.mark.parametrize(("arm", "flops", "seconds"), [("adwin", 7e9, 11.0), ("schedule", 5e9, 4.0)])
def test_a_probe_that_a_schedule_observes_costs_flop_and_seconds(tmp_path, arm, flops, seconds):
    """Two updates of 2 s and 5e9 FLOP in all; the probe before the first took 7 s and 2e9 FLOP."""
    run = Run(BY_NAME[arm], 0, 2, 64, tmp_path, contends=True)
    probe = {names.PROBE_FLOPS: 2e9, names.PROBE_SECONDS: 7.0}
    write_run(run.folder, [{"step": 0, ACCURACY: 0.0}, update(1, 1e9, **probe), update(2, 5e9, **{ACCURACY: 0.5})])
    last = Record.from_row(json.loads(json.dumps(keep(run, "c0ffee")))).last
    assert (last.flops_exact, last.seconds) == (flops, seconds)


def test_a_failed_run_is_left_out_of_the_comparison(tmp_path):
    store = stored(tmp_path, [record("full", 1, 0.0, 0.5)])
    store.append(failed(Run(BY_NAME["full"], 0, 10, 400, tmp_path), "c0ffee", "train: exit code 1"))
    assert [one.seed for one in comparable(store, 10, 400)] == [1]
