"""The analyses: bins pooled by hand, costs interpolated by hand, the choice of L by hand."""

import json

import pyarrow.parquet as pq
import pytest
from written_runs import ACCURACY, update

from prefix_opd.analysis import continuation, figures, tables
from prefix_opd.analysis.advice import advise
from prefix_opd.analysis.compute import compute, cost_of, labels
from prefix_opd.analysis.draw import draw
from prefix_opd.analysis.prefixes import Point, Prefixes, check_lengths, choose_length, default_lengths, point
from prefix_opd.analysis.schedule import schedule
from prefix_opd.analysis.signal import Bin, signal
from prefix_opd.base.errors import UserError
from prefix_opd.config.compose import compose
from prefix_opd.launch import prepare
from prefix_opd.method import names
from prefix_opd.run.history import Evaluation, read_finished

# ---- reading runs ----


def test_signal_reads_the_bins_and_pools_them_by_their_tokens(run):
    history = read_finished(run)
    found = {curve.group: curve for curve in signal(history, [2]).curves}
    assert set(found) == {"all", "cut", "natural", "probe"}
    assert found["all"].bins == [Bin(0, 6, 0.5, 1.0), Bin(12, 2, pytest.approx(0.1), pytest.approx(0.3))]
    (pooled,) = next(curve for curve in signal(history, [2], width=24).curves if curve.group == "all").bins
    # (6 * 0.5 + 2 * 0.1) / 8 and (6 * 1.0 + 2 * 0.3) / 8
    assert (pooled.tokens, pooled.mean, pooled.abs_mean) == (8, pytest.approx(0.4), pytest.approx(0.825))
    # of the steps, the probed ones are what is shown without a choice
    assert {curve.step for curve in signal(history).curves} == {2}


@pytest.mark.parametrize("width", [0, -12, 7, 13])
def test_a_width_that_the_recorded_bins_do_not_make_up(run, width):
    with pytest.raises(UserError, match=f"--bin={width}: must be a positive multiple of the 12 positions"):
        signal(read_finished(run), width=width)


def test_signal_refuses_what_is_not_there(run, make_run):
    with pytest.raises(UserError, match="--steps 9: .* has no such update; it has 1 to 2"):
        signal(read_finished(run), [9])
    with pytest.raises(UserError, match="recorded no reverse KL with token counts"):
        signal(read_finished(make_run("old", [update(1, 1e9)])))


def test_schedule(run):
    one = schedule(read_finished(run)).steps[-1]
    assert (one.step, one.prefix_length, one.mean_length, one.cut, one.natural) == (2, 24, 23.0, 0.75, 0.25)
    assert (one.seconds["rollout"], one.seconds["step"], one.seconds["update"]) == (1.0, 2.0, 0.0)


def test_cost_is_linear_between_evaluations():
    points = [Evaluation(s, a, None, f, f, 2 * f) for s, a, f in [(0, 0.1, 0.0), (10, 0.5, 100.0), (20, 0.4, 200.0)]]
    # a quarter of the way from 0.1 to 0.5
    assert cost_of(points, 0.2, "flops") == pytest.approx(25.0)
    assert cost_of(points, 0.2, "seconds") == pytest.approx(50.0)
    assert cost_of(points, 0.05, "flops") == 0.0
    assert cost_of(points, 0.6, "flops") is None


def test_an_incomplete_validation_has_no_accuracy(make_run):
    """10% at 0 FLOP, 60% at 2e11: 50% at 4/5 of the way. The 90% at 1e11 are of the answers that came back."""
    missing = {names.VALIDATION_MISSING: 400}
    lines = [
        {"step": 0, ACCURACY: 0.1},
        update(1, 1e11, **{ACCURACY: 0.9}, **missing),
        update(2, 2e11, **{ACCURACY: 0.6}),
    ]
    found = read_finished(make_run("late", lines)).evaluations
    assert [(one.step, one.accuracy) for one in found] == [(0, 0.1), (2, 0.6)]
    assert cost_of(found, 0.5, "flops") == pytest.approx(1.6e11)
    assert cost_of(found, 0.5, "seconds") == pytest.approx(3.2)  # of two updates of 2 s


