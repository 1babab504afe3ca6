"""The report of hostile runs: what it says, what it must not say, and that a browser draws it."""

import json
import re
from dataclasses import asdict

import pytest
from report_runs import HOSTILE, STUDENT_PREFIX, sample
from written_runs import ACCURACY, update, write_run

from prefix_opd.base.redaction import command_without_secrets, is_secret_name, without_secrets
from prefix_opd.method import names
from prefix_opd.report.content import gather
from prefix_opd.report.page import write_report
from prefix_opd.run.samples import SampleLog, is_sampled, read_samples


@pytest.fixture(scope="module")
def text(written):
    return written[0].read_text()


def test_it_says_what_came_out(text):
    assert "from 10.0% to 50.0%" in text and "2 updates, 3.00e+09 training FLOP" in text
    # one answer of which a half is right: 0.5 +- 1.96 * sqrt(0.25 + 1.96^2 / 4) / (1 + 1.96^2)
    assert "5.5 to 94.5%" in text
    assert "96.0%" in text and "experiment=tiny/schedule" in text
    # log p - log q of the first token
    assert "reverse KL +2.000 (student -1.000, teacher -3.000)" in text
    assert "right" in text and "true answer: 2" in text


def test_the_plots_lie_beside_it_as_png(written):
    assert [path.name for path in written] == [
        "report.html",
        "report_compute.png",
        "report_schedule.png",
        "report_signal.png",
        "report_teacher-prefix.png",
        "report_student-prefix.png",
    ]
    assert all(path.read_bytes().startswith(b"\x89PNG") for path in written[1:])


def test_what_models_and_configs_say_is_text(text):
    assert HOSTILE not in text and "<img src=x" not in text
    # as text of an answer, and inside the plots' data
    assert "before &lt;/script&gt;&lt;script&gt;" in text
    data = re.search(r'<script type="application/json" id="figures">(.*?)</script>', text, re.S)[1]
    names = [trace["name"] for trace in json.loads(data)["compute-flops"]["data"]]
    assert names == [HOSTILE, "target 50.0%"]
    assert text.count("<script") == 3, "the page's own: the data, Plotly, and what draws"


def test_no_secret_is_told(text):
    assert "sk-11111" not in text and "hunter2" not in text
    assert "https://***@mirror.example/x" in text and "user: me" in text


def test_it_needs_no_network(text):
    page = text[: text.index("plotly.js v")]
    assert not re.search(r"""(?:src|href)=["'](?!data:)""", page)
    assert "@import" not in page and "url(" not in page


@pytest.mark.parametrize("name", ["token", "hf_token", "api_key", "apikey", "PASSWORD", "client-secret", "ssh_key"])
def test_names_of_secrets(name):
    assert is_secret_name(name) and without_secrets({"a": [{name: 1, "b": 2}]}) == {"a": [{"b": 2}]}


@pytest.mark.parametrize("name", ["max_num_batched_tokens", "stop_token_ids", "prompt_key", "tokenizer", "monkey"])
def test_names_of_none(name):
    assert not is_secret_name(name)


def test_a_command_without_its_secrets():
    words = ["prefix-opd", "train", "+x.hf_token=1", "data.seed=1", "++trainer.api_key=2"]
    assert command_without_secrets(words) == ["prefix-opd", "train", "data.seed=1"]


def test_what_a_run_does_not_have_is_a_sentence(tmp_path):
    bare = write_run(tmp_path / "bare", [update(1, 1e9)])
    (found,) = gather([bare]).runs
    assert (found.signal, found.prefixes, found.scored, found.answers) == (None, [], [], [])
    told = " ".join(found.missing)
    assert "recorded no reverse KL" in told and "no complete validation" in told and "analyze teacher-prefix" in told
    assert write_report([bare], tmp_path / "out.html")[0].stat().st_size > 1e6


def test_several_runs_stand_side_by_side(run, tmp_path):
    lines = [{"step": 0, ACCURACY: 0.1}, update(1, 8e9, **{ACCURACY: 0.9})]
    full = write_run(tmp_path / "full", lines, **{"prefix_opd.schedule.name": "full"})
    page = write_report([run, full], tmp_path / "both.html")[0].read_text()
    # 4e9 of full OPD against 3e9
    assert "1.33×" in page and 'id="schedule-1"' in page


