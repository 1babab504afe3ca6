"""Commands and forks end well or are told of by their last line."""

import subprocess
import sys
import textwrap

import pytest

from harness.process import RunFailed, run_command


def test_a_command_has_the_callers_environment_and_tells_its_last_line(tmp_path):
    program = "import os; print(os.environ['MINE'], os.environ['HF_HUB_OFFLINE']); raise SystemExit('no room')"
    with pytest.raises(RunFailed, match="exit code 1: no room"):
        run_command([sys.executable, "-c", program], tmp_path / "log.txt", {"MINE": "yes"}, 60)
    assert (tmp_path / "log.txt").read_text().startswith("yes 1\n")


def _drive(tmp_path, work, timeout):
    """Call `run_forked` in a separate process: a subreaper would adopt the children of pytest."""
    program = f"""
import os, sys, time
from pathlib import Path
from harness.isolation import become_subreaper
from harness.process import RunFailed, run_forked
become_subreaper()
{textwrap.dedent(work)}
try:
    run_forked(work, Path(sys.argv[1]) / "log.txt", {timeout})
    print("ended")
except RunFailed as error:
    print(error)
"""
    ran = subprocess.run([sys.executable, "-c", program, str(tmp_path)], capture_output=True, text=True, timeout=60)
    assert ran.returncode == 0, ran.stderr
    return ran.stdout.strip()


@pytest.mark.parametrize(
    "work, timeout, told",
    [
        ("def work(): print('fine')", 30, "ended"),
        ("def work(): raise ValueError('no such model')", 30, "exit code 1: ValueError: no such model"),
        ("def work(): time.sleep(100)", 0.5, "exit code 124: TimeoutError: it took more than 0.5 s"),
    ],
    ids=["ends", "fails", "late"],
)
def test_a_fork_ends_or_is_told_of(tmp_path, work, timeout, told):
    assert _drive(tmp_path, work, timeout) == told
