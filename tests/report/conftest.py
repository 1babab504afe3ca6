"""Runs whose names, answers and settings try to inject code into the page."""

import json

import pytest
from report_runs import HOSTILE, PREFIXES, STUDENT_PREFIX, sample, write_answers
from written_runs import ACCURACY, SIGNAL, binned, update, write_run

from prefix_opd.report.page import write_report
from prefix_opd.run.samples import SampleLog


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run whose name, answers, samples and settings all try to inject code into the page."""
    lines = [
        {"step": 0, ACCURACY: 0.1},
        update(1, 1e9, **binned(SIGNAL)),
        update(2, 3e9, **binned(SIGNAL), **{ACCURACY: 0.5}),
    ]
    settings = {
        "trainer.experiment_name": HOSTILE,
        "trainer.wandb_api_key": "sk-11111",
        "trainer.login": {"password": "hunter2", "user": "me"},
        "data.mirror": "https://me:hunter2@mirror.example/x",
    }
    folder = write_run(tmp_path_factory.mktemp("report") / "run_0", lines, **settings)
    write_answers(folder, 0, f"before {HOSTILE}", 0.0)
    write_answers(folder, 2, f"after {HOSTILE}", 1.0)
    SampleLog(folder).write([sample(1), sample(2)])
    (folder / "commands.txt").write_text("prefix-opd train experiment=tiny/schedule +trainer.wandb_api_key=sk-11111\n")
    (folder / "teacher.json").write_text('{"accuracy": 0.96, "samples": 256}')
    (folder / "analysis").mkdir()
    for kind, found in {"teacher-prefix": PREFIXES, "student-prefix": STUDENT_PREFIX}.items():
        (folder / "analysis" / f"{kind}.json").write_text(json.dumps(found))
    return folder


@pytest.fixture(scope="module")
def written(run):
    return write_report([run])


@pytest.fixture
def bare(tmp_path):
    return write_run(tmp_path / "bare", [update(1, 1e9)])