def test_samples_are_taken_back_by_a_resume(tmp_path):
    log = SampleLog(tmp_path)
    log.write([sample(1), sample(2, "probe"), sample(3)])
    assert json.loads((tmp_path / "samples.jsonl").read_text().splitlines()[0])["cap"] == 2, "as before L had one name"
    SampleLog(tmp_path, resumed_step=2).write([sample(3, prefix_length=9)])
    assert [(one.step, one.kind, one.prefix_length) for one in read_samples(tmp_path)] == [
        (1, "train", 2),
        (2, "probe", 2),
        (3, "train", 9),
    ]
    SampleLog(tmp_path)
    assert list(read_samples(tmp_path)) == []
    assert [step for step in range(1, 8) if is_sampled(step, test_freq=3, last_step=7)] == [1, 3, 6, 7]


def scored(folder, samples):
    SampleLog(folder).write(samples)
    return gather([folder]).runs[0].scored


def test_probes_of_one_prompt_stand_side_by_side(bare):
    first = [sample(1, "probe", prompt="p"), sample(1, "probe", prompt="q"), sample(1, "probe", prompt="gone")]
    last = [
        sample(5, "probe", prompt="q", prefix_length=9),
        sample(5, "probe", prompt="p", prefix_length=1, ending="cut"),
    ]
    p, q = scored(bare, [*first, sample(1), sample(3, "probe", prompt="p"), *last, sample(9)])
    assert (p.prompt, q.prompt) == ("p", "q")
    # three tokens each: L = 2 and then 1 split them, L = 9 is not reached
    assert [(one.title, one.prefix_length, len(one.before_l), len(one.after_l)) for one in p.answers + q.answers] == [
        ("Before update 1", 2, 2, 1),
        ("Before update 5", 1, 1, 2),
        ("Before update 1", 2, 2, 1),
        ("Before update 5", 9, 3, 0),
    ]
    assert [one.reaches_l for one in p.answers + q.answers] == [True, True, True, False]
    assert p.answers[1].how_it_ended == "cut at the longest response", "L does not end a probe's answer"
    assert asdict(p.answers[0].before_l[0])["kl"] == 2.0 and p.answers[0].before_l[0].strength == 0.5
    page = write_report([bare])[0].read_text()
    assert "Before update 5 <small>L=1, cut at the longest response</small>" in page


def test_one_probe_alone_is_shown_by_itself(bare):
    shown = scored(bare, [sample(1), *[sample(1, "probe", prompt=prompt) for prompt in "abc"], sample(9)])
    assert [(one.prompt, [answer.title for answer in one.answers]) for one in shown] == [
        ("a", ["Before update 1"]),
        ("b", ["Before update 1"]),
    ]


def test_without_a_probe_the_first_and_the_last_step_are_shown(bare):
    shown = scored(bare, [sample(1), sample(5), sample(9, tokens=["a", "b"], log_p=[0, 0], log_q=[0, 0], ending="cut")])
    assert [(one.answers[0].title, one.answers[0].how_it_ended) for one in shown] == [
        ("Step 1", "natural end"),
        ("Step 9", "cut at L"),
    ]


def test_a_tail_that_rises_is_told(tmp_path):
    lines = [update(i, 1e9, **{"prefix_opd/probe/tail_ratio": ratio}) for i, ratio in enumerate((1.0, 1.5, 1.8), 1)]
    folder = write_run(tmp_path / "tail", lines)
    (found,) = gather([folder]).runs
    assert (found.tail, found.tail_warned) == ([(1, 1.0), (2, 1.5), (3, 1.8)], [3])
    page = write_report([folder])[0].read_text()
    assert "Above prefix_opd.probe.tail_warning=1.5 before update 3: the student drifts" in page
    assert '<td class="wrong">1.80</td>' in page and "<td>1.50</td>" in page