def test_compute_sets_runs_beside_the_one_of_full_opd(run, make_run):
    lines = [{"step": 0, ACCURACY: 0.1}, update(1, 4e9), update(2, 8e9, **{ACCURACY: 0.9})]
    full = make_run("full_0", lines, **{"prefix_opd.schedule.name": "full"})
    found = compute([read_finished(run), read_finished(full)])
    assert (found.reference, found.target) == ("full_0", 0.5)
    ours, theirs = found.costs
    # theirs: half of the way from 0.1 to 0.9; ours: all of it
    assert (ours.flops, theirs.flops) == (pytest.approx(3e9), pytest.approx(4e9))
    assert ours.ratios["flops"] == pytest.approx(4 / 3) and theirs.ratios["flops"] == 1.0
    assert compute([read_finished(run)], 0.95).costs[0].flops is None


def test_no_two_runs_have_one_label(make_run):
    settings = {"trainer.experiment_name": "same"}
    lines = [update(1, 1e9, **{ACCURACY: 0.5})]
    one, two, three = (
        read_finished(make_run(name, lines, **more))
        for name, more in {"a/run": settings, "b/run": settings, "c": {}}.items()
    )
    assert labels([one, three]) == ["same", "c"]
    # alike in name and in the folder's name
    assert labels([one, two, three]) == [str(one.folder), str(two.folder), "c"]
    assert labels([one, one]) == [f"{one.folder} (1)", f"{one.folder} (2)"]
    assert len(compute([one, two]).evaluations) == 2


@pytest.mark.parametrize(
    ("key", "value", "told"),
    [
        ("data.val_max_samples", 7, "data.val_max_samples is 256 in schedule_0, 7 in other"),
        ("data.max_response_length", 96, "data.max_response_length is 192 in schedule_0, 96 in other"),
        ("data.val_files", "/other.parquet", "/other.parquet in other"),
        ("actor_rollout_ref.rollout.val_kwargs.temperature", 0.5, "temperature is 1.0 in schedule_0, 0.5 in other"),
        ("prefix_opd.stop_token_ids", [7], "prefix_opd.stop_token_ids is"),
        ("prefix_opd.ignore_own_end_token", True, "ignore_own_end_token is False in schedule_0, True in other"),
        ("reward.custom_reward_function.name", "mine", "name is compute_score in schedule_0, mine in other"),
    ],
)
def test_runs_that_were_evaluated_differently_are_not_compared(run, make_run, key, value, told):
    other = make_run("other", [update(1, 1e9, **{ACCURACY: 0.5})], **{key: value})
    with pytest.raises(UserError, match="cannot be compared") as raised:
        compute([read_finished(run), read_finished(other)])
    assert told in str(raised.value)


def test_a_config_without_a_key_of_the_grader_says_nothing_of_it(run, make_run):
    other = read_finished(make_run("other", [update(1, 1e9, **{ACCURACY: 0.5})]))
    del other.config.reward.custom_reward_function
    assert len(compute([read_finished(run), other]).costs) == 2


def test_compute_refuses_targets_and_references_that_cannot_be(run):
    history = read_finished(run)
    with pytest.raises(UserError, match="--target=1.5: must lie between 0 and 1"):
        compute([history], 1.5)
    with pytest.raises(UserError, match="--reference=full: is not one of the runs; choose from schedule_0"):
        compute([history], reference="full")


# ---- prefixes ----


def prefixes(points, **more):
    return Prefixes("student-prefix", "s", "t", 64, 1, 6, points, giver=0.1, **more)


def test_a_point_by_hand():
    before = {0: [True], 1: [True], 2: [False], 3: [True]}
    found = point(8, [8, 8, 5, 8], {0: [True], 1: [False], 2: [False], 3: [False]}, before)
    assert (found.accuracy, found.mean_length) == (0.25, 7.25)
    # 3 of 4 before, 1 of 4 now
    assert found.drop[0] == pytest.approx(0.5)
    assert found.interval == (pytest.approx(0.0456, abs=1e-3), pytest.approx(0.6994, abs=1e-3))


