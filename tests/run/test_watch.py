"""The progress view around a child process: a stand-in writes what a run writes."""

import json
import signal
import subprocess
import sys
import time
from types import SimpleNamespace

import pytest
import typer

from prefix_opd.commands import quickstart, train
from prefix_opd.run.events import Event, EventLog, NewEvents, count_by_step
from prefix_opd.run.follow import cause, how_to_continue, run_and_watch, run_in_sight

RUN = """
import json, sys, time
folder, code = sys.argv[1], int(sys.argv[2])
from prefix_opd.run.events import EventLog
EventLog(folder).milestone("starting workers and engines")
with open(folder + "/metrics.jsonl", "w", buffering=1) as metrics:
    for step in range(3):
        line = {"step": step, "val-core/x/reward/mean@1": 0.5, "prefix_opd/probe/tail_ratio": 1 + 0.4 * step}
        line |= {"prefix_opd/watch/validation_missing": 400 * (step == 1)}
        metrics.write(json.dumps(line) + "\\n")
if code:
    print("Traceback (most recent call last):")
    print("RuntimeError: the teacher is gone")
    print("and then some noise")
sys.exit(code)
"""


def test_steps_are_shown_and_the_code_comes_back(tmp_path, capfd):
    command = [sys.executable, "-c", RUN, str(tmp_path), "0"]
    assert run_and_watch(command, tmp_path, 2, {}, tail_warning=1.5) == 0
    told = capfd.readouterr().out
    assert "starting workers and engines" in told
    assert told.count("accuracy 50.0%") == 3 and told.count("accuracy 50.0%  400 answers missing") == 1
    tails = [line.partition("tail ")[2].partition("  ")[0] for line in told.splitlines() if "tail " in line]
    assert tails == ["x1.00", "x1.40", "x1.80, above 1.5"]


def test_a_failure_shows_its_cause_the_log_and_the_way_on(tmp_path, capfd):
    assert run_and_watch([sys.executable, "-c", RUN, str(tmp_path), "3"], tmp_path, 2, {}) == 3
    told = capfd.readouterr().out
    assert "failed with exit code 3" in told and "RuntimeError: the teacher is gone" in told
    assert "train.log" in told and "start the same command again" in told


@pytest.mark.parametrize(
    ("code", "saved_step", "advice"),
    [
        (0, 4, ""),
        (2, 4, ""),  # the same command fails in the same way
        (
            1,
            0,
            "start the same command again; it has no checkpoint: it begins anew. If it fails in the same way, the log",
        ),
        (1, 4, "start the same command again; it continues from the checkpoint of step 4. If it fails"),
        (3, 4, "fix the cause above, then start the same command again; it continues from the checkpoint of step 4"),
        (4, 4, "start the same command again; it continues from the checkpoint of step 4"),
        (137, 4, "start the same command again; it continues from the checkpoint of step 4"),
    ],
)
def test_to_start_again_is_advised_where_it_helps(tmp_path, capfd, code, saved_step, advice):
    assert how_to_continue(code, saved_step).startswith(advice) and bool(how_to_continue(code, saved_step)) == bool(
        advice
    )
    if saved_step:
        (tmp_path / f"global_step_{saved_step}").mkdir()
        (tmp_path / f"global_step_{saved_step}" / "prefix_opd_manifest.json").touch()
    assert run_in_sight([sys.executable, "-c", f"raise SystemExit({code})"], tmp_path, {}) == code
    told = capfd.readouterr().out
    assert advice in told and bool(advice) == ("start the same" in told)


def test_warnings_of_the_trainer_are_told_once_each(tmp_path, capfd):
    """Only events of this start count; log text is not an event."""
    EventLog(tmp_path).warn(2, "of the run before")
    run = (
        "from prefix_opd.run.events import EventLog; import sys; "
        "EventLog(sys.argv[1]).warn(3, 'no prompt [1,256]'); print('WARNING: step 4: some library')"
    )
    assert run_and_watch([sys.executable, "-c", run, str(tmp_path)], tmp_path, 2, {}) == 0
    told = capfd.readouterr().out
    assert told.count("warning: step 3: no prompt [1,256]") == 1
    assert "some library" not in told and "of the run before" not in told
    assert "step 3: no prompt [1,256]" in (tmp_path / "train.log").read_text()