def test_the_signal_of_a_schedule_that_adapts_is_drawn(tmp_path):
    from prefix_opd.report.page import _plots

    seen = [(0.3, 0.1), (None, None), (0.05, 0.1)]
    lines = [
        update(i, 1e9, **({} if signal is None else {names.SIGNAL: signal, names.THRESHOLD: threshold}))
        for i, (signal, threshold) in enumerate(seen, start=1)
    ]
    folder = write_run(tmp_path / "grows", lines)
    signal, threshold = _plots(gather([folder]))["decides-0"]["data"]
    assert (signal["x"], signal["y"], threshold["y"]) == ([1, 3], [0.3, 0.05], [0.1, 0.1])
    page = write_report([folder])[0].read_text()
    assert page.index('id="schedule-0"') < page.index('id="decides-0"') < page.index('id="seconds-0"')
    first, second, _ = gather([folder]).runs[0].schedule.as_dict()["steps"]
    assert (first["cap"], first["signal"], "signal" in second) == (24, 0.3, False)
    (plain,) = gather([write_run(tmp_path / "plain", [update(1, 1e9)])]).runs
    assert not plain.schedule.adapts and "decides-0" not in write_report([tmp_path / "plain"])[0].read_text()


@pytest.mark.parametrize(
    ("accuracies", "claim", "moments"),
    [
        ({0: 0.1, 2: 0.5}, "from 10.0% to 50.0% (", ("Before training", "After step 2")),
        ({1: 0.1, 2: 0.5}, "10.0% after step 1, 50.0% (", ("After step 1", "After step 2")),
        ({2: 0.5}, "50.0% (38.1% to 61.9%) after step 2; 2 updates", ("After step 2", "After step 2")),
        ({0: 0.5}, "50.0% (38.1% to 61.9%) before training; 2 updates", ("Before training", "Before training")),
    ],
)
def test_before_is_before_training_alone(tmp_path, accuracies, claim, moments):
    lines = [{"step": 0}, update(1, 1e9), update(2, 2e9)]
    for line in lines:
        if line["step"] in accuracies:
            line[ACCURACY] = accuracies[line["step"]]
    (found,) = gather([write_run(tmp_path / "run", lines)]).runs
    assert found.claim.startswith(claim) and found.moments == moments


def test_settings_and_versions(bare):
    (bare / "versions.json").write_text('{"prefix_opd": "0.1.0", "verl": "0.9.1", "git_commit": null}')
    (bare / "record.json").write_text('{"commit": "c0ffee", "day": "2026-01-02"}')
    told = gather([bare]).runs[0].settings
    assert (told["prefix_opd"], told["verl"], told["commit"]) == ("0.1.0", "0.9.1", "c0ffee")
    assert told["actor_rollout_ref.rollout.val_kwargs.n"] == "1" and told["data.val_max_samples"] == "256"
    assert "tail_warning=1.5" in told["prefix_opd.probe"] and "actor_rollout_ref.rollout.seed" in told


def test_pages_and_pictures_show_the_same(run):
    """Compares the traces of the page's figures with those of the analysis's PNG, by label."""
    from prefix_opd.report.page import _plots

    figures = _plots(gather([run]))
    costs = [name for name in figures if name.startswith("compute-")]
    assert costs == ["compute-flops", "compute-paper_flops", "compute-seconds"]
    # a target that both evaluations bracket, from the lowest cost to the highest
    line = figures["compute-paper_flops"]["data"][-1]
    assert (line["name"], line["x"], line["y"]) == ("target 50.0%", [0.0, 1.5e9], [0.5, 0.5])
    assert [trace["name"] for trace in figures["schedule-0"]["data"]] == [
        *("L", "mean length", "cut at L (right)", "natural end (right)")
    ]
    assert figures["schedule-0"]["data"][3]["y"] == [0.25, 0.25]
    # bins of 12 begin at 0 and 12 and are drawn at their middles
    for value, heights in {"abs_mean": [1.0, 0.3], "mean": [0.5, 0.1]}.items():
        curve = figures[f"signal-{value}-0"]["data"][0]
        assert (curve["name"], curve["x"], curve["y"]) == ("step 1, all (L=24)", [6.0, 18.0], heights)


def test_the_chosen_length_is_marked_and_told(bare):
    from prefix_opd.report.page import _plots

    (bare / "analysis").mkdir()
    (bare / "analysis" / "student-prefix.json").write_text(json.dumps(STUDENT_PREFIX))
    traces = _plots(gather([bare]))["student-prefix-0"]["data"]
    assert (traces[-1]["name"], traces[-1]["x"]) == ("L=8", [8, 8])
    assert "Advice: choose L=8: the shortest tested prefix" in write_report([bare])[0].read_text()