def test_a_point_without_a_right_answer_has_an_interval():
    wrong = {problem: [False] * 16 for problem in range(30)}
    assert point(8, [8], wrong, wrong).interval == (0.0, pytest.approx(3.8416 / 33.8416))


def test_the_chosen_length_decides_half_of_the_gap_beyond_its_interval():
    def at(length, accuracy, low):
        return Point(length, length, accuracy, (0.0, 1.0), (0.9 - accuracy, low, 1.0))

    # the gap is 0.9 - 0.1: half of it is lost from an accuracy of 0.5 on
    points = [at(0, 0.9, 0.0), at(3, 0.7, 0.1), at(6, 0.45, -0.01), at(12, 0.4, 0.2), at(24, 0.2, 0.5)]
    assert choose_length(points, 0.1) == 12
    assert choose_length(points[:3], 0.1) is None
    assert choose_length(points, 0.95) is None, "a student that is better than its teacher"
    assert "choose L=12" in tables.advice(prefixes(points, chosen=12))
    assert "no tested L decides" in tables.advice(prefixes(points))


@pytest.mark.parametrize(
    ("lengths", "margin", "told"),
    [([192], 6, "--lengths 192: must lie between 1 and 191"), ([8], 192, "--margin=192"), ([8], -1, "--margin=-1")],
)
def test_what_no_answer_has_room_for_is_refused_before_a_model_is_loaded(monkeypatch, lengths, margin, told):
    config = prepare(["experiment=tiny/schedule"])
    monkeypatch.setattr(continuation, "_model", None)
    with pytest.raises(UserError, match=told):
        continuation.measure("student-prefix", config, lengths, margin, problems=2, samples=1, seed=0)


def test_answers_of_several_turns_are_not_measured(monkeypatch):
    config = prepare(["experiment=tiny/schedule"])
    config.actor_rollout_ref.rollout.agent.default_agent_loop = "my_loops.Loop"
    monkeypatch.setattr(continuation, "_model", None)
    with pytest.raises(
        UserError, match="my_loops.Loop: has several turns, but this command measures answers of one turn"
    ):
        continuation.measure("student-prefix", config, [8], 6, problems=2, samples=1, seed=0)
    with pytest.raises(UserError, match="my_loops.Loop: has several turns"):
        advise(config, prompts=2, seed=0, prepared=prepare)


def test_a_teacher_elsewhere_is_not_measured(monkeypatch):
    config = prepare(["experiment=tiny/schedule"])
    config.prefix_opd.teacher.url = ["http://a:8000/v1", "http://b:8000/v1"]
    monkeypatch.setattr(continuation, "_model", None)
    told = "prefix_opd.teacher.url=.*a:8000.*: is a teacher elsewhere, but this command starts the teacher itself"
    with pytest.raises(UserError, match=told):
        continuation.measure("teacher-prefix", config, [8], 6, problems=2, samples=1, seed=0)
    with pytest.raises(UserError, match=told):
        advise(config, prompts=2, seed=0, prepared=prepare)


def test_answers_are_sampled_as_in_the_run():
    keys = {"temperature": 0.7, "top_p": 0.9, "top_k": 20, "val_kwargs.temperature": 0.5}
    given = [f"actor_rollout_ref.rollout.{key}={value}" for key, value in keys.items()]
    config = prepare(["experiment=tiny/schedule", "prefix_opd.allow_any_temperature=true", *given])
    rollout, ends = config.actor_rollout_ref.rollout, {"stop_token_ids": [259, 261], "ignore_eos": False}
    found = continuation.sampling_of(config, rollout)
    assert found == {"temperature": 0.7, "top_p": 0.9, "top_k": 20, **ends}
    found = continuation.sampling_of(config, rollout.val_kwargs)
    assert found == {"temperature": 0.5, "top_p": 1.0, "top_k": -1, **ends}


def test_prefixes_come_back_from_json():
    found = prefixes([point(0, [0], {0: [True]}, {0: [True]})])
    assert Prefixes.from_dict(json.loads(json.dumps(found.as_dict()))) == found
    for wrong in ({}, {**found.as_dict(), "points": [1]}, {**found.as_dict(), "giver": "much"}, []):
        with pytest.raises(ValueError):
            Prefixes.from_dict(wrong)