def test_an_event_is_read_when_its_line_is_whole(tmp_path):
    EventLog(tmp_path).warn(1, "of the run before")
    events = NewEvents(tmp_path)
    with (tmp_path / "events.jsonl").open("a", buffering=1) as file:
        file.write('{"time": 5.0, "step": 2, "kind": "warn')
        file.flush()
        assert list(events.take()) == []
        file.write('ing", "text": "half"}\n')
    assert list(events.take()) == [Event(5.0, 2, "warning", "half")] and list(events.take()) == []


def test_a_run_that_goes_on_forgets_what_it_makes_again(tmp_path):
    log = EventLog(tmp_path)
    log.milestone("engines are ready", 0)
    for step in (1, 3, 3):
        log.warn(step, "look")
    log.warn(3, "look", "thrown_away")
    assert count_by_step(tmp_path) == {"warning": {1: 1, 3: 2}, "thrown_away": {3: 1}}
    log.milestone("starting workers")  # before it is known from where
    log.milestone("engines are ready", 2)
    log.warn(3, "once more")
    assert count_by_step(tmp_path) == {"warning": {1: 1, 3: 1}, "thrown_away": {}}


def test_a_folder_that_takes_no_events_does_not_end_the_run(tmp_path, caplog):
    caplog.set_level("WARNING", logger="prefix_opd")
    (tmp_path / "events.jsonl").mkdir()
    EventLog(tmp_path).warn(3, "the disk is full")
    assert "step 3: the disk is full" in caplog.text


def test_the_cause_ends_with_the_last_error(tmp_path):
    log = tmp_path / "log"
    log.write_text("old\n" * 50 + "ValueError: first\nfine\n\x1b[36mKeyError: 'last'\x1b[0m\nnoise\nmore noise\n")
    assert cause(log, 0)[-2:] == ["fine", "KeyError: 'last'"] and len(cause(log, 0)) == 12
    assert json.dumps(cause(log, log.stat().st_size)) == "[]"


def test_a_run_that_tells_why_it_stopped_is_quoted(tmp_path):
    log = tmp_path / "log"
    log.write_text("KeyError: 'x'\nstopped: step 3: the disk is full\nRayTaskError: noise\n")
    assert cause(log, 0) == ["stopped: step 3: the disk is full"]
    pressure = (
        "(raylet) [x E 21 21] (raylet) node_manager.cc:3517: 8 Workers (tasks / actors) killed due to memory pressure"
    )
    log.write_text(f"{pressure} (OOM), 0 Workers crashed\nstopped: sending weights: the engine has died\n")
    assert cause(log, 0)[0] == "stopped: sending weights: the engine has died"
    assert cause(log, 0)[1].startswith("Ray killed 8 processes because the machine's memory was full: free some")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("start", ["run_and_watch", "run_in_sight"])
@pytest.mark.parametrize(("ending", "code", "shown"), [("sys.exit(4)", 4, "ended after step 0 as asked"), ("", 0, "")])
def test_a_signal_is_handed_to_the_run(tmp_path, number, start, ending, code, shown):
    """The signal goes to the command's process, which forwards it; the run decides how to end."""
    run = f"""
import signal, sys, time
def asked(number, frame):
    print("asked", flush=True)
    {ending or "sys.exit(0)"}
signal.signal({int(number)}, asked)
open("metrics.jsonl", "w").write('{{"step": 0}}\\n')
time.sleep(30)
"""
    steps = "2, " if start == "run_and_watch" else ""
    command = (
        f"import sys; from pathlib import Path; from prefix_opd.run.follow import {start}; "
        f"sys.exit({start}([sys.executable, '-c', {run!r}], Path('.'), {steps}{{}}))"
    )
    process = subprocess.Popen([sys.executable, "-c", command], cwd=tmp_path, stdout=subprocess.PIPE, text=True)
    metrics = tmp_path / "metrics.jsonl"
    while not (metrics.exists() and metrics.read_text()):
        assert process.poll() is None
        time.sleep(0.05)
    process.send_signal(number)
    told = process.communicate(timeout=20)[0]
    assert process.returncode == code and shown in told
    if start == "run_in_sight":
        assert "asked\n" in told and not (tmp_path / "train.log").exists()
    else:
        assert f"{number.name}: forwarded" in told and "asked" in (tmp_path / "train.log").read_text()


