"""What the report refuses, and the commands that write one."""

import json
from dataclasses import asdict

import pytest
from report_runs import PREFIXES, sample
from typer.testing import CliRunner

from prefix_opd import cli
from prefix_opd.base.errors import UserError
from prefix_opd.commands.report import try_to_write
from prefix_opd.report.content import gather


@pytest.mark.parametrize(
    ("file", "text", "told"),
    [
        ("samples.jsonl", '{"question": "1+1="}\n', "samples.jsonl: was written by another version or program"),
        ("samples.jsonl", "[1, 2]\n", "samples.jsonl: was written by another"),
        ("samples.jsonl", "no JSON\n", "samples.jsonl, line 1: is not JSON"),
        (
            "samples.jsonl",
            json.dumps({**asdict(sample(1, log_p=[0.0])), "cap": 1}) + "\n",
            "zip() argument 2 is shorter",
        ),
        (
            "teacher.json",
            '{"score": 1}',
            "teacher.json: was written by another version or program (KeyError: 'accuracy')",
        ),
        ("teacher.json", '{"accuracy": 96, "samples": 256}', "teacher.json: was written by another"),
        ("teacher.json", "[]", "teacher.json: was written by another"),
        ("analysis/teacher-prefix.json", '{"points": [1]}', "teacher-prefix.json: was written by another"),
        ("analysis/teacher-prefix.json", json.dumps({**PREFIXES, "points": []}), "kind=teacher-prefix with 0 points"),
        ("analysis/teacher-prefix.json", json.dumps({**PREFIXES, "kind": "../../x"}), "kind=../../x"),
        ("analysis/student-prefix.json", "{", "student-prefix.json: was written by another"),
        ("versions.json", "[1]", "versions.json: was written by another"),
    ],
)
def test_files_of_other_programs_are_one_line(bare, monkeypatch, capsys, file, text, told):
    (bare / file).parent.mkdir(exist_ok=True)
    (bare / file).write_text(text)
    code, error = told_by(monkeypatch, capsys, "report", bare)
    assert code == 2 and told in error and error.count("\n") == 1, error
    assert not (bare / "report.html").exists()


def told_by(monkeypatch, capsys, *words):
    monkeypatch.setattr("sys.argv", ["prefix-opd", *map(str, words)])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    return ended.value.code, capsys.readouterr().err


def test_a_report_that_fails_does_not_fail_the_run(tmp_path, capsys):
    with pytest.raises(UserError):
        gather([tmp_path])
    try_to_write(tmp_path)
    assert "warning: the report of" in capsys.readouterr().err


def test_the_commands_run(run, tmp_path):
    from prefix_opd import cli

    app = cli.app()
    for kind in ("signal", "schedule", "compute"):
        ended = CliRunner().invoke(app, ["analyze", kind, str(run), "--out", str(tmp_path / f"{kind}.json")])
        assert ended.exit_code == 0, ended.output
        assert json.loads((tmp_path / f"{kind}.json").read_text()) and (tmp_path / f"{kind}.png").exists()
    ended = CliRunner().invoke(app, ["report", str(run), "--out", str(tmp_path / "r.html")])
    assert ended.exit_code == 0 and (tmp_path / "r.html").exists()


def test_commands_are_noted_in_the_run_without_their_secrets(bare, monkeypatch, capsys):
    monkeypatch.setenv("HF_TOKEN", "hf-of-this-test")
    words = ["report", str(bare), "--out", str(bare / "hf-of-this-test.html")]
    for command in (["analyze", "schedule", str(bare)], words, ["report", str(bare), "--target", "7"]):
        told_by(monkeypatch, capsys, *command)
    # the last was refused
    assert (bare / "commands.txt").read_text().splitlines() == [
        f"prefix-opd analyze schedule {bare}",
        f"prefix-opd report {bare} --out '{bare}/***.html'",
    ]