def test_error_bars_are_never_less_than_nothing():
    """Ten times 0.1 sums to 0.9999999999999999: rounding may put an interval's end on the wrong side of the mean."""
    one = Point(8, 8.0, 0.3, (0.30000000000000004, 0.29999999999999993), (0.0, 0.0, 0.0))
    assert figures.error_bars([one]) == ([0.0], [0.0])


def test_lengths():
    assert default_lengths(16384) == [256, 512, 1024, 2048, 4096, 8192]
    assert default_lengths(192) == [3, 6, 12, 24, 48, 96]
    assert check_lengths([8, 4, 8], 192) == [4, 8]
    for wrong in (0, -1, 192):
        with pytest.raises(UserError, match=f"--lengths {wrong}: must lie between 1 and 191"):
            check_lengths([wrong], 192)


# ---- what is shown ----


def test_tables_and_pictures(run, tmp_path):
    from rich.console import Console

    history = read_finished(run)
    points = [point(length, [length], {0: [True], 1: [False]}, {0: [True], 1: [True]}) for length in (0, 8)]
    shown = [
        (signal(history), tables.signal_table, figures.signal_figure, "probe"),
        (compute([history]), tables.compute_table, figures.compute_figure, "3e+09"),
        (schedule(history), tables.schedule_table, figures.schedule_figure, "75%"),
        (prefixes(points, chosen=8), tables.prefixes_table, figures.prefixes_figure, "+50.0%"),
    ]
    for i, (found, table, figure, piece) in enumerate(shown):
        console = Console(width=140, record=True, file=(tmp_path / "out.txt").open("w"))
        console.print(table(found))
        assert piece in console.export_text()
        assert draw(figure(found), tmp_path / f"{i}.png").read_bytes().startswith(b"\x89PNG")
        json.dumps(found.as_dict())


def test_problems_of_a_file_of_json_lines_are_those_of_its_parquet(tmp_path):
    config = compose(["experiment=tiny/schedule"])
    rows = pq.read_table(config.data.val_files).slice(0, 3).to_pylist()
    lines = tmp_path / "few.jsonl"
    lines.write_text("".join(json.dumps(row) + "\n" for row in rows))
    asked = continuation.questions(config, 2)
    config.data.val_files = str(lines)
    assert continuation.questions(config, 2) == asked and len(continuation.questions(config, 9)) == 3


def test_the_receiver_goes_on_from_the_givers_first_tokens(monkeypatch):
    config = prepare(["experiment=tiny/schedule"])
    asked = continuation.questions(config, 2)
    tokenizer = continuation._model(config, continuation.STUDENT_KEY).tokenizer
    assert [tokenizer.decode(one.prompt).endswith("<think>") for one in asked] == [True, True]
    thought = tokenizer.encode("1" * 20)
    # right where the prefix is short of 14 tokens, wrong after that
    right = {tuple(one.prompt): tokenizer.encode(f"</think>{one.truth}") for one in asked}
    calls = []

    def generate(config, model, begun, rows, seed):
        calls.append((model.key, [len(prefix) for _, prefix in begun], rows))
        if seed == "0/giver":
            return [thought for _ in begun]
        return [right[tuple(prompt)] if len(prefix) < 14 else [] for prompt, prefix in begun]

    monkeypatch.setattr(continuation, "_generate", generate)
    found = continuation.measure("student-prefix", config, [4, 18], 6, problems=2, samples=2, seed=0)
    rows = [(0, 0), (0, 1), (1, 0), (1, 1)]
    # 18 tokens would reach into the last 6 of 20
    assert calls == [
        (continuation.STUDENT_KEY, [0] * 4, rows),
        (continuation.TEACHER_KEY, [0] * 4 + [4] * 4 + [14] * 4, rows * 3),
    ]
    assert [(one.length, one.mean_length, one.accuracy) for one in found.points] == [(0, 0, 1), (4, 4, 1), (18, 14, 0)]
    assert (found.giver, found.chosen) == (0.0, 18)