def test_the_second_signal_of_a_kind_ends_a_run_that_does_not_heed_the_first(tmp_path):
    run = "import signal, time; signal.signal(2, signal.SIG_IGN); open('metrics.jsonl', 'w').close(); time.sleep(30)"
    command = (
        "import sys; from pathlib import Path; from prefix_opd.run.follow import run_and_watch; "
        f"sys.exit(run_and_watch([sys.executable, '-c', {run!r}], Path('.'), 2, {{}}))"
    )
    process = subprocess.Popen([sys.executable, "-c", command], cwd=tmp_path, stdout=subprocess.PIPE, text=True)
    while not (tmp_path / "metrics.jsonl").exists():
        assert process.poll() is None
        time.sleep(0.05)
    for _ in range(2):  # two in one moment would be one; a third would meet an interpreter that is on its way out
        process.send_signal(signal.SIGINT)
        time.sleep(1)
    assert process.wait(timeout=60) == 128 + signal.SIGKILL
    assert "start the same command again" in process.stdout.read()


def test_a_run_that_was_killed_is_told_so(tmp_path, capfd):
    command = [sys.executable, "-c", "import os; os.kill(os.getpid(), 9)"]
    assert run_and_watch(command, tmp_path, 2, {}) == 137
    assert "killed by SIGKILL" in capfd.readouterr().out
    assert run_in_sight(command, tmp_path, {}) == 137
    assert "start the same command again" in capfd.readouterr().out


@pytest.mark.parametrize("verbose", [False, True])
@pytest.mark.parametrize("code", [0, 1])
def test_a_run_ends_with_its_summary_and_its_report(tmp_path, monkeypatch, verbose, code):
    """With and without the run's output on the terminal. The run is a stand-in."""
    started, shown = [], []
    for name in ("run_and_watch", "run_in_sight"):
        monkeypatch.setattr(
            f"prefix_opd.run.follow.{name}", lambda command, *more, name=name: started.append(name) or code
        )
    monkeypatch.setattr("prefix_opd.commands.summary.show", shown.append)
    monkeypatch.setattr("prefix_opd.commands.report.try_to_write", shown.append)
    folder = tmp_path / "run"
    overrides = ["experiment=tiny/schedule", f"trainer.default_local_dir={folder}"]
    assert train.run(overrides, verbose=verbose) == code
    assert started == ["run_in_sight" if verbose else "run_and_watch"]
    assert shown == ([folder, folder] if code == 0 else [])
    assert json.loads((folder / "versions.json").read_text())["verl"]


def test_an_incomplete_quickstart_is_an_error_on_stderr(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(train, "run", lambda *given, **named: 0)
    monkeypatch.setattr(quickstart, "_teacher", lambda folder: (1.0, 1))
    monkeypatch.setattr("prefix_opd.commands.summary.show", lambda *_, **__: SimpleNamespace(evaluations=[], steps=3))
    monkeypatch.setattr("prefix_opd.commands.report.try_to_write", lambda folder: None)
    with pytest.raises(typer.Exit) as leaving:
        quickstart.quickstart(["experiment=tiny/schedule", f"trainer.default_local_dir={tmp_path}"])
    told = capsys.readouterr()
    assert leaving.value.exit_code == 1 and not told.out
    assert told.err == f"error: the run in {tmp_path} is incomplete: 3 steps, 0 validations\n"


def test_a_run_whose_command_line_is_killed_is_asked_to_end(tmp_path):
    run = (
        "import os, signal, sys, time; signal.signal(signal.SIGTERM, lambda *_: (open('asked', 'w'), sys.exit(0))); "
        "open('ready', 'w'); time.sleep(30)"
    )
    command = (
        "import sys; from pathlib import Path; from prefix_opd.run.follow import run_and_watch; "
        f"run_and_watch([sys.executable, '-c', {run!r}], Path('.'), 2, dict())"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", command],
        cwd=tmp_path,
        stdout=subprocess.DEVNULL,
    )
    deadline = time.time() + 20
    while not (tmp_path / "ready").exists() and time.time() < deadline:
        time.sleep(0.05)
    process.kill()
    process.wait()
    while not (tmp_path / "asked").exists() and time.time() < deadline:
        time.sleep(0.05)
    assert (tmp_path / "asked").exists()
