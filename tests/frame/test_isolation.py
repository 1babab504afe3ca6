"""A run ends with all that it started, whatever became of it."""

import os
import subprocess
import sys
import textwrap
import time

import psutil

# a process of its own: a subreaper would take over what pytest has started
DRIVER = """
import json, os, subprocess, sys, time
from pathlib import Path
from harness.isolation import become_subreaper, run_isolated
folder = Path(sys.argv[1])
become_subreaper()
{work}
print(run_isolated(work, folder / "run.log"{more}))
"""


def drive(tmp_path, work, more=""):
    program = DRIVER.format(work=textwrap.dedent(work), more=more)
    ran = subprocess.run([sys.executable, "-c", program, str(tmp_path)], capture_output=True, text=True, timeout=60)
    assert ran.returncode == 0, ran.stderr
    return int(ran.stdout)


def alive(file):
    pid = int(file.read_text())
    return psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE


def test_a_detached_grandchild_that_ignores_sigterm_is_gone(tmp_path):
    work = """
    def work():
        import signal
        if os.fork() == 0:
            os.setsid()
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
            (folder / "pid").write_text(str(os.getpid()))
            time.sleep(100)
        while not (folder / "pid").exists() or not (folder / "pid").read_text():
            time.sleep(0.01)
    import harness.isolation as isolation
    isolation.LEAVE_SECONDS, isolation.GRACE_SECONDS = 0.2, 0.5
    """
    assert drive(tmp_path, work) == 0
    assert not alive(tmp_path / "pid")


def test_output_and_a_failure_are_in_the_log(tmp_path):
    work = """
    def work():
        print("so far")
        subprocess.run(["echo", "from a child"])
        raise ValueError("the cause")
    """
    assert drive(tmp_path, work) == 1
    log = (tmp_path / "run.log").read_text()
    assert "so far" in log and "from a child" in log and "ValueError: the cause" in log


def test_a_run_killed_from_outside_is_told_by_its_signal(tmp_path):
    assert drive(tmp_path, "def work(): os.kill(os.getpid(), 9)") == -9


def test_a_run_that_stands_still_is_ended(tmp_path):
    began = time.monotonic()
    assert drive(tmp_path, "def work(): time.sleep(100)", ", stall=0.5") == 124
    assert time.monotonic() - began < 30
    assert "TimeoutError" in (tmp_path / "run.log").read_text()


def test_two_runs_share_what_was_imported_and_nothing_else(tmp_path):
    work = """
    import decimal
    def work():
        assert "decimal" in sys.modules and not hasattr(decimal, "mine")
        decimal.mine = 1
    assert run_isolated(work, folder / "first.log") == 0
    """
    assert drive(tmp_path, work) == 0
    assert os.path.exists(tmp_path / "first.log")
